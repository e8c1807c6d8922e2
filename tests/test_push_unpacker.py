from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mirror.errors import StorageError
from mirror.push.look import each
from mirror.push.unpacker import unpacking
from tests.push_support import FolderSource
from tests.waiting import wait_for
from tests.wheelhouse import make_wheel

NAMES = [f"p{number}" for number in range(8)]


@pytest.fixture
def source(tmp_path: Path) -> FolderSource:
    return FolderSource(tmp_path / "source", [(make_wheel(name), ()) for name in NAMES])


def test_projects_are_unpacked_before_they_are_taken_and_each_once(source: FolderSource) -> None:
    with unpacking(source) as unpacker:
        unpacker.start(NAMES)
        wait_for(lambda: len(source.spooled) == len(NAMES))
        found = {name: unpacker.take(name) for name in reversed(NAMES)}
        assert sorted(source.spooled) == NAMES
        for name, paths in found.items():
            (path,) = paths.values()
            assert path.name.startswith(f"{name}-")
            assert path.is_file()
    assert not path.exists()


def test_no_more_is_unpacked_ahead_than_there_is_room_for(
    source: FolderSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mirror.push.unpacker._AHEAD", sum(file.size for file in source.manifest.files[:3]))
    with unpacking(source) as unpacker:
        unpacker.start(NAMES)
        wait_for(lambda: len(source.spooled) >= 3)
        time.sleep(0.05)
        assert len(source.spooled) == 3
        unpacker.take(NAMES[7])  # nobody has begun with it
        assert len(source.spooled) == 4
        unpacker.take(NAMES[0])
        wait_for(lambda: len(source.spooled) == 5)


def test_many_at_once_take_what_they_ask_for(source: FolderSource) -> None:
    with unpacking(source) as unpacker, ThreadPoolExecutor(8) as threads:
        unpacker.start(NAMES)
        found = list(threads.map(unpacker.take, NAMES))
    assert [next(iter(paths)).partition("-")[0] for paths in found] == NAMES
    assert sorted(source.spooled) == NAMES


@pytest.mark.parametrize("explained", [False, True])
def test_what_fails_ahead_fails_where_it_is_taken(source: FolderSource, explained: bool) -> None:
    def full(project: str, folder: Path) -> None:
        if project == "p1":
            error = OSError(28, "No space left on device")
            if explained:  # as a bundle's reader does
                raise StorageError(f"{folder}: {error.strerror}.") from error
            raise error

    source.on_spool = full
    with unpacking(source) as unpacker:
        unpacker.start(NAMES)
        unpacker.take("p0")
        with pytest.raises(StorageError, match="No room to unpack p1") as caught:
            unpacker.take("p1")
        assert "TMPDIR" in caught.value.hint
        unpacker.take("p2")


def test_a_bundle_that_can_not_be_read_is_no_lack_of_room(source: FolderSource) -> None:
    def broken(project: str, folder: Path) -> None:
        raise StorageError("bundle: Input/output error.") from OSError(5, "Input/output error")

    source.on_spool = broken
    with unpacking(source) as unpacker, pytest.raises(StorageError, match="bundle: Input/output error"):
        unpacker.take("p0")


@pytest.mark.parametrize(("seconds", "threads"), [(0.0, 2), (0.03, 16)])
def test_a_near_repository_is_asked_by_few(seconds: float, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if not seconds:  # however long a busy machine leaves a thread alone
        monkeypatch.setattr("mirror.push.look._NEAR", 3600.0)
    asking: set[int] = set()

    def ask(number: int) -> int:
        asking.add(threading.get_ident())
        time.sleep(seconds)
        return -number

    assert each(range(100), ask) == [(number, -number) for number in range(100)]
    assert len(asking) <= threads
    assert (len(asking) > 2) == (threads > 2)
