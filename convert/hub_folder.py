"""A converted folder by its name on the Hugging Face Hub, ``hf://USER/NAME[@REVISION]``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

from .errors import HubError, some
from .folder import COUNTED, README
from .receipt import FILE_NAME

SCHEME = "hf://"


def local_folder(named: str | os.PathLike[str]) -> Path:
    """The folder itself, or what the Hub has under an ``hf://`` name, in the Hub's own cache.

    The token is that of the environment or of the login. With ``HF_HUB_OFFLINE`` only the cache is looked at.

    Raises:
        HubError: it can't be had, or the repository holds what densenet-convert did not write.
    """
    name = os.fspath(named)
    if not name.startswith(SCHEME):
        return Path(name)
    # Of the library that the client speaks HTTP with, which was another one in each of its major versions.
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]

    repository, _, revision = name.removeprefix(SCHEME).partition("@")
    try:
        return _fetch(repository, revision or None)
    except (HTTPError, OSError, ValueError) as error:
        _explain(name, error)


def _fetch(repository: str, revision: str | None) -> Path:
    from huggingface_hub import HfApi, constants, snapshot_download

    if not constants.HF_HUB_OFFLINE:
        found = HfApi().model_info(repository, revision=revision)
        _require_ours(repository, [file.rfilename for file in found.siblings or ()])
    # By the name that was given, or it would not be found in the cache without a network.
    fetched = snapshot_download(repository, revision=revision, allow_patterns=[*COUNTED, FILE_NAME, README])
    return Path(fetched)


def _require_ours(repository: str, names: list[str]) -> None:
    """What is not ours is not fetched, so it would not be seen."""
    foreign = [name for name in names if name not in (*COUNTED, FILE_NAME, README, ".gitattributes")]
    if foreign or FILE_NAME not in names:
        raise HubError(
            f"{SCHEME}{repository} is no folder that densenet-convert wrote: it holds "
            f"{some(foreign) or f'no {FILE_NAME}'}. Name a repository that it pushed."
        )


def _explain(name: str, error: Exception) -> NoReturn:
    from huggingface_hub import errors

    advice = {
        errors.HFValidationError: f"expected {SCHEME}USER/NAME, or {SCHEME}USER/NAME@REVISION",
        errors.GatedRepoError: "its owner must let you in; then set HF_TOKEN, or run `hf auth login`",
        errors.RepositoryNotFoundError: "it is not there, or private: set HF_TOKEN, or run `hf auth login`",
        errors.RevisionNotFoundError: "it has no such branch, tag or commit",
        errors.LocalEntryNotFoundError: "it is not in the cache, and the Hub is not asked or does not answer",
    }
    reason = next((text for kind, text in advice.items() if isinstance(error, kind)), None)
    if reason is None:
        said = next(filter(str.strip, str(error).splitlines()), type(error).__name__)
        reason = f"{said}. Try again, or name a folder here"
    raise HubError(f"{some([name])} can't be had: {reason}.") from error
