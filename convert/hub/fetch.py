"""Fetches what is under an ``hf://`` name into the Hub's own cache."""

from __future__ import annotations

import logging
import os
import re
from contextlib import suppress
from pathlib import Path

from densenet_convert.densenet import config_file

from ..errors import FolderError, HubError, ReadError, first_few, quoted
from ..folder.files import CARD, FILE_NAMES, SIGNATURE_FILES, WEIGHTS
from ..folder.others import require_ours_taken, require_weights_taken, say_uncovered
from ..folder.receipt import FILE_NAME, unseal
from ..formats.recognise import SUFFIXES
from .errors import hub_errors

log = logging.getLogger("densenet_convert")
phases = logging.getLogger("densenet_convert.phases")
SCHEME = "hf://"
# Files of Trainer and Accelerate, and our golden outputs, have names that end as checkpoints' do.
NO_CHECKPOINT = r"(^|/)(training_args|optimizer|scheduler|scaler|rng_state\w*|parity)\.\w+$"
MOST_LISTED = 50


def local_folder(named: str | os.PathLike[str]) -> Path:
    """The folder itself, or what is under ``hf://USER/NAME[@REVISION]``, in the Hub's own cache.

    The token is that of the environment or of the login. With ``HF_HUB_OFFLINE`` only the cache is looked at.

    What else the repository holds is not fetched, and is named in a warning.

    Raises:
        HubError: it can't be had, or the repository holds no conversion.
        FolderError: it holds what other loaders would take for the conversion.
        ReadError: the name is empty, or an address of another kind.
    """
    name = os.fspath(named)
    if not name.startswith(SCHEME):
        return _here(name)
    phases.info("fetching %s", name)
    from huggingface_hub import HfApi, constants, snapshot_download

    names: list[str] = []

    with hub_errors(name):
        repository, revision, file = parse_address(name)
        if file is not None:
            raise HubError(f"{quoted(name)}: expected {SCHEME}USER/NAME, or {SCHEME}USER/NAME@REVISION.")
        if not constants.HF_HUB_OFFLINE:
            found = HfApi().model_info(repository, revision=revision)
            names = [file.rfilename for file in found.siblings or ()]
            _require_conversion(name, names)
        # By the name that was given, or it would not be found in the cache without a network.
        ours = [*FILE_NAMES, *SIGNATURE_FILES]
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=ours))
    _look_at_others(name, names, folder)
    return folder


def was_fetched(folder: Path) -> bool:
    """Whether a folder is in the Hub's cache, so that ``local_folder`` named what else its repository has."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).absolute() in folder.absolute().parents


def local_file(named: str | os.PathLike[str]) -> Path:
    """The file itself, or what is under ``hf://USER/NAME[@REVISION][/FILE]``, in the Hub's own cache.

    Without ``FILE`` it is ``model.safetensors``, or else the only checkpoint that the repository has.

    Raises:
        HubError: it can't be had, or there are several.
        ReadError: the name is empty, or an address of another kind.
    """
    name = os.fspath(named)
    if not name.startswith(SCHEME):
        return _here(name)
    phases.info("fetching %s", name)
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    with hub_errors(name):
        repository, revision, file = parse_address(name)
        chosen = file or _only_checkpoint(name, repository, revision)
        folder = chosen.rpartition("/")[0]
        # A receipt beside the weights says that they were converted; other files tell labels and a license.
        beside = [f"{folder}/{one}".lstrip("/") for one in (FILE_NAME, config_file.FILE_NAME, CARD)]
        for one in (*beside, *_metadata_of(folder)):
            with suppress(EntryNotFoundError):
                hf_hub_download(repository, one, revision=revision)
        return Path(hf_hub_download(repository, chosen, revision=revision))


def _metadata_of(folder: str) -> list[str]:
    """Returns the metadata of the MONAI bundle whose weights lie in a folder."""
    root, _, last = f"/{folder}".rpartition("/")
    return [f"{root}/configs/metadata.json".lstrip("/")] if last == "models" else []


def _here(name: str) -> Path:
    """The path, which would be the working folder where a script's variable is empty."""
    if not name:
        raise ReadError("An empty name was given, expected a file, a folder or hf://USER/NAME.")
    if "://" in name:
        raise ReadError(
            f"{quoted(name)} is an address. Fetch it, and name the file, or use {SCHEME}USER/NAME/FILE."
        )
    looks_like_a_repository = re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name, re.ASCII)
    if looks_like_a_repository and not name.endswith(SUFFIXES) and not Path(name).exists():
        raise ReadError(
            f"{quoted(name)} is neither a file nor a folder here. Did you mean {SCHEME}{quoted(name)}?"
        )
    return Path(name)


def parse_address(name: str) -> tuple[str, str | None, str | None]:
    """Returns repository, revision and file of an ``hf://`` name; a slash in a branch's is written ``%2F``.

    Raises:
        HubError: it is none.
    """
    match = re.fullmatch(r"hf://([^/@]+/[^/@]+)(?:@((?:refs/[^/]+/)?[^/]+))?(?:/(.+))?", name)
    if match is None:
        raise HubError(
            f"{quoted(name)}: expected {SCHEME}USER/NAME, with @REVISION or /FILE after it or not."
        )
    revision = match[2]
    return match[1], revision and revision.replace("%2F", "/"), match[3]


def _look_at_others(name: str, names: list[str], folder: Path) -> None:
    """Names what the receipt in a folder does not cover, and refuses what loaders would take for ours."""
    try:
        content = unseal((folder / FILE_NAME).read_bytes().decode())
        others = say_uncovered(names, content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, FolderError):
        return  # whoever opens the folder says what is wrong with the receipt
    if others:
        log.warning("%s: %s", quoted(name), others)
    require_ours_taken(quoted(name), names, content, folder)


def _require_conversion(name: str, files: list[str]) -> None:
    """Refuses at once what is none, or what other loaders would not take for one."""
    if FILE_NAME not in files:
        raise HubError(
            f"{quoted(name)} is no folder that densenet-convert wrote: it holds no {FILE_NAME}. Name a "
            "repository that it pushed."
        )
    require_weights_taken(quoted(name), files)


def _only_checkpoint(name: str, repository: str, revision: str | None) -> str:
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        return WEIGHTS
    files = HfApi().list_repo_files(repository, revision=revision)
    ending = [file for file in files if file.endswith(SUFFIXES)]
    found = [file for file in ending if not re.search(NO_CHECKPOINT, file)]
    if WEIGHTS in found:
        return WEIGHTS
    if not found:
        raise HubError(
            f"{quoted(name)} holds no checkpoint: no name in it ends in {', '.join(SUFFIXES)}. Name the "
            f"file: {quoted(name)}/FILE."
        )
    if len(found) > 1:
        raise HubError(
            f"{quoted(name)} holds {len(found):,} checkpoints: {first_few(sorted(found), MOST_LISTED)}. Name "
            f"one: {quoted(name)}/{quoted(sorted(found)[0])}."
        )
    return found[0]
