"""What is written to media whose file systems know no permissions: FAT, exFAT and shares that somebody else mounted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import mirror
from tests.bundle_support import write_small
from tests.sync_support import World

# Such a file system refuses chmod to whoever does not own all of it, and nothing else that airgap does.
_REFUSING = """
import errno, sys
def refuse(event, arguments):
    if event == "os.chmod":
        raise PermissionError(errno.EPERM, "Operation not permitted", arguments[0])
sys.addaudithook(refuse)
from mirror.cli import main
main()
"""


def airgap(*arguments: object, cwd: Path, **environ: str) -> str:
    """Run the command line in *cwd* and return all that it said; it must succeed."""
    source = {"PYTHONPATH": str(Path(mirror.__file__).parent.parent), "PIP_CONFIG_FILE": os.devnull}
    done = subprocess.run(
        [sys.executable, "-c", _REFUSING, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **source, **environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_a_round_of_sync_there_and_back(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.index.release("alpha", "1.0")
    world.want("alpha\n")

    def sync(side: str) -> str:
        folder = tmp_path / side
        homes = {"AIRGAP_HOME": str(folder / "home"), "AIRGAP_CACHE": str(folder / "cache")}
        return airgap("sync", "plant", cwd=folder, PIP_INDEX_URL=world.index.url, **homes)

    sync("connected")
    assert world.carry()
    sync("isolated")
    assert [path.name for path in world.bring_back()] == ["plant-main-000001.receipt.json"]
    assert "receipt 1 of main: 1 uploaded" in sync("connected")


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
