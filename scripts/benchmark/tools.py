"""What is measured: the programs, and how each is told which machine to choose for."""

from __future__ import annotations

import os
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

AIRGAP, TWINE, UV = (Path(sysconfig.get_path("scripts"), name) for name in ("airgap", "twine", "uv"))
PIP = (sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "--no-input")
OLDEST_GLIBC, NEWEST_GLIBC = 5, 28


@dataclass(frozen=True)
class Machine:
    """One target, as airgap, pip and uv are told of it."""

    airgap: tuple[str, ...] = ()
    pip: tuple[str, ...] = ()
    uv: tuple[str, ...] = ()


def cpython(python: str, platform: str) -> Machine:
    """CPython *python* on *platform*: ``win_amd64``, ``macosx_14_0_arm64``, or ``linux_x86_64`` with a glibc 2.28."""
    system, _, arch = platform.partition("_")
    tags = [platform]
    if system == "linux":
        glibcs = [f"manylinux_2_{minor}_{arch}" for minor in range(NEWEST_GLIBC, OLDEST_GLIBC - 1, -1)]
        tags = [*glibcs, *(f"manylinux{year}_{arch}" for year in ("2014", "2010", "1")), platform]
        triple = f"{arch}-manylinux_2_{NEWEST_GLIBC}"
    else:
        triple = {"win": "x86_64-pc-windows-msvc", "macosx": "aarch64-apple-darwin"}[system]
    return Machine(
        airgap=("--target", f"cp{python.replace('.', '')}-{tags[0]}"),
        pip=("--python-version", python, "--implementation", "cp", *(w for tag in tags for w in ("--platform", tag))),
        uv=("--python-version", python, "--python-platform", triple),
    )


def clean(home: Path, **more: str) -> dict[str, str]:
    """An environment in which nobody's configuration counts."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PIP_CONFIG_FILE": os.devnull,
        "UV_NO_CONFIG": "1",
        "NO_PROXY": "127.0.0.1",
        **more,
    }


def say(text: str) -> None:
    print(f"\n== {text}", file=sys.stderr, flush=True)
