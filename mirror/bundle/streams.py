"""What frames decompress to, member by member: hashed while it is read, and no more than the manifest allows."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, BinaryIO, cast

import zstandard

from mirror.bundle.archive import DAMAGED, FRAME_HEADER, check_header
from mirror.bundle.manifest import MANIFEST, Entry
from mirror.bundle.seektable import MAX_WINDOW, Frame
from mirror.errors import BundleError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# Large, because every chunk waits once for whoever runs Python at the moment, beside others that send.
_CHUNK = 2**20
# Bytes that are only looked at, at a time: few enough to stay in the processor's cache.
_LOOKED_AT = 2**18


class VerifiedStream(io.RawIOBase):
    """The content of one member, hashed while it is read: the end comes only after the digest was right."""

    def __init__(self, frames: FrameReader, entry: Entry) -> None:
        super().__init__()
        self._frames = frames
        self._left = entry.size
        self._hash = hashlib.sha256()
        self._checked = False
        self.entry = entry

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill *buffer* as far as possible; a BundleError where the bytes are not those that the manifest promises."""
        view = memoryview(buffer).cast("B")[: self._left]
        count = self._frames.readinto(view) if view else 0
        if count < len(view):
            raise BundleError(f"{self.entry.path} ends {self._left - count} bytes too early.", hint=DAMAGED)
        self._hash.update(view)
        self._left -= count
        if not self._left and not self._checked:
            if self._hash.hexdigest() != self.entry.sha256:
                raise BundleError(f"{self.entry.path} does not have the SHA-256 that the manifest names.", hint=DAMAGED)
            self._checked = True
        return count

    def drain(self, stop: threading.Event | None = None) -> None:
        """Read and check what is left; *stop* ends that early."""
        buffer = bytearray(min(_LOOKED_AT, self._left))
        while not self._checked and not (stop and stop.is_set()):
            self.readinto(buffer)


class FrameReader:
    """The decompressed bytes of neighbouring frames, each held to its own size and to the seek table's."""

    def __init__(self, pread: Callable[[int, int], bytes], frames: Sequence[Frame], first: int) -> None:
        self._pread = pread
        self._waiting = list(enumerate(frames, first))
        self._current: BinaryIO | None = None
        self._number = first
        self._left = 0

    def read(self, size: int) -> bytes:
        """Return *size* bytes, fewer only at the end."""
        buffer = bytearray(size)
        return bytes(buffer[: self.readinto(memoryview(buffer))])

    def readinto(self, view: memoryview) -> int:
        """Fill *view*; return how much there was."""
        done = 0
        while done < len(view):
            if not self._left and not self._next():
                break
            done += self._decompress(view[done : done + self._left])
        return done

    def finish(self) -> None:
        """Raise unless every frame has ended."""
        if self._left or self._next():
            raise BundleError(f"Frame {self._number} holds more than the manifest accounts for.")

    def _next(self) -> bool:
        """Open the next frame that holds anything, when the current one has ended as it should."""
        self._end()
        while self._waiting and not self._left:
            self._number, frame = self._waiting.pop(0)
            self._current = self._open(frame)
            self._left = frame.content
            if not self._left:
                self._end()
        return bool(self._left)

    def _open(self, frame: Frame) -> BinaryIO:
        check_header(self._pread(frame.offset, min(FRAME_HEADER, frame.size)), self._number, frame)
        decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
        return decompressor.stream_reader(cast("BinaryIO", _Slice(self._pread, frame)), read_size=_CHUNK)

    def _decompress(self, view: memoryview) -> int:
        try:
            count: int = self._current.readinto(view)  # type: ignore[union-attr]
        except zstandard.ZstdError as error:
            raise BundleError(f"Frame {self._number} can't be decompressed: {error}.", hint=DAMAGED) from error
        if not count:
            raise BundleError(f"Frame {self._number} ends too early.", hint=DAMAGED)
        self._left -= count
        return count

    def _end(self) -> None:
        """Read past the end of the current frame, which makes zstd compare the checksum."""
        if self._current is None:
            return
        try:
            rest = self._current.read(1)
        except zstandard.ZstdError as error:
            raise BundleError(f"Frame {self._number} can't be decompressed: {error}.", hint=DAMAGED) from error
        if rest:
            raise BundleError(f"Frame {self._number} decompresses to more than it says.")
        self._current = None


class MemberReader(io.RawIOBase):
    """The first *size* bytes of *frames*, whose digest nobody knows yet."""

    def __init__(self, frames: FrameReader, size: int) -> None:
        super().__init__()
        self._frames = frames
        self._left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")[: self._left]
        count = self._frames.readinto(view)
        if count < len(view):
            raise BundleError(f"{MANIFEST} ends {self._left - count} bytes too early.", hint=DAMAGED)
        self._left -= count
        return count


class _Slice(io.RawIOBase):
    """The compressed bytes of one frame, as zstandard reads them."""

    def __init__(self, pread: Callable[[int, int], bytes], frame: Frame) -> None:
        super().__init__()
        self._pread = pread
        self._offset = frame.offset
        self._end = frame.offset + frame.size

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        data = self._pread(self._offset, min(size, self._end - self._offset) if size >= 0 else self._end - self._offset)
        self._offset += len(data)
        return data


def copy(stream: VerifiedStream, target: BinaryIO) -> None:
    """Write all of *stream* into *target*."""
    buffer = memoryview(bytearray(min(_CHUNK, max(stream.entry.size, 1))))
    while count := stream.readinto(buffer):
        target.write(buffer[:count])
    stream.drain()
