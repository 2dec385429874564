"""What the Hugging Face Hub has under an ``hf://`` name, and one message where it does not give it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import ConvertError, HubError, ReadError, some
from .folder import WEIGHTS, WRITTEN
from .receipt import FILE_NAME

SCHEME = "hf://"
SIGN_IN = "set HF_TOKEN, or run `hf auth login`"
# The client's own attribute file; a server adds it to every repository.
ATTRIBUTES = ".gitattributes"
# What a checkpoint's name ends in.
SUFFIXES = (".pth", ".pt", ".tar", ".bin", ".ckpt", ".pkl", ".dat", ".safetensors", ".h5", ".keras")


def local_folder(named: str | os.PathLike[str]) -> Path:
    """The folder itself, or what is under ``hf://USER/NAME[@REVISION]``, in the Hub's own cache.

    The token is that of the environment or of the login. With ``HF_HUB_OFFLINE`` only the cache is looked at.

    Raises:
        HubError: it can't be had, or the repository holds what densenet-convert did not write.
        ReadError: the name is empty, or an address of another kind.
    """
    name = os.fspath(named)
    if not name.startswith(SCHEME):
        return _here(name)
    from huggingface_hub import HfApi, constants, snapshot_download

    with hub_errors(name):
        repository, revision, file = parse(name)
        if file is not None:
            raise HubError(f"{some([name])}: expected {SCHEME}USER/NAME, or {SCHEME}USER/NAME@REVISION.")
        if not constants.HF_HUB_OFFLINE:
            found = HfApi().model_info(repository, revision=revision)
            _require_ours(name, [file.rfilename for file in found.siblings or ()])
        # By the name that was given, or it would not be found in the cache without a network.
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(WRITTEN)))


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
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    with hub_errors(name):
        repository, revision, file = parse(name)
        chosen = file or _only_checkpoint(name, repository, revision)
        if chosen == WEIGHTS:
            with suppress(EntryNotFoundError):  # what was converted already says so beside it
                hf_hub_download(repository, FILE_NAME, revision=revision)
        return Path(hf_hub_download(repository, chosen, revision=revision))


def _here(name: str) -> Path:
    """The path, which would be the working folder where a script's variable is empty."""
    if not name:
        raise ReadError("An empty name was given, expected a file, a folder or hf://USER/NAME.")
    if "://" in name:
        raise ReadError(
            f"{some([name])} is an address. Fetch it, and name the file, or use {SCHEME}USER/NAME/FILE."
        )
    return Path(name)


@contextmanager
def hub_errors(name: str, token: str | None = None, before: str = "") -> Iterator[None]:
    """Makes one message of whatever the Hub's client raises; what this package raises goes through.

    Args:
        name: what was asked for.
        token: the one that was given, which no message may hold, nor may it that of the environment.
        before: what is said first.

    Raises:
        HubError: with the reason, and what to do.
    """
    try:
        yield
    except ConvertError:
        raise
    except Exception as error:  # its HTTP library is another one in each of its major versions
        secrets = {secret for secret in (token, _token()) if secret}
        hidden = {form for secret in secrets for form in (secret, repr(secret)[1:-1])}
        reason = _reason(error)
        for form in sorted(hidden, key=len, reverse=True):
            reason = reason.replace(form, "[the token]")
        told = any(form in f"{error} {error!r}" for form in hidden)
        raise HubError(f"{before}{some([name])}: {reason}.") from None if told else error


def _token() -> str | None:
    from huggingface_hub import get_token

    try:
        return get_token()
    except (OSError, ValueError):  # a file of the login that can't be read
        return None


def parse(name: str) -> tuple[str, str | None, str | None]:
    """Repository, revision and file of an ``hf://`` name; a slash in a branch's is written ``%2F``.

    Raises:
        HubError: it is none.
    """
    match = re.fullmatch(r"hf://([^/@]+/[^/@]+)(?:@((?:refs/[^/]+/)?[^/]+))?(?:/(.+))?", name)
    if match is None:
        raise HubError(
            f"{some([name])}: expected {SCHEME}USER/NAME, with @REVISION or /FILE after it or not."
        )
    revision = match[2]
    return match[1], revision and revision.replace("%2F", "/"), match[3]


def _require_ours(name: str, files: list[str]) -> None:
    """What is not ours is not fetched, so it would not be seen."""
    foreign = foreign_files(files)
    if foreign or FILE_NAME not in files:
        raise HubError(
            f"{some([name])} is no folder that densenet-convert wrote: it holds "
            f"{some(foreign) or f'no {FILE_NAME}'}. Name a repository that it pushed."
        )


def foreign_files(files: list[str]) -> list[str]:
    """What this converter does not write, nor the Hub."""
    return [file for file in files if file not in (*WRITTEN, ATTRIBUTES)]


def _only_checkpoint(name: str, repository: str, revision: str | None) -> str:
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        return "model.safetensors"
    files = HfApi().list_repo_files(repository, revision=revision)
    found = [file for file in files if file.endswith(SUFFIXES)]
    if "model.safetensors" in found:
        return "model.safetensors"
    if len(found) != 1:
        raise HubError(
            f"{some([name])} holds {some(found) or 'no checkpoint'}. Name the file: {some([name])}/FILE."
        )
    return found[0]


def _reason(error: BaseException) -> str:
    """What is wrong, and what to do."""
    cause = error.__cause__ or error.__context__
    if isinstance(error, RuntimeError) and cause is not None:
        # The client's own words for an upload that failed, whatever for.
        return f"{_plain(error)}: {_reason(cause)}"
    while cause is not None:  # of a file that is not in the cache, why it was not fetched
        if (status := _by_status(getattr(cause, "response", None))) is not None and _is_local(error):
            return status
        cause = cause.__cause__ or cause.__context__
    return _known(error) or _by_status(getattr(error, "response", None)) or _said(error)


def _is_local(error: BaseException) -> bool:
    from huggingface_hub.errors import LocalEntryNotFoundError

    return isinstance(error, LocalEntryNotFoundError)


def _known(error: BaseException) -> str | None:
    from huggingface_hub import errors

    known = {
        # A kind of EntryNotFoundError in some versions.
        errors.LocalEntryNotFoundError: "it is not in the cache, and the Hub is not asked or does not answer",
        errors.EntryNotFoundError: "it has no such file",
        errors.RevisionNotFoundError: "it has no such branch, tag or commit",
        # A kind of RepositoryNotFoundError.
        errors.GatedRepoError: f"its owner must let you in; then {SIGN_IN}",
        errors.RepositoryNotFoundError: f"it is not there, or private: {SIGN_IN}",
        errors.HFValidationError: "expected a name of the form USER/NAME",
    }
    return next((text for kind, text in known.items() if isinstance(error, kind)), None)


def _by_status(response: Any) -> str | None:
    status = getattr(response, "status_code", None)
    if status == 401:
        return f"the Hub asks for a token that it knows (401): {SIGN_IN}"
    if status == 403:
        return "the Hub does not allow this (403): the token needs the right to it"
    if status in (409, 412):
        return f"someone else changed it meanwhile ({status}): run this again"
    if status == 429:
        wait = response.headers.get("Retry-After", "")
        seconds = f" {wait} seconds" if wait.isdecimal() else f" until {some([wait])}" if wait else ""
        return f"the Hub asks to wait{seconds} (429): run this again then"
    if status is not None and status >= 500:
        return f"the Hub failed ({status}): run this again later, and only what is missing is sent"
    return None


def _said(error: BaseException) -> str:
    text = _plain(error)
    if isinstance(error, ValueError) and "metadata" in text:
        return f"{text}. Mend the card, or name another --license"
    if isinstance(error, OSError | ValueError) or hasattr(error, "request"):
        return f"{text}. Run this again, or set HF_HUB_OFFLINE=1 to take what the cache has"
    return f"its answer is not one that the Hub's client understands, or the client fails: {text}"


def _plain(error: BaseException) -> str:
    """Of an answer the first line; what the client finds wrong by itself takes several.

    An address that signs in whoever has it is cut before that part.
    """
    lines = str(error).splitlines()
    text = " ".join(lines if isinstance(error, ValueError) else [next(filter(str.strip, lines), "")])
    text = re.sub(r"(https?://[^\s?]+)\?\S+", r"\1?...", " ".join(text.split())).rstrip(".")
    name = type(error).__name__
    return some(
        [text if isinstance(error, OSError | ValueError | RuntimeError) and text else f"{name} {text}"]
    )
