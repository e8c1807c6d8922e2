"""A real HTTP/1.1 server on a loopback port that answers as it is told to, faults included, and records every request.

::

    with Server() as server:
        server.add("/file.whl", body)
        server.script("/file.whl", Status(503, {"Retry-After": "0"}), Cut(1000))  # then the plain answer
        ... server.url + "/file.whl" ...
        assert server.ranges("/file.whl") == [None, None, "bytes=1000-"]
"""

from __future__ import annotations

import base64
import hashlib
import re
import socket
import ssl
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

import trustme


@dataclass(frozen=True)
class Request:
    """One request as it arrived: ``path`` with the query, lower-case names of ``headers``, the client's ``port``."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    port: int = 0


@dataclass(frozen=True)
class Reply:
    """A whole answer, as it is: ``headers`` may contradict the body, ``reason`` is the status line's where given."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    reason: str | None = None


@dataclass(frozen=True)
class Status(Reply):
    """Answer once with this status instead of the resource."""

    def __init__(self, status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> None:
        super().__init__(status, body, headers or {})


@dataclass(frozen=True)
class Cut:
    """Promise the whole body, send this many bytes of it, then close the connection."""

    after: int


@dataclass(frozen=True)
class Reset:
    """Close the connection without a word."""


@dataclass(frozen=True)
class IgnoreRange:
    """Answer a ranged request with the whole body and 200."""


@dataclass(frozen=True)
class Hold:
    """Send this many bytes, then wait for ``gate`` (or the server's end) before going on."""

    after: int
    gate: threading.Event


Fault = Reply | Cut | Reset | IgnoreRange | Hold


@dataclass(frozen=True)
class Resource:
    """What a path answers without faults."""

    body: bytes
    headers: Mapping[str, str]
    ranges: bool
    etag: str | None
    beyond: int | None = None


class Server:
    """See the module; ``tls`` is a server-side context (:func:`tls_context`), ``users`` asks for Basic credentials."""

    def __init__(self, *, tls: ssl.SSLContext | None = None, users: Mapping[str, str] | None = None) -> None:
        self.users = dict(users or {})
        self.requests: list[Request] = []
        self.errors: list[BaseException] = []
        self.stopped = threading.Event()
        self._resources: dict[str, Resource] = {}
        self._handlers: dict[str, Callable[[Request], Reply]] = {}
        self._scripts: dict[str, deque[Fault]] = {}
        self._lock = threading.Lock()
        self._http = _Listener(self, tls)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.scheme = "https" if tls else "http"
        self.port: int = self._http.server_address[1]

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopped.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        if error is None and self.errors:
            raise self.errors[0]

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``, without a slash at the end."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def add(
        self,
        path: str,
        body: bytes,
        *,
        content_type: str = "application/octet-stream",
        headers: Mapping[str, str] | None = None,
        ranges: bool = True,
        etag: bool = True,
        beyond: int | None = None,
    ) -> str:
        """Serve *body* at *path* and return its URL. Conditional requests are answered where ``etag`` is kept.

        *beyond* is the status that answers ranges as Nexus does where they are not in the file, or ask for more of its
        end than there is: 416 in hosted and proxy repositories, 404 in groups.
        """
        tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"' if etag else None
        self._resources[path] = Resource(body, {"Content-Type": content_type, **(headers or {})}, ranges, tag, beyond)
        return self.url + path

    def redirect(self, path: str, location: str, *, status: int = 302) -> str:
        """Send whoever asks for *path* to *location*."""
        return self.handle(path, lambda _: Reply(status, b"", {"Location": location}))

    def handle(self, path: str, handler: Callable[[Request], Reply]) -> str:
        """Let *handler* answer *path* (any method, query ignored for the match) and return its URL."""
        self._handlers[path] = handler
        return self.url + path

    def script(self, path: str, *faults: Fault) -> None:
        """Meet the next requests for *path* with one fault each; afterwards it answers as before."""
        with self._lock:
            self._scripts.setdefault(path, deque()).extend(faults)

    def seen(self, path: str) -> list[Request]:
        """The requests for *path* so far."""
        with self._lock:
            return [request for request in self.requests if request.path.partition("?")[0] == path]

    def ranges(self, path: str) -> list[str | None]:
        """The Range headers of the requests for *path*."""
        return [request.headers.get("range") for request in self.seen(path)]

    def record(self, request: Request) -> Fault | None:
        """Remember *request* and take the fault that waits for it."""
        with self._lock:
            self.requests.append(request)
            script = self._scripts.get(request.path.partition("?")[0])
            return script.popleft() if script else None

    def plain(self, request: Request) -> Reply | Resource:
        """What *request* gets without faults."""
        path = request.path.partition("?")[0]
        if self.users and not self._knows(request.headers.get("authorization", "")):
            return Reply(401, b"who are you?", {"WWW-Authenticate": 'Basic realm="test"'})
        if path in self._handlers:
            return self._handlers[path](request)
        return self._resources.get(path) or Reply(404, b"nothing here")

    def _knows(self, authorization: str) -> bool:
        return any(authorization == basic(user, password) for user, password in self.users.items())


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, owner: Server, tls: ssl.SSLContext | None) -> None:
        self.owner = owner
        self.tls = tls
        super().__init__(("127.0.0.1", 0), _Handler)

    def finish_request(self, request: object, client_address: object) -> None:
        # The handshake belongs to the connection's own thread: a client that refuses the certificate must not stop
        # the listener.
        assert isinstance(request, socket.socket)
        if self.tls is not None:
            request = self.tls.wrap_socket(request, server_side=True)
        with request:
            super().finish_request(request, client_address)

    def handle_error(self, request: object, client_address: object) -> None:
        error = sys.exception() if sys.version_info >= (3, 11) else sys.exc_info()[1]
        if error is not None and not isinstance(error, OSError):
            self.owner.errors.append(error)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Listener

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline:
            self.close_connection = True
            return
        if self.parse_request():
            self._answer()
            self.wfile.flush()

    def _answer(self) -> None:
        owner = self.server.owner
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, self._body(headers), self.client_address[1])
        fault = owner.record(request)
        if isinstance(fault, Reset):
            self.close_connection = True
            return
        answer = fault if isinstance(fault, Reply) else owner.plain(request)
        if isinstance(answer, Reply):
            self._send(answer.status, answer.headers, answer.body, reason=answer.reason)
            return
        extra, status, start, end = dict(answer.headers), 200, 0, len(answer.body)
        if answer.etag is not None:
            extra["ETag"] = answer.etag
            if headers.get("if-none-match") == answer.etag:
                self._send(304, extra, b"")
                return
        if answer.ranges:
            extra["Accept-Ranges"] = "bytes"
            span = None if isinstance(fault, IgnoreRange) else _span(headers, answer)
            if span is not None:
                status, (start, end) = 206, span
                if answer.beyond is not None and (start >= end or _longer(headers, answer)):
                    said = {"Content-Range": f"bytes */{len(answer.body)}"} if answer.beyond == 416 else {}
                    self._send(answer.beyond, said, b"")
                    return
                if start >= end:
                    self._send(416, {"Content-Range": f"bytes */{len(answer.body)}"}, b"")
                    return
                extra["Content-Range"] = f"bytes {start}-{end - 1}/{len(answer.body)}"
        self._send(status, extra, answer.body[start:end], fault)

    def _body(self, headers: Mapping[str, str]) -> bytes:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            parts: list[bytes] = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(headers.get("content-length", "0")))

    def _send(
        self,
        status: int,
        headers: Mapping[str, str],
        body: bytes,
        fault: Fault | None = None,
        *,
        reason: str | None = None,
    ) -> None:
        self.send_response(status, reason)
        for name, value in headers.items():
            self.send_header(name, value)
        if not any(name.lower() in ("content-length", "transfer-encoding") for name in headers) and status != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if isinstance(fault, Cut):
            self.wfile.write(body[: fault.after])
            self.close_connection = True
        elif isinstance(fault, Hold):
            self.wfile.write(body[: fault.after])
            self.wfile.flush()
            while not fault.gate.wait(0.02) and not self.server.owner.stopped.is_set():
                pass
            self.wfile.write(body[fault.after :])
        else:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class named it
        pass


def _span(headers: Mapping[str, str], resource: Resource) -> tuple[int, int] | None:
    """The half-open byte range that is asked for, or None for all of it."""
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", headers.get("range", ""))
    if found is None or headers.get("if-range", resource.etag) != resource.etag:
        return None
    first, last = found.groups()
    length = len(resource.body)
    if not first:
        return max(0, length - int(last)), length
    return int(first), min(int(last) + 1, length) if last else length


def _longer(headers: Mapping[str, str], resource: Resource) -> bool:
    """Whether more of the end is asked for than the file has."""
    found = re.fullmatch(r"bytes=-(\d+)", headers.get("range", ""))
    return found is not None and int(found[1]) > len(resource.body)


def basic(user: str, password: str) -> str:
    """The Authorization header of Basic credentials."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def tls_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    """A server-side context that shows *certificate*."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context
