"""A signed folder: its statement and its signature, written and checked together."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..columns import rows_as_text
from ..errors import FolderError, SignatureError, first_few
from ..shown import Shown
from .files import FILE_NAMES, SIGNATURE, SIGNATURE_FILES, STATEMENT, file_sha256
from .open import read_receipt
from .records import Written
from .signature import Expected, Signer, check_files, is_signed, sign_files
from .statement import check_statement, make_statement

# Bytes of a file that a stranger made, and that is read as a whole: hundreds of names take a tenth of it.
LONGEST = 1 << 20


@dataclass(frozen=True, repr=False)
class Signed(Shown):
    """A folder that was signed.

    Attributes:
        folder: where it is.
        signed_by: who signed, in words.
        files: names of the files that are signed; others may lie beside them.
        skipped: whether the signature was there already, of this key and these files.
    """

    folder: Path
    signed_by: str
    files: tuple[str, ...]
    skipped: bool = False

    def __str__(self) -> str:
        said = "is signed already" if self.skipped else "signed"
        rows = {"signed": self.signed_by, "files": ", ".join(self.files), "in": ", ".join(SIGNATURE_FILES)}
        return "\n".join([f"{self.folder}: {said}", *rows_as_text(rows.items())])

    def _shown(self) -> dict[str, object]:
        """Returns where it is, who signed, and what."""
        return {"folder": self.folder, "signed_by": self.signed_by, "files": ", ".join(self.files)}


def sign_folder(written: Written, signer: Signer) -> Signed:
    """Writes the statement and the signature of a folder; a signature of this key that still holds is kept.

    Raises:
        SignatureError: the library refuses, with its reason.
        FolderError: the folder can't be written.
    """
    folder = written.folder
    links = [path.name for path in folder.iterdir() if path.is_symlink()]
    if links:
        raise FolderError(
            f"{folder} holds links, as the Hub's cache does: {first_few(links)}. Copy the folder, with the "
            "files that the links stand for, and sign the copy."
        )
    digests = signable_digests(folder)
    names = (*digests, STATEMENT)
    statement, before = make_statement(written.receipt, digests), _bytes_of(folder / STATEMENT)
    if before == statement and is_signed(folder, names, folder / SIGNATURE, signer):
        return Signed(folder, str(signer), names, skipped=True)
    try:
        _replace(folder / STATEMENT, statement)
        signature = sign_files(folder, names, signer)
    except BaseException:  # no statement stands alone, or beside the signature of another one
        if before is None:
            (folder / STATEMENT).unlink(missing_ok=True)
        else:
            _replace(folder / STATEMENT, before)
        raise
    _replace(folder / SIGNATURE, signature)
    return Signed(folder, str(signer), names)


def check_signature(folder: Path, expected: Expected) -> str:
    """Checks that every file of ours in a folder is signed, and that the statement is about them.

    Returns:
        Who signed, in words.

    Raises:
        SignatureError: the folder is not signed, not by whom was named, or was changed since.
    """
    missing = [name for name in SIGNATURE_FILES if not (folder / name).is_file()]
    if missing:
        raise SignatureError(
            f"{folder} is not signed: it has no {' and no '.join(missing)}. Get a signed one from whoever "
            "made it."
        )
    for name in SIGNATURE_FILES:
        if (folder / name).stat().st_size > LONGEST:
            raise SignatureError(f"{folder / name} is longer than any signature: it is not read.")
    names = [name for name in (*FILE_NAMES, STATEMENT) if (folder / name).exists()]
    who = check_files(folder, names, folder / SIGNATURE, expected)
    check_statement((folder / STATEMENT).read_bytes(), read_receipt(folder), signable_digests(folder))
    return who


def signable_digests(folder: Path) -> dict[str, str]:
    """Returns the SHA-256 of every file of a conversion that a folder has, in the order of their names."""
    return {name: file_sha256(folder / name) for name in sorted(FILE_NAMES) if (folder / name).is_file()}


def _bytes_of(path: Path) -> bytes | None:
    with suppress(OSError):
        return path.read_bytes()
    return None


def _replace(path: Path, data: bytes) -> None:
    """Puts a file in its place in one step."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise FolderError(f"{path} can't be written: {error.strerror or error}.") from error
