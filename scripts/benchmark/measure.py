"""Run a command and say what it took. POSIX only: ``os.wait4`` is what knows one child's peak memory."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile

MIB = 2**20


@dataclass(frozen=True)
class Sample:
    """One run: wall seconds, CPU seconds of the process and its children, and their largest resident set in bytes."""

    seconds: float
    cpu: float
    peak: int


@dataclass(frozen=True)
class Medians:
    """What is shown of several samples: medians, the fastest and the slowest run, the largest peak."""

    seconds: float
    fastest: float
    slowest: float
    cpu: float
    peak: int


@dataclass
class Results:
    """Samples by job, in the order in which the jobs first ran."""

    samples: dict[str, list[Sample]] = field(default_factory=dict)

    def add(self, job: str, *parts: Sample) -> None:
        """Add one run of *job*, whose *parts* ran one after the other."""
        seconds, cpu = sum(part.seconds for part in parts), sum(part.cpu for part in parts)
        self.samples.setdefault(job, []).append(Sample(seconds, cpu, max(part.peak for part in parts)))
        print(f"  {job}: {seconds:.2f} s", file=sys.stderr, flush=True)


def medians(samples: Sequence[Sample]) -> Medians:
    seconds = [sample.seconds for sample in samples]
    cpu = statistics.median(sample.cpu for sample in samples)
    peak = max(sample.peak for sample in samples)
    return Medians(statistics.median(seconds), min(seconds), max(seconds), cpu, peak)


def table(found: Mapping[str, Medians], peers: Mapping[str, Sequence[str]]) -> None:
    """Print a row for each job, with its ratio to each of its peers."""
    width = max(map(len, found)) + 2
    print(f"\n{'job':<{width}}{'seconds':>9}{'min - max':>18}{'CPU s':>8}{'peak MiB':>10}  ratio")
    for job, took in found.items():
        spread = f"{took.fastest:.2f} - {took.slowest:.2f}"
        ratios = (f"{took.seconds / found[peer].seconds:.2f} of {peer}" for peer in peers.get(job, ()))
        figures = f"{took.seconds:>9.2f}{spread:>18}{took.cpu:>8.2f}{took.peak / MIB:>10.0f}"
        print(f"{job:<{width}}{figures}  {'; '.join(ratios)}".rstrip())


def run(command: Sequence[str | Path], environ: dict[str, str], *, stdout: Path | None = None) -> Sample:
    """Run to the end. A failure ends the benchmark with the command's own words: a figure of it would be a lie.

    A child's peak is at least what this process had when it was started, about 25 MiB: keep this process small.
    """
    with TemporaryFile() as said, TemporaryFile() if stdout is None else stdout.open("wb") as out:
        began = time.perf_counter()
        child = subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, stdout=out, stderr=said)
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - began
        child.returncode = os.waitstatus_to_exitcode(status)  # Popen must not wait for it again
        if child.returncode != 0:
            said.seek(0)
            sys.stderr.buffer.write(said.read()[-4000:])
            sys.exit(f"bench: exit code {child.returncode} from {' '.join(map(str, command))[:500]}")
    peak = usage.ru_maxrss if sys.platform == "darwin" else usage.ru_maxrss * 1024
    return Sample(seconds, usage.ru_utime + usage.ru_stime, peak)
