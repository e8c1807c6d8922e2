"""The conformance suite against real repositories, and what is special about each of them."""

from __future__ import annotations

import base64
import itertools
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from mirror import serve
from mirror.net import Client
from mirror.push.legacy import LegacyPublisher, index_url_for
from mirror.push.publisher import Publisher
from tests.publisher_conformance import PublisherConformance


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def process(command: list[str], url: str, log: Path) -> Iterator[None]:
    """Run a server until the block ends; begin when it answers at *url*."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output, env=environment) as running:
        try:
            deadline = time.monotonic() + 60
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


@pytest.fixture
def client() -> Iterator[Client]:
    with Client() as found:
        yield found


class TestEmbedded(PublisherConformance):
    @pytest.fixture
    def publisher(self, tmp_path: Path) -> Iterator[Publisher]:
        with serve.embedded_publisher(tmp_path / "home") as found:
            yield found


class TestEmbeddedOverHTTP(PublisherConformance):
    @pytest.fixture
    def publisher(self, tmp_path: Path, client: Client) -> Iterator[Publisher]:
        with serve.running(tmp_path / "home") as server:
            yield LegacyPublisher(client, server.repository_url("pypi-hosted"))


class TestPypiserver(PublisherConformance):
    """With its fallback to PyPI switched on, as it is by default: nothing may be asked there."""

    @pytest.fixture(params=["sha256", "md5", "off"])
    def publisher(self, tmp_path: Path, client: Client, request: pytest.FixtureRequest) -> Iterator[Publisher]:
        port = free_port()
        packages = tmp_path / "packages"
        packages.mkdir()
        command = [sys.executable, "-m", "pypiserver", "run", "-i", "127.0.0.1", "-p", str(port), "-a", ".", "-P", "."]
        command += ["--hash-algo", request.param, "--fallback-url", "http://pypi.invalid/simple/", str(packages)]
        url = f"http://127.0.0.1:{port}/"
        with process(command, url, tmp_path / "log"):
            yield LegacyPublisher(client, url)


@pytest.fixture(scope="module")
def devpi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("devpi")
    port = free_port()
    options = ["--serverdir", str(folder / "server")]
    subprocess.run(
        [
            sys.executable,
            "-c",
            "from devpi_server.init import init; init()",
            *options,
            "--no-root-pypi",
            "--root-passwd",
            "secret",
        ],
        check=True,
        capture_output=True,
    )
    command = [sys.executable, "-m", "devpi_server", *options, "--host", "127.0.0.1", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with process(command, f"{url}/+api", folder / "log"):
        yield url


class TestDevpi(PublisherConformance):
    numbers = itertools.count()

    @pytest.fixture
    def publisher(self, devpi: str, client: Client) -> Publisher:
        index = f"root/index{next(self.numbers)}"
        login = urllib.request.Request(
            f"{devpi}/+login", data=json.dumps({"user": "root", "password": "secret"}).encode(), method="POST"
        )
        with urllib.request.urlopen(login) as answer:
            password = json.load(answer)["result"]["password"]
        create = urllib.request.Request(
            f"{devpi}/{index}",
            data=json.dumps({"type": "stage", "volatile": False, "bases": [], "acl_upload": ["root"]}).encode(),
            method="PUT",
        )
        create.add_header("x-devpi-auth", _basic("root", password))
        urllib.request.urlopen(create).close()
        return LegacyPublisher(client, f"{devpi}/{index}/".replace("://", f"://root:{quote(password, safe='')}@"))


def _basic(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("upload", "index"),
    [
        ("https://nexus/repository/pypi-hosted/", "https://nexus/repository/pypi-hosted/simple/"),
        ("https://nexus/repository/pypi-hosted", "https://nexus/repository/pypi-hosted/simple/"),
        ("https://u:p@nexus/repository/a/", "https://u:p@nexus/repository/a/simple/"),
        ("http://localhost:8080/", "http://localhost:8080/simple/"),
        ("http://localhost:8080", "http://localhost:8080/simple/"),
        ("https://pulp/pypi/foo/legacy/", "https://pulp/pypi/foo/simple/"),
        ("https://pulp/pypi/foo/simple/", "https://pulp/pypi/foo/simple/"),
        ("https://devpi/root/dev/+simple/", "https://devpi/root/dev/+simple/"),
        ("https://git/api/packages/OWNER/pypi", "https://git/api/packages/OWNER/pypi/simple/"),
        ("https://upload.pypi.org/legacy/", "https://pypi.org/simple/"),
        ("https://test.pypi.org/legacy/", "https://test.pypi.org/simple/"),
    ],
)
def test_where_the_index_is(upload: str, index: str) -> None:
    assert index_url_for(upload) == index
