"""Many clients at once, and a server that is killed in the middle: no error, no torn page, nothing lost.

``AIRGAP_LOAD_SECONDS=60`` makes it the minute that is worth a look; the suite takes a few seconds.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import random
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from mirror.index.simple import JSON_TYPE
from tests import plain
from tests.ports import free_port
from tests.waiting import wait_for
from tests.wheelhouse import make_wheel

SECONDS = float(os.environ.get("AIRGAP_LOAD_SECONDS", "2"))
INSTALLERS, UPLOADERS = 32, 8


class Load:
    """What the clients share: which uploads were confirmed, what went wrong, and whether the server is down."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.stop = threading.Event()
        self.up = threading.Event()
        self.outages = 0
        self.confirmed: dict[str, str] = {}
        self.fetched = 0
        self.wrong: list[str] = []

    def run(self, client: httpx.Client, round_: Callable[[httpx.Client], None]) -> None:
        """Repeat *round_* until the end. Only a round that an outage fell into may fail."""
        while not self.stop.is_set():
            self.up.wait(30)
            before = self.outages
            if self.stop.is_set() or not self.up.is_set():
                continue
            try:
                round_(client)
            except (httpx.HTTPError, AssertionError) as error:
                if self.outages == before:
                    self.wrong.append(repr(error))

    def install(self, client: httpx.Client) -> None:
        """Read a page and fetch what it lists, as an installer does; every byte must be the promised one."""
        page = client.get(f"simple/by-{random.randrange(UPLOADERS)}/", headers={"accept": JSON_TYPE})
        assert page.status_code in (200, 404), page.text
        files = page.json()["files"] if page.status_code == 200 else []
        for file in random.sample(files, min(3, len(files))):
            answer = client.get(str(page.url.join(file["url"])))
            assert answer.status_code == 200, f"{file['filename']} is listed: {answer.text}"
            assert hashlib.sha256(answer.content).hexdigest() == file["hashes"]["sha256"], file["filename"]
            metadata = client.get(str(page.url.join(file["url"])) + ".metadata")
            assert hashlib.sha256(metadata.content).hexdigest() == file["core-metadata"]["sha256"], file["filename"]
            self.fetched += 1

    def uploader(self, name: str) -> Callable[[httpx.Client], None]:
        versions = itertools.count(1)

        def upload(client: httpx.Client) -> None:
            built = make_wheel(name, f"1.{next(versions)}", files={f"{name}/data": os.urandom(2000)})
            form = {":action": "file_upload", "name": name, "version": built.filename.split("-")[1]}
            answer = client.post("", data=form, files={"content": (built.filename, built.data)})
            assert answer.status_code == 200, answer.text
            self.confirmed[built.filename] = built.sha256

        return upload


@contextmanager
def served(home: Path, port: int, load: Load) -> Iterator[subprocess.Popen[bytes]]:
    """A server process that answers; whatever ends the block kills it without a word."""
    command = [sys.executable, "-m", "mirror", "serve", "--quiet", "--port", str(port)]
    with subprocess.Popen(command, env={**os.environ, "AIRGAP_HOME": str(home)}) as process:
        try:
            while process.poll() is None:
                with suppress(httpx.HTTPError):
                    if plain.get(f"{load.url}/service/rest/v1/status").status_code == 200:
                        break
                time.sleep(0.05)
            load.up.set()
            yield process
        finally:
            load.up.clear()
            load.outages += 1
            process.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_many_clients_and_a_server_that_is_killed(tmp_path: Path) -> None:
    home, port = tmp_path / "home", free_port()
    load = Load(f"http://127.0.0.1:{port}")
    rounds = [load.install] * INSTALLERS + [load.uploader(f"by-{number}") for number in range(UPLOADERS)]
    trust = ssl.create_default_context()  # reading it for each client would take longer than the test
    base = f"{load.url}/repository/pypi-hosted/"
    clients = [httpx.Client(base_url=base, timeout=60, verify=trust) for _ in rounds]
    pairs = zip(clients, rounds, strict=True)
    threads = [threading.Thread(target=load.run, args=pair, daemon=True) for pair in pairs]
    try:
        for thread in threads:
            thread.start()
        for _ in range(2):
            with served(home, port, load):
                before = len(load.confirmed), load.fetched
                time.sleep(SECONDS / 2)
                wait_for(lambda had=before: len(load.confirmed) > had[0] and load.fetched > had[1])  # type: ignore[misc]
        load.stop.set()
        load.up.set()
        for thread in threads:
            thread.join(60)
    finally:
        for client in clients:
            client.close()
    logging.getLogger(__name__).info("%s uploads, %s files fetched", len(load.confirmed), load.fetched)
    assert load.wrong == []
    command = [sys.executable, "-m", "mirror", "repo", "check"]
    checked = subprocess.run(
        command, env={**os.environ, "AIRGAP_HOME": str(home)}, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    with served(home, port, load), plain.Client(base_url=f"{load.url}/repository/pypi-hosted/simple/") as client:
        there = {
            file["filename"]: file["hashes"]["sha256"]
            for number in range(UPLOADERS)
            for file in client.get(f"by-{number}/", headers={"accept": JSON_TYPE}).json()["files"]
        }
    assert load.confirmed.items() <= there.items()
