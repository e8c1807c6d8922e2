"""Files on their way from the source to the repository: unpacked in the background, in an order that nobody waits for.

Unpacking is limited by processors, sending by the network: it has threads of its own, so that few hold large buffers,
and so that projects whose turn has come are unpacked while others are sent.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from mirror.errors import StorageError
from mirror.push.publisher import Source
from mirror.push.scratch import scratch

_THREADS = 3
# Bytes of files that are unpacked, or are about to be, before anybody has asked for them, and projects.
_AHEAD = 64 * 1024 * 1024
_PROJECTS_AHEAD = 128
_NO_ROOM = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})


class Unpacker:
    """The files of *source* in *folder*, project by project; safe for threads."""

    def __init__(self, source: Source, folder: Path, threads: ThreadPoolExecutor) -> None:
        self._source = source
        self._folder = folder
        self._threads = threads
        self._lock = threading.Lock()
        self._sizes: dict[str, int] = {}
        self._next: Iterator[str] = iter(())
        self._ahead: dict[str, Future[dict[str, Path]]] = {}
        self._ahead_size = 0
        self._at_work = 0
        self._taken: set[str] = set()  # before it was their turn

    def start(self, projects: Iterable[str]) -> None:
        """Unpack *projects*, which will probably be taken in this order, ahead of that as far as it is not too much."""
        for file in self._source.manifest.files:
            if file.carrier is None:
                self._sizes[file.project] = self._sizes.get(file.project, 0) + file.size
        self._next = iter(projects)
        self._go_on()

    def take(self, project: str) -> dict[str, Path]:
        """The files of *project* by name, every digest checked; they are the caller's to remove.

        Raises an IntegrityError where they are not what the manifest promises, a StorageError where there is no room.
        """
        with self._lock:
            begun = self._ahead.pop(project, None)
            if begun is None:
                self._taken.add(project)
            else:
                self._ahead_size -= self._sizes[project]
        try:
            return (begun or self._threads.submit(self._unpack, project)).result()
        finally:
            self._go_on()

    def _go_on(self, ended: int = 0) -> None:
        """Begin with what comes next. No more than there are threads: who must wait waits for no queue."""
        with self._lock:
            self._at_work -= ended
            while self._at_work < _THREADS and self._ahead_size < _AHEAD and len(self._ahead) < _PROJECTS_AHEAD:
                project = next((each for each in self._next if each not in self._taken), None)
                if project is None:
                    return
                try:
                    self._ahead[project] = self._threads.submit(self._unpack_ahead, project)
                except RuntimeError:  # it is all over
                    return
                self._ahead_size += self._sizes[project]
                self._at_work += 1

    def _unpack_ahead(self, project: str) -> dict[str, Path]:
        try:
            return self._unpack(project)
        finally:
            self._go_on(ended=1)

    def _unpack(self, project: str) -> dict[str, Path]:
        try:
            return {path.name: path for path in self._source.spool(project, self._folder)}
        except OSError as error:
            raise self._without_room(project, error) from error
        except StorageError as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and cause.errno in _NO_ROOM:
                raise self._without_room(project, cause) from error
            raise

    def _without_room(self, project: str, error: OSError) -> StorageError:
        return StorageError(
            f"No room to unpack {project} in {self._folder}: {error.strerror}.",
            hint="Set TMPDIR to a folder with more space, then run the same command again.",
        )


@contextmanager
def unpacking(source: Source) -> Iterator[Unpacker]:
    """Yield what unpacks *source* into a temporary folder, which is removed at the end; TMPDIR says where.

    Raises a StorageError where there is no room.
    """
    with scratch() as folder:
        threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="airgap-unpack")
        try:
            yield Unpacker(source, folder, threads)
        finally:
            threads.shutdown(cancel_futures=True)
