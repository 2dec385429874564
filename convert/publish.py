"""Step 8: a folder of ours to the Hugging Face Hub, in one commit, fetched back and compared."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import receipt
from .card import license_of, model_card
from .errors import FolderError, PublishError, some
from .folder import CARD, card_was_edited, digests, file_sha256
from .hub import ATTRIBUTES, SCHEME, foreign_files, hub_errors
from .records import PUBLISHED, RANDOM, Destination, Published, Sent, Written
from .scratch import scratch_folder

if TYPE_CHECKING:
    from huggingface_hub import HfApi

log = logging.getLogger("densenet_convert")

MAIN = "main"
# The bytes of a file, or where they are.
Content = bytes | Path


@dataclass(frozen=True)
class _There:
    """What the repository has.

    Attributes:
        commit: the branch's head; None where there is no repository.
        branch: whether the branch is there.
        files: digest of each file by name, ``("sha256", HEX)`` of a large one and ``("git", HEX)`` of others.
    """

    commit: str | None = None
    branch: bool = False
    files: Mapping[str, tuple[str, str]] = field(default_factory=dict)


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
    _require_fit(written, to)
    from huggingface_hub import HfApi

    asking = partial(hub_errors, f"{SCHEME}{to.repo_id}", to.token)
    with scratch_folder() as scratch:
        with asking():
            api = HfApi(token=to.token)
            if to.create_pr:
                to = _continued(api, to)
            there = _look(api, to)
            edited = _fetch_card(api, to, there, scratch)
        package, remarks = _package(written, to, edited)
        if dry_run and not there.branch:
            kind = "private" if to.private else "public"
            made = f"the branch {to.revision}" if there.commit else f"the repository, {kind}"
            remarks.append(f"{to.repo_id}: {made}, is not there and would be made.")
        planned = _plan(to, package, there, remarks)
        _require_unchanged(written, planned)
        if dry_run:
            return planned
        with asking():
            if not there.branch:
                log.info("making %s", to.repo_id)
                _make(api, to, there)
                there = _look(api, to)
                planned = _plan(to, package, there, remarks)
            log.info("sending what %s does not have", to.repo_id)
            if planned.changed:
                sent = _commit(api, to, there, package, planned)
            else:
                url = f"{api.endpoint}/{to.repo_id}/tree/{there.commit}"
                sent = replace(planned, commit=there.commit, url=url)
        log.info("fetching commit %s back", sent.commit)
        with asking(before=f"Commit {sent.commit} is there, but was not fetched back. "):
            _fetch_back(api, sent, scratch)
        return sent


def _require_fit(written: Written, to: Destination) -> None:
    """Refuses at once what no Hub would take."""
    if written.receipt["source"]["origin"] == RANDOM:
        raise PublishError(
            f"{written.folder} holds random weights, which are there to try the tool with, and are not "
            "published. Convert a checkpoint."
        )
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", to.repo_id, re.ASCII):
        raise PublishError(f"The repository is {some([to.repo_id])}, expected USER/NAME.")
    if not to.revision or re.fullmatch(r"[0-9a-f]{40}", to.revision):
        raise PublishError(f"The revision is {some([to.revision])!r}, expected the name of a branch.")
    if to.create_pr and to.revision != MAIN:
        raise PublishError("A pull request is for the main branch: leave --revision or --create-pr out.")
    if to.token is not None and not (to.token.isascii() and to.token.isprintable() and " " not in to.token):
        raise PublishError("The token holds what no token does: a blank, a line's end or the like.")


def _continued(api: HfApi, to: Destination) -> Destination:
    """The user's own open pull request of this title, if there is one: a second one would say the same."""
    from huggingface_hub import get_token
    from huggingface_hub.errors import HfHubHTTPError

    if not (to.token or get_token()):
        return to
    user = api.whoami()["name"]
    try:
        for found in api.get_repo_discussions(to.repo_id, discussion_type="pull_request"):
            if (found.title, found.author, found.status) == (to.message, user, "open"):
                return replace(to, revision=f"refs/pr/{found.num}", create_pr=False)
    except HfHubHTTPError as error:
        # No repository yet; any other fault would end in a second pull request.
        if getattr(error.response, "status_code", None) not in (401, 404):
            raise
    return to


def _look(api: HfApi, to: Destination) -> _There:
    """What the branch has; as the main branch has it where the branch is to be made."""
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    branch = True
    try:
        found = api.model_info(to.repo_id, revision=to.revision, files_metadata=True)
    except RepositoryNotFoundError:
        return _There()
    except RevisionNotFoundError:
        if to.create_pr:
            raise
        branch, found = False, api.model_info(to.repo_id, files_metadata=True)
    if to.private and not found.private:
        raise PublishError(
            f"{to.repo_id} is there and public, and was asked to be private. Change its settings first."
        )
    files = {
        file.rfilename: ("sha256", file.lfs.sha256) if file.lfs else ("git", file.blob_id or "")
        for file in found.siblings or ()
    }
    foreign = foreign_files(list(files))
    if receipt.FILE_NAME not in files:
        foreign += [name for name in files if name not in (CARD, ATTRIBUTES)]
    if foreign:
        raise PublishError(
            f"{to.repo_id} holds what densenet-convert did not write: {some(foreign)}. Nobody could verify "
            "it as it is: name another repository, or take these files out of it."
        )
    return _There(found.sha, branch, files)


def _make(api: HfApi, to: Destination, there: _There) -> None:
    """Makes the repository, or the branch, that is missing."""
    if there.commit is None:
        api.create_repo(to.repo_id, private=to.private, exist_ok=True)
    if to.revision != MAIN:
        api.create_branch(to.repo_id, branch=to.revision, exist_ok=True)


def _fetch_card(api: HfApi, to: Destination, there: _There, scratch: Path) -> Path | None:
    """The card on the Hub, where it is not the one that was pushed last."""
    if CARD not in there.files:
        return None
    before = _fetch(api, to.repo_id, str(there.commit), (CARD, receipt.FILE_NAME), scratch / "before")
    return before / CARD if card_was_edited(before, pushed=True) else None


def _package(written: Written, to: Destination, edited: Path | None) -> tuple[dict[str, Content], list[str]]:
    """Every file of the repository, and what the user should know of them.

    A card of ours is made anew, with the repository's name; one that its owner edited is sent as it is.
    """
    folder = written.folder
    counted = {name: folder / name for name in digests(written.receipt) if name != CARD}
    try:
        card, remarks = _card(written, to, edited)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise FolderError(
            f"{folder / receipt.FILE_NAME} lacks what a card tells: {error!r}. Convert again."
        ) from error
    except OSError as error:
        raise FolderError(f"{error.filename} can't be read: {error.strerror}.") from error
    proof = written.receipt["verification"]
    digest = hashlib.sha256(card).hexdigest()
    # Of an edited card the digest of ours stays, so that verify says so.
    named = {"pushed_card": digest} if remarks else {"files": {**proof.get("files", {}), CARD: digest}}
    content = {**written.receipt, "verification": {**proof, **named}}
    return {**counted, CARD: card, receipt.FILE_NAME: receipt.seal(content).encode()}, remarks


def _card(written: Written, to: Destination, edited: Path | None) -> tuple[bytes, list[str]]:
    own = written.folder / CARD
    if card_was_edited(written.folder):
        if edited is not None and edited.read_bytes() != own.read_bytes():
            raise PublishError(
                f"{CARD} was edited here and on the Hub. Put what you mean into {own} and delete the one "
                "on the Hub, or delete this one."
            )
        return own.read_bytes(), _remarks(own, "here", to)
    if edited is not None:
        return edited.read_bytes(), _remarks(edited, "on the Hub", to)
    license = to.license or license_of(own)
    if license is None and written.receipt["source"]["origin"] != PUBLISHED:
        raise PublishError(
            f"{CARD} names no license, and for these weights none is known. Name one with --license, by the "
            "Hub's identifier (mit, apache-2.0, other, ...), or in the front matter of a card of your own."
        )
    return model_card(written.receipt, repo_id=to.repo_id, license=license).encode(), []


def _remarks(card: Path, where: str, to: Destination) -> list[str]:
    """What is to be said of a card that its owner edited.

    Raises:
        PublishError: it names another license than was asked for, or none was.
    """
    try:
        found = license_of(card)
    except FolderError as error:
        raise PublishError(f"{CARD} {where}: {error}") from error
    remarks = [f"{CARD} was edited {where}: it is left as it is, and nothing in it is proven."]
    if found is None:
        if to.license is None:
            raise PublishError(
                f"{CARD}, edited {where}, names no license: write `license: ...` into its front matter, or "
                "name one with --license."
            )
        remarks.append(f"It names no license: write `license: {to.license}` into its front matter.")
    elif to.license not in (None, found):
        raise PublishError(
            f"{CARD}, edited {where}, names the license {some([found])}, expected {some([str(to.license)])}. "
            "Change it there."
        )
    return remarks


def _compare(package: Mapping[str, Content], there: _There) -> list[Sent]:
    """Every file of both sides, and what is to be done with it."""
    held = there.files
    files = []
    for name, content in sorted(package.items()):
        data = _bytes(content)
        digest = hashlib.sha256(data).hexdigest()
        same = held.get(name) in (("sha256", digest), ("git", _git_sha1(data)))
        action = "keep" if same else "change" if name in held else "add"
        files.append(Sent(name, len(data), digest, action))
    stale = [name for name in sorted(held) if name not in package and name != ATTRIBUTES]
    return files + [Sent(name, None, None, "delete") for name in stale]


def _plan(
    to: Destination, package: Mapping[str, Content], there: _There, remarks: Sequence[str]
) -> Published:
    files = tuple(_compare(package, there))
    card = _bytes(package[CARD]).decode(errors="replace")
    return Published(to.repo_id, to.revision, None, None, to.message, files, card, tuple(remarks))


def _require_unchanged(written: Written, planned: Published) -> None:
    read = {file.name: file.sha256 for file in planned.files}
    for name, digest in digests(written.receipt).items():
        if name != CARD and read[name] != digest:
            raise PublishError(f"{written.folder / name} changed while it was read. Push again.")


def _commit(
    api: HfApi, to: Destination, there: _There, package: Mapping[str, Content], planned: Published
) -> Published:
    """One commit on top of the one that was looked at, or none."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

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
        revision=to.revision,
        create_pr=to.create_pr,
        parent_commit=there.commit,
    )
    return replace(
        planned, revision=done.pr_revision or to.revision, commit=done.oid, url=done.pr_url or done.commit_url
    )


def _fetch_back(api: HfApi, sent: Published, scratch: Path) -> None:
    """Holds what the Hub gives against what was sent."""
    expected = {file.name: file.sha256 for file in sent.files if file.sha256 is not None}
    back = _fetch(api, sent.repo_id, str(sent.commit), expected, scratch / "back")
    problems = [
        f"{name} is {'missing' if found is None else f'{found}, expected {digest}'}"
        for name, digest in expected.items()
        if (found := file_sha256(back / name) if (back / name).is_file() else None) != digest
    ]
    if problems:
        raise PublishError(
            f"Commit {sent.commit} of {sent.repo_id} was fetched back, and differs from what was sent: "
            f"{some(problems)}. Push again; until then, do not use it."
        )


def _fetch(api: HfApi, repo_id: str, commit: str, names: Iterable[str], cache: Path) -> Path:
    """Past the user's cache: what the Hub itself gives is to be seen."""
    found = api.snapshot_download(repo_id, revision=commit, allow_patterns=list(names), cache_dir=cache)
    return Path(found)


def _bytes(content: Content) -> bytes:
    return content if isinstance(content, bytes) else content.read_bytes()


def _git_sha1(data: bytes) -> str:
    """What git calls a file of these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
