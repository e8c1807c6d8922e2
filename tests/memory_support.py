"""Peak memory of a process, measured by a small one in between: at its start a process counts what its parent held."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_LAUNCHER = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE)
unit = 1 if sys.platform == "darwin" else 1024
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
json.dump([done.returncode, done.stdout.decode(), peak], sys.stdout)
"""


def run_measured(command: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> tuple[str, int]:
    """Run *command*, which must succeed; return its standard output and its peak memory in bytes."""
    measured = subprocess.run(
        [sys.executable, "-S", "-c", _LAUNCHER, *command], cwd=cwd, env=env, check=True, stdout=subprocess.PIPE
    )
    code, output, peak = json.loads(measured.stdout)
    assert code == 0
    return output, peak
