"""Garbage collection, and the proof that catalog and blobs agree."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mirror.errors import StorageError
from mirror.serve.home import Home

_PIECE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Collected:
    """What a garbage collection removed; ``size`` is in bytes."""

    blobs: int
    size: int


@dataclass(frozen=True, slots=True)
class Checked:
    """How many blobs were read, and a sentence for each that is not what the catalog says."""

    blobs: int
    problems: tuple[str, ...]


def collect(home: Home) -> Collected:
    """Remove blobs that no file needs and that are older than a day; safe beside running servers."""
    home.blobs.sweep()
    return Collected(*home.blobs.collect(home.catalog.blobs()))


def check(home: Home) -> Checked:
    """Read every blob that the catalog names and compare size and digest."""
    wanted = home.catalog.blobs()
    problems = [problem for sha256, size in sorted(wanted.items()) for problem in _problems(home, sha256, size)]
    return Checked(len(wanted), tuple(problems))


def _problems(home: Home, sha256: str, size: int) -> Iterator[str]:
    try:
        path = home.blobs.path(sha256)
        found, digest = _digest(path)
    except (OSError, StorageError) as error:
        yield f"{sha256}: {error}"
        return
    if digest != sha256:
        yield f"{path}: its bytes have the sha256 {digest}."
    elif size not in (-1, found):
        yield f"{path}: it has {found} bytes, and the catalog says {size}."


def _digest(path: Path) -> tuple[int, str]:
    size, hasher = 0, hashlib.sha256()
    with path.open("rb", buffering=0) as stream:
        while chunk := stream.read(_PIECE):
            size += len(chunk)
            hasher.update(chunk)
    return size, hasher.hexdigest()
