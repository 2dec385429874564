"""Pull requests of this title that are open: a second one would say the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import ConvertError
from .records import Destination, Published, RemoteState
from .signing import Package
from .trusted import is_trusted

if TYPE_CHECKING:
    from huggingface_hub import HfApi

Planned = tuple[Package, Published]


def continued(api: HfApi, to: Destination) -> Destination:
    """Returns the user's own open pull request of this title, if there is one; a workflow's is not known."""
    from huggingface_hub import get_token

    if is_trusted() or not (to.token or get_token()):
        return to
    user = api.whoami()["name"]
    own = (found for found in _open_requests(api, to) if found.author == user)
    return next((_of_request(to, found) for found in own), to)


def same_request(
    api: HfApi,
    to: Destination,
    there: RemoteState,
    plan: Callable[[Destination, RemoteState], Planned],
    fetch_state: Callable[[HfApi, Destination], RemoteState],
) -> tuple[Destination, RemoteState, Package, Published] | None:
    """Returns an open pull request of this title that makes of the main branch what a push would, if any.

    Whoever may have opened it: nothing is sent to it.

    Args:
        api: the client.
        to: the repository.
        there: its main branch.
        plan: tells what a push would send to a branch.
        fetch_state: tells what a branch has.
    """
    for found in _open_requests(api, to):
        candidate = _of_request(to, found)
        try:
            state = fetch_state(api, candidate)
            package, planned = plan(candidate, state)
        except ConvertError:  # it is somebody else's, and not fit
            continue
        others = {name: digest for name, digest in state.files.items() if name not in package}
        before = {name: digest for name, digest in there.files.items() if name not in package}
        if not planned.changed and others == before:
            return candidate, state, package, planned
    return None


def _open_requests(api: HfApi, to: Destination) -> Iterator[Any]:
    from huggingface_hub.errors import HfHubHTTPError

    try:
        for found in api.get_repo_discussions(to.repo_id, discussion_type="pull_request"):
            if (found.title, found.status) == (to.message, "open"):
                yield found
    except HfHubHTTPError as error:
        # No repository yet; any other fault would end in a second pull request.
        if is_trusted() or getattr(error.response, "status_code", None) not in (401, 404):
            raise


def _of_request(to: Destination, found: Any) -> Destination:
    return replace(to, revision=f"refs/pr/{found.num}", create_pr=False)
