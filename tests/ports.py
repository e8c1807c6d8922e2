"""Ports of this machine for servers that a test starts by number, and one that nobody listens on."""

from __future__ import annotations

import functools
import secrets
import socket
from contextlib import suppress

HOST = "127.0.0.1"
# Below those that systems hand out to whoever asks for any port, as every client does: a port out of those that is
# free now may be some connection's own before the server has started.
_FIRST, _BEHIND = 20_000, 32_000


def free_port() -> int:
    """A port for a server that is about to start."""
    while True:
        port = _FIRST + secrets.randbelow(_BEHIND - _FIRST)
        with suppress(OSError), socket.create_server((HOST, port)):
            return port


def closed_port() -> int:
    """A port that refuses connections for as long as this process runs."""
    return int(_bound().getsockname()[1])


@functools.cache
def _bound() -> socket.socket:
    """A socket that has a port of its own and never listens."""
    found = socket.socket()
    found.bind((HOST, 0))
    return found
