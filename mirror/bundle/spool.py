"""What compressing in the background needs: a share of the memory, and a place for frames that nobody wants yet."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_COPY = 2**20


class Budget:
    """Memory that several threads share: whoever would exceed *limit* bytes waits, unless it is alone."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        with self._changed:
            while self._held and self._held + size > self._limit:
                self._changed.wait()
            self._held += size
        try:
            yield
        finally:
            with self._changed:
                self._held -= size
                self._changed.notify_all()


@dataclass(frozen=True, slots=True)
class Packed:
    """A compressed frame in a spool file; sizes in bytes."""

    spool: Spool
    offset: int
    size: int
    content: int

    def chunks(self) -> Iterator[bytes]:
        """Yield the frame's bytes."""
        for start in range(0, self.size, _COPY):
            yield self.spool.read(self.offset + start, min(_COPY, self.size - start))


class Spool:
    """An unnamed temporary file that several frames share; one thread appends, another reads."""

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - closed by release() or close()
        self._lock = threading.Lock()
        self._waiting = 0
        self.end = 0

    def write(self, data: bytes) -> None:
        with self._lock:
            self._file.seek(self.end)
            view = memoryview(data)
            while view:
                view = view[self._file.write(view) :]
            self.end += len(data)

    def read(self, offset: int, size: int) -> bytes:
        with self._lock:
            self._file.seek(offset)
            return self._file.read(size)

    def hold(self) -> None:
        """Count one more frame that somebody will read."""
        with self._lock:
            self._waiting += 1

    def release(self) -> None:
        """Count one frame less; the last one frees the space."""
        with self._lock:
            self._waiting -= 1
            if not self._waiting:
                self._file.seek(0)
                self._file.truncate()
                self.end = 0

    def close(self) -> None:
        with self._lock:
            self._file.close()
