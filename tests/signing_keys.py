"""Keys that sign, made anew for each test that wants one."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def write_key(folder: Path, name: str = "key", kind: str = "SECP256R1", password: str = "") -> Path:
    """A new private key in PEM; the public one is beside it, ``.pub``."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if kind == "RSA":
        key: Any = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    elif kind == "ED25519":
        key = ed25519.Ed25519PrivateKey.generate()
    else:
        key = ec.generate_private_key(getattr(ec, kind)())
    pem, path = serialization.Encoding.PEM, folder / f"{name}.pem"
    hidden = serialization.BestAvailableEncryption(password.encode()) if password else None
    form = serialization.PrivateFormat.PKCS8
    path.write_bytes(key.private_bytes(pem, form, hidden or serialization.NoEncryption()))
    public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    path.with_suffix(".pub").write_bytes(public)
    return path
