"""Connections that wait to be used again, and the proxies that they go through."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from urllib.request import getproxies, proxy_bypass

from httpcore import ConnectionInterface, NetworkStream

Origin = tuple[str, str, int]

#: Seconds after which a connection that nobody used is not used again.
EXPIRY = 30.0


class Connections:
    """Connections by origin, each lent to one request at a time; safe for threads.

    *make* makes a connection for an origin, which opens with its first request; at most *keep* wait for each.
    """

    def __init__(self, make: Callable[[Origin], ConnectionInterface], keep: int) -> None:
        self._make = make
        self._keep = keep
        self._waiting: dict[Origin, list[ConnectionInterface]] = {}
        #: With what each reads an answer's body from, as soon as that is known.
        self._lent: dict[ConnectionInterface, NetworkStream | None] = {}
        self._lock = threading.Lock()

    def take(self, place: Origin) -> ConnectionInterface:
        """The connection to *place* that was used last, or a new one; to be given back."""
        while (found := self._waits(place)) is not None and found.has_expired():
            found.close()
        found = found or self._make(place)
        with self._lock:
            self._lent[found] = None
        return found

    def _waits(self, place: Origin) -> ConnectionInterface | None:
        with self._lock:
            waiting = self._waiting.get(place)
            return waiting.pop() if waiting else None

    def reads(self, connection: ConnectionInterface, stream: NetworkStream | None) -> None:
        """The answer's headers are there, and its body will come from *stream*."""
        with self._lock:
            if connection in self._lent:
                self._lent[connection] = stream

    def give_back(self, place: Origin, connection: ConnectionInterface) -> None:
        """Its request is over, well or not: what became of the connection, it knows itself."""
        with self._lock:
            known = connection in self._lent
            self._lent.pop(connection, None)
            waiting = self._waiting.setdefault(place, [])
            if known and connection.is_available() and len(waiting) < self._keep:
                waiting.append(connection)
                return
        connection.close()

    def hang_up(self) -> None:
        """End all that is being read: whoever waits for more gets an error at once."""
        with self._lock:
            streams = [stream for stream in self._lent.values() if stream is not None]
        for stream in streams:
            # Closing it would wake nobody who waits in it.
            with suppress(OSError):
                stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close all of them, also those that are in use: whoever reads an answer gets an error."""
        self.hang_up()
        with self._lock:
            found = [*self._lent, *(each for waiting in self._waiting.values() for each in waiting)]
            self._lent.clear()
            self._waiting.clear()
        for connection in found:
            connection.close()


def environment_proxy(place: Origin) -> str | None:
    """The proxy that the environment (or the system, on macOS and Windows) has for *place*, as pip finds it; or None.

    NO_PROXY holds hosts, domains, ``host:port``, networks such as ``10.0.0.0/8``, or ``*``.
    """
    scheme, host, port = place
    known = getproxies()
    proxy = known.get(scheme) or known.get("all")
    if not proxy or proxy_bypass(host) or proxy_bypass(f"{host}:{port}") or _in_network(host, known.get("no", "")):
        return None
    return proxy


def _in_network(host: str, excluded: str) -> bool:
    networks = [word.strip() for word in excluded.split(",") if "/" in word]
    if not networks:
        return False
    from ipaddress import ip_address, ip_network

    with suppress(ValueError):
        address = ip_address(host)
        for network in networks:
            with suppress(ValueError):
                if address in ip_network(network, strict=False):
                    return True
    return False
