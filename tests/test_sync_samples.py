"""The samples for cron and systemd, tried as they are written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mirror
from tests.sync_support import World

SCRIPTS = Path(__file__).parent.parent / "scripts"


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    units = [shutil.copy(SCRIPTS / name, tmp_path) for name in ("airgap-sync.service", "airgap-sync.timer")]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    # "exposure" in tenths: below 2 of 10 is what systemd calls OK for a service that needs the network
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", units[0]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze (before 250) judges no unit that is not installed")
    assert done.returncode == 0, done.stdout[-500:]


@pytest.mark.skipif(sys.platform == "win32", reason="cron")
def test_the_lines_of_the_crontab_run(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.index.release("alpha", "1.0")
    world.want("alpha\n")
    tool = tmp_path / "bin" / "airgap"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mirror "$@"\n')
    tool.chmod(0o755)
    lines = (SCRIPTS / "crontab.sample").read_text(encoding="utf-8").splitlines()
    jobs = [line for line in lines if line and not line.startswith("#") and "=" not in line.split()[0]]
    assert all(len(job.split()) > 6 and job.split()[5] == "airgap" for job in jobs)
    connected, _, late = (" ".join(job.split()[6:]) for job in jobs)

    def run(command: str) -> subprocess.CompletedProcess[str]:
        assert "%" not in command  # which cron takes for the end of the line
        folder = tmp_path / "connected"
        environ = {
            "PATH": f"{tool.parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(folder),
            "PYTHONPATH": str(Path(mirror.__file__).parent.parent),
            "PIP_INDEX_URL": world.index.url,
            "PIP_CONFIG_FILE": os.devnull,
        }
        command = command.replace("/srv/airgap", f"'{folder}'")
        return subprocess.run(["/bin/sh", "-c", command], env=environ, capture_output=True, text=True, check=False)

    assert "is late or has failed" in run(late).stdout
    done = run(connected)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert world.bundle(1).exists()
    assert (run(late).returncode, run(late).stdout) == (0, "")
