"""How sync touches folders that others use too: whole files, durable moves, one run at a time."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mirror import durable
from mirror.errors import StorageError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_NUMBERED = re.compile(r"(\d{6,})\Z")


@contextmanager
def one_at_a_time(path: Path, what: str) -> Iterator[None]:
    """Hold the lock *path*, which the operating system frees when this process ends, however it ends.

    A StorageError where another process holds it.
    """
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            if sys.platform == "win32":
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
                raise StorageError(f"{path}: {error.strerror or error}.") from error
            raise StorageError(f"Another run of {what} is under way.", hint="Wait for it to end.") from error
        yield
    finally:
        os.close(descriptor)


def write_whole(path: Path, data: bytes) -> None:
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
            write_whole(target.with_name(f"{target.name}.reason.txt"), f"{reason}\n".encode())
        path.rename(target)
        durable.sync_folder(folder)
        durable.sync_folder(path.parent)
    return target


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
