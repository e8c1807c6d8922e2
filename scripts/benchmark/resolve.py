"""Resolving alone, on pages as long as they really are: airgap beside uv and pip, for one machine and for twenty."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from itertools import product
from pathlib import Path

from measure import MIB, Results, Sample, run
from packaging.utils import canonicalize_name
from tools import AIRGAP, PIP, UV, Machine, clean, cpython, say

REQUIREMENTS = Path("lockfiles/examples/bench.in")
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
PLATFORMS = ("linux_x86_64", "linux_aarch64", "win_amd64", "macosx_14_0_arm64")
MATRIX = tuple(cpython(python, platform) for python, platform in product(PYTHONS, PLATFORMS))
KINDS = ("html", "json")

#: What each command took, and the versions chosen for one of the machines.
Chosen = tuple[list[Sample], dict[str, str]]


@dataclass(frozen=True)
class Pages:
    """The prepared index, and the requirements for one machine (``one.in``) and for all of them (``all.in``)."""

    folder: Path

    @property
    def root(self) -> Path:
        return self.folder / "mirror"

    def requirements(self, machines: Sequence[Machine]) -> Path:
        return self.folder / ("one.in" if len(machines) == 1 else "all.in")


def prepare(pages: Pages) -> None:
    """Run every job once on an index that fetches what is asked for and keeps it."""
    lines = REQUIREMENTS.read_text("utf-8")
    digest = hashlib.sha256("\n".join([lines, repr(MATRIX), platform.python_version()]).encode()).hexdigest()
    stamp = pages.folder / "prepared"
    if stamp.is_file() and stamp.read_text("utf-8") == digest:
        return
    say(f"Fetching project pages and metadata for {REQUIREMENTS.name} from the configured index, once")
    stamp.unlink(missing_ok=True)
    pages.root.mkdir(parents=True, exist_ok=True)
    pages.requirements((Machine(),)).write_text(lines, "utf-8")
    # pip judges markers for the machine that it runs on, and would want uvloop on Windows, where there is none.
    pages.requirements(MATRIX).write_text(lines.replace("uvicorn[standard]", "uvicorn"), "utf-8")
    with recorder(pages.root) as port:
        resolve_round(pages, f"http://127.0.0.1:{port}/", pages.folder / "run", Results())
    stamp.write_text(digest, "utf-8")


@contextmanager
def recorder(folder: Path) -> Iterator[int]:
    program = Path(__file__).with_name("recorder.py")
    process = subprocess.Popen([sys.executable, program, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait()


def resolve_round(pages: Pages, base: str, folder: Path, results: Results) -> dict[str, dict[str, str]]:
    """Run every job once, each with empty caches; return what each chose for one machine, by job.

    Only the first round has pip choose for all machines: that takes minutes, and is a sum of many runs as it is.
    """
    chosen: dict[str, dict[str, str]] = {}
    for kind, machines in (("html", (Machine(),)), ("json", (Machine(),)), ("json", MATRIX)):
        index = f"{base}{kind}/simple/"
        name = kind.upper() if len(machines) == 1 else f"{len(machines)} targets"
        for tool in (airgap, uv, pip):
            job = f"{tool.__name__}, {name}"
            if tool is pip and machines is MATRIX and job in results.samples:
                continue
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            parts, pins = tool(pages.requirements(machines), machines, index, folder)
            results.add(job, *parts)
            chosen[job] = pins
    shutil.rmtree(folder)
    return chosen


def airgap(requirements: Path, machines: Sequence[Machine], index: str, folder: Path) -> Chosen:
    """One run for all machines."""
    targets = [word for machine in machines for word in machine.airgap]
    command: list[str | Path] = [AIRGAP, "pack", requirements, "--dry-run", "--only-binary", ":all:"]
    command += [*targets, "--index-url", index, "--quiet", "--json"]
    listing = folder / "listing.json"
    environ = clean(folder, AIRGAP_CACHE=str(folder / "cache"))
    samples = [run(command, environ, stdout=listing)]
    return samples, next(iter(json.loads(listing.read_text("utf-8"))["targets"].values()))["pins"]


def uv(requirements: Path, machines: Sequence[Machine], index: str, folder: Path) -> Chosen:
    """One run for each machine, the later ones with the cache that the first one filled."""
    command: list[str | Path] = [UV, "pip", "compile", "--only-binary", ":all:", "--python", sys.executable]
    command += ["--no-python-downloads", "--no-header", "--no-annotate", "--quiet", "--default-index", index]
    environ = clean(folder, UV_CACHE_DIR=str(folder / "cache"))
    listing = folder / "listing.txt"
    samples = [run([*command, *machine.uv, requirements], environ, stdout=listing) for machine in machines]
    lines = listing.read_text("utf-8").splitlines()
    return samples, dict(line.split(" ")[0].split("==", 1) for line in lines)


def pip(requirements: Path, machines: Sequence[Machine], index: str, folder: Path) -> Chosen:
    """One run for each machine."""
    listing = folder / "listing.json"
    command = [*PIP, "install", "--dry-run", "--ignore-installed", "--no-cache-dir", "--only-binary", ":all:"]
    command += ["--quiet", "--index-url", index, "--report", str(listing), "-r", str(requirements)]
    samples = []
    for machine in machines:
        foreign = [*machine.pip, "--target", str(folder / "target")] if machine.pip else []
        samples.append(run([*command, *foreign], clean(folder)))
    metadata = [entry["metadata"] for entry in json.loads(listing.read_text("utf-8"))["install"]]
    return samples, {canonicalize_name(entry["name"]): entry["version"] for entry in metadata}


def describe(pages: Pages, runs: int, latency: float, chosen: dict[str, dict[str, str]]) -> None:
    """Say what is compared, and whether all chose the same."""
    lengths = [page.stat().st_size for page in pages.root.glob("html/simple/*/index.html")]
    size = f"{len(lengths)} projects' whole pages, {sum(lengths) / MIB:.0f} MiB of HTML"
    delay = f"{latency:g} ms added to every request by a proxy" if latency else "no delay added"
    tools = ", ".join(f"{name} {version(name)}" for name in ("pip", "uv"))
    print(f"resolving {REQUIREMENTS.name}, unpinned, wheels only; {size}; empty caches; nginx, {delay}")
    print("commands: airgap pack --dry-run; uv pip compile; pip install --dry-run --ignore-installed --no-cache-dir")
    print("HTML: without PEP 658; airgap and uv read the ends of wheels by ranges, pip downloads whole wheels")
    print("JSON: PEP 691, with PEP 658 metadata of the wheels that any of them asked for; no wheel is downloaded")
    print(
        f"{len(MATRIX)} targets: CPython {PYTHONS[0]} to {PYTHONS[-1]} x {', '.join(PLATFORMS)}, on JSON, without "
        "uvicorn's extra;\n  airgap in one run, uv and pip once for each (uv's cache is empty for the first only, pip "
        "judges markers for this machine)"
    )
    count = f"medians of {runs} run(s), pip on {len(MATRIX)} targets of 1"
    print(f"CPython {platform.python_version()}, {os.cpu_count()} CPUs, {tools}; {count}")
    for kind in KINDS:
        ours = chosen[f"airgap, {kind.upper()}"]
        for tool in ("uv", "pip"):
            theirs = chosen[f"{tool}, {kind.upper()}"]
            differ = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
            shown = f"differs from {tool} in {', '.join(differ)}" if differ else f"the same as {tool}"
            print(f"{kind.upper()}: airgap chose {len(ours)} versions, {shown}")


def peers() -> dict[str, tuple[str, ...]]:
    names = (*map(str.upper, KINDS), f"{len(MATRIX)} targets")
    return {f"airgap, {name}": (f"uv, {name}", f"pip, {name}") for name in names}
