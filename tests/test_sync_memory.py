"""Peak memory of whole rounds of ``airgap sync``: what each further project adds to it, on either side of the gap."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from mirror.bundle import write_bundle
from mirror.models import Hashes, silent
from mirror.push.look import look
from mirror.push.publisher import PageByPage
from mirror.push.receipt import Receipt, ReceiptFile, State
from mirror.spelling import spelled
from mirror.store import Store
from mirror.sync.receipts import SealedReceipt, read_sealed, sealed
from tests.bundle_support import Wanted, make_content
from tests.memory_support import run_measured
from tests.sync_support import World
from tests.wheelhouse import make_wheel

ROOT = Path(__file__).parent.parent
#: Projects, and bytes of each one's description, which is most of what a release says of itself.
FEW, MANY, DESCRIPTION = 200, 600, 20_000
#: Bytes that a further project may add; what SQLite's caches and zstd's windows take is reached only with more of them.
CONNECTED, ISOLATED = 16_000, 16_500
#: Files of a push alone, and bytes that a further one may add to its peak.
FEW_FILES, MANY_FILES, FILE = 1000, 3000, 4_100
#: With an arena for each thread, how much glibc keeps of what was freed depends on which threads had a turn.
ONE_ARENA = {"MALLOC_ARENA_MAX": "1"}
# A repository that keeps names and digests: no database's cache grows beside what a push itself holds.
_PUSH = """
import sys
from pathlib import Path
from mirror.bundle import BundleReader
from mirror.models import Hashes
from mirror.ops.push import push_verified
from mirror.push.publisher import PageByPage

class Shelf(PageByPage):
    url, digests = "shelf:", ()
    def __init__(self):
        self.held = {}
    def projects(self):
        return None
    def listing(self, project):
        return {name: Hashes((("sha256", digest),)) for name, digest in self.held.get(project, ())}
    def digest(self, project, filename):
        return dict(self.held.get(project, ())).get(filename)
    def upload(self, upload):
        self.held[upload.project] = (*self.held.get(upload.project, ()), (upload.filename, upload.hashes.sha256))

with BundleReader(Path(sys.argv[1])) as reader:
    print(len(push_verified(reader, Shelf()).files))
"""


def run(world: World, side: str) -> int:
    """A round in a process of its own; its peak memory in bytes."""
    folder = world.folder / side
    environ = {"PYTHONPATH": str(ROOT), "HOME": str(folder), "PATH": os.environ["PATH"]}
    environ |= {"AIRGAP_HOME": str(folder / "home"), "AIRGAP_CACHE": str(folder / "cache")}
    environ |= {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": world.index.url}
    command = [sys.executable, "-m", "mirror", "sync", "plant", "--quiet"]
    return run_measured(command, cwd=folder, env=environ)[1]


def rounds(folder: Path, projects: int) -> tuple[int, int, int]:
    """The peaks of a first round on both sides, and of a round on the connected one that finds nothing new."""
    world = World(folder)
    for number in range(projects):
        noise = "".join(f"{(number * 7919 + place * place) % 99991:05}" for place in range(DESCRIPTION // 5))
        requires = [f"project-{number // 8:04}"] if number >= 8 else []
        world.index.release(f"project-{number:04}", "1.0", requires=requires, description=noise)
    world.want("\n".join(f"project-{number:04}" for number in range(projects)))
    connected = run(world, "connected")
    world.carry()
    isolated = run(world, "isolated")
    world.bring_back()
    quiet = run(world, "connected")
    assert len(world.manifest(1).files) == projects
    assert not list(world.path("connected", "in").glob("*.json"))
    shutil.rmtree(folder)
    return connected, isolated, quiet


@pytest.mark.skipif(sys.platform == "win32", reason="no peak memory of child processes")
def test_a_round_holds_little_of_each_further_project(tmp_path: Path) -> None:
    few, many = rounds(tmp_path / "few", FEW), rounds(tmp_path / "many", MANY)
    connected, isolated, quiet = ((more - less) / (MANY - FEW) for less, more in zip(few, many, strict=True))
    assert connected < CONNECTED
    assert isolated < ISOLATED
    assert quiet < CONNECTED


def pushed(folder: Path, projects: int) -> int:
    """The peak of a process that verifies and pushes a bundle of *projects*, which nobody had to resolve."""
    names = [f"project-{number:04}" for number in range(projects)]
    needs = [sorted({names[number // 8], names[number // 5]}) if number >= 8 else [] for number in range(projects)]
    wanted = (Wanted(make_wheel(name, requires=mine), requires=mine) for name, mine in zip(names, needs, strict=True))
    store = Store(folder / "store")
    path = folder / "bundle.tar.zst"
    write_bundle(path, make_content(store, wanted), store)
    environ = {"PYTHONPATH": str(ROOT), "HOME": str(folder), "PATH": os.environ["PATH"], **ONE_ARENA}
    told, peak = run_measured([sys.executable, "-c", _PUSH, str(path)], cwd=folder, env=environ)
    assert told.split() == [str(projects)]
    shutil.rmtree(folder)
    return peak


@pytest.mark.skipif(sys.platform == "win32", reason="no peak memory of child processes")
def test_a_push_holds_little_of_each_further_file(tmp_path: Path) -> None:
    few, many = pushed(tmp_path / "few", FEW_FILES), pushed(tmp_path / "many", MANY_FILES)
    assert (many - few) / (MANY_FILES - FEW_FILES) < FILE


def held(work: Callable[[], object]) -> int:
    """The bytes that *work* held at its peak."""
    work()
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def receipt(files: int) -> Receipt:
    listed = (
        ReceiptFile(f"project_{n:05}-1.0-py3-none-any.whl", f"project-{n:05}", "1.0", n, f"{n:064x}", State.UPLOADED)
        for n in range(files)
    )
    return Receipt("airgap 1", "embedded:é", "a" * 64, "2026-01-31T02:00:00Z", "2026-01-31T02:03:07Z", tuple(listed))


def drained(pieces: Iterable[bytes]) -> None:
    for _ in pieces:
        pass


def test_a_receipt_is_written_and_sealed_without_being_held(tmp_path: Path) -> None:
    peaks = []
    for files in (100, 2000):
        path = tmp_path / f"{files}.json"
        made = receipt(files)
        made.write(path)
        peaks.append(held(lambda made=made: drained(made.spelled())))  # type: ignore[misc]
        peaks.append(held(lambda path=path: drained(sealed(path, "plant", "main", 7))))  # type: ignore[misc]
        assert b"".join(sealed(path, "plant", "main", 7)) == SealedReceipt("plant", "main", 7, made).to_bytes()
        path.write_bytes(b"".join(sealed(path, "plant", "main", 7)))
        assert read_sealed(path) == SealedReceipt("plant", "main", 7, made)
    assert max(peaks[2] - peaks[0], peaks[3] - peaks[1]) < 20 * 1900


@pytest.mark.parametrize("items", [[], [{"a": [1, {"b": "é\n"}], "c": {}}], [1, "two", [], None]])
def test_pieces_are_what_json_spells(items: list[object]) -> None:
    document = {"first": {"x": [1, 2]}, "list": items, "last": "\u2028"}
    whole = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    assert b"".join(spelled({**document, "list": iter(items)})).decode() == whole
    assert b"".join(spelled(document)).decode() == whole
    assert b"".join(spelled({})) == b"{}\n"


class LongPages(PageByPage):
    """A repository that shows a thousand files of every project."""

    url = "https://repository.invalid/"
    digests: tuple[str, ...] = ()

    def projects(self) -> None:
        return None

    def listing(self, project: str) -> dict[str, Hashes]:
        return {f"{project}-{n}-py3-none-any.whl": Hashes((("sha256", f"{n:064x}"),)) for n in range(1000)}

    def digest(self, project: str, filename: str) -> None:
        return None

    def upload(self, upload: object) -> None:
        raise NotImplementedError


class _Wanted:
    """A source's file."""

    requires: tuple[str, ...] = ()
    carrier = None

    def __init__(self, file: ReceiptFile) -> None:
        self.filename, self.project, self.version = file.filename, file.project, file.version
        self.size, self.sha256 = file.size, file.sha256


def test_a_look_holds_what_is_compared_and_no_more() -> None:
    files = [ReceiptFile(f"p{n}-7-py3-none-any.whl", f"p{n}", "7", 1, "", State.FAILED) for n in range(100)]
    asked = [_Wanted(file) for file in files]
    found = look(LongPages(), asked, silent)
    assert {name for listing in found.values() for name in listing} == {file.filename for file in files}
    assert held(lambda: look(LongPages(), asked, silent)) < 20 * 2**20  # sixteen pages, never all 100
