"""Adds a statement and a signature to what is pushed: new ones, the folder's, or those of the Hub."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from ..errors import PublishError
from ..folder import receipt
from ..folder.card_fields import license_of
from ..folder.files import CARD, SIGNATURE, SIGNATURE_FILES, STATEMENT, file_sha256
from ..folder.records import Written
from ..folder.signature import Signer, is_signed, sign_files
from ..folder.signed import signable_digests
from ..folder.statement import check_statement, make_statement
from ..temporary import temporary_folder
from .package import Content, bytes_of
from .records import Destination, RemoteState

Package = Mapping[str, Content]


def sign_package(
    written: Written,
    to: Destination,
    package: Package,
    there: RemoteState,
    edited: Path | None,
    fetch: Callable[[Iterable[str]], Path],
    *,
    dry_run: bool,
) -> tuple[Package, list[str]]:
    """Returns all files of a push, signed or not, and what the user should know of that.

    A signature on the Hub that still holds is kept, so that a second push sends nothing.

    Args:
        written: the folder.
        to: where it goes, and who signs.
        package: files of the conversion as they would be sent.
        there: what the branch has.
        edited: a card there that its owner edited.
        fetch: gets files of the branch.
        dry_run: sign nothing that would be shown in public.

    Raises:
        PublishError: a signed folder can't be sent as it is.
        SignatureError: it was changed since it was signed, or can't be signed.
    """
    held: dict[str, bytes] = {}
    if there.files.keys() >= set(SIGNATURE_FILES):
        folder = fetch(SIGNATURE_FILES)
        held = {name: (folder / name).read_bytes() for name in SIGNATURE_FILES}
    if to.signer is not None:
        if dry_run and to.signer.public_key is None:
            return package, [f"{' and '.join(SIGNATURE_FILES)} are made when it is sent."]
        return _signed_anew(to, to.signer, package, held), []
    if all((written.folder / name).exists() for name in SIGNATURE_FILES):
        return _as_it_was_signed(written, to, edited)
    if not held or held[STATEMENT] == _statement_of(package):
        return {**package, **held}, []
    said = f"{to.repo_id}: {' and '.join(SIGNATURE_FILES)} are of other files, and are deleted."
    return package, [f"{said} Push with `sign=...` to sign these."]


def _signed_anew(to: Destination, signer: Signer, package: Package, held: Mapping[str, bytes]) -> Package:
    """Signs copies of the files; the library names what it signs after their folder."""
    statement, names = _statement_of(package), (*package, STATEMENT)
    with temporary_folder() as scratch:
        folder = scratch / (to.repo_id.rpartition("/")[2].strip(".") or "model")
        folder.mkdir()
        for name, content in {**package, STATEMENT: statement}.items():
            if isinstance(content, bytes):
                (folder / name).write_bytes(content)
            else:
                _link(content.resolve(), folder / name)
        if held.get(STATEMENT) == statement:
            (scratch / SIGNATURE).write_bytes(held[SIGNATURE])
            if is_signed(folder, names, scratch / SIGNATURE, signer):
                return {**package, **held}
        return {**package, STATEMENT: statement, SIGNATURE: sign_files(folder, names, signer)}


def _as_it_was_signed(written: Written, to: Destination, edited: Path | None) -> tuple[Package, list[str]]:
    """Returns the files of a signed folder as they are; its card is not made anew with another name."""
    folder = written.folder
    digests = signable_digests(folder)
    check_statement((folder / STATEMENT).read_bytes(), written.receipt, digests)
    advice = "Push with `sign=...` to sign what is sent anew."
    if CARD not in digests or (edited is not None and file_sha256(edited) != digests[CARD]):
        raise PublishError(f"{folder} is signed, with another {CARD} than would be sent. {advice}")
    if to.license not in (None, written.receipt["card"].get("license"), license_of(folder / CARD)):
        raise PublishError(f"{folder} is signed, and `license=...` would change it. {advice}")
    own = {name: folder / name for name in (*digests, *SIGNATURE_FILES)}
    return own, [f"{folder} is signed, and is sent as it is. {advice}"]


def _statement_of(package: Package) -> bytes:
    """Returns the statement about what is sent."""
    digests = {name: _sha256(content) for name, content in package.items()}
    return make_statement(receipt.unseal(bytes_of(package[receipt.FILE_NAME]).decode()), digests)


def _sha256(content: Content) -> str:
    return hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else file_sha256(content)


def _link(old: Path, new: Path) -> None:
    try:
        os.link(old, new)
    except OSError:  # another file system, or one without it
        shutil.copyfile(old, new)
