"""One step of a connection at a time, for who wants to know which of them fails."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from mirror.errors import TLSError
from mirror.net import tls
from mirror.net.client import Settings
from mirror.net.connections import environment_proxy
from mirror.urls import origin


@dataclass(frozen=True, slots=True)
class Handshake:
    """What TLS came to: ``error`` is None where the server is trusted; ``chain`` is what it sent, in DER."""

    error: TLSError | None
    version: str
    chain: tuple[bytes, ...]

    def pem(self) -> str:
        """The chain as a PEM file has it."""
        return "".join(map(ssl.DER_cert_to_PEM_cert, self.chain))


def proxy_for(url: str, settings: Settings) -> str | None:
    """The proxy that requests for *url* go through, as the environment and *settings* have it; it may hold a secret."""
    if settings.proxy:
        return settings.proxy
    return environment_proxy(origin(url))


def addresses(host: str, port: int) -> list[str]:
    """The addresses that *host* has; raises OSError where it has none."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(place[4][0]) for place in found))


def connect(host: str, port: int, timeout: float) -> None:
    """Open a connection and close it; raises OSError where nobody takes it."""
    socket.create_connection((host, port), timeout).close()


def handshake(url: str, settings: Settings) -> Handshake:
    """Shake hands with the server behind *url* as a client with *settings* does, and read the chain that it sends."""
    _, host, port = origin(url)
    error: TLSError | None = None
    try:
        with _wrapped(host, port, tls.make_context(settings.ca_bundle, settings.client_cert), settings.timeout) as sock:
            return Handshake(None, sock.version() or "", _chain(sock))
    except ssl.SSLError as refused:
        error = tls.explain(refused, f"https://{host}:{port}", host)
    try:
        context = tls.make_context(None, settings.client_cert, verify=False)
        with _wrapped(host, port, context, settings.timeout) as sock:
            return Handshake(error, sock.version() or "", _chain(sock))
    except (ssl.SSLError, OSError):
        return Handshake(error, "", ())


def announce(url: str, length: int, headers: Mapping[str, str], settings: Settings) -> int | None:
    """Announce an upload of *length* bytes without sending it; the status that the server answers, or None."""
    parts = urlsplit(url)
    scheme, host, port = origin(url)
    connection: http.client.HTTPConnection
    if scheme == "https":
        trusted = not {host, f"{host}:{port}"}.isdisjoint(settings.trusted_hosts)
        context = tls.make_context(settings.ca_bundle, settings.client_cert, verify=not trusted)
        connection = http.client.HTTPSConnection(host, port, timeout=3.0, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=3.0)
    try:
        connection.putrequest("POST", parts.path or "/")
        for name, value in {**headers, "content-length": str(length), "expect": "100-continue"}.items():
            connection.putheader(name, value)
        connection.endheaders()
        # Not getresponse(), which passes over the "100 Continue" of a server that would take the body.
        said = connection.sock.recv(4096).split(None, 2)
        return int(said[1])
    except (OSError, IndexError, ValueError):  # a server that waits for the body says nothing
        return None
    finally:
        connection.close()


def _wrapped(host: str, port: int, context: ssl.SSLContext, timeout: float) -> ssl.SSLSocket:
    plain = socket.create_connection((host, port), timeout)
    try:
        return context.wrap_socket(plain, server_hostname=host)
    except BaseException:
        plain.close()
        raise


def _chain(sock: ssl.SSLSocket) -> tuple[bytes, ...]:
    """The certificates as the server sent them; only its own where this Python can't tell."""
    ask: Any = getattr(sock, "get_unverified_chain", None)  # public from Python 3.13 on
    ask = ask or getattr(getattr(sock, "_sslobj", None), "get_unverified_chain", None)
    found = ask() if ask is not None else None
    if not found:
        own = sock.getpeercert(binary_form=True)
        return (own,) if own else ()
    return tuple(item if isinstance(item, bytes) else ssl.PEM_cert_to_DER_cert(item.public_bytes()) for item in found)
