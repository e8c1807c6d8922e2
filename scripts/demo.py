"""The demo's steps. scripts/demo makes the environment that this runs in."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import threading
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

LOCK = Path("lockfiles/examples/web.txt")
TOP_LEVEL = Path("lockfiles/examples/web.in")
AIRGAP = Path(sysconfig.get_path("scripts"), "airgap")
SERVING = re.compile(r"Serving (http://\S+/)")
SECONDS_TO_START = 60

# Runs in the new environment: prove that every project that the example names can be imported.
IMPORT = """
import importlib, importlib.metadata, re, sys
normal = lambda name: re.sub(r"[-_.]+", "-", name).lower()
wanted = {normal(name) for name in sys.argv[1:]}
for module, projects in sorted(importlib.metadata.packages_distributions().items()):
    found = wanted & {normal(name) for name in projects}
    if found and not module.startswith("_"):
        importlib.import_module(module)
        wanted -= found
        print(f"  import {module}  # {', '.join(f'{name} {importlib.metadata.version(name)}' for name in found)}")
sys.exit(f"not imported: {', '.join(sorted(wanted))}" if wanted else 0)
"""


def main() -> None:
    folder = Path(sys.argv[1]).absolute()
    began = time.monotonic()
    bundle = folder / "web.tar.zst"
    environ = {**os.environ, "AIRGAP_HOME": str(folder / "home"), "AIRGAP_CACHE": str(folder / "cache")}

    def airgap(*arguments: str | Path) -> None:
        print(f"\n$ airgap {' '.join(map(str, arguments))}", file=sys.stderr, flush=True)
        subprocess.run([AIRGAP, *arguments], env=environ, check=True)

    say("The connected side: resolve, download, prove, write one bundle")
    targets = ("--target", "this", "--target", "cp312-manylinux_2_28_x86_64")
    airgap("pack", LOCK, *targets, "-o", bundle)

    say("The isolated side: verify it, and push it into a repository")
    airgap("verify", bundle)
    airgap("push", bundle, "--repo", "pypi-hosted", "--receipt", folder / "receipt.json")

    say("A machine that reaches nothing else: pip installs the lock, hashes checked, from that repository")
    with serving(environ) as url:
        install(folder / "machine", f"{url}repository/pypi-hosted/simple/")

    size = bundle.stat().st_size / 2**20
    say(f"Done in {time.monotonic() - began:.0f} s. The bundle is {bundle} ({size:.1f} MiB).")
    print(f"Look into it:  {AIRGAP} inspect {bundle}\nRemove it all:  rm -r {folder}", file=sys.stderr)


def say(text: str) -> None:
    print(f"\n== {text}", file=sys.stderr, flush=True)


@contextmanager
def serving(environ: dict[str, str]) -> Iterator[str]:
    """Run ``airgap serve`` on a free port, yield its URL, and stop it as a service manager would."""
    print("\n$ airgap serve --port 0", file=sys.stderr, flush=True)
    server = subprocess.Popen([AIRGAP, "serve", "--port", "0"], env=environ, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    lines: list[str] = []
    ready = threading.Event()
    reader = threading.Thread(target=_read, args=(server.stderr, lines, ready), daemon=True)
    reader.start()
    try:
        ready.wait(SECONDS_TO_START)
        url = next((match[1] for line in lines if (match := SERVING.search(line))), None)
        if url is None:
            sys.exit("airgap serve did not start:\n" + "".join(lines))
        print(f"  {url}", file=sys.stderr, flush=True)
        yield url
    except BaseException:
        server.kill()
        server.wait()
        raise
    server.terminate()
    code = server.wait(timeout=SECONDS_TO_START)
    reader.join()
    if code != 0 and os.name != "nt":  # Windows knows only how to kill
        sys.exit(f"airgap serve ended with exit code {code}:\n" + "".join(lines))


def _read(stream: IO[str], lines: list[str], ready: threading.Event) -> None:
    """Keep the pipe empty; *ready* is set when the server said where it is, or ended."""
    for line in stream:
        lines.append(line)
        if SERVING.search(line):
            ready.set()
    ready.set()


def install(machine: Path, index: str) -> None:
    """Make an environment, install the lock into it from *index* and nothing else, and import what it brought."""
    venv.create(machine, clear=True, with_pip=True, symlinks=os.name != "nt")
    python = machine / ("Scripts" if os.name == "nt" else "bin") / "python"
    environ = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "TEMP", "TMPDIR") if name in os.environ}
    environ |= {"HOME": str(machine), "PIP_CONFIG_FILE": os.devnull}
    # Port 9 discards: whatever is not on this machine's own loopback address can't be reached.
    environ |= {"HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}
    pip = ["-m", "pip", "--isolated", "--disable-pip-version-check", "--no-cache-dir", "install", "--quiet"]
    print(f"\n$ pip install --isolated --require-hashes --index-url {index} -r {LOCK}", file=sys.stderr, flush=True)
    requirements = ["--index-url", index, "--require-hashes", "-r", str(LOCK)]
    subprocess.run([python, *pip, *requirements], env=environ, check=True)
    projects = [line.strip() for line in TOP_LEVEL.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    subprocess.run([python, "-I", "-c", IMPORT, *projects], env=environ, check=True)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"demo: {Path(error.cmd[0]).name} failed with exit code {error.returncode}")
    except KeyboardInterrupt:
        sys.exit(130)
