"""Files on their way from the source to the repository: unpacked in the background, in an order that nobody waits for.

Unpacking is limited by processors, sending by the network: it has threads of its own, so that few hold large buffers,
and so that projects whose turn has come are unpacked while others are sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from mirror.errors import StorageError
from mirror.push.publisher import Source
from mirror.push.scratch import scratch

_THREADS = 3
# Bytes of files that are unpacked before anybody has asked for them.
_AHEAD = 64 * 1024 * 1024


class Unpacker:
    """The files of *source* in *folder*, project by project; safe for threads."""

    def __init__(self, source: Source, folder: Path, threads: ThreadPoolExecutor) -> None:
        self._source = source
        self._folder = folder
        self._threads = threads
        self._ahead: dict[str, Future[dict[str, Path]]] = {}

    def start(self, projects: Iterable[str]) -> None:
        """Begin with *projects*, which will be taken in this order, as far as that is not too much."""
        sizes: dict[str, int] = {}
        for file in self._source.manifest.files:
            if file.carrier is None:
                sizes[file.project] = sizes.get(file.project, 0) + file.size
        ahead = 0
        for project in projects:
            ahead += sizes[project]
            if ahead > _AHEAD:
                return
            self._ahead[project] = self._threads.submit(self._unpack, project)

    def take(self, project: str) -> dict[str, Path]:
        """The files of *project* by name, every digest checked; they are the caller's to remove.

        Raises an IntegrityError where they are not what the manifest promises, a StorageError where there is no room.
        """
        begun = self._ahead.pop(project, None) or self._threads.submit(self._unpack, project)
        return begun.result()

    def _unpack(self, project: str) -> dict[str, Path]:
        try:
            return {path.name: path for path in self._source.spool(project, self._folder)}
        except OSError as error:
            raise StorageError(f"No room to unpack {project} in {self._folder}: {error.strerror}.") from error


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
