"""Just enough of X.509 (RFC 5280) to say which certificate of a chain is missing, expired or out of place. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from ipaddress import ip_address
from itertools import pairwise

_UTC_TIME = 0x17
_VERSION = 0xA0
_EXTENSIONS = 0xA3
_DNS_NAME, _IP_ADDRESS = 0x82, 0x87
_ALTERNATIVE_NAME = bytes.fromhex("551d11")
_COMMON_NAME = bytes.fromhex("550403")
_UNIT = bytes.fromhex("55040b")
_ORGANISATION = bytes.fromhex("55040a")


@dataclass(frozen=True, slots=True)
class Certificate:
    """Who it is for, who signed it, and when it is valid (UTC). ``issuer_key`` and ``key`` tell names apart.

    ``names`` are the hosts and addresses that it is for.
    """

    subject: str
    issuer: str
    not_before: datetime
    not_after: datetime
    key: bytes
    issuer_key: bytes
    names: tuple[str, ...] = ()

    @property
    def self_signed(self) -> bool:
        return self.key == self.issuer_key


def read_certificate(der: bytes) -> Certificate:
    """Read a certificate in DER; a ValueError where it is none."""
    try:
        tbs = list(_children(next(_children(_value(der)))[1]))
        names = tuple(_names(tbs))
    except (IndexError, StopIteration, RuntimeError, ValueError) as error:
        raise ValueError("not a certificate") from error
    fields = tbs[1:] if tbs and tbs[0][0] == _VERSION else tbs
    if len(fields) < 5:
        raise ValueError("not a certificate")
    _, _, issuer, validity, subject = fields[:5]
    before, after = (_time(*item) for item in _children(validity[1]))
    return Certificate(_name(subject[1]), _name(issuer[1]), before, after, subject[1], issuer[1], names)


def misplaced(chain: Sequence[Certificate]) -> str:
    """Say in one clause what is wrong with the order or the length of *chain*, the server's own first; else empty."""
    for position, (one, following) in enumerate(pairwise(chain)):
        if one.issuer_key == following.key:
            continue
        if any(one.issuer_key == other.key for other in chain[position + 2 :]) or one.self_signed:
            names = ", ".join(certificate.subject for certificate in chain)
            return f"its certificates are in the wrong order ({names}): each must be followed by the one that signed it"
        return f"the certificate of {one.issuer}, which signed that of {one.subject}, is missing from its chain"
    last = chain[-1]
    if len(chain) == 1 and not last.self_signed:
        return f"it sends only its own certificate, not that of {last.issuer}, which signed it"
    return ""


def _names(tbs: Sequence[tuple[int, bytes]]) -> Iterator[str]:
    """What the subject alternative name (RFC 5280, 4.2.1.6) says."""
    for _, extensions in (element for element in tbs if element[0] == _EXTENSIONS):
        for _, extension in _children(_value(extensions)):
            (_, oid), *_, (_, value) = _children(extension)
            for tag, name in _children(_value(value)) if oid == _ALTERNATIVE_NAME else ():
                if tag == _DNS_NAME:
                    yield "".join(letter for letter in name.decode("ascii", "replace") if letter.isprintable())
                elif tag == _IP_ADDRESS and len(name) in (4, 16):
                    yield str(ip_address(name))


def _value(der: bytes) -> bytes:
    return next(_children(der))[1]


def _children(data: bytes) -> Iterator[tuple[int, bytes]]:
    """``(tag, content)`` of every element in *data*."""
    position = 0
    while position < len(data):
        tag, length = data[position], data[position + 1]
        position += 2
        if length & 0x80:
            count = length & 0x7F
            length = int.from_bytes(data[position : position + count], "big")
            position += count
        yield tag, data[position : position + length]
        position += length


def _time(tag: int, value: bytes) -> datetime:
    text = value.decode("ascii")
    if tag == _UTC_TIME:  # years 50 to 99 are of the last century
        text = ("19" if text[:2] >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=timezone.utc)


def _name(data: bytes) -> str:
    """The common name, else unit or organisation, else a substitute."""
    found: dict[bytes, str] = {}
    for _, relative in _children(data):
        for _, pair in _children(relative):
            (_, oid), (_, value) = list(_children(pair))[:2]
            found.setdefault(
                oid, "".join(letter for letter in value.decode("utf-8", "replace") if letter.isprintable())
            )
    return found.get(_COMMON_NAME) or found.get(_UNIT) or found.get(_ORGANISATION) or "an unnamed authority"
