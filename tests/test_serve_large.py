"""A repository with very many files: what is asked of the catalog, and how much is held while a page goes out."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from mirror import serve
from mirror.serve.home import Home
from mirror.serve.server import Running
from tests import plain
from tests.large_support import fill
from tests.test_serve_http import HTML, JSON

PROJECTS = 4500
OF_ONE = 300


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Home]]:
    folder = tmp_path_factory.mktemp("large") / "home"
    with Home(folder) as home:
        fill(home, PROJECTS, of_one=OF_ONE)
        with serve.running(folder) as found:
            yield found, home


@contextmanager
def statements() -> Iterator[list[str]]:
    """What every engine is asked meanwhile."""
    found: list[str] = []

    def note(_1: object, _2: object, statement: str, *_: object) -> None:
        if not statement.startswith("BEGIN"):
            found.append(statement)

    event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(sa.Engine, "before_cursor_execute", note)


def asked_of_files(found: list[str]) -> list[str]:
    """The statements but for the one that reads which repositories there are."""
    return [statement for statement in found if "FROM repositories ORDER BY" not in " ".join(statement.split())]


@pytest.mark.parametrize("kind", [HTML, JSON])
def test_a_project_page_is_one_query_by_index(large: tuple[Running, Home], kind: str) -> None:
    server, _ = large
    url = f"{server.index_url('pypi-hosted')}project-00000/"
    with statements() as found:
        page = plain.get(url, headers={"accept": kind})
    assert page.text.count("project_00000-") >= OF_ONE
    assert len(asked_of_files(found)) == 1
    assert len(found) == 2
    with statements() as found:
        again = plain.get(url, headers={"accept": kind, "if-none-match": page.headers["etag"]})
    assert again.status_code == 304
    assert "files" not in asked_of_files(found)[0]


@pytest.mark.parametrize(
    "ask",
    [
        lambda home: home.catalog.page("pypi-hosted", "project-00000"),
        lambda home: home.catalog.file("pypi-hosted", "project_00001-1.0-py3-none-any.whl"),
        lambda home: list(home.catalog.projects("pypi-hosted")),
        lambda home: home.catalog.listed("pypi-hosted", after=("project-00100", ""), limit=50),
    ],
    ids=["page", "file", "root", "REST"],
)
def test_no_query_reads_a_whole_table_or_sorts_it(large: tuple[Running, Home], ask: object) -> None:
    _, home = large
    plans: list[str] = []

    def explain(connection: sa.Connection, _2: object, statement: str, parameters: Any, *_: object) -> None:
        if statement.startswith("SELECT"):
            cursor = connection.connection.cursor()
            plans.extend(str(row) for row in cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters))

    event.listen(sa.Engine, "before_cursor_execute", explain)
    try:
        ask(home)  # type: ignore[operator]
    finally:
        event.remove(sa.Engine, "before_cursor_execute", explain)
    assert plans
    assert not [plan for plan in plans if "SCAN files" in plan or "SCAN projects" in plan or "TEMP B-TREE" in plan]


def test_the_root_is_read_in_batches_and_complete(large: tuple[Running, Home]) -> None:
    server, _ = large
    names = [f"project-{number:05}" for number in range(PROJECTS)]
    with (
        statements() as found,
        plain.stream("GET", server.index_url("pypi-hosted"), headers={"accept": JSON}) as page,
    ):
        body = b"".join(page.iter_bytes())
    assert [each["name"] for each in json.loads(body)["projects"]] == names
    assert "content-length" not in page.headers
    assert len(asked_of_files(found)) == 2 * 4  # for the ETag and for the body: two full batches, a rest, the end
    again = plain.get(server.index_url("pypi-hosted"), headers={"accept": JSON, "if-none-match": page.headers["etag"]})
    assert again.status_code == 304
    assert plain.get(server.index_url("pypi-hosted")).text.count("<a href") == PROJECTS
    assert plain.head(server.index_url("pypi-hosted")).status_code == 200


def test_memory_does_not_grow_with_the_root(tmp_path: Path) -> None:
    peaks = []
    for count in (5_000, 20_000):
        with Home(tmp_path / str(count)) as home:
            fill(home, count, of_one=1)
            repository = home.open("pypi-hosted")
            assert sum(1 for _ in repository.projects()) == count  # compiled queries are kept: not counted
            tracemalloc.start()
            assert sum(1 for _ in repository.projects()) == count
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]


def test_a_page_for_people_shows_the_first_and_counts_the_rest(large: tuple[Running, Home]) -> None:
    server, _ = large
    page = plain.get(f"{server.url}/browse/pypi-all/").text
    assert f"Projects ({PROJECTS})" in page
    assert f"and {PROJECTS - 500} more" in page
