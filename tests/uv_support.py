"""What ``uv pip compile`` and airgap make of the same requirements, target by target; and recordings of an index.

``python -m tests.uv_support`` records the sets of ``tests/data/uv/recorded`` again: of the configured index, as much as
either of the two looked at.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version
from uv import find_uv_bin

from mirror.config import Overrides, Setting, load
from mirror.filenames import split_filename
from mirror.index.simple import JSON_TYPE
from mirror.lockfiles import read
from mirror.models import File, FormatControl, Metadata, silent
from mirror.ops.connect import connected
from mirror.resolver import MetadataSource, Resolution
from mirror.targets import make_target
from tests.http_support import Server

DATA = Path(__file__).parent / "data" / "uv"
#: Every set by its name, as lines of a requirements file.
SETS: Mapping[str, Sequence[str]] = json.loads((DATA / "sets.json").read_text())
#: Python, platform as airgap spells it, and as uv does. Not 3.9.0: uv ignores a Requires-Python with "!=3.9.0".
TARGETS = (
    ("3.9.18", "manylinux_2_28_x86_64", "x86_64-manylinux_2_28"),
    ("3.10", "manylinux_2_17_x86_64", "x86_64-manylinux_2_17"),
    ("3.10", "macosx_13_0_x86_64", "x86_64-apple-darwin"),
    ("3.11", "win_amd64", "x86_64-pc-windows-msvc"),
    ("3.12", "macosx_13_0_arm64", "aarch64-apple-darwin"),
    ("3.12", "musllinux_1_2_x86_64", "x86_64-unknown-linux-musl"),
    ("3.13", "manylinux_2_28_aarch64", "aarch64-manylinux_2_28"),
    ("3.13", "win_amd64", "x86_64-pc-windows-msvc"),
)
RECORDED = {
    "services": ["flask", "uvicorn[standard]", "keyring", "portalocker", "requests[socks]"],
    "boto": ["boto3", "s3fs", "aiobotocore[boto3]<2.24"],
}

Pins = dict[str, str]


def pins_of_uv(requirements: Path, python: str, platform: str, index_url: str, *options: str) -> Pins | None:
    """What uv pins, wheels only; None where it finds no solution."""
    command = [
        find_uv_bin(),
        "pip",
        "compile",
        "-q",
        "--no-config",
        "--no-annotate",
        "--no-header",
        "--python",
        sys.executable,
    ]
    command += ["--only-binary", ":all:", "--python-version", python, "--python-platform", platform, *options]
    environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never", "UV_DEFAULT_INDEX": index_url}
    ran = subprocess.run([*command, requirements], check=False, capture_output=True, text=True, env=environment)
    if ran.returncode:
        assert "No solution found" in ran.stderr, ran.stderr
        return None
    lines = [Requirement(line) for line in ran.stdout.splitlines() if "==" in line]
    return {canonicalize_name(line.name): str(line.specifier)[2:] for line in lines}


@dataclass
class _Log:
    """A source of metadata that remembers what it was asked for."""

    behind: MetadataSource
    read_: dict[tuple[str, str], Metadata] = field(default_factory=dict)

    def read(self, file: File) -> Metadata:
        found = self.behind.read(file)
        self.read_[file.project, file.version] = found
        return found

    def build_requires(self, file: File) -> tuple[Requirement, ...]:
        return self.behind.build_requires(file)


class OurPins:
    """What airgap pins for one requirements file, wheels only, each target by itself."""

    def __init__(self, requirements: Path, index_url: str | None = None) -> None:
        wanted = read([str(requirements)]).wanted
        self._wanted = replace(wanted, format_control=FormatControl(frozenset(), frozenset({":all:"})))
        self._stack = ExitStack()
        # Without find-links: uv does not read pip's configuration.
        config = replace(load(overrides=Overrides(index_url=index_url)), find_links=Setting((), "this test"))
        self.index_url = config.index_url.value
        self.at = self._stack.enter_context(connected(config, self._wanted, silent))
        self.log = _Log(self.at.metadata)

    def __enter__(self) -> OurPins:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def pins(self, python: str, platform: str) -> Pins:
        with Resolution(self._wanted, self.at.index, self.log) as resolution:
            (plan,) = resolution.plan([make_target(python, [platform])]).targets
        return {pin.project: pin.version for pin in plan.pins}


def differing(ours: Pins, theirs: Pins) -> dict[str, tuple[str | None, str | None]]:
    """The projects whose version is not the same, ``(ours, theirs)``; None is no such project."""
    return {
        project: (ours.get(project), theirs.get(project))
        for project in sorted(ours.keys() | theirs.keys())
        if ours.get(project) != theirs.get(project)
    }


def record(name: str, lines: Iterable[str], folder: Path) -> None:
    """Record what both need of the index into ``recorded/NAME.json``."""
    path = folder / f"{name}.txt"
    path.write_text("\n".join(lines))
    with OurPins(path) as ours:
        answers = [pins_of_uv(path, python, theirs, ours.index_url) for python, _, theirs in TARGETS]
        for python, platform, _ in TARGETS:
            ours.pins(python, platform)
        versions: dict[str, set[Version]] = {}
        for project, version in [*ours.log.read_, *(pin for pins in answers if pins for pin in pins.items())]:
            versions.setdefault(project, set()).add(Version(version))
        document = {
            "requirements": path.read_text().splitlines(),
            "projects": {project: _page(ours, project, versions[project]) for project in sorted(versions)},
        }
    (DATA / "recorded").mkdir(exist_ok=True)
    (DATA / "recorded" / path.with_suffix(".json").name).write_text(json.dumps(document, indent=1) + "\n")


def _page(ours: OurPins, project: str, versions: set[Version]) -> list[dict[str, Any]]:
    """One entry a version: its metadata without the description, and its wheels."""
    found: dict[Version, dict[str, Any]] = {}
    (page, *_) = ours.at.index.pages(NormalizedName(project))
    for position, filename in enumerate(page.filenames):
        split = split_filename(filename, project)
        if split is None or not split.is_wheel or Version(split.version.replace("_", "-")) not in versions:
            continue
        file = page.file(position)
        entry = found.setdefault(Version(file.version), {"version": file.version, "wheels": []})
        if "metadata" not in entry:
            entry["metadata"] = _headers(ours.at.metadata.read(file).raw.decode())
            entry["requires-python"] = file.requires_python
        entry["wheels"].append(filename if file.yanked is None else {"filename": filename, "yanked": file.yanked})
    return [found[version] for version in sorted(found)]


def _headers(text: str) -> str:
    kept = ("Metadata-Version:", "Name:", "Version:", "Requires-Python:", "Requires-Dist:", "Provides-Extra:")
    headers = text.replace("\r\n", "\n").partition("\n\n")[0]
    return "\n".join(line for line in headers.splitlines() if line.startswith(kept)) + "\n"


def serve(recorded: Mapping[str, Any], server: Server) -> str:
    """Put a recording on *server* as an index with PEP 658 metadata, and no wheel behind it; returns its URL."""
    for project, releases in recorded["projects"].items():
        files = []
        for release in releases:
            for wheel in release["wheels"]:
                about = {"filename": wheel} if isinstance(wheel, str) else dict(wheel)
                url = f"/files/{about['filename']}"
                digest = hashlib.sha256(url.encode()).hexdigest()  # of no file: both remember metadata by it
                about |= {"url": url, "hashes": {"sha256": digest}, "core-metadata": True}
                files.append({**about, "requires-python": release["requires-python"]})
                server.add(f"{url}.metadata", release["metadata"].encode())
        page = {"meta": {"api-version": "1.1"}, "name": project, "files": files}
        server.add(f"/simple/{project}/", json.dumps(page).encode(), content_type=JSON_TYPE)
    return f"{server.url}/simple/"


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as temporary:
        for name, lines in RECORDED.items():
            record(name, lines, Path(temporary))
