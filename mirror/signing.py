"""Signatures of receipts: Ed25519 (RFC 8032) over a JSON document, with keys in the PEM files that OpenSSL makes.

A signed document has one member more::

    "signature": {"algorithm": "ed25519", "key": "<fingerprint>", "value": "<base64>"}

What is signed is the line ``airgap receipt`` and the document without that member, and without the ``seal`` of a sync:
its keys sorted, no white space, UTF-8. The fingerprint is the beginning of the SHA-256 of the raw public key, in
hexadecimal.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mirror.durable import write_whole
from mirror.errors import BundleError, ConfigError, MissingExtraError, StorageError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_ALGORITHM = "ed25519"
_MEMBER = "signature"
_UNSIGNED = (_MEMBER, "seal")
_PURPOSE = b"airgap receipt\n"


def signer(path: Path | None) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """What signs with the private key in *path*, or leaves documents as they are where there is none."""
    return dict if path is None else Signer(path)


class Signer:
    """Signs with the private key in the file *path*. Raises ConfigError where that can't be used."""

    def __init__(self, path: Path) -> None:
        self._key = _private(path)
        self.fingerprint = _fingerprint(self._key.public_key())

    def __call__(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """*document* with its signature in it."""
        value = base64.b64encode(self._key.sign(_signed(document))).decode()
        return {**document, _MEMBER: {"algorithm": _ALGORITHM, "key": self.fingerprint, "value": value}}


def verify(document: Mapping[str, Any], path: Path) -> str:
    """Return the fingerprint of the key that signed *document*: that in the file *path*.

    Raises BundleError where it is not signed, signed with another key, or altered since; ConfigError where the file
    holds no public key.
    """
    key = _public(path)
    from cryptography.exceptions import InvalidSignature

    fingerprint = _fingerprint(key)
    found = document.get(_MEMBER)
    if found is None:
        raise BundleError("The receipt is not signed.", hint="Has the other side a sign-key in its airgap.toml?")
    if not isinstance(found, dict) or found.get("algorithm") != _ALGORITHM:
        raise BundleError(f"The receipt's signature is none that this airgap knows: it checks {_ALGORITHM}.")
    if found.get("key") != fingerprint:
        raise BundleError(f"The receipt is signed with key {str(found.get('key'))[:64]}, not with {fingerprint}.")
    try:
        key.verify(base64.b64decode(str(found.get("value")), validate=True), _signed(document))
    except (InvalidSignature, ValueError) as error:
        raise BundleError("The receipt was altered after it was signed.") from error
    return fingerprint


def create_key(path: Path) -> tuple[Path, str]:
    """Make a key: the private half in *path*, for its owner only, the public one in ``PATH.pub``.

    Returns the latter and the fingerprint. Raises UsageError where either file exists.
    """
    with _extra_needed():
        from cryptography.hazmat.primitives import serialization as form
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    public = path.with_name(f"{path.name}.pub")
    for existing in (path, public):
        if existing.exists():
            raise UsageError(f"{existing} exists.", hint="A key is never overwritten: name another file.")
    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    try:
        write_whole(path, secret, mode=0o600)
        write_whole(public, key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo))
    except OSError as error:
        raise StorageError(f"Can't write {error.filename or path}: {error.strerror}.") from error
    return public, _fingerprint(key.public_key())


def _signed(document: Mapping[str, Any]) -> bytes:
    rest = {name: value for name, value in document.items() if name not in _UNSIGNED}
    text = json.dumps(rest, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return _PURPOSE + text.encode("utf-8", "surrogatepass")


def _fingerprint(key: Ed25519PublicKey) -> str:
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:32]


def _private(path: Path) -> Ed25519PrivateKey:
    with _extra_needed():
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

    with _readable(path, "private"):
        key = load_pem_private_key(path.read_bytes(), None)
        if isinstance(key, Ed25519PrivateKey):
            return key
        raise TypeError


def _public(path: Path) -> Ed25519PublicKey:
    with _extra_needed():
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

    with _readable(path, "public"):
        key = load_pem_public_key(path.read_bytes())
        if isinstance(key, Ed25519PublicKey):
            return key
        raise TypeError


@contextmanager
def _readable(path: Path, half: str) -> Iterator[None]:
    hint = f"'airgap key create' makes a pair of files; so does openssl genpkey -algorithm {_ALGORITHM}."
    try:
        yield
    except OSError as error:
        raise ConfigError(f"The {half} key {path} can't be read: {error.strerror}.", hint=hint) from error
    except (ValueError, TypeError):  # without its text, which may quote the file
        raise ConfigError(f"{path} holds no {half} Ed25519 key in PEM, or a password protects it.", hint=hint) from None


@contextmanager
def _extra_needed() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError("Signing receipts", "sign") from error
