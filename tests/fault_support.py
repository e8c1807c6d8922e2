"""Real repositories in processes of their own, and a proxy before them that breaks requests by a fixed schedule."""

from __future__ import annotations

import hashlib
import http.client
import os
import random
import re
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from html import unescape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from tests.ports import free_port
from tests.push_support import process
from tests.wheelhouse import Built, make_sdist, make_wheel

#: A schedule breaks so many requests at most; what comes then goes through.
BROKEN_REQUESTS = 40
#: What may happen to an upload; those with "stored" reach the repository whole.
UPLOAD_FAULTS = (
    "cut before", "cut during", "half sent", "cut stored", "500", "502", "503", "429", "413", "500 stored",
    "504 stored", "twice", "rubbish stored", "login page", "200", "201", "slow",
)  # fmt: skip
PAGE_FAULTS = ("cut before", "500", "503", "429", "404", "login page", "slow")


@dataclass(frozen=True)
class Repository:
    """A running server: ``url`` takes uploads, and the index is in ``simple/`` below it.

    ``packages`` is the folder where it looks for its files with every request, if it is that kind of server.
    """

    url: str
    packages: Path | None = None

    def shown(self, project: str) -> dict[str, str]:
        """The files of *project* that the index shows, and where they are; asked by other code than push's."""
        base = urljoin(self.url, f"simple/{project}/")
        status, body = fetch(base)
        assert status in (200, 404)
        found = re.findall(r'<a [^>]*href="([^"]+)"[^>]*>([^<]+)</a>', body.decode()) if status == 200 else []
        return {unescape(name).strip(): urljoin(base, unescape(link)) for link, name in found}

    def forget(self) -> None:
        """Remove what is no longer needed, where it would slow the server down."""
        for path in self.packages.iterdir() if self.packages is not None else ():
            path.unlink()

    def digests(self, project: str) -> dict[str, str]:
        """The SHA-256 of the bytes that are served for each file of *project*."""
        answers = {name: fetch(url) for name, url in self.shown(project).items()}
        assert {status for status, _ in answers.values()} <= {200}, answers
        return {name: hashlib.sha256(body).hexdigest() for name, (_, body) in answers.items()}


def fetch(url: str) -> tuple[int, bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    try:
        connection.request("GET", parts.path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@contextmanager
def pypiserver(folder: Path) -> Iterator[Repository]:
    packages = folder / "packages"
    packages.mkdir(parents=True)
    port = free_port()
    command = [sys.executable, "-m", "pypiserver", "run", "-i", "127.0.0.1", "-p", str(port), "-a", ".", "-P", "."]
    url = f"http://127.0.0.1:{port}/"
    with process([*command, "--disable-fallback", str(packages)], url, folder / "log"):
        yield Repository(url, packages)


@contextmanager
def embedded(folder: Path) -> Iterator[Repository]:
    port = free_port()
    environ = {"AIRGAP_HOME": str(folder / "home"), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    url = f"http://127.0.0.1:{port}/"
    folder.mkdir(exist_ok=True)
    with process([sys.executable, "-m", "mirror", "serve", "--port", str(port), "-q"], url, folder / "log", environ):
        yield Repository(f"{url}repository/pypi-hosted/")


class Tree:
    """Files of projects that need one another. Every *number* has projects of its own, so that one server will do."""

    def __init__(self, number: int) -> None:
        shape: dict[str, list[str]] = {
            "app": ["lib", "tool"],
            "lib": ["base"],
            "tool": ["base", "ring-a"],
            "base": [],
            "ring-a": ["ring-b"],
            "ring-b": ["ring-a", "leaf"],
            "leaf": [],
            "lone": [],
            "late": ["app"],
        }
        self.needs = {f"{name}-{number}": [f"{need}-{number}" for need in needs] for name, needs in shape.items()}
        self.files: list[tuple[Built, Sequence[str]]] = [
            (make_wheel(project, requires=needs), needs) for project, needs in self.needs.items()
        ]
        self.files.append((make_sdist(f"base-{number}", "0.9"), []))
        self.projects = {built.filename: _project(built.filename, self.needs) for built, _ in self.files}
        self.digests: dict[str, dict[str, str]] = {project: {} for project in self.needs}
        self._whole: set[str] = set()
        for built, _ in self.files:
            self.digests[self.projects[built.filename]][built.filename] = built.sha256

    def holes(self, filename: str, repository: Repository) -> list[str]:
        """What lacks if *filename* becomes visible now: files that its project needs.

        None are ever taken away, so a project of which all were shown is not asked for again.
        """
        project = self.projects[filename]
        found: list[str] = []
        for need in self.needs[project]:
            if need in self._whole or project in self.needs[need]:  # no order is better within a circle
                continue
            missing = self.digests[need].keys() - repository.shown(need).keys()
            found += [f"{filename} without {file}" for file in missing]
            if not missing:
                self._whole.add(need)
        return found


def _project(filename: str, projects: Mapping[str, Sequence[str]]) -> str:
    stem = filename.rpartition("-1.0-")[0] or filename.rpartition("-0.9")[0]
    return next(project for project in projects if project == stem.replace("_", "-"))


class FaultProxy(ThreadingHTTPServer):
    """Forwards to *repository*. *choose* gets the faults that are possible and says which one it is to be, if any.

    ``posted`` counts the uploads that arrived, ``holes`` has what was made visible too early.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, repository: Repository, tree: Tree, choose: Callable[[Sequence[str]], str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repository = repository
        self.target = urlsplit(repository.url).netloc
        self.tree = tree
        self.choose = choose
        self.posted: Counter[str] = Counter()
        self.holes: list[str] = []

    @property
    def url(self) -> str:
        return self.repository.url.replace(self.target, f"127.0.0.1:{self.server_address[1]}")

    def handle_error(self, request: object, client_address: object) -> None:
        """Whoever was killed reads no answer."""


class Schedule:
    """Half of the first requests meet a fault, always the same ones for the same *seed* and order of requests."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._left = BROKEN_REQUESTS
        self._lock = threading.Lock()

    def __call__(self, faults: Sequence[str]) -> str:
        with self._lock:
            self._left -= 1
            broken = self._left >= 0 and self._random.random() < 0.5
            return self._random.choice(faults) if broken else ""


@contextmanager
def proxied(repository: Repository, tree: Tree, choose: Callable[[Sequence[str]], str]) -> Iterator[FaultProxy]:
    with FaultProxy(repository, tree, choose) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: FaultProxy

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        self._meet(self.server.choose(PAGE_FAULTS))

    def do_POST(self) -> None:
        self._meet(self.server.choose(UPLOAD_FAULTS))

    def _meet(self, fault: str) -> None:
        if fault == "cut before":
            self.close_connection = True
            return
        length = int(self.headers.get("content-length", "0"))
        body = self.rfile.read(length // 2 if fault == "cut during" else length)
        if self.command == "POST" and (found := re.search(rb'filename="([^"]+)"', body)):
            name = found[1].decode()
            self.server.posted[name] += 1
            self.server.holes += self.server.tree.holes(name, self.server.repository)
        if fault == "cut during" or len(body) < length:
            self.close_connection = True
        elif fault == "half sent":
            self._forward_half(body)
            self.close_connection = True
        elif fault == "login page":
            self._answer(200, b"<!DOCTYPE html><title>Who are you?</title>", {"content-type": "text/html"})
        elif fault.isdecimal():
            self._answer(int(fault), b"" if fault.startswith("2") else b"no")
        else:
            if fault == "slow":
                time.sleep(0.02)
            if fault == "twice":
                self._forward(body)
            self._hand_on(fault, *self._forward(body))

    def _hand_on(self, fault: str, status: int, headers: Mapping[str, str], answer: bytes) -> None:
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
        connection = http.client.HTTPConnection(self.server.target, timeout=30)
        try:
            connection.request(self.command, self.path, body, self._headers())
            answer = connection.getresponse()
            kept = {name: value for name in ("content-type", "location") if (value := answer.headers.get(name))}
            return answer.status, kept, answer.read()
        finally:
            connection.close()

    def _forward_half(self, body: bytes) -> None:
        """The repository gets the beginning of the body, and then nobody is there any more."""
        lines = [
            f"{self.command} {self.path} HTTP/1.1",
            *(f"{name}: {value}" for name, value in self._headers().items()),
        ]
        host, port = self.server.target.split(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall("\r\n".join([*lines, "", ""]).encode() + body[: len(body) * 2 // 3])
            connection.shutdown(socket.SHUT_WR)
            with suppress(OSError):
                connection.recv(65536)

    def _headers(self) -> dict[str, str]:
        return {**dict(self.headers.items()), "Connection": "close"}

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str] = {}) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status in (429, 503):
            self.send_header("retry-after", "0")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
