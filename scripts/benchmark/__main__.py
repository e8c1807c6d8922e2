"""Measure airgap beside pip, twine and uv, in one run and interleaved, on a loopback mirror of an example set."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from measure import MIB, Medians, Results, medians, run, table
from push import SERVERS, make_many, push_round
from push import peers as push_peers
from resolve import Pages, describe, peers, resolve_round
from resolve import prepare as prepare_pages
from serve import PEERS as SERVE_PEERS
from serve import describe as describe_serving
from serve import prepare as prepare_wheels
from serve import serve_round
from servers import airgap_serve, delayed, find_nginx, nginx
from static_index import write_index
from tools import AIRGAP, PIP, Machine, clean, cpython, say

SETS = {"web": "web.txt", "science": "science.txt", "services": "services.in", "bench": "bench.in"}
MADE = "many"
PYTHONS = ("3.11", "3.12", "3.13")


@dataclass(frozen=True)
class Mirror:
    """What is measured with: the prepared files, the bundle of them, and where they are served."""

    requirements: Path
    machines: list[Machine]
    folder: Path

    @property
    def root(self) -> Path:
        return self.folder / "mirror"

    @property
    def bundle(self) -> Path:
        return self.folder / "prepared.tar.zst"


def main() -> None:
    options = parse()
    folder = options.folder.absolute()
    requirements = Path("lockfiles/examples", SETS.get(options.set, "")).absolute()
    work = folder / "run"
    shutil.rmtree(work, ignore_errors=True)
    program = find_nginx()
    if options.only == "resolve":
        resolving(options, folder / "resolve", program, work)
        return
    if options.only == "serve":
        serving(options, folder / "serve", work)
        return
    mirror = Mirror(requirements, machines(options.targets), folder / f"{options.set}-{options.targets}")
    if options.set == MADE:
        prepare_made(mirror)
    else:
        prepare(mirror)
    write_index(mirror.root, with_json=options.json_index)
    results = Results()
    bundle_size = 0
    with ExitStack() as stack:
        if options.only != "push":
            port, path = stack.enter_context(served(mirror, program, work / "server"))
            base = f"http://127.0.0.1:{stack.enter_context(delayed(port, options.latency))}{path}"
            for number in range(options.runs):
                say(f"pack, run {number + 1} of {options.runs}")
                bundle_size = pack_round(mirror, base, work / "pack", results)
    if options.only != "pack":
        for number in range(options.runs):
            say(f"push, run {number + 1} of {options.runs}")
            push_round(mirror.bundle, options.servers, options.latency, work / "push", results)
    report(options, mirror, program, bundle_size, {job: medians(samples) for job, samples in results.samples.items()})
    shutil.rmtree(work)


def serving(options: argparse.Namespace, wheels: Path, work: Path) -> None:
    prepare_wheels(wheels)
    results = Results()
    for number in range(options.runs):
        say(f"serve, run {number + 1} of {options.runs}")
        serve_round(wheels, work / "serve", results)
    describe_serving(wheels, options.runs)
    table({job: medians(samples) for job, samples in results.samples.items()}, SERVE_PEERS)
    shutil.rmtree(work)


def resolving(options: argparse.Namespace, folder: Path, program: str | None, work: Path) -> None:
    if program is None:
        sys.exit("bench: --only resolve needs nginx")
    pages = Pages(folder)
    prepare_pages(pages)
    results = Results()
    chosen: dict[str, dict[str, str]] = {}
    with nginx(program, pages.root, work / "server") as port, delayed(port, options.latency) as near:
        for number in range(options.runs):
            say(f"resolve, run {number + 1} of {options.runs}")
            chosen = resolve_round(pages, f"http://127.0.0.1:{near}/", work / "resolve", results)
    describe(pages, options.runs, options.latency, chosen)
    table({job: medians(samples) for job, samples in results.samples.items()}, peers())
    shutil.rmtree(work)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    add = parser.add_argument
    add(
        "--set",
        choices=(*SETS, MADE),
        default="web",
        help=f"requirements in lockfiles/examples (default: web); {MADE}: 2,000 small wheels made here, to push only",
    )
    add("--runs", type=int, default=3, metavar="N", help="runs of each job; medians are shown (default: 3)")
    add(
        "--targets",
        type=int,
        choices=(1, 3),
        default=1,
        help="1: the running Python; 3: CPython 3.11, 3.12, 3.13 on Linux",
    )
    add(
        "--latency",
        type=float,
        default=0.0,
        metavar="MS",
        help="hold every request back for so long (default: not at all)",
    )
    add("--json-index", action="store_true", help="PEP 691 pages and PEP 658 metadata besides HTML")
    add(
        "--only",
        choices=("pack", "push", "resolve", "serve"),
        help="one half; or, by itself, resolving bench.in beside uv and pip, for 1 and 20 targets (takes minutes), or "
        "uploads to and installs from airgap serve, pypiserver and devpi-server",
    )
    add(
        "--servers",
        type=lambda text: text.split(","),
        default=["sink", "pypiserver"],
        metavar="NAMES",
        help=f"what to push into, of {','.join(SERVERS)} (default: sink,pypiserver)",
    )
    add("--folder", type=Path, default=Path(".bench"), help="mirror and working files (default: .bench)")
    options = parser.parse_args()
    if options.targets > 1 and sys.platform != "linux":
        parser.error("--targets 3 compares with pip for Linux targets; it needs Linux")
    if options.only == "resolve" and (options.set, options.targets, options.json_index) != ("web", 1, False):
        parser.error("--only resolve has a set, targets and indexes of its own")
    if not set(options.servers) <= set(SERVERS):
        parser.error(f"--servers knows {', '.join(SERVERS)}")
    if options.set == MADE and options.only != "push":
        parser.error(f"--set {MADE} is for --only push")
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    return options


def machines(count: int) -> list[Machine]:
    if count == 1:
        return [Machine()]  # what both take for granted
    return [cpython(python, f"linux_{platform.machine()}") for python in PYTHONS]


def pack_command(mirror: Mirror, output: Path) -> list[str | Path]:
    targets = [word for machine in mirror.machines for word in machine.airgap]
    return [AIRGAP, "pack", mirror.requirements, *targets, "--only-binary", ":all:", "-o", output]


def pip_command(mirror: Mirror, machine: Machine, output: Path) -> list[str | Path]:
    quiet = ["--quiet", "--no-cache-dir", "--only-binary", ":all:"]
    return [*PIP, "download", *quiet, *machine.pip, "-r", mirror.requirements, "-d", output]


def prepare(mirror: Mirror) -> None:
    """Download the set once from the configured index: what airgap chooses, and what pip does where that differs."""
    wanted = "\n".join([mirror.requirements.read_text("utf-8"), repr(mirror.machines), platform.python_version()])
    digest = hashlib.sha256(wanted.encode()).hexdigest()
    stamp = mirror.folder / "prepared"
    if stamp.is_file() and stamp.read_text("utf-8") == digest:
        return
    say(f"Downloading {mirror.requirements.name} from the configured index, once")
    shutil.rmtree(mirror.folder, ignore_errors=True)
    mirror.folder.mkdir(parents=True)
    environ = {**os.environ, "AIRGAP_CACHE": str(mirror.folder / "cache")}
    subprocess.run(pack_command(mirror, mirror.bundle), env=environ, check=True)
    subprocess.run([AIRGAP, "unpack", mirror.bundle, mirror.root], env=environ, check=True)
    for machine in mirror.machines:
        command = [part for part in pip_command(mirror, machine, mirror.root / "packages") if part != "--isolated"]
        subprocess.run(command, check=True)
    shutil.rmtree(mirror.folder / "cache")
    stamp.write_text(digest, "utf-8")


def prepare_made(mirror: Mirror) -> None:
    """Make the wheels and the bundle of them, once."""
    if mirror.bundle.is_file():
        return
    shutil.rmtree(mirror.folder, ignore_errors=True)
    wheels, wanted = mirror.folder / "wheels", mirror.folder / "many.txt"
    wanted.write_text("\n".join(make_many(wheels)), "utf-8")
    command: list[str | Path] = [
        AIRGAP,
        "pack",
        wanted,
        "--no-index",
        "--find-links",
        wheels,
        "--quiet",
        "-o",
        mirror.bundle,
    ]
    environ = {**os.environ, "AIRGAP_CACHE": str(mirror.folder / "cache")}
    subprocess.run(command, env=environ, check=True)
    subprocess.run([AIRGAP, "unpack", mirror.bundle, mirror.root], env=environ, check=True)
    shutil.rmtree(mirror.folder / "cache")


@contextmanager
def served(mirror: Mirror, program: str | None, folder: Path) -> Iterator[tuple[int, str]]:
    """Serve the mirror; yield the port and the path above ``simple/``."""
    if program:
        with nginx(program, mirror.root, folder) as port:
            yield port, "/"
        return
    home = folder / "home"
    environ = clean(folder, AIRGAP_HOME=str(home))
    subprocess.run([AIRGAP, "push", mirror.bundle, "--repo", "pypi-hosted"], env=environ, check=True)
    with airgap_serve(home) as port:
        yield port, "/repository/pypi-hosted/"


def pack_round(mirror: Mirror, base: str, folder: Path, results: Results) -> int:
    """Run every job of the connected side once, each from nothing but what its name says; return the bundle's size."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    environ = clean(folder, AIRGAP_CACHE=str(folder / "cache"))
    bundle, listing = folder / "bundle.tar.zst", folder / "listing.json"
    pack = [*pack_command(mirror, bundle), "--index-url", f"{base}simple/", "--quiet", "--json"]

    results.add("pack, cold", run(pack, environ, stdout=listing))
    results.add("pack again", run(pack, environ))
    size = bundle.stat().st_size

    parts = []
    for number, machine in enumerate(mirror.machines):
        command = [*pip_command(mirror, machine, folder / f"pip-{number}"), "--index-url", f"{base}simple/"]
        parts.append(run(command, environ))
    results.add("pip download", *parts)

    files = sorted(json.loads(listing.read_text("utf-8"))["files"], key=lambda file: -file["size"])
    below = "packages/{filename}" if base.count("/") == 3 else "packages/{project}/{version}/{filename}"
    urls = [f"{file['sha256']} {base}{below.format(**file)}" for file in files]
    (folder / "urls").write_text("\n".join(urls), "utf-8")
    program = Path(__file__).with_name("floor.py")
    results.add("floor", run([sys.executable, program, folder / "urls", folder / "floor"], environ))
    shutil.rmtree(folder)
    return size


def report(
    options: argparse.Namespace, mirror: Mirror, program: str | None, bundle_size: int, found: dict[str, Medians]
) -> None:
    wheels = [path.stat().st_size for path in (mirror.root / "packages").glob("*.whl")]
    index = "HTML and JSON with PEP 658" if options.json_index or not program else "HTML only"
    delay = f"{options.latency:g} ms added to every request by a proxy" if options.latency else "no delay added"
    size = f"{len(wheels)} wheels, {sum(wheels) / MIB:.0f} MiB"
    print(f"set {options.set}, {options.targets} target(s), {size} on the mirror")
    print(
        f"mirror: {'nginx' if program else 'airgap serve'}, {index}; uploads into {', '.join(options.servers)}; {delay}"
    )
    tools = ", ".join(f"{name} {version(name)}" for name in ("pip", "twine", "uv", "pypiserver", "devpi-server"))
    print(f"CPython {platform.python_version()}, {os.cpu_count()} CPUs, {tools}; medians of {options.runs} run(s)")
    if bundle_size:
        print(f"bundle: {bundle_size / MIB:.1f} MiB")
    peers: dict[str, tuple[str, ...]] = {
        "pack, cold": ("pip download",),
        "pack again": ("pack, cold",),
        "floor": ("pip download",),
    }
    peers |= push_peers(options.servers)
    table(found, peers)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"bench: {Path(error.cmd[0]).name} failed with exit code {error.returncode}")
    except KeyboardInterrupt:
        sys.exit(130)
