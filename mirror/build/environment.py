"""Virtual environments made from given wheels alone, and processes that see nothing of the user's settings."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.version import InvalidVersion, Version

from mirror.errors import MetadataError, StorageError

# What a compiler and an interpreter need; everything else, credentials among it, stays outside.
_PASSED = {"AR", "ARCHFLAGS", "CC", "CFLAGS", "COMSPEC", "CPPFLAGS", "CXX", "CXXFLAGS", "FC", "LANG", "LC_ALL"}
_PASSED |= {
    "LC_CTYPE",
    "LDFLAGS",
    "LIBRARY_PATH",
    "MACOSX_DEPLOYMENT_TARGET",
    "NUMBER_OF_PROCESSORS",
    "PATH",
    "PATHEXT",
}
_PASSED |= {"PKG_CONFIG_PATH", "PROCESSOR_ARCHITECTURE", "SDKROOT", "SYSTEMDRIVE", "SYSTEMROOT", "WINDIR"}
#: The first moment that zip files, and so wheels, can name: builds that heed it give the same bytes every time.
_EPOCH = "315532800"
_FIRST_PIP_FOR_OTHERS = Version("22.3")
_LINES_SHOWN = 15


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment: its interpreter, and the variables that every process in it gets."""

    python: Path
    variables: Mapping[str, str]

    def run(self, command: Sequence[str], *, cwd: Path | str | None = None, what: str) -> None:
        """Run *command* in it; a MetadataError about *what* shows the end of its output where it fails."""
        run(command, self.variables, cwd=cwd, what=what)


def clean_variables(home: Path) -> dict[str, str]:
    """The environment variables of an isolated process: nothing of the user's, an empty folder as home and no index."""
    variables = {name: value for name, value in os.environ.items() if name.upper() in _PASSED}
    return variables | {
        "HOME": str(home),
        "USERPROFILE": str(home),
        "TMPDIR": str(home),
        "TEMP": str(home),
        "TMP": str(home),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_CACHE_DIR": "1",
        "PIP_NO_INDEX": "1",
        "PIP_NO_INPUT": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONNOUSERSITE": "1",
        "SOURCE_DATE_EPOCH": _EPOCH,
    }


def create(folder: Path, wheels: Sequence[Path], *, what: str) -> Environment:
    """Make a virtual environment of the running interpreter below the empty *folder* and install *wheels* into it.

    *wheels* must be complete: nothing is looked for anywhere else. *what* says in messages what it is for.
    """
    home, venv = folder / "home", folder / "venv"
    try:
        home.mkdir(parents=True)
    except OSError as error:
        raise StorageError(f"{home} can't be made: {error.strerror or error}.") from error
    variables = clean_variables(home)
    ours = _pip_installs_elsewhere()
    making = [sys.executable, "-I", "-m", "venv", *(["--without-pip"] if ours else []), str(venv)]
    run(making, variables, what=f"making an environment for {what}")
    scripts = venv / ("Scripts" if sys.platform == "win32" else "bin")
    python = scripts / ("python.exe" if sys.platform == "win32" else "python")
    inside = {**variables, "PATH": os.pathsep.join([str(scripts), *filter(None, [variables.get("PATH")])])}
    if wheels:
        pip = [sys.executable, "-I", "-m", "pip", "--python", str(python)] if ours else [str(python), "-I", "-m", "pip"]
        # Of what is installed, a build imports little: compiling all of setuptools takes longer than most builds.
        options = ["--no-index", "--no-deps", "--no-input", "--no-warn-script-location", "--no-compile"]
        options += ["--only-binary", ":all:"]
        run([*pip, "install", *options, *map(str, wheels)], variables, what=f"installing what {what} needs")
    return Environment(python, inside)


def run(command: Sequence[str], variables: Mapping[str, str], *, cwd: Path | str | None = None, what: str) -> None:
    """Run *command* with *variables* and nothing on its standard input; see :meth:`Environment.run`."""
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=dict(variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
    except OSError as error:
        raise MetadataError(f"{what}: {command[0]} can't be run: {error.strerror or error}.") from error
    if done.returncode:
        lines = [line for line in done.stdout.decode("utf-8", "replace").splitlines() if line.strip()]
        told = "\n".join(f"  {line}" for line in lines[-_LINES_SHOWN:])
        raise MetadataError(f"{what} failed with exit code {done.returncode}:\n{told}")


def _pip_installs_elsewhere() -> bool:
    """Whether the interpreter that runs airgap has a pip that can install into another one's environment."""
    try:
        return (
            importlib.util.find_spec("pip") is not None
            and Version(importlib.metadata.version("pip")) >= _FIRST_PIP_FOR_OTHERS
        )
    except (importlib.metadata.PackageNotFoundError, InvalidVersion):
        return False
