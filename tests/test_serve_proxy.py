"""Proxy and group repositories: a real remote with faults, a real server before it."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from mirror.config.served import Served, ServeSettings
from mirror.index.simple import parse_page
from mirror.serve.home import Home
from mirror.serve.maintain import collect
from mirror.serve.recent import Recent
from mirror.serve.server import Running, running
from tests import plain
from tests.http_support import Cut, Hold, Reply, Request, Server, Status
from tests.test_serve_http import JSON, pip, upload
from tests.wheelhouse import Built, make_sdist, make_wheel

WHEEL = make_wheel("lib", "1.0", requires_python=">=3.8")
NEWER = make_wheel("lib", "2.0")
SDIST = make_sdist("lib", "0.9")
BIG = make_wheel("big", "1.0", files={"big.bin": hashlib.shake_256(b"big").digest(3_000_000)})


class Remote:
    """A simple index whose pages tests change."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.url = f"{server.url}/simple/"

    def offer(self, project: str, *files: Built, sha256: str | None = None, size: bool = True, query: str = "") -> None:
        items = []
        for built in files:
            url = self.server.add(f"/files/{built.filename}", built.data) + query
            item: dict[str, object] = {
                "filename": built.filename, "url": url, "hashes": {"sha256": sha256 or built.sha256},
            }  # fmt: skip
            if size:
                item["size"] = len(built.data)
            if built.filename.endswith(".whl"):
                self.server.add(f"/files/{built.filename}.metadata", built.metadata)
                item["core-metadata"] = {"sha256": hashlib.sha256(built.metadata).hexdigest()}
            items.append(item)
        page = {"meta": {"api-version": "1.1"}, "name": project, "files": items, "versions": []}
        self.server.add(f"/simple/{project}/", json.dumps(page).encode(), content_type=JSON)

    def downloads(self, built: Built) -> int:
        return len(self.server.seen(f"/files/{built.filename}"))


@pytest.fixture
def remote() -> Iterator[Remote]:
    with Server() as server:
        found = Remote(server)
        found.offer("lib", WHEEL, SDIST)
        found.offer("big", BIG)
        root = {"meta": {"api-version": "1.0"}, "projects": [{"name": "Lib"}, {"name": "big"}]}
        server.add("/simple/", json.dumps(root).encode(), content_type=JSON)
        yield found


def repositories(remote: str, *, max_age: float = 0, offline: bool = False) -> ServeSettings:
    """A proxy that asks every time, and a group of it."""
    proxy = Served("p", "proxy", remote=remote, max_age=max_age, negative_max_age=max_age, offline=offline)
    group = Served("g", "group", members=("pypi-hosted", "p"), deploy_to="pypi-hosted")
    closed = Served("closed", "group", members=("p",))
    return ServeSettings(repositories={each.name: each for each in (proxy, group, closed)})


@pytest.fixture
def served(remote: Remote, tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path / "home", settings=repositories(remote.url)) as found:
        yield found


@pytest.fixture
def proxy(served: Running) -> Iterator[httpx.Client]:
    with plain.Client(base_url=served.repository_url("p"), follow_redirects=True) as client:
        yield client


@pytest.fixture
def group(served: Running) -> Iterator[httpx.Client]:
    with plain.Client(base_url=served.repository_url("g")) as client:
        yield client


def page(client: httpx.Client, project: str) -> dict[str, dict[str, object]]:
    answer = client.get(f"simple/{project}/", headers={"accept": JSON})
    assert answer.status_code == 200, answer.text
    return {file["filename"]: file for file in answer.json()["files"]}


def path_of(built: Built, project: str = "lib", version: str = "1.0") -> str:
    return f"packages/{project}/{version}/{built.filename}"


def blobs(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "blobs").rglob("*") if path.is_file())


def test_a_page_keeps_what_the_remote_says_and_leads_here(proxy: httpx.Client) -> None:
    files = page(proxy, "lib")
    assert set(files) == {WHEEL.filename, SDIST.filename}
    wheel = files[WHEEL.filename]
    assert wheel["url"] == f"../../{path_of(WHEEL)}"
    assert wheel["hashes"] == {"sha256": WHEEL.sha256}
    assert wheel["size"] == len(WHEEL.data)
    assert wheel["core-metadata"] == {"sha256": hashlib.sha256(WHEEL.metadata).hexdigest()}
    assert proxy.get("simple/", headers={"accept": JSON}).json()["projects"] == [{"name": "big"}, {"name": "lib"}]


def test_a_file_is_fetched_once_and_then_served_from_here(remote: Remote, proxy: httpx.Client, tmp_path: Path) -> None:
    for _ in range(3):
        answer = proxy.get(path_of(WHEEL))
        assert answer.content == WHEEL.data
        assert answer.headers["content-length"] == str(len(WHEEL.data))
    assert remote.downloads(WHEEL) == 1
    assert WHEEL.sha256 in blobs(tmp_path / "home")
    assert proxy.get(f"{path_of(WHEEL)}.metadata").content == WHEEL.metadata
    assert "cache" in (tmp_path / "home" / "audit.log").read_text()


def test_metadata_do_not_need_the_file(remote: Remote, proxy: httpx.Client) -> None:
    for _ in range(2):
        assert proxy.get(f"{path_of(WHEEL)}.metadata").content == WHEEL.metadata
    assert remote.downloads(WHEEL) == 0
    assert len(remote.server.seen(f"/files/{WHEEL.filename}.metadata")) == 1


def test_metadata_of_a_file_whose_url_has_a_query(remote: Remote, proxy: httpx.Client) -> None:
    remote.offer("lib", WHEEL, query="?signature=abc")
    assert proxy.get(f"packages/lib/1.0/{WHEEL.filename}.metadata").content == WHEEL.metadata


def test_many_clients_cause_one_download(remote: Remote, proxy: httpx.Client) -> None:
    gate = threading.Event()
    remote.server.script(f"/files/{BIG.filename}", Hold(100_000, gate))
    started = threading.Barrier(9)

    def fetch() -> bytes:
        with proxy.stream("GET", path_of(BIG, "big")) as answer:
            pieces = answer.iter_raw()
            first = next(pieces)  # it comes while the rest is still held back
            started.wait(30)
            return first + b"".join(pieces)

    with ThreadPoolExecutor(8) as pool:
        running_ = [pool.submit(fetch) for _ in range(8)]
        started.wait(30)
        gate.set()
        assert {hashlib.sha256(each.result()).hexdigest() for each in running_} == {BIG.sha256}
    assert remote.downloads(BIG) == 1


@pytest.mark.parametrize("size", [True, False])
def test_a_wrong_digest_reaches_nobody_whole_and_is_not_kept(
    remote: Remote, proxy: httpx.Client, tmp_path: Path, size: bool
) -> None:
    remote.offer("big", BIG, sha256="0" * 64, size=size)
    remote.offer("lib", WHEEL, sha256="0" * 64, size=size)
    with pytest.raises(httpx.RemoteProtocolError):
        proxy.get(path_of(BIG, "big"))
    # A small file is judged before its first byte goes out.
    try:
        answer = proxy.get(path_of(WHEEL))
        assert answer.status_code == 400
        assert "promised" in answer.text
    except httpx.RemoteProtocolError:
        pass
    assert blobs(tmp_path / "home") == []


def test_a_cut_is_mended_by_the_rest(remote: Remote, proxy: httpx.Client) -> None:
    remote.server.script(f"/files/{BIG.filename}", Cut(1_500_000))
    assert proxy.get(path_of(BIG, "big")).content == BIG.data
    assert remote.server.ranges(f"/files/{BIG.filename}")[1].startswith("bytes=")  # type: ignore[union-attr]


def test_ranges_and_head_of_a_file_that_is_not_here_yet(remote: Remote, proxy: httpx.Client) -> None:
    head = proxy.head(path_of(BIG, "big"))
    assert head.headers["content-length"] == str(len(BIG.data))
    part = proxy.get(path_of(BIG, "big"), headers={"range": "bytes=-20"})
    assert (part.status_code, part.content) == (206, BIG.data[-20:])
    assert remote.downloads(BIG) == 1


def test_a_page_is_asked_for_again_and_only_changes_cross_the_net(remote: Remote, proxy: httpx.Client) -> None:
    first = proxy.get("simple/lib/")
    assert proxy.get("simple/lib/", headers={"if-none-match": first.headers["etag"]}).status_code == 304
    assert "if-none-match" in remote.server.seen("/simple/lib/")[1].headers
    remote.offer("lib", WHEEL, NEWER)
    assert set(page(proxy, "lib")) == {WHEEL.filename, NEWER.filename}


def test_within_its_age_a_page_is_not_asked_for_again(remote: Remote, tmp_path: Path) -> None:
    for _ in range(2):  # the second server finds the page that the first one kept
        with (
            running(tmp_path / "home", settings=repositories(remote.url, max_age=1000)) as served,
            plain.Client(base_url=served.repository_url("p")) as client,
        ):
            assert page(client, "lib")
            for _ in range(2):
                assert client.get("simple/nothing/").status_code == 404
    assert len(remote.server.seen("/simple/lib/")) == 1
    assert len(remote.server.seen("/simple/nothing/")) == 2  # that something is not there is kept in memory alone


def test_an_old_page_serves_while_the_remote_fails(remote: Remote, proxy: httpx.Client) -> None:
    assert page(proxy, "lib")
    remote.server.script("/simple/lib/", *[Status(403)] * 5)
    assert page(proxy, "lib")
    remote.server.script("/simple/other/", Status(403, body=b"no"))
    answer = proxy.get("simple/other/")
    assert answer.status_code == 502
    assert "403" in answer.text


def test_what_is_no_index_page_is_refused(remote: Remote, proxy: httpx.Client) -> None:
    remote.server.add("/simple/odd/", b"\x89PNG", content_type="image/png")
    answer = proxy.get("simple/odd/")
    assert answer.status_code == 502
    assert "not a simple index" in answer.text


def test_the_status_of_a_project_passes_through(remote: Remote, proxy: httpx.Client) -> None:
    body = {
        "meta": {"api-version": "1.4"}, "name": "old", "files": [], "versions": [],
        "project-status": {"status": "quarantined", "reason": "because <it>"},
    }  # fmt: skip
    remote.server.add("/simple/old/", json.dumps(body).encode(), content_type=JSON)
    for accept in (JSON, "text/html"):
        answer = proxy.get("simple/old/", headers={"accept": accept})
        parsed = parse_page(answer.content, answer.headers["content-type"], str(answer.url), project="old", index="")
        assert parsed.status == ("quarantined", "because <it>")


def test_bytes_that_changed_at_the_remote_replace_the_cached_ones(remote: Remote, proxy: httpx.Client) -> None:
    assert proxy.get(path_of(WHEEL)).content == WHEEL.data
    other = Built(WHEEL.filename, make_wheel("lib", "1.0", files={"x.py": b""}).data, WHEEL.metadata)
    remote.offer("lib", other)
    page(proxy, "lib")
    assert proxy.get(path_of(WHEEL)).content == other.data


def test_offline_serves_what_is_cached_and_nothing_else(remote: Remote, proxy: httpx.Client, tmp_path: Path) -> None:
    proxy.get(path_of(WHEEL))
    asked = len(remote.server.requests)
    with (
        running(tmp_path / "home", settings=repositories(remote.url, offline=True)) as served,
        plain.Client(base_url=served.repository_url("p")) as client,
    ):
        assert set(page(client, "lib")) == {WHEEL.filename}
        assert client.get(path_of(WHEEL)).content == WHEEL.data
        assert client.get(f"{path_of(WHEEL)}.metadata").content == WHEEL.metadata
        assert client.get(path_of(SDIST, version="0.9")).status_code == 404
        assert client.get("simple/big/").status_code == 404
        assert client.get("simple/", headers={"accept": JSON}).json()["projects"] == [{"name": "lib"}]
    assert len(remote.server.requests) == asked


def test_what_nobody_asked_for_is_forgotten(remote: Remote, tmp_path: Path) -> None:
    kept = Served("p", "proxy", remote=remote.url, max_age=0, keep_days=30)
    with running(tmp_path / "home", settings=ServeSettings(repositories={"p": kept})) as server:
        with plain.Client(base_url=server.repository_url("p")) as client:
            for path in (path_of(WHEEL), path_of(WHEEL) + ".metadata", path_of(BIG, "big")):
                assert client.get(path).status_code == 200
        for note in (tmp_path / "home" / "proxied").rglob("*"):
            if note.is_file():
                os.utime(note, (0, 0))
        with plain.Client(base_url=server.repository_url("p")) as client:
            remote.server.script("/simple/big/", Status(500), Status(500), Status(500))
            assert client.get("simple/big/").status_code == 200  # an old one, which counts all the same
    for offline, forgotten in ((True, 0), (False, 1), (False, 0)):
        with Home(tmp_path / "home", ServeSettings(repositories={"p": replace(kept, offline=offline)})) as home:
            assert collect(home).forgotten == forgotten
            assert list(home.catalog.projects("p")) == (["big"] if not offline else ["big", "lib"])
    with running(tmp_path / "home", settings=ServeSettings(repositories={"p": kept})) as server:
        assert plain.get(server.repository_url("p") + path_of(WHEEL)).content == WHEEL.data
    assert remote.downloads(WHEEL) == 2


def test_names_that_the_remote_never_had_do_not_fill_the_disk(
    remote: Remote, proxy: httpx.Client, tmp_path: Path
) -> None:
    for number in range(5):
        assert proxy.get(f"simple/nobody-{number}/").status_code == 404
    assert not [path for path in (tmp_path / "home" / "proxied").rglob("*") if path.is_file()]
    assert proxy.get("simple/lib/").status_code == 200
    remote.server.handle("/simple/lib/", lambda _: Reply(404))
    assert proxy.get("simple/lib/").status_code == 404
    assert proxy.get("packages/../1.0/x-1.0-py3-none-any.whl").status_code == 404


def test_memory_for_pages_is_bounded() -> None:
    recent: Recent[str] = Recent(100)
    for name, weight in (("a", 40), ("b", 40), ("a", 50), ("c", 20), ("huge", 200)):
        recent.put(name, name.upper(), weight)
    assert [recent.get(name) for name in ("a", "b", "c", "huge")] == [None, None, None, None]
    recent.put("d", "D", 60)
    recent.put("e", "E", 40)
    assert recent.get("d") == "D"
    recent.put("f", "F", 40)
    assert [recent.get(name) for name in ("d", "e", "f")] == ["D", None, "F"]


def test_credentials_go_to_the_remote_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REMOTE_PASSWORD", "secret")
    with Server(users={"u": "secret"}) as index, Server() as files:
        url = files.add(f"/{WHEEL.filename}", WHEEL.data)
        body = f'<a href="{url}#sha256={WHEEL.sha256}">{WHEEL.filename}</a>'.encode()
        index.add("/simple/lib/", body, content_type="text/html")
        named = Served(
            "p", "proxy", remote=f"{index.url}/simple/", username="u", password_env="REMOTE_PASSWORD"
        )  # fmt: skip
        with (
            running(tmp_path / "home", settings=ServeSettings(repositories={"p": named})) as served,
            plain.Client(base_url=served.repository_url("p")) as client,
        ):
            assert client.get(path_of(WHEEL)).content == WHEEL.data
        assert "authorization" in index.seen("/simple/lib/")[-1].headers
        assert "authorization" not in files.requests[0].headers


def test_a_proxy_of_itself_is_found_out(tmp_path: Path) -> None:
    seen: list[str] = []

    def back(request: Request) -> Reply:
        answer = plain.get(f"{seen[0]}/repository/p/simple/lib/", headers={"via": request.headers["via"]})
        return Reply(answer.status_code, answer.content, {"content-type": "text/plain"})

    with Server() as remote:
        remote.handle("/simple/lib/", back)
        with running(tmp_path / "home", settings=repositories(f"{remote.url}/simple/")) as served:
            seen.append(served.url)
            answer = plain.get(f"{served.url}/repository/p/simple/lib/")
            assert answer.status_code == 502
            assert "508" in answer.text


# Groups


def test_a_group_merges_and_the_first_member_wins(
    served: Running, group: httpx.Client, remote: Remote, tmp_path: Path
) -> None:
    private = make_wheel("lib", "1.0", files={"private.py": b""})
    with plain.Client(base_url=served.repository_url("pypi-hosted")) as hosted:
        assert upload(hosted, private, tmp_path).status_code == 200
    files = page(group, "lib")
    assert set(files) == {WHEEL.filename, SDIST.filename}
    assert files[WHEEL.filename]["hashes"] == {"sha256": private.sha256}
    assert group.get(path_of(WHEEL)).content == private.data
    assert group.get(path_of(SDIST, version="0.9")).content == SDIST.data
    assert remote.downloads(WHEEL) == 0
    names = group.get("simple/", headers={"accept": JSON}).json()["projects"]
    assert names == [{"name": "big"}, {"name": "lib"}]


def test_a_member_that_fails_is_reported_and_the_others_serve(
    served: Running, group: httpx.Client, remote: Remote, tmp_path: Path
) -> None:
    with plain.Client(base_url=served.repository_url("pypi-hosted")) as hosted:
        upload(hosted, NEWER, tmp_path)
    remote.server.script("/simple/lib/", Status(403))
    remote.server.script("/simple/other/", Status(403))
    broken = group.get("simple/lib/", headers={"accept": JSON})
    assert [file["filename"] for file in broken.json()["files"]] == [NEWER.filename]
    assert broken.headers["x-airgap-failed-members"] == "p"
    whole = group.get("simple/lib/", headers={"accept": JSON, "if-none-match": broken.headers["etag"]})
    assert whole.status_code == 200
    assert "x-airgap-failed-members" not in whole.headers
    # "Not found" would be a guess.
    assert group.get("simple/other/").status_code == 502
    assert group.get("simple/nowhere/").status_code == 404


def test_uploads_to_a_group_go_where_it_says(
    served: Running, group: httpx.Client, proxy: httpx.Client, tmp_path: Path
) -> None:
    assert upload(group, NEWER, tmp_path).status_code == 200
    assert NEWER.filename in plain.get(f"{served.index_url('pypi-hosted')}lib/").text
    with plain.Client(base_url=served.repository_url("closed")) as closed:
        for client in (closed, proxy):
            answer = upload(client, NEWER, tmp_path)
            assert answer.status_code == 400
            assert "pypi-hosted" in answer.text


def test_pip_installs_through_a_group(served: Running, remote: Remote, tmp_path: Path) -> None:
    with plain.Client(base_url=served.repository_url("pypi-hosted")) as hosted:
        upload(hosted, make_wheel("app", requires=["lib"]), tmp_path)
    target = tmp_path / "target"
    done = pip(
        "install", "-q", "--index-url", served.index_url("g"), "--target", str(target), "app", folder=tmp_path
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (target / "lib.py").is_file()


def test_another_airgap_as_the_remote(served: Running, remote: Remote, tmp_path: Path) -> None:
    with (
        running(tmp_path / "second", settings=repositories(served.index_url("p"))) as second,
        plain.Client(base_url=second.repository_url("p")) as client,
    ):
        assert set(page(client, "lib")) == {WHEEL.filename, SDIST.filename}
        assert client.get(f"{path_of(WHEEL)}.metadata").content == WHEEL.metadata
        assert client.get(path_of(WHEEL)).content == WHEEL.data
        assert client.get(path_of(BIG, "big")).content == BIG.data
    assert remote.downloads(WHEEL) == 1


@pytest.mark.network
def test_the_real_index_behind_a_proxy(tmp_path: Path) -> None:
    from functools import partial

    from mirror.config import load
    from mirror.ops.remotes import remote_client
    from mirror.urls import with_slash, without_credentials

    config = load()
    index = with_slash(without_credentials(config.index_url.value))
    with running(tmp_path / "home", remote=index, connect=partial(remote_client, config=config)) as served:
        target = tmp_path / "target"
        done = pip(
            "install", "-q", "--index-url", served.index_url("pypi-all"), "--target", str(target), "six==1.16.0",
            folder=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert (target / "six.py").is_file()
