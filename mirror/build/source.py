"""Source trees: an sdist unpacked into one, and an sdist made from one without running anything."""

from __future__ import annotations

import gzip
import io
import os
import re
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from mirror.errors import MetadataError, UsageError
from mirror.metadata.sdist import damages, read_pyproject

_UNPACKED_LIMIT = 4 * 1024 * 1024 * 1024
_EPOCH = 315532800  # 1980-01-01: the first moment that every archive format can name
#: Fields of ``[project]`` that a resolver relies on. Where one is dynamic, only a build can tell (PEP 621).
_RELIED_ON = frozenset({"version", "dependencies", "optional-dependencies", "requires-python"})


def unpack_sdist(stream: BinaryIO, filename: str, folder: Path) -> Path:
    """Unpack an sdist into *folder* and return its one top folder.

    A member outside of it, a link that leads out, a device, or more than 4 GiB are a MetadataError.
    """
    try:
        if filename.endswith(".zip"):
            _unpack_zip(stream, filename, folder)
        else:
            _unpack_tar(stream, filename, folder)
    except damages() as error:
        raise MetadataError(f"{filename} can't be unpacked: {error}.") from error
    tops = list(folder.iterdir())
    if len(tops) != 1 or not tops[0].is_dir():
        raise MetadataError(f"{filename} does not hold exactly one folder: it is not an sdist (PEP 625).")
    return tops[0]


def _unpack_tar(stream: BinaryIO, filename: str, folder: Path) -> None:
    if not hasattr(tarfile, "data_filter"):
        raise UsageError(
            "This Python can't unpack archives safely (PEP 706), so nothing can be built here.",
            hint="Run airgap with the latest patch release of its Python.",
        )
    with tarfile.open(fileobj=stream, mode="r:*") as archive:
        size = 0
        for member in archive:
            size += member.size
            if size > _UNPACKED_LIMIT:
                raise MetadataError(f"{filename} unpacks to more than {_UNPACKED_LIMIT} bytes.")
            archive.extract(member, folder, filter="data")


def _unpack_zip(stream: BinaryIO, filename: str, folder: Path) -> None:
    with zipfile.ZipFile(stream) as archive:
        if sum(info.file_size for info in archive.infolist()) > _UNPACKED_LIMIT:
            raise MetadataError(f"{filename} unpacks to more than {_UNPACKED_LIMIT} bytes.")
        for info in archive.infolist():
            parts = info.filename.split("/")
            if ".." in parts or info.filename.startswith("/") or "\\" in info.filename or ":" in parts[0]:
                raise MetadataError(f"{filename} has a member outside of its folder: {info.filename[:200]!r}.")
            archive.extract(info, folder)


def static_metadata(tree: Path, what: str) -> bytes | None:
    """PKG-INFO of the project at *tree* from its pyproject.toml alone, or None where only a build can tell (PEP 621).

    It has the fields that a resolver and an index need.
    """
    try:
        raw = (tree / "pyproject.toml").read_bytes()
    except OSError:
        return None
    project = read_pyproject(raw, what).get("project")
    if not isinstance(project, dict):
        return None
    dynamic = project.get("dynamic", [])
    if not isinstance(dynamic, list) or _RELIED_ON & set(map(str, dynamic)) or "version" not in project:
        return None
    try:
        return "".join(f"{line}\n" for line in _fields(project)).encode()
    except (InvalidRequirement, InvalidVersion, AttributeError, KeyError, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise MetadataError(f"{what}: [project] in its pyproject.toml is not sound (PEP 621): {reason}.") from error


def _fields(project: dict[str, Any]) -> Iterator[str]:
    yield "Metadata-Version: 2.2"
    name = project["name"]
    canonicalize_name(name, validate=True)
    yield f"Name: {name}"
    yield f"Version: {Version(project['version'])}"
    if "requires-python" in project:
        yield f"Requires-Python: {_one_line(project['requires-python'])}"
    for text in project.get("dependencies", ()):
        yield f"Requires-Dist: {Requirement(text)}"
    for extra, texts in project.get("optional-dependencies", {}).items():
        name = canonicalize_name(extra, validate=True)
        yield f"Provides-Extra: {name}"
        for text in texts:
            requirement = Requirement(text)
            marker = f'extra == "{name}"'
            if requirement.marker is not None:
                marker = f"({requirement.marker}) and {marker}"
            requirement.marker = None
            # A marker behind a URL needs a blank before its semicolon (PEP 508).
            yield f"Requires-Dist: {requirement} ; {marker}"


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def make_sdist(tree: Path, metadata: bytes, stem: str) -> bytes:
    """Pack *tree* as the sdist ``STEM.tar.gz`` with *metadata* as its PKG-INFO; the same tree gives the same bytes.

    ``.git`` stays out, and so does a link that leads out of the tree, with a MetadataError.
    """
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0, filename="") as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path in sorted(_files(tree)):
            inside = path.relative_to(tree).as_posix()
            if inside == "PKG-INFO":
                continue
            info = _member(f"{stem}/{inside}")
            if path.is_symlink():
                if not path.resolve().is_relative_to(tree.resolve()):
                    raise MetadataError(f"{stem}: {inside} is a link that leads out of the source tree.")
                info.type, info.linkname = tarfile.SYMTYPE, path.readlink().as_posix()
                archive.addfile(info)
                continue
            info.size = path.stat().st_size
            if path.stat().st_mode & stat.S_IXUSR:
                info.mode = 0o755
            with path.open("rb") as stream:
                archive.addfile(info, stream)
        info = _member(f"{stem}/PKG-INFO")
        info.size = len(metadata)
        archive.addfile(info, io.BytesIO(metadata))
    return buffer.getvalue()


def _files(tree: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(tree):
        folders[:] = [name for name in folders if name != ".git"]
        for name in [*files, *(name for name in folders if (Path(folder) / name).is_symlink())]:
            if name != ".git":  # a submodule has a file of that name
                yield Path(folder) / name


def _member(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mode = 0o644
    info.mtime = _EPOCH
    return info
