"""Decides what a push does with each file of the repository."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import FolderError, PublishError, quoted
from ..folder import receipt
from ..folder.card import model_card
from ..folder.card_fields import license_of, merged_card
from ..folder.files import CARD, FILE_NAMES, SIGNATURE_FILES, card_was_edited, file_digests
from ..folder.open import label_names
from ..folder.records import Written
from ..records import ORIGIN_IMAGENET
from .records import Destination, Published, RemoteState, Sent

# The bytes of a file, or where they are.
Content = bytes | Path


def make_package(
    written: Written, to: Destination, edited: Path | None
) -> tuple[dict[str, Content], list[str]]:
    """Returns every file of the repository, and what the user should know of them.

    A card of ours is made anew, with the repository's name; one that its owner edited is sent as it is.
    """
    folder = written.folder
    counted = {name: folder / name for name in file_digests(written.receipt) if name != CARD}
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
    # The receipt keeps the digest of our card, so that verify says that it was edited.
    named = {"pushed_card": digest} if remarks else {"files": {**proof.get("files", {}), CARD: digest}}
    content = {**(written.receipt if remarks else with_license(written, to))}
    content["verification"] = {**proof, **named}
    return {**counted, CARD: card, receipt.FILE_NAME: receipt.seal(content).encode()}, remarks


def _card(written: Written, to: Destination, edited: Path | None) -> tuple[bytes, list[str]]:
    own = written.folder / CARD
    if card_was_edited(written.folder):
        unknown = edited is not None and card_was_edited(edited.parent, pushed=True)
        if unknown and edited is not None and edited.read_bytes() != own.read_bytes():
            raise PublishError(
                f"{CARD} was edited here and on the Hub. Put what you mean into {own} and delete the one "
                "on the Hub, or delete this one."
            )
        return own.read_bytes(), _remarks(own, "here", to)
    if edited is not None:
        return edited.read_bytes(), _remarks(edited, "on the Hub", to)
    content = with_license(written, to)
    if "license" not in content["card"] and content["source"]["origin"] != ORIGIN_IMAGENET:
        raise PublishError(
            f"{CARD} names no license, and for these weights none is known. Name one with `license=...`, by "
            "the Hub's identifier (mit, apache-2.0, other, ...), or in the front matter of your own card."
        )
    names = label_names(written)
    return model_card(content, repo_id=to.repo_id, names=names).encode(), []


def with_license(written: Written, to: Destination) -> dict[str, Any]:
    """Returns the receipt with the license that is asked for, or that a card of ours names."""
    license_name = to.license or written.receipt["card"].get("license") or license_of(written.folder / CARD)
    asked = {} if license_name is None else {"license": license_name}
    same = written.receipt["card"].get("license") == license_name
    return {**written.receipt, "card": merged_card(written.receipt["card"], {} if same else asked)}


def _remarks(card: Path, where: str, to: Destination) -> list[str]:
    """Returns the remarks about a card that its owner edited.

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
                "name one with `license=...`."
            )
        remarks.append(f"It names no license: write `license: {to.license}` into its front matter.")
    elif to.license not in (None, found):
        raise PublishError(
            f"{CARD}, edited {where}, names the license {quoted(found)}, expected {quoted(str(to.license))}. "
            "Change it there."
        )
    return remarks


def _compare(package: Mapping[str, Content], there: RemoteState) -> list[Sent]:
    """Returns every file of ours on both sides, and what is to be done with it; others are left alone."""
    held = there.files
    files = []
    for name, content in sorted(package.items()):
        data = bytes_of(content)
        digest = hashlib.sha256(data).hexdigest()
        action = "change" if name in held else "add"
        if held.get(name) in (("sha256", digest), ("git", _git_sha1(data))):
            action = "keep"
        files.append(Sent(name, len(data), digest, action))
    stale = held.keys() & set(FILE_NAMES) - package.keys()
    if held.keys() >= set(SIGNATURE_FILES):  # one of them alone is somebody else's
        stale |= set(SIGNATURE_FILES) - package.keys()
    return files + [Sent(name, None, None, "delete") for name in sorted(stale)]


def plan_push(
    to: Destination, package: Mapping[str, Content], there: RemoteState, remarks: Sequence[str]
) -> Published:
    """Returns what a push of ``package`` would send."""
    files = tuple(_compare(package, there))
    card = bytes_of(package[CARD]).decode(errors="replace")
    return Published(to.repo_id, to.revision, None, None, to.message, files, card, tuple(remarks))


def require_unchanged(written: Written, planned: Published) -> None:
    """Raises PublishError if a file is no longer what the receipt says."""
    read = {file.name: file.sha256 for file in planned.files}
    for name, digest in file_digests(written.receipt).items():
        if name != CARD and read[name] != digest:
            raise PublishError(f"{written.folder / name} changed while it was read. Push again.")


def digests_of(found: Any) -> dict[str, tuple[str, str]]:
    """Returns the digest of each file of a repository, as ``RemoteState`` has them."""
    return {
        file.rfilename: ("sha256", file.lfs.sha256) if file.lfs else ("git", file.blob_id or "")
        for file in found.siblings or ()
    }


def file_digest(path: Path) -> str:
    """Returns git's SHA-1 of the file at ``path``."""
    return _git_sha1(path.read_bytes())


def bytes_of(content: Content) -> bytes:
    """Returns the bytes of a file, wherever they are."""
    return content if isinstance(content, bytes) else content.read_bytes()


def _git_sha1(data: bytes) -> str:
    """Returns git's SHA-1 of a file of these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
