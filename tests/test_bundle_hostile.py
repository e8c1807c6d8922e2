"""Archives that were built to do harm, and archives that were damaged: each is refused, and the member named."""

from __future__ import annotations

import hashlib
import json
import random
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from mirror.bundle import BundleReader, Member, manifest, parse_manifest, tar, unpack, write_bundle
from mirror.bundle.consistency import check
from mirror.bundle.frames import compress
from mirror.bundle.manifest import MANIFEST
from mirror.errors import BundleError
from mirror.store import Store
from tests.bundle_support import (
    Archive,
    Wanted,
    contents,
    make_content,
    part,
    raw_header,
    seekable_sizes,
    write_frames,
    write_small,
)
from tests.wheelhouse import make_wheel

ALPHA = "packages/alpha-1.0-py3-none-any.whl"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small(tmp_path_factory.mktemp("bundle")).path


@pytest.fixture
def archive(bundle: Path) -> Archive:
    found = contents(bundle)
    return Archive.of(parse_manifest(found["manifest.json"]), found)


def verify(path: Path) -> None:
    with BundleReader(path) as reader:
        reader.verify()


def refused(path: Path, match: str) -> None:
    with pytest.raises(BundleError, match=match):
        verify(path)
    folder = path.with_suffix(".out")
    # What unpack doesn't read, such as the end of the archive, can't hurt it: then nothing foreign may come out.
    with suppress(BundleError), BundleReader(path) as reader:
        unpack(reader, folder)
        named = {member.path for member in reader.manifest.members} | {file.path for file in reader.manifest.files}
        ours = {MANIFEST} | {f"locks/{target.name}.txt" for target in reader.manifest.targets}
        assert {each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_file()} == named | ours
    left = [each.name for each in path.parent.iterdir() if each.name.endswith(".part")]
    assert not left


def test_taking_apart_and_putting_together_changes_nothing(bundle: Path, archive: Archive, tmp_path: Path) -> None:
    verify(archive.write(tmp_path / "again.tar.zst"))
    assert contents(tmp_path / "again.tar.zst") == contents(bundle)


@pytest.mark.parametrize(
    ("path", "kind", "problem"),
    [
        ("/etc/passwd", b"0", "'/etc/passwd'.*absolute"),
        ("C:\\evil.txt", b"0", "absolute"),
        ("../../evil", b"0", r"'\.\./\.\./evil'.*leads out"),
        ("packages/../../evil", b"0", "leads out"),
        ("packages\\..\\evil", b"0", "leads out"),
        ("packages/link.whl", b"2", "packages/link.whl.*symbolic link"),
        (ALPHA, b"1", "hard link"),
        ("packages/device.whl", b"3", "character device"),
        ("packages/device.whl", b"4", "block device"),
        ("packages/pipe.whl", b"6", "named pipe"),
        ("packages", b"5", "folder"),
        ("packages/unnamed-1.0.whl", b"0", "packages/unnamed-1.0.whl.*not named by the manifest"),
    ],
)
@pytest.mark.parametrize("place", ["before", "after", "end"])
def test_foreign_members(archive: Archive, tmp_path: Path, path: str, kind: bytes, problem: str, place: str) -> None:
    evil = (raw_header(path, 0 if kind != b"0" else 4, kind, link="/etc/passwd"), b"" if kind != b"0" else b"evil")
    if place == "before":
        archive.frames[1].insert(0, evil)
    elif place == "after":
        archive.frames[1].append(evil)
    else:
        archive.end = evil[0] + evil[1].ljust(512, b"\0") + tar.END
    refused(archive.write(tmp_path / "evil.tar.zst"), problem)


def test_a_foreign_member_behind_a_pax_header(archive: Archive, tmp_path: Path) -> None:
    name = "../" * 40 + "evil"
    archive.frames[2].insert(1, part(name, b"evil"))
    refused(archive.write(tmp_path / "evil.tar.zst"), "leads out")


def test_a_member_twice(archive: Archive, tmp_path: Path) -> None:
    archive.frames[1].append(archive.frames[1][0])
    refused(archive.write(tmp_path / "evil.tar.zst"), f"{ALPHA}.*second time")


def test_a_missing_member(archive: Archive, tmp_path: Path) -> None:
    del archive.frames[2][1]
    refused(archive.write(tmp_path / "evil.tar.zst"), r"ends where packages/beta-2\.0-cp312.* missing")


def test_a_missing_document(archive: Archive, tmp_path: Path) -> None:
    del archive.frames[0][4]
    refused(archive.write(tmp_path / "evil.tar.zst"), "out of order")


def test_reordered_members(archive: Archive, tmp_path: Path) -> None:
    archive.frames[2].reverse()
    refused(archive.write(tmp_path / "evil.tar.zst"), r"beta-2\.0-cp312.* where packages/beta-2\.0-cp311.*out of order")


def test_reordered_frames(archive: Archive, tmp_path: Path) -> None:
    archive.frames[1], archive.frames[3] = archive.frames[3], archive.frames[1]
    refused(archive.write(tmp_path / "evil.tar.zst"), "gamma.* where .*alpha.*out of order")


def test_more_bytes_than_promised(archive: Archive, tmp_path: Path) -> None:
    header, data = archive.frames[1][0]
    archive.frames[1][0] = part(ALPHA, data + b"x")
    refused(archive.write(tmp_path / "evil.tar.zst"), f"{ALPHA}.* bytes, .* by the manifest")
    archive.frames[1][0] = header, data + b"x" * 512
    refused(archive.write(tmp_path / "evil.tar.zst"), f"(?s){ALPHA}|after the last member")


def test_fewer_bytes_than_promised(archive: Archive, tmp_path: Path) -> None:
    header, data = archive.frames[1][0]
    archive.frames[1][0] = header, data[:-600]
    refused(archive.write(tmp_path / "evil.tar.zst"), f"{ALPHA} ends .* bytes too early")


def test_other_bytes_than_promised(archive: Archive, tmp_path: Path) -> None:
    header, data = archive.frames[1][0]
    archive.frames[1][0] = header, bytes([data[0] ^ 1]) + data[1:]
    refused(archive.write(tmp_path / "evil.tar.zst"), f"{ALPHA} does not have the SHA-256")


def test_padding_that_is_not_zero(archive: Archive, tmp_path: Path) -> None:
    blobs = archive.blobs()
    position = next(index for index, blob in enumerate(blobs[1:-1], 1) if blob[-1:] == b"\0")
    blobs[position] = blobs[position][:-1] + b"x"
    path = write_frames(tmp_path / "evil.tar.zst", [(b"".join(compress([b], len(b))), len(b)) for b in blobs])
    refused(path, "packages/.* is not followed by zeros")


def test_a_header_with_an_owner(archive: Archive, tmp_path: Path) -> None:
    header, data = archive.frames[1][0]
    block = bytearray(header)
    block[108:116] = b"0001750\0"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    archive.frames[1][0] = bytes(block), data
    refused(archive.write(tmp_path / "evil.tar.zst"), f"{ALPHA}.*header that no bundle has")


def _pack(blob: bytes) -> bytes:
    return b"".join(compress([blob], len(blob)))


def test_a_frame_that_decompresses_to_far_more(archive: Archive, tmp_path: Path) -> None:
    blobs = archive.blobs()
    frames = [(_pack(blob), len(blob)) for blob in blobs]
    bomb = blobs[1] + bytes(2**26)
    frames[1] = _pack(bomb), len(bomb)
    refused(write_frames(tmp_path / "honest.tar.zst", frames), "after the last member")
    frames[1] = _pack(bomb), len(blobs[1])
    refused(write_frames(tmp_path / "lying.tar.zst", frames), "Frame 1 does not hold")
    frames[:2] = [(_pack(blobs[0] + bytes(2**26)), len(blobs[0]) + 2**26), (_pack(blobs[1]), len(blobs[1]))]
    refused(write_frames(tmp_path / "documents.tar.zst", frames), "after the last member")
    large = tar.header(MANIFEST, 2**28) + bytes(2**28)
    frames[0] = _pack(large), len(large)
    refused(write_frames(tmp_path / "manifest.tar.zst", frames), "more than any manifest")


def test_a_frame_that_hides_behind_another(archive: Archive, tmp_path: Path) -> None:
    """What tar would unpack and a reader of the seek table would not see."""
    blobs = archive.blobs()
    frames = [(_pack(blob), len(blob)) for blob in blobs]
    hidden = b"".join(part("packages/hidden-1.0.whl", b"x" * 512))
    frames[1] = frames[1][0] + _pack(hidden), frames[1][1]
    evil = write_frames(tmp_path / "evil.tar.zst", frames)
    refused(evil, "Frame 1 is not the one zstd frame")
    with BundleReader(evil) as reader, pytest.raises(BundleError, match="Frame 1 is not the one zstd frame"):
        reader.check(threading.Event())  # what a push does before its first upload
    frames[1] = frames[1][0][: len(frames[1][0]) - len(_pack(hidden))] + struct.pack("<II", 0x184D2A50, 4) + b"evil", 0
    frames[1] = frames[1][0], len(blobs[1])
    refused(write_frames(tmp_path / "evil.tar.zst", frames), "Frame 1 is not the one zstd frame")


def test_an_extra_frame(archive: Archive, tmp_path: Path) -> None:
    archive.frames.append([part("packages/unnamed-1.0.whl", b"evil")])
    refused(archive.write(tmp_path / "evil.tar.zst"), "7 frames, the manifest accounts for 6")


def test_a_large_project_cut_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "FRAME_LIMIT", 40_000)
    noise = make_wheel("noise", files={"noise.bin": random.Random(1).randbytes(60_000)})
    store = Store(tmp_path / "store")
    written = write_bundle(tmp_path / "bundle.tar.zst", make_content(store, [Wanted(noise)]), store)
    found = contents(written.path)
    archive = Archive.of(parse_manifest(found["manifest.json"]), found)
    *others, project, end = archive.blobs()
    for cut, problem in ((40_000, ""), (39_999, "frames of noise are not cut")):
        blobs = [*others, project[:cut], project[cut:], end]
        path = write_frames(tmp_path / "cut.tar.zst", [(_pack(blob), len(blob)) for blob in blobs])
        if problem:
            refused(path, problem)
        else:
            verify(path)


def test_a_frame_without_checksum_or_content_size(archive: Archive, tmp_path: Path) -> None:
    blobs = archive.blobs()
    frames = [(_pack(blob), len(blob)) for blob in blobs]
    frames[2] = zstandard.ZstdCompressor(write_checksum=False).compress(blobs[2]), len(blobs[2])
    refused(write_frames(tmp_path / "evil.tar.zst", frames), "Frame 2 does not hold")
    frames[2] = (
        zstandard.ZstdCompressor(write_checksum=True, write_content_size=False).compress(blobs[2]),
        len(blobs[2]),
    )
    refused(write_frames(tmp_path / "evil.tar.zst", frames), "Frame 2 does not hold")


def test_a_window_larger_than_format_1_allows(archive: Archive, tmp_path: Path) -> None:
    blobs = archive.blobs()
    frames = [(_pack(blob), len(blob)) for blob in blobs]
    # A frame header of its own: window descriptor for 2**28, content size in 4 bytes, checksum flag; one raw block.
    header = b"\x28\xb5\x2f\xfd" + bytes([0b10000100, (28 - 10) << 3]) + struct.pack("<I", len(blobs[1]))
    block = struct.pack("<I", 1 | len(blobs[1]) << 3)[:3] + blobs[1] + bytes(4)
    frames[1] = header + block, len(blobs[1])
    refused(write_frames(tmp_path / "evil.tar.zst", frames), "window of 268435456")


@pytest.mark.parametrize("size", [0, 1, 8, 17, 100, 0.5, -1, -9, -40])
def test_truncated(bundle: Path, tmp_path: Path, size: float) -> None:
    data = bundle.read_bytes()
    path = tmp_path / "short.tar.zst"
    path.write_bytes(data[: int(size * len(data)) if size == 0.5 else int(size)])
    refused(path, "short.tar.zst: ")


def test_bytes_around_a_bundle(bundle: Path, tmp_path: Path) -> None:
    data = bundle.read_bytes()
    path = tmp_path / "long.tar.zst"
    for changed in (data + b"\0", b"\0" + data, data + data):
        path.write_bytes(changed)
        refused(path, "long.tar.zst: ")


def test_a_seek_table_that_lies(bundle: Path, tmp_path: Path) -> None:
    data = bundle.read_bytes()
    sizes = seekable_sizes(data)
    path = tmp_path / "lying.tar.zst"
    table = len(sizes) * 8 + 17
    for position, (size, content) in enumerate(sizes):
        for change in ((1, 0), (-1, 0), (0, 1), (0, -1), (0, 2**30)):
            lied = list(sizes)
            if content + change[1] < 0:
                continue
            lied[position] = size + change[0], content + change[1]
            if change[0]:  # keep the sum
                other = (position + 1) % len(sizes)
                lied[other] = lied[other][0] - change[0], lied[other][1]
            entries = b"".join(struct.pack("<II", *each) for each in lied)
            path.write_bytes(data[: -table + 8] + entries + data[-9:])
            with pytest.raises(BundleError):
                verify(path)


def _document(archive: Archive) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(archive.frames[0][0][1])
    return document


def _with_manifest(archive: Archive, data: bytes, path: Path) -> Path:
    archive.frames[0][0] = part("manifest.json", data)
    return archive.write(path)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda d: d.update(version=2), "format version 2; this airgap reads 1"),
        (lambda d: d.update(version="1"), "format version 1"),
        (lambda d: d.update(version=True), "version"),
        (lambda d: d.update(format="other"), "not one of an airgap bundle"),
        (lambda d: d.update(more=1), "more is unknown"),
        (lambda d: d.pop("targets"), "targets is missing"),
        (lambda d: d["files"][0].update(size=-1), r"files\[0\]\.size is not a count"),
        (lambda d: d["files"][0].update(size=1.5), r"files\[0\]\.size"),
        (lambda d: d["files"][0].update(size=2**70), r"files\[0\]\.size"),
        (lambda d: d["files"][0].update(sha256="xyz"), r"files\[0\]\.sha256"),
        (lambda d: d["files"][0].update(filename="../x"), r"files\[0\]\.filename"),
        (lambda d: d["files"][0].update(filename="a/b"), r"files\[0\]\.filename"),
        (lambda d: d["files"][0].update(filename="a\ud800.whl"), r"files\[0\]\.filename is not Unicode"),
        (lambda d: d["files"][0].update(filename="a\0.whl"), r"files\[0\]\.filename"),
        (lambda d: d["files"][0].update(project="Alpha"), r"files\[0\]\.project"),
        (lambda d: d["files"][0].update(encoding="delta"), "alpha-1.0.*encoded as 'delta'"),
        (lambda d: d["files"][0].update(frame=5), "alpha into frame 1"),
        (lambda d: d["files"][0].update(targets=["nowhere"]), "alpha-1.0.* is for nowhere"),
        (lambda d: d["files"][0].update(targets=["cp312-linux"]), "no file of alpha 1.0 for cp311-linux"),
        (lambda d: d["files"][0].update(version="1.0\x1b[2J"), "can't be printed"),
        (lambda d: d["files"][0].update(version="2.0"), "alpha-1.0.*does not install 2.0"),
        (lambda d: d["files"][0].update({"metadata-sha256": None}), r"contradicts itself about .*alpha.*\.metadata"),
        (lambda d: d["files"][0].update(chain="x"), r"files\[0\]\.chain"),
        (lambda d: d["files"].append(d["files"][0]), "projects of files are not sorted"),
        (lambda d: d["files"].insert(0, d["files"][0]), r"alpha-1.0.* twice"),
        (lambda d: d["files"].__setitem__(0, []), r"files\[0\] is not an object"),
        (lambda d: d["members"].pop(), "no simple/index.json|names no"),
        (lambda d: d["members"][0].update(path="etc/passwd"), r"members\[0\]\.path has no place"),
        (lambda d: d["members"][0].update(path="/simple/x"), r"members\[0\]\.path"),
        (lambda d: d["members"][0].update(path="simple/../x"), r"members\[0\]\.path"),
        (lambda d: d["members"][0].update(path="simple"), r"members\[0\]\.path"),
        (lambda d: d["members"][0].update(path="simple/a/b/c"), r"members\[0\]\.path"),
        (lambda d: d["members"][0].update(size=2**31), "more members than fit"),
        (lambda d: d["targets"][0].update(name="../x"), r"targets\[0\]\.name"),
        (lambda d: d["targets"][0].update(tags=[1]), r"targets\[0\]\.tags"),
        (lambda d: d["targets"][0]["pins"].update(Beta="1"), r"targets\[0\]\.pins"),
        (lambda d: d["targets"][0]["pins"].update(delta="1"), "no file of delta 1"),
        (lambda d: d["targets"][0].update(markers=[]), r"targets\[0\]\.markers"),
        (lambda d: d["targets"].reverse(), "targets are not sorted"),
    ],
)
def test_manifests_that_are_wrong(
    archive: Archive, tmp_path: Path, change: Callable[[dict[str, Any]], object], problem: str
) -> None:
    document = _document(archive)
    change(document)
    with pytest.raises(BundleError, match=problem):
        verify(_with_manifest(archive, json.dumps(document).encode(), tmp_path / "evil.tar.zst"))


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"version": ' + b"1" * 5000 + b"}"]
)
def test_manifests_that_are_none(archive: Archive, tmp_path: Path, data: bytes) -> None:
    with pytest.raises(BundleError, match="manifest"):
        verify(_with_manifest(archive, data, tmp_path / "evil.tar.zst"))


def test_a_manifest_in_another_form(archive: Archive, tmp_path: Path) -> None:
    data = json.dumps(_document(archive)).encode()
    with pytest.raises(BundleError, match="canonical"):
        verify(_with_manifest(archive, data, tmp_path / "evil.tar.zst"))


def test_a_first_member_that_is_no_manifest(archive: Archive, tmp_path: Path) -> None:
    archive.frames[0][0] = part("other.json", b"{}")
    refused(archive.write(tmp_path / "evil.tar.zst"), "first member is 'other.json'")


def test_names_that_some_file_systems_confuse(bundle: Path) -> None:
    whole = parse_manifest(contents(bundle)["manifest.json"])
    twice = replace(whole.files[0], filename=whole.files[0].filename.upper(), metadata_sha256=None)
    members = (*whole.members, Member("requirements/01-REQUIREMENTS.txt", 0, "0" * 64))
    with pytest.raises(BundleError, match="twice"):
        check(replace(whole, files=(whole.files[0], twice, *whole.files[1:])))
    with pytest.raises(BundleError, match="twice"):
        check(replace(whole, members=tuple(sorted(members, key=lambda member: member.path))))


def _rewritten(archive: Archive, path: str, data: bytes) -> None:
    """Replace a member and make the manifest agree, as whoever owns the bundle could."""
    before = parse_manifest(archive.frames[0][0][1])
    position = [member.path for member in before.members].index(path)
    members = list(before.members)
    members[position] = replace(members[position], size=len(data), sha256=hashlib.sha256(data).hexdigest())
    archive.frames[0][0] = part("manifest.json", replace(before, members=tuple(members)).to_bytes())
    archive.frames[0][position + 1] = part(path, data)


@pytest.mark.parametrize(
    "path",
    [
        "simple/index.html",
        "simple/index.json",
        "simple/beta/index.html",
        "simple/beta/index.json",
        "locks/pylock.cp312-linux.toml",
    ],
)
@pytest.mark.parametrize("kind", ["garbage", "empty", "digest", "url"])
def test_documents_that_contradict_the_manifest(
    bundle: Path, archive: Archive, tmp_path: Path, path: str, kind: str
) -> None:
    found = contents(bundle)
    original = found[path]
    digest = parse_manifest(found["manifest.json"]).files_of("beta")[1].sha256.encode()
    data = {
        "garbage": b"\xff\xfe{",
        "empty": b"",
        "digest": original.replace(digest, b"0" * 64),
        "url": original.replace(b"packages/beta", b"packages/../evil").replace(b"beta/", b"evil/"),
    }[kind]
    if path.startswith("simple/index") and kind in ("digest", "url"):
        data = original.replace(b"beta", b"evil")
    assert data != original
    _rewritten(archive, path, data)
    with pytest.raises(BundleError, match=path):
        verify(archive.write(tmp_path / "evil.tar.zst"))


def test_one_flipped_bit_anywhere_is_found(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    content = make_content(store, [Wanted(make_wheel("alpha"))])
    data = bytearray(write_bundle(tmp_path / "whole.tar.zst", content, store).path.read_bytes())
    path = tmp_path / "flipped.tar.zst"
    offsets = [0]
    for size, _ in seekable_sizes(bytes(data)):
        offsets.append(offsets[-1] + size)
    everywhere = set(range(0, len(data), 7))
    frames = {offset + step for offset in offsets for step in range(24) if offset + step < len(data)}
    ends = {offset - step for offset in offsets[1:] for step in range(1, 9)}
    table = set(range(offsets[-1] - 40, len(data)))
    chance = random.Random(7)
    for position in sorted(everywhere | frames | ends | table):
        for bit in {chance.randrange(8)} if position not in table | frames else set(range(8)):
            data[position] ^= 1 << bit
            path.write_bytes(data)
            with pytest.raises(BundleError), BundleReader(path) as reader:
                reader.verify(threads=1)
            data[position] ^= 1 << bit
    path.write_bytes(data)
    verify(path)


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=3000))
def test_random_bytes_are_never_more_than_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "random.tar.zst"
    path.write_bytes(data)
    with pytest.raises(BundleError):
        BundleReader(path)


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 18, 1000])
def test_frames_are_followed_however_they_are_cut(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr("mirror.bundle.archive._CHUNK", piece)
    with BundleReader(bundle) as reader:
        reader.check(threading.Event())
