"""Sdists that installers refuse to unpack."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile

import pytest

from mirror.errors import MetadataError
from mirror.metadata.unpack import check_unpacks
from tests.wheelhouse import make_sdist


def tar(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path in ("app-1.0/PKG-INFO", name):
            info = tarfile.TarInfo(path)
            if path == name:
                info.type, info.linkname = kind, link
            archive.addfile(info)
    return buffer


def test_what_installers_unpack() -> None:
    check_unpacks(io.BytesIO(make_sdist("app").data), "app-1.0.tar.gz")
    check_unpacks(tar("./app-1.0/a/../b"), "app-1.0.tar.gz")
    check_unpacks(tar("app-1.0/a/link", tarfile.SYMTYPE, "../b"), "app-1.0.tar.gz")
    check_unpacks(tar("app-1.0/link", tarfile.LNKTYPE, "app-1.0/PKG-INFO"), "app-1.0.tar.gz")
    check_unpacks(tar("pax_global_header_is_no_member"), "app-1.0.tar.gz")


@pytest.mark.parametrize(
    ("name", "kind", "link", "words"),
    [
        ("../evil", tarfile.REGTYPE, "", "lies outside"),
        ("app-1.0/../evil", tarfile.REGTYPE, "", "lies outside"),
        ("app-1.0\\..\\evil", tarfile.REGTYPE, "", "lies outside"),
        ("/etc/evil", tarfile.REGTYPE, "", "lies outside"),
        ("C:\\evil", tarfile.REGTYPE, "", "lies outside"),
        ("app-1.0/a/link", tarfile.SYMTYPE, "../../evil", "leads outside"),
        ("app-1.0/link", tarfile.SYMTYPE, "/etc/passwd", "leads outside"),
        ("app-1.0/link", tarfile.LNKTYPE, "../evil", "leads outside"),
        ("app-1.0/pipe", tarfile.FIFOTYPE, "", "a device or a pipe"),
        ("app-1.0/null", tarfile.CHRTYPE, "", "a device or a pipe"),
    ],
)
def test_what_they_refuse(name: str, kind: bytes, link: str, words: str) -> None:
    with pytest.raises(MetadataError, match=words) as caught:
        check_unpacks(tar(name, kind, link), "app-1.0.tar.gz")
    assert str(caught.value).startswith("app-1.0.tar.gz: ")


def test_zip_archives() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("app-1.0/PKG-INFO", b"")
    check_unpacks(buffer, "app-1.0.zip")
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("app-1.0/../evil", b"")
    with pytest.raises(MetadataError, match="lies outside"):
        check_unpacks(buffer, "app-1.0.zip")


def test_what_claims_to_be_enormous() -> None:
    info = tarfile.TarInfo("app-1.0/huge")
    info.size = 2**40
    head = io.BytesIO(gzip.compress(info.tobuf(tarfile.GNU_FORMAT)))
    with pytest.raises(MetadataError, match="more than any sdist should"):
        check_unpacks(head, "app-1.0.tar.gz")


@pytest.mark.parametrize("data", [b"", b"\x1f\x8b\x08garbage", b"no archive"])
def test_what_is_no_archive(data: bytes) -> None:
    for name in ("app-1.0.tar.gz", "app-1.0.zip"):
        with pytest.raises(MetadataError, match="not a sound archive"):
            check_unpacks(io.BytesIO(data), name)
