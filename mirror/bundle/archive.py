"""The file of a bundle as bytes: opened, listed by its seek table, and held against the digest that it ends with.

It knows nothing of the manifest, and loads little: a push has all of it hashed while everything else is loaded.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from pathlib import Path

import zstandard

from mirror.bundle.seektable import DIGEST_MAGIC, MAX_WINDOW, ZSTD_MAGIC, Frame, read_seek_table
from mirror.errors import BundleError, StorageError, UsageError
from mirror.models import Event, Reporter, Stage, silent

DAMAGED = "It was damaged on its way, or tampered with: copy it again."
#: Bytes of a frame's header, at most.
FRAME_HEADER = 18

_BLOCK_HEADER = 3
_RUN_LENGTH = 1
_CHECKSUM = 4
# Large, because every chunk waits once for whoever runs Python at the moment; larger ones cost new pages each time.
_CHUNK = 2**20


class Archive(AbstractContextManager["Archive"]):
    """The file of a bundle, opened, with its seek table; safe for threads. Close it, or use it as a context manager.

    Raises a UsageError where *path* is no file, a BundleError where that does not end as a bundle does.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise UsageError(f"{path} is not a file." if path.exists() else f"{path} does not exist.")
        with disk(path):
            self._file = path.open("rb", buffering=0)
        self._lock = threading.Lock()
        with self.closing(), self.named():
            self.frames = read_seek_table(self._file)

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def check(self, stop: threading.Event, report: Reporter = silent) -> None:
        """Find any accidental change without decompressing; *stop* ends that early. A BundleError where there is one.

        The digest covers every byte before it, and the seek table after it is compared with what the frames say.
        """
        report(Event("begin", Stage.VERIFY, self.path.name, bytes=self.frames[-1].offset))
        with self.named():
            found = self.digest(stop, report)
            if not stop.is_set():
                self.check_digest(found)
        report(Event("end", Stage.VERIFY))

    def digest(self, stop: threading.Event, report: Reporter = silent) -> bytes:
        """The SHA-256 of everything before the digest frame, in which every frame must be what the seek table says."""
        end = self.frames[-1].offset
        digest = hashlib.sha256()
        walk = _Walk(islice(self.frames, len(self.frames) - 1))
        for offset in range(0, end, _CHUNK):
            if stop.is_set():
                break
            data = self.pread(offset, min(_CHUNK, end - offset))
            digest.update(data)
            walk.feed(data)
            report(Event("advance", Stage.VERIFY, bytes=len(data)))
        return digest.digest()

    def check_digest(self, found: bytes) -> None:
        """Raise a BundleError unless *found* is the digest that the archive ends with."""
        last = self.frames[-1]
        if self.pread(last.offset, last.size) != DIGEST_MAGIC + found:
            raise BundleError("Its bytes do not have the digest that it ends with.", hint=DAMAGED)

    def pread(self, offset: int, size: int) -> bytes:
        """Read *size* bytes from *offset* on."""
        with disk(self.path):
            if sys.platform == "win32":
                with self._lock:
                    self._file.seek(offset)
                    return self._file.read(size)
            else:
                return os.pread(self._file.fileno(), size, offset)

    @contextmanager
    def named(self) -> Iterator[None]:
        """Say in a BundleError which bundle it is about."""
        try:
            yield
        except BundleError as error:
            raise BundleError(f"{self.path.name}: {error}", hint=error.hint) from error

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Close the file where what follows fails."""
        try:
            yield
        except BaseException:
            self.close()
            raise


def parameters(header: bytes) -> zstandard.FrameParameters:
    """What a frame's *header* says; a BundleError where that is none of format 1."""
    if header[: len(ZSTD_MAGIC)] != ZSTD_MAGIC:
        raise BundleError("The seek table names a frame where none begins.", hint=DAMAGED)
    try:
        found = zstandard.get_frame_parameters(header)
    except zstandard.ZstdError as error:
        raise BundleError(f"A frame's header can't be read: {error}.", hint=DAMAGED) from error
    if found.window_size > MAX_WINDOW:
        raise BundleError(f"A frame wants a window of {found.window_size} bytes, more than format 1 allows.")
    return found


def check_header(header: bytes, number: int, frame: Frame) -> None:
    """Raise unless the frame says of itself what the seek table says of it."""
    found = parameters(header)
    if found.content_size != frame.content or not found.has_checksum or found.dict_id:
        raise BundleError(f"Frame {number} does not hold the {frame.content} bytes that the seek table names.")


class _Walk:
    """Follows the blocks of neighbouring *frames*, whose bytes are fed piece by piece, from the first one's start on.

    A frame must end where the seek table says. Else a second frame could hide behind it: tar would unpack that, and who
    reads by the seek table would never see it.
    """

    def __init__(self, frames: Iterable[Frame]) -> None:
        self._waiting = enumerate(frames)
        self._kept = b""
        self._start = 0  # of the bytes that are kept, in the archive
        self._at = 0  # of the header that comes next
        self._frame: Frame | None = None
        self._number = 0
        self._open_next()

    def feed(self, data: bytes) -> None:
        """Raise a BundleError where *data*, which comes next, shows that a frame is not what it should be."""
        data = self._kept + data
        end = self._start + len(data)
        while self._frame is not None:
            frame, first = self._frame, self._at == self._frame.offset
            length = min(FRAME_HEADER, frame.size) if first else _BLOCK_HEADER
            if self._at + length > end:
                break
            position = self._at - self._start
            header = data[position : position + length]
            if first:
                check_header(header, self._number, frame)
                self._at += zstandard.frame_header_size(header)
            else:
                self._follow(int.from_bytes(header, "little"), frame)
        keep = max(0, min(self._at, end) - self._start)
        self._kept = data[keep:]
        self._start += keep

    def _follow(self, block: int, frame: Frame) -> None:
        last, kind, size = bool(block & 1), block >> 1 & 3, block >> 3
        self._at += _BLOCK_HEADER + (1 if kind == _RUN_LENGTH else size)
        ends = self._at + _CHECKSUM
        if ends == frame.offset + frame.size and last:
            self._at = ends
            self._open_next()
        elif last or ends >= frame.offset + frame.size:
            raise BundleError(f"Frame {self._number} is not the one zstd frame that the seek table names.")

    def _open_next(self) -> None:
        found = next(self._waiting, None)
        if found is None:
            self._frame = None
        else:
            self._number, self._frame = found


@contextmanager
def disk(path: Path) -> Iterator[None]:
    """Make a StorageError of what a disk says; *path* where it does not name a file."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{error.filename or path}: {error.strerror or error}.") from error
