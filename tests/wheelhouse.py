"""Small real wheels and sdists, built in memory with fixed bytes, for tests that need distribution files."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name

EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Built:
    """A distribution file in memory."""

    filename: str
    data: bytes
    metadata: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    def save(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / self.filename
        path.write_bytes(self.data)
        return path


def core_metadata(
    name: str,
    version: str,
    *,
    requires: Iterable[str] = (),
    requires_python: str | None = None,
    extras: Iterable[str] = (),
    metadata_version: str = "2.1",
    dynamic: Iterable[str] = (),
    description: str = "",
) -> bytes:
    lines = [f"Metadata-Version: {metadata_version}", f"Name: {name}", f"Version: {version}"]
    lines += [f"Dynamic: {field}" for field in dynamic]
    lines += [f"Requires-Python: {requires_python}"] if requires_python else []
    lines += [f"Provides-Extra: {extra}" for extra in extras]
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    return ("\n".join(lines) + "\n\n" + description).encode()


def make_wheel(
    name: str,
    version: str = "1.0",
    *,
    tag: str = "py3-none-any",
    build: str = "",
    requires: Iterable[str] = (),
    requires_python: str | None = None,
    extras: Iterable[str] = (),
    metadata: bytes | None = None,
    files: Mapping[str, bytes] | None = None,
) -> Built:
    """Build a wheel that pip installs: one module named after the project, or *files*; METADATA may be overridden."""
    stem = f"{canonicalize_name(name).replace('-', '_')}-{version}"
    module = canonicalize_name(name).replace("-", "_")
    if metadata is None:
        metadata = core_metadata(name, version, requires=requires, requires_python=requires_python, extras=extras)
    python, abi, platforms = tag.split("-")
    tags = "".join(
        f"Tag: {p}-{a}-{m}\n" for p in python.split(".") for a in abi.split(".") for m in platforms.split(".")
    )
    pure = "true" if abi == "none" and platforms == "any" else "false"
    contents: dict[str, bytes] = dict(files or {f"{module}.py": f"__version__ = {version!r}\n".encode()})
    contents[f"{stem}.dist-info/METADATA"] = metadata
    contents[f"{stem}.dist-info/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: wheelhouse\nRoot-Is-Purelib: {pure}\n{tags}".encode()
    )
    record = "".join(
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}\n"
        for path, data in contents.items()
    )
    contents[f"{stem}.dist-info/RECORD"] = f"{record}{stem}.dist-info/RECORD,,\n".encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in contents.items():
            archive.writestr(zipfile.ZipInfo(path, EPOCH), data, zipfile.ZIP_DEFLATED)
    middle = f"-{build}" if build else ""
    return Built(f"{stem}{middle}-{tag}.whl", buffer.getvalue(), metadata)


def make_sdist(
    name: str,
    version: str = "1.0",
    *,
    requires: Iterable[str] = (),
    requires_python: str | None = None,
    metadata_version: str = "2.2",
    dynamic: Iterable[str] = (),
    pyproject: str | None = '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n',
    files: Mapping[str, bytes] | None = None,
) -> Built:
    """Build a tar.gz sdist with PKG-INFO, a pyproject.toml unless None, and a setup.py that setuptools builds."""
    module = canonicalize_name(name).replace("-", "_")
    root = f"{module}-{version}"
    metadata = core_metadata(
        name,
        version,
        requires=requires,
        requires_python=requires_python,
        metadata_version=metadata_version,
        dynamic=dynamic,
    )
    setup = (
        f"from setuptools import setup\nsetup(name={name!r}, version={version!r}, py_modules=[{module!r}], "
        f"install_requires={list(requires)!r})\n"
    )
    contents: dict[str, bytes] = {
        "PKG-INFO": metadata,
        "setup.py": setup.encode(),
        f"{module}.py": f"__version__ = {version!r}\n".encode(),
        **(files or {}),
    }
    if pyproject is not None:
        contents["pyproject.toml"] = pyproject.encode()
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path, data in sorted(contents.items()):
            info = tarfile.TarInfo(f"{root}/{path}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return Built(f"{root}.tar.gz", buffer.getvalue(), metadata)
