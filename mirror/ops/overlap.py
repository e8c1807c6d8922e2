"""What pack does at the same time: a project is compressed while others are still being downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from threading import Lock

from mirror.bundle import Frames
from mirror.errors import StorageError
from mirror.fetch import Fetched, Fetcher
from mirror.models import File, Plan
from mirror.store import Store


def frames_beside(output: Path, store: Store) -> Frames:
    """Where projects are compressed in the background: in the folder of *output*, made if need be."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"Can't write {output}: {error.strerror or error}.") from error
    return Frames(store, output.parent)


def compress_when_fetched(plan: Plan, fetcher: Fetcher, frames: Frames) -> None:
    """Begin to compress each project of several files as soon as the last of them has been downloaded.

    What the store had already waits: the bundle may turn out to be written already, and there is time enough. So does
    a project of one file: compressing it takes less time than writing it and goes on beside that, and keeping it in
    between would take a second writing.
    """
    projects: dict[str, list[File]] = {}
    for file in plan.files().values():
        projects.setdefault(file.project, []).append(file)
    for project, files in projects.items():
        futures = [fetcher.start(file) for file in files]
        if len(futures) > 1 and not all(future.done() for future in futures):
            _Project(project, futures, frames)


class _Project:
    """Counts down the files of one project."""

    def __init__(self, name: str, futures: Sequence[Future[Fetched]], frames: Frames) -> None:
        self._name = name
        self._futures = futures
        self._frames = frames
        self._left = len(futures)
        self._lock = Lock()
        for future in futures:
            future.add_done_callback(self._done)

    def _done(self, _: Future[Fetched]) -> None:
        with self._lock:
            self._left -= 1
            if self._left:
                return
        if any(future.cancelled() or future.exception() for future in self._futures):
            return  # the fetcher tells whoever waits for it
        fetched = [future.result() for future in self._futures]
        self._frames.start(self._name, [(one.file.filename, one.sha256, one.size) for one in fetched])
