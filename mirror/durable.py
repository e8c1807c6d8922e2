"""Writing that survives a power cut: temporary file, sync, rename, sync of the folder; and locks that it frees."""

from __future__ import annotations

import errno
import os
import stat
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


def write_whole(path: Path, data: bytes | Iterable[bytes], *, mode: int = 0o644) -> None:
    """Give *path* the content *data*, in one piece or many, all or none, and durably; its folder is made if need be.

    *mode* are the permissions of the file, where its file system has any, and from its first byte on never more. A
    device or a pipe is written to as it is. Raises OSError.
    """
    if is_device(path):
        with path.open("wb") as stream:
            stream.writelines([data] if isinstance(data, bytes) else data)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.writelines([data] if isinstance(data, bytes) else data)
            stream.flush()
            os.fsync(stream.fileno())
        permit(part, mode)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(path.parent)


def permit(path: Path, mode: int) -> None:
    """Give *path*, which was made for its owner only, the permissions *mode*, where its file system has any.

    FAT, exFAT and network shares have those that they were mounted with, and often refuse to be told others.
    """
    with suppress(OSError):
        path.chmod(mode)


def is_device(path: Path) -> bool:
    """Whether *path* is a device or a pipe, such as ``/dev/null``, in whose place root could put a file."""
    try:
        kind = path.stat().st_mode
    except OSError:
        return False
    # What /dev/stdout leads to may well be a file.
    return not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)) or path.absolute().parent == Path("/dev")


def check_writable(folder: Path) -> None:
    """Raise the OSError that a new file in *folder*, which is made if need be, would lead to; nothing is left."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def sync_folder(folder: Path) -> None:
    """Make a rename in *folder* survive a power cut. Windows can't and need not; some file systems refuse."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def try_lock(descriptor: int) -> bool:
    """Take the lock of an open file, which the operating system frees with it; False where somebody else holds it."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
            raise
        return False
    return True
