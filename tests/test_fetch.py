from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import pytest
import trustme
from packaging.utils import canonicalize_name

from mirror.errors import HashMismatchError, IntegrityError, NetworkError, NotFoundError, StorageError
from mirror.fetch import MOST_KEPT, Fetcher
from mirror.models import Event, File, Hashes
from mirror.net import Client, Settings
from mirror.store import Store
from tests.http_support import Cut, Hold, IgnoreRange, Reply, Request, Server, Status, tls_context

BODY = bytes(range(256)) * 8192
NAME = "demo-1.0-py3-none-any.whl"
DOWNLOAD = """
import pathlib, sys
from mirror.fetch import Fetcher
from mirror.models import File, Hashes
from mirror.net import Client
from mirror.store import Store
url, digest, root = sys.argv[1:]
file = File("demo-1.0-py3-none-any.whl", url, "demo", "1.0", Hashes.of({"sha256": digest}))
with Client() as client, Fetcher(client, Store(pathlib.Path(root))) as fetcher:
    print(fetcher.fetch([file])[file.filename].sha256)
"""


def digest(body: bytes, algorithm: str = "sha256") -> str:
    return hashlib.new(algorithm, body).hexdigest()


def make_file(
    url: str, body: bytes = BODY, *, filename: str = NAME, algorithms: tuple[str, ...] = ("sha256",), size: bool = True
) -> File:
    return File(
        filename,
        url,
        canonicalize_name("demo"),
        "1.0",
        Hashes.of({name: digest(body, name) for name in algorithms}),
        size=len(body) if size else None,
    )


@pytest.fixture(name="server")
def _server() -> Iterator[Server]:
    with Server() as server:
        server.add("/" + NAME, BODY)
        yield server


@pytest.fixture(name="client")
def _client() -> Iterator[Client]:
    with Client(Settings(retries=2, timeout=60)) as client:
        yield client


@pytest.fixture(name="store")
def _store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def fetch(client: Client, store: Store, *files: File) -> list[Event]:
    events: list[Event] = []
    with Fetcher(client, store, report=events.append) as fetcher:
        result = fetcher.fetch(files)
    assert list(result) == [file.filename for file in files]
    for fetched in result.values():
        assert store.size(fetched.sha256) == fetched.size
    return events


def test_many_files_arrive_and_are_counted(server: Server, client: Client, store: Store) -> None:
    bodies = {f"demo-{number}-py3-none-any.whl": BODY[: 40_000 * number] for number in range(1, 41)}
    files = [make_file(server.add("/" + name, body), body, filename=name) for name, body in bodies.items()]
    events = fetch(client, store, *files)
    assert all(store.has(digest(body)) for body in bodies.values())
    advances = [event for event in events if event.kind == "advance"]
    assert sum(event.items for event in advances) == 40
    assert sum(event.bytes for event in advances) == sum(map(len, bodies.values()))
    totals = [(event.items, event.bytes) for event in events if event.kind == "begin"]
    assert max(totals) == (40, sum(map(len, bodies.values())))
    assert [event.kind for event in events].count("end") == 1
    assert len(server.requests) == 40


def test_a_slow_server_gets_more_connections(server: Server, client: Client, store: Store) -> None:
    lock, now, most = threading.Lock(), 0, 0

    def slowly(request: Request) -> Reply:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.1)
        with lock:
            now -= 1
        return Reply(200, request.path.encode())

    names = [f"demo-{number}-py3-none-any.whl" for number in range(80)]
    files = [make_file(server.handle("/" + name, slowly), f"/{name}".encode(), filename=name) for name in names]
    fetch(client, store, *files)
    assert most >= 8


@pytest.mark.parametrize("algorithms", [("sha256",), ("md5",), ("sha512", "md5")])
def test_nothing_is_fetched_twice_by_any_digest(
    server: Server, client: Client, store: Store, algorithms: tuple[str, ...]
) -> None:
    file = make_file(server.url + "/" + NAME, algorithms=algorithms)
    fetch(client, store, file)
    assert fetch(client, store, file) == []
    assert len(server.requests) == 1


def test_start_is_idempotent_and_fetch_joins_it(server: Server, client: Client, store: Store) -> None:
    file = make_file(server.url + "/" + NAME)
    with Fetcher(client, store) as fetcher:
        future = fetcher.start(file)
        assert fetcher.start(file) is future
        assert fetcher.fetch([file])[NAME] == future.result()
    assert len(server.requests) == 1


def test_what_is_here_already_is_kept_and_not_fetched(server: Server, client: Client, store: Store) -> None:
    file = make_file(f"{server.url}/{NAME}")
    with Fetcher(client, store) as fetcher:
        fetcher.keep(file, BODY)
        assert fetcher.fetch([file])[NAME].size == len(BODY)
        fetcher.keep(file, b"other")  # there is an answer already
    assert store.has(digest(BODY))
    assert not store.has(digest(b"other"))
    assert server.requests == []


def test_only_so_many_files_wait_for_the_disk(client: Client, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on, add = threading.Semaphore(0), threading.Event(), store.add

    def slow(data: bytes) -> str:
        begun.release()
        assert go_on.wait(30)
        return add(data)

    monkeypatch.setattr(store, "add", slow)
    bodies = [b"%d" % number for number in range(MOST_KEPT + 1)]
    files = [
        make_file("https://nowhere.invalid/", data, filename=f"a-{n}-py3-none-any.whl") for n, data in enumerate(bodies)
    ]
    with Fetcher(client, store) as fetcher:
        for file, data in zip(files[:-1], bodies[:-1], strict=True):
            fetcher.keep(file, data)
        assert begun.acquire(timeout=30)
        last = threading.Thread(target=fetcher.keep, args=(files[-1], bodies[-1]))
        last.start()
        assert begun.acquire(timeout=30)  # in its own thread, and not behind the others
        assert last.is_alive()
        go_on.set()
        last.join()
        assert len(fetcher.fetch(files)) == len(files)
    assert all(store.has(digest(data)) for data in bodies)


def test_what_can_not_be_kept_is_told_to_who_wants_it(
    client: Client, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: bytes) -> str:
        raise StorageError("disk full")

    monkeypatch.setattr(store, "add", full)
    file = make_file("https://nowhere.invalid/")
    with Fetcher(client, store) as fetcher:
        fetcher.keep(file, BODY)
        with pytest.raises(StorageError, match="disk full"):
            fetcher.fetch([file])


def test_a_file_without_digest_is_fetched_in_every_run_and_warned_about(
    server: Server, client: Client, store: Store
) -> None:
    file = make_file(server.url + "/" + NAME, algorithms=())
    server.script("/" + NAME, Cut(1000))
    for _ in range(2):
        warnings = [event.text for event in fetch(client, store, file) if event.kind == "warning"]
        assert len(warnings) == 1
        assert NAME in warnings[0]
    assert server.ranges("/" + NAME) == [None, "bytes=1000-", None]


def test_a_truncated_download_is_resumed(server: Server, client: Client, store: Store) -> None:
    server.script("/" + NAME, Cut(1_000_000), Status(503, {"Retry-After": "0"}), Cut(500_000), IgnoreRange())
    fetch(client, store, make_file(server.url + "/" + NAME, size=False))
    assert server.ranges("/" + NAME) == [None, "bytes=1000000-", "bytes=1000000-", "bytes=1500000-"]
    assert store.has(digest(BODY))


def test_wrong_bytes_are_refused_and_named(server: Server, client: Client, store: Store) -> None:
    wrong = make_file(server.url + "/" + NAME, BODY[::-1])
    with pytest.raises(HashMismatchError, match=NAME):
        fetch(client, store, wrong)
    assert len(server.requests) == 1
    assert not store.has(digest(BODY))
    assert not list((store.root / "part").glob("*"))


def test_damaged_bytes_of_an_earlier_run_do_not_ruin_this_one(server: Server, client: Client, store: Store) -> None:
    server.script("/" + NAME, Cut(600_000), *[Cut(0)] * 2)
    file = make_file(server.url + "/" + NAME)
    with pytest.raises(NetworkError, match=NAME):
        fetch(client, store, file)
    (part,) = (store.root / "part").glob("*.part")
    part.write_bytes(bytes(600_000))
    before = len(server.requests)
    events = fetch(client, store, file)
    assert any("Starting again" in event.text for event in events)
    assert server.ranges("/" + NAME)[before:] == ["bytes=600000-", None]


def test_a_file_that_changes_meanwhile_is_taken_whole(server: Server, client: Client, store: Store) -> None:
    other = BODY[::-1]
    gate = threading.Event()
    server.script("/" + NAME, Cut(600_000), Hold(0, gate))
    file = make_file(server.url + "/" + NAME, other, size=False)
    with Fetcher(client, store) as fetcher:
        future = fetcher.start(file)
        while not server.requests:
            time.sleep(0.001)
        server.add("/" + NAME, other)
        gate.set()
        assert future.result(30).sha256 == digest(other)


def test_the_first_failure_stops_the_others_and_names_the_file(server: Server, client: Client, store: Store) -> None:
    names = [f"demo-{number}-py3-none-any.whl" for number in range(20)]
    files = []
    for name in names:
        files.append(make_file(server.add("/" + name, BODY), filename=name))
        server.script("/" + name, Hold(1_000_000, threading.Event()))
    missing = make_file(server.url + "/gone", filename="gone-1.0-py3-none-any.whl")
    with pytest.raises(NotFoundError, match=r"gone-1\.0"):
        fetch(client, store, missing, *files)
    assert len(server.requests) < 20


def after(event: threading.Event, gate: threading.Event) -> None:
    event.wait()
    gate.set()


def test_leaving_stops_at_the_next_chunk_and_keeps_the_bytes(server: Server, client: Client, store: Store) -> None:
    gate = threading.Event()
    server.script("/" + NAME, Hold(1_500_000, gate))
    file = make_file(server.url + "/" + NAME)
    with Fetcher(client, store) as fetcher:
        future = fetcher.start(file)
        while not part_size(store.root):
            time.sleep(0.005)
        threading.Thread(target=after, args=(fetcher._stop, gate)).start()
    have = part_size(store.root)
    assert isinstance(future.exception(), CancelledError)
    with Fetcher(client, store) as fetcher:
        fetcher.fetch([file])
    assert 0 < have < len(BODY)
    assert server.ranges("/" + NAME) == [None, f"bytes={have}-"]


@pytest.mark.parametrize("secure", [False, True])
def test_leaving_waits_for_no_server_that_sends_nothing_more(store: Store, tmp_path: Path, secure: bool) -> None:
    """With a timeout of ten minutes this would never end."""
    authority, gate = trustme.CA(), threading.Event()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = tls_context(authority.issue_cert("127.0.0.1")) if secure else None
    with Server(tls=context) as server, Client(Settings(ca_bundle=tmp_path / "ca.pem", timeout=600)) as client:
        server.add("/" + NAME, BODY)
        server.script("/" + NAME, Hold(1_500_000, gate))
        with Fetcher(client, store) as fetcher:
            future = fetcher.start(make_file(server.url + "/" + NAME))
            while not part_size(store.root):
                time.sleep(0.005)
        assert isinstance(future.exception(), CancelledError)
        gate.set()


def test_local_files_come_through_the_same_door(client: Client, store: Store, tmp_path: Path) -> None:
    path = tmp_path / "wheel house" / NAME
    path.parent.mkdir()
    path.write_bytes(BODY)
    fetch(client, store, make_file(path.as_uri()))
    with pytest.raises(HashMismatchError):
        fetch(client, store, make_file(path.as_uri(), BODY[:-1] + b"!"))
    with pytest.raises(IntegrityError, match=NAME):
        fetch(client, store, make_file(path.as_uri(), BODY[:-1]))
    path.unlink()
    with pytest.raises(StorageError, match="can't be read"):
        fetch(client, store, make_file(path.as_uri(), b"other"))


def part_size(root: Path) -> int:
    return sum(path.stat().st_size for path in root.glob("part/*.part"))


def test_a_killed_download_asks_only_for_what_is_missing(server: Server, client: Client, store: Store) -> None:
    url = server.url + "/" + NAME
    server.script("/" + NAME, Hold(1_500_000, threading.Event()))
    with subprocess.Popen([sys.executable, "-c", DOWNLOAD, url, digest(BODY), store.root]) as process:
        deadline = time.monotonic() + 60
        while part_size(store.root) < 1_000_000 and time.monotonic() < deadline:
            time.sleep(0.01)
        process.kill()
    have = part_size(store.root)
    assert have >= 1_000_000
    assert not store.has(digest(BODY))
    fetch(client, store, make_file(url))
    assert server.ranges("/" + NAME) == [None, f"bytes={have}-"]


def test_two_processes_that_want_the_same_file_download_it_once(server: Server, store: Store) -> None:
    gate = threading.Event()
    server.script("/" + NAME, Hold(600_000, gate))
    command = [sys.executable, "-c", DOWNLOAD, server.url + "/" + NAME, digest(BODY), str(store.root)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    while not server.requests:
        time.sleep(0.01)
    time.sleep(0.5)
    gate.set()
    for process in processes:
        output, _ = process.communicate(timeout=60)
        assert (process.returncode, output.strip()) == (0, digest(BODY))
    assert len(server.requests) == 1
