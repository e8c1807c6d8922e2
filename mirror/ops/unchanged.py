"""A bundle that is there already is not written again."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from threading import Event, Thread

from mirror.models import Written
from mirror.store import Store

_NAMESPACE = "bundles"
_BLOCK = 1024 * 1024


class Existing(AbstractContextManager["Existing"]):
    """What is at *path*, read and hashed in the background from here on, while the set is still being resolved."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stop = Event()
        self._hashed: tuple[os.stat_result, str] | None = None
        self._thread = Thread(target=self._hash, name="existing")
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def unchanged(self, identity: str, store: Store) -> Written | None:
        """The bundle there, if it is, byte for byte, what airgap wrote for the manifest *identity*; else None.

        A copy that was cut short or altered is none, and so is one that was touched since it was read.
        """
        note = store.note(_NAMESPACE, identity)
        if note is None:
            self._stop.set()
        self._thread.join()  # in any case: Windows replaces no file that somebody reads
        if note is None or self._hashed is None:
            return None
        seen, digest = self._hashed
        with suppress(OSError):
            now = self._path.stat()
            same = os.path.samestat(seen, now) and (seen.st_size, seen.st_mtime_ns) == (now.st_size, now.st_mtime_ns)
            if same and json.loads(note) == _note(digest, seen.st_size):
                return Written(self._path, identity, digest, seen.st_size)
        return None

    def _hash(self) -> None:
        digest = hashlib.sha256()
        with suppress(OSError):
            if not self._path.is_file():
                return
            with self._path.open("rb", buffering=0) as file:
                seen = os.fstat(file.fileno())
                while not self._stop.is_set():
                    chunk = file.read(_BLOCK)
                    if not chunk:
                        self._hashed = seen, digest.hexdigest()
                        return
                    digest.update(chunk)


def remember(written: Written, store: Store) -> None:
    """Keep what :meth:`Existing.unchanged` compares with. The same manifest always gives the same bytes."""
    store.set_note(_NAMESPACE, written.identity, json.dumps(_note(written.sha256, written.size)).encode())


def _note(sha256: str, size: int) -> dict[str, str | int]:
    return {"sha256": sha256, "size": size}
