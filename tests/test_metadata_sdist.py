from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import random
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import pytest

from mirror.build.source import unpack_sdist
from mirror.errors import MetadataError
from mirror.metadata import sdist
from mirror.metadata.sdist import build_requires, may_ask_for_more, sdist_metadata
from mirror.metadata.unpack import check_unpacks
from mirror.metadata.wheel import METADATA_LIMIT
from tests.wheelhouse import make_sdist

NAME = "foo-1.0.tar.gz"
Member = tuple[str, bytes] | tarfile.TarInfo


def tarred(
    *members: Member, compress: Callable[[bytes], bytes] = gzip.compress, form: int = tarfile.PAX_FORMAT
) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return compress(buffer.getvalue())


def read(data: bytes, filename: str = NAME) -> bytes:
    return sdist_metadata(io.BytesIO(data), filename)


def link(name: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info


@pytest.mark.parametrize(
    ("filename", "compress"),
    [
        (NAME, gzip.compress),
        ("foo-1.0.tgz", gzip.compress),
        ("foo-1.0.tar.bz2", bz2.compress),
        ("foo-1.0.tar.xz", lzma.compress),
    ],
)
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_archives(filename: str, compress: Callable[[bytes], bytes], form: int) -> None:
    deep = "foo-1.0/" + "d/" * 70 + "PKG-INFO"
    members: Iterable[Member] = [
        ("foo-1.0/empty", b""),
        ("foo-1.0/big", b"\0" * 100_000),
        ("foo-1.0/foo.egg-info/PKG-INFO", b"not this"),
        *([] if form == tarfile.USTAR_FORMAT else [(deep, b"not this"), ("foo-1.0/" + "x" * 300, b"long")]),
        ("foo-1.0/PKG-INFO", b"this"),
        ("foo-1.0/setup.py", b"raise SystemExit"),
    ]
    assert read(tarred(*members, compress=compress, form=form), filename) == b"this"


def test_zip() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("foo-1.0/a/PKG-INFO", b"not this")
        archive.writestr("foo-1.0/PKG-INFO", b"this")
    assert read(buffer.getvalue(), "foo-1.0.zip") == b"this"
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("bar-1.0/PKG-INFO", b"or this")
    with pytest.raises(MetadataError, match="both"):
        read(buffer.getvalue(), "foo-1.0.zip")


def test_the_sdists_that_tests_build() -> None:
    built = make_sdist("foo", "1.0", requires=["bar"])
    assert read(built.data, built.filename) == built.metadata


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not an archive",
        gzip.compress(b""),
        gzip.compress(b"not a tar" * 1000),
        tarred(("foo-1.0/setup.py", b"")),
        tarred(("PKG-INFO", b"at the top")),
        tarred(("/PKG-INFO", b"no folder")),
        tarred(("foo-1.0/x/PKG-INFO", b"too deep")),
        tarred(link("foo-1.0/PKG-INFO", tarfile.SYMTYPE)),
        tarred(link("foo-1.0/PKG-INFO", tarfile.LNKTYPE)),
        tarred(link("foo-1.0/PKG-INFO", tarfile.FIFOTYPE)),
        tarred(("foo-1.0/PKG-INFO", b"x" * 10_000))[:-200],
        tarred(("foo-1.0/x", bytes(range(256)) * 400), ("foo-1.0/PKG-INFO", b"x"))[:200],
    ],
    ids=lambda data: hashlib.sha256(data[10:]).hexdigest()[:8],  # a gzip header holds the time
)
def test_what_is_no_sdist(data: bytes) -> None:
    with pytest.raises(MetadataError, match=NAME):
        read(data)


@pytest.mark.parametrize(("ending", "compress"), [("bz2", bz2.compress), ("xz", lzma.compress)])
def test_bytes_that_were_damaged(ending: str, compress: Callable[[bytes], bytes], tmp_path: Path) -> None:
    noise = bytes(random.Random(0).choices(b"abcdefgh", k=300_000))
    raw = bytearray(tarred(("foo-1.0/data", noise), ("foo-1.0/PKG-INFO", b""), compress=compress))
    raw[len(raw) // 2 : len(raw) // 2 + 3000] = b"\xff" * 3000
    filename = f"foo-1.0.tar.{ending}"
    for reader in (sdist_metadata, check_unpacks, partial(unpack_sdist, folder=tmp_path)):
        with pytest.raises(MetadataError, match=filename):
            reader(io.BytesIO(raw), filename)


def test_a_name_that_is_no_sdists() -> None:
    with pytest.raises(MetadataError, match="name of an sdist"):
        read(b"", "foo-1.0.rpm")


def test_bombs(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MetadataError, match="limit"):
        read(tarred(("foo-1.0/PKG-INFO", b"\0" * (METADATA_LIMIT + 1))))
    header = tarfile.TarInfo("foo-1.0/x")
    header.type, header.size = tarfile.XHDTYPE, 2**40
    with pytest.raises(MetadataError, match="limit"):
        read(gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + bytes(METADATA_LIMIT + tarfile.BLOCKSIZE)))
    extended = tarfile.TarInfo("foo-1.0/x")
    extended.type, extended.size = tarfile.XHDTYPE, METADATA_LIMIT + 1
    hidden = gzip.compress(
        gzip.decompress(tarred(("foo-1.0/PKG-INFO", b"x")))[:1024]  # its header and content, not the end of the archive
        + extended.tobuf(tarfile.GNU_FORMAT)
        + bytes(METADATA_LIMIT + tarfile.BLOCKSIZE)
    )
    with pytest.raises(MetadataError, match="limit"):
        check_unpacks(io.BytesIO(hidden), "foo-1.0.tar.gz")
    monkeypatch.setattr(sdist, "_SCAN_LIMIT", 1_000_000)
    with pytest.raises(MetadataError, match="unpacks to more"):
        read(tarred(("foo-1.0/x", b"\0" * 2_000_000), ("foo-1.0/PKG-INFO", b"x")))
    monkeypatch.setattr(sdist, "_MEMBER_LIMIT", 100)
    with pytest.raises(MetadataError, match="more than 100 members"):
        read(tarred(*[(f"foo-1.0/{number}", b"") for number in range(200)], ("foo-1.0/PKG-INFO", b"x")))


def requires(pyproject: str | None) -> list[str]:
    built = make_sdist("foo", "1.0", pyproject=pyproject)
    return [str(requirement) for requirement in build_requires(io.BytesIO(built.data), built.filename)]


def test_build_requirements() -> None:
    assert requires('[build-system]\nrequires = ["hatchling>=1", "x; python_version < \'3\'"]\n') == [
        "hatchling>=1",
        'x; python_version < "3"',
    ]
    assert requires("[build-system]\nrequires = []\n") == []
    assert requires(None) == requires("[tool.x]\n") == ["setuptools>=40.8.0", "wheel"]


@pytest.mark.parametrize(
    "pyproject",
    ["[build-system", "[build-system]\n", "[build-system]\nrequires = 'x'\n", "[build-system]\nrequires = [1]\n",
     "build-system = 1\n", "[build-system]\nrequires = ['>']\n"],
)  # fmt: skip
def test_build_requirements_that_cannot_be_read(pyproject: str) -> None:
    with pytest.raises(MetadataError, match=r"foo-1\.0\.tar\.gz.*pyproject\.toml"):
        requires(pyproject)


@pytest.mark.parametrize(
    ("pyproject", "files", "more"),
    [
        (None, {}, False),
        (None, {"setup.py": b"setup(setup_requires=['cffi'])"}, True),
        (None, {"setup.cfg": b"[options]\nsetup_requires = cffi\n"}, True),
        ("[build-system]\nrequires = []\nbuild-backend = 'flit_core.buildapi'\n", {}, False),
        ("[build-system]\nrequires = []\nbuild-backend = 'mesonpy'\n", {}, True),
        ("[build-system]\nrequires = []\nbuild-backend = 'flit_core.buildapi'\nbackend-path = ['.']\n", {}, True),
    ],
)
def test_backends_that_may_ask_for_more(pyproject: str | None, files: dict[str, bytes], more: bool) -> None:
    built = make_sdist("alpha", pyproject=pyproject, files=files)
    assert may_ask_for_more(io.BytesIO(built.data), built.filename) is more
