"""Which Authorization header goes to which origin."""

from __future__ import annotations

import base64
import threading
from typing import Protocol

from mirror.urls import credentials as userinfo
from mirror.urls import origin

Origin = tuple[str, str, int]


class Credentials(Protocol):
    """Finds ``(user, password)`` for a URL: configuration, netrc, keyring. Asked once per origin."""

    def __call__(self, url: str) -> tuple[str, str] | None: ...


class Wallet:
    """Credentials by origin (RFC 6454), sent before a server asks: Nexus answers strangers with 404, not with 401.

    Those that a URL carries win over what ``ask`` finds, and hold for the whole origin: an index page's links carry
    none. Thread-safe.
    """

    def __init__(self, ask: Credentials | None) -> None:
        self._ask = ask
        self._known: dict[Origin, str | None] = {}
        self._lock = threading.Lock()

    def header(self, url: str) -> str | None:
        """The Authorization header for *url*, or None."""
        place = origin(url)
        given = userinfo(url)
        # One lock for all origins: a keyring that asks its user must not ask twice.
        with self._lock:
            if given is not None:
                self._known[place] = basic(*given)
            elif place not in self._known:
                found = self._ask(url) if self._ask is not None else None
                self._known[place] = basic(*found) if found is not None else None
            return self._known[place]


def basic(user: str, password: str) -> str:
    """The value of an Authorization header (RFC 7617, UTF-8)."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
