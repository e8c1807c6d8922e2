"""Whether an installer would unpack an sdist: nothing in it may lie, or lead, outside its own folder."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from itertools import accumulate
from pathlib import PurePosixPath, PureWindowsPath
from typing import BinaryIO

from mirror.errors import MetadataError
from mirror.metadata.sdist import damages, forward_tar

#: Members and unpacked bytes, at most: far beyond what any published sdist has.
_MEMBER_LIMIT = 500_000
_SIZE_LIMIT = 16 * 2**30


def check_unpacks(stream: BinaryIO, filename: str) -> None:
    """Raise a MetadataError that names the first member of the sdist that installers refuse.

    They look when they install, which is too late for a bundle. Nothing is written, and nothing held in memory.
    """
    stream.seek(0)
    total = 0
    try:
        for number, (path, leads_to, size) in enumerate(_members(stream, filename)):
            total += size
            if number >= _MEMBER_LIMIT or total > _SIZE_LIMIT:
                raise MetadataError(f"{filename} unpacks to more than any sdist should.")
            if _leaves(path):
                raise MetadataError(f"{filename}: {path[:200]!r} lies outside of its folder.")
            if leads_to is not None and _leaves(leads_to):
                raise MetadataError(f"{filename}: the link {path[:200]!r} leads outside of its folder.")
    except damages() as error:
        raise MetadataError(f"{filename} is not a sound archive: {error}.") from error


def _members(stream: BinaryIO, filename: str) -> Iterator[tuple[str, str | None, int]]:
    """Yield path, where a link leads to, and size of every member."""
    if filename.endswith(".zip"):
        with zipfile.ZipFile(stream) as archive:
            for entry in archive.infolist():
                yield entry.filename, None, entry.file_size
        return
    with forward_tar(stream, filename, _SIZE_LIMIT) as archive:
        for member in archive:
            if not (member.isreg() or member.isdir() or member.islnk() or member.issym()):
                raise MetadataError(f"{filename}: {member.name[:200]!r} is a device or a pipe.")
            leads_to = member.linkname if member.islnk() else None
            if member.issym():
                folder = member.name.rpartition("/")[0]
                leads_to = member.linkname if _is_absolute(member.linkname) else f"{folder}/{member.linkname}"
            yield member.name, leads_to, member.size


def _is_absolute(path: str) -> bool:
    return PurePosixPath(path).is_absolute() or bool(PureWindowsPath(path).anchor)


def _leaves(path: str) -> bool:
    """Whether following *path* step by step ever leaves the sdist's top folder, which installers take off."""
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
    if _is_absolute(path) or ".." in parts[:1]:
        return True
    steps = accumulate(-1 if part == ".." else 1 for part in parts[1:])
    return any(depth < 0 for depth in steps)
