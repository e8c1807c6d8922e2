"""What push's tests share: a source of real files, and a repository over real HTTP that can be told to misbehave."""

from __future__ import annotations

import email.parser
import email.policy
import hashlib
import os
import shutil
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

from mirror.filenames import split_filename
from mirror.metadata.sdist import sdist_metadata
from mirror.metadata.wheel import wheel_metadata
from mirror.models import Hashes, Reporter, silent
from mirror.push.publisher import Upload
from tests.wheelhouse import Built


@dataclass(frozen=True)
class SourceEntry:
    filename: str
    project: str
    version: str
    size: int
    sha256: str
    requires: tuple[str, ...] = ()
    carrier: str | None = None


@dataclass(frozen=True)
class SourceContent:
    files: tuple[SourceEntry, ...]
    identity: str = "b" * 64
    since: Mapping[str, str] = field(default_factory=dict)


class FolderSource:
    """Files of a folder as push wants them. ``spooled`` counts what was asked for; ``on_spool`` may interfere."""

    def __init__(self, folder: Path, built: Sequence[tuple[Built, Sequence[str]]]) -> None:
        self.folder = folder
        self.spooled: list[str] = []
        self.on_spool: Callable[[str, Path], object] = lambda *_: None
        self.on_check: Callable[[], object] = lambda: None
        entries = []
        for file, requires in built:
            file.save(folder)
            parts = split_filename(file.filename)
            assert parts is not None
            entries.append(
                SourceEntry(file.filename, parts.project, parts.version, len(file.data), file.sha256, tuple(requires))
            )
        self.manifest = SourceContent(tuple(entries))

    def check(self, stop: threading.Event, report: Reporter = silent) -> None:
        self.on_check()

    def spool(self, project: str, folder: Path) -> list[Path]:
        self.spooled.append(project)
        self.on_spool(project, folder)
        return [
            Path(shutil.copy(self.folder / entry.filename, folder))
            for entry in self.manifest.files
            if entry.project == project
        ]


@contextmanager
def process(command: list[str], url: str, log: Path, environ: Mapping[str, str] = {}) -> Iterator[None]:
    """Run a server until the block ends; begin when it answers at *url*. *environ* is added to the environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")} | dict(environ)
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output, env=environment) as running:
        try:
            deadline = time.monotonic() + 150  # where many other things run, too
            while True:
                try:
                    urllib.request.urlopen(url, timeout=5).close()
                    break
                except OSError:
                    assert running.poll() is None, log.read_text()
                    assert time.monotonic() < deadline, log.read_text()
                    time.sleep(0.05)
            yield
        finally:
            running.terminate()


def read_metadata(path: Path) -> bytes:
    with path.open("rb") as stream:
        return (wheel_metadata if path.name.endswith(".whl") else sdist_metadata)(stream, path.name)


def make_upload(built: Built, folder: Path) -> Upload:
    parts = split_filename(built.filename)
    assert parts is not None
    hashes = Hashes(
        (
            ("blake2_256", hashlib.blake2b(built.data, digest_size=32).hexdigest()),
            ("md5", hashlib.md5(built.data, usedforsecurity=False).hexdigest()),
            ("sha256", built.sha256),
        )
    )
    path = built.save(folder)
    return Upload(built.filename, parts.project, parts.version, len(built.data), hashes, path, built.metadata)


@dataclass
class Received:
    """One upload request that arrived completely: fields in their order, and the file."""

    fields: list[tuple[str, str]]
    filename: str
    content: bytes

    def __getitem__(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key == name]


@dataclass
class Fault:
    """What the server does with one upload: store it or not, then answer (or, with status 0, cut the connection).

    Of what it stores it keeps ``keeps`` bytes, all where that is None.
    """

    status: int
    stores: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    keeps: int | None = None


class FakeRepository(ThreadingHTTPServer):
    """An in-memory repository: uploads to ``/upload/``, index at ``/upload/simple/``. Refuses what is there already."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.received: list[Received] = []
        self.requests: list[str] = []
        self.connections = 0
        self.faults: dict[str, list[Fault]] = {}
        self.fault_for_all: Fault | None = None
        self.page_faults: list[int] = []
        self.shows = "sha256"
        self.hidden_until: dict[str, int] = {}
        self.elsewhere = ""
        #: Where all of the index is instead, as with Pulp, which has it on a host of its own.
        self.moved = ""
        self.software = "test"
        self.root: Sequence[str] | None = None
        #: Whether the root page names what is there, and what :attr:`root` has besides.
        self.names_all = False
        #: Whether the folder of all files shows one in its list; None where it has none.
        self.lists: Callable[[str], bool] | None = None
        self.serves: bytes | None = None
        self.on_store: Callable[[], object] = lambda: None
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/upload/"

    @property
    def uploaded(self) -> list[str]:
        """File names in the order in which their uploads arrived."""
        return [upload.filename for upload in self.received]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeRepository

    def setup(self) -> None:
        super().setup()
        with self.server.lock:
            self.server.connections += 1

    def version_string(self) -> str:
        return self.server.software

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        server = self.server
        server.requests.append(f"GET {self.path}")
        if server.moved and "/simple/" in self.path:
            self.answer(302, headers={"location": f"{server.moved}{self.path.partition('/simple/')[2]}"})
            return
        if self.path.endswith("/simple/"):
            if server.root is None:
                self.answer(404)
                return
            names = [_project(name) for name in server.files if server.names_all and not self._hidden(name)]
            links = "".join(f'<a href="{name}/">{name}</a>' for name in [*server.root, *names])
            self.answer(200, f"<!DOCTYPE html><html><body>{links}</body></html>".encode(), _HTML)
            return
        if "/simple/" in self.path:
            if server.page_faults:
                self.answer(server.page_faults.pop(0))
                return
            project = self.path.rstrip("/").rsplit("/", 1)[1]
            names = sorted(name for name in server.files if _project(name) == project)
            names = [name for name in names if not self._hidden(name)]
            if not names and server.elsewhere:
                self.answer(302, headers={"location": f"{server.elsewhere}{project}/"})
            elif not names:
                self.answer(404)
            else:
                self._show(names)
            return
        if self.path == "/files/" and server.lists is not None:
            self._show(sorted(filter(server.lists, server.files)))
            return
        name = self.path.rsplit("/", 1)[1]
        if name in server.files:
            body = server.files[name] if server.serves is None else server.serves
            self.answer(200, body, {"content-type": "application/octet-stream"})
        else:
            self.answer(404)

    def _show(self, names: Sequence[str]) -> None:
        links = "".join(f'<a href="/files/{quote(name)}{self._fragment(name)}">{name}</a>' for name in names)
        self.answer(200, f"<!DOCTYPE html><html><body>{links}</body></html>".encode(), _HTML)

    def do_POST(self) -> None:
        server = self.server
        length = int(self.headers["content-length"])
        body = self.rfile.read(length)
        if len(body) < length:  # whoever sent it was killed: no server takes a part for the whole
            self.close_connection = True
            return
        upload = parse_upload(self.headers["content-type"], body)
        with server.lock:
            server.received.append(upload)
            server.requests.append(f"POST {upload.filename}")
            pending = server.faults.get(upload.filename)
            fault = pending.pop(0) if pending else server.fault_for_all
            if fault is None:
                fault = Fault(400, body=b"cannot be updated") if upload.filename in server.files else Fault(200, True)
            if fault.stores:
                server.files[upload.filename] = upload.content[: fault.keeps]
                server.on_store()
        if fault.status == 0:
            self.close_connection = True
            return
        self.answer(fault.status, fault.body, fault.headers)

    def _hidden(self, name: str) -> bool:
        with self.server.lock:
            left = self.server.hidden_until.get(name, 0)
            self.server.hidden_until[name] = left - 1
            return left > 0

    def _fragment(self, name: str) -> str:
        shows = self.server.shows
        return f"#{shows}={hashlib.new(shows, self.server.files[name]).hexdigest()}" if shows else ""


_HTML = {"content-type": "text/html"}


def _project(filename: str) -> str:
    parts = split_filename(filename)
    return parts.project if parts else ""


def parse_upload(content_type: str, body: bytes) -> Received:
    """Read a form with the standard library's parser, independently of the code under test."""
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(
        f"Content-Type: {content_type}\r\n\r\n".encode() + body
    )
    fields: list[tuple[str, str]] = []
    filename, content = "", b""
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        data = part.get_payload(decode=True)
        assert isinstance(name, str)
        assert isinstance(data, bytes)
        if name == "content":
            filename, content = part.get_filename() or "", data
        else:
            fields.append((name, data.decode()))
    return Received(fields, filename, content)


@contextmanager
def fake_repository() -> Iterator[FakeRepository]:
    server = FakeRepository()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
