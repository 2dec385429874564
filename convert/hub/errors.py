"""One message for whatever the Hub's client raises, without a token in it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import ConvertError, HubError, quoted
from .trusted import SECRETS, identity_reason

SIGN_IN = "set HF_TOKEN, or run `hf auth login`"


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
        secrets = {secret for secret in (token, _token(error), *map(os.environ.get, SECRETS)) if secret}
        hidden = {form for secret in secrets for form in (secret, repr(secret)[1:-1])}
        reason = _reason(error)
        for form in sorted(hidden, key=len, reverse=True):
            reason = reason.replace(form, "[the token]")
        holds_token = any(form in f"{error} {error!r}" for form in hidden)
        raise HubError(f"{before}{quoted(name)}: {reason}.") from None if holds_token else error


def _token(error: BaseException) -> str | None:
    from huggingface_hub import get_token

    if identity_reason(error) is not None:  # there may be none, and it is not asked for again
        return None
    try:
        return get_token()
    except Exception:  # a file of the login that can't be read, or an identity that is refused
        return None


def _reason(error: BaseException) -> str:
    """Says what is wrong, and what to do."""
    if (identity := identity_reason(error)) is not None:
        return identity
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
        return f"the Hub asks to wait{_how_long(wait)} (429): run this again then"
    if status is not None and status >= 500:
        return f"the Hub failed ({status}): run this again later, and only what is missing is sent"
    return None


def _how_long(wait: str) -> str:
    """Says how long a Retry-After header asks to wait, which holds seconds, a date or nothing."""
    if not wait:
        return ""
    return f" {wait} seconds" if wait.isdecimal() else f" until {quoted(wait)}"


def _said(error: BaseException) -> str:
    text = _plain(error)
    if isinstance(error, ValueError) and "metadata" in text:
        return f"{text}. Mend the card, or name another `license=...`"
    if isinstance(error, OSError | ValueError) or hasattr(error, "request"):
        return f"{text}. Run this again, or set HF_HUB_OFFLINE=1 to take what the cache has"
    return f"its answer is not one that the Hub's client understands, or the client fails: {text}"


def _plain(error: BaseException) -> str:
    """Returns the first line of an answer; an error that the client found itself takes several lines.

    An address that signs in whoever has it is cut before that part.
    """
    lines = str(error).splitlines()
    text = " ".join(lines if isinstance(error, ValueError) else [next(filter(str.strip, lines), "")])
    text = re.sub(r"(https?://[^\s?]+)\?\S+", r"\1?...", " ".join(text.split())).rstrip(".")
    name = type(error).__name__
    return quoted(
        text if isinstance(error, OSError | ValueError | RuntimeError) and text else f"{name} {text}"
    )
