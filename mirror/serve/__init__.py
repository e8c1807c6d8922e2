"""Embedded repositories: what ``airgap serve`` offers over HTTP, and ``airgap push`` writes to without a server.

This module stays light; what it offers is imported on first use and needs the extra ``serve``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mirror.errors import MissingExtraError

if TYPE_CHECKING:
    from mirror.config.served import Served, ServeSettings
    from mirror.net import Client
    from mirror.serve.home import Home
    from mirror.serve.publisher import EmbeddedPublisher
    from mirror.serve.server import Running
    from mirror.serve.users import Users

#: Exists in every home, also before anything was written to it.
DEFAULT_HOSTED = "pypi-hosted"

_EXTRA = frozenset({"anyio", "prometheus_client", "python_multipart", "sqlalchemy", "starlette", "uvicorn"})


def repository_names(home: Path, settings: ServeSettings | None = None) -> list[str]:
    """The names of the repositories in *home* that take uploads, sorted. Nothing is created.

    *settings* are those of ``airgap.toml``, here and below.
    """
    with open_home(home, settings) as opened:
        return opened.writable_names()


def open_home(home: Path, settings: ServeSettings | None = None, *, remote: str | None = None) -> Home:
    """Open *home* to look at its repositories or to change them; a context manager."""
    with _extra_needed():
        from mirror.serve.home import NO_SETTINGS, PYPI, Home
    return Home(home, settings or NO_SETTINGS, remote=remote or PYPI)


def open_users(home: Path) -> Users:
    """The users of the repositories in *home*."""
    with _extra_needed():
        from mirror.serve.users import Users
    return Users(home / "users.json")


def embedded_publisher(
    home: Path, name: str = DEFAULT_HOSTED, settings: ServeSettings | None = None
) -> EmbeddedPublisher:
    """Open the hosted repository *name* in *home* for a push without a server; close it, or use it in a ``with``.

    Raises ConfigError where there is no such repository, MissingExtraError without the extra ``serve``.
    """
    with _extra_needed():
        from mirror.serve.publisher import EmbeddedPublisher
    return EmbeddedPublisher(open_home(home, settings), name)


def running(
    home: Path, *, settings: ServeSettings | None = None, host: str = "127.0.0.1", port: int = 0
) -> AbstractContextManager[Running]:
    """Serve *home* from a thread for as long as the ``with`` block lasts; port 0 is a free one. See ``.url``."""
    with _extra_needed():
        from mirror.serve.server import running as run
    return run(home, settings=settings, host=host, port=port)


def serve(
    home: Path,
    *,
    settings: ServeSettings,
    announce: Callable[[str], None],
    remote: str,
    connect: Callable[[Served], Client],
) -> None:
    """Serve *home* until SIGINT or SIGTERM. *announce* is called once with the server's URL when it answers.

    *remote* is the index that the default proxy is for; *connect* makes the HTTP clients of proxies.
    """
    with _extra_needed():
        from mirror.serve.server import serve as run
    run(home, settings=settings, announce=announce, remote=remote, connect=connect)


@contextmanager
def _extra_needed() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        raise MissingExtraError("An embedded repository", "serve") from error
