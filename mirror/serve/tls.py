"""Looks at a server's certificate files before they are used: a wrong order is found at start, not by clients."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path

from mirror.errors import ConfigError

_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_UTC_TIME = 0x17


@dataclass(frozen=True, slots=True)
class _Certificate:
    """What RFC 5280 puts first: two names in DER, and the end of the validity."""

    issuer: bytes
    subject: bytes
    until: datetime


def check_certificates(cert: Path, key: Path | None) -> None:
    """Raise a ConfigError that names the cause where *cert* (leaf first, then intermediates) and *key* can't serve."""
    try:
        text = cert.read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise ConfigError(f"{cert} can't be read: {error.strerror}.") from error
    chain = [_read(ssl.PEM_cert_to_DER_cert(block), cert) for block in _BLOCK.findall(text)]
    if not chain:
        raise ConfigError(f"{cert} holds no certificate in PEM.")
    for number, (lower, upper) in enumerate(pairwise(chain), 1):
        if lower.issuer != upper.subject:
            raise ConfigError(
                f"{cert}: certificate {number + 1} did not sign certificate {number}.",
                hint="Write the server's own certificate first, then the intermediate that signed it, and so on up.",
            )
    now = datetime.now(timezone.utc)
    for number, certificate in enumerate(chain, 1):
        if certificate.until < now:
            raise ConfigError(f"{cert}: certificate {number} expired on {certificate.until:%Y-%m-%d}.")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(
                f"The key in {key or cert} is not that of the first certificate in {cert}.",
                hint="The server's own certificate must come first in the file.",
            ) from error
        raise ConfigError(f"{cert} and {key or 'the key in it'} can't be used: {error.reason or error}.") from error
    except OSError as error:
        raise ConfigError(f"{key or cert} can't be read: {error.strerror}.") from error


def _read(der: bytes, path: Path) -> _Certificate:
    try:
        body = _inside(_inside(der))
        fields = list(_elements(body))
        if fields[0][0] == 0xA0:  # the version, which version 1 leaves out
            del fields[0]
        _, _, issuer, validity, subject = (whole for _, whole in fields[:5])
        kind, whole = list(_elements(_inside(validity)))[1]
        text = _inside(whole).decode("ascii")
        until = datetime.strptime(text, "%y%m%d%H%M%SZ" if kind == _UTC_TIME else "%Y%m%d%H%M%SZ")
    except (ValueError, IndexError) as error:
        raise ConfigError(f"{path} holds a certificate that can't be read.") from error
    return _Certificate(issuer, subject, until.replace(tzinfo=timezone.utc))


def _elements(data: bytes) -> list[tuple[int, bytes]]:
    """The DER elements side by side in *data*, each as its tag and all its bytes."""
    found: list[tuple[int, bytes]] = []
    while data:
        start, size = _extent(data)
        found.append((data[0], data[: start + size]))
        data = data[start + size :]
    return found


def _inside(data: bytes) -> bytes:
    start, size = _extent(data)
    return data[start : start + size]


def _extent(data: bytes) -> tuple[int, int]:
    """Where the content of the element at the start of *data* begins, and its length."""
    size = data[1]
    if size < 0x80:
        return 2, size
    count = size & 0x7F
    return 2 + count, int.from_bytes(data[2 : 2 + count], "big")
