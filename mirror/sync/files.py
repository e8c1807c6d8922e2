"""How sync touches folders that others use too: whole files, durable moves, one run at a time."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mirror import durable
from mirror.errors import StorageError

#: What the name of a bundle ends with.
BUNDLE = ".tar.zst"
#: What the name of a text ends with that says why the file beside it is there.
REASON = ".reason.txt"
_NUMBERED = re.compile(r"(\d{6,})\Z")
_ANY_JOBS = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*-\d{6,}\Z")


@contextmanager
def one_at_a_time(path: Path, what: str) -> Iterator[None]:
    """Hold the lock *path*, which the operating system frees when this process ends, however it ends.

    A StorageError where another process holds it.
    """
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        with explained(path):
            taken = durable.try_lock(descriptor)
        if not taken:
            raise StorageError(f"Another run of {what} is under way.", hint="Wait for it to end.")
        yield
    finally:
        os.close(descriptor)


def existing(folder: Path | None, what: str) -> Path:
    """Return *folder*, the job's *what*; a StorageError where it is not there: a medium is not mounted, most likely.

    Making it would put what is to be carried onto this machine's disk, below where the medium is going to be mounted.
    """
    if folder is not None:
        with explained(folder):
            if folder.is_dir():
                return folder
    raise StorageError(f"The {what} {folder} is not there.", hint="Is the medium mounted?")


def check_writable(folder: Path, why: str) -> None:
    """Raise a StorageError, which says *why* that matters, where no file can be made in *folder*; it may be made."""
    try:
        durable.check_writable(folder)
    except OSError as error:
        raise StorageError(f"{folder} can't be written to: {error.strerror or error}.", hint=why) from error


def write_whole(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Give *path* the content *data*, all of it or none, and durably."""
    with explained(path):
        durable.write_whole(path, data)


def move(path: Path, folder: Path, reason: str = "") -> Path:
    """Move *path* into *folder*, beside it *reason* where there is one, without replacing what is there."""
    with explained(path):
        folder.mkdir(parents=True, exist_ok=True)
        stem, dot, ending = path.name.partition(".")
        target = folder / path.name
        copies = 1
        while target.exists():
            copies += 1
            target = folder / f"{stem}~{copies}{dot}{ending}"
        if reason:
            write_whole(reason_beside(target), f"{reason}\n".encode())
        path.rename(target)
        durable.sync_folder(folder)
        durable.sync_folder(path.parent)
    return target


def reason_beside(path: Path) -> Path:
    """Where it is written why *path* was put where it is."""
    return path.with_name(f"{path.name}{REASON}")


def numbered(folder: Path, name: str, ending: str) -> list[tuple[int, Path]]:
    """The files ``NAME-NNNNNN`` with *ending* in *folder*, by number."""
    found: list[tuple[int, Path]] = []
    with explained(folder):
        for path in folder.iterdir() if folder.is_dir() else ():
            stem = path.name.removesuffix(ending)
            match = _NUMBERED.search(stem)
            if stem != path.name and match and stem[: match.start()] == f"{name}-" and path.is_file():
                found.append((int(match[1]), path))
    return sorted(found)


def misnamed(folder: Path, ending: str) -> list[str]:
    """Names in *folder* that nearly have *ending*, and that no job takes: ``plant-000007 (1).tar.zst``, for one."""
    _, first, last = ending.split(".", 2)
    with explained(folder):
        names = sorted(path.name for path in folder.iterdir() if path.is_file())
    return [
        name
        for name in names
        if not name.startswith(".") and f".{first}" in name.lower() and name.lower().endswith(f".{last}")
        if not (name.endswith(ending) and _ANY_JOBS.match(name.removesuffix(ending)))
    ]


def drop(paths: Iterable[Path]) -> None:
    """Delete *paths*; one that is gone already is as good."""
    for path in paths:
        with explained(path), suppress(FileNotFoundError):
            path.unlink()


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an OSError into a StorageError that names the file."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{error.filename or path}: {error.strerror or error}.") from error
