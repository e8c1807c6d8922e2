"""Which questions a look asks, and what it makes of a root page that is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror.models import Hashes, silent
from mirror.net import Client, Settings
from mirror.push.flat import FlatFolder
from mirror.push.legacy import LegacyPublisher
from mirror.push.look import look
from tests.push_support import FakeRepository, FolderSource, fake_repository
from tests.wheelhouse import make_wheel

FILES = [make_wheel(f"project-{number}") for number in range(20)]


@pytest.fixture
def source(tmp_path: Path) -> FolderSource:
    return FolderSource(tmp_path / "source", [(built, []) for built in FILES])


@pytest.fixture
def server() -> Iterator[FakeRepository]:
    with fake_repository() as found:
        yield found


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(Settings(retries=1, timeout=60)) as found:
        yield found


def test_an_empty_repository_takes_a_few_questions(
    source: FolderSource, server: FakeRepository, client: Client
) -> None:
    server.root = ()
    found = look(LegacyPublisher(client, server.url), source.manifest.files, silent)
    assert list(found.values()) == [{}] * 20
    assert len(server.requests) <= 6


def test_only_what_the_root_page_names_is_looked_at(
    source: FolderSource, server: FakeRepository, client: Client
) -> None:
    server.files = {built.filename: built.data for built in FILES[:3]}
    server.root = ("Project.0", "project_1", "project-2", "others")
    found = look(LegacyPublisher(client, server.url), source.manifest.files, silent)
    assert sum(map(bool, found.values())) == 3
    assert len(found) == 20
    assert len(server.requests) <= 9


def test_a_root_page_that_leaves_out_what_is_there_is_not_believed(
    source: FolderSource, server: FakeRepository, client: Client
) -> None:
    server.files = {built.filename: built.data for built in FILES}
    server.root = ()
    found = look(LegacyPublisher(client, server.url), source.manifest.files, silent)
    assert all(found.values())


def test_without_a_root_page_every_project_is_asked_for(
    source: FolderSource, server: FakeRepository, client: Client
) -> None:
    server.files = {FILES[7].filename: FILES[7].data}
    found = look(LegacyPublisher(client, server.url), source.manifest.files, silent)
    assert [project for project, files in found.items() if files] == ["project-7"]
    assert len(server.requests) == 21


def everything(server: FakeRepository) -> None:
    """Have *server* hold all of FILES and name their projects."""
    server.files = {built.filename: built.data for built in FILES}
    server.root = [f"project-{number}" for number in range(len(FILES))]


def digests(found: dict[str, dict[str, Hashes]]) -> dict[str, str | None]:
    return {filename: hashes.sha256 for files in found.values() for filename, hashes in files.items()}


WANTED = {built.filename: built.sha256 for built in FILES}


def test_one_list_of_all_files_takes_the_place_of_many_pages(
    source: FolderSource, server: FakeRepository, client: Client
) -> None:
    everything(server)
    server.lists = lambda _: True
    found = look(LegacyPublisher(client, server.url), source.manifest.files, silent)
    assert digests(found) == WANTED
    assert len(server.requests) == 4  # the root, two pages that show where files are, and the list


def test_what_the_list_leaves_out_is_looked_for_on_its_page(
    source: FolderSource, server: FakeRepository, client: Client
) -> None:
    everything(server)
    server.lists = lambda name: "_1" not in name
    found = look(LegacyPublisher(client, server.url), source.manifest.files, silent)
    assert digests(found) == WANTED
    assert len(server.requests) < len(FILES)


@pytest.mark.parametrize("shows", ["", "md5"])
def test_a_list_without_sha256_is_asked_for_once(
    source: FolderSource, server: FakeRepository, client: Client, shows: str
) -> None:
    everything(server)
    server.lists, server.shows = lambda _: True, shows
    publisher = LegacyPublisher(client, server.url)
    for _ in range(2):
        assert digests(look(publisher, source.manifest.files, silent)) == WANTED
    assert server.requests.count("GET /files/") == 1


@pytest.mark.parametrize("others", [20, 21])
def test_a_list_that_is_mostly_of_others_is_not_asked_for(
    source: FolderSource, server: FakeRepository, client: Client, others: int
) -> None:
    everything(server)
    server.root = [*(server.root or ()), *(f"other-{number}" for number in range(others - 4))]
    server.lists = lambda _: True
    assert digests(look(LegacyPublisher(client, server.url), source.manifest.files, silent)) == WANTED
    assert ("GET /files/" in server.requests) == (others == 20)


@pytest.mark.parametrize(
    ("files", "known"),
    [
        (["a-1.0.tar.gz"], False),
        (["a-1.0.tar.gz", "a-2.0.tar.gz"], False),  # they may be in a folder of this project
        (["a-1.0.tar.gz", "b-1.0.tar.gz"], True),
        (["a/a-1.0.tar.gz", "b/b-1.0.tar.gz"], False),
        (["a-1.0.tar.gz", "b-1.0.tar.gz", "c/c-1.0.tar.gz", "d-1.0.tar.gz"], False),
    ],
)
def test_files_of_two_projects_show_that_all_are_in_one_folder(client: Client, files: list[str], known: bool) -> None:
    folder = FlatFolder(client, "https://repository.invalid/simple/")
    for path in files:
        name = path.rpartition("/")[2]
        folder.learn(name[0], f"https://repository.invalid/packages/{path}", 0.1)
    assert folder.known == known
    assert folder.is_cheaper(100, 100) == known


@pytest.mark.parametrize(("lists", "others", "known"), [(True, 0, True), (None, 0, False), (True, 100, False)])
def test_a_folder_is_known_to_list_its_files_when_it_has_done_so(
    server: FakeRepository, client: Client, lists: bool | None, others: int, known: bool
) -> None:
    everything(server)
    server.root = [*(server.root or ()), *(f"other-{number}" for number in range(others))]
    server.lists = (lambda _: True) if lists else None
    publisher = LegacyPublisher(client, server.url)
    publisher.projects()
    for number in range(4):
        assert publisher.lists_all == (known and number > 1)
        assert publisher.listing_for(f"project-{number}", {})
    assert server.requests.count("GET /files/") == (not others)  # a long list is not asked for to find that out


def test_a_folder_of_another_host_is_not_asked(client: Client) -> None:
    folder = FlatFolder(client, "https://repository.invalid/simple/")
    folder.learn("a", "https://files.invalid/a-1.0.tar.gz", 0.1)
    folder.learn("b", "https://files.invalid/b-1.0.tar.gz", 0.1)
    assert not folder.known
    assert not folder.is_cheaper(100, 100)
