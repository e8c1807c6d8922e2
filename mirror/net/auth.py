"""Which Authorization header goes to which origin."""

from __future__ import annotations

import base64
import threading
from typing import Protocol

from mirror.urls import credentials as userinfo
from mirror.urls import origin, without_credentials

Origin = tuple[str, str, int]


class Credentials(Protocol):
    """Finds ``(user, password)`` for a URL: configuration, netrc, keyring.

    Asked once per origin, and once more with *refused* where it found none and the server answered 401: what takes
    long or asks people belongs there.
    """

    def __call__(self, url: str, *, refused: bool = False) -> tuple[str, str] | None: ...


class Wallet:
    """Credentials by origin (RFC 6454), sent before a server asks: Nexus answers strangers with 404, not with 401.

    Those that a URL carries win over what ``ask`` finds, and hold for the whole origin: an index page's links carry
    none. Thread-safe.
    """

    def __init__(self, ask: Credentials | None) -> None:
        self._ask = ask
        self._known: dict[Origin, str | None] = {}
        self._refused: set[Origin] = set()
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

    def after_refusal(self, url: str) -> str | None:
        """The Authorization header to try now that *url* was answered with 401 without one; None if there is none."""
        place = origin(url)
        with self._lock:
            if self._known.get(place) is None and place not in self._refused and self._ask is not None:
                self._refused.add(place)
                found = self._ask(without_credentials(url), refused=True)
                self._known[place] = basic(*found) if found is not None else None
            return self._known.get(place)

    def scrub(self, text: str) -> str:
        """*text*, which a server wrote, without the credentials that it may have been sent."""
        with self._lock:
            known = [value for value in self._known.values() if value is not None]
        for value in known:
            token = value.rpartition(" ")[2]
            password = base64.b64decode(token).decode("utf-8", "replace").partition(":")[2]
            for secret in (token, password):
                text = text.replace(secret, "****") if secret else text
        return text


def basic(user: str, password: str) -> str:
    """The value of an Authorization header (RFC 7617, UTF-8)."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
