"""A year of syncs, scripted: releases come and go, and media lose, double, swap, cut and flip what they carry.

Each history has a seed of its own and is the same every time, but for where exactly a thread was when its process was
killed. ``AIRGAP_HISTORIES`` is their number and ``AIRGAP_ROUNDS`` their length; a soak is more of both::

    AIRGAP_HISTORIES=5000 AIRGAP_ROUNDS=365 scripts/test tests/test_sync_year.py

What makes a history cheap: its folder is in memory where there is such a folder, undisturbed rounds run in this process
through the function that the command calls, and disturbed ones in children of a process that has imported everything.
Where nothing has changed for a side since it last looked, it mostly sleeps through the night, as a machine may that is
switched off: a kill seldom meets a round that has nothing to do. Nothing that sync does is left out or put on.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from mirror.errors import BundleError
from mirror.push.receipt import State
from mirror.sync.files import numbered
from mirror.sync.receipts import read_sealed
from tests.sync_support import Nursery, World

HISTORIES = int(os.environ.get("AIRGAP_HISTORIES") or 200)
ROUNDS = int(os.environ.get("AIRGAP_ROUNDS") or 60)
#: What may end a round on either side: nothing, no resolution, a bundle in quarantine, one that waits, a conflict of
#: disk or lock, a kill.
ALLOWED = {0, 3, 5, 6, 8, -9}
#: The second comes in later. Of the tags that a Linux takes, a round would write down and read a thousand each time.
TARGETS = ("cp312-win_amd64", "cp313-win_amd64")
#: As many projects are wanted at a time; more make a history longer, not richer.
PROJECTS = 5


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    with Nursery() as made:
        yield made


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory, where the machine has one: a year syncs many files to disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as made:
        yield Path(made)


class History:
    """One seed's year, and what must hold at every point of it."""

    def __init__(self, folder: Path, seed: int, nursery: Nursery) -> None:
        self.random = random.Random(seed)
        self.nursery = nursery
        self.world = World(folder, connected="resend-after = 2\nkeep = 3", isolated="keep = 5", target=TARGETS[0])
        self.round = 0
        self.versions: dict[str, int] = {}
        self.requires: dict[str, dict[str, SpecifierSet]] = {}
        self.published: dict[str, str] = {}
        self.wanted: dict[str, str] = {}
        self.late: list[tuple[int, Path, Path]] = []
        self.seen: set[str] = set()
        self.confirmed: set[tuple[str, str]] = set()
        self.checked = self.copies = 0
        self.there: dict[str, str] = {}
        self.catalog = b""
        self.news = {"connected": True, "isolated": True}
        self.unconfirmed = False
        for _ in range(3):
            self.new_project()
        self.want()

    # The index

    def new_project(self) -> None:
        name = f"p{len(self.versions)}"
        self.versions[name] = 0
        self.wanted[name] = ""
        self.release(name)

    def release(self, name: str) -> None:
        self.versions[name] += 1
        older = [other for other in self.wanted if int(other[1:]) < int(name[1:])]
        requires = {
            other: SpecifierSet(f">={self.random.randrange(1, self.versions[other] + 1)}.0")
            for other in sorted(self.random.sample(older, min(len(older), self.random.randrange(3))))
        }
        lines = [f"{other}{specifiers}" for other, specifiers in requires.items()]
        built = self.world.index.release(name, f"{self.versions[name]}.0", lines)
        self.requires[built.filename] = requires
        self.published[built.filename] = built.sha256

    def usable(self, name: str) -> list[str]:
        """The versions of *name* that are there and not yanked, oldest first."""
        found = [
            version
            for (project, version), (_, yanked) in self.world.index.releases.items()
            if project == name and not yanked
        ]
        return sorted(found, key=float)

    def happen(self) -> None:
        """One thing that happens to an index, or to what is wanted from it."""
        name = self.random.choice(sorted(self.wanted))
        usable = self.usable(name)
        what = self.random.randrange(8)
        if what == 0 and len(self.wanted) < PROJECTS:
            self.new_project()
        elif what == 1 and len(usable) > 1:
            self.world.index.yank(name, usable[-1])
        elif what == 2 and len(usable) > 1:
            self.world.index.remove(name, usable[0])
        elif what == 3 and len(self.wanted) > 2:  # renamed: what was wanted goes, under another name it comes
            del self.wanted[name]
            self.new_project()
        elif what == 4 and self.round > ROUNDS // 2:
            toml = self.world.path("connected", "airgap.toml")
            toml.write_text(toml.read_text().replace(f'["{TARGETS[0]}"]', json.dumps(TARGETS)))
        elif what == 5 and usable:  # the requirement moves: up to a version that is there, or to whatever is newest
            self.wanted[name] = "" if self.wanted[name] else f"<={self.random.choice(usable)}"
        else:
            self.release(name)
        self.news["connected"] = True
        self.want()

    def want(self) -> None:
        self.world.want("".join(f"{project}{specifiers}\n" for project, specifiers in self.wanted.items()))

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
        self.news[inbox.parent.name] = True
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
        """Run one side, if it has a reason or happens to be awake; now and then it is killed, or its disk fills."""
        # Who waits for receipts counts quiet rounds; for who waits for nothing, one is as good as another.
        if not self.news[side] and self.random.random() >= (0.25 if side == "connected" and self.unconfirmed else 0.05):
            return
        chance = self.random.random()
        if chance < 0.05:
            code = self.world.run_harmed(side, self.nursery, kill_at=self.random.randrange(1, 90))
        elif chance < 0.08:
            largest = self.random.choice((200, 2000, 6000, 20000))
            code = self.world.run_harmed(side, self.nursery, largest_file=largest)
        else:
            done = self.world.run(side)
            code = done.exit_code
            if side == "connected":
                self.unconfirmed = bool(done.unconfirmed)
        assert code in ALLOWED, self.world.log[-5:]
        self.news[side] = code != 0
        if side == "connected":
            self.check_bundles()
        else:
            self.check_repository()

    def live(self) -> None:
        for self.round in range(ROUNDS):
            if self.random.random() < 0.15:
                self.happen()
            self.turn("connected")
            self.cross("connected", ".tar.zst", "isolated", self.carry)
            self.turn("isolated")
            self.cross("isolated", ".receipt.json", "connected", self.carry)
        for name in self.versions:  # whatever was yanked or removed, there is something newer that resolves
            self.release(name)
        self.wanted = dict.fromkeys(self.wanted, "")
        self.want()
        for self.round in range(ROUNDS, ROUNDS + 6):  # and now with good media
            done = self.world.run("connected")
            assert done.exit_code == 0
            self.check_bundles()
            if not (self.late or done.bundle or done.unconfirmed):
                break
            self.cross("connected", ".tar.zst", "isolated", self.arrive)
            assert self.world.run("isolated").exit_code in {0, 5}
            self.check_repository()
            self.cross("isolated", ".receipt.json", "connected", self.arrive)
        newest, _ = numbered(self.world.path("connected", "out"), "plant", ".tar.zst")[-1]
        assert {(file.filename, file.sha256) for file in self.world.manifest(newest).files} <= self.there.items()
        assert self.world.run("connected").message == "nothing new"

    def check_repository(self) -> None:
        """What is in the isolated repository is what was published, all of which installs from there."""
        if not self.changed():
            return
        self.there = self.world.catalog()
        self.changed()
        assert self.there.items() <= self.published.items()
        versions: dict[str, list[str]] = {}
        for name in self.there:
            project, version, _ = name.split("-", 2)
            versions.setdefault(project, []).append(version)
        for name in self.there:
            for project, specifiers in self.requires[name].items():
                assert any(specifiers.filter(versions.get(project, ()))), name

    def changed(self) -> bool:
        """Whether the catalog of the isolated repository has another byte than when this was last asked."""
        files = sorted(self.world.path("isolated", "home").glob("catalog.sqlite*"))
        before, self.catalog = self.catalog, b"".join(path.read_bytes() for path in files)
        return before != self.catalog

    def check_bundles(self) -> None:
        """Nothing that a receipt confirmed was carried again."""
        for number, _ in numbered(self.world.path("connected", "out"), "plant", ".tar.zst"):
            if number > self.checked:
                self.checked = number
                assert not self.world.carried(number) & self.confirmed


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL and resource limits")
@pytest.mark.parametrize("seed", range(HISTORIES))
def test_a_year(folder: Path, nursery: Nursery, seed: int) -> None:
    History(folder, seed, nursery).live()
