"""Writes a verified network to a folder, reads it back and compares."""

from __future__ import annotations

import errno
import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densenet_convert.densenet import config_file

from ..errors import FolderError, first_few
from . import receipt
from .card import model_card
from .files import (
    ADDED_BY_HUB,
    CARD,
    FILE_NAMES,
    FILES,
    GOLDEN,
    METADATA,
    SIGNATURE_FILES,
    WEIGHTS,
    card_was_edited,
    file_sha256,
    is_ours,
    require_outside,
)
from .open import open_folder
from .records import Verified, Written
from .replace import put_in_place, sync
from .staging import staging_folder

if TYPE_CHECKING:
    from torch import Tensor

OURS = (*FILE_NAMES, *SIGNATURE_FILES, *ADDED_BY_HUB)


def check_target(folder: Path, *, force: bool) -> None:
    """Refuses a folder that must not be replaced.

    A link to a folder stands for that folder; a link to anything else is refused.

    Raises:
        FolderError: it exists and ``force`` is off, or it is in a folder of this converter's,
            or holds links, or what this converter did not write.
    """
    require_outside(folder)
    try:
        links, foreign = _links_and_foreign(folder, force)
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise FolderError(f"{folder} can't be written: {reason}. Name another `output=...`.") from error
    if links:
        raise FolderError(
            f"{folder} holds links, as the Hub's cache does, and `force=True` would replace them by files: "
            f"{first_few(links)}. Name another `output=...`."
        )
    if foreign:
        raise FolderError(
            f"{folder} holds what densenet-convert did not write, and `force=True` would delete it: "
            f"{first_few(foreign)}. Name another `output=...`."
        )


def _links_and_foreign(folder: Path, force: bool) -> tuple[list[str], list[str]]:
    """Returns the names in a folder of what is a link, and of what this converter did not write."""
    folder.lstat()
    if not folder.is_symlink() and not folder.is_dir():
        raise FolderError(f"{folder} exists, and is no folder. Name another `output=...`.")
    if folder.is_symlink() and not folder.is_dir():
        raise FolderError(f"{folder} is a link to what is no folder. Name another `output=...`.")
    if not force:
        raise FolderError(
            f"{folder} exists and is left alone. Name another `output=...`, or replace it with `force=True`."
        )
    present = sorted(folder.iterdir())
    links = [path.name for path in present if path.is_symlink()]
    ours = OURS if is_ours(folder) else ()
    foreign = [path.name for path in present if path.name not in ours]
    if not foreign and card_was_edited(folder):
        foreign.append(CARD)
    return links, foreign


def write_folder(verified: Verified, folder: Path, *, force: bool = False) -> Written:
    """Writes model.safetensors, config.json, README.md and conversion.json, all or nothing.

    Golden outputs too, where there are any.

    The weights are the checkpoint's own tensors, not the model's.  They are written
    beside ``folder``, read back, compared to the bit and only then put in its place.

    Modes are the umask's. Where ``folder`` exists they are kept: its own, and those of
    files whose names it holds; their owners and groups as well, as far as this user may
    give files away. Access lists and other attributes are not kept.

    Args:
        verified: what was proven; nothing else can be written.
        folder: is created, with its parents. Where it is a link to a folder, that folder is
            replaced and the link stays.
        force: replace ``folder`` where it exists.

    Raises:
        FolderError: it can't be written, or what was read back differs.
    """
    check_target(folder, force=force)
    target = folder.resolve()
    try:
        made = [path for path in target.parents if not path.exists()]
        target.parent.mkdir(parents=True, exist_ok=True)
        for path in made:
            sync(path.parent)
        with staging_folder(target, OURS) as staging:
            content = _write_files(verified, staging)
            read_back(staging)
            check_target(target, force=force)  # someone may have put something there meanwhile
            put_in_place(staging, target, last=receipt.FILE_NAME, loose=CARD, force=force)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
            check_target(folder, force=force)  # says so, if that is what is in the way
        raise FolderError(
            f"{folder} can't be written: {error.strerror or error}. Free space, or name another `output=...`."
        ) from error
    return Written(folder, content)


def _write_files(verified: Verified, folder: Path) -> dict[str, Any]:
    renamed, config = verified.loaded.renamed, verified.loaded.config
    claims = replace(verified.claims, remarks=(*verified.claims.remarks, *verified.loaded.remarks))
    content = {
        **receipt.describe_conversion(renamed, config),
        **receipt.describe_claims(claims),
        "verification": receipt.describe_proof(verified.proof),
    }
    _write_tensors(renamed.tensors, folder / WEIGHTS)
    if verified.golden is not None:
        _write_tensors(verified.golden, folder / GOLDEN)
    return write_claims(content, claims.labels.names, folder)


def write_claims(content: Mapping[str, Any], names: Sequence[str] | None, folder: Path) -> dict[str, Any]:
    """Writes config.json, README.md and conversion.json beside weights that are there; returns the receipt.

    Args:
        content: the receipt's, in which the digests of files are set anew.
        names: of the classes.
        folder: has the weights, and golden outputs or not.
    """
    claims = (names, content["labels"]["problem_type"], content["preprocessing"])
    text = receipt.canonical_json(config_file.config_json(receipt.config_from(content["config"]), *claims))
    (folder / config_file.FILE_NAME).write_bytes(text.encode())
    # safetensors makes its files private to the user; the folder's files share one mode.
    tensors = [folder / name for name in (WEIGHTS, GOLDEN) if (folder / name).exists()]
    for path in tensors:
        shutil.copymode(folder / config_file.FILE_NAME, path)
    # The weights need no digest here: every tensor is compared with the source when they are read back.
    files = {name: file_sha256(folder / name) for name in FILES}
    beside = {GOLDEN: file_sha256(folder / GOLDEN)} if folder / GOLDEN in tensors else {}
    content = {**content, "files": files, "verification": {**content["verification"], "files": beside}}
    card = model_card(content, names=names).encode()
    (folder / CARD).write_bytes(card)
    beside[CARD] = hashlib.sha256(card).hexdigest()
    (folder / receipt.FILE_NAME).write_bytes(receipt.seal(content).encode())
    for path in (*folder.iterdir(), folder):
        sync(path)
    return content


def read_back(folder: Path) -> None:
    """Holds the files against the receipt, whose digests of tensors were taken when the source was read."""
    try:
        open_folder(folder)
        if card_was_edited(folder):
            raise FolderError(f"{CARD} was changed.")
    except FolderError as error:
        raise FolderError(
            f"What was written was read back and differs from what was to be written: {error} "
            "The memory, the disk or its file system is at fault; nothing was replaced."
        ) from error


def _write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(_apart(tensors), path, metadata=METADATA)
    except SafetensorError as error:  # a full disk, among others
        raise OSError(str(error)) from error


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that lie in order, each alone in its memory, as safetensors wants them."""
    import torch

    seen: set[int] = set()
    apart: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage()
        alone = (
            tensor.is_contiguous() and storage.nbytes() == tensor.nbytes and storage.data_ptr() not in seen
        )
        seen.add(storage.data_ptr())
        apart[name] = tensor if alone else tensor.clone(memory_format=torch.contiguous_format)
    return apart
