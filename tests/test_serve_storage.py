"""A catalog in PostgreSQL and blobs in S3: the same rules, several nodes, and nothing lost when one is killed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from mirror import serve
from mirror.errors import ConfigError, HashMismatchError, StorageError
from mirror.net import Client
from mirror.push.legacy import LegacyPublisher
from mirror.push.publisher import Publisher
from mirror.serve.catalog import Catalog, CatalogFile, Repository
from mirror.serve.databases import PostgreSQL
from mirror.serve.home import Home
from mirror.serve.hosted import Claims
from mirror.serve.maintain import check, collect
from tests import plain
from tests.index_support import airgap
from tests.postgres_support import PASSWORD, Postgres
from tests.publisher_conformance import PublisherConformance
from tests.s3_support import S3Server
from tests.storage_support import Shared, node, shared_storage
from tests.test_serve_http import (
    SDIST,
    WHEEL,
    test_a_file_comes_as_it_went_in,
    test_a_file_that_is_known_is_not_sent_again,
    test_a_page_says_all_that_standards_ask_for,
    test_a_page_that_did_not_change_is_not_sent_again,
    test_a_range_behind_the_end_is_refused,
    test_a_range_of_another_file_gives_the_whole,
    test_an_upload_changes_the_page_at_once,
    test_head_is_get_without_a_body,
    test_metadata_comes_beside_a_wheel,
    test_ranges,
    test_the_root_lists_projects,
    upload,
)
from tests.test_serve_proxy import BIG, Remote, path_of, remote, repositories
from tests.waiting import wait_for
from tests.wheelhouse import make_wheel

__all__ = [  # what a served repository must do, on this storage
    "remote",
    "test_a_file_comes_as_it_went_in",
    "test_a_file_that_is_known_is_not_sent_again",
    "test_a_page_says_all_that_standards_ask_for",
    "test_a_page_that_did_not_change_is_not_sent_again",
    "test_a_range_behind_the_end_is_refused",
    "test_a_range_of_another_file_gives_the_whole",
    "test_an_upload_changes_the_page_at_once",
    "test_head_is_get_without_a_body",
    "test_metadata_comes_beside_a_wheel",
    "test_ranges",
    "test_the_root_lists_projects",
]


@pytest.fixture(scope="module")
def filled(postgres: Postgres, s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("serve")
    with (
        shared_storage(postgres, s3_server).known() as settings,
        serve.running(folder / "home", settings=settings) as found,
        plain.Client(base_url=found.repository_url("pypi-hosted")) as client,
    ):
        for built in (WHEEL, SDIST):
            assert upload(client, built, folder).status_code == 200
        yield client


@pytest.fixture
def shared(postgres: Postgres, s3_server: S3Server) -> Shared:
    return shared_storage(postgres, s3_server)


@pytest.fixture
def settings(shared: Shared) -> Iterator[Any]:
    with shared.known() as settings:
        yield settings


@pytest.fixture
def home(settings: Any, tmp_path: Path) -> Iterator[Home]:
    with Home(tmp_path / "home", settings) as found:
        yield found


@pytest.fixture
def client(settings: Any, tmp_path: Path) -> Iterator[httpx.Client]:
    with (
        serve.running(tmp_path / "home", settings=settings) as server,
        plain.Client(base_url=server.repository_url("pypi-hosted")) as found,
    ):
        yield found


class TestEmbeddedInPostgresAndS3(PublisherConformance):
    @pytest.fixture(params=["push", "upload"])
    def publisher(self, settings: Any, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Publisher]:
        if request.param == "push":
            with serve.embedded_publisher(tmp_path / "home", settings=settings) as found:
                yield found
        else:
            with serve.running(tmp_path / "home", settings=settings) as server, Client() as client:
                yield LegacyPublisher(client, server.repository_url("pypi-hosted"))


def add(home: Home, name: str, version: str, folder: Path) -> None:
    built = make_wheel(name, version)
    home.hosted("pypi-hosted").add(built.save(folder), built.filename, Claims())


def row(name: str, version: str = "1.0") -> CatalogFile:
    filename = f"{name}-{version}-py3-none-any.whl"
    digest = hashlib.sha256(filename.encode()).hexdigest()
    return CatalogFile(name, version, filename, 1, digest, "", "", None, None, None, "2026-01-01T00:00:00Z")


def test_nodes_that_change_one_page_at_once_lose_nothing(postgres: Postgres) -> None:
    hosted = Repository("pypi-hosted", "hosted")
    url = postgres.database()
    with contextlib.ExitStack() as stack:
        nodes = [stack.enter_context(contextlib.closing(Catalog(PostgreSQL(url), lambda _: True))) for _ in range(3)]
        added = [row("app", f"{number}.0") for number in range(60)]

        def work(number: int) -> None:
            assert nodes[number % 3].add(hosted, added[number]) is added[number]
            assert nodes[number % 2].set_yanked("pypi-hosted", added[number].filename, "\0 why \ud800")
            if number % 3 == 0:
                assert nodes[(number + 1) % 3].remove("pypi-hosted", added[number].filename) is not None

        with ThreadPoolExecutor(12) as pool:
            list(pool.map(work, range(60)))
        page = nodes[0].page("pypi-hosted", "app")
        assert page is not None
        left = sorted(file.filename for number, file in enumerate(added) if number % 3)
        assert [file.filename for file in page[1]] == left
        assert {file.yanked for file in page[1]} == {"? why ?"}
        with ThreadPoolExecutor(12) as pool:  # one of many gets each file out
            gone = list(pool.map(lambda name: nodes[1].remove("pypi-hosted", name), left * 2))
        assert sum(file is not None for file in gone) == len(left)
        assert nodes[2].tag("pypi-hosted", "app") is None
        assert list(nodes[2].projects("pypi-hosted")) == []


def test_of_many_who_enter_one_name_one_wins(postgres: Postgres) -> None:
    with contextlib.closing(Catalog(PostgreSQL(postgres.database()), lambda _: True)) as catalog:
        rows = [replace(row("app"), sha256=f"{number:064x}") for number in range(16)]
        with ThreadPoolExecutor(8) as pool:
            there = set(pool.map(lambda each: catalog.add(Repository("new", "hosted"), each).sha256, rows))
        assert len(there) == 1
        assert catalog.sizes() == {"new": (1, 1)}


def test_names_sort_by_their_bytes_whatever_the_database_thinks(postgres: Postgres) -> None:
    names = ["a-b", "a_b", "ab", "b", "a", "B", "a0"]
    with contextlib.closing(Catalog(PostgreSQL(postgres.database()), lambda _: True)) as catalog:
        assert catalog.repositories() == []
        for name in names:
            catalog.add(Repository("pypi-hosted", "hosted"), row(name))
        assert list(catalog.projects("pypi-hosted")) == sorted(names)
        listed = catalog.listed("pypi-hosted", after=("a", "zzz"), limit=3)
        assert [file.project for file in listed] == sorted(names)[2:5]
        assert catalog.file("pypi-hosted", "a\0") is None
        found = catalog.search(["pypi-hosted"], names=["A_"], summaries=[], limit=9)
        assert [file.project for file in found] == ["a_b"]


def test_a_connection_that_broke_is_made_anew(postgres: Postgres) -> None:
    database = PostgreSQL(postgres.database())
    with contextlib.closing(Catalog(database, lambda _: True)) as catalog:
        catalog.add(Repository("one", "hosted"), row("app"))
        for work in (lambda: catalog.repositories(), lambda: catalog.add(Repository("one", "hosted"), row("b"))):
            postgres.disconnect(str(database._url.database))
            work()
        assert list(catalog.projects("one")) == ["app", "b"]


def test_a_catalog_from_the_future_is_refused(postgres: Postgres) -> None:
    database = PostgreSQL(postgres.database())
    with contextlib.closing(Catalog(database, lambda _: True)) as catalog:
        catalog.create_repository(Repository("one", "hosted"))
        database.write(lambda connection: connection.execute(sa.text("UPDATE airgap_schema SET version = 99")))
    later = PostgreSQL(str(database._url))
    with contextlib.closing(later), pytest.raises(StorageError, match="schema version 99"):
        later.select(sa.select(sa.literal(1)))


def test_no_password_in_what_is_said(postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = postgres.database().partition("?")[0]
    wrong = "wr0ng secret"
    (tmp_path / "airgap.toml").write_text(f'[serve]\ncatalog = "{url}"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIRGAP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PGPASSWORD", wrong)
    done = airgap("repo", "list")
    assert done.code == StorageError.exit_code
    assert "password authentication failed" in done.err
    assert "PGPASSWORD" in done.err
    assert wrong not in done.out + done.err
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    done = airgap("repo", "list")
    assert done.code == 0, done.err
    monkeypatch.setenv("PGPASSWORD", wrong)
    (tmp_path / "airgap.toml").write_text(f'[serve]\ncatalog = "{url.replace("@", f":{PASSWORD}@")}"\n')
    done = airgap("repo", "list")
    assert done.code == ConfigError.exit_code
    assert "PGPASSWORD" in done.err
    assert PASSWORD not in done.out + done.err


def age(monkeypatch: pytest.MonkeyPatch, days: float) -> None:
    """Let blobs be looked at as if *days* had passed: a bucket gives no object an older date."""
    monkeypatch.setattr("mirror.serve.bucket.STALE_SECONDS", (1 - days) * 86400)


def test_garbage_in_a_bucket_is_collected_after_a_day(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in ("1.0", "2.0"):
        add(home, "app", version, tmp_path)
    home.hosted("pypi-hosted").remove("app-1.0-py3-none-any.whl", actor="me")
    assert collect(home).blobs == 0
    age(monkeypatch, 2)
    assert collect(home).blobs == 2
    assert check(home).problems == ()
    assert check(home).blobs == 2


def test_a_blob_that_an_upload_takes_up_again_is_not_collected_under_it(
    home: Home, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However the collections of other nodes fall between: what is acknowledged is there."""
    add(home, "app", "1.0", tmp_path)
    age(monkeypatch, 2)
    hosted, stop = home.hosted("pypi-hosted"), threading.Event()

    def collecting() -> None:
        with Home(tmp_path / "other", settings) as other:
            while not stop.is_set():
                collect(other)

    def added() -> bool:
        try:
            add(home, "app", "1.0", tmp_path)
        except StorageError as error:
            if not error.retryable:
                raise
            return False
        return True

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(collecting)
        for _ in range(4):
            hosted.remove("app-1.0-py3-none-any.whl", actor="me")
            while not added():
                pass
            assert check(home).problems == ()
        stop.set()
        running.result()


def test_damage_in_a_bucket_is_found_and_never_served_whole(
    home: Home, client: httpx.Client, s3_server: S3Server, settings: Any, tmp_path: Path
) -> None:
    assert upload(client, WHEEL, tmp_path).status_code == 200
    s3_server.open(settings.blobs).put(f"{WHEEL.sha256[:2]}/{WHEEL.sha256}", WHEEL.data[:-1] + b"x")
    with pytest.raises(httpx.RemoteProtocolError):
        client.get(f"packages/some-project/1.0/{WHEEL.filename}")
    assert "its bytes have the sha256" in check(home).problems[0]
    with pytest.raises(HashMismatchError):
        home.blobs.get(WHEEL.sha256).data()
    s3_server.open(settings.blobs).delete([f"{WHEEL.sha256[:2]}/{WHEEL.sha256}"])
    assert "missing" in check(home).problems[0]
    assert client.get(f"packages/some-project/1.0/{WHEEL.filename}").status_code == 500


def test_a_proxied_file_goes_into_the_bucket_while_many_read_it(
    settings: Any,
    remote: Remote,
    tmp_path: Path,
) -> None:
    settings = replace(settings, repositories=repositories(remote.url).repositories)
    path = path_of(BIG, "big")
    with serve.running(tmp_path / "first", settings=settings) as server:

        def get(_: int) -> bytes:
            return plain.get(server.repository_url("p") + path).content

        with ThreadPoolExecutor(6) as pool:
            assert {hashlib.sha256(data).hexdigest() for data in pool.map(get, range(12))} == {BIG.sha256}
        assert remote.downloads(BIG) == 1
    with serve.running(tmp_path / "second", settings=settings) as server:  # another node has it without the remote
        part = plain.get(server.repository_url("p") + path, headers={"range": "bytes=-10"})
        assert (part.status_code, part.content) == (206, BIG.data[-10:])
        assert remote.downloads(BIG) == 1
    assert not list((tmp_path / "first/incoming").glob("*"))


def metric(text: str, start: str) -> float:
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(start))


def test_nodes_share_everything_and_a_killed_one_loses_nothing(shared: Shared, tmp_path: Path) -> None:
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        shared.write(folder)
    acknowledged: dict[str, str] = {}
    enough = threading.Event()
    with contextlib.ExitStack() as stack:
        nodes = [stack.enter_context(node(folder, environ=shared.environ)) for folder in folders]
        urls = [f"{url}/repository/pypi-hosted/" for url, _ in nodes]

        def uploading(number: int) -> None:
            """Upload through both nodes in turn; what one takes the other shows in its next answer."""
            with plain.Client() as one, plain.Client() as other:
                clients = [one, other]
                for client, url in zip(clients, urls, strict=True):
                    client.base_url = httpx.URL(url)
                for version in range(12):
                    built = make_wheel(f"app{version % 3}", f"{number}.{version}")
                    here = (number + version) % 2
                    try:
                        if upload(clients[here], built, tmp_path / f"t{number}").status_code != 200:
                            continue
                        acknowledged[built.filename] = built.sha256
                        page = clients[1 - here].get(f"simple/app{version % 3}/").text
                        assert built.filename in page
                    except httpx.TransportError:
                        assert enough.is_set()  # only once a node was killed
                    if len(acknowledged) > 12 and not enough.is_set():
                        enough.set()
                        nodes[0][1].kill()

        for number in range(4):
            (tmp_path / f"t{number}").mkdir()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(uploading, range(4)))
        assert nodes[0][1].wait(60) != 0
        assert len(acknowledged) >= 30  # the second node took its half until the end
        with plain.Client(base_url=urls[1]) as client:
            for filename, sha256 in acknowledged.items():
                project, version = filename.split("-")[:2]
                got = client.get(f"packages/{project}/{version}/{filename}")
                assert hashlib.sha256(got.content).hexdigest() == sha256
        command = [sys.executable, "-m", "mirror", "repo", "check"]
        environ = {**os.environ, **shared.environ, "AIRGAP_HOME": str(tmp_path / "third")}
        done = subprocess.run(command, cwd=folders[0], env=environ, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_two_workers_on_a_file_and_a_folder(tmp_path: Path) -> None:
    with node(tmp_path, "--workers", "2", environ={}) as (url, process):
        base = f"{url}/repository/pypi-hosted/"

        def uploading(number: int) -> None:
            (tmp_path / f"t{number}").mkdir()
            for version in range(6):
                built = make_wheel("app", f"{number}.{version}")
                with plain.Client(base_url=base) as client:  # a new connection each time: either worker may have it
                    assert upload(client, built, tmp_path / f"t{number}").status_code == 200
                    assert built.filename in client.get("simple/app/").text

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(uploading, range(6)))
        # A worker counts when it has answered, and the other one tells of it.
        counted = 'airgap_http_requests_total{{handler="{}"'.format
        wait_for(lambda: metric(plain.get(f"{url}/metrics").text, counted("page")) >= 36)
        wait_for(lambda: metric(plain.get(f"{url}/metrics").text, counted("upload")) >= 36)
        text = plain.get(f"{url}/metrics").text
        assert metric(text, counted("upload")) == 36
        assert metric(text, counted("page")) == 36
        assert metric(text, 'airgap_repository_files{repository="pypi-hosted"}') == 36
        process.terminate()
        assert process.wait(60) == 0
    with Home(tmp_path / "home") as home:
        assert len(home.catalog.files("pypi-hosted", "app")) == 36
        assert check(home).problems == ()
        assert len((tmp_path / "home/audit.log").read_text().splitlines()) == 36


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc to see which processes there are")
def test_a_worker_that_is_killed_is_replaced_and_none_outlives_the_first(tmp_path: Path) -> None:
    def command(pid: str) -> bytes:
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:  # it has ended since it was listed
            return b""

    def workers(parent: int) -> set[int]:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return {int(pid) for pid in children if b"spawn_main" in command(pid)}

    environ = {"TMPDIR": str(tmp_path)}  # who is killed leaves its folder
    with node(tmp_path, "--workers", "2", environ=environ) as (url, process):
        before = workers(process.pid)
        assert len(before) == 2
        os.kill(min(before), 9)
        while len(workers(process.pid) - before) < 1:
            assert plain.get(f"{url}/-/health").status_code == 200
        left = workers(process.pid)
        process.kill()
        process.wait(60)
        while any(Path(f"/proc/{pid}").exists() for pid in left):
            time.sleep(0.05)


def test_it_is_not_ready_without_its_storage(shared: Shared, postgres: Postgres, tmp_path: Path) -> None:
    with shared.known() as settings, serve.running(tmp_path, settings=settings) as server:
        name = str(sa.make_url(str(settings.catalog)).database)
        for there in (True, False, True):
            postgres.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS {there}')
            postgres.disconnect(name)
            answer = plain.get(f"{server.url}/-/ready")
            expected = (200, "ready\n") if there else (503, "catalog can't be reached\n")
            assert (answer.status_code, answer.text) == expected
            assert plain.get(f"{server.url}/-/health").status_code == 200
    with shared.known() as settings:
        gone = replace(settings, blobs="s3://no-such-bucket")
        with serve.running(tmp_path, settings=gone) as server:
            answer = plain.get(f"{server.url}/-/ready")
            assert (answer.status_code, answer.text) == (503, "blobs can't be reached\n")
            assert plain.get(f"{server.url}/-/health").status_code == 200
