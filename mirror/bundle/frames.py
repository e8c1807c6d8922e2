"""zstd frames: the seek table, and compressing projects in the background. Knows nothing of the manifest.

The archive is in zstd's seekable format: independent frames, each with its content size and checksum, then a skippable
frame with the size of every other one. What a project's frames hold depends on its files only, so :class:`Frames` may
compress a project as soon as its files are in the store, long before the manifest can be written.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import zstandard

from mirror.bundle import manifest, tar
from mirror.bundle.spool import Budget, Packed, Spool
from mirror.errors import IntegrityError, StorageError
from mirror.store import Store

#: Bytes that are read and compressed at a time: small enough to stay in the processor's cache.
CHUNK = 2**18

# Wheels are compressed already. Alone, one takes 0.993 of its size at level -1 and 0.987 at level 2, which takes twice
# the time. What neighbours share, long-distance matching finds: 1 is within 0.1 % of 2 in three quarters of the time.
_LEVEL_ALONE, _LEVEL_TOGETHER = -1, 1
# Twice the window finds 0.03 % more in the sets that were measured, and takes twice the memory at both ends.
_OWN_WINDOW_LOG = 26
_MIN_WINDOW_LOG = 20
# A spool file takes no further frame once it has grown to this, so that its space is free again soon after.
_SPOOL_LIMIT = 2**28
_PLATFORM = re.compile(r"(manylinux|musllinux|macosx|win|linux)(?:_?\d+_\d+|\d+(?=_))?_?(.*)\Z")


def archive_order(filename: str) -> tuple[str, str, str]:
    """Sort key of a project's files in their frame: by platform, then by name.

    Wheels for several Pythons on one platform share most of their members, those for different platforms little. Side
    by side, a window of little more than one file's size is enough: 12 numpy wheels take 0.49 of their size in 32 MB
    that take 0.84 in it when sorted by name.
    """
    if not filename.endswith(".whl"):
        return "", "", filename
    platform = filename[:-4].rpartition("-")[2].rpartition(".")[2]
    found = _PLATFORM.match(platform)
    return (found[1], found[2], filename) if found else (platform, "", filename)


def window_log(sizes: Sequence[int]) -> int | None:
    """The window (as a power of two) in which neighbours of these sizes find each other; None for a single file."""
    if len(sizes) < 2:
        return None
    distance = max(sizes[:-1]) * 9 // 8
    return max(_MIN_WINDOW_LOG, min(distance.bit_length(), _OWN_WINDOW_LOG))


@dataclass(frozen=True, slots=True)
class _Job:
    files: tuple[tuple[str, str, int], ...]
    future: Future[list[Packed]]

    def drop(self) -> None:
        """Stop it, or free its frames when they are made: nobody will take them."""
        self.future.add_done_callback(_release)
        self.future.cancel()


class Frames(AbstractContextManager["Frames"]):
    """Compresses projects into frames, in background threads; a context manager.

    :meth:`start` a project when all its files are in *store*; nothing is lost by never starting it, since
    :meth:`take` does what was not begun, without a detour. What was begun waits in unnamed files in *folder*, where the
    bundle will be written, too: it may need as much space there as the bundle itself, until that is written.
    """

    def __init__(self, store: Store, folder: Path, *, threads: int = 2) -> None:
        self._store = store
        self._folder = folder
        self._executor = ThreadPoolExecutor(threads, "compress")
        self._budget = Budget(2**_OWN_WINDOW_LOG)
        self._jobs: dict[str, _Job] = {}
        self._lock = threading.Lock()
        self._idle: list[Spool] = []
        self._spools: list[Spool] = []
        self._stop = threading.Event()

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self, project: str, files: Iterable[tuple[str, str, int]]) -> None:
        """Begin to compress *project*, whose files are ``(filename, sha256, size)`` and all in the store.

        Starting it again with the same files does nothing; with others, it is compressed again; and after the end
        nothing is begun any more. Never raises for what goes wrong in the background: :meth:`take` does.
        """
        arranged = _arranged(files)
        with self._lock:
            if self._stop.is_set():  # a download came to its end meanwhile
                return
            job = self._jobs.get(project)
            if job is not None and job.files == arranged:
                return
            if job is not None:
                job.drop()
            self._jobs[project] = _Job(arranged, self._executor.submit(self._compress, arranged))

    def take(self, project: str, files: Iterable[tuple[str, str, int]]) -> Iterator[tuple[int, Iterator[bytes]]]:
        """Yield the frames of *project*: how many bytes each holds, and its own, to be read before the next one comes.

        Raises a StorageError where a file can't be read or a frame not be kept, an IntegrityError where a file
        is not what its digest says.
        """
        wanted = _arranged(files)
        with self._lock:
            job = self._jobs.pop(project, None)
        if job is not None and job.files != wanted:
            job.drop()
            job = None
        # Nobody has begun: this thread has nothing better to do.
        if job is None or job.future.cancel():
            yield from self._compressed(wanted)
            return
        try:
            packed = job.future.result()
        except CancelledError:
            raise StorageError("Stopped while compressing.") from None
        for frame in packed:
            yield frame.content, frame.chunks()
            frame.spool.release()

    def close(self) -> None:
        """Stop at the next chunk and drop what was not taken."""
        with self._lock:
            self._stop.set()
        self._executor.shutdown(wait=True, cancel_futures=True)
        for spool in self._spools:
            spool.close()
        self._spools.clear()

    def _compressed(self, files: tuple[tuple[str, str, int], ...]) -> Iterator[tuple[int, Iterator[bytes]]]:
        """Yield each frame as :meth:`take` does, while it is made."""
        log = window_log([size for _, _, size in files])
        with self._budget.hold(2**log if log else 0):
            size = sum(tar.member_size(f"packages/{name}", size) for name, _, size in files)
            stream = _Pieces(self._members(files))
            for content in manifest.cut(size):
                yield content, compress(stream.take(content), content, log)
            stream.finish()

    def _compress(self, files: tuple[tuple[str, str, int], ...]) -> list[Packed]:
        """Put the frames into a spool."""
        spool: Spool | None = None
        try:
            spool = self._spool()
            return [self._frame(chunks, content, spool) for content, chunks in self._compressed(files)]
        except OSError as error:
            raise StorageError(f"Can't keep compressed files in {self._folder}: {error.strerror or error}.") from error
        finally:
            if spool is not None:
                spool.release()
                with self._lock:
                    if spool.end < _SPOOL_LIMIT:
                        self._idle.append(spool)

    def _frame(self, chunks: Iterable[bytes], content: int, spool: Spool) -> Packed:
        offset = spool.end
        for data in chunks:
            if self._stop.is_set():
                raise StorageError("Stopped while compressing.")
            spool.write(data)
        spool.hold()
        return Packed(spool, offset, spool.end - offset, content)

    def _spool(self) -> Spool:
        """A spool that nobody else writes to, held until the caller's frames are complete."""
        with self._lock:
            if self._idle:
                spool = self._idle.pop()
            else:
                spool = Spool(self._folder)
                self._spools.append(spool)
        spool.hold()
        return spool

    def _members(self, files: Iterable[tuple[str, str, int]]) -> Iterator[bytes | memoryview]:
        buffer = memoryview(bytearray(CHUNK))
        for filename, sha256, size in files:
            yield tar.header(f"packages/{filename}", size)
            left = size
            digest = hashlib.sha256()
            try:
                with self._store.open(sha256) as file:
                    while left and (count := file.readinto(buffer[: min(left, CHUNK)])):  # type: ignore[attr-defined]
                        left -= count
                        digest.update(buffer[:count])
                        yield buffer[:count]
                    # It was right when it was stored; disks forget.
                    sound = not left and not file.read(1) and digest.hexdigest() == sha256
            except OSError as error:
                where = f"{filename} in the store {self._store.root}"
                raise StorageError(f"{where} can't be read: {error.strerror or error}.") from error
            if not sound:
                raise IntegrityError(
                    f"{filename} in the store {self._store.root} is damaged.",
                    hint="'airgap cache verify' drops damaged files; then run this again to fetch them anew.",
                )
            yield bytes(tar.padding(size))


def compress(
    chunks: Iterable[bytes | memoryview], content: int, log: int | None = None, level: int | None = None
) -> Iterator[bytes]:
    """Yield one zstd frame of *content* bytes, with content size and checksum; *log* turns on long-distance matching.

    Without a *level*, that of wheels. The same bytes come out for the same bytes, *log* and *level*, however they are
    cut into chunks.
    """
    if level is None:
        level = _LEVEL_TOGETHER if log else _LEVEL_ALONE
    options = {"window_log": log, "enable_ldm": True} if log else {}
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level, source_size=content, write_checksum=True, write_content_size=True, **options
    )
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj(size=content)
    for chunk in chunks:
        if data := stream.compress(chunk):
            yield data
    yield stream.flush()


class _Pieces:
    """A stream of chunks, taken in pieces of exact size."""

    def __init__(self, chunks: Iterator[bytes | memoryview]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def take(self, size: int) -> Iterator[bytes | memoryview]:
        while size:
            chunk = self._rest or memoryview(next(self._chunks))
            self._rest = chunk[size:]
            chunk = chunk[:size]
            size -= len(chunk)
            yield chunk

    def finish(self) -> None:
        """Let the source make its last checks."""
        for chunk in self._chunks:
            if chunk:
                raise IntegrityError("A file grew while it was compressed.")


def _arranged(files: Iterable[tuple[str, str, int]]) -> tuple[tuple[str, str, int], ...]:
    return tuple(sorted(files, key=lambda file: archive_order(file[0])))


def _release(future: Future[list[Packed]]) -> None:
    if not future.cancelled() and not future.exception():
        for packed in future.result():
            packed.spool.release()
