"""PKG-INFO and pyproject.toml out of a source distribution (PEP 517, 518, 625, 643).

Nothing is extracted to disk and nothing runs. Archives are read as streams with bounds on every size in them.
"""

from __future__ import annotations

import gzip
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

from packaging.requirements import InvalidRequirement, Requirement

from mirror.errors import MetadataError
from mirror.metadata.wheel import METADATA_LIMIT, zip_member

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: An archive that unpacks to more than this many bytes before its metadata comes is given up.
_SCAN_LIMIT = 4 * 1024 * 1024 * 1024
_MEMBER_LIMIT = 500_000
_BLOCK = 64 * 1024

#: What building needs where pyproject.toml says nothing (PEP 518, with the version that pip asks for). Newer pips do
#: without wheel; those before 23.3 don't, and nobody knows which one is on the other side.
DEFAULT_BUILD_REQUIRES = (Requirement("setuptools>=40.8.0"), Requirement("wheel"))
DEFAULT_BACKEND = "setuptools.build_meta:__legacy__"
#: Backends that never ask for anything on top.
_ASKING_NOTHING = frozenset({"flit_core.buildapi", "poetry.core.masonry.api", "uv_build"})


@dataclass(frozen=True, slots=True)
class BuildSystem:
    """The ``[build-system]`` table of a pyproject.toml, or what stands in for it (PEP 517, 518)."""

    requires: tuple[Requirement, ...] = DEFAULT_BUILD_REQUIRES
    backend: str = DEFAULT_BACKEND
    backend_path: tuple[str, ...] = ()


def damages() -> tuple[type[Exception], ...]:
    """What readers of tar and zip files raise where one is damaged. lzma's own error is among it once lzma was used."""
    found: list[type[Exception]] = [tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError]
    if "lzma" in sys.modules:  # not every Python is built with it
        from lzma import LZMAError

        found.append(LZMAError)
    return tuple(found)


def sdist_metadata(stream: BinaryIO, filename: str) -> bytes:
    """Return the top-level PKG-INFO of an sdist; a MetadataError where there is none or the archive is damaged."""
    found = _top_level(stream, filename, "PKG-INFO")
    if found is None:
        raise MetadataError(f"{filename} has no PKG-INFO: it is not an sdist.")
    return found


def build_requires(stream: BinaryIO, filename: str) -> tuple[Requirement, ...]:
    """Return what building the sdist needs: ``build-system.requires``, or setuptools where that is not given.

    A pyproject.toml that can't be read, or whose ``requires`` is no list of requirements, is a MetadataError.
    """
    return build_system(stream, filename).requires


def build_system(stream: BinaryIO, filename: str) -> BuildSystem:
    """Return the sdist's build system: setuptools where it names none."""
    raw = _top_level(stream, filename, "pyproject.toml")
    return BuildSystem() if raw is None else parse_build_system(raw, filename)


def may_ask_for_more(stream: BinaryIO, filename: str) -> bool:
    """Whether the sdist's backend may ask for more than ``build-system.requires`` when it runs (PEP 517).

    False only where it is known not to: of some backends, and of setuptools without ``setup_requires``.
    """
    system = build_system(stream, filename)
    if system.backend_path:
        return True
    if system.backend.partition(":")[0] != "setuptools.build_meta":
        return system.backend not in _ASKING_NOTHING
    return any(b"setup_requires" in (_top_level(stream, filename, name) or b"") for name in ("setup.py", "setup.cfg"))


def parse_build_system(raw: bytes, filename: str) -> BuildSystem:
    """Read a pyproject.toml; *filename* is what it belongs to, for messages."""
    table = read_pyproject(raw, filename).get("build-system")
    if table is None:
        return BuildSystem()
    requires = table.get("requires") if isinstance(table, dict) else None
    if not isinstance(requires, list) or not all(isinstance(item, str) for item in requires):
        raise MetadataError(f"{filename}: build-system.requires in its pyproject.toml is not a list of requirements.")
    backend, path = table.get("build-backend", DEFAULT_BACKEND), table.get("backend-path", [])
    if not isinstance(backend, str) or not isinstance(path, list) or not all(isinstance(item, str) for item in path):
        raise MetadataError(f"{filename}: build-system in its pyproject.toml names no usable build-backend.")
    try:
        return BuildSystem(tuple(Requirement(item) for item in requires), backend, tuple(path))
    except InvalidRequirement as error:
        reason = str(error).partition("\n")[0]
        raise MetadataError(f"{filename}: build-system.requires in its pyproject.toml: {reason}.") from error


def read_pyproject(raw: bytes, filename: str) -> dict[str, Any]:
    """Parse a pyproject.toml; one that is no TOML is a MetadataError that names *filename*."""
    try:
        return tomllib.loads(raw.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise MetadataError(f"{filename}: its pyproject.toml can't be read: {error}.") from error


def _top_level(stream: BinaryIO, filename: str, name: str) -> bytes | None:
    """The file *name* in the archive's one top folder, or None."""
    stream.seek(0)
    if filename.endswith(".zip"):
        suffix = b"/" + name.encode("ascii")
        return zip_member(stream, filename, lambda path: path.endswith(suffix) and path.count(b"/") == 1)
    try:
        with forward_tar(stream, filename, _SCAN_LIMIT) as archive:
            return _find(archive, filename, name)
    except damages() as error:
        raise MetadataError(f"{filename} is not a sound archive: {error}.") from error


@contextmanager
def forward_tar(stream: BinaryIO, filename: str, limit: int) -> Iterator[ForwardTar]:
    """Open the tar file *stream*, compressed as *filename* says, to be read once and in bounded memory.

    A MetadataError where that is no sdist's name, or, while it is read, where it unpacks to more than *limit* bytes.
    Damage is one of :func:`damages`.
    """
    unpack: Callable[[BinaryIO], Any]
    if filename.endswith((".tar.gz", ".tgz")):
        unpack = gzip.open
    elif filename.endswith(".tar.bz2"):
        import bz2  # not every Python is built with it or with lzma, and few sdists need them

        unpack = bz2.open
    elif filename.endswith(".tar.xz"):
        import lzma

        unpack = lzma.open
    else:
        raise MetadataError(f"{filename!r} is not the name of an sdist (PEP 625).")
    with unpack(stream) as unpacked:
        forward = _Forward(unpacked, filename, limit)
        with tarfile.open(fileobj=forward, mode="r:") as archive:  # type: ignore[call-overload]
            yield ForwardTar(archive, forward)


class ForwardTar:
    """The members of a tar file, one after the other."""

    def __init__(self, archive: tarfile.TarFile, stream: _Forward) -> None:
        self._archive = archive
        self._stream = stream

    def __iter__(self) -> Iterator[tarfile.TarInfo]:
        while True:
            self._stream.begin()
            member = self._archive.next()
            if member is None:
                return
            # tarfile keeps every member that it saw; a hostile archive has millions.
            self._archive.members.clear()  # type: ignore[attr-defined]
            yield member

    def content(self, member: tarfile.TarInfo) -> bytes | None:
        """What is in *member*, the last that came; None where it has no content."""
        self._stream.begin()
        content = self._archive.extractfile(member)
        return content.read() if content is not None else None


def _find(archive: ForwardTar, filename: str, name: str) -> bytes | None:
    for number, member in enumerate(archive):
        if number == _MEMBER_LIMIT:
            raise MetadataError(f"{filename} has more than {_MEMBER_LIMIT} members before its {name}.")
        folder, slash, rest = member.name.removeprefix("./").partition("/")
        if not slash or not folder or rest != name:
            continue
        if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
            raise MetadataError(f"{filename}: {member.name!r} is not a plain file.")
        if member.size > METADATA_LIMIT:
            raise MetadataError(f"{filename}: {member.name!r} has {member.size} bytes; {METADATA_LIMIT} is the limit.")
        return archive.content(member)
    return None


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Forward:
    """A stream that tarfile reads forward only, and that refuses what only an attack would ask for."""

    def __init__(self, stream: _Readable, filename: str, limit: int) -> None:
        self._stream = stream
        self._filename = filename
        self._limit = limit
        self._position = 0
        self._asked = 0

    def begin(self) -> None:
        """What is read from here on belongs to another member."""
        self._asked = 0

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> int:
        if position < self._position:
            raise tarfile.ReadError("its members overlap")
        while self._position < position:
            if not self._read(min(position - self._position, _BLOCK)):
                break
        return self._position

    def read(self, size: int) -> bytes:
        # Newer tarfiles read a long header in pieces, and keep them all.
        self._asked += size
        if size < 0 or self._asked > METADATA_LIMIT:
            raise MetadataError(
                f"{self._filename}: the header of a member claims {self._asked} bytes or more; "
                f"{METADATA_LIMIT} is the limit."
            )
        return self._read(size)

    def _read(self, size: int) -> bytes:
        data = self._stream.read(size)
        self._position += len(data)
        if self._position > self._limit:
            raise MetadataError(f"{self._filename} unpacks to more than {self._limit} bytes.")
        return data
