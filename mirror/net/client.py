"""The HTTP client."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urljoin

import httpcore

from mirror import __version__
from mirror.errors import (
    AuthError,
    HTTPError,
    IntegrityError,
    MissingExtraError,
    NetworkError,
    NotFoundError,
    UsageError,
)
from mirror.models import Event, Reporter, Stage, silent
from mirror.net import tls
from mirror.net.auth import Credentials, Wallet
from mirror.net.connections import EXPIRY, Connections, Origin, environment_proxy
from mirror.net.exchange import ACCEPTED, Answer, DecodingError, UnusableURLError, encoded_host, make_request
from mirror.net.retry import TRANSIENT_STATUS, Transient, Tries, retry_after
from mirror.urls import credentials as credentials_in
from mirror.urls import origin, redact, without_credentials

MIB = 1024 * 1024
# httpcore's default of 64 KiB a read costs a fast link a quarter of its speed.
httpcore.HTTP11Connection.READ_NUM_BYTES = 256 * 1024

_HEADERS = {"accept": "*/*", "accept-encoding": ACCEPTED, "connection": "keep-alive"}
_MOST_REDIRECTS = 20
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PROXIES = frozenset({"http", "https", "socks5", "socks5h"})
_SOCKS_PORT = 1080
# All that httpcore raises.
_FAILURES = (
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
    httpcore.ConnectionNotAvailable,
)
#: Bytes at which :meth:`Client.send` cuts a body.
SEND_LIMIT = 1 * MIB
#: What to do about status 407.
PROXY_LOGIN = "The proxy wants credentials: put them into --proxy or HTTPS_PROXY as http://user:password@host:port."


@dataclass(frozen=True, slots=True)
class Settings:
    """How to reach servers. ``timeout`` is in seconds, for connecting and between two reads.

    ``ca_bundle`` None means the system's certificates, ``proxy`` None the environment's (HTTP_PROXY, HTTPS_PROXY,
    NO_PROXY). ``trusted_hosts`` are ``host`` or ``host:port``: their certificates are not looked at.
    """

    ca_bundle: Path | None = None
    client_cert: Path | None = None
    proxy: str | None = None
    timeout: float = 15.0
    retries: int = 5
    trusted_hosts: tuple[str, ...] = ()
    connections: int = 16
    user_agent: str = f"airgap/{__version__}"


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer. ``url`` is where redirects ended; ``headers`` have lower-case names."""

    url: str
    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes


class SendError(NetworkError):
    """A request that is never repeated by itself got no answer; ``sent`` tells whether its whole body went out."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message, retryable=True)
        self.sent = sent


class Client(AbstractContextManager["Client"]):
    """A thread-safe pool of connections; close it, or use it as a context manager.

    Raises :class:`NetworkError` and its subclasses, always with credentials and queries taken out of the URL.
    Failures that may pass are tried again up to ``settings.retries`` times, except by :meth:`send`.
    """

    def __init__(
        self, settings: Settings = Settings(), credentials: Credentials | None = None, report: Reporter = silent
    ) -> None:
        self.settings = settings
        self._wallet = Wallet(credentials)
        self._report = report
        self._trusted = frozenset(host.lower() for host in settings.trusted_hosts)
        self._warned: set[str] = set()
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._connections = Connections(self._connect, settings.connections)
        self._timeout = {"connect": settings.timeout, "read": settings.timeout, "write": settings.timeout, "pool": None}
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def __exit__(self, *_: object) -> None:
        self.close()

    def hang_up(self) -> None:
        """Cut off every answer that is being read; its reader asks anew, unless it has been told to stop."""
        self._connections.hang_up()

    def close(self) -> None:
        """Close every connection and end every wait for another try."""
        self._closed.set()
        self._connections.close()

    def get(
        self,
        url: str,
        *,
        headers: Mapping[str, str] = {},
        limit: int = 256 * MIB,
        accept: Container[int] = (),
    ) -> Response:
        """Return the whole answer, its body (decompressed) no larger than *limit* bytes.

        A status of 400 or more is an :class:`HTTPError` unless *accept* names it.
        """
        return self._whole("GET", url, headers, limit, accept)

    def beginning(self, url: str, size: int, *, headers: Mapping[str, str] = {}) -> tuple[Response, bool]:
        """Like :meth:`get`, for a body of any length: its first *size* bytes, and whether there are more.

        What lies behind them is not fetched, at the price of the connection.
        """
        answer = self._whole("GET", url, headers, size + 1, (), cut=True)
        return replace(answer, body=answer.body[:size]), len(answer.body) > size

    def head(self, url: str, *, headers: Mapping[str, str] = {}, accept: Container[int] = ()) -> Response:
        """Like :meth:`get`, without a body."""
        return self._whole("HEAD", url, headers, 0, accept)

    def download(
        self,
        url: str,
        *,
        offset: int = 0,
        size: int | None = None,
        headers: Mapping[str, str] = {},
        stop: threading.Event | None = None,
    ) -> Iterator[bytes]:
        """Yield the body from byte *offset* on, as it is (never decompressed), to its very end.

        A cut or a transient status leads to a new request for the rest; ``settings.retries`` bounds the tries that
        bring no byte. *size* is the whole body's length where it is known: another one is an :class:`IntegrityError`,
        and so is a file that changes meanwhile (``retryable``: from its start). *stop* ends a wait between two tries.
        """
        shown = redact(url)
        position, total, validator = offset, size, ""
        ranged = True
        tries = Tries(self.settings.retries, stop or self._closed)
        while total is None or position != total:
            asked = {**{name.lower(): value for name, value in headers.items()}, "accept-encoding": "identity"}
            partial = position > 0 and ranged
            if partial:
                asked["range"] = f"bytes={position}-"
                if validator:
                    asked["if-range"] = validator
            try:
                with self._exchange("GET", url, asked, accept=(404, 416) if partial else ()) as answer:
                    if answer.status == 404:
                        # Nexus's groups hand on nothing but success, and say this where a range is past the end.
                        ranged = False
                        continue
                    start, length = _extent(answer, position, shown)
                    etag = answer.headers.get("etag", "")
                    if validator and etag and etag != validator:
                        raise IntegrityError(f"{shown}: the file changed while it was downloaded.", retryable=True)
                    if total is None:
                        total = length
                        if total is not None and total < position:
                            raise _shorter(shown, position)
                    elif length not in (None, total):
                        raise IntegrityError(
                            f"{shown}: the server offers {length} bytes where there should be {total}.",
                            retryable=size is None,
                        )
                    validator = validator or (etag if etag.startswith('"') else "")
                    if answer.status == 416:
                        return
                    for chunk in answer.raw:
                        if start < position:  # the server ignored the range: these bytes are already delivered
                            known = min(position - start, len(chunk))
                            start += known
                            chunk = chunk[known:]
                        if not chunk:
                            continue
                        start = position = position + len(chunk)
                        if total is not None and position > total:
                            raise IntegrityError(f"{shown}: the server sent more than {total} bytes.")
                        tries.progress()
                        yield chunk
            except Transient as failure:
                tries.failed(failure)
            else:
                if total is None:
                    return
                if position < total:
                    text = f"{shown}: the connection ended after {position} of {total} bytes."
                    tries.failed(Transient(NetworkError(text, retryable=True)))

    def send(
        self,
        method: str,
        url: str,
        *,
        content: Iterable[bytes] | bytes = b"",
        headers: Mapping[str, str] = {},
    ) -> Response:
        """Make one try, follow nothing, and return the answer whatever its status, its body cut at 1 MiB.

        Give ``Content-Length`` with an iterable, or it goes out chunked. No answer is a :class:`SendError`.
        """
        sent = False

        def body() -> Iterator[bytes]:
            nonlocal sent
            yield from (content,) if isinstance(content, bytes) else content
            sent = True

        headers = {name.lower(): value for name, value in headers.items()}
        if isinstance(content, bytes):
            headers["content-length"] = str(len(content))
        try:
            with self._try(method, url, self._authorized(url, headers), body()) as answer:
                found = b""
                for chunk in answer.body():
                    found += chunk
                    if len(found) >= SEND_LIMIT:
                        break
                return _response(answer, found[:SEND_LIMIT])
        except Transient as failure:
            raise SendError(str(failure.error), sent=sent) from failure.error

    def has_login(self, url: str) -> bool:
        """Whether credentials for *url* are known, and sent with every request to its origin."""
        return self._wallet.header(without_credentials(url)) is not None

    def scrub(self, text: str) -> str:
        """*text*, which a server wrote, without the credentials that this client sends."""
        return self._wallet.scrub(text)

    def _whole(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        limit: int,
        accept: Container[int],
        *,
        cut: bool = False,
    ) -> Response:
        headers = {name.lower(): value for name, value in headers.items()}
        if "range" in headers:  # a range of the file, not of one of its encodings
            headers.setdefault("accept-encoding", "identity")
        tries = Tries(self.settings.retries, self._closed)
        while True:
            try:
                with self._exchange(method, url, headers, accept) as answer:
                    parts: list[bytes] = []
                    room = limit
                    if method != "HEAD":
                        for chunk in answer.body():
                            parts.append(chunk[:room] if cut else chunk)
                            room -= len(chunk)
                            if cut and room <= 0:
                                break
                            if room < 0:
                                raise NetworkError(f"{redact(url)}: the answer is larger than {limit} bytes.")
                    return _response(answer, b"".join(parts))
            except Transient as failure:
                tries.failed(failure)

    def _authorized(self, url: str, headers: Mapping[str, str]) -> dict[str, str]:
        known = self._wallet.header(url)
        if known is None or "authorization" in headers:
            return dict(headers)
        return {**headers, "authorization": known}

    @contextmanager
    def _exchange(self, method: str, url: str, headers: Mapping[str, str], accept: Container[int]) -> Iterator[Answer]:
        """One try, redirects followed, statuses turned into errors."""
        first, seen = origin_of(url), {without_credentials(url)}
        while True:
            sent = self._authorized(url, headers)
            with self._try(method, url, sent) as answer:
                unknown = answer.status == 401 and "authorization" not in sent
                if unknown and self._wallet.after_refusal(url) is not None:
                    continue
                location = answer.headers.get("location")
                if answer.status not in _REDIRECTS or not location:
                    if answer.status >= 400 and answer.status not in accept:
                        self._refuse(method, url, answer)
                    yield answer
                    return
            # Credentials in a Location are the other server's idea, not the user's: dropped.
            url = without_credentials(urljoin(url, location))
            if url in seen:
                raise NetworkError(f"{redact(url)}: the server redirects in a circle.")
            if len(seen) > _MOST_REDIRECTS:
                raise NetworkError(f"{redact(url)}: more than {_MOST_REDIRECTS} redirects.")
            seen.add(url)
            if origin_of(url) != first:
                headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}

    @contextmanager
    def _try(
        self, method: str, url: str, headers: Mapping[str, str], content: Iterator[bytes] | None = None
    ) -> Iterator[Answer]:
        """One request; whatever goes wrong until its body is read becomes one of this project's errors."""
        shown, place = redact(url), origin_of(url)
        sent = {**_HEADERS, "user-agent": self.settings.user_agent, **headers}
        try:
            request = make_request(method, url, sent, content, self._timeout)
        except UnusableURLError as error:
            raise UsageError(f"{shown} is not a URL that can be fetched.") from error
        connection = self._connection(place)
        try:
            answer = Answer(without_credentials(url), connection.handle_request(request))
            self._connections.reads(connection, answer.stream)
            try:
                yield answer
            finally:
                answer.close()
        except (*_FAILURES, DecodingError) as error:
            raise _translate(error, shown, place[1], self.settings.timeout) from error
        finally:
            self._connections.give_back(place, connection)

    def _connection(self, place: Origin) -> httpcore.ConnectionInterface:
        if self._closed.is_set():
            raise NetworkError("The connection was closed.")
        host = place[1]
        if self._is_trusted(place):
            with self._lock:
                warn = host not in self._warned
                self._warned.add(host)
            if warn:
                text = f"The certificate of {host} is not verified: it is a trusted host."
                self._report(Event("warning", Stage.DOWNLOAD, text))
        return self._connections.take(place)

    def _is_trusted(self, place: Origin) -> bool:
        scheme, host, port = place
        return scheme == "https" and not self._trusted.isdisjoint({host, f"{host}:{port}", f"[{host}]:{port}", "*"})

    def _connect(self, place: Origin) -> httpcore.ConnectionInterface:
        """One connection to an origin: to trusted hosts without verification, to others with it."""
        # What httpcore makes here is not kept in its pool, which looks through all connections for each request.
        pool = httpcore.ConnectionPool(
            ssl_context=self._context(place),
            proxy=_proxy(self.settings, environment_proxy(place)),
            keepalive_expiry=EXPIRY,
        )
        scheme, host, port = place
        try:
            return pool.create_connection(httpcore.Origin(scheme.encode(), encoded_host(host), port))
        except ImportError as error:
            raise MissingExtraError("A SOCKS proxy", "socks") from error

    def _context(self, place: Origin) -> ssl.SSLContext:
        kind = "trusted" if self._is_trusted(place) else place[0]
        with self._lock:
            context = self._contexts.get(kind)
            if context is None:
                # Reading the system's certificates takes longer than a small download: not for plain http.
                context = self._contexts[kind] = tls.make_context(
                    self.settings.ca_bundle, self.settings.client_cert, verify=kind == "https"
                )
        return context

    def _refuse(self, method: str, url: str, answer: Answer) -> None:
        status, shown = answer.status, redact(url)
        reason = self.scrub("".join(letter for letter in answer.reason[:200] if letter.isprintable()))
        message = f"{shown}: {method} was answered with {status} {reason}".rstrip() + "."
        if status in (401, 403, 407):
            raise AuthError(message, status=status, reason=reason, hint=self._auth_hint(status, url))
        if status in (404, 410):
            raise NotFoundError(message, status=status, reason=reason)
        transient = status in TRANSIENT_STATUS
        error = HTTPError(message, status=status, reason=reason, retryable=transient)
        if transient:
            raise Transient(error, retry_after(answer.headers))
        raise error

    def _auth_hint(self, status: int, url: str) -> str:
        if status == 407:
            return PROXY_LOGIN
        host = origin_of(url)[1]
        if not self.has_login(url):
            return f"No credentials are known for {host}: give them in the index URL, netrc, .pypirc or keyring."
        return f"The credentials that are known for {host} were sent: check user, password and rights."


def origin_of(url: str) -> Origin:
    """The origin of an http or https URL; any other is a UsageError."""
    try:
        place = origin(url)
    except ValueError as error:
        raise UsageError(f"{url.rpartition('@')[2]!r} is not a URL: {error}.") from error
    if place[0] not in ("http", "https") or not place[1]:
        raise UsageError(f"{redact(url)} is not an http or https URL.")
    return place


def _proxy(settings: Settings, found: str | None) -> httpcore.Proxy | None:
    """The proxy of *settings*, else the one that was *found* in the environment."""
    named = settings.proxy or found
    if not named:
        return None
    address = named if "://" in named else f"http://{named}"
    try:
        scheme, host, port = origin(address)
        name = encoded_host(host)
    except ValueError:
        scheme, name = "", b""
    if scheme not in _PROXIES or not name:
        raise UsageError(f"{redact(address)} can't be used as a proxy.", hint="Give it as http://host:port.")
    login = credentials_in(address)
    return httpcore.Proxy(
        httpcore.URL(scheme=scheme, host=name, port=port or _SOCKS_PORT, target="/"),
        auth=(login[0].encode(), login[1].encode()) if login else None,
        ssl_context=tls.make_context(settings.ca_bundle, None) if scheme == "https" else None,
    )


def _response(answer: Answer, body: bytes) -> Response:
    return Response(answer.url, answer.status, answer.reason, answer.headers, body)


def _extent(answer: Answer, position: int, shown: str) -> tuple[int, int | None]:
    """Return ``(first byte, length of the whole)`` of an answer to a request from *position* on (RFC 9110, 14)."""
    content_range = answer.headers.get("content-range", "")
    unit, _, rest = content_range.partition(" ")
    span, _, whole = rest.partition("/")
    if answer.status == 416:
        if unit == "bytes" and whole == str(position):
            return position, position
        raise _shorter(shown, position)
    if answer.status == 206:
        first = span.partition("-")[0]
        if unit != "bytes" or not first.isdecimal() or int(first) > position:
            raise NetworkError(f"{shown}: the server answered a range request with {content_range[:100]!r}.")
        return int(first), int(whole) if whole.isdecimal() else None
    if answer.status != 200:
        raise NetworkError(f"{shown}: the server answered with {answer.status} instead of a file.")
    length = answer.headers.get("content-length", "")
    return 0, int(length) if length.isdecimal() else None


def _shorter(shown: str, position: int) -> IntegrityError:
    return IntegrityError(f"{shown}: the file is shorter than the {position} bytes already here.", retryable=True)


_EXAMINE = "Check host, port and proxy; 'airgap doctor' looks at each of them."


def _translate(error: Exception, shown: str, host: str, timeout: float) -> Exception:
    refused = tls.find(error)
    if refused is not None:
        return tls.explain(refused, shown, host)
    if isinstance(error, httpcore.ProxyError):
        status = str(error)[:3]
        if status == "407":
            return AuthError(
                f"{shown}: the proxy answered with 407.",
                status=407,
                hint=PROXY_LOGIN,
            )
        return Transient(NetworkError(f"{shown}: the proxy can't connect ({error}).", hint=_EXAMINE, retryable=True))
    if isinstance(error, httpcore.LocalProtocolError):
        # Its text may quote a header, and a header may be a secret.
        return NetworkError(f"{shown}: the request can't be sent as HTTP.")
    if isinstance(error, DecodingError):
        return NetworkError(f"{shown}: the answer's compression is damaged.")
    if isinstance(error, httpcore.TimeoutException):
        return Transient(NetworkError(f"{shown}: no answer within {timeout:g} seconds.", hint=_EXAMINE, retryable=True))
    if isinstance(error, httpcore.ConnectError):
        return Transient(NetworkError(f"{shown}: can't connect ({error}).", hint=_EXAMINE, retryable=True))
    return Transient(
        NetworkError(f"{shown}: the connection broke ({str(error) or type(error).__name__}).", retryable=True)
    )
