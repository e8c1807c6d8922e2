"""A loopback index with real wheels, and the airgap command in a process of its own."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import canonicalize_name

from tests.http_support import Server
from tests.index_support import Ran, Warehouse, airgap
from tests.wheelhouse import Built, make_wheel


def offer(server: Server, built: Iterable[Built], *, as_json: bool = False) -> str:
    """Put an index of *built* on *server* and return its URL: HTML only, or JSON with PEP 658 metadata."""
    stock = Warehouse(server, html=not as_json)
    for one in built:
        stock.publish(one)
    return stock.url()


def family(count: int = 12, size: int = 200_000) -> list[Built]:
    """*count* projects, each of which requires the next, with *size* bytes that don't compress in each."""
    noise = random.Random(0)
    return [
        make_wheel(
            f"kin-{number}",
            requires=[f"kin-{number + 1}"] if number + 1 < count else [],
            files={f"kin_{number}.py": b"", f"kin_{number}.bin": noise.randbytes(size)},
        )
        for number in range(count)
    ]


@dataclass(frozen=True)
class Desk:
    """A folder with a cache and a home of its own, in which ``airgap`` is run."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "AIRGAP_CACHE": str(self.folder / "cache"),
            "AIRGAP_HOME": str(self.folder / "home"),
            "PIP_CONFIG_FILE": os.devnull,
        }

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "mirror", *map(str, arguments)],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=120)
        assert process.returncode == code, f"exit code {process.returncode}\n{out}\n{err}"
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def run_here(self, *arguments: str | Path, code: int = 0) -> Ran:
        """Like :meth:`run`, in this process: for what does not depend on a new one, which takes longer to start."""
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            for name, value in self.environment.items():
                patch.setenv(name, value)
            ran = airgap(*arguments)
        assert ran.code == code, f"exit code {ran.code}\n{ran.out}\n{ran.err}"
        return ran

    def document(self, *arguments: str | Path) -> Mapping[str, Any]:
        result: Mapping[str, Any] = json.loads(self.run(*arguments, "--json").stdout)
        return result

    def kill_after(self, seconds: float, *arguments: str | Path) -> bool:
        """Run it and send SIGKILL after *seconds*; False where it ended before that."""
        process = self.start(*arguments)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        return process.returncode == -signal.SIGKILL

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Run ``airgap serve``; yields its URL without a slash at the end."""
        process = self.start("serve", "--port", "0")
        assert process.stderr is not None
        with process:
            try:
                line = process.stderr.readline()
                assert line.startswith("Serving http://"), line
                yield line.split()[1].rstrip("/")
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(30)
        assert process.returncode == 0


def how_long(desk: Desk, *arguments: str | Path) -> float:
    """Seconds that a whole run takes, for choosing moments to kill the next ones at."""
    started = time.monotonic()
    desk.run(*arguments)
    return time.monotonic() - started


def names(built: Iterable[Built]) -> list[str]:
    return sorted(canonicalize_name(one.filename.split("-")[0]) for one in built)
