"""The files of a converted folder: their names, their digests, and what is ours."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from densenet_convert.densenet import config_file

from ..errors import FolderError
from . import receipt

WEIGHTS = config_file.WEIGHTS
METADATA = {"format": "pt"}
FILES = (WEIGHTS, config_file.FILE_NAME)
# Written on demand. Its values depend on the machine's rounding, so its digest is under ``verification``.
GOLDEN = "parity.safetensors"
# The model card. It is its owner's to edit or to leave out; nothing in it is proven.
CARD = "README.md"
# All that a conversion may write.
FILE_NAMES = (*FILES, GOLDEN, CARD, receipt.FILE_NAME)
# What signs a folder: a statement of what was verified, and a signature of all files, this one included.
STATEMENT = "verification.intoto.json"
SIGNATURE = "model.sig"
SIGNATURE_FILES = (STATEMENT, SIGNATURE)
# Files that the Hub's client and server add to a folder.
ADDED_BY_HUB = (".gitattributes", ".cache")
CHUNK = 1 << 20


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def file_digests(content: Mapping[str, Any]) -> dict[str, str]:
    """The SHA-256 of each file that a receipt counts."""
    return {**content["files"], **content["verification"].get("files", {})}


def is_ours(folder: Path) -> bool:
    """Whether the folder holds a receipt of this converter, whatever became of the other files."""
    try:
        converter = json.loads((folder / receipt.FILE_NAME).read_bytes())["converter"]["name"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
    return bool(converter == receipt.CONVERTER)


def require_outside(path: Path) -> None:
    """Raises FolderError where ``path`` is in a folder of ours, whose files are counted."""
    for parent in path.absolute().parents:
        if is_ours(parent):
            raise FolderError(
                f"{path} is in {parent}, which densenet-convert wrote, and whose files are counted. Name "
                "another `output=...`."
            )


def card_was_edited(folder: Path, *, pushed: bool = False) -> bool:
    """Whether there is a card that its receipt does not name.

    Args:
        folder: may lack other files.
        pushed: a card that its owner edited, and pushed, is no edited one.
    """
    try:
        digest = file_sha256(folder / CARD)
        proof = json.loads((folder / receipt.FILE_NAME).read_bytes())["verification"]
        return digest != proof["files"].get(CARD) and not (pushed and digest == proof.get("pushed_card"))
    except FileNotFoundError:
        return (folder / CARD).exists()
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return True
