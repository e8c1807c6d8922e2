"""A request in httpcore's terms, and its answer in airgap's: text for headers, bytes without their compression."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from urllib.parse import quote, urlsplit

import httpcore

from mirror.urls import origin

#: Codings that an answer may come in.
ACCEPTED = "gzip, deflate"

_PORTS = {"http": 80, "https": 443}
_SAFE = "/:@!$&'()*+,;=~%[]"
_NO_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
_UNPRINTABLE = re.compile("[\x00-\x20\x7f]")
# zlib's words for either header; each has more than two bytes, of which these two are enough to tell.
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32
_HEADER, _GZIP = 2, 0x1F8B
# Bytes that come out at a time, at most: a small piece may hold a large one.
_MOST = 2**20


class UnusableURLError(ValueError):
    """What was given is no http or https URL."""


class DecodingError(Exception):
    """An answer can't be decompressed."""


def make_request(
    method: str, url: str, headers: Mapping[str, str], content: Iterable[bytes] | None, timeout: Mapping[str, object]
) -> httpcore.Request:
    """The request; *url* is quoted where it must be, its credentials are left out, and *headers* need no Host.

    An iterable *content* goes out in chunks where the headers have no Content-Length.
    """
    target = _target(url)
    sent = [(b"host", _host(target)), *((name.encode(), value.encode()) for name, value in headers.items())]
    if content is not None and "content-length" not in headers:
        sent.append((b"transfer-encoding", b"chunked"))
    return httpcore.Request(method, target, headers=sent, content=content, extensions={"timeout": timeout})


class Answer:
    """What came back from *url*; to be closed.

    ``headers`` have lower-case names; what came several times is one text with commas.
    """

    def __init__(self, url: str, answer: httpcore.Response) -> None:
        self.url = url
        self.status = answer.status
        self.reason = answer.extensions.get("reason_phrase", b"").decode("ascii", "replace")
        self.headers: dict[str, str] = {}
        for name, value in answer.headers:
            key, text = name.decode("ascii", "replace").lower(), _text(value)
            self.headers[key] = f"{self.headers[key]}, {text}" if key in self.headers else text
        self.stream: httpcore.NetworkStream | None = answer.extensions.get("network_stream")
        self.close = answer.close
        self.raw: Iterator[bytes] = answer.iter_stream()

    def body(self) -> Iterator[bytes]:
        """Yield the body, decompressed; a DecodingError where that can't be done."""
        codings = [word.strip().lower() for word in self.headers.get("content-encoding", "").split(",")]
        pieces = self.raw
        for coding in reversed(codings):
            if coding in ("gzip", "x-gzip", "deflate"):
                pieces = _decompressed(pieces)
            elif coding not in ("", "identity"):
                raise DecodingError(coding)
        return pieces


def _decompressed(pieces: Iterator[bytes]) -> Iterator[bytes]:
    head = b""
    for piece in pieces:
        head += piece
        if len(head) >= _HEADER:
            break
    if not head:
        return
    decoder = zlib.decompressobj(_GZIP_OR_ZLIB if _has_header(head) else -zlib.MAX_WBITS)
    try:
        for piece in chain([head], pieces):
            waiting = piece
            while waiting:
                yield decoder.decompress(waiting, _MOST)
                waiting = decoder.unconsumed_tail
    except zlib.error as error:
        raise DecodingError(str(error)) from error
    if not decoder.eof:
        raise DecodingError("it ends too early")


def _has_header(data: bytes) -> bool:
    """Whether *data* begins as gzip or zlib has it: "deflate" means zlib's, and some servers leave the header out."""
    first = int.from_bytes(data[:_HEADER], "big")
    return first == _GZIP or (first >> 8 & 15 == zlib.DEFLATED and first % 31 == 0)


def _target(url: str) -> httpcore.URL:
    try:
        parts = urlsplit(url)
        scheme, host, port = origin(url)
        name = encoded_host(host)
    except ValueError as error:
        raise UnusableURLError(str(error)) from error
    if scheme not in _PORTS or not name or _UNPRINTABLE.search(host):
        raise UnusableURLError(url)
    path = _quoted(parts.path or "/", _SAFE)
    if parts.query:
        path = f"{path}?{_quoted(parts.query, f'{_SAFE}?')}"
    # Without the port that the scheme has anyway: a proxy gets all of it.
    return httpcore.URL(
        scheme=scheme.encode(), host=name, port=None if port == _PORTS[scheme] else port, target=path.encode()
    )


def encoded_host(host: str) -> bytes:
    """*host* as it goes over the wire; a ValueError where it can't."""
    return host.encode("ascii") if host.isascii() else host.encode("idna")


def _quoted(text: str, safe: str) -> str:
    """*text* with what can't stand there escaped, and escapes left as they are."""
    return quote(_NO_ESCAPE.sub("%25", text), safe)


def _host(url: httpcore.URL) -> bytes:
    host = b"[%b]" % url.host if b":" in url.host else url.host
    return host if url.port is None else b"%b:%d" % (host, url.port)


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
