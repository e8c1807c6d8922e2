"""Work that many ask for at once and that is done once: answers of a remote, and files on their way from it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Hashable
from concurrent.futures import Future
from pathlib import Path
from typing import Generic, TypeVar

import anyio.to_thread
from starlette.concurrency import iterate_in_threadpool

from mirror.serve.blobs import Blob

T = TypeVar("T")

_PIECE = 256 * 1024


class Once(Generic[T]):
    """Runs a function for a key once at a time; whoever asks meanwhile gets the same result or error."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[Hashable, Future[T]] = {}

    def __call__(self, key: Hashable, work: Callable[[], T]) -> T:
        with self._lock:
            future = self._running.get(key)
            first = future is None
            if future is None:
                future = self._running[key] = Future()
        if first:
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001 - whoever waits must see it too
                future.set_exception(error)
            finally:
                with self._lock:
                    del self._running[key]
        return future.result()


class Flight:
    """A file that is being stored, readable up to where it has come. ``size`` is the promised one, in bytes.

    One thread calls ``grown`` and at last ``landed`` or ``failed``; any number of readers follow. The last bytes are
    handed out only after the digest was checked: nobody gets a whole file that is not what the index promised.
    """

    def __init__(self, size: int | None) -> None:
        self.size = size
        self._lock = threading.Lock()
        self._wake: list[Callable[[], None]] = []
        self._growing: Path | None = None
        self._available = 0
        self._done: Future[Blob] = Future()

    def grown(self, path: Path, available: int) -> None:
        """The first *available* bytes can be read at *path*."""
        with self._lock:
            self._growing, self._available = path, available
        self._call()

    def landed(self, blob: Blob) -> None:
        """The file is complete, checked, and this *blob*."""
        self._done.set_result(blob)
        self._call()

    def failed(self, error: BaseException) -> None:
        self._done.set_exception(error)
        self._call()

    async def begun(self) -> Blob | None:
        """Wait for the first bytes, or raise why there are none; the blob if it is complete already."""
        async with contextlib.aclosing(self._news()) as news:
            async for _ in news:
                if self._done.done():
                    return self._done.result()
                if self._available:
                    break
        return None

    async def stored(self) -> Blob:
        """Wait until the file is complete and return it, or raise why it is not."""
        async with contextlib.aclosing(self._news()) as news:
            async for _ in news:
                if self._done.done():
                    break
        return self._done.result()

    async def follow(self) -> AsyncIterator[bytes]:
        """Yield the file's bytes as they come; raises, with the last of them missing, where it fails."""
        position = 0
        async with contextlib.AsyncExitStack() as stack:
            news = await stack.enter_async_context(contextlib.aclosing(self._news()))
            file = None
            async for _ in news:
                finished = self._done.done()
                with self._lock:
                    path, available = self._growing, self._available
                blob = self._done.result() if finished else None
                if blob is not None and file is None:
                    async for piece in iterate_in_threadpool(blob.read(position, blob.size)):
                        yield piece
                    return
                if blob is None and sys.platform == "win32":
                    continue  # a file that is open there can't get its final name
                if file is None:
                    try:
                        file = stack.enter_context(path.open("rb", buffering=0)) if path else None
                    except FileNotFoundError:  # it has just got its final place
                        continue
                if file is None:
                    continue
                # One byte stays behind until the digest is known to be right.
                while finished or position < available - 1:
                    room = _PIECE if finished else min(_PIECE, available - 1 - position)
                    piece = await anyio.to_thread.run_sync(file.read, room)
                    if not piece:
                        return
                    position += len(piece)
                    yield piece

    async def _news(self) -> AsyncGenerator[None, None]:
        """Yield now, and again whenever something has changed."""
        loop, changed = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
                loop.call_soon_threadsafe(changed.set)

        with self._lock:
            self._wake.append(wake)
        try:
            while True:
                changed.clear()
                yield
                await changed.wait()
        finally:
            with self._lock:
                self._wake.remove(wake)

    def _call(self) -> None:
        with self._lock:
            waiting = list(self._wake)
        for wake in waiting:
            wake()
