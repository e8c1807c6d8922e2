from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from packaging.utils import NormalizedName, canonicalize_name

from mirror.errors import AuthError, HTTPError, IndexPageError
from mirror.index.client import IndexClient
from mirror.index.simple import ACCEPT, JSON_TYPE, PageEntry, render_html, render_json
from mirror.index.sources import Source
from mirror.models import Hashes
from mirror.net import Client, Settings
from mirror.store import Store
from tests.http_support import Reply, Request, Server

FOO = canonicalize_name("foo")


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


class Place:
    """A store, a client, and what was reported; every :meth:`index` is a new run."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder / "store")
        self.client = Client(Settings(retries=0))

    def index(self, *indexes: str, find_links: Sequence[str] = ()) -> IndexClient:
        return IndexClient(self.client, self.store, indexes=indexes, find_links=find_links)

    def names(self, *indexes: str, find_links: Sequence[str] = (), project: NormalizedName = FOO) -> list[list[str]]:
        with self.index(*indexes, find_links=find_links) as index:
            return [list(page.filenames) for page in index.pages(project)]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    with made.client:
        yield made


def put(server: Server, path: str, *filenames: str, json: bool = False) -> str:
    entries = [PageEntry(name, f"../../files/{name}", Hashes((("sha256", "a" * 64),)), size=1) for name in filenames]
    body, kind = (render_json("foo", entries), JSON_TYPE) if json else (render_html("foo", entries), "text/html")
    server.add(path, body, content_type=kind)
    return server.url + "/simple"


@pytest.mark.parametrize("json", [True, False])
def test_pages(server: Server, place: Place, json: bool) -> None:
    url = put(server, "/simple/foo/", "foo-1.0.tar.gz", json=json)
    with place.index(url) as index:
        (page,) = index.pages(FOO)
        file = page.file(0)
        assert (file.url, file.index) == (f"{server.url}/files/foo-1.0.tar.gz", f"{url}/")
        assert index.pages(FOO)[0] is page
        assert index.pages(canonicalize_name("bar")) == ()
    (request,) = server.seen("/simple/foo/")
    assert request.headers["accept"] == ACCEPT


def test_a_page_is_asked_for_again_but_not_sent_again(server: Server, place: Place) -> None:
    url = put(server, "/simple/foo/", "foo-1.0.tar.gz")
    assert place.names(url) == place.names(url) == [["foo-1.0.tar.gz"]]
    first, second = server.seen("/simple/foo/")
    assert "if-none-match" not in first.headers
    assert second.headers["if-none-match"].startswith('"')
    put(server, "/simple/foo/", "foo-2.0.tar.gz", json=True)
    assert place.names(url) == [["foo-2.0.tar.gz"]]


def test_last_modified_serves_too(server: Server, place: Place) -> None:
    def answer(request: Request) -> Reply:
        if request.headers.get("if-modified-since") == "yesterday":
            return Reply(304)
        return Reply(200, b'<a href="foo-1.0.zip">x</a>', {"Content-Type": "text/html", "Last-Modified": "yesterday"})

    server.handle("/simple/foo/", answer)
    assert place.names(server.url + "/simple/") == place.names(server.url + "/simple/") == [["foo-1.0.zip"]]
    assert len(server.seen("/simple/foo/")) == 2


def test_the_first_index_that_has_a_project_is_the_only_one(server: Server, place: Place) -> None:
    for path, name in (("/b/foo/", "foo-1.0.zip"), ("/c/foo/", "foo-9.0.zip")):
        put(server, path, name)
    put(server, "/empty/foo/")
    assert place.names(*(f"{server.url}/{name}" for name in ("a", "empty", "b", "c"))) == [["foo-1.0.zip"]]
    assert not server.seen("/c/foo/")


def test_redirects_move_the_links_and_not_the_index(server: Server, place: Place) -> None:
    put(server, "/elsewhere/simple/foo/", "foo-1.0.zip")
    server.redirect("/simple/foo/", "/elsewhere/simple/foo/")
    for _ in range(2):
        with place.index(server.url + "/simple/") as index:
            file = index.pages(FOO)[0].file(0)
        assert (file.url, file.index) == (f"{server.url}/elsewhere/files/foo-1.0.zip", f"{server.url}/simple/")


@pytest.mark.parametrize("status", [401, 403, 500])
def test_an_index_that_fails_is_no_index_without_the_project(server: Server, place: Place, status: int) -> None:
    server.handle("/a/foo/", lambda _: Reply(status))
    put(server, "/b/foo/", "foo-1.0.zip")
    with place.index(server.url + "/a/", server.url + "/b/") as index:
        for _ in range(2):
            with pytest.raises(AuthError if status < 500 else HTTPError):
                index.pages(FOO)
    assert len(server.seen("/a/foo/")) <= 2
    assert not server.seen("/b/foo/")


def test_an_answer_that_is_no_page_names_index_and_project(server: Server, place: Place) -> None:
    server.add("/simple/foo/", b"{}", content_type=JSON_TYPE)
    secret = server.url.replace("http://", "http://bob:secret@") + "/simple/"
    with place.index(secret) as index, pytest.raises(IndexPageError) as caught:
        index.pages(FOO)
    assert "foo" in str(caught.value)
    assert f"{server.url}/simple/" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_credentials_in_the_url_reach_the_server_and_nothing_else(tmp_path: Path) -> None:
    place = Place(tmp_path)
    with Server(users={"bob": "secret"}) as server, place.client:
        put(server, "/simple/foo/", "foo-1.0.zip")
        with place.index(server.url.replace("http://", "http://bob:secret@") + "/simple") as index:
            (page,) = index.pages(FOO)
            assert "secret" not in repr((page, page.file(0)))
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"secret" in path.read_bytes()]


def test_many_threads_ask_once_and_an_error_stays(server: Server, place: Place) -> None:
    url = put(server, "/simple/foo/", "foo-1.0.zip")
    server.handle("/simple/bad/", lambda _: Reply(403))
    with place.index(url) as index:
        threads = [threading.Thread(target=index.pages, args=(FOO,)) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for _ in range(2):
            with pytest.raises(AuthError):
                index.pages(canonicalize_name("bad"))
        assert [len(server.seen(f"/simple/{name}/")) for name in ("foo", "bad")] == [1, 1]
        index.forget()
        index.pages(FOO)
    assert len(server.seen("/simple/foo/")) == 2


def test_a_quarantined_project_comes_from_nowhere_else(server: Server, place: Place) -> None:
    body = (
        b'<meta name="pypi:project-status" content="quarantined"><meta name="pypi:project-status-reason" content="?!">'
    )
    server.add("/a/foo/", body, content_type="text/html")
    put(server, "/b/foo/", "foo-1.0.zip")
    with place.index(f"{server.url}/a/", f"{server.url}/b/") as index:
        (page,) = index.pages(FOO)
    assert (page.status, page.quarantined, list(page.filenames)) == (("quarantined", "?!"), True, [])
    assert not server.seen("/b/foo/")


def test_best_match_asks_every_index(server: Server, place: Place) -> None:
    put(server, "/a/foo/", "foo-1.0.zip")
    put(server, "/b/foo/", "foo-2.0.zip")
    indexes = [f"{server.url}/{name}/" for name in ("a", "none", "b", "a")]
    with IndexClient(place.client, place.store, indexes=indexes, best_match=True) as index:
        assert [(page.index, list(page.filenames)) for page in index.pages(FOO)] == [
            (f"{server.url}/a/", ["foo-1.0.zip"]),
            (f"{server.url}/b/", ["foo-2.0.zip"]),
        ]


@pytest.mark.parametrize("best_match", [False, True])
def test_pinned_projects_come_from_their_index_and_nothing_else_does(
    server: Server, place: Place, tmp_path: Path, best_match: bool
) -> None:
    """Both ways: the public index is never asked for a private name, nor the private one for a public name."""
    (tmp_path / "foo-7.0.zip").write_bytes(b"")
    for path, name in (
        ("/public/foo/", "foo-9.0.zip"),
        ("/private/foo/", "foo-1.0.zip"),
        ("/public/bar/", "bar-1.zip"),
    ):
        put(server, path, name)
    server.add("/links", b'<a href="foo-8.0.zip">x</a><a href="bar-2.zip">x</a>', content_type="text/html")
    sources: list[Source | str] = [f"{server.url}/public", Source(f"{server.url}/private", ("fo*",))]
    links = [f"{server.url}/links", str(tmp_path)]
    with IndexClient(place.client, place.store, indexes=sources, find_links=links, best_match=best_match) as index:
        assert [list(page.filenames) for page in index.pages(FOO)] == [["foo-7.0.zip"], ["foo-1.0.zip"]]
        assert [list(page.filenames) for page in index.pages(canonicalize_name("bar"))] == [
            ["bar-2.zip"],
            ["bar-1.zip"],
        ]
        assert index.pages(canonicalize_name("four")) == ()
    assert not server.seen("/public/foo/")
    assert not server.seen("/private/bar/")
    assert not server.seen("/public/four/"), "a pinned name that its index lacks must not be asked for elsewhere"


def test_patterns_for_an_index_that_is_configured_twice(server: Server, place: Place) -> None:
    put(server, "/a/foo/", "foo-1.0.zip")
    sources: list[Source | str] = [Source(f"{server.url}/a/", ("foo",)), f"{server.url}/a"]
    with IndexClient(place.client, place.store, indexes=sources) as index:
        assert len(index.pages(FOO)) == 1
        assert index.pages(canonicalize_name("bar")) == ()
    assert not server.seen("/a/bar/")


def test_find_links(server: Server, place: Place, tmp_path: Path) -> None:
    folder = tmp_path / "wheel house"
    folder.mkdir()
    for name in ("foo-1.0-py3-none-any.whl", "bar-1.0.tar.gz", "notes.txt"):
        (folder / name).write_bytes(b"")
    (tmp_path / "links.html").write_text('<a href="wheel%20house/foo-3.0.zip">x</a>')
    server.add("/links", b'<a href="foo-2.0.tar.gz">x</a><a href="bar-2.0.tar.gz">x</a>', content_type="text/html")
    url = put(server, "/simple/foo/", "foo-4.0.zip")
    places = [str(folder), server.url + "/links", (tmp_path / "links.html").as_uri(), folder.as_uri()]
    with place.index(url, find_links=places) as index:
        pages = index.pages(FOO)
        assert [list(page.filenames) for page in pages] == [
            ["foo-1.0-py3-none-any.whl"],
            ["foo-2.0.tar.gz"],
            ["foo-3.0.zip"],
            ["foo-1.0-py3-none-any.whl"],
            ["foo-4.0.zip"],
        ]
        assert pages[0].file(0).url == (folder / "foo-1.0-py3-none-any.whl").as_uri()
        assert pages[2].file(0).url == (folder / "foo-3.0.zip").as_uri()
        assert [list(page.filenames) for page in index.pages(canonicalize_name("bar"))] == [
            ["bar-1.0.tar.gz"],
            ["bar-2.0.tar.gz"],
            ["bar-1.0.tar.gz"],
        ]
    assert len(server.seen("/links")) == 1


def test_a_find_links_place_that_is_not_there(place: Place, tmp_path: Path) -> None:
    with place.index(find_links=[str(tmp_path / "gone")]) as index, pytest.raises(IndexPageError, match="gone"):
        index.pages(FOO)


def test_a_static_index_that_is_not_there(place: Place, tmp_path: Path) -> None:
    url = (tmp_path / "simple").as_uri()
    with place.index(url) as index, pytest.raises(IndexPageError, match="simple/ is not a folder"):
        index.pages(FOO)
    (tmp_path / "simple").mkdir()
    with place.index(url) as index:
        assert index.pages(FOO) == ()


def test_a_static_index_on_disk(place: Place, tmp_path: Path) -> None:
    folder = tmp_path / "simple" / "foo"
    folder.mkdir(parents=True)
    (folder / "index.html").write_bytes(render_html("foo", [PageEntry("foo-1.0.zip", "../../packages/foo-1.0.zip")]))
    url = (tmp_path / "simple").as_uri()
    with place.index(url) as index:
        assert index.pages(FOO)[0].file(0).url == (tmp_path / "packages" / "foo-1.0.zip").as_uri()
        assert index.pages(canonicalize_name("bar")) == ()


@pytest.mark.network
def test_the_real_index(place: Place) -> None:
    index_url = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple/")
    with place.index(index_url) as index:
        (page,) = index.pages(canonicalize_name("numpy"))
        assert len(page.filenames) > 3000
        reasons = {reason for _, reason in page.skipped}
        assert reasons <= {"neither a wheel nor an sdist"}
        file = page.file(list(page.filenames).index("numpy-2.0.0.tar.gz"))
    assert file.hashes.sha256 == "cf5d1c9e6837f8af9f92b6bd3e86d513cdc11f60fd62185cc49ec7d1aba34864"
    assert file.requires_python == ">=3.9"
