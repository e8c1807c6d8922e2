"""METADATA out of a wheel: a reader of just as much of a zip file as that takes, wherever its bytes are.

``zipfile`` makes an object for each of the thousands of members that a large wheel has, and forgives what an attacker
may use. Here the central directory is walked once, and everything in it must add up. Nothing is written to disk.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from mirror.errors import MetadataError
from mirror.filenames import split_filename

#: Larger metadata than this many bytes is an attack.
METADATA_LIMIT = 16 * 1024 * 1024
#: A central directory of a million members is below this many bytes.
_DIRECTORY_LIMIT = 128 * 1024 * 1024
# The end record: 22 bytes, then a comment of up to 65,535.
_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LENGTHS = struct.Struct("<4s24x3H12x")  # of an entry only what leads to the next one
_LOCAL = struct.Struct("<4s5H3L2H")
_LONGEST_COMMENT = 0xFFFF
_STORED, _DEFLATED = 0, 8
_ENCRYPTED = 0x1

#: Returns exactly the bytes from ``offset`` on, ``length`` of them; both lie within the file.
ReadAt = Callable[[int, int], bytes]


class _Entry(NamedTuple):
    name: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int


class _BadZipError(Exception):
    """The archive does not add up; the text says where."""


def wheel_metadata(stream: BinaryIO, filename: str) -> bytes:
    """Return METADATA from the one ``.dist-info`` folder that belongs to the wheel called *filename*.

    A damaged or hostile archive, or one whose folder has another name, is a MetadataError.
    """
    return read_wheel_metadata(_reader(stream), stream.seek(0, 2), filename)


def read_wheel_metadata(read_at: ReadAt, size: int, filename: str) -> bytes:
    """Like :func:`wheel_metadata`, for a file of *size* bytes that ``read_at`` gives pieces of, its end first."""
    parts = split_filename(filename)
    if parts is None or not parts.is_wheel:
        raise MetadataError(f"{filename!r} is not the name of a wheel (PEP 427).")

    try:
        found = [entry for entry in _entries(read_at, size, b".dist-info/METADATA") if entry.name.count(b"/") == 1]
        folders = [entry.name.partition(b"/")[0].decode("utf-8", "replace") for entry in found]
        mine = [entry for entry, folder in zip(found, folders, strict=True) if _belongs(folder, *parts[:2])]
        if len(found) == len(mine) == 1:
            return _content(read_at, size, mine[0])
    except _BadZipError as error:
        raise MetadataError(f"{filename} is not a sound zip file: {error}.") from None
    told = ", ".join(repr(folder[:80]) for folder in folders[:5]) or "none"
    raise MetadataError(f"{filename}: a wheel has one .dist-info folder with METADATA, its own; here it is {told}.")


def zip_member(stream: BinaryIO, filename: str, wanted: Callable[[bytes], bool]) -> bytes | None:
    """Return the one member of a zip file whose name (as stored) is *wanted*, or None; two are a MetadataError."""
    read_at, size = _reader(stream), stream.seek(0, 2)
    try:
        found = [entry for entry in _entries(read_at, size) if wanted(entry.name)]
        if len(found) <= 1:
            return _content(read_at, size, found[0]) if found else None
    except _BadZipError as error:
        raise MetadataError(f"{filename} is not a sound zip file: {error}.") from None
    raise MetadataError(f"{filename} has both {found[0].name[:80]!r} and {found[1].name[:80]!r}.")


def _reader(stream: BinaryIO) -> ReadAt:
    def read_at(offset: int, length: int) -> bytes:
        stream.seek(offset)
        return stream.read(length)

    return read_at


def _belongs(folder: str, project: str, version: str) -> bool:
    """Whether ``NAME-VERSION.dist-info`` is *project*'s, in whatever spelling."""
    name, _, found = folder.removesuffix(".dist-info").rpartition("-")
    if canonicalize_name(name) != project:
        return False
    try:
        return Version(found.replace("_", "-")) == Version(version.replace("_", "-"))
    except InvalidVersion:
        return found == version


def _entries(read_at: ReadAt, size: int, ending: bytes = b"") -> Iterator[_Entry]:
    """Walk the central directory, all of it, and yield the members whose names have this *ending*."""
    count, begin, length, shift = _directory(read_at, size)
    directory = _exactly(read_at, begin, length, size)
    position = 0
    for _ in range(count):
        start = position + _ENTRY.size
        if start > length:
            raise _BadZipError("its directory is cut off")
        # Large wheels have thousands of entries, and one of them is wanted.
        signature, name_length, extra_length, comment_length = _LENGTHS.unpack_from(directory, position)
        if signature != b"PK\x01\x02":
            raise _BadZipError("its directory is damaged")
        after_name = start + name_length
        if directory.endswith(ending, start, after_name):
            _, _, _, flags, method, _, _, crc, packed, unpacked, *_, offset = _ENTRY.unpack_from(directory, position)
            name, extra = directory[start:after_name], directory[after_name : after_name + extra_length]
            if 0xFFFFFFFF in (packed, unpacked, offset):
                unpacked, packed, offset = _wide(extra, unpacked, packed, offset)
            yield _Entry(name, flags, method, crc, packed, unpacked, offset + shift)
        position = after_name + extra_length + comment_length
    if position != length:
        raise _BadZipError("its directory does not end where it says")


def _directory(read_at: ReadAt, size: int) -> tuple[int, int, int, int]:
    """Return ``(members, start, length, shift)`` of the central directory.

    *shift* is how many bytes stand before the archive proper; every offset in it counts from there.
    """
    if size < _END.size:
        raise _BadZipError("it is too short")
    end = size - _END.size
    record = _exactly(read_at, end, _END.size, size)
    if not record.startswith(b"PK\x05\x06") or record[-2:] != b"\0\0":
        start = max(0, end - _LONGEST_COMMENT)
        tail = _exactly(read_at, start, size - start, size)
        position = tail.rfind(b"PK\x05\x06", 0, len(tail) - _END.size + 4)
        if position < 0:
            raise _BadZipError("it has no end record")
        end, record = start + position, tail[position : position + _END.size]
    _, disk, first_disk, here, count, length, offset, comment = _END.unpack(record)
    if end + _END.size + comment != size:
        raise _BadZipError("bytes follow its end")
    if 0xFFFF in (here, count) or 0xFFFFFFFF in (length, offset):
        found = _directory64(read_at, end, size)
        if found is not None:
            disk, first_disk, here, count, length, offset, end = found
    if disk or first_disk or here != count:
        raise _BadZipError("it is one part of several")
    start = end - length
    if length > _DIRECTORY_LIMIT or start < offset:
        raise _BadZipError("its directory lies outside")
    return count, start, length, start - offset


def _directory64(read_at: ReadAt, end: int, size: int) -> tuple[int, int, int, int, int, int, int] | None:
    """The same numbers from the record for large archives, if there is one, and where that record begins."""
    if end < _END64_LOCATOR.size + _END64.size:
        return None
    locator = _exactly(read_at, end - _END64_LOCATOR.size, _END64_LOCATOR.size, size)
    if not locator.startswith(b"PK\x06\x07"):
        return None
    start = end - _END64_LOCATOR.size - _END64.size
    record = _exactly(read_at, start, _END64.size, size)
    if not record.startswith(b"PK\x06\x06"):
        raise _BadZipError("its 64-bit end record is damaged")
    _, _, _, _, disk, first_disk, here, count, length, offset = _END64.unpack(record)
    return disk, first_disk, here, count, length, offset, start


def _wide(extra: bytes, *values: int) -> list[int]:
    """Fill in the 64-bit values that the extra field holds for those that did not fit."""
    position = 0
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, position)
        position += 4
        if kind == 1:
            field = extra[position : position + length]
            needed = [value == 0xFFFFFFFF for value in values]
            if len(field) < 8 * sum(needed):
                break
            wide = iter(struct.unpack_from(f"<{sum(needed)}Q", field))
            return [next(wide) if need else value for need, value in zip(needed, values, strict=True)]
        position += length
    raise _BadZipError("a 64-bit field is missing")


def _content(read_at: ReadAt, size: int, entry: _Entry) -> bytes:
    """Unpack one member; the size and the checksum that the directory names must be right."""
    shown = repr(entry.name.decode("utf-8", "replace")[:120])
    if entry.flags & _ENCRYPTED:
        raise _BadZipError(f"{shown} is encrypted")
    if entry.method not in (_STORED, _DEFLATED):
        raise _BadZipError(f"{shown} is packed by method {entry.method}, which installers can't read")
    if entry.size > METADATA_LIMIT or entry.packed > METADATA_LIMIT:
        raise _BadZipError(f"{shown} would be {max(entry.size, entry.packed)} bytes, and {METADATA_LIMIT} is the limit")
    local = _exactly(read_at, entry.offset, _LOCAL.size + len(entry.name), size)
    signature, *_, name_length, extra_length = _LOCAL.unpack_from(local)
    if signature != b"PK\x03\x04" or name_length != len(entry.name) or local[_LOCAL.size :] != entry.name:
        raise _BadZipError(f"{shown} is not where its directory says")
    packed = _exactly(read_at, entry.offset + len(local) + extra_length, entry.packed, size)
    data = packed if entry.method == _STORED else _inflate(packed, entry.size, shown)
    if len(data) != entry.size or zlib.crc32(data) != entry.crc:
        raise _BadZipError(f"{shown} is damaged")
    return data


def _inflate(packed: bytes, size: int, shown: str) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        # One byte more than there should be: a bomb is stopped here, whatever size its directory claims.
        return inflater.decompress(packed, size + 1)
    except zlib.error as error:
        raise _BadZipError(f"{shown} is damaged ({error})") from None


def _exactly(read_at: ReadAt, offset: int, length: int, size: int) -> bytes:
    if offset < 0 or offset + length > size:
        raise _BadZipError("it refers to bytes outside itself")
    data = read_at(offset, length)
    if len(data) != length:
        raise _BadZipError("it is cut off")
    return data
