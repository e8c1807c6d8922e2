"""Measure uploads: airgap beside twine and uv, the same files into the same empty repositories."""

from __future__ import annotations

import base64
import random
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from measure import Results, run
from serve import SERVERS as REAL
from servers import delayed, sink
from tools import AIRGAP, TWINE, UV, clean

#: How many wheels the made set has, and how many bytes each at most; every project needs an earlier one.
MANY, LARGEST = 2000, 40_000
BRANCHES = 8
#: What sends the same files and asks nothing: no tool that anybody has, but a floor.
POSTS = Path(__file__).parent / "posts.py"


@dataclass(frozen=True)
class Target:
    """Where to upload, and as whom."""

    url: str
    user: str = "any"
    password: str = "any"


@contextmanager
def _sink(_: Path, latency: float) -> Iterator[Target]:
    with sink(latency) as port:
        yield Target(f"http://127.0.0.1:{port}/")


def _real(name: str) -> Callable[[Path, float], AbstractContextManager[Target]]:
    @contextmanager
    def start(folder: Path, latency: float) -> Iterator[Target]:
        folder.mkdir(parents=True)
        with REAL[name](folder) as server:
            parts = urlsplit(server.upload)
            assert parts.port is not None
            with delayed(parts.port, latency) as port:
                url = f"http://127.0.0.1:{port}{parts.path}"
                login = [header.partition("=")[2] for header in server.headers]
                user, _, password = base64.b64decode(login[0]).decode().partition(":") if login else ("any", "", "any")
                yield Target(url, user, password)

    return start


SERVERS = {"sink": _sink, **{name: _real(name) for name in REAL}}


def peers(servers: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Which ratios are shown."""
    found: dict[str, tuple[str, ...]] = {}
    for server in servers:
        found[f"uv publish, {server}"] = (f"twine, {server}",)
        found[f"8 threads, {server}"] = (f"twine, {server}",)
        found[f"push, {server}"] = (f"twine, {server}",)
        found[f"push again, {server}"] = (f"push, {server}",)
    return found


def push_round(bundle: Path, servers: Sequence[str], latency: float, folder: Path, results: Results) -> None:
    """Upload the files of *bundle* with each tool into each of *servers*, which is empty each time."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    subprocess.run([AIRGAP, "unpack", bundle, folder / "unpacked", "--quiet"], env=clean(folder), check=True)
    files = sorted((folder / "unpacked" / "packages").glob("*.whl"))
    for name in servers:
        for tool in ("twine", "uv publish", "8 threads", "push"):
            home = folder / "home"
            with SERVERS[name](folder / "server", latency) as target:
                environ = clean(
                    home,
                    AIRGAP_HOME=str(home),
                    AIRGAP_CACHE=str(home / "cache"),
                    TWINE_USERNAME=target.user,
                    TWINE_PASSWORD=target.password,
                    UV_PUBLISH_USERNAME=target.user,
                    UV_PUBLISH_PASSWORD=target.password,
                )
                push: list[str | Path] = [AIRGAP, "push", bundle, "--repo", target.url, "--quiet"]
                if tool == "push":
                    results.add(f"push, {name}", run(push, environ))
                    results.add(f"push again, {name}", run(push, environ))
                else:
                    results.add(f"{tool}, {name}", run(_command(tool, target.url, files), environ))
                    _tell_missing(tool, name, push, environ)
            shutil.rmtree(folder / "server", ignore_errors=True)
    shutil.rmtree(folder)


def _command(tool: str, url: str, files: Sequence[Path]) -> list[str | Path]:
    if tool == "8 threads":
        return [sys.executable, POSTS, url, *files]
    if tool == "twine":
        return [TWINE, "upload", "--non-interactive", "--disable-progress-bar", "--repository-url", url, *files]
    return [UV, "publish", "--quiet", "--trusted-publishing", "never", "--publish-url", url, *files]


def _tell_missing(tool: str, name: str, push: Sequence[str | Path], environ: dict[str, str]) -> None:
    """Say so where *tool* ended well and left files out: its time is then not that of the whole job."""
    planned = subprocess.run([*push, "--dry-run", "--json"], env=environ, capture_output=True, text=True, check=False)
    left = planned.stdout.partition('"count": ')[2].partition(",")[0]
    if left not in ("0", ""):
        print(f"  {tool} left out {left} of the files ({name})", file=sys.stderr, flush=True)


def make_many(folder: Path) -> list[str]:
    """Write MANY small wheels into *folder*, the same ones each time; returns their requirements."""
    folder.mkdir(parents=True)
    noise = random.Random(0)
    for number in range(MANY):
        name, size = f"many_{number:04}", noise.randrange(1000, LARGEST)
        needs = f"Requires-Dist: many-{number // BRANCHES:04}\n" if number >= BRANCHES else ""
        info = f"{name}-1.0.dist-info"
        with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as archive:
            for path, data in (
                (f"{name}.bin", noise.randbytes(size)),
                (f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{needs}".encode()),
                (f"{info}/WHEEL", b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"),
                (f"{info}/RECORD", f"{name}.bin,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n".encode()),
            ):
                archive.writestr(zipfile.ZipInfo(path), data)
    return [f"many-{number:04}==1.0" for number in range(MANY)]
