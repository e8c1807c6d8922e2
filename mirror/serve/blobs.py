"""Blobs: contents under the name of their sha256. Here in a folder; :mod:`mirror.serve.bucket` has those in S3."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from mirror.durable import permit, sync_folder
from mirror.errors import StorageError

#: Digests that the legacy upload API knows by name; ``blake2_256`` is BLAKE2b cut to 256 bits.
DIGESTS = ("sha256", "md5", "blake2_256")

#: Nothing younger is collected: an upload may not have come to its row yet.
STALE_SECONDS = 24 * 3600


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


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob that is there. ``modified`` is in seconds since 1970; ``path`` is None where it is no local file.

    ``read`` yields the bytes from a first to before a last one, in pieces.
    """

    sha256: str
    size: int
    modified: float
    path: Path | None
    read: Callable[[int, int], Iterator[bytes]]

    def data(self) -> bytes:
        """All of it, for what is small."""
        return b"".join(self.read(0, self.size))


class Blobs(Protocol):
    """Blobs, safe for many threads and processes, and in a bucket also for many nodes.

    A name is the proof: a blob gets it only when its bytes are complete, hashed and safe. StorageError where the place
    does not let it work.
    """

    def get(self, sha256: str) -> Blob:
        """The blob; StorageError where it is not."""
        ...

    def has(self, sha256: str) -> bool: ...

    def incoming(self, digests: Collection[str] = DIGESTS) -> Incoming:
        """A blob to be, whose digest is not known yet. Use it in a ``with``: without ``commit`` nothing stays.

        *digests* are computed while it is written, others of DIGESTS when they are asked for; sha256 always.
        """
        ...

    def add(self, data: bytes) -> str:
        """Store *data* and return its sha256."""
        ...

    def sweep(self) -> None:
        """Remove what killed uploads left behind more than a day ago."""
        ...

    def stale(self) -> Iterator[str]:
        """The digests of the blobs that are older than a day."""
        ...

    def remove_stale(self, sha256: str) -> int | None:
        """Remove a blob that still is older than a day and return its bytes; None where there is none."""
        ...

    def check(self) -> None:
        """Raise a StorageError where the place can't be reached."""
        ...


class FolderBlobs:
    """Blobs in the folder *root*, which the first write makes."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def get(self, sha256: str) -> Blob:
        path = self._path(sha256)
        try:
            status = path.stat()
        except OSError:
            raise StorageError(
                f"The blob {sha256} is missing in {self._root}.", hint="Restore it from a backup or push it again."
            ) from None
        return Blob(sha256, status.st_size, status.st_mtime, path, partial(read_file, path))

    def has(self, sha256: str) -> bool:
        return self._path(sha256).is_file()

    def incoming(self, digests: Collection[str] = DIGESTS) -> Incoming:
        return Incoming(self._root / "incoming", self._keep, digests)

    def add(self, data: bytes) -> str:
        with self.incoming() as incoming:
            incoming.write(data)
            return incoming.commit()

    def sweep(self) -> None:
        sweep(self._root / "incoming")

    def stale(self) -> Iterator[str]:
        with _explained(self._root):
            for path in self._root.glob("??/" + "[0-9a-f]" * 64):
                with contextlib.suppress(FileNotFoundError):
                    if path.stat().st_mtime < time.time() - STALE_SECONDS:
                        yield path.name

    def remove_stale(self, sha256: str) -> int | None:
        path = self._path(sha256)
        with _explained(self._root), contextlib.suppress(FileNotFoundError):
            status = path.stat()
            if status.st_mtime < time.time() - STALE_SECONDS:
                path.unlink()
                return status.st_size
        return None

    def check(self) -> None:
        with _explained(self._root), contextlib.suppress(FileNotFoundError):  # nothing was written yet
            self._root.stat()

    def _keep(self, part: Path, sha256: str, size: int) -> None:
        path = self._path(sha256)
        if path.exists():  # the same bytes, complete: the name says so
            return
        path.parent.mkdir(exist_ok=True)
        permit(part, 0o444)
        part.replace(path)
        sync_folder(path.parent)

    def _path(self, sha256: str) -> Path:
        return self._root / sha256[:2] / sha256


class Incoming(AbstractContextManager["Incoming"]):
    """Bytes on their way to become a blob, hashed as they arrive and kept in *folder*. ``size`` is in bytes.

    *keep* makes a blob of the complete file: it gets the file's path, its sha256 and its size.
    """

    def __init__(self, folder: Path, keep: Callable[[Path, str, int], None], digests: Collection[str]) -> None:
        self._root = folder
        self._keep = keep
        self._hashers = {name: _HASHERS[name]() for name in {"sha256", *digests}}
        self._hashing: Future[None] | None = None
        self.size = 0
        with _explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self.path = folder / f"{secrets.token_hex(16)}.part"
            self._stream = self.path.open("xb")

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # on a full disk it fails once more to write what it still holds
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
        with _explained(self._root):
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._stream.close()
            self._keep(self.path, sha256, self.size)
        return sha256


def read_file(path: Path, start: int, end: int) -> Iterator[bytes]:
    """Yield the bytes of the file at *path* from *start* to before *end*."""
    with path.open("rb", buffering=0) as stream:
        stream.seek(start)
        while start < end and (chunk := stream.read(min(_PIECE, end - start))):
            start += len(chunk)
            yield chunk


def sweep(folder: Path) -> None:
    """Remove what killed uploads left in *folder* more than a day ago."""
    with _explained(folder):
        for path in folder.glob("*.part"):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < time.time() - STALE_SECONDS:
                    path.unlink()


@contextlib.contextmanager
def _explained(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(f"The disk of {root} is full.", hint="Make room and upload again.") from error
        raise StorageError(f"Can't write to {root}: {error.strerror}.") from error
