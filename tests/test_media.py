"""Media that somebody else mounted: file systems that know no permissions, and files that others may not read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import mirror
from mirror.sync.outcome import read_status
from mirror.sync.state import folder_of
from tests.bundle_support import write_small
from tests.sync_support import World

# FAT, exFAT and shares refuse chmod to whoever does not own all of it, and nothing else that airgap does. Root, which
# tests may run as, may read every file: so it is refused here, and not by permissions.
CHMOD = "os.chmod "
_REFUSING = """
import errno, os, sys
refused, _, name = sys.argv.pop(1).partition(" ")
def refuse(event, arguments):
    if event == refused and name in str(arguments[0]):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), arguments[0])
sys.addaudithook(refuse)
from mirror.cli import main
main()
"""


def airgap(*arguments: object, cwd: Path, refused: str = CHMOD, code: int = 0, **environ: str) -> str:
    """Run the command line in *cwd* and return all that it said; it must end with the exit code *code*.

    *refused* is an audit event of Python's, and a part of the path that it is about.
    """
    source = {"PYTHONPATH": str(Path(mirror.__file__).parent.parent), "PIP_CONFIG_FILE": os.devnull}
    done = subprocess.run(
        [sys.executable, "-c", _REFUSING, refused, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **source, **environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout
    return done.stdout


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.index.release("alpha", "1.0")
    made.want("alpha\n")
    return made


def sync(world: World, side: str, *arguments: str, refused: str = CHMOD, code: int = 0) -> str:
    folder = world.folder / side
    homes = {"AIRGAP_HOME": str(folder / "home"), "AIRGAP_CACHE": str(folder / "cache")}
    more = {"PIP_INDEX_URL": world.index.url, **homes}
    return airgap("sync", "plant", *arguments, cwd=folder, refused=refused, code=code, **more)


def test_a_round_of_sync_there_and_back(world: World) -> None:
    sync(world, "connected")
    assert world.carry()
    sync(world, "isolated")
    assert [path.name for path in world.bring_back()] == ["plant-main-000001.receipt.json"]
    assert "receipt 1 of main: 1 uploaded" in sync(world, "connected")


def test_a_bundle_that_may_not_be_read_does_not_stop_the_others(world: World) -> None:
    for _ in range(2):
        world.run("connected", full=True)
    world.carry()
    unreadable = "open plant-000001.tar.zst"
    said = sync(world, "isolated", "--dry-run", refused=unreadable)
    assert "plant-000001.tar.zst can't be used" in said
    assert "plant-000002.tar.zst: carries 1 of 1 files; would push" in said
    said = sync(world, "isolated", refused=unreadable, code=8)
    assert "plant-000001.tar.zst: Operation not permitted" in said
    status = read_status(folder_of(world.config("isolated"), "plant"))
    assert status is not None
    first = str(world.path("isolated", "in") / "plant-000001.tar.zst")
    assert status["message"] == f"pushed 1, 1 not complete. First cause: {first}: Operation not permitted."
    assert [path.name for path in world.path("isolated", "in").glob("*.tar.zst")] == ["plant-000001.tar.zst"]
    assert world.run("isolated").pushed == ("plant-000001",)


def test_a_receipt_that_may_not_be_read_does_not_stop_the_next_bundle(world: World) -> None:
    world.run("connected")
    world.carry()
    world.run("isolated")
    (receipt,) = world.bring_back()
    world.index.release("alpha", "2.0")
    said = sync(world, "connected", refused=f"open {receipt.name}")
    assert f"{receipt.name} is left alone" in said
    assert "wrote plant-000002" in said
    assert receipt.exists()
    assert world.run("connected").pending == ()


@pytest.mark.parametrize("repository", ["folder", "embedded"])
def test_a_push_and_its_receipt(tmp_path: Path, repository: str) -> None:
    bundle = write_small(tmp_path).path
    repo = (tmp_path / "index").as_uri() if repository == "folder" else "pypi-hosted"
    assert "files are in the repository." in airgap(
        "push", bundle, "--repo", repo, cwd=tmp_path, AIRGAP_HOME=str(tmp_path / "home")
    )
    assert bundle.with_name(f"{bundle.name}.receipt.json").exists()


def test_unpacking(tmp_path: Path) -> None:
    airgap("unpack", write_small(tmp_path).path, "unpacked", cwd=tmp_path)
    assert (tmp_path / "unpacked" / "manifest.json").exists()
