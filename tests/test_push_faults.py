"""Pushes through a proxy that breaks requests by a fixed schedule, and pushes that are killed: nothing is lost.

AIRGAP_FAULT_SCHEDULES says how many schedules to run; their seeds are 0, 1, 2, …
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from mirror.bundle import write_bundle
from mirror.errors import AirgapError
from mirror.net import Client, Settings
from mirror.push.deliver import TRIES
from mirror.push.legacy import LegacyPublisher
from mirror.push.run import push
from mirror.store import Store
from tests.bundle_support import Wanted, make_content
from tests.fault_support import FaultProxy, Repository, Schedule, Tree, embedded, proxied, pypiserver
from tests.push_support import FolderSource, read_metadata

SCHEDULES = int(os.environ.get("AIRGAP_FAULT_SCHEDULES") or 40)
#: The same command, run so often, must end well.
RUNS = 10
PARTS = max(4, SCHEDULES // 40)
KILLS = 3
# What the seeds of killed pushes begin with: their projects must be new to the servers.
KILLED = 1_000_000


@pytest.fixture(scope="module", params=[embedded, pypiserver], ids=["embedded", "pypiserver"])
def repository(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    with request.param(tmp_path_factory.mktemp("server")) as found:
        yield found


def check(tree: Tree, proxy: FaultProxy) -> None:
    """The repository holds what was pushed and nothing else, and at no moment had a project without what it needs."""
    assert {project: proxy.repository.digests(project) for project in tree.needs} == tree.digests
    assert not proxy.holes


# One test for several schedules: a test of its own for each costs more than the schedule.
@pytest.mark.parametrize("part", range(PARTS))
def test_schedules_of_faults(
    repository: Repository, tmp_path: Path, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mirror.net.retry.FIRST_DELAY", 0.0005)
    if part % 2:  # so few projects as these are looked for together, where there is a list of all files
        monkeypatch.setattr("mirror.push.flat._MANY", 1)
    for seed in range(part, SCHEDULES // 2, PARTS):
        tree = Tree(seed)
        source = FolderSource(tmp_path / str(seed), tree.files)
        complete, run = False, 0
        with proxied(repository, tree, Schedule(seed)) as proxy:
            while not complete:
                run += 1
                assert run <= RUNS, seed
                with Client(Settings(retries=3, timeout=60)) as client:
                    publisher = LegacyPublisher(client, proxy.url)
                    try:
                        result = push(source, publisher, metadata=read_metadata, workers=3, read_back_wait=0.0)
                    except AirgapError:
                        continue
                    complete = result.complete
            check(tree, proxy)
            assert max(proxy.posted.values()) <= TRIES * run, seed
            repository.forget()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("seed", range(max(2, SCHEDULES // 20)))
def test_killed_and_run_again(repository: Repository, tmp_path: Path, seed: int) -> None:
    """Killed at a request that chance names, before it, in the middle of it, or when it is answered."""
    tree = Tree(KILLED + seed)
    chance = random.Random(seed)
    store = Store(tmp_path / "store")
    # A bundle has one file of a project for each target.
    wanted = [Wanted(built, requires=needs) for built, needs in tree.files if built.filename.endswith(".whl")]
    tree.digests = {tree.projects[item.built.filename]: {item.built.filename: item.built.sha256} for item in wanted}
    bundle = write_bundle(tmp_path / "bundle.tar.zst", make_content(store, wanted), store).path
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environ |= {"TWINE_USERNAME": "any", "TWINE_PASSWORD": "any", "TMPDIR": str(tmp_path)}
    running: list[subprocess.Popen[bytes]] = []
    left = 0

    def choose(faults: Sequence[str]) -> str:
        nonlocal left
        left -= 1
        if left or not running:
            return ""
        moment = chance.choice(["cut before", "half sent", "cut stored"])
        running[0].send_signal(signal.SIGKILL)
        return moment if moment in faults else ""

    with proxied(repository, tree, choose) as proxy:
        command = [sys.executable, "-m", "mirror", "push", str(bundle), "--repo", proxy.url, "-q", "-j", "2"]
        codes = []
        for _ in range(KILLS):
            left = chance.randint(1, 18)
            with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE) as process:
                running[:] = [process]
                process.communicate()
            codes.append(process.returncode)
        assert codes[0] == -signal.SIGKILL
        assert set(codes) <= {0, -signal.SIGKILL}
        left = 0
        running.clear()
        subprocess.run(command, env=environ, check=True, stderr=subprocess.PIPE)
        check(tree, proxy)
    assert not list(tmp_path.glob("airgap-*"))
