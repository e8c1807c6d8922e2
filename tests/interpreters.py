"""The Pythons that this machine has, whoever installed them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

# Before a test hides the user's home.
_PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")


def interpreters() -> Iterator[str]:
    """Every Python from 3.6 on that runs here, once."""
    found = filter(None, (shutil.which(f"python3.{minor}") for minor in range(6, 16)))
    # pyenv's scripts of these names, slow to start, lead to what is looked at anyway.
    real = (path for path in found if Path(path).parent != _PYENV.with_name("shims"))
    seen: set[Path] = set()
    for path in (sys.executable, *real, *map(str, sorted(_PYENV.glob("3.*/bin/python")))):
        asked = subprocess.run(
            [path, "-c", "import sys; print(sys.executable)"], check=False, capture_output=True, text=True
        )
        if asked.returncode == 0 and (itself := Path(asked.stdout.strip()).resolve()) not in seen:
            seen.add(itself)
            yield path


@cache
def pythons_with_pip() -> tuple[str, ...]:
    """One Python of each minor version from 3.9 on that has a pip."""
    found: dict[str, str] = {}
    for path in interpreters():
        asked = subprocess.run(
            [path, "-I", "-c", "import pip, sys; print(*sys.version_info[:2])"],
            check=False,
            capture_output=True,
            text=True,
        )
        major, _, minor = asked.stdout.strip().partition(" ")
        if asked.returncode == 0 and (int(major), int(minor)) >= (3, 9):
            found.setdefault(asked.stdout, path)
    return tuple(found.values())
