"""model.sig: signed and checked by model-signing, the OpenSSF's package, imported where it is used."""

from __future__ import annotations

import ast
import hashlib
import json
import shlex
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import ConvertError, SignatureError, quoted
from ..records import AnyPath
from ..temporary import temporary_folder
from .files import SIGNATURE

# What signs by the identity of a person or a workflow, and without a key: https://www.sigstore.dev.
SIGSTORE = "sigstore"
INSTALL = 'pip install "densenet-convert[sign]"'
AGAIN = "Run this again, when that is mended."
ANEW = "Get the folder again from where it came from, or sign it again."
CURVES = ("secp256r1", "secp384r1", "secp521r1")


class Signer(NamedTuple):
    """Who signs.

    Attributes:
        private_key: file of an elliptic-curve key; None for Sigstore.
        public_key: of that key, PEM; None likewise.
    """

    private_key: Path | None = None
    public_key: bytes | None = None

    def __str__(self) -> str:
        return "by Sigstore" if self.public_key is None else _by_key(self.public_key)


class Expected(NamedTuple):
    """By whom a folder must be signed: the file of a public key, or an identity and who vouches for it."""

    public_key: Path | None = None
    identity: str | None = None
    identity_provider: str | None = None


def choose_signer(private_key: AnyPath | None, sigstore: bool = False) -> Signer:
    """Returns who is to sign, once the key can be used.

    Raises:
        SignatureError: both or neither are named, the key can't be used, or the extra is not installed.
    """
    if (private_key is None) != sigstore:
        raise SignatureError("Name either a key, `private_key=...`, or `sigstore=True`.")
    with _library_errors("The key"):
        import model_signing.signing  # noqa: F401 (a missing extra is said before anything else is done)
    if private_key is None:
        return Signer()
    path = Path(private_key)
    return Signer(path, _public_of(path))


def choose_expected(
    public_key: AnyPath | None, identity: str | None, identity_provider: str | None
) -> Expected | None:
    """Returns by whom a folder must be signed; None where it need not be.

    Raises:
        SignatureError: a key and an identity are named, or an identity without its provider, or the key can't
            be read.
    """
    if (identity is None) != (identity_provider is None):
        raise SignatureError("`identity=...` and `identity_provider=...` go together: name both.")
    if public_key is None:
        return None if identity is None else Expected(None, identity, identity_provider)
    if identity is not None:
        raise SignatureError("`public_key=...` and `identity=...` are two ways to sign: name one.")
    _public_in(Path(public_key))
    return Expected(Path(public_key))


def sign_files(folder: Path, names: Collection[str], signer: Signer) -> bytes:
    """Returns the signature of these files of a folder, in which nothing is written.

    Raises:
        SignatureError: the library refuses, with its reason.
    """
    with temporary_folder() as scratch, _library_errors(f"{folder} was not signed", AGAIN):
        from model_signing import signing

        config: Any = signing.Config().set_hashing_config(_Files(names))
        if signer.private_key is None:
            config.use_sigstore_signer(use_ambient_credentials=True)
        else:
            config.use_elliptic_key_signer(private_key=signer.private_key)
        config.sign(folder, scratch / SIGNATURE)
        return (scratch / SIGNATURE).read_bytes()


def check_files(folder: Path, names: Collection[str], signature: Path, expected: Expected) -> str:
    """Checks the signature of these files of a folder, and of all others that it names; says who signed.

    Args:
        folder: may hold other files, and links, as the Hub's cache does.
        names: files that must have been signed.
        signature: what the library wrote.
        expected: who must have signed.

    Raises:
        SignatureError: a file was changed, or is not signed, or somebody else signed.
    """
    who = _by_identity(expected) if expected.public_key is None else _by_key(_public_in(expected.public_key))
    with _library_errors(f"{folder} is not what was signed {who}", ANEW):
        from model_signing import verifying

        files: Any = _Files(names, links=True)
        config: Any = verifying.Config().set_hashing_config(files).set_ignore_unsigned_files(True)
        if expected.public_key is None:
            provider = expected.identity_provider
            config.use_sigstore_verifier(identity=expected.identity, oidc_issuer=provider)
        else:
            config.use_elliptic_key_verifier(public_key=expected.public_key)
        config.verify(folder, signature)
    return who


def is_signed(folder: Path, names: Collection[str], signature: Path, signer: Signer) -> bool:
    """Whether a signature is of these files, and of this signer's key; Sigstore's is not known again."""
    if signer.public_key is None:
        return False
    with temporary_folder() as scratch:
        (scratch / "key.pub").write_bytes(signer.public_key)
        try:
            check_files(folder, names, signature, Expected(scratch / "key.pub"))
        except SignatureError:
            return False
    return True


class _Files:
    """Hashes certain files, whatever lies beside them; in the place of the library's own configuration.

    That one goes over a whole folder, and leaves out what a signature says to ignore.
    """

    def __init__(self, names: Collection[str], *, links: bool = False) -> None:
        self.names, self.links = names, links

    def hash(self, model_path: Path, *, files_to_hash: Iterable[Path] | None = None) -> Any:
        """Returns the library's manifest of these files, and of those that a signature names."""
        from model_signing import hashing

        asked = {model_path / name for name in self.names} | set(files_to_hash or ())
        config = hashing.Config().set_ignored_paths(paths=[SIGNATURE]).set_allow_symlinks(self.links)
        return config.hash(model_path, files_to_hash=sorted(path for path in asked if path.is_file()))

    def add_ignored_paths(self, **_: object) -> None:
        """Does nothing: a file of ours is hashed, whatever a signature says to ignore."""


def _by_key(public_key: bytes) -> str:
    """Names a key by the digest that a signature has of it, which ``sha256sum`` gives of its file."""
    return f"by the key with SHA-256 {hashlib.sha256(public_key).hexdigest()}"


def _by_identity(expected: Expected) -> str:
    return f"by {quoted(str(expected.identity))}, as {quoted(str(expected.identity_provider))} says"


def _public_of(path: Path) -> bytes:
    """Returns the public key of a private one.

    Raises:
        SignatureError: the file is no private key, or none that signs.
    """
    with _key_errors(path, "private"):
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        data = path.read_bytes()
        if b"PUBLIC KEY-----" in data:
            raise SignatureError(f"{path} is a public key, which checks a signature. Name the private one.")
        if b"ENCRYPTED" in data:
            raise SignatureError(
                f"{path} is encrypted, and no password is asked for. Decrypt it where nobody else reads, for "
                f"as long as you sign: openssl pkey -in {shlex.quote(str(path))} -out PLAIN.pem"
            )
        return _as_pem(load_pem_private_key(data, None).public_key(), path)


def _public_in(path: Path) -> bytes:
    """Returns the public key in a file; the errors are those of ``_public_of``."""
    with _key_errors(path, "public"):
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        data = path.read_bytes()
        if b"PRIVATE KEY-----" in data:
            raise SignatureError(
                f"{path} is a private key, which nobody else may have. Name the public one: "
                f"openssl pkey -in {shlex.quote(str(path))} -pubout -out key.pub"
            )
        return _as_pem(load_pem_public_key(data), path)


def _as_pem(key: Any, path: Path) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    curve = key.curve.name if isinstance(key, EllipticCurvePublicKey) else None
    if curve not in CURVES:
        found = f"the curve {curve}" if curve else "another kind"
        raise SignatureError(
            f"{path} is a key of {found}, expected an elliptic curve, "
            f"{', '.join(CURVES)}: openssl ecparam -name prime256v1 -genkey -noout -out key.pem"
        )
    pem: bytes = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem


@contextmanager
def _key_errors(path: Path, kind: str) -> Iterator[None]:
    """Makes one message of whatever reading a key raises; none holds a part of the key."""
    with _library_errors("The key"):
        try:
            yield
        except OSError as error:
            raise SignatureError(f"{path} can't be read: {error.strerror or error}.") from None
        except (ValueError, TypeError) as error:
            raise SignatureError(f"{path} is no {kind} key in PEM. Name one that is.") from error


@contextmanager
def _library_errors(what: str, advice: str = "Report this.") -> Iterator[None]:
    """Makes one SignatureError of whatever the library raises; what it prints goes to stderr."""
    try:
        with redirect_stdout(sys.stderr):
            yield
    except ConvertError:
        raise
    except ImportError as error:
        missing = f"{quoted(str(error.name))} is not installed"
        raise SignatureError(f"Signatures need the extra sign, and {missing}: {INSTALL}") from error
    except Exception as error:  # its classes are those of several libraries
        raise SignatureError(f"{what}: {_reason(error, advice)}. {advice}") from error


def _reason(error: Exception, advice: str) -> str:
    """Says what the library objects to; where it checks, what it can't make sense of is at fault."""
    text = " ".join(str(error).split()).rstrip(". ")
    if type(error).__name__ == "InvalidSignature" or text.startswith("Key mismatch"):
        return f"{SIGNATURE} is not of this key: another one signed, or it was changed"
    unread = json.JSONDecodeError | UnicodeError | KeyError | IndexError | TypeError | AttributeError
    if advice == ANEW and (isinstance(error, unread) or type(error).__name__ == "ValidationError"):
        return f"{SIGNATURE} can't be read as a signature"
    return quoted(_differences(text) or type(error).__name__, 600)


def _differences(text: str) -> str:
    """Returns which files differ, without the digests, which the library shows as Python's bytes."""
    listed = text.removeprefix("Signature mismatch: ")
    try:
        parts = ast.literal_eval(listed)
    except (ValueError, SyntaxError):
        return text
    return "; ".join(str(part).split(": Expected ")[0] for part in parts)
