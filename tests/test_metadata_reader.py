from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from mirror.errors import HashMismatchError, MetadataError, NotFoundError
from mirror.fetch import Fetcher
from mirror.metadata.reader import MetadataReader
from mirror.metadata.remote import TAIL
from mirror.models import Event, File, Hashes
from mirror.net import Client, Settings
from mirror.store import Store
from tests.http_support import IgnoreRange, Reply, Server, Status
from tests.wheelhouse import Built, core_metadata, make_sdist, make_wheel

NOISE = random.Random(0).randbytes(3 * TAIL)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


class Place:
    """A store and a client; every :meth:`run` is a new run of the program."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder / "store")
        self.events: list[Event] = []

    @contextmanager
    def run(self) -> Iterator[MetadataReader]:
        with (
            Client(Settings(retries=0)) as client,
            Fetcher(client, self.store) as fetcher,
        ):
            yield MetadataReader(client, self.store, fetch=fetcher.start, report=self.events.append)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def offer(
    server: Server, built: Built, *, ranges: bool = True, metadata: Hashes | None = None, size: int | None = None
) -> File:
    name, version = built.filename.removesuffix(".tar.gz").split("-")[:2]
    return File(
        filename=built.filename,
        url=server.add(f"/{built.filename}", built.data, ranges=ranges),
        project=canonicalize_name(name),
        version=version,
        hashes=Hashes((("sha256", built.sha256),)),
        index=server.url + "/simple/",
        size=size,
        metadata=metadata,
    )


def large() -> Built:
    """A wheel with its METADATA just before the directory, as tools write it, and more than one request's bytes."""
    return make_wheel("foo", files={"foo/data": NOISE}, requires=["bar>=1"])


def test_pep_658(server: Server, place: Place) -> None:
    built = large()
    digest = hashlib.sha256(built.metadata).hexdigest()
    file = offer(server, built, metadata=Hashes((("sha256", digest),)))
    server.add(f"/{built.filename}.metadata", built.metadata)
    with place.run() as reader:
        found = reader.read(file)
        assert [str(requirement) for requirement in found.requires_dist] == ["bar>=1"]
        assert found.raw == built.metadata
        assert reader.read(file) is found
    with place.run() as reader:
        assert reader.read(file) == found
    assert len(server.requests) == 1


def test_a_metadata_file_that_is_not_what_the_index_promised(server: Server, place: Place) -> None:
    file = offer(server, large(), metadata=Hashes((("sha256", "0" * 64),)))
    server.add(f"/{file.filename}.metadata", b"Name: foo\nVersion: 1.0\n")
    for _ in range(2):
        with place.run() as reader, pytest.raises(HashMismatchError, match=r"foo-1\.0-py3-none-any\.whl\.metadata"):
            reader.read(file)


def test_a_metadata_file_that_is_offered_and_not_there(server: Server, place: Place) -> None:
    file = offer(server, large(), metadata=Hashes())
    with place.run() as reader:
        assert reader.read(file).name == "foo"
    assert server.ranges(f"/{file.filename}") == [f"bytes=-{TAIL}"]


@pytest.mark.parametrize("known", [True, False])
def test_the_end_of_a_large_wheel_is_enough(server: Server, place: Place, known: bool) -> None:
    built = large()
    size = len(built.data)
    file = offer(server, built, size=size if known else None)
    with place.run() as reader:
        assert reader.read(file).raw == built.metadata
        assert reader.size(file) == size
    expected = f"bytes={size - TAIL}-{size - 1}" if known else f"bytes=-{TAIL}"
    assert server.ranges(f"/{file.filename}") == [expected]
    assert server.requests[0].headers["accept-encoding"] == "identity"
    assert server.requests[0].method == "GET"
    assert not place.store.has(built.sha256)


def test_a_small_wheel_comes_whole_and_is_not_downloaded_again(server: Server, place: Place) -> None:
    built = make_wheel("foo")
    file = offer(server, built)
    with place.run() as reader:
        assert reader.read(file).raw == built.metadata
        assert reader.size(file) == len(built.data)
    assert place.store.has(built.sha256)
    server.script(f"/{built.filename}", IgnoreRange())
    other = offer(server, make_wheel("bar"))
    with place.run() as reader:
        reader.read(file)
        reader.read(other)
    assert [request.path for request in server.requests] == [f"/{built.filename}", f"/{other.filename}"]


def test_a_small_wheel_that_is_not_the_promised_one(server: Server, place: Place) -> None:
    file = offer(server, make_wheel("foo"))
    server.add(f"/{file.filename}", make_wheel("foo", requires=["evil"]).data)
    with place.run() as reader, pytest.raises(HashMismatchError):
        reader.read(file)


def test_a_directory_longer_than_the_first_request(server: Server, place: Place) -> None:
    members = {f"foo/{'x' * 60}{number}": b"" for number in range(2000)}
    file = offer(server, make_wheel("foo", files={"foo/data": NOISE, **members}))
    with place.run() as reader:
        assert reader.read(file).name == "foo"
    assert len(server.requests) == 2


def test_metadata_far_from_the_end(server: Server, place: Place) -> None:
    base = make_wheel("foo")
    early = make_wheel("foo", files={"foo-1.0.dist-info/METADATA": base.metadata, "foo/data": NOISE})
    file = offer(server, early)
    with place.run() as reader:
        assert reader.read(file).raw == base.metadata
    assert len(server.requests) == 2


@pytest.mark.parametrize("fault", ["ranges", 416, 501, 400, "wrong"])
def test_servers_without_ranges_are_asked_for_whole_files_once(server: Server, place: Place, fault: str | int) -> None:
    built = large()
    file = offer(server, built, ranges=False)
    if isinstance(fault, int):
        server.script(f"/{file.filename}", Status(fault))
    elif fault == "wrong":
        server.script(f"/{file.filename}", Status(206, {"Content-Range": "bytes 0-9/*"}, b"0123456789"))
    other = offer(server, make_wheel("bar", files={"bar/data": NOISE}), ranges=False)
    with place.run() as reader:
        assert reader.read(file).raw == built.metadata
        assert reader.read(other).name == "bar"
        assert reader.size(file) == len(built.data)
    assert server.ranges(f"/{file.filename}") == [f"bytes=-{TAIL}", None]
    assert server.ranges(f"/{other.filename}") == [None]
    assert place.store.has(built.sha256)
    assert len([event for event in place.events if event.kind == "info"]) == 1


@pytest.mark.parametrize(("beyond", "second"), [(416, "size"), (404, "start")])
def test_an_end_longer_than_the_file_as_nexus_answers_it(
    server: Server, place: Place, beyond: int, second: str
) -> None:
    """416 from its hosted and proxy repositories, 404 from its groups; all other ranges are fine there."""
    small = make_wheel("foo")
    file = offer(server, small)
    server.add(f"/{file.filename}", small.data, beyond=beyond)
    with place.run() as reader:
        assert reader.read(file).raw == small.metadata
        assert reader.size(file) == len(small.data)
    asked = len(small.data) if second == "size" else TAIL
    assert server.ranges(f"/{file.filename}") == [f"bytes=-{TAIL}", f"bytes=0-{asked - 1}"]
    assert place.store.has(small.sha256)
    big = offer(server, make_wheel("bar", files={"bar/data": NOISE}))
    with place.run() as reader:
        assert reader.read(big).name == "bar"
    assert server.ranges(f"/{big.filename}") == [f"bytes=-{TAIL}"]
    assert not place.events


def test_a_wheel_that_is_not_there(server: Server, place: Place) -> None:
    file = offer(server, make_wheel("foo"))
    server.handle(f"/{file.filename}", lambda _: Reply(404))
    with place.run() as reader, pytest.raises(NotFoundError):
        reader.read(file)


def test_a_file_in_the_store_is_not_asked_for(server: Server, place: Place) -> None:
    built = large()
    file = offer(server, built)
    place.store.add(built.data)
    with place.run() as reader:
        assert reader.read(file).raw == built.metadata
        assert reader.size(file) == len(built.data)
    assert not server.requests


def test_what_a_file_says_beats_what_was_said_about_it(server: Server, place: Place) -> None:
    """An index that lies in its PEP 658 file is found out as soon as the wheel itself is there."""
    built = large()
    lie = core_metadata("foo", "1.0")
    file = offer(server, built, metadata=Hashes())
    server.add(f"/{built.filename}.metadata", lie)
    with place.run() as reader:
        assert reader.read(file).requires_dist == ()
    place.store.add(built.data)
    with place.run() as reader:
        assert len(reader.read(file).requires_dist) == 1


def test_local_files(place: Place, tmp_path: Path) -> None:
    built = make_wheel("foo")
    path = built.save(tmp_path / "wheels")
    file = File(built.filename, path.as_uri(), canonicalize_name("foo"), "1.0")
    with place.run() as reader:
        assert reader.read(file).raw == built.metadata


@pytest.mark.parametrize("inside", [("bar", "1.0"), ("foo", "1.1")])
def test_another_project_or_version_inside(server: Server, place: Place, inside: tuple[str, str]) -> None:
    file = offer(server, make_wheel("foo", metadata=core_metadata(*inside)))
    with place.run() as reader, pytest.raises(MetadataError, match=f"says inside that it is {inside[0]} {inside[1]}"):
        reader.read(file)


def test_versions_are_compared_as_versions(server: Server, place: Place) -> None:
    file = offer(server, make_wheel("foo", metadata=core_metadata("Foo", "1.0.0")))
    with place.run() as reader:
        assert reader.read(file).name == "foo"


def test_sdists(server: Server, place: Place) -> None:
    built = make_sdist("foo", requires=["bar"], pyproject='[build-system]\nrequires = ["hatchling"]\n')
    file = offer(server, built)
    with place.run() as reader:
        assert [str(requirement) for requirement in reader.read(file).requires_dist] == ["bar"]
        assert [str(requirement) for requirement in reader.build_requires(file)] == ["hatchling"]
        assert reader.build_requires(file) == reader.build_requires(file)
    with place.run() as reader:
        reader.read(file)
    assert len(server.requests) == 1


@pytest.mark.parametrize(("version", "dynamic"), [("2.1", []), ("2.2", ["Requires-Dist"])])
def test_sdists_whose_metadata_promises_nothing(server: Server, place: Place, version: str, dynamic: list[str]) -> None:
    file = offer(server, make_sdist("foo", metadata_version=version, dynamic=dynamic))
    for _ in range(2):
        with place.run() as reader, pytest.raises(MetadataError, match="run its code") as caught:
            reader.read(file)
    assert caught.value.hint


def test_many_threads_one_request(server: Server, place: Place) -> None:
    file = offer(server, large())
    missing = File("gone-1.0-py3-none-any.whl", server.url + "/gone", canonicalize_name("gone"), "1.0")
    with place.run() as reader:
        threads = [threading.Thread(target=reader.read, args=(file,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for _ in range(2):
            with pytest.raises(NotFoundError):
                reader.read(missing)
    assert len(server.requests) == 3
    assert server.ranges(f"/{file.filename}") == [f"bytes=-{TAIL}"]
    assert server.ranges("/gone") == [f"bytes=-{TAIL}", f"bytes=0-{TAIL - 1}"]  # a group of Nexus's may have it


def test_a_file_that_changes_between_two_requests(server: Server, place: Place) -> None:
    members = {f"foo/{'x' * 60}{number}": b"" for number in range(2000)}
    built = make_wheel("foo", files={"foo/data": NOISE, **members})
    file = offer(server, built)
    size = len(built.data)
    tail = built.data[-TAIL:]
    server.script(
        f"/{file.filename}",
        Reply(206, tail, {"Content-Range": f"bytes {size + 1 - TAIL}-{size}/{size + 1}"}),
    )
    with place.run() as reader:
        assert reader.read(file).raw == built.metadata
    assert place.store.has(built.sha256)
