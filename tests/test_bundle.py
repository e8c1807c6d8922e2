from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import stat
import subprocess
import sys
import tarfile
import textwrap
import threading
from pathlib import Path

import pytest
import zstandard

from mirror.bundle import BundleReader, Frames, manifest, parse_manifest, prepare, unpack, write_bundle
from mirror.bundle import frames as frames_module
from mirror.errors import BundleError, HashMismatchError, IncompleteError, StorageError, UsageError
from mirror.models import Event
from mirror.store import Blob, Store
from tests.bundle_support import (
    INDEX,
    Archive,
    Wanted,
    contents,
    make_content,
    seekable_sizes,
    small,
    target,
    write_small,
)
from tests.memory_support import run_measured
from tests.wheelhouse import make_wheel

TAR_ZSTD = pytest.mark.skipif(
    not (shutil.which("zstd") and shutil.which("tar")), reason="the tar and zstd programs are not installed"
)


def test_everything_that_went_in_comes_out(tmp_path: Path) -> None:
    store, content = small(tmp_path)
    written = write_bundle(tmp_path / "bundle.tar.zst", content, store)
    data = written.path.read_bytes()
    assert (written.size, written.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    found = contents(written.path)
    assert hashlib.sha256(found["manifest.json"]).hexdigest() == written.identity
    for filename, blob in content.fetched.items():
        assert hashlib.sha256(found[f"packages/{filename}"]).hexdigest() == blob.sha256
        if filename.endswith(".whl"):
            assert found[f"packages/{filename}.metadata"] == content.metadata[filename]
    assert not any(name.endswith(".tar.gz.metadata") for name in found)
    assert found["requirements/01-requirements.txt"] == b"alpha\n"
    with BundleReader(written.path) as reader:
        reader.verify()
        assert reader.manifest.identity == written.identity
        assert reader.manifest.projects == ("alpha", "beta", "gamma-thing")
        assert [file.frame for file in reader.manifest.files] == [1, 2, 2, 3]
        assert [dict(each.pins) for each in reader.manifest.targets] == [
            {"alpha": "1.0", "beta": "2.0", "gamma-thing": "0.1"}
        ] * 2


def test_manifest_says_where_a_file_came_from_and_why(tmp_path: Path) -> None:
    written = write_small(tmp_path)
    with BundleReader(written.path) as reader:
        alpha, beta311, beta312, gamma = reader.manifest.files
    assert (alpha.index, alpha.targets, alpha.requires) == (INDEX, ("cp311-linux", "cp312-linux"), ("beta",))
    assert alpha.chain == ("requirements.txt asks for it",)
    assert (beta311.targets, beta311.yanked) == (("cp311-linux",), None)
    assert (beta312.targets, beta312.yanked) == (("cp312-linux",), "broken")
    assert (gamma.requires_python, gamma.metadata_sha256, gamma.encoding) == (">=3.8", None, "identity")


def test_same_content_gives_the_same_bytes_whatever_the_timing_store_or_path(tmp_path: Path) -> None:
    first = write_small(tmp_path / "one")
    store, content = small(tmp_path / "elsewhere")
    names = {filename: (blob.sha256, blob.size) for filename, blob in content.fetched.items()}
    (tmp_path / "out").mkdir()
    with Frames(store, tmp_path / "out", threads=3) as frames:
        for project in ("gamma-thing", "beta"):  # alpha is never started, beta twice and once with other files
            mine = [
                (name, *names[name])
                for name in sorted(names, reverse=True)
                if name.startswith(project.replace("-", "_"))
            ]
            frames.start(project, mine[:1])
            frames.start(project, mine)
            frames.start(project, mine)
        second = write_bundle(tmp_path / "out" / "other.tar.zst", content, store, frames=frames, threads=1)
    assert (second.sha256, second.identity) == (first.sha256, first.identity)
    assert second.path.read_bytes() == first.path.read_bytes()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["other.tar.zst"]


def test_order_of_input_does_not_matter(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    wanted = [Wanted(make_wheel(name)) for name in ("alpha", "beta", "gamma", "delta")]
    digests = set()
    for position in range(4):
        random.Random(position).shuffle(wanted)
        content = make_content(store, wanted)
        digests.add(write_bundle(tmp_path / f"{position}.tar.zst", content, store, threads=1 + position).sha256)
    assert len(digests) == 1


def test_projects_larger_than_a_frame_take_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "store")
    monkeypatch.setattr(manifest, "FRAME_LIMIT", 40_000)
    noise = make_wheel("noise", files={"noise.bin": random.Random(1).randbytes(130_000)})
    content = make_content(store, [Wanted(noise), Wanted(make_wheel("zeta"))], sources=())
    written = write_bundle(tmp_path / "cut.tar.zst", content, store)
    with BundleReader(written.path) as reader:
        assert [file.frame for file in reader.manifest.files] == [1, 5]
        reader.verify()
        [path] = reader.spool("noise", tmp_path)
        assert path.read_bytes() == noise.data


def test_an_empty_plan_makes_a_bundle(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    content = make_content(store, [])
    written = write_bundle(tmp_path / "empty.tar.zst", content, store)
    with BundleReader(written.path) as reader:
        reader.verify()
        assert reader.manifest.projects == ()
        unpack(reader, tmp_path / "out")
    assert (tmp_path / "out" / "packages").is_dir()


def test_names_that_no_ustar_header_holds(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    tag = "cp312-cp312-" + ".".join(f"manylinux_2_{minor}_x86_64" for minor in range(17, 26))
    long = make_wheel("a_project_with_a_rather_long_name", tag=tag)
    assert 150 < len(long.filename) <= 255
    content = make_content(store, [Wanted(long)])
    written = write_bundle(tmp_path / "bundle.tar.zst", content, store)
    with BundleReader(written.path) as reader:
        reader.verify()
    with zstandard.open(written.path, "rb") as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
        assert f"packages/{long.filename}" in {member.name for member in archive}


@TAR_ZSTD
def test_tar_and_zstd_open_it_without_a_flag(tmp_path: Path) -> None:
    written = write_small(tmp_path)
    subprocess.run(["zstd", "-q", "-t", written.path], check=True)
    out = tmp_path / "out"
    out.mkdir()
    tar = subprocess.run(["tar", "--zstd", "-xf", written.path], cwd=out, check=True, capture_output=True, text=True)
    assert tar.stderr == ""
    found = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert found == contents(written.path)
    assert {stat.S_IMODE(path.stat().st_mode) for path in out.rglob("*") if path.is_file()} == {0o644}


def test_pythons_tarfile_reads_it_from_a_pipe(tmp_path: Path) -> None:
    written = write_small(tmp_path)
    with (
        written.path.open("rb") as file,
        zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True) as stream,
        tarfile.open(fileobj=stream, mode="r|") as archive,
    ):
        members = list(archive)
    assert members[0].name == "manifest.json"
    assert {(member.mtime, member.mode, member.uid, member.uname) for member in members} == {
        (315_532_800, 0o644, 0, "")
    }


def test_seek_table_is_that_of_the_seekable_format(tmp_path: Path) -> None:
    data = write_small(tmp_path).path.read_bytes()
    offset = 0
    for size, content in seekable_sizes(data)[:-1]:
        frame = data[offset : offset + size]
        assert len(zstandard.ZstdDecompressor().decompress(frame)) == content
        parameters = zstandard.get_frame_parameters(frame)
        assert parameters.content_size == content
        assert parameters.has_checksum
        offset += size
    assert seekable_sizes(data)[-1] == (40, 0)
    assert data[offset : offset + 40][8:] == hashlib.sha256(data[:offset]).digest()


def test_progress_is_reported(tmp_path: Path) -> None:
    store, content = small(tmp_path)
    events: list[Event] = []
    written = write_bundle(tmp_path / "bundle.tar.zst", content, store, report=events.append)
    with BundleReader(written.path) as reader:
        reader.verify(report=events.append)
        unpack(reader, tmp_path / "out", events.append)
    begun = [event for event in events if event.kind == "begin"]
    done = [event for event in events if event.kind == "advance"]
    assert len(begun) == len([event for event in events if event.kind == "end"]) == 3
    assert sum(event.items for event in begun) == sum(event.items for event in done) == 12
    assert sum(event.bytes for event in begun) == sum(event.bytes for event in done)


# Writing refuses


def test_a_file_that_was_not_fetched_is_named(tmp_path: Path) -> None:
    store, content = small(tmp_path)
    fetched = {name: blob for name, blob in content.fetched.items() if not name.startswith("alpha")}
    broken = type(content)(content.plan, fetched, content.metadata)
    with pytest.raises(IncompleteError, match=r"alpha-1\.0") as caught:
        write_bundle(tmp_path / "bundle.tar.zst", broken, store)
    assert caught.value.missing == ("alpha-1.0-py3-none-any.whl",)


def test_a_file_other_than_promised_is_refused(tmp_path: Path) -> None:
    store, content = small(tmp_path)
    other = store.add(b"other")
    fetched = {**content.fetched, "alpha-1.0-py3-none-any.whl": Blob(other, 5)}
    with pytest.raises(HashMismatchError, match=r"alpha-1\.0"):
        write_bundle(tmp_path / "bundle.tar.zst", type(content)(content.plan, fetched, content.metadata), store)


@pytest.mark.parametrize("change", [-1, 1])
def test_a_store_that_holds_another_size_is_found(tmp_path: Path, change: int) -> None:
    store, content = small(tmp_path)
    name = "alpha-1.0-py3-none-any.whl"
    blob = content.fetched[name]
    fetched = {**content.fetched, name: Blob(blob.sha256, blob.size + change)}
    with pytest.raises(Exception, match=r"alpha-1\.0-py3-none-any\.whl in the store"):
        write_bundle(tmp_path / "bundle.tar.zst", type(content)(content.plan, fetched, content.metadata), store)


def test_a_failed_write_leaves_the_old_bundle_and_nothing_else(tmp_path: Path) -> None:
    store, content = small(tmp_path)
    out = tmp_path / "out"
    path = out / "bundle.tar.zst"
    write_bundle(path, content, store)
    before = path.read_bytes()
    blob = content.fetched["gamma_thing-0.1.tar.gz"]
    gone = store.path(blob.sha256)
    gone.chmod(0o600)
    gone.unlink()
    with pytest.raises(StorageError):
        write_bundle(path, content, store)
    assert path.read_bytes() == before
    assert [each.name for each in out.iterdir()] == ["bundle.tar.zst"]


@pytest.mark.skipif(sys.platform == "win32", reason="has no pipes with names of files")
def test_a_bundle_takes_the_place_of_no_device(tmp_path: Path) -> None:
    """Root could, and /dev/null is one."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    store, content = small(tmp_path)
    with pytest.raises(StorageError, match="it is a device or a pipe"):
        write_bundle(pipe, content, store)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_what_a_killed_run_left_is_taken_over(tmp_path: Path) -> None:
    store, content = small(tmp_path)
    left = tmp_path / "out" / ".bundle.tar.zst.part"
    left.parent.mkdir()
    left.write_bytes(b"x" * 1_000_000)
    written = write_bundle(tmp_path / "out" / "bundle.tar.zst", content, store)
    with BundleReader(written.path) as reader:
        reader.verify()
    assert [each.name for each in left.parent.iterdir()] == ["bundle.tar.zst"]


def test_two_writers_of_one_bundle_do_not_mix(tmp_path: Path) -> None:
    store, content = small(tmp_path)
    path = tmp_path / "bundle.tar.zst"
    expected = write_bundle(path, content, store).sha256
    outcomes: list[str] = []

    def write() -> None:
        try:
            outcomes.append(write_bundle(path, content, store).sha256)
        except StorageError as error:
            assert "Another process is writing bundle.tar.zst" in str(error)  # noqa: PT017 - in a thread
            outcomes.append("refused")

    threads = [threading.Thread(target=write) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(outcomes) <= {expected, "refused"}
    assert expected in outcomes
    assert hashlib.sha256(path.read_bytes()).hexdigest() == expected


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is a Linux device")
@pytest.mark.skipif(sys.platform == "win32", reason="resource limits")
@pytest.mark.parametrize("missing", [1, 20, 60])
def test_a_disk_that_takes_only_part_of_the_last_bytes(tmp_path: Path, missing: int) -> None:
    import resource

    store, content = small(tmp_path)
    path = tmp_path / "bundle.tar.zst"
    size = write_bundle(path, content, store).size
    path.unlink()
    prepared = prepare(content)  # its documents lie in a file that is larger than the bundle
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size - missing, before[1]))
    try:
        with pytest.raises(StorageError, match="File too large"):
            write_bundle(path, prepared, store)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not [each for each in tmp_path.iterdir() if each.is_file()]


def test_a_full_disk_is_a_storage_error(tmp_path: Path) -> None:
    store, content = small(tmp_path)
    (tmp_path / ".bundle.tar.zst.part").symlink_to("/dev/full")
    with pytest.raises(StorageError, match="Can't write"):
        write_bundle(tmp_path / "bundle.tar.zst", content, store)


# Reading


def test_streams_are_read_in_any_steps_and_may_be_left(tmp_path: Path) -> None:
    store, content = small(tmp_path)
    written = write_bundle(tmp_path / "bundle.tar.zst", content, store)
    with BundleReader(written.path) as reader:
        pieces: list[bytes] = []
        for _file, stream in reader.files("beta"):
            while piece := stream.read(7):
                pieces.append(piece)
            assert stream.read(7) == b""
        assert b"".join(pieces) == b"".join(
            store.path(file.sha256).read_bytes() for file in reader.manifest.files_of("beta")
        )
        assert [file.filename for file, _ in reader.files("beta")] == [
            file.filename for file in reader.manifest.files_of("beta")
        ]
        with pytest.raises(UsageError, match="no project 'nothing'"):
            next(reader.files("nothing"))


def test_many_threads_spool_from_one_reader(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    content = make_content(store, [Wanted(make_wheel(f"project{number}")) for number in range(20)])
    written = write_bundle(tmp_path / "bundle.tar.zst", content, store)
    failed: list[BaseException] = []
    with BundleReader(written.path) as reader:

        def spool(number: int) -> None:
            try:
                folder = tmp_path / f"spool{number}"
                folder.mkdir()
                for project in reader.manifest.projects:
                    [path] = reader.spool(project, folder)
                    assert path.read_bytes() == store.path(content.fetched[path.name].sha256).read_bytes()
            except BaseException as error:  # noqa: BLE001 - reported below
                failed.append(error)

        threads = [threading.Thread(target=spool, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failed


def test_spool_hands_out_nothing_of_a_project_with_a_damaged_file(tmp_path: Path) -> None:
    written = write_small(tmp_path)
    found = contents(written.path)
    archive = Archive.of(parse_manifest(found["manifest.json"]), found)
    header, data = archive.frames[2][1]
    archive.frames[2][1] = header, data[:-1] + bytes([data[-1] ^ 1])
    path = archive.write(tmp_path / "damaged.tar.zst")
    folder = tmp_path / "spool"
    folder.mkdir()
    with BundleReader(path) as reader:
        with pytest.raises(BundleError, match=r"packages/beta-2\.0-cp312.* SHA-256"):
            reader.spool("beta", folder)
        assert list(folder.iterdir()) == []
        assert len(reader.spool("alpha", folder)) == 1
        (_, first), (file, stream) = next(reader.files("alpha")), next(reader.files("beta"))
        assert first is not None
        assert stream.read()
        assert file.filename.startswith("beta")


def test_spool_does_not_write_through_a_link(tmp_path: Path) -> None:
    written = write_small(tmp_path)
    folder = tmp_path / "spool"
    folder.mkdir()
    (folder / "alpha-1.0-py3-none-any.whl").symlink_to(tmp_path / "victim")
    with BundleReader(written.path) as reader, pytest.raises(StorageError):
        reader.spool("alpha", folder)
    assert not (tmp_path / "victim").exists()


def test_unpack_makes_a_folder_or_nothing(tmp_path: Path) -> None:
    written = write_small(tmp_path)
    out = tmp_path / "out" / "wheelhouse"
    with BundleReader(written.path) as reader:
        unpack(reader, out)
        found = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}
        for target in reader.manifest.targets:
            assert found.pop(f"locks/{target.name}.txt").startswith(b"# What ")
        assert found == contents(written.path)
        assert stat.S_IMODE(out.stat().st_mode) == 0o755
        with pytest.raises(UsageError, match="not an empty folder"):
            unpack(reader, out)
        (tmp_path / "empty").mkdir()
        unpack(reader, tmp_path / "empty")
        assert (tmp_path / "empty" / "manifest.json").is_file()
    data = bytearray(written.path.read_bytes())
    data[-200] ^= 1
    broken = tmp_path / "broken.tar.zst"
    broken.write_bytes(data)
    with pytest.raises(BundleError), BundleReader(broken) as reader:
        unpack(reader, tmp_path / "out" / "broken")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["wheelhouse"]


def test_what_is_no_bundle_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        BundleReader(tmp_path / "missing.tar.zst")
    with pytest.raises(UsageError, match="is not a file"):
        BundleReader(tmp_path)
    path = tmp_path / "other.tar.zst"
    for data in (b"", b"hello", bytes(5000), zstandard.compress(b"x" * 5000)):
        path.write_bytes(data)
        with pytest.raises(BundleError, match=r"other\.tar\.zst: "):
            BundleReader(path)


# Cost


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource.getrusage")
def test_memory_does_not_grow_with_file_size(tmp_path: Path) -> None:
    script = tmp_path / "measure.py"
    script.write_text(
        textwrap.dedent(
            """
            import hashlib, random, sys
            from pathlib import Path
            from mirror.bundle import BundleReader, unpack, write_bundle
            from mirror.models import Hashes
            from mirror.store import Blob, Store
            from tests.bundle_support import Wanted, make_content
            from tests.wheelhouse import Built

            folder = Path(sys.argv[1])
            store = Store(folder / "store")
            wanted, fetched, block = [], {}, random.Random(1).randbytes(2**20)
            for number, size in enumerate((200, 60, 60)):
                with store.receive(str(number)) as receiver:
                    for position in range(size):
                        receiver.write(position.to_bytes(8, "big") + block[8:])
                    blob = receiver.commit()
                name = "big-1.0-py3-none-any.whl" if not number else f"wide-1.{number}-py3-none-any.whl"
                wanted.append(Wanted(Built(name, b"", b"Metadata-Version: 2.1"), [f"t{number}"]))
                fetched[name] = blob
            from tests import bundle_support as support
            content = make_content(store, wanted, targets=[support.target(f"t{n}") for n in range(3)])
            pins = content.plan
            for plan in pins.targets:
                for pin in plan.pins:
                    object.__setattr__(pin.file, "hashes", Hashes())
            content = type(content)(pins, fetched, content.metadata)
            written = write_bundle(folder / "big.tar.zst", content, store)
            with BundleReader(written.path) as reader:
                reader.verify()
                reader.spool("big", folder)
            print(written.size)
            """
        )
    )
    root = Path(__file__).parent.parent
    environment = {**os.environ, "PYTHONPATH": str(root)}
    output, peak = run_measured([sys.executable, str(script), str(tmp_path)], cwd=root, env=environment)
    size = int(output)
    assert size < 270 * 2**20, "the second of the two that share a frame costs next to nothing"
    assert peak < 150 * 2**20


def test_wheels_for_several_pythons_share_what_they_have_in_common(tmp_path: Path) -> None:
    """The same member in three wheels is stored once, for each of two platforms, name order notwithstanding."""
    store = Store(tmp_path / "store")
    wanted, targets = [], []
    for seed, platform in enumerate(("manylinux_2_28_x86_64", "win_amd64")):
        shared = random.Random(seed).randbytes(1_200_000)
        for python in ("cp311", "cp312", "cp313"):
            name = f"{python}-{platform}"
            wheel = make_wheel("shared", tag=f"{python}-{python}-{platform}", files={"shared.bin": shared})
            wanted.append(Wanted(wheel, [name]))
            targets.append(target(name))
    content = make_content(store, wanted, targets=targets)
    written = write_bundle(tmp_path / "bundle.tar.zst", content, store)
    assert written.size < 2.1 * 1_200_000
    with BundleReader(written.path) as reader:
        reader.verify()
        assert [file.filename.split("-")[-1] for file in reader.manifest.files] == (
            ["manylinux_2_28_x86_64.whl"] * 3 + ["win_amd64.whl"] * 3
        )


def test_archive_order_and_window() -> None:
    order = frames_module.archive_order
    linux = order("numpy-2.1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl")
    newer = order("numpy-2.1-cp313-cp313-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl")
    assert linux[:2] == newer[:2] == ("manylinux", "x86_64")
    assert order("numpy-2.1-cp311-cp311-macosx_14_0_arm64.whl")[:2] == ("macosx", "arm64")
    assert order("numpy-2.1-cp311-cp311-win_amd64.whl")[:2] == ("win", "amd64")
    assert order("numpy-2.1-cp311-cp311-win32.whl")[:2] == ("win", "32")
    assert order("numpy-2.1-py3-none-any.whl")[:2] == ("any", "")
    assert order("numpy-2.1.tar.gz")[:2] == ("", "")
    assert frames_module.window_log([5]) is None
    assert frames_module.window_log([5, 5]) == 20
    assert frames_module.window_log([16_000_000] * 3) == 25
    assert frames_module.window_log([10**9] * 3) == 26


def test_json_of_the_manifest_is_one_line_a_file(tmp_path: Path) -> None:
    written = write_small(tmp_path)
    text = contents(written.path)["manifest.json"].decode()
    document = json.loads(text)
    assert list(document) == sorted(document)
    assert document["format"] == "airgap-bundle"
    assert sum(line.startswith('{"builds":[') for line in text.splitlines()) == 4


def test_who_reads_a_bundle_loads_nothing_of_what_writes_one() -> None:
    program = "import sys, mirror.bundle.reader; print(*sorted(name for name in sys.modules if name[:7] == 'mirror.'))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert "mirror.bundle.archive" in loaded
    assert not loaded & {f"mirror.bundle.{name}" for name in ("content", "frames", "static", "writer")}
