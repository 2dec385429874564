"""Pushes a converted folder to the Hub in one commit, fetches it back and compares."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densenet_convert.densenet import config_file

from ..errors import PublishError, first_few, quoted
from ..folder import receipt
from ..folder.files import CARD, FILE_NAMES, GOLDEN, card_was_edited, file_sha256
from ..folder.others import require_ours_taken, say_uncovered
from ..folder.records import Written
from ..records import ORIGIN_RANDOM
from ..temporary import temporary_folder
from .errors import SIGN_IN, hub_errors
from .fetch import SCHEME
from .package import Content, digests_of, make_package, plan_push, require_unchanged
from .pull_requests import continued, same_request
from .records import Destination, Published, RemoteState
from .signing import Package, sign_package
from .trusted import is_trusted, require_publisher, require_repository

if TYPE_CHECKING:
    from huggingface_hub import HfApi

phases = logging.getLogger("densenet_convert.phases")
MAIN = "main"


def publish_folder(written: Written, to: Destination, *, dry_run: bool = False) -> Published:
    """Sends what the repository does not have yet, and compares all of it as it comes back.

    Repeated, it sends nothing more; after an interruption, what is missing.

    Args:
        written: a folder whose bytes agree with its receipt; nothing else can be published.
        to: where, and how.
        dry_run: look at the repository, and change nothing.

    Raises:
        PublishError: the folder or the repository is not fit for it, or what came back differs.
        HubError: the Hub refuses, fails or does not answer.
    """
    require_fit(written, to)
    from huggingface_hub import HfApi

    asking = partial(hub_errors, f"{SCHEME}{to.repo_id}", to.token)
    with temporary_folder() as scratch:
        with asking():
            api = HfApi(token=to.token)
            to = require_owner(api, to)
            to = continued(api, to) if to.create_pr else to
            there = fetch_state(api, to)
            plan = partial(_plan, api, written, scratch, dry_run)
            package, planned = plan(to, there)
            if to.create_pr and is_trusted() and (same := same_request(api, to, there, plan, fetch_state)):
                to, there, package, planned = same
        require_unchanged(written, planned)
        if dry_run:
            return planned
        with asking():
            sent = _send(api, to, there, package, planned)
        with asking(before=f"Commit {sent.commit} is there, but was not fetched back. "):
            compare_with_hub(api, sent, scratch)
        return sent


def _plan(
    api: HfApi, written: Written, scratch: Path, dry_run: bool, to: Destination, there: RemoteState
) -> tuple[Package, Published]:
    """Returns all that a push would leave in a branch, and what becomes of each file of it."""
    edited = _fetch_card(api, to, there, scratch)
    unsigned, remarks = make_package(written, to, edited)
    remarks += _on_others(written, to, there)
    if dry_run and not there.branch:
        remarks.append(_would_be_made(to, there))
    fetch = partial(fetch_files, api, to.repo_id, str(there.commit), cache=scratch / "signed")
    package, said = sign_package(written, to, unsigned, there, edited, fetch, dry_run=dry_run)
    return package, plan_push(to, package, there, [*remarks, *said])


def _on_others(written: Written, to: Destination, there: RemoteState) -> list[str]:
    """Says what lies beside our files, here and there, and that it is left alone.

    Raises:
        FolderError: other loaders would take some of it for ours.
    """
    require_ours_taken(to.repo_id, there.files, written.receipt, written.folder)
    here = say_uncovered([path.name for path in written.folder.iterdir()], written.receipt)
    remarks = [f"{written.folder}: {here} It is not sent."] if here else []
    if others := say_uncovered(there.files.keys() - {CARD, GOLDEN}, written.receipt):
        remarks.append(f"{to.repo_id}: {others} It is left as it is.")
    return remarks


def require_fit(written: Written, to: Destination) -> None:
    """Refuses at once what no Hub would take."""
    if written.receipt["source"]["origin"] == ORIGIN_RANDOM:
        raise PublishError(
            f"{written.folder} holds random weights, which are there to try the tool with, and are not "
            "published. Convert a checkpoint."
        )
    if not re.fullmatch(r"([\w.-]+/)?[\w.-]+", to.repo_id, re.ASCII):
        raise PublishError(
            f"The repository is {quoted(to.repo_id)}, expected USER/NAME, or NAME of your own."
        )
    if "added_to" in written.receipt:
        raise PublishError(
            f"{written.folder} is what was added to a repository, without the files of its own. Convert the "
            "original again, and push that."
        )
    if not to.revision or re.fullmatch(r"[0-9a-f]{40}", to.revision):
        raise PublishError(f"The revision is {quoted(to.revision)!r}, expected the name of a branch.")
    if to.create_pr and to.revision != MAIN:
        raise PublishError(
            "A pull request is for the main branch: leave `revision=...` or `create_pr=True` out."
        )
    if to.token is not None and not (to.token.isascii() and to.token.isprintable() and " " not in to.token):
        raise PublishError("The token holds what no token does: a blank, a line's end or the like.")
    require_publisher(to)


def require_owner(api: HfApi, to: Destination) -> Destination:
    """Returns the destination by its whole name: a bare one is a repository of whoever signs in."""
    from huggingface_hub import get_token

    if "/" in to.repo_id:
        return to
    if not (to.token or get_token()):
        raise PublishError(
            f"{to.repo_id} is a name without its owner, who is whoever signs in: {SIGN_IN}. Or name "
            f"OWNER/{to.repo_id}."
        )
    return replace(to, repo_id=f"{api.whoami()['name']}/{to.repo_id}")


def fetch_state(api: HfApi, to: Destination) -> RemoteState:
    """Returns what the branch has, or what the main branch has if the branch is to be made."""
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    branch = True
    try:
        found = api.model_info(to.repo_id, revision=to.revision, files_metadata=True)
    except RepositoryNotFoundError:
        require_repository(to)
        return RemoteState()
    except RevisionNotFoundError:
        if to.create_pr:
            raise
        branch, found = False, api.model_info(to.repo_id, files_metadata=True)
    if to.private and not found.private:
        raise PublishError(
            f"{to.repo_id} is there and public, and was asked to be private. Change its settings first."
        )
    files = digests_of(found)
    ours = files.keys() & set(FILE_NAMES) - {CARD}
    if ours and receipt.FILE_NAME not in files:
        raise PublishError(
            f"{to.repo_id} holds another model: {first_few(sorted(ours))} without {receipt.FILE_NAME}. They "
            "would be replaced: name another repository, or take them out of this one."
        )
    return RemoteState(found.sha, branch, files)


def create_missing(api: HfApi, to: Destination, there: RemoteState) -> None:
    """Makes the repository, or the branch, that is missing."""
    if there.commit is None:
        api.create_repo(to.repo_id, private=to.private, exist_ok=True)
    if to.revision != MAIN:
        api.create_branch(to.repo_id, branch=to.revision, exist_ok=True)


def _fetch_card(api: HfApi, to: Destination, there: RemoteState, scratch: Path) -> Path | None:
    """The card on the Hub, where its receipt, which lies beside it then, does not name it as ours.

    Raises:
        PublishError: the receipt there does not cover a file that would be replaced.
    """
    if not {CARD, receipt.FILE_NAME} & there.files.keys():
        return None
    before = fetch_files(api, to.repo_id, str(there.commit), (CARD, receipt.FILE_NAME), scratch / "before")
    if config_file.FILE_NAME in there.files and _was_added(before / receipt.FILE_NAME):
        raise PublishError(
            f"{config_file.FILE_NAME} of {to.repo_id} is not the conversion's, which was added to what is "
            "there. It would be replaced: name another repository, or take it out of this one."
        )
    return before / CARD if CARD in there.files and card_was_edited(before) else None


def _was_added(path: Path) -> bool:
    """Whether a receipt is of what was added to a repository whose config.json is its owner's."""
    try:
        return config_file.FILE_NAME not in json.loads(path.read_bytes())["files"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _would_be_made(to: Destination, there: RemoteState) -> str:
    """Says what a push would make: the branch, or the whole repository."""
    kind = "private" if to.private else "public"
    made = f"the branch {to.revision}" if there.commit else f"the repository, {kind}"
    return f"{to.repo_id}: {made}, is not there and would be made."


def _send(
    api: HfApi, to: Destination, there: RemoteState, package: Mapping[str, Content], planned: Published
) -> Published:
    """Makes what is missing, and sends the files that the branch does not have yet, if there are any."""
    if not there.branch:
        phases.info("making %s", to.repo_id)
        create_missing(api, to, there)
        there = fetch_state(api, to)
        planned = plan_push(to, package, there, planned.remarks)
    if planned.changed:
        return commit_files(api, to, there, package, planned)
    url = f"{api.endpoint}/{to.repo_id}/tree/{there.commit}"
    return replace(planned, commit=there.commit, url=url)


def commit_files(
    api: HfApi, to: Destination, there: RemoteState, package: Mapping[str, Content], planned: Published
) -> Published:
    """Makes one commit on top of the one that was looked at."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    phases.info("sending to %s", to.repo_id)
    operations: list[Any] = []
    for file in planned.files:
        if file.action == "delete":
            operations.append(CommitOperationDelete(file.name))
        elif file.action != "keep":
            operation = CommitOperationAdd(file.name, package[file.name])
            if operation.upload_info.sha256.hex() != file.sha256:
                raise PublishError(f"{file.name} changed while it was read. Push again.")
            operations.append(operation)
    done = api.create_commit(
        to.repo_id,
        operations,
        commit_message=to.message,
        commit_description=planned.description or None,
        revision=to.revision,
        create_pr=to.create_pr,
        parent_commit=there.commit,
    )
    return replace(
        planned, revision=done.pr_revision or to.revision, commit=done.oid, url=done.pr_url or done.commit_url
    )


def compare_with_hub(api: HfApi, sent: Published, scratch: Path) -> None:
    """Holds what the Hub gives against what was sent."""
    phases.info("fetching commit %s back", sent.commit)
    expected = {file.name: file.sha256 for file in sent.files if file.sha256 is not None}
    back = fetch_files(api, sent.repo_id, str(sent.commit), expected, scratch / "back")
    problems = [
        f"{name} is {'missing' if found is None else f'{found}, expected {digest}'}"
        for name, digest in expected.items()
        if (found := file_sha256(back / name) if (back / name).is_file() else None) != digest
    ]
    if problems:
        raise PublishError(
            f"Commit {sent.commit} of {sent.repo_id} was fetched back, and differs from what was sent: "
            f"{first_few(problems)}. Push again; until then, do not use it."
        )


def fetch_files(api: HfApi, repo_id: str, commit: str, names: Iterable[str], cache: Path) -> Path:
    """Past the user's cache: what the Hub itself gives is to be seen."""
    found = api.snapshot_download(repo_id, revision=commit, allow_patterns=list(names), cache_dir=cache)
    return Path(found)
