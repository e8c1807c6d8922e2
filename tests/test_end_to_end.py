"""The whole path through the command line: pack, carry, push, install; broken off anywhere, and damaged on the way."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror import serve
from mirror.push.receipt import Receipt, State
from tests import plain
from tests.end_to_end_support import Desk, family, how_long, names, offer
from tests.http_support import Server
from tests.memory_support import run_measured
from tests.wheelhouse import Built, make_wheel


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    (tmp_path / "desk").mkdir()
    return Desk(tmp_path / "desk")


@pytest.fixture(scope="session")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an environment with nothing in it: pip, from where the tests run, installs there from outside."""
    folder = tmp_path_factory.mktemp("machine") / "venv"
    venv.create(folder, symlinks=os.name != "nt")
    return folder / ("Scripts" if os.name == "nt" else "bin") / "python"


def pip_install(interpreter: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Install into *folder* with nothing but *arguments* to go by."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    return subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--python", str(interpreter), "--isolated", "--disable-pip-version-check"),
            *("install", "--quiet", "--no-cache-dir", "--target", str(folder), *arguments),
        ],
        env={**environment, "PIP_CONFIG_FILE": os.devnull},
        check=True,
        capture_output=True,
        text=True,
    )


def test_pack_push_serve_install(server: Server, desk: Desk, interpreter: Path, tmp_path: Path) -> None:
    built = family(4, size=1000)
    lock = desk.write("want.txt", "kin-0\n")

    with Server() as other:  # what goes on from here is the same for either, because this is
        for at, as_json in ((other, False), (server, True)):
            index = offer(at, built, as_json=as_json)
            packed = desk.document("pack", lock, "-i", index, "-o", "b.tar.zst")
            assert packed["bundle"] == "b.tar.zst"
            [target] = packed["targets"].values()
            assert target["pins"] == dict.fromkeys(names(built), "1.0")
            assert [file["sha256"] for file in packed["files"]] == [one.sha256 for one in built]
            assert {file["index"] for file in packed["files"]} == {index}

    listing = desk.run("inspect", "b.tar.zst").stdout
    assert all(one.filename in listing for one in built)
    assert desk.document("verify", "b.tar.zst")["identity"] == packed["identity"]

    desk.run("unpack", "b.tar.zst", "wheelhouse")
    folder = desk.folder / "wheelhouse"
    pip_install(interpreter, tmp_path / "one", "--no-index", "--find-links", str(folder / "packages"), "kin-0")
    pip_install(interpreter, tmp_path / "two", "--index-url", (folder / "simple").as_uri(), "kin-0")

    receipt = desk.document("push", "b.tar.zst", "--repo", "pypi-hosted")
    assert receipt["counts"] == {"uploaded": 4, "present": 0, "conflict": 0, "failed": 0}
    with desk.serving() as url:
        pip_install(interpreter, tmp_path / "three", "-i", f"{url}/repository/pypi-hosted/simple/", "kin-0")
        again = desk.document("push", "b.tar.zst", "--repo", f"{url}/repository/pypi-hosted/")
    assert again["counts"]["present"] == 4
    for installed in ("one", "two", "three"):
        assert (tmp_path / installed / "kin_3.bin").read_bytes() == (tmp_path / "one" / "kin_3.bin").read_bytes()


def test_a_dry_run_fetches_no_file_and_says_the_sizes(server: Server, desk: Desk) -> None:
    built = family(3, size=300_000)
    index = offer(server, built)
    document = desk.run_here("pack", desk.write("want.txt", "kin-0\n"), "-i", index, "--dry-run", "--json").document
    assert document["bundle"] is None
    assert [file["size"] for file in document["files"]] == [len(one.data) for one in built]
    assert all(asked for one in built for asked in server.ranges(f"/simple/files/{one.filename}"))
    assert list(desk.folder.glob("*.zst")) == []


def test_two_runs_give_the_same_bytes_and_the_second_fetches_no_file(server: Server, desk: Desk) -> None:
    built = family()
    index = offer(server, built)
    lock = desk.write("want.txt", "kin-0\n")
    desk.run("pack", lock, "-i", index, "-o", "one.tar.zst")
    before = len(server.requests)
    desk.run("pack", lock, "-i", index, "-o", "two.tar.zst")
    assert (desk.folder / "one.tar.zst").read_bytes() == (desk.folder / "two.tar.zst").read_bytes()
    assert [request.path for request in server.requests[before:] if request.path.startswith("/simple/files/")] == []
    elsewhere = Desk(desk.folder / "elsewhere")
    elsewhere.folder.mkdir()
    elsewhere.run("pack", lock, "-i", index, "-o", "three.tar.zst")
    assert (desk.folder / "one.tar.zst").read_bytes() == (elsewhere.folder / "three.tar.zst").read_bytes()


def test_one_flipped_byte_fails_verify_and_uploads_nothing(server: Server, desk: Desk) -> None:
    index = offer(server, family(3, size=2000))
    desk.run_here("pack", desk.write("want.txt", "kin-0\n"), "-i", index, "-o", "b.tar.zst")
    good = (desk.folder / "b.tar.zst").read_bytes()
    places = random.Random(1).sample(range(len(good)), 6)
    with Server() as repository:
        for place in (0, *places, len(good) - 1):
            bad = bytearray(good)
            bad[place] ^= 0x10
            (desk.folder / "bad.tar.zst").write_bytes(bad)
            assert desk.run_here("verify", "bad.tar.zst", code=5).err.startswith("error: ")
            desk.run_here("push", "bad.tar.zst", "--repo", f"{repository.url}/r/", code=5)
        assert [request for request in repository.requests if request.method != "GET"] == []


def test_pack_killed_at_ten_moments_goes_on_and_fetches_nothing_twice(server: Server, tmp_path: Path) -> None:
    built = family(10, size=400_000)
    index = offer(server, built)
    command = ("pack", "../want.txt", "-i", index, "-o", "b.tar.zst")
    (tmp_path / "want.txt").write_text("kin-0\n")
    whole = Desk(tmp_path / "whole")
    whole.folder.mkdir()
    seconds = how_long(whole, *command)
    moments = random.Random(2)
    for number in range(10):
        desk = Desk(tmp_path / f"desk{number}")
        desk.folder.mkdir()
        desk.kill_after(moments.uniform(0.3, 1.0) * seconds, *command)
        safe = {path.name for path in (desk.folder / "cache" / "files").rglob("*") if path.is_file()}
        assert not (desk.folder / "b.tar.zst").exists() or len(safe) == len(built)
        before = len(server.requests)
        desk.run_here(*command)
        fetched = [request.path for request in server.requests[before:]]
        again = [one.filename for one in built if one.sha256 in safe and f"/simple/files/{one.filename}" in fetched]
        assert again == []
        assert (desk.folder / "b.tar.zst").read_bytes() == (whole.folder / "b.tar.zst").read_bytes()
        assert {path.name for path in desk.folder.iterdir()} == {"b.tar.zst", "cache"}


def test_push_killed_at_ten_moments_goes_on_and_uploads_nothing_twice(server: Server, tmp_path: Path) -> None:
    built = family(10, size=400_000)
    desk = Desk(tmp_path)
    desk.run("pack", desk.write("want.txt", "kin-0\n"), "-i", offer(server, built), "-o", "b.tar.zst")
    moments = random.Random(3)
    seconds = 0.0
    for number in range(11):
        machine = Desk(tmp_path / f"machine{number}")
        machine.folder.mkdir()
        with serve.running(machine.folder / "home") as repositories:
            repository = repositories.repository_url("pypi-hosted")
            command = ("push", tmp_path / "b.tar.zst", "--repo", repository, "--receipt", "r.json")
            if not seconds:
                seconds = how_long(machine, *command)
                continue
            machine.kill_after(moments.uniform(0.2, 1.0) * seconds, *command)
            listed_before = on_index(f"{repository}simple/", built)
            machine.run_here(*command)
            receipt = Receipt.from_json((machine.folder / "r.json").read_text())
            assert receipt.complete
            assert receipt.counts[State.UPLOADED] <= len(built) - len(listed_before)
            assert len(on_index(f"{repository}simple/", built)) == len(built)


def on_index(index: str, built: list[Built]) -> list[str]:
    """Those of *built* that the index shows with their digest."""
    with plain.Client() as client:
        pages = [client.get(f"{index}{project}/", headers={"accept": "text/html"}).text for project in names(built)]
    return [one.filename for one in built if any(f"{one.filename}#sha256={one.sha256}" in page for page in pages)]


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource.getrusage")
def test_memory_does_not_grow_with_the_size_of_a_file(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    folder = tmp_path / "links"
    small = make_wheel("big").save(folder)
    # Grown on the disk: what this process holds in memory counts for the processes that it starts.
    piece = random.Random(4).randbytes(1 << 20)
    with zipfile.ZipFile(small, "a", zipfile.ZIP_STORED) as archive:
        for number in range(250):
            archive.writestr(f"big_{number}.bin", piece)
    assert small.stat().st_size > 250_000_000
    lock = desk.write("want.txt", "big\n")
    for command in (
        ("pack", lock, "--no-index", "-f", folder, "-o", "b.tar.zst"),
        ("push", "b.tar.zst", "--repo", "pypi-hosted"),
    ):
        airgap = [sys.executable, "-m", "mirror", *map(str, command)]
        _, peak = run_measured(airgap, cwd=desk.folder, env=desk.environment)
        assert peak < 150 * 2**20


@pytest.mark.network
def test_real_projects_from_the_index_that_pip_uses(tmp_path: Path, interpreter: Path) -> None:
    """Three real projects for two targets, installed from the bundle by this interpreter's pip."""
    folder = tmp_path / "desk"
    folder.mkdir()
    lock = folder / "want.txt"
    lock.write_text("flask<4\nmarkupsafe\ncharset-normalizer\n")
    environment = {**os.environ, "AIRGAP_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "mirror", "pack", str(lock), "--target", "this", "--target", "cp310-win_amd64"]
    subprocess.run([*command, "-o", str(folder / "b.tar.zst")], env=environment, check=True)
    subprocess.run(
        [sys.executable, "-m", "mirror", "unpack", str(folder / "b.tar.zst"), str(folder / "out")], check=True
    )
    links = str(folder / "out" / "packages")
    pip_install(interpreter, tmp_path / "site", "--no-index", "--find-links", links, "-r", str(lock))
    assert (tmp_path / "site" / "flask").is_dir()


def test_a_bundle_that_is_there_is_written_again_only_when_it_is_not_what_it_was(server: Server, desk: Desk) -> None:
    index = offer(server, family(3))
    command = ("pack", desk.write("want.txt", "kin-0\n"), "-i", index, "-o", "b.tar.zst")
    desk.run(*command)
    bundle = desk.folder / "b.tar.zst"
    first, inode = bundle.read_bytes(), bundle.stat().st_ino
    desk.run_here(*command)
    assert bundle.stat().st_ino == inode
    for damaged in (first[:-1], first[:100] + b"?" + first[101:]):
        bundle.write_bytes(damaged)
        desk.run_here(*command)
        assert bundle.read_bytes() == first


def test_a_file_that_rotted_in_the_cache_does_not_get_into_a_bundle(server: Server, desk: Desk) -> None:
    built = family(2)
    command = ("pack", desk.write("want.txt", "kin-0\n"), "-i", offer(server, built), "-o")
    desk.run_here(*command, "good.tar.zst")
    [blob] = (desk.folder / "cache" / "files").glob(f"*/{built[1].sha256}")
    blob.chmod(0o644)
    rotten = bytearray(blob.read_bytes())
    rotten[len(rotten) // 2] ^= 1
    blob.write_bytes(rotten)
    failed = desk.run_here(*command, "bad.tar.zst", code=5)
    assert "kin_1-1.0-py3-none-any.whl in the store" in failed.err
    assert not (desk.folder / "bad.tar.zst").exists()
    desk.run_here("cache", "verify", code=5)
    desk.run_here(*command, "again.tar.zst")
    assert (desk.folder / "again.tar.zst").read_bytes() == (desk.folder / "good.tar.zst").read_bytes()
