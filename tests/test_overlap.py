"""What pack does at the same time, shown by servers and files that make one of two wait for the other."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from mirror.bundle import Frames
from mirror.bundle.ahead import ahead
from mirror.fetch import Fetcher
from mirror.index.client import IndexClient
from mirror.metadata.reader import MetadataReader
from mirror.models import File, RequirementLine, RequirementSet, Written
from mirror.net import Client, Settings
from mirror.ops.unchanged import Existing, remember
from mirror.resolver import Resolution
from mirror.store import Store
from mirror.targets import make_target
from tests.http_support import Hold, Server
from tests.wheelhouse import make_wheel


def test_what_is_pinned_exactly_is_fetched_before_all_pages_are_there(tmp_path: Path) -> None:
    gate, store = threading.Event(), Store(tmp_path)
    lines = RequirementSet(tuple(RequirementLine(Requirement(text), text) for text in ("quick==1.0", "slow")))

    def pinned(file: File) -> None:
        if file.project == "quick":
            gate.set()  # nothing else lets the server go on

    with Server() as server, Client(Settings(retries=0, timeout=60)) as client, Fetcher(client, store) as fetcher:
        for name in ("quick", "slow"):
            wheel = make_wheel(name)
            server.add(f"/{wheel.filename}", wheel.data)
            page = f'<a href="/{wheel.filename}#sha256={wheel.sha256}">{wheel.filename}</a>'
            server.add(f"/simple/{name}/", page.encode(), content_type="text/html")
        server.script("/simple/slow/", Hold(0, gate))
        index = IndexClient(client, store, indexes=[f"{server.url}/simple/"])
        metadata = MetadataReader(client, store, fetch=fetcher.start)
        with Resolution(lines, index, metadata, pinned=pinned) as resolution:
            (plan,) = resolution.plan([make_target("3.12", ["manylinux_2_28_x86_64"])]).targets
    assert [pin.project for pin in plan.pins] == ["quick", "slow"]


def test_steps_ahead_are_bounded_and_in_order() -> None:
    made: list[int] = []

    def items() -> Generator[int]:
        for number in range(100):
            made.append(number)
            yield number

    with ahead(items(), 3) as found:
        for number in found:
            assert made[-1] <= number + 4
            if number == 50:
                break
    assert max(made) < 60


def test_what_goes_wrong_ahead_is_raised_in_its_place() -> None:
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield 1
            raise LookupError("not there")
        finally:
            closed.set()

    def taken() -> Generator[int]:
        yield from items()

    with ahead(taken(), 5) as found:
        assert next(found) == 1
        with pytest.raises(LookupError, match="not there"):
            next(found)
    assert closed.is_set()


def test_an_error_of_the_one_who_takes_ends_the_work() -> None:
    closed = threading.Event()

    def items() -> Generator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    def interrupted() -> None:
        with ahead(items(), 2) as found:
            next(found)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert closed.is_set()


def test_a_download_that_ends_when_compressing_has_ended_starts_nothing(tmp_path: Path) -> None:
    """As after Ctrl-C, or an error of another file."""
    store = Store(tmp_path)
    files = [(name, store.add(name.encode()), len(name)) for name in ("a", "bc")]
    with Frames(store, tmp_path) as frames:
        frames.start("before", files)
    frames.start("after", files)


BUNDLE = bytes(range(256)) * 10_000


@pytest.fixture(name="written")
def _written(tmp_path: Path) -> Written:
    path = tmp_path / "bundle"
    path.write_bytes(BUNDLE)
    written = Written(path, "0" * 64, hashlib.sha256(BUNDLE).hexdigest(), len(BUNDLE))
    remember(written, Store(tmp_path / "store"))
    return written


def test_a_bundle_that_is_there_is_recognised(written: Written, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with Existing(written.path) as existing:
        assert existing.unchanged("1" * 64, store) is None
    with Existing(written.path) as existing:
        assert existing.unchanged(written.identity, store) == written
    with Existing(tmp_path / "elsewhere") as existing:
        assert existing.unchanged(written.identity, store) is None


@pytest.mark.parametrize("damaged", [BUNDLE[:-1], BUNDLE[:-1] + b"\0", b""], ids=["cut short", "altered", "empty"])
def test_a_bundle_that_was_damaged_is_not(written: Written, tmp_path: Path, damaged: bytes) -> None:
    written.path.write_bytes(damaged)
    with Existing(written.path) as existing:
        assert existing.unchanged(written.identity, Store(tmp_path / "store")) is None


def test_a_bundle_that_was_touched_since_it_was_read_is_not(written: Written, tmp_path: Path) -> None:
    with Existing(written.path) as existing:
        assert existing.unchanged(written.identity, Store(tmp_path / "store")) is not None  # it has been read by now
        os.utime(written.path, (1, 1))
        assert existing.unchanged(written.identity, Store(tmp_path / "store")) is None
