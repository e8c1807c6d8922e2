"""What stands before every request: framing that two servers may read differently, and clients that never ask."""

from __future__ import annotations

import asyncio
import socket
from http import HTTPStatus
from typing import Any

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.auto import AutoHTTPProtocol

#: Seconds within which a request's head must be complete.
HEAD_SECONDS = 30.0

_NOSNIFF = b"x-content-type-options", b"nosniff"


class Guard:
    """Refuses a request with two lengths (RFC 9112, 6.1): a proxy before this server may have believed the other one.

    It also lets no browser guess a type: what is served are other people's files.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        names = {name for name, _ in scope["headers"]}

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start" and _NOSNIFF not in message["headers"]:
                message = {**message, "headers": [*message["headers"], _NOSNIFF]}
            await send(message)

        if {b"transfer-encoding", b"content-length"} <= names:
            text = "400 A request has Content-Length or Transfer-Encoding, never both.\n"
            refused = PlainTextResponse(text, HTTPStatus.BAD_REQUEST, {"connection": "close"})
            await refused(scope, receive, sent)
            return
        await self._app(scope, receive, sent)


def impatient(seconds: float) -> type[asyncio.Protocol]:
    """The protocol of uvicorn, but a connection is closed whose request has not a complete head within *seconds*."""

    class Impatient(AutoHTTPProtocol):  # type: ignore[misc, valid-type]  # which class that is depends on what is installed
        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            connection = transport.get_extra_info("socket")
            if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
                # asyncio does this for sockets that were made for TCP by name. Without it, a short answer of two
                # pieces waits 40 ms for the client to confirm the first.
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._wait()

        def data_received(self, data: bytes) -> None:
            if self._deadline is None and self._idle():
                self._wait()
            super().data_received(data)
            if not self._idle():
                self._stop_waiting()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)

        def _idle(self) -> bool:
            return self.cycle is None or self.cycle.response_complete

        def _wait(self) -> None:
            self._deadline = self.loop.call_later(seconds, self._give_up)

        def _stop_waiting(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def _give_up(self) -> None:
            self._deadline = None
            if self._idle() and not self.transport.is_closing():
                self.transport.close()

    return Impatient
