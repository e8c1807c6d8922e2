"""Runs the application under uvicorn: in the foreground for ``airgap serve``, or in a thread."""

from __future__ import annotations

import contextlib
import ipaddress
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from mirror.config.served import ServeSettings
from mirror.errors import StorageError
from mirror.serve.access import Access
from mirror.serve.app import UPLOAD_TIMEOUT, make_app
from mirror.serve.guard import HEAD_SECONDS, impatient
from mirror.serve.home import PYPI, Home, plain_client
from mirror.serve.proxy import Connect
from mirror.serve.repository import FILE_LIMIT, LOG
from mirror.serve.users import Users
from mirror.serve.watch import SHARED_NUMBERS
from mirror.serve.workers import Link, supervise

#: Seconds that an idle connection is kept: longer than airgap's own client keeps one, so that it is the client who
#: closes, and no upload meets a connection that is just being closed.
_KEEP_ALIVE = 75
_GRACE = 5
#: For TLS 1.2: what keeps old traffic secret from who steals the key later. TLS 1.3 has nothing else.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers. ``url`` has no slash at its end."""

    url: str

    def repository_url(self, name: str) -> str:
        """Where uploads to the repository *name* go."""
        return f"{self.url}/repository/{name}/"

    def index_url(self, name: str) -> str:
        """What pip takes as ``--index-url`` for the repository *name*."""
        return f"{self.repository_url(name)}simple/"


def serve(
    home: Path,
    *,
    settings: ServeSettings,
    announce: Callable[[str], None],
    remote: str = PYPI,
    connect: Connect = plain_client,
) -> None:
    """Serve *home* until SIGINT or SIGTERM; *announce* gets the URL as soon as the server answers.

    Port 0 takes a free one. An address that is taken is a StorageError. *remote* is what the default proxy is for,
    *connect* makes the clients of proxies.
    """
    with _listening(settings) as (listener, url):
        with _opened(home, settings, remote, connect) as opened:
            opened.blobs.sweep()
            if settings.workers == 1:
                _run(_Server(_config(_app(opened, settings), settings)), listener, lambda: announce(url))
                return
        work = partial(_work, home, settings, remote, connect, listener)
        supervise(settings.workers, work, lambda: announce(url), SHARED_NUMBERS)


def _work(
    home: Path, settings: ServeSettings, remote: str, connect: Connect, listener: socket.socket, link: Link
) -> None:
    """Be one of several workers."""
    with _opened(home, settings, remote, connect) as opened:
        server = _Server(_config(_app(opened, settings), settings))

        def end() -> None:
            server.should_exit = True

        link.when_gone(end)
        _run(server, listener, link.ready)


def _run(server: _Server, listener: socket.socket, started: Callable[[], None]) -> None:
    server.when_started = started
    with _signals_end_it():
        server.run(sockets=[listener])


@contextlib.contextmanager
def _signals_end_it() -> Iterator[None]:
    """Make SIGINT and SIGTERM a normal end: uvicorn raises them once more, when it has shut down, for its caller."""
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def running(
    home: Path,
    *,
    settings: ServeSettings | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    remote: str = PYPI,
    connect: Connect = plain_client,
    file_limit: int = FILE_LIMIT,
    upload_timeout: float = UPLOAD_TIMEOUT,
) -> Iterator[Running]:
    """Serve *home* from a thread until the ``with`` block ends. Limits are in bytes and seconds."""
    settings = replace(settings or ServeSettings(), host=host, port=port)
    with _listening(settings) as (listener, url), _opened(home, settings, remote, connect) as opened:
        app = _app(opened, settings, file_limit=file_limit, upload_timeout=upload_timeout)
        server = _Server(_config(app, settings))
        started = threading.Event()
        server.when_started = started.set
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="airgap-serve", daemon=True)
        thread.start()
        try:
            while not started.wait(0.1):
                if not thread.is_alive():
                    raise StorageError(f"The server at {url} did not start.")
            yield Running(url)
        finally:
            server.should_exit = True
            thread.join()


def _opened(home: Path, settings: ServeSettings, remote: str, connect: Connect) -> Home:
    opened = Home(home, settings, remote=remote, connect=connect)
    for name in opened.names():
        opened.open(name)  # a group that contains itself, or a member that is not there, is an error now
    return opened


def _app(
    home: Home, settings: ServeSettings, *, file_limit: int = FILE_LIMIT, upload_timeout: float = UPLOAD_TIMEOUT
) -> ASGIApp:
    # Without users, whoever reaches a loopback address is the user of this machine; others are anybody.
    access = Access(
        Users(home.folder / "users.json"),
        anonymous_read=settings.anonymous_read,
        open_writes=_is_loopback(settings.host) and not settings.trusted_proxies,
    )
    return make_app(
        home,
        access=access,
        trusted_proxies=settings.trusted_proxies,
        metrics=settings.metrics,
        file_limit=file_limit,
        upload_timeout=upload_timeout,
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Server(uvicorn.Server):
    """A server that says when it answers."""

    when_started: Callable[[], None]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self.when_started()


def _config(app: ASGIApp, settings: ServeSettings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=impatient(HEAD_SECONDS),
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        proxy_headers=False,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
        ssl_ciphers=_CIPHERS,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=_GRACE,
    )


@contextlib.contextmanager
def _listening(settings: ServeSettings) -> Iterator[tuple[socket.socket, str]]:
    host, port = settings.host, settings.port
    if settings.tls_cert is not None:
        from mirror.serve.tls import check_certificates  # brings the HTTP client with it

        for note in check_certificates(settings.tls_cert, settings.tls_key):
            LOG.warning(note)
    scheme = "http" if settings.tls_cert is None else "https"
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        raise StorageError(
            f"Can't listen on {host}, port {port}: {error.strerror or error}.",
            hint="Choose another port, or 0 for any that is free.",
        ) from error
    with listener:
        shown = f"[{host}]" if ":" in host else host
        yield listener, f"{scheme}://{shown}:{listener.getsockname()[1]}"
