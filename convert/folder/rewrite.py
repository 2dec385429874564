"""Writes anew what a folder says of its network, beside its weights, which are not touched."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from densenet_convert.densenet.config_file import FILE_NAME as CONFIG

from ..errors import FolderError, first_few
from . import receipt
from .files import CARD, SIGNATURE_FILES, card_was_edited
from .open import open_folder
from .records import Written
from .replace import put_in_place
from .staging import staging_folder
from .write import OURS, write_claims

# Files that are made anew; a card that its owner edited is carried over.
MADE = (CONFIG, CARD, receipt.FILE_NAME)


def rewrite_folder(written: Written, content: Mapping[str, Any], names: Sequence[str] | None) -> Written:
    """Exchanges a folder for one that says what ``content`` does; other files in it are carried over.

    Args:
        written: the folder, whose bytes agree with its receipt.
        content: the new receipt's; digests of files are set anew.
        names: of the classes.

    Raises:
        FolderError: it can't be written, or holds what can't be carried over.
    """
    target = written.folder.resolve()
    edited = card_was_edited(target)
    present = sorted(target.iterdir())
    _require_movable(written.folder, present)
    try:
        with staging_folder(target, {*OURS, *(path.name for path in present)}) as staging:
            for path in present:
                if path.name not in (*MADE, *SIGNATURE_FILES):  # the signature is of what was said before
                    _carry(path, staging / path.name)
            new = write_claims(content, names, staging)
            if edited or not (target / CARD).exists():
                (staging / CARD).unlink()
            if edited:
                _carry(target / CARD, staging / CARD)
            open_folder(staging)
            open_folder(target)  # nobody changed it meanwhile
            put_in_place(staging, target, last=receipt.FILE_NAME, loose=CARD, force=True)
    except OSError as error:
        raise FolderError(f"{written.folder} can't be written: {error.strerror or error}.") from error
    return Written(written.folder, new)


def _require_movable(folder: Path, present: Sequence[Path]) -> None:
    """Refuses links, as the Hub's cache has them, and what is neither a file nor a folder."""
    kinds = (stat.S_ISREG, stat.S_ISDIR)
    wrong = [path.name for path in present if not any(is_kind(path.lstat().st_mode) for is_kind in kinds)]
    if wrong:
        raise FolderError(
            f"{folder} holds links or what is no file: {first_few(wrong)}. Copy the folder, with the files "
            "that the links stand for, and describe the copy."
        )


def _carry(old: Path, new: Path) -> None:
    """Makes ``new`` the same file or folder; a file has two names then, until the old folder is gone."""
    if old.is_dir():
        shutil.copytree(old, new, symlinks=True, copy_function=_link)
    else:
        _link(old, new)


def _link(old: str | Path, new: str | Path) -> None:
    try:
        os.link(old, new)
    except OSError:  # a file system without it
        shutil.copy2(old, new)
