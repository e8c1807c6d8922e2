"""Pushes through a proxy that breaks requests by a fixed schedule, and pushes that are killed: nothing is lost.

AIRGAP_FAULT_SCHEDULES says how many schedules to run; their seeds are 0, 1, 2, …
"""

from __future__ import annotations

import http.client
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from mirror.errors import AirgapError
from mirror.net import Client, Settings
from mirror.push.deliver import TRIES
from mirror.push.legacy import LegacyPublisher
from mirror.push.run import push
from tests.bundle_support import Wanted, make_content
from tests.push_support import FakeRepository, FolderSource, fake_repository, read_metadata
from tests.wheelhouse import Built, make_sdist, make_wheel

SCHEDULES = int(os.environ.get("AIRGAP_FAULT_SCHEDULES") or 40)
#: The same command, run so often, must end well: a schedule breaks the first 30 requests only.
RUNS = 8
BROKEN_REQUESTS = 30

TREE: list[tuple[Built, Sequence[str]]] = [
    (make_wheel("app", requires=["lib", "tool"]), ["lib", "tool"]),
    (make_wheel("lib", requires=["base"]), ["base"]),
    (make_wheel("tool", requires=["base", "leaf"]), ["base", "leaf"]),
    (make_wheel("base"), []),
    (make_sdist("base", "0.9"), []),
    (make_wheel("leaf"), []),
    (make_wheel("lone"), []),
]
NEEDS: Mapping[str, Sequence[str]] = {built.filename: needs for built, needs in TREE}
BELONGING = {name: [built.filename for built, _ in TREE if built.filename.startswith(f"{name}-")] for name in (
    "app", "lib", "tool", "base", "leaf", "lone",
)}  # fmt: skip

#: What may happen to an upload; those with "stored" reach the repository first.
UPLOAD_FAULTS = (
    "cut before", "cut during", "cut stored", "500", "502", "503", "429", "413", "500 stored", "504 stored",
    "twice", "rubbish stored", "login page", "slow",
)  # fmt: skip
PAGE_FAULTS = ("cut before", "500", "503", "429", "slow")


class FaultProxy(ThreadingHTTPServer):
    """Forwards to *server*, and meets each of the first requests with what the generator seeded with *seed* says."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, server: FakeRepository, seed: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = urlsplit(server.url).netloc
        self._random = random.Random(seed)
        self._left = BROKEN_REQUESTS
        self._lock = threading.Lock()

    def fault(self, faults: Sequence[str]) -> str:
        with self._lock:
            self._left -= 1
            broken = self._left >= 0 and self._random.random() < 0.5
            return self._random.choice(faults) if broken else ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: FaultProxy

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        self._meet(self.server.fault(PAGE_FAULTS))

    def do_POST(self) -> None:
        self._meet(self.server.fault(UPLOAD_FAULTS))

    def _meet(self, fault: str) -> None:
        if fault == "cut before":
            self.close_connection = True
            return
        length = int(self.headers.get("content-length", "0"))
        if fault == "cut during":
            self.rfile.read(length // 2)
            self.close_connection = True
            return
        body = self.rfile.read(length)
        if fault == "slow":
            time.sleep(0.02)
        if fault[:3].isdecimal() and not fault.endswith("stored"):
            self._answer(int(fault), b"no")
            return
        if fault == "login page":
            self._answer(200, b"<!DOCTYPE html><title>Who are you?</title>", {"content-type": "text/html"})
            return
        if fault == "twice":
            self._forward(body)
        status, headers, answer = self._forward(body)
        if fault == "cut stored":
            self.close_connection = True
        elif fault == "rubbish stored":
            self.wfile.write(b"\x00\xffnot HTTP at all\r\n\r\n")
            self.close_connection = True
        elif fault.endswith("stored"):
            self._answer(int(fault[:3]), b"no")
        else:
            self._answer(status, answer, headers)

    def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.server.target, timeout=10)
        try:
            connection.request(self.command, self.path, body, dict(self.headers.items()))
            answer = connection.getresponse()
            return answer.status, {"content-type": answer.headers.get("content-type", "text/plain")}, answer.read()
        finally:
            connection.close()

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str] = {}) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status in (429, 503):
            self.send_header("retry-after", "0")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def proxied(server: FakeRepository, seed: int) -> Iterator[str]:
    with FaultProxy(server, seed) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{proxy.server_address[1]}/upload/"
        finally:
            proxy.shutdown()
            thread.join()


@pytest.fixture
def server() -> Iterator[FakeRepository]:
    """A repository that notes whenever a visible project's closure is not visible."""
    with fake_repository() as found:
        yield found


def watch(server: FakeRepository) -> list[str]:
    """The holes in closures, as they come up: looked for after every file that is stored."""
    holes: list[str] = []

    def look() -> None:
        for name in server.files:
            holes.extend(
                f"{name} without {file}" for need in NEEDS[name] for file in BELONGING[need] if file not in server.files
            )

    server.on_store = look
    return holes


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> FolderSource:
    return FolderSource(tmp_path_factory.mktemp("source"), TREE)


@pytest.mark.parametrize("seed", range(SCHEDULES))
def test_a_schedule_of_faults(
    server: FakeRepository, source: FolderSource, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mirror.net.retry.FIRST_DELAY", 0.0005)
    holes = watch(server)
    complete, run = False, 0
    with proxied(server, seed) as url:
        while not complete:
            run += 1
            assert run <= RUNS
            with Client(Settings(retries=3, timeout=5)) as client:
                publisher = LegacyPublisher(client, url)
                try:
                    complete = push(source, publisher, metadata=read_metadata, workers=3, read_back_wait=0.0).complete
                except AirgapError:
                    continue
    assert server.files == {built.filename: built.data for built, _ in TREE}
    assert not holes
    # Twice, because the proxy may hand on one try two times.
    assert max(Counter(server.uploaded).values()) <= 2 * TRIES * run


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("kill_at", [1, 4, 6])
def test_killed_and_run_again(server: FakeRepository, tmp_path: Path, kill_at: int) -> None:
    from mirror.bundle import write_bundle
    from mirror.store import Store

    store = Store(tmp_path / "store")
    # A bundle has one file of a project for each target.
    wanted = [Wanted(built, requires=needs) for built, needs in TREE if not built.filename.startswith("base-0.9")]
    bundle = write_bundle(tmp_path / "bundle.tar.zst", make_content(store, wanted), store).path
    command = [sys.executable, "-m", "mirror", "push", str(bundle), "--repo", server.url, "-q", "-j", "2"]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TMPDIR": str(tmp_path)}
    environ |= {"TWINE_USERNAME": "any", "TWINE_PASSWORD": "any"}
    running: list[subprocess.Popen[bytes]] = []
    started = threading.Event()

    def kill() -> None:
        if len(server.files) == kill_at:
            started.wait()
            running[0].kill()

    server.on_store = kill
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE) as process:
        running.append(process)
        started.set()
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert len(server.files) in (kill_at, kill_at + 1) or kill_at == len(wanted)
    server.on_store = lambda: None
    subprocess.run(command, env=environ, check=True, stderr=subprocess.PIPE)
    assert server.files == {item.built.filename: item.built.data for item in wanted}
    assert max(Counter(server.uploaded).values()) == 1
