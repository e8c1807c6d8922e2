"""The proof by real installers: every pip and uv at hand, told to install each target from the unpacked bundle alone.

No index is asked, hashes are required, and nothing stays. Installing wheels runs no code of theirs; where a target
builds sdists, it is checked only if the user names all of them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.version import InvalidVersion, Version

from mirror.build.environment import clean_variables
from mirror.bundle import BundledFile, BundledTarget, BundleReader, Manifest, hashed_path, unpack
from mirror.models import Event, Reporter, Stage, Target, silent
from mirror.ops.delta import complete
from mirror.targets import Ranks

_NAME = re.compile(r"(python|pypy)(\d(\.\d+t?)?)?(\.exe)?\Z")
#: Seconds for an interpreter to say what it is.
_PATIENCE = 30
_LINES_SHOWN = 12
_FIRST_DRY_RUN = Version("22.2")
#: Marker values in which an interpreter must equal a target to speak for it.
_SAME = ("implementation_name", "os_name", "platform_machine", "python_version", "sys_platform")
_PROBE = """\
import json, sys
import pip
from pip._vendor.packaging.markers import default_environment
from pip._vendor.packaging.tags import sys_tags
tags = [str(tag) for tag in sys_tags()]
json.dump([sys.executable, sys.prefix, pip.__version__, default_environment(), tags], sys.stdout)
"""
_WINDOWS = {"AMD64": "x86_64", "ARM64": "aarch64", "x86": "i686"}
_MACOS = {"arm64": "aarch64", "x86_64": "x86_64"}
_USAGE = 2  # what uv exits with where it does not know an option or a value


@dataclass(frozen=True, slots=True)
class Check:
    """What one installer said about one target; ``reason`` is empty where it installs."""

    target: str
    installer: str
    outcome: Literal["installs", "fails", "unchecked"]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Interpreter:
    """A Python with pip, and what it says about itself."""

    executable: str
    prefix: str
    pip: str
    markers: Mapping[str, str]
    tags: tuple[str, ...]

    @property
    def shown(self) -> str:
        kind = "PyPy " if self.markers["implementation_name"] == "pypy" else ""
        return f"pip {self.pip} of {kind}Python {self.markers['python_full_version']}"


def check_install(
    reader: BundleReader,
    allowed: frozenset[str] = frozenset(),
    report: Reporter = silent,
    bases: Sequence[BundleReader] = (),
) -> tuple[Check, ...]:
    """Let every installer at hand install every target that it can act for; the others are ``unchecked``, with why.

    *allowed* names the projects whose sdists may be built, normalised; a delta is completed from *bases*. Raises a
    BundleError where a bundle is wrong, a StorageError where there is no room to unpack it.
    """
    manifest = reader.manifest
    with tempfile.TemporaryDirectory(prefix="airgap-") as temporary:
        folder = Path(temporary)
        home = folder / "home"
        home.mkdir()
        if manifest.expected and not bases:
            told = "the bundle is a delta, and the other files are not here"
            return tuple(Check(target.name, "", "unchecked", told) for target in manifest.targets)
        unpack(reader, folder / "bundle", report)
        complete(manifest, bases, folder / "bundle" / "packages")
        interpreters, uv = find_interpreters(), find_uv()
        checks: list[Check] = []
        report(Event("begin", Stage.VERIFY, items=len(manifest.targets)))
        for target in manifest.targets:
            trial = _Trial(manifest, target, folder, home, allowed)
            checks += trial.checks(interpreters, uv)
            report(Event("advance", Stage.VERIFY, target.name, items=1))
        report(Event("end", Stage.VERIFY))
        return tuple(checks)


def find_interpreters() -> tuple[_Interpreter, ...]:
    """The running Python, and every ``python`` and ``pythonX.Y`` on PATH that starts and has a pip; each once."""
    found: dict[str, _Interpreter] = {}
    for path in dict.fromkeys([sys.executable, *_on_path()]):
        interpreter = _probe(path)
        if interpreter is not None:
            found.setdefault(interpreter.prefix, interpreter)
    return tuple(found.values())


def find_uv() -> str | None:
    """The uv on PATH, or the one beside the running Python."""
    return shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))


def _on_path() -> Iterator[str]:
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        try:
            names = sorted(entry.name for entry in os.scandir(folder or ".") if _NAME.match(entry.name))
        except OSError:
            continue
        yield from (str(Path(folder) / name) for name in names)


def _probe(path: str) -> _Interpreter | None:
    try:
        done = subprocess.run(
            [path, "-I", "-c", _PROBE],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
        executable, prefix, pip, markers, tags = json.loads(done.stdout)
        return _Interpreter(str(executable), str(prefix), str(Version(pip)), dict(markers), tuple(tags))
    except (OSError, ValueError, TypeError, subprocess.TimeoutExpired, InvalidVersion):
        return None  # it has no pip that can be asked, or does not run at all


class _Trial:
    """One target of an unpacked bundle, put before the installers."""

    def __init__(
        self, manifest: Manifest, target: BundledTarget, folder: Path, home: Path, allowed: frozenset[str]
    ) -> None:
        self._target = target
        self._home = home
        self._files = [file for file in manifest.files if target.name in file.targets]
        self._sdists = sorted(
            {
                file.project
                for file in manifest.files
                if not file.is_wheel and target.name in (*file.targets, *file.builds)
            }
        )
        self._refused = [project for project in self._sdists if project not in allowed]
        self._lock = folder / "bundle" / hashed_path(target.name)

    def checks(self, interpreters: Sequence[_Interpreter], uv: str | None) -> Iterator[Check]:
        """What each installer says; where none can act for the target, one entry that says why."""
        if self._refused:
            flags = " ".join(f"--allow-build {project}" for project in self._refused)
            yield self._said("", "unchecked", f"installing it builds sdists, which runs their code; {flags} allows it")
            return
        acting = [each for each in interpreters if self._same(each)]
        if not acting:
            wanted = " ".join(self._target.markers.get(name, "") for name in ("implementation_name", "python_version"))
            machine = " ".join(self._target.markers.get(name, "") for name in ("sys_platform", "platform_machine"))
            yield self._said("pip", "unchecked", f"there is no {wanted} with pip here, on {machine}")
        for interpreter in acting:
            unfit = self._unfit(interpreter)
            if unfit is not None:
                yield self._said(interpreter.shown, "unchecked", f"this machine does not take {unfit.filename}")
            else:
                yield self._pip(interpreter)
        yield self._uv(uv)

    def _same(self, interpreter: _Interpreter) -> bool:
        if any(self._target.markers.get(name) != interpreter.markers.get(name) for name in _SAME):
            return False
        return _threads(self._target.tags) == _threads(interpreter.tags)

    def _unfit(self, interpreter: _Interpreter) -> BundledFile | None:
        """A wheel of the target that this machine would not take, newer than it or made for another one."""
        ranks = Ranks(Target("here", interpreter.tags, ()))
        return next((file for file in self._files if file.is_wheel and ranks.wheel(file.filename) is None), None)

    def _pip(self, interpreter: _Interpreter) -> Check:
        with tempfile.TemporaryDirectory(prefix="airgap-") as site:
            options = ["--no-compile", "--target", site, "--only-binary", ":all:"]
            for project in self._sdists:
                options += ["--no-binary", project]
            if Version(interpreter.pip) >= _FIRST_DRY_RUN:
                options.append("--dry-run")
            command = [interpreter.executable, "-I", "-m", "pip", "install", *options, "-r", str(self._lock)]
            return self._judged(interpreter.shown, self._run(command))

    def _uv(self, uv: str | None) -> Check:
        if uv is None:
            return self._said("uv", "unchecked", "there is no uv here")
        platform = _uv_platform(self._target)
        if platform is None or self._target.markers.get("implementation_name") != "cpython":
            return self._said("uv", "unchecked", "uv can't act for this kind of machine")
        if self._sdists:
            return self._said("uv", "unchecked", "uv would build sdists for this machine and not for the target")
        if _threads(self._target.tags):
            return self._said("uv", "unchecked", "uv can't act for a free-threaded Python that is not here")
        name, release = platform
        done = self._run_uv(uv, name, release)
        if done.returncode == _USAGE and "--python-platform" in done.stdout:
            older = _older_glibc(name, done.stdout, [file.filename for file in self._files])
            if older is None:
                return self._said("uv", "unchecked", f"this uv knows no platform {name}")
            done = self._run_uv(uv, older, release)
        return self._judged("uv", done)

    def _run_uv(self, uv: str, platform: str, release: str) -> subprocess.CompletedProcess[str]:
        with tempfile.TemporaryDirectory(prefix="airgap-") as site:
            options = ["--no-config", "--offline", "--cache-dir", str(Path(site) / "cache"), "--dry-run"]
            options += ["--only-binary", ":all:"]
            options += ["--python", sys.executable, "--target", str(Path(site) / "site")]
            options += ["--python-version", self._target.markers["python_full_version"], "--python-platform", platform]
            command = [uv, "pip", "install", *options, "-r", str(self._lock)]
            return self._run(command, {"MACOSX_DEPLOYMENT_TARGET": release} if release else {})

    def _run(self, command: Sequence[str], more: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                command,
                env={**clean_variables(self._home), **(more or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                check=False,
            )
        except OSError as error:
            return subprocess.CompletedProcess(command, 1, f"{command[0]} can't be run: {error.strerror or error}")

    def _judged(self, installer: str, done: subprocess.CompletedProcess[str]) -> Check:
        if done.returncode == 0:
            return self._said(installer, "installs")
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        return self._said(installer, "fails", "\n".join(lines[-_LINES_SHOWN:]))

    def _said(self, installer: str, outcome: Literal["installs", "fails", "unchecked"], reason: str = "") -> Check:
        return Check(self._target.name, installer, outcome, reason)


def _threads(tags: Sequence[str]) -> bool:
    """Whether the best tag is one of a free-threaded CPython (PEP 703)."""
    return bool(tags) and re.match(r"cp\d+-cp\d+d?t", tags[0]) is not None


def _uv_platform(target: BundledTarget) -> tuple[str, str] | None:
    """The target's platform in uv's words, and its macOS release where it is a Mac."""
    system, machine = target.markers.get("sys_platform"), target.markers.get("platform_machine", "")
    platforms = [tag.rpartition("-")[2] for tag in target.tags]
    if system == "win32" and machine in _WINDOWS:
        return f"{_WINDOWS[machine]}-pc-windows-msvc", ""
    if system == "darwin" and machine in _MACOS:
        release = next((match for name in platforms if (match := re.match(r"macosx_(\d+)_(\d+)_", name))), None)
        return (f"{_MACOS[machine]}-apple-darwin", f"{release[1]}.{release[2]}") if release else None
    for name in platforms if system == "linux" else ():
        glibc = re.match(rf"manylinux_2_(\d+)_{re.escape(machine)}\Z", name)
        if glibc:
            return f"{machine}-manylinux_2_{glibc[1]}", ""
        if re.match(rf"musllinux_1_\d+_{re.escape(machine)}\Z", name):
            return f"{machine}-unknown-linux-musl", ""
    return None


def _older_glibc(platform: str, known: str, filenames: Iterable[str]) -> str | None:
    """The next older platform of those that uv says it knows, where none of the wheels needs a newer glibc than that.

    >>> _older_glibc("x86_64-manylinux_2_43", "x86_64-manylinux_2_28, x86_64-manylinux_2_40", ["a-1-py3-none-any.whl"])
    'x86_64-manylinux_2_40'
    """
    machine, _, release = platform.partition("-manylinux_2_")
    names = re.findall(rf"\b{re.escape(machine)}-manylinux_2_(\d+)\b", known)
    older = max((int(name) for name in names if release and int(name) < int(release)), default=0)
    for filename in filenames:
        needed = re.findall(r"manylinux_2_(\d+)_", filename)
        if needed and min(map(int, needed)) > older:
            return None
    return f"{machine}-manylinux_2_{older}" if older else None
