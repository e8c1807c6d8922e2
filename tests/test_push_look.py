"""Which questions a look asks, and what it makes of a root page that is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror.models import silent
from mirror.net import Client, Settings
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
    with Client(Settings(retries=1, timeout=5)) as found:
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
