"""The content-addressed store: blobs named by their SHA-256, half-received files, and small notes.

::

    files/ab/<sha256>                      a whole file, verified, never changed
    part/<sha256 of key>.part, .lock       a file on its way in, and who is writing it
    notes/<namespace>/ab/<sha256 of key>   a cached value behind its own digest
    lock                                   shared by who uses the store, exclusive for who drops blobs

A name below ``files/`` is the proof that the bytes are complete and on the disk: a blob is written beside, hashed while
it is written, synced, and only then renamed. Many processes may use one store at once.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mirror.durable import permit, sync_folder, try_lock
from mirror.errors import HashMismatchError, IntegrityError, StorageError
from mirror.models import Hashes

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

NO_HASHES = Hashes()
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_NAMESPACE = re.compile(r"[a-z0-9][a-z0-9-]*\Z")
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
#: Bytes that are hashed and written in one piece: few hand-overs between threads, yet still in the processor's cache.
_BLOCK = 256 * 1024
_DIGEST_SIZE = 32
_PLACES = 2**20
#: Seconds after which a temporary file of a killed process may go.
_STALE = 3600.0


@dataclass(frozen=True, slots=True)
class Blob:
    """A file in the store; ``size`` is in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A blob as it lies there; ``size`` is in bytes, ``received`` in seconds since the epoch."""

    sha256: str
    size: int
    received: float


@dataclass(frozen=True, slots=True)
class Usage:
    """How many ``blobs``, and the bytes of blobs, half-received files and notes."""

    blobs: int
    size: int
    parts: int
    notes: int


@dataclass(frozen=True, slots=True)
class Collected:
    """How many ``blobs`` were dropped, and the bytes ``freed`` by that; ``leftovers`` are bytes of killed runs."""

    blobs: int
    freed: int
    leftovers: int


class Store:
    """A folder of blobs; made at the first write. Every failure of the disk is a :class:`StorageError`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._files = root / "files"
        self._part = root / "part"
        self._notes = root / "notes"
        self._lock = threading.Lock()
        self._users = 0
        self._unsynced: set[Path] = set()

    def path(self, sha256: str) -> Path:
        """Where the blob is; a StorageError where it isn't."""
        path = self._blob(sha256)
        if not path.is_file():
            raise StorageError(f"The store {self.root} has no file with the SHA-256 {sha256[:64]}.")
        return path

    def has(self, sha256: str) -> bool:
        return self._blob(sha256).is_file()

    def open(self, sha256: str) -> BinaryIO:
        path = self.path(sha256)
        with _disk(path):
            return path.open("rb")

    def size(self, sha256: str) -> int:
        """Bytes."""
        return self.path(sha256).stat().st_size

    def receive(
        self,
        key: str,
        *,
        expected: Hashes = NO_HASHES,
        size: int | None = None,
        stop: threading.Event | None = None,
    ) -> Receiver:
        """Open the way in for the file that *key* (any text) names.

        What a killed run left is hashed again and continued from ``offset``. Another thread or process that receives
        the same key is waited for: look again whether its blob is what you wanted. *stop* ends that wait with a
        StorageError.
        """
        return Receiver(self, key, expected, size, stop)

    def add(self, data: bytes) -> str:
        """Store *data* and return its SHA-256."""
        sha256 = hashlib.sha256(data).hexdigest()
        if not self.has(sha256):
            temporary = self._temporary()
            with _disk(temporary, len(data)):
                try:
                    with temporary.open("wb") as stream:
                        stream.write(data)
                        stream.flush()
                        os.fsync(stream.fileno())
                    self._publish(temporary, sha256)
                except BaseException:
                    temporary.unlink(missing_ok=True)
                    raise
        return sha256

    def note(self, namespace: str, key: str) -> bytes | None:
        """The value last set, or None where there is none or it is damaged."""
        try:
            with self._note(namespace, key).open("rb", buffering=0) as stream:
                digest, value = stream.read(_DIGEST_SIZE), stream.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _explain(error, self.root) from error
        return value if hashlib.sha256(value).digest() == digest else None

    def set_note(self, namespace: str, key: str, *value: bytes) -> None:
        """Remember *value*, in as many pieces as it comes; not synced, since losing it costs only time."""
        path, temporary = self._note(namespace, key), self._temporary()
        digest = hashlib.sha256()
        for piece in value:
            digest.update(piece)
        with _disk(path, sum(map(len, value))):
            try:
                with temporary.open("wb") as stream:
                    stream.writelines((digest.digest(), *value))
                _replace(temporary, path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise

    def noted(self, namespace: str, key: str) -> float | None:
        """When the value was last set, in seconds since 1970; None where there is none."""
        try:
            return self._note(namespace, key).stat().st_mtime
        except FileNotFoundError:
            return None

    def drop_notes(self, namespace: str, before: float) -> int:
        """Forget the values that were last set before *before*, in seconds since 1970; return how many."""
        count = 0
        for path in (self._notes / namespace).glob("??/*"):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < before:
                    path.unlink()
                    count += 1
        return count

    def scratch(self) -> Scratch:
        """Open a place for bytes that nobody needs after this run."""
        return Scratch(self._folder())

    @contextmanager
    def using(self) -> Iterator[None]:
        """Keep :meth:`collect` and :meth:`verify` away for as long as this lasts; many may use a store at once.

        Whoever receives blobs and reads them later holds this in between. Waits where a collection is under way.

        The names of blobs that come in meanwhile are synced together, at the end: until then a power cut may take some
        back. Their bytes, which are safe, are then found as half-received files, or received again.
        """
        with self._lock_of_all(alone=False):
            with self._lock:
                self._users += 1
            try:
                yield
            finally:
                with self._lock:
                    self._users -= 1
                    folders: set[Path] = set()
                    if not self._users:
                        folders, self._unsynced = self._unsynced, folders
                for folder in folders:
                    with _disk(folder), suppress(FileNotFoundError):
                        sync_folder(folder)

    def blobs(self) -> Iterator[StoredBlob]:
        """Yield every blob, in no order."""
        with _disk(self.root):
            for path in self._files.glob("??/*"):
                with suppress(FileNotFoundError):
                    found = path.stat()
                    yield StoredBlob(path.name, found.st_size, found.st_mtime)

    def usage(self) -> Usage:
        """What the store takes on the disk."""
        blobs = size = parts = notes = 0
        for blob in self.blobs():
            blobs += 1
            size += blob.size
        with _disk(self.root):
            for folder in (self._part, self._notes):
                for path in folder.rglob("*"):
                    with suppress(FileNotFoundError):
                        found = path.stat()
                        taken = found.st_size if stat.S_ISREG(found.st_mode) else 0
                        parts, notes = (parts + taken, notes) if folder is self._part else (parts, notes + taken)
        return Usage(blobs, size, parts, notes)

    def collect(self, keep: Collection[str], *, limit: int = 0, dry_run: bool = False) -> Collected:
        """Drop blobs whose SHA-256 is not in *keep*, oldest first, until all take *limit* bytes at most.

        What killed runs left goes too; a file that is being received is left alone. A StorageError where another
        process is :meth:`using` the store. With *dry_run* nothing is dropped, only counted.
        """
        if not self.root.is_dir():
            return Collected(0, 0, 0)
        with self._lock_of_all(alone=True), _disk(self.root):
            size = 0
            candidates: list[tuple[float, str, int]] = []
            for blob in self.blobs():
                size += blob.size
                if blob.sha256 not in keep:
                    candidates.append((blob.received, blob.sha256, blob.size))
            dropped = freed = 0
            for _, sha256, taken in sorted(candidates):
                if size - freed <= limit:
                    break
                if not dry_run:
                    _remove(self._blob(sha256))
                dropped += 1
                freed += taken
            return Collected(dropped, freed, 0 if dry_run else self._drop_leftovers())

    def verify(self, *, report: Callable[[StoredBlob], object] = lambda _: None) -> list[str]:
        """Hash every blob, drop those that are not what their names say, and return the names of those, sorted.

        A StorageError where another process is :meth:`using` the store.
        """
        damaged: list[str] = []
        if not self.root.is_dir():
            return damaged
        with self._lock_of_all(alone=True):
            for blob in self.blobs():
                path = self._blob(blob.sha256)
                with _disk(path), path.open("rb", buffering=0) as stream:
                    digest = hashlib.sha256()
                    while block := stream.read(_BLOCK):
                        digest.update(block)
                if digest.hexdigest() != blob.sha256:
                    with _disk(path):
                        _remove(path)
                    damaged.append(blob.sha256)
                report(blob)
        return sorted(damaged)

    def _drop_leftovers(self) -> int:
        freed = 0
        for path in self._part.glob("*"):
            if path.suffix == ".tmp":
                with suppress(FileNotFoundError):
                    freed += _remove(path) if time.time() - path.stat().st_mtime > _STALE else 0
            elif path.suffix in (".part", ".lock"):
                lock = _Lock(path.with_suffix(".lock"))
                if lock.take():
                    freed += _remove(path.with_suffix(".part"))
                    lock.release()
        return freed

    @contextmanager
    def _lock_of_all(self, *, alone: bool) -> Iterator[None]:
        """Hold the store's own lock: alone, which fails at once where others use it, or shared, which waits."""
        path = self.root / "lock"
        with _disk(path):
            self.root.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            pause = 0.005
            while not _try_shared(descriptor, alone=alone):
                if alone:
                    raise StorageError(
                        f"Another process is using the store {self.root}.", hint="Wait for it and run this again."
                    )
                time.sleep(pause)
                pause = min(pause * 2, 0.25)
            yield
        finally:
            os.close(descriptor)  # which frees the lock

    def _blob(self, sha256: str) -> Path:
        if not _SHA256.match(sha256):
            raise IntegrityError(f"{sha256[:80]!r} is not a SHA-256 digest.")
        return self._files / sha256[:2] / sha256

    def _note(self, namespace: str, key: str) -> Path:
        if not _NAMESPACE.match(namespace):
            raise ValueError(f"not a namespace: {namespace!r}")
        name = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
        return self._notes / namespace / name[:2] / name

    def _part_of(self, key: str) -> Path:
        return self._folder() / (hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest() + ".part")

    def _temporary(self) -> Path:
        return self._folder() / f"{os.getpid()}-{secrets.token_hex(8)}.tmp"

    def _folder(self) -> Path:
        with _disk(self._part):
            self._part.mkdir(parents=True, exist_ok=True)
        return self._part

    def _publish(self, temporary: Path, sha256: str) -> None:
        """Give a synced file its final name, durably: now, or at the end of :meth:`using`."""
        path = self._blob(sha256)
        permit(temporary, 0o444)
        new_folder = not path.parent.is_dir()
        try:
            _replace(temporary, path)
        except PermissionError:
            # Windows replaces neither a read-only file nor an open one; the same digest is the same bytes.
            if not path.is_file():
                raise
            _remove(temporary)
        folders = [path.parent, path.parent.parent] if new_folder else [path.parent]
        with self._lock:
            if self._users:
                self._unsynced.update(folders)
                return
        for folder in folders:
            sync_folder(folder)


class Scratch:
    """A temporary file in *folder*, gone when nobody refers to it any more. Safe to use from many threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._size = 0
        with _disk(folder):
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - the next line closes it
        weakref.finalize(self, self._file.close)

    def write(self, data: bytes) -> int:
        """Append *data*; return where it begins."""
        left = memoryview(data)
        with self._lock, _disk(self._folder / "scratch", len(data)):
            start = self._file.seek(self._size)
            while left:
                left = left[self._file.write(left) :]
            self._size += len(data)
        return start

    def keep(self, data: bytes) -> Callable[[], bytes]:
        """Append *data*, and return what reads it again."""
        start = self.write(data)
        return _Kept(self, start, start + len(data))

    def read(self, start: int, end: int) -> bytes:
        """The bytes from *start* to *end*, which were written before."""
        with self._lock, _disk(self._folder):
            self._file.seek(start)
            data = self._file.read(end - start)
            while len(data) < end - start and (more := self._file.read(end - start - len(data))):
                data += more
            return data


class _Kept:
    """What reads a piece of a scratch file; thousands are held, so it takes little."""

    __slots__ = ("_end", "_scratch", "_start")

    def __init__(self, scratch: Scratch, start: int, end: int) -> None:
        self._scratch = scratch
        self._start = start
        self._end = end

    def __call__(self) -> bytes:
        return self._scratch.read(self._start, self._end)


class Receiver(AbstractContextManager["Receiver"]):
    """One file on its way into the store; a context manager that only the thread that opened it uses.

    Leaving it without :meth:`commit` or :meth:`discard` keeps the bytes for the next run.
    """

    def __init__(
        self, store: Store, key: str, expected: Hashes, size: int | None, stop: threading.Event | None
    ) -> None:
        self._store = store
        self._key = key
        self._expected = expected
        self._size = size
        self._path = store._part_of(key)  # noqa: SLF001 - two classes, one module, one layout
        self._lock = _Lock(self._path.with_suffix(".lock"))
        self._file: BinaryIO | None = None
        self.offset = 0
        with _disk(self._path):
            self._lock.wait(stop)
            try:
                self._open()
            except BaseException:
                self.close()
                raise

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> None:
        # "a+" would write at the end only; "r+" does not create.
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
        self._file = file = os.fdopen(descriptor, "r+b", buffering=0)
        self._start()
        if self._size is not None and os.fstat(descriptor).st_size > self._size:
            file.truncate(0)
        block = memoryview(bytearray(_BLOCK)) if os.fstat(descriptor).st_size else memoryview(b"")
        while block and (count := file.readinto(block)):
            self._hash(block[:count])
            self.offset += count

    def _start(self) -> None:
        self._sha256 = hashlib.sha256()
        self._others = {
            name: hashlib.new(name, usedforsecurity=False) for name, _ in self._expected if name != "sha256"
        }
        self.offset = 0
        self._pending: list[bytes] = []
        self._pending_size = 0

    def _hash(self, chunk: bytes | memoryview) -> None:
        self._sha256.update(chunk)
        for hasher in self._others.values():
            hasher.update(chunk)

    def write(self, chunk: bytes) -> None:
        """Append *chunk*; more than the promised size is an IntegrityError at once."""
        if self._file is None:
            raise ValueError("the receiver is closed")
        if self._size is not None and self.offset + len(chunk) > self._size:
            self.discard()
            raise IntegrityError(f"{self._key}: more than the {self._size} bytes that were promised.")
        self._pending.append(chunk)
        self._pending_size += len(chunk)
        self.offset += len(chunk)
        if self._pending_size >= _BLOCK:
            self._flush()

    def _flush(self) -> None:
        """Hash and write what is pending."""
        if self._file is None or not self._pending:
            return
        block = self._pending[0] if len(self._pending) == 1 else b"".join(self._pending)
        self._pending.clear()
        self._pending_size = 0
        self._hash(block)
        with _disk(self._path, len(block)):
            written = self._file.write(block)
            while written < len(block):
                written += self._file.write(memoryview(block)[written:])

    def commit(self) -> Blob:
        """Check size and digests, sync, rename. A file that is not what was promised is deleted."""
        file = self._file
        if file is None:
            raise ValueError("the receiver is closed")
        self._flush()
        blob = Blob(self._sha256.hexdigest(), self.offset)
        if self._size is not None and self.offset != self._size:
            self.discard()
            raise IntegrityError(f"{self._key}: {blob.size} bytes instead of the {self._size} that were promised.")
        for name, promised in self._expected:
            found = blob.sha256 if name == "sha256" else self._others[name].hexdigest()
            if found != promised:
                self.discard()
                raise HashMismatchError(f"{self._key}: the {name} should be {promised}, but it is {found}.")
        with _disk(self._path):
            try:
                os.fsync(file.fileno())
            except OSError:
                self.discard()  # what of it reached the disk is unknown now, and a second fsync would not tell
                raise
            file.close()
            self._store._publish(self._path, blob.sha256)  # noqa: SLF001 - see __init__
        self.close()
        return blob

    def restart(self) -> None:
        """Forget the bytes so far and receive from the beginning."""
        if self._file is None:
            raise ValueError("the receiver is closed")
        with _disk(self._path):
            self._file.seek(0)
            self._file.truncate(0)
        self._start()

    def discard(self) -> None:
        """Delete the bytes so far and close; nothing happens where the receiver is closed already."""
        if self._file is None:
            return
        self._start()
        self._file.close()
        with _disk(self._path):
            _remove(self._path)
        self.close()

    def close(self) -> None:
        """Let others receive this key; the bytes so far stay."""
        try:
            self._flush()
        finally:
            if self._file is not None:
                self._file.close()
                self._file = None
            self._lock.release()


class _Lock:
    """An exclusive lock on a file of its own, between threads too; the operating system frees it when we die."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def wait(self, stop: threading.Event | None) -> None:
        waiting = stop or threading.Event()
        pause = 0.005
        while not self.take():
            if waiting.wait(pause):
                raise StorageError("Stopped while another process was receiving the same file.")
            pause = min(pause * 2, 0.25)

    def take(self) -> bool:
        """Try once."""
        while True:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                if not try_lock(descriptor):
                    os.close(descriptor)
                    return False
                # Whoever held it before us removed the name: then this is a lock that nobody else will see.
                if os.path.samestat(os.fstat(descriptor), self._path.stat()):
                    self._descriptor = descriptor
                    return True
            except FileNotFoundError:
                pass
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def release(self) -> None:
        if self._descriptor is not None:
            with suppress(OSError):  # Windows does not remove an open file; collect() does later
                self._path.unlink()
            os.close(self._descriptor)
            self._descriptor = None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file at *path*, which no other thread or process then holds; its folder is made."""
    with _disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _Lock(path)
        lock.wait(None)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def locked_if_free(path: Path) -> Iterator[bool]:
    """Hold the lock file at *path*, made if need be, unless somebody does: yields whether it is held now."""
    with _disk(path):
        lock = _Lock(path)
        held = lock.take()
    try:
        yield held
    finally:
        lock.release()


def _try_shared(descriptor: int, *, alone: bool) -> bool:
    """Try to take a lock that many may hold, or one *alone*."""
    try:
        if sys.platform == "win32":
            # There are no shared locks: each user locks a byte of its own, and who wants to be alone, all of them.
            os.lseek(descriptor, 0 if alone else secrets.randbelow(_PLACES), os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, _PLACES if alone else 1)
        else:
            fcntl.flock(descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            return False
        raise
    return True


def _replace(temporary: Path, path: Path) -> None:
    try:
        temporary.replace(path)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.replace(path)


def _remove(path: Path) -> int:
    """Delete *path* if it is there; return its size."""
    try:
        size = path.stat().st_size
        path.unlink()
    except FileNotFoundError:
        return 0
    except PermissionError:
        path.chmod(0o600)  # Windows does not delete a read-only file
        path.unlink()
    return size


@contextmanager
def _disk(path: Path, needed: int = 0) -> Iterator[None]:
    """Turn an OSError into a StorageError that says what to do about it; *needed* is in bytes."""
    try:
        yield
    except OSError as error:
        raise _explain(error, path, needed) from error


def _explain(error: OSError, path: Path, needed: int = 0) -> StorageError:
    if error.errno in _FULL:
        folder = next((parent for parent in path.parents if parent.is_dir()), path)
        try:
            free = f"{shutil.disk_usage(folder).free} bytes are free"
        except OSError:
            free = "free space unknown"
        wanted = f", {needed} more were needed" if needed else ""
        what = "is too large for the file system or a limit" if error.errno == errno.EFBIG else "can't grow: disk full"
        return StorageError(
            f"{path} {what} ({free}{wanted}).",
            hint="Free some space or move the cache with AIRGAP_CACHE; the same command then goes on from there.",
        )
    if error.errno in _DENIED:
        return StorageError(
            f"{path}: {error.strerror}.",
            hint="The cache must be a folder that this user may write; AIRGAP_CACHE names another.",
        )
    return StorageError(f"{path}: {error.strerror or error}.")
