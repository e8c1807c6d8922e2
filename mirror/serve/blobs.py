"""Blobs: contents under the name of their sha256, in a folder."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Protocol

from mirror.durable import sync_folder
from mirror.errors import StorageError

#: Digests that the legacy upload API knows by name; ``blake2_256`` is BLAKE2b cut to 256 bits.
DIGESTS = ("sha256", "md5", "blake2_256")

_STALE_SECONDS = 24 * 3600


class _Hasher(Protocol):
    def update(self, data: bytes | memoryview, /) -> None: ...
    def hexdigest(self) -> str: ...


_HASHERS: Mapping[str, Callable[[], _Hasher]] = {
    "sha256": hashlib.sha256,
    "md5": partial(hashlib.md5, usedforsecurity=False),
    "blake2_256": partial(hashlib.blake2b, digest_size=32),
}
_POOL = ThreadPoolExecutor(4, thread_name_prefix="hash")
_WORTH_A_THREAD = 64 * 1024
_PIECE = 1024 * 1024


class Blobs:
    """A folder of blobs, safe for many threads and processes; made by the first write.

    A name is the proof: a file gets it only when its bytes are complete, hashed and on the disk.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, sha256: str) -> Path:
        """Where the blob is; StorageError where it is not."""
        path = self._path(sha256)
        if not path.is_file():
            raise StorageError(
                f"The blob {sha256} is missing in {self._root}.", hint="Restore it from a backup or push it again."
            )
        return path

    def has(self, sha256: str) -> bool:
        return self._path(sha256).is_file()

    def incoming(self, digests: Collection[str] = DIGESTS) -> Incoming:
        """A blob to be, whose digest is not known yet. Use it in a ``with``: without ``commit`` nothing stays.

        *digests* are computed while it is written, others of DIGESTS when they are asked for; sha256 always.
        """
        return Incoming(self._root, self._path, digests)

    def add(self, data: bytes) -> str:
        """Store *data* and return its sha256."""
        with self.incoming() as incoming:
            incoming.write(data)
            return incoming.commit()

    def sweep(self) -> None:
        """Remove what killed uploads left behind more than a day ago."""
        with _explained(self._root):
            for path in (self._root / "incoming").glob("*.part"):
                with contextlib.suppress(FileNotFoundError):
                    if path.stat().st_mtime < time.time() - _STALE_SECONDS:
                        path.unlink()

    def collect(self, keep: Collection[str]) -> tuple[int, int]:
        """Remove blobs that *keep* does not name and that are older than a day; return their number and bytes.

        A younger one may belong to an upload whose row is just being written.
        """
        count = size = 0
        with _explained(self._root):
            for path in self._all():
                with contextlib.suppress(FileNotFoundError):
                    status = path.stat()
                    if path.name not in keep and status.st_mtime < time.time() - _STALE_SECONDS:
                        path.unlink()
                        count, size = count + 1, size + status.st_size
        return count, size

    def _all(self) -> Iterator[Path]:
        return self._root.glob("??/" + "[0-9a-f]" * 64)

    def _path(self, sha256: str) -> Path:
        return self._root / sha256[:2] / sha256


class Incoming:
    """Bytes on their way to become a blob, hashed as they arrive. ``size`` is in bytes."""

    def __init__(self, root: Path, place: Callable[[str], Path], digests: Collection[str]) -> None:
        self._root = root
        self._place = place
        self._hashers = {name: _HASHERS[name]() for name in {"sha256", *digests}}
        self._hashing: Future[None] | None = None
        self.size = 0
        with _explained(root):
            folder = root / "incoming"
            folder.mkdir(parents=True, exist_ok=True)
            self.path = folder / f"{secrets.token_hex(16)}.part"
            self._stream = self.path.open("xb")

    def __enter__(self) -> Incoming:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
        self.path.unlink(missing_ok=True)

    def write(self, chunk: bytes | memoryview) -> None:
        """Append *chunk*, which must not change afterwards: it is hashed while the next one is on its way."""
        self._hashed()
        self.size += len(chunk)
        if len(chunk) < _WORTH_A_THREAD:
            self._hash(chunk)
        else:
            self._hashing = _POOL.submit(self._hash, chunk)
        with _explained(self._root):
            self._stream.write(chunk)

    def digests(self, names: Collection[str] = ("sha256",)) -> Mapping[str, str]:
        """The digests *names* of what was written so far."""
        self._hashed()
        late = [name for name in names if name not in self._hashers]
        if late:
            self._hashers |= {name: _HASHERS[name]() for name in late}
            with _explained(self._root), self.flush().open("rb", buffering=0) as stream:
                while chunk := stream.read(_PIECE):
                    for name in late:
                        self._hashers[name].update(chunk)
        return {name: self._hashers[name].hexdigest() for name in {"sha256", *names}}

    def _hash(self, chunk: bytes | memoryview) -> None:
        for hasher in self._hashers.values():
            hasher.update(chunk)

    def _hashed(self) -> None:
        """Wait for the hashing of the piece before."""
        if self._hashing is not None:
            self._hashing.result()
            self._hashing = None

    def flush(self) -> Path:
        """Make everything written so far readable at the path that is returned."""
        with _explained(self._root):
            self._stream.flush()
        return self.path

    def commit(self) -> str:
        """Make it a blob, safe against loss of power, and return its sha256."""
        sha256 = self.digests()["sha256"]
        path = self._place(sha256)
        with _explained(self._root):
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._stream.close()
            if path.exists():  # the same bytes, complete: the name says so
                return sha256
            path.parent.mkdir(exist_ok=True)
            self.path.chmod(0o444)
            self.path.replace(path)
            sync_folder(path.parent)
        return sha256


@contextlib.contextmanager
def _explained(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(f"The disk of {root} is full.", hint="Make room and upload again.") from error
        raise StorageError(f"Can't write to {root}: {error.strerror}.") from error
