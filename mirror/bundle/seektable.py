"""What every byte of an archive belongs to: zstd frames, listed at its end. Knows nothing of what is in them.

The archive is in zstd's seekable format: independent frames, each with its content size and checksum, then a skippable
frame with the size of every other one.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO

from mirror.bundle import manifest
from mirror.bundle.table import Table
from mirror.errors import BundleError

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
#: Opens the skippable frame that holds the SHA-256 of every byte before it.
DIGEST_MAGIC = struct.pack("<II", 0x184D2A5A, 32)
DIGEST_FRAME = len(DIGEST_MAGIC) + 32
#: Frames after the last project's: end-of-archive blocks, digest. The seek table does not list itself.
TRAILING_FRAMES = 2
#: What a reader must be ready to hold to decompress a frame of format 1, and plain ``zstd -d`` is, without a flag.
MAX_WINDOW = 2**27
_SEEK_MAGIC = 0x184D2A5E
_SEEKABLE_MAGIC = 0x8F92EAB1
_FOOTER = struct.Struct("<IBI")
_ENTRY = struct.Struct("<II")


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame as the seek table describes it: where it begins, its size, and the size of what it holds, in bytes."""

    offset: int
    size: int
    content: int


class FrameTable(Table[Frame]):
    """The frames of one archive, as ``(size, content)`` in the order in which they are in it."""

    __slots__ = ("_contents", "_offsets")

    def __init__(self, sizes: Iterable[tuple[int, int]]) -> None:
        self._offsets = array("Q", [0])
        self._contents = array("I")
        for size, content in sizes:
            self._offsets.append(self._offsets[-1] + size)
            self._contents.append(content)

    def __len__(self) -> int:
        return len(self._contents)

    def _value(self, position: int) -> Frame:
        offset, end = self._offsets[position : position + 2]
        return Frame(offset, end - offset, self._contents[position])


def seek_table(sizes: Iterable[tuple[int, int]]) -> bytes:
    """Return the skippable frame that ends a file in zstd's seekable format, without checksums.

    *sizes* are those of every frame before it, in bytes: compressed, and of what it holds (0 for a skippable frame).
    """
    entries = b"".join(_ENTRY.pack(*pair) for pair in sizes)
    payload = entries + _FOOTER.pack(len(entries) // _ENTRY.size, 0, _SEEKABLE_MAGIC)
    return struct.pack("<II", _SEEK_MAGIC, len(payload)) + payload


def read_seek_table(file: BinaryIO) -> FrameTable:
    """Return the frames of *file*, which must be seekable; a BundleError where its end is no seek table of format 1."""
    length = file.seek(0, 2)
    if length < 8 + _FOOTER.size:
        raise BundleError("It is too short to be a bundle.")
    file.seek(length - _FOOTER.size)
    count, descriptor, magic = _FOOTER.unpack(file.read(_FOOTER.size))
    if magic != _SEEKABLE_MAGIC:
        raise BundleError(
            "It does not end with a seek table.", hint="It is truncated, still being copied, or not a bundle."
        )
    size = 8 + count * _ENTRY.size + _FOOTER.size
    if descriptor != 0 or count < manifest.LEADING_FRAMES + TRAILING_FRAMES or size > length:
        raise BundleError("Its seek table is damaged.")
    file.seek(length - size)
    table = file.read(size)
    frames = FrameTable(_ENTRY.iter_unpack(table[8 : -_FOOTER.size]))
    for number, frame in enumerate(frames):
        if frame.content > manifest.FRAME_LIMIT:
            raise BundleError(
                f"Its frame {number} says that it holds {frame.content} bytes, more than format 1 allows."
            )
    last = frames[-1]
    if last.offset + last.size + size != length or seek_table((each.size, each.content) for each in frames) != table:
        raise BundleError("Its seek table does not describe it.", hint="It is truncated, damaged or tampered with.")
    return frames
