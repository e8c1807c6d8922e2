"""Projects that only a build understands: a build backend as a wheel, sdists for it, and code that leaves traces."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from packaging.requirements import Requirement

from mirror.cli import airgap
from mirror.config import Config, Overrides, load
from mirror.models import RequirementLine, RequirementSet
from tests.wheelhouse import Built, make_sdist, make_wheel

#: A PEP 517 backend that reads ``tiny.json`` and imports its own dependency, so that an incomplete environment shows.
BACKEND = """
import base64, hashlib, io, json, os, tarfile, zipfile
import tiny_helper

def _project():
    with open("tiny.json") as stream:
        project = json.load(stream)
    seen = project.get("environment_seen")
    if seen:
        with open(seen, "w") as stream:
            json.dump(dict(os.environ), stream)
    ran = project.get("ran")
    if ran:
        with open(ran, "a") as stream:
            stream.write(project["name"] + "\\n")
    return project

def _metadata(project):
    lines = ["Metadata-Version: 2.2", "Name: " + project["name"], "Version: " + project["version"]]
    lines += ["Requires-Dist: " + each for each in project.get("requires", [])]
    return "\\n".join(lines) + "\\n\\n"

def get_requires_for_build_wheel(config_settings=None):
    return _project().get("asks", [])

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    project = _project()
    for module in project.get("imports", []):
        __import__(module)
    module = project["name"].replace("-", "_")
    stem = module + "-" + project["version"]
    tag = project.get("tag", "py3-none-any")
    files = {
        module + ".py": "",
        stem + ".dist-info/METADATA": _metadata(project),
        stem + ".dist-info/WHEEL": "Wheel-Version: 1.0\\nGenerator: tiny\\nRoot-Is-Purelib: true\\nTag: " + tag + "\\n",
    }
    record = stem + ".dist-info/RECORD"
    files[record] = "".join(path + ",,\\n" for path in [*files, record])
    name = stem + "-" + tag + ".whl"
    with zipfile.ZipFile(os.path.join(wheel_directory, name), "w") as archive:
        for path, text in files.items():
            archive.writestr(zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0)), text)
    return name

def build_sdist(sdist_directory, config_settings=None):
    project = _project()
    stem = project["name"].replace("-", "_") + "-" + project["version"]
    with tarfile.open(os.path.join(sdist_directory, stem + ".tar.gz"), "w:gz") as archive:
        archive.add(".", stem, filter=lambda info: None if ".git" in info.name.split("/") else info)
        data = _metadata(project).encode()
        info = tarfile.TarInfo(stem + "/PKG-INFO")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return stem + ".tar.gz"
"""
PYPROJECT = '[build-system]\nrequires = ["tiny-backend"]\nbuild-backend = "tiny_backend"\n'


def backend() -> list[Built]:
    """The backend and what it needs, both as wheels."""
    wheel = make_wheel("tiny-backend", requires=["tiny-helper"], files={"tiny_backend.py": BACKEND.encode()})
    return [wheel, make_wheel("tiny-helper")]


def project(name: str, version: str = "1.0", *, requires: Iterable[str] = (), **told: object) -> bytes:
    """A ``tiny.json``; *told* is what BACKEND looks at."""
    return json.dumps({"name": name, "version": version, "requires": list(requires), **told}).encode()


def secretive(name: str, version: str = "1.0", *, requires: Iterable[str] = (), **told: object) -> Built:
    """An sdist whose PKG-INFO does not say what it requires."""
    files = {"tiny.json": project(name, version, requires=requires, **told)}
    return make_sdist(name, version, metadata_version="2.1", pyproject=PYPROJECT, files=files)


def plain(name: str, version: str = "1.0", *, requires: Iterable[str] = (), **told: object) -> Built:
    """An sdist whose PKG-INFO tells everything."""
    requires = list(requires)
    files = {"tiny.json": project(name, version, requires=requires, **told)}
    return make_sdist(name, version, requires=requires, pyproject=PYPROJECT, files=files)


def leaving_traces(name: str, trace: Path, *, metadata_version: str = "2.2") -> Built:
    """An sdist that writes to *trace* whenever any of its code runs: its setup.py, its own backend."""
    code = f"open({str(trace)!r}, 'a').write(__name__ + chr(10))\n".encode()
    pyproject = '[build-system]\nrequires = ["tiny-backend"]\nbuild-backend = "its_backend"\nbackend-path = ["."]\n'
    files = {"setup.py": code, "its_backend.py": code + b"from tiny_backend import *\n", "tiny.json": project(name)}
    return make_sdist(name, metadata_version=metadata_version, pyproject=pyproject, files=files)


def wheelhouse(folder: Path, built: Iterable[Built]) -> Path:
    """Save *built* into *folder* and return it."""
    for each in built:
        each.save(folder)
    return folder


def wanted(*lines: str, find_links: Path, hashes: Mapping[str, str] | None = None) -> RequirementSet:
    """What a requirements file with *lines* says; *hashes* are SHA-256 digests by name."""
    found = []
    for number, text in enumerate(lines, 1):
        requirement = Requirement(text)
        digest = (hashes or {}).get(requirement.name)
        found.append(
            RequirementLine(requirement, f"requirements.txt:{number}", (f"sha256:{digest}",) if digest else ())
        )
    return RequirementSet(tuple(found), find_links=(str(find_links),), no_index=True, require_hashes=bool(hashes))


def config(folder: Path) -> Config:
    """Settings with a store of their own below *folder*."""
    return load(
        environ={"AIRGAP_CACHE": str(folder / "cache"), "AIRGAP_HOME": str(folder / "home")}, overrides=Overrides()
    )


def run(*arguments: str | Path) -> None:
    """Run the command line in this process; errors come as exceptions."""
    airgap.main([str(argument) for argument in arguments], standalone_mode=False)
