"""A request's body from a client that may stall: no request holds a connection for as long as it likes."""

from __future__ import annotations

import contextlib
import time
from http import HTTPStatus

import anyio
from starlette.requests import ClientDisconnect, Request

from mirror.serve.upload import RefusedError

#: Bytes a second, on average, once the timeout has passed. A modem from 1998 is faster.
_SLOWEST = 1024


class Body:
    """The pieces of a request's body; a RefusedError where none comes for *timeout* seconds, or too few for long."""

    def __init__(self, request: Request, timeout: float) -> None:
        self._pieces = request.stream()
        self._timeout = timeout
        self._waited = 0.0
        self._received = 0

    def __aiter__(self) -> Body:
        return self

    async def __anext__(self) -> bytes:
        began = time.monotonic()
        try:
            with anyio.fail_after(self._timeout):
                piece = await anext(self._pieces)
        except TimeoutError:
            raise _too_slow(f"Nothing arrived for {self._timeout:g} seconds.") from None
        # Only the waiting counts: what this server takes to hash and to write is not the client's fault.
        self._waited += time.monotonic() - began
        self._received += len(piece)
        if self._waited > self._timeout and self._received < self._waited * _SLOWEST:
            raise _too_slow(f"Only {self._received} bytes arrived in {self._waited:.0f} seconds.")
        return piece

    async def drain(self, limit: int) -> None:
        """Take and drop what still comes, at most *limit* bytes and for as long as one piece may take."""
        with anyio.move_on_after(self._timeout), contextlib.suppress(ClientDisconnect):
            async for piece in self._pieces:
                limit -= len(piece)
                if limit < 0:
                    return


def _too_slow(message: str) -> RefusedError:
    return RefusedError(message, status=HTTPStatus.REQUEST_TIMEOUT)
