"""The audit log: one line of JSON for each write, who did what to which file."""

from __future__ import annotations

import getpass
import json
import os
from datetime import datetime, timezone
from pathlib import Path

from mirror.errors import StorageError


class Audit:
    """Appends to the file at *path*; many processes may."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, actor: str, action: str, repository: str, filename: str = "", sha256: str = "") -> None:
        """Note that *actor*, such as ``alice@192.0.2.7``, did *action*."""
        moment = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        said = {"time": moment, "actor": actor, "action": action, "repository": repository}
        said |= {key: value for key, value in (("file", filename), ("sha256", sha256)) if value}
        line = json.dumps(said, ensure_ascii=True).encode() + b"\n"
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # One write in append mode: lines of many processes don't mix.
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
            try:
                os.write(descriptor, line)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StorageError(f"The audit log {self._path} can't be written: {error.strerror}.") from error


def local_actor() -> str:
    """Who writes without a server: the user of this process."""
    try:
        return f"local:{getpass.getuser()}"
    except (KeyError, OSError, ImportError):
        return "local"
