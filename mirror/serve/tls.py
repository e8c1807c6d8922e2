"""Looks at a server's certificate files before they are used: a wrong order is found at start, not by clients."""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path

from mirror.errors import ConfigError
from mirror.net.certificates import Certificate, read_certificate

_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_SOON = timedelta(days=30)


def check_certificates(cert: Path, key: Path | None) -> list[str]:
    """Return what an operator should know of *cert* (leaf first, then intermediates) and *key*, a sentence each.

    Raises a ConfigError that names the cause where clients could not use them.
    """
    try:
        text = cert.read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise ConfigError(f"{cert} can't be read: {error.strerror}.") from error
    blocks = _BLOCK.findall(text)
    try:
        chain = [read_certificate(ssl.PEM_cert_to_DER_cert(block)) for block in blocks]
    except ValueError as error:
        raise ConfigError(f"{cert} holds a certificate that can't be read.") from error
    if not chain:
        raise ConfigError(f"{cert} holds no certificate in PEM.")
    _check_order(cert, chain)
    now = datetime.now(timezone.utc)
    _check_dates(cert, chain, now)
    server = _server_side(cert, key)
    _check_signatures(cert, server, blocks[-1])
    return _notes(cert, chain, now)


def _check_order(cert: Path, chain: Sequence[Certificate]) -> None:
    for number, (lower, upper) in enumerate(pairwise(chain), 1):
        if lower.issuer_key != upper.key:
            raise ConfigError(
                f"{cert}: certificate {number + 1} ({upper.subject}) did not sign certificate {number} "
                f"({lower.subject}); {lower.issuer} did.",
                hint="Write the server's own certificate first, then the intermediate that signed it, and so on up.",
            )


def _check_dates(cert: Path, chain: Sequence[Certificate], now: datetime) -> None:
    for number, each in enumerate(chain, 1):
        shown = f"{cert}: certificate {number} ({each.subject})"
        if each.not_after < now:
            raise ConfigError(f"{shown} expired on {each.not_after:%Y-%m-%d}.", hint="Have it renewed.")
        if each.not_before > now:
            raise ConfigError(f"{shown} is valid from {each.not_before:%Y-%m-%d} on.", hint="Check the clock.")


def _server_side(cert: Path, key: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(
                f"The key in {key or cert} is not that of the first certificate in {cert}.",
                hint="The server's own certificate must come first in the file.",
            ) from error
        raise ConfigError(f"{cert} and {key or 'the key in it'} can't be used: {error.reason or error}.") from error
    except OSError as error:
        raise ConfigError(f"{key or cert} can't be read: {error.strerror}.") from error
    return context


def _check_signatures(cert: Path, server_side: ssl.SSLContext, last: str) -> None:
    """Shake hands in memory with a client that trusts the *last* certificate: names can match by chance."""
    client_side = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_side.check_hostname = False
    client_side.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client_side.load_verify_locations(cadata=last)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client_side.wrap_bio(back, there), server_side.wrap_bio(there, back, server_side=True)]
    try:
        while ends:
            for end in list(ends):
                try:
                    end.do_handshake()
                except ssl.SSLWantReadError:
                    continue
                ends.remove(end)
    except ssl.SSLCertVerificationError as error:
        raise ConfigError(
            f"{cert}: no client can verify this chain: {error.verify_message}.",
            hint="Ask whoever issued the certificate for the intermediates that belong to it.",
        ) from error
    except ssl.SSLError as error:
        raise ConfigError(f"{cert} can't be used: {error.reason or error}.") from error


def _notes(cert: Path, chain: Sequence[Certificate], now: datetime) -> list[str]:
    first, last = chain[0], chain[-1]
    notes = []
    if first.not_after - now < _SOON:
        notes.append(f"{cert}: the certificate of {first.subject} expires on {first.not_after:%Y-%m-%d}.")
    if len(chain) == 1 and not last.self_signed:
        notes.append(
            f"{cert} holds only the server's own certificate. Clients must trust {last.issuer}, which signed it; if "
            "that is an intermediate, write its certificate behind the server's, or clients will find none."
        )
    return notes
