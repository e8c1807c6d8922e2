"""Fetches index pages and metadata that the resolver will probably ask for, while it is still thinking.

A walk follows the greedy choice, the first candidate of each need, from level to level in the background. Whatever it
guesses wrong costs a request and nothing else: answers are kept by the index and the metadata source, the resolver
asks them again and decides for itself, and an error here is met there again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, suppress
from functools import partial
from itertools import islice
from queue import SimpleQueue
from threading import Lock, Thread

from packaging.utils import NormalizedName

from mirror.errors import AirgapError
from mirror.models import File
from mirror.resolver.candidates import Finder
from mirror.resolver.dependencies import Markers, dependencies
from mirror.resolver.needs import Candidate, Need
from mirror.resolver.protocols import MetadataSource

# How many candidates to read ahead at the first rejection, twice as many at the second, fourth, … up to the largest.
_FIRST_BATCH = 4
_LARGEST_BATCH = 32


class Prefetcher(AbstractContextManager["Prefetcher"]):
    """A pool of *workers* threads that reads ahead, none for not at all; use it as a context manager.

    *pinned* is called with each file that the user's own line pins exactly: whatever the search finds, it is that one.
    """

    def __init__(self, metadata: MetadataSource, *, workers: int, pinned: Callable[[File], None]) -> None:
        self._metadata = metadata
        self._pinned = pinned
        # No executor: thousands of tasks wait here, and each would have a future that nobody looks at.
        self._tasks: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._threads: list[Thread] = []
        self._workers = workers
        self._lock = Lock()
        #: By target. A project, or one extra of it.
        self._walked: dict[str, set[NormalizedName | tuple[NormalizedName, NormalizedName]]] = {}
        self._backtracks: Counter[tuple[str, NormalizedName]] = Counter()
        self._closed = workers == 0

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        with self._lock:
            self._closed = True
        for _ in self._threads:
            self._tasks.put(None)
        if kind is not None and not issubclass(kind, Exception):
            return  # Ctrl-C: an index that does not answer keeps nobody waiting
        for thread in self._threads:
            thread.join()

    def walk(self, finder: Finder, markers: Markers, need: Need) -> None:
        """Read ahead from *need*: its page, its best candidate's metadata, and what that needs in turn."""
        key = need.project if need.extra is None else (need.project, need.extra)
        with self._lock:
            walked = self._walked.setdefault(finder.target.name, set())
            if self._closed or key in walked:
                return
            walked.add(key)
        self._submit(partial(self._walk, finder, markers, need))

    def _walk(self, finder: Finder, markers: Markers, need: Need) -> None:
        try:
            candidate = next(finder.candidates(need.project, need.extra, [need]), None)
            # An sdist's metadata costs the whole sdist: the resolver may not want it in the end.
            if candidate is None or self._closed or not candidate.file.is_wheel:
                return
            if need.is_exact and need.parent is None:
                self._pinned(candidate.file)
            for further in dependencies(candidate, self._metadata.read(candidate.file), markers):
                self.walk(finder, markers, further)
        except AirgapError:
            return

    def backtracking(self, finder: Finder, rejected: Candidate, needs: Collection[Need]) -> None:
        """Read metadata of the next older candidates: who goes back one version often goes back many."""
        key = (finder.target.name, rejected.project)
        with self._lock:
            if self._closed:
                return
            self._backtracks[key] += 1
            times = self._backtracks[key]
        if times & (times - 1) and times % _LARGEST_BATCH:
            return  # the batch read ahead last still lasts
        candidates = finder.candidates(rejected.project, None, needs)
        older = (candidate for candidate in candidates if candidate.version < rejected.version)
        for candidate in islice(older, min(_FIRST_BATCH * times, _LARGEST_BATCH)):
            if candidate.file.is_wheel:
                self._submit(partial(self._read, candidate.file))

    def _submit(self, task: Callable[[], object]) -> None:
        with self._lock:
            if self._closed:
                return
            self._tasks.put(task)
            if len(self._threads) < self._workers:
                thread = Thread(target=self._work, name=f"prefetch-{len(self._threads)}", daemon=True)
                thread.start()
                self._threads.append(thread)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            if not self._closed:
                with suppress(Exception):  # whatever it is, the resolver meets it again
                    task()

    def _read(self, file: File) -> None:
        try:
            self._metadata.read(file)
        except AirgapError:
            return
