from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.errors import MetadataError
from mirror.metadata import wheel
from mirror.metadata.wheel import METADATA_LIMIT, wheel_metadata
from tests.wheelhouse import make_wheel

NAME = "foo-1.0-py3-none-any.whl"
FOLDER = "foo-1.0.dist-info/METADATA"


def zipped(members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED, comment: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        archive.comment = comment
    return buffer.getvalue()


def read(data: bytes, filename: str = NAME) -> bytes:
    return wheel_metadata(io.BytesIO(data), filename)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_metadata(method: int) -> None:
    assert read(
        zipped({"foo.py": b"", FOLDER: b"text", "foo/METADATA": b"no", "a/foo-1.0.dist-info/METADATA": b"no"}, method)
    ) == (b"text")
    built = make_wheel("Foo.bar", "1.0+local.1", tag="cp312-cp312-win_amd64", build="3")
    assert read(built.data, built.filename) == built.metadata


@pytest.mark.parametrize(
    ("folder", "filename"),
    [
        ("Foo.Bar-1.0.dist-info", "foo_bar-1.0-py3-none-any.whl"),
        ("foo_bar-1.0.0.dist-info", "Foo_Bar-1.0-py3-none-any.whl"),
        ("foo-1.0_1.dist-info", "foo-1.0.post1-py3-none-any.whl"),
    ],
)
def test_other_spellings_of_the_same_project(folder: str, filename: str) -> None:
    assert read(zipped({f"{folder}/METADATA": b"text"}), filename) == b"text"


def test_a_comment_bytes_before_and_large_archives() -> None:
    assert read(zipped({FOLDER: b"text"}, comment=b"hello")) == b"text"
    assert read(zipped({FOLDER: b"text"}, comment=b"c" * 0xFFFF)) == b"text"
    assert read(b"#!/bin/sh\n" + zipped({FOLDER: b"text"})) == b"text"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(0x10001):
            archive.writestr(zipfile.ZipInfo(f"{number}"), b"")
        with archive.open(zipfile.ZipInfo(FOLDER), "w", force_zip64=True) as member:
            member.write(b"text")
    assert read(buffer.getvalue()) == b"text"


def test_a_member_beyond_four_gigabytes() -> None:
    """The 64-bit offset of METADATA leads far behind; the reader is given only the bytes that it asks for."""
    data = zipped({FOLDER: b"text"}, zipfile.ZIP_STORED)
    far = 5 * 2**30
    start = data.index(b"PK\x01\x02")
    entry = bytearray(data[start : data.index(b"PK\x05\x06")])
    struct.pack_into("<L", entry, 42, 0xFFFFFFFF)
    struct.pack_into("<H", entry, 30, 12)
    entry += struct.pack("<2HQ", 1, 8, far)
    begin = far + start
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, len(entry), begin)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, begin + len(entry), 1)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    whole = data[:start] + bytes(entry) + end64 + locator + end

    def read_at(offset: int, length: int) -> bytes:
        assert offset >= far
        return whole[offset - far : offset - far + length]

    assert wheel.read_wheel_metadata(read_at, far + len(whole), NAME) == b"text"


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"foo.py": b""},
        {"foo-2.0.dist-info/METADATA": b"x"},
        {"bar-1.0.dist-info/METADATA": b"x"},
        {"foo-1.0.dist-info/metadata": b"x"},
        {FOLDER: b"x", "bar-1.0.dist-info/METADATA": b"y"},
        {FOLDER: b"x", "Foo-1.0.dist-info/METADATA": b"y"},
        {"foo-1.0.dist-info\\METADATA": b"x"},
    ],
)
def test_the_one_folder_that_belongs_to_the_wheel(members: Mapping[str, bytes]) -> None:
    with pytest.raises(MetadataError, match=NAME):
        read(zipped(members))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_same_member_twice() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(FOLDER, b"one")
        archive.writestr(FOLDER, b"two")
    with pytest.raises(MetadataError):
        read(buffer.getvalue())


def test_bombs() -> None:
    honest = zipped({FOLDER: b"\0" * (METADATA_LIMIT + 1)})
    with pytest.raises(MetadataError, match="limit"):
        read(honest)
    lying = bytearray(honest)
    entry = lying.index(b"PK\x01\x02")
    struct.pack_into("<L", lying, entry + 24, 100)
    with pytest.raises(MetadataError, match="damaged"):
        read(bytes(lying))


@pytest.mark.parametrize(
    ("offset", "value", "told"),
    [
        (8, b"\x01", "encrypted"),
        (10, b"\x0e", "method 14"),
        (16, b"\xff\xff\xff\xff", "damaged"),
        (24, b"\x03", "damaged"),
        (42, b"\x01", "not where"),
        (42, b"\xff\xff\xff\x7f", "outside"),
        (42, b"\xff\xff\xff\xff", "64-bit field"),
        (20, b"\xff\xff\x0f", "outside"),
        (28, b"\xff\xff", "cut off|does not end"),
        (0, b"XX", "damaged"),
    ],
)
def test_directories_that_lie(offset: int, value: bytes, told: str) -> None:
    data = bytearray(zipped({FOLDER: b"text"}))
    start = data.index(b"PK\x01\x02") + offset
    data[start : start + len(value)] = value
    with pytest.raises(MetadataError, match=told):
        read(bytes(data))


@pytest.mark.parametrize("offset", [4, 6, 8, 10, 12, 16])
def test_end_records_that_lie(offset: int) -> None:
    data = bytearray(zipped({FOLDER: b"text"}))
    data[data.index(b"PK\x05\x06") + offset] ^= 0x7F
    if offset == 16:  # bytes before the archive are allowed, so a smaller offset only moves it: nothing is there
        data[data.index(b"PK\x05\x06") + offset] = 0
    with pytest.raises(MetadataError):
        read(bytes(data))


def test_what_is_no_zip() -> None:
    two_ends = zipped({FOLDER: b"text"}, comment=b"PK\x05\x06" * 10)
    for data in (two_ends, b"", b"PK", b"\0" * 1000, b"PK\x05\x06" + b"\xff" * 18):
        with pytest.raises(MetadataError, match="zip"):
            read(data)
    with pytest.raises(MetadataError, match="name of a wheel"):
        read(zipped({FOLDER: b"text"}), "foo-1.0.zip")


def test_a_local_header_of_another_member() -> None:
    data = bytearray(zipped({"foo-1.0.dist-info/METADATX": b"evil", FOLDER: b"text"}, zipfile.ZIP_STORED))
    second = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 4)
    struct.pack_into("<L", data, second + 42, 0)
    struct.pack_into("<L", data, second + 16, zlib.crc32(b"evil"))
    with pytest.raises(MetadataError, match="not where"):
        read(bytes(data))


SOUND = zipped({"foo.py": b"x = 1\n" * 50, FOLDER: b"Name: foo\n" * 20})


@given(st.integers(0, len(SOUND) - 1), st.integers(1, 255), st.integers(0, 40))
def test_damage_never_gives_other_metadata(position: int, flip: int, cut: int) -> None:
    data = bytearray(SOUND)
    data[position] ^= flip
    with suppress(MetadataError):
        assert read(bytes(data[: len(data) - cut])) == b"Name: foo\n" * 20
