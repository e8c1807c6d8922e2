"""Measure the embedded server beside pypiserver and devpi-server: the same client, the same generated wheels."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import shutil
import sys
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from measure import MIB, Results, run
from servers import airgap_serve, devpi, pypiserver
from tools import clean

#: How many wheels of how many bytes: mostly small ones and a few large ones, as in a real closure.
SIZES = ((300, 40_000), (60, 1_000_000), (4, 30_000_000))
THREADS = 4
PEERS = {f"{job}, airgap": tuple(f"{job}, {peer}" for peer in ("pypiserver", "devpi")) for job in ("upload", "install")}


@dataclass(frozen=True)
class Server:
    """Where to upload, where to read, and which headers an upload needs."""

    upload: str
    index: str
    headers: list[str] = field(default_factory=list)


def prepare(folder: Path) -> None:
    """Write the wheels, the same ones each time."""
    done = folder / "done"
    if done.is_file() and done.read_text("utf-8") == repr(SIZES):
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    noise = random.Random(0)
    for count, size in SIZES:
        for number in range(count):
            name = f"bench_{size}_{number}"
            with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as archive:
                info = f"{name}-1.0.dist-info"
                files = {
                    f"{name}/data": noise.randbytes(size),
                    f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
                    f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
                }
                record = "".join(f"{path},{_digest(data)},{len(data)}\n" for path, data in files.items())
                for path, data in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n".encode()}.items():
                    archive.writestr(path, data)
    done.write_text(repr(SIZES), "utf-8")


def _digest(data: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")


def serve_round(wheels: Path, folder: Path, results: Results) -> None:
    """Upload all to each server, then install all from it; each starts empty."""
    client, environ = str(Path(__file__).with_name("load.py")), clean(folder)
    for name, server in SERVERS.items():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with server(folder) as found:
            for job in ("upload", "install"):
                command = [sys.executable, client, job, found.upload, found.index, str(wheels), str(THREADS)]
                results.add(f"{job}, {name}", run([*command, *found.headers], environ))
    shutil.rmtree(folder)


def describe(wheels: Path, runs: int) -> None:
    sizes = [path.stat().st_size for path in wheels.glob("*.whl")]
    print(f"{len(sizes)} wheels, {sum(sizes) / MIB:.0f} MiB, by {THREADS} connections; medians of {runs} run(s)")
    print(", ".join(f"{name} {version(name)}" for name in ("pypiserver", "devpi-server")))


@contextmanager
def _airgap(folder: Path) -> Iterator[Server]:
    with airgap_serve(folder / "home") as port:
        url = f"http://127.0.0.1:{port}/repository/pypi-hosted/"
        yield Server(url, f"{url}simple/")


@contextmanager
def _pypiserver(folder: Path) -> Iterator[Server]:
    with pypiserver(folder / "packages") as port:
        yield Server(f"http://127.0.0.1:{port}/", f"http://127.0.0.1:{port}/simple/")


@contextmanager
def _devpi(folder: Path) -> Iterator[Server]:
    with devpi(folder) as port:
        base = f"http://127.0.0.1:{port}"
        token = _ask("POST", f"{base}/+login", {"user": "root", "password": ""}, {})["result"]["password"]
        auth = base64.b64encode(f"root:{token}".encode()).decode()
        _ask("PUT", f"{base}/root/dev", {"bases": [], "type": "stage"}, {"X-Devpi-Auth": auth})
        yield Server(f"{base}/root/dev/", f"{base}/root/dev/+simple/", [f"X-Devpi-Auth={auth}"])


def _ask(method: str, url: str, body: object, headers: dict[str, str]) -> Any:
    sent = {"Content-Type": "application/json", "Accept": "application/json", **headers}
    request = urllib.request.Request(url, json.dumps(body).encode(), sent, method=method)
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


SERVERS = {"airgap": _airgap, "pypiserver": _pypiserver, "devpi": _devpi}
