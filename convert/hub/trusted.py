"""Trusted publishers: a workflow signs in by its identity, and no secret is kept anywhere.

The exchange is the Hub's client's own, where HF_OIDC_RESOURCE is set; nothing of it is done here.  Its token
is good for one repository, and nothing else is asked with it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from ..errors import PublishError, quoted
from .records import Destination

RESOURCE = "HF_OIDC_RESOURCE"
# The first client that exchanges an identity.
SINCE = "1.19"
# What proves an identity, which no message may hold.
SECRETS = ("HF_OIDC_ID_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_TOKEN")


def is_trusted() -> bool:
    """Whether a workflow's identity is to sign in; it goes before a token of the environment."""
    return bool(os.environ.get(RESOURCE))


def require_publisher(to: Destination) -> None:
    """Refuses at once what no exchange would give a token for.

    Raises:
        PublishError: another repository is named, a token is given as well, or the client is too old.
    """
    if not is_trusted():
        return
    from huggingface_hub import __version__, errors

    resource = os.environ[RESOURCE]
    if not hasattr(errors, "OIDCError"):
        raise PublishError(
            f"{RESOURCE} is set, and huggingface_hub {__version__} is too old to sign in by it, expected "
            f"{SINCE} or later: pip install -U huggingface_hub"
        )
    if to.token is not None:
        raise PublishError(f"{RESOURCE} is set, and `token=...` is given: take one of them away.")
    if resource != to.repo_id:
        raise PublishError(
            f"The repository is {quoted(to.repo_id)}, and {RESOURCE} is {quoted(resource)}, expected one "
            "OWNER/NAME in both: a workflow signs in to one repository."
        )


def require_repository(to: Destination) -> None:
    """Raises PublishError where a repository that is not there would have to be made by a workflow."""
    if is_trusted():
        raise PublishError(
            f"{to.repo_id} is not there, and a workflow can't make it. Make it on the Hub, and add this "
            "workflow to the trusted publishers in its settings."
        )


def identity_reason(error: BaseException) -> str | None:
    """Says why the client could not sign in by a workflow's identity; None where something else failed."""
    if not is_trusted():
        return None
    from huggingface_hub import errors

    if isinstance(error, getattr(errors, "OIDCError", ())):
        return quoted(" ".join(str(error).split()).rstrip("."), 600)
    response = getattr(error, "response", None)
    status, asked = getattr(response, "status_code", None), _address(response)
    if status is None or not 400 <= status < 500 or status == 429:
        return None
    resource = quoted(os.environ[RESOURCE])
    if urlsplit(asked).path == "/oauth/token":
        return (
            f"the Hub does not take this workflow's identity for {resource} ({status}): add this workflow to "
            "the trusted publishers in the repository's settings"
        )
    if asked and asked.split("?")[0] == os.environ.get("ACTIONS_ID_TOKEN_REQUEST_URL", "").split("?")[0]:
        return (
            f"GitHub gives this job no identity ({status}): it needs `permissions: id-token: write`, and no "
            "pull request of a fork has that"
        )
    if status in (401, 403):
        return f"the Hub does not allow this to a workflow ({status}): its token is good for {resource} alone"
    return None


def _address(response: Any) -> str:
    with suppress(RuntimeError):  # an answer without its request
        return str(getattr(getattr(response, "request", None), "url", ""))
    return ""
