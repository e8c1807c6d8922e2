"""A year of syncs, scripted: releases come and go, and media lose, double, swap, cut and flip what they carry.

Each history has a seed of its own and is the same every time. ``AIRGAP_HISTORIES`` is their number (default 4) and
``AIRGAP_ROUNDS`` their length (default 12)::

    AIRGAP_HISTORIES=200 AIRGAP_ROUNDS=60 scripts/test tests/test_sync_year.py -n 2
"""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mirror.errors import BundleError
from mirror.push.receipt import State
from mirror.sync.files import numbered
from mirror.sync.receipts import read_sealed
from tests.sync_support import TARGET, World

HISTORIES = int(os.environ.get("AIRGAP_HISTORIES") or 4)
ROUNDS = int(os.environ.get("AIRGAP_ROUNDS") or 12)
#: What may end a round on either side: nothing, a bundle in quarantine, one that waits, a conflict of disk or lock.
ALLOWED = {0, 5, 6, 8, -9}


class History:
    """One seed's year, and what must hold at every point of it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.world = World(folder, connected="resend-after = 2\nkeep = 3", isolated="keep = 5")
        self.round = 0
        self.versions: dict[str, int] = {}
        self.requires: dict[str, tuple[str, ...]] = {}
        self.published: dict[str, str] = {}
        self.wanted: list[str] = []
        self.late: list[tuple[int, Path, Path]] = []
        self.seen: set[str] = set()
        self.confirmed: set[tuple[str, str]] = set()
        self.checked = self.copies = 0
        for _ in range(4):
            self.new_project()

    # The index

    def new_project(self) -> None:
        name = f"p{len(self.versions)}"
        self.versions[name] = 0
        self.wanted.append(name)
        self.release(name)

    def release(self, name: str) -> None:
        self.versions[name] += 1
        older = [other for other in self.versions if int(other[1:]) < int(name[1:])]
        requires = tuple(sorted(self.random.sample(older, min(len(older), self.random.randrange(3)))))
        built = self.world.index.release(name, f"{self.versions[name]}.0", requires)
        self.requires[built.filename] = requires
        self.published[built.filename] = built.sha256

    def happen(self) -> None:
        """One thing that happens to an index, or to what is wanted from it."""
        name = self.random.choice(sorted(self.versions))
        usable = [
            version
            for (project, version), (_, yanked) in sorted(self.world.index.releases.items())
            if project == name and not yanked
        ]
        what = self.random.randrange(8)
        if what == 0:
            self.new_project()
        elif what == 1 and len(usable) > 1:
            self.world.index.yank(name, usable[-1])
        elif what == 2 and len(usable) > 1:
            self.world.index.remove(name, usable[0])
        elif what == 3 and len(self.wanted) > 2:  # renamed: what was wanted goes, under another name it comes
            self.wanted.remove(self.random.choice(self.wanted))
            self.new_project()
        elif what == 4:
            toml = self.world.path("connected", "airgap.toml")
            toml.write_text(toml.read_text().replace(f'["{TARGET}"]', f'["{TARGET}", "cp312-win_amd64"]'))
        elif what < 7:
            self.release(name)
        self.world.want("".join(f"{project}\n" for project in self.wanted))

    # The gap

    def carry(self, path: Path, inbox: Path) -> None:
        """Let the medium do with *path* what media do."""
        fate = self.random.choice(("now", "now", "now", "now", "late", "late", "twice", "lost", "cut", "flipped"))
        if fate in ("now", "twice"):
            self.arrive(path, inbox)
        if fate in ("late", "twice", "cut", "flipped"):
            self.copies += 1
            copy = self.world.folder / "air" / str(self.copies) / path.name
            copy.parent.mkdir(parents=True)
            data = bytearray(path.read_bytes())
            if fate == "cut":
                del data[self.random.randrange(len(data)) :]
            elif fate == "flipped":
                data[self.random.randrange(len(data))] ^= 1 << self.random.randrange(8)
            copy.write_bytes(data)
            self.late.append((self.round + self.random.randrange(1, 5), copy, inbox))

    def arrive(self, path: Path, inbox: Path) -> None:
        if inbox.parent.name == "connected":
            try:
                sealed = read_sealed(path)
            except BundleError:
                pass
            else:
                there = (State.UPLOADED, State.PRESENT)
                self.confirmed |= {(f.filename, f.sha256) for f in sealed.receipt.files if f.state in there}
        if not (inbox / path.name).exists():
            shutil.copy(path, inbox)

    def cross(self, side: str, ending: str, other: str, how: Callable[[Path, Path], None]) -> None:
        inbox = self.world.path(other, "in")
        due = [entry for entry in self.late if entry[0] <= self.round and entry[2] == inbox]
        self.late = [entry for entry in self.late if entry not in due]
        for _, path, _ in due:
            self.arrive(path, inbox)
        new = [path for path in sorted(self.world.path(side, "out").glob(f"*{ending}")) if self.is_new(path)]
        self.random.shuffle(new)
        for path in new:
            how(path, inbox)

    def is_new(self, path: Path) -> bool:
        """Whether nobody has taken this very file to the other side yet; a number may come twice after a kill."""
        key = f"{path}-{path.stat().st_ino}"
        known = key in self.seen
        self.seen.add(key)
        return not known

    # The rounds

    def turn(self, side: str) -> None:
        """Run one side; now and then it is killed, or its disk fills."""
        chance = self.random.random()
        if chance < 0.08:
            code = self.world.run_harmed(side, kill_at=self.random.randrange(1, 90))
        elif chance < 0.12:
            code = self.world.run_harmed(side, largest_file=self.random.choice((200, 2000, 6000, 20000)))
        else:
            code = self.world.run(side).exit_code
        assert code in ALLOWED, self.world.log[-5:]
        self.check()

    def live(self) -> None:
        for self.round in range(ROUNDS):
            self.happen()
            self.turn("connected")
            self.cross("connected", ".tar.zst", "isolated", self.carry)
            self.turn("isolated")
            self.cross("isolated", ".receipt.json", "connected", self.carry)
        for self.round in range(ROUNDS, ROUNDS + 6):  # and now with good media
            assert self.world.run("connected").exit_code == 0
            self.cross("connected", ".tar.zst", "isolated", self.arrive)
            assert self.world.run("isolated").exit_code in {0, 5}
            self.check()
            self.cross("isolated", ".receipt.json", "connected", self.arrive)
        newest, _ = numbered(self.world.path("connected", "out"), "plant", ".tar.zst")[-1]
        there = self.world.repository(sorted(self.versions))
        assert {file.filename for file in self.world.manifest(newest).files} <= set(there)
        assert self.world.run("connected").message == "nothing new"

    def check(self) -> None:
        """Nothing altered is there, what is there has its dependencies, and nothing confirmed is carried again."""
        there = self.world.repository(sorted(self.versions))
        assert there.items() <= self.published.items()
        projects = {name.partition("-")[0] for name in there}
        for name in there:
            assert set(self.requires[name]) <= projects
        for number, _ in numbered(self.world.path("connected", "out"), "plant", ".tar.zst"):
            if number > self.checked:
                self.checked = number
                carried = {(file.filename, file.sha256) for file in self.world.manifest(number).carried}
                assert not carried & self.confirmed


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL and resource limits")
@pytest.mark.parametrize("seed", range(HISTORIES))
def test_a_year(tmp_path: Path, seed: int) -> None:
    History(tmp_path, seed).live()
