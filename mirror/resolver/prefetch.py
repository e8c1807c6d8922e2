"""Fetches index pages and metadata that the resolver will probably ask for, while it is still thinking.

A walk follows the greedy choice, the first candidate of each need, from level to level in the background. Whatever it
guesses wrong costs a request and nothing else: answers are kept by the index and the metadata source, the resolver
asks them again and decides for itself, and an error here is met there again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from threading import Lock
from types import TracebackType

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


class Prefetcher:
    """A pool of *workers* threads that reads ahead, none for not at all; use it as a context manager.

    *pinned* is called with each file that the user's own line pins exactly: whatever the search finds, it is that one.
    """

    def __init__(self, metadata: MetadataSource, *, workers: int, pinned: Callable[[File], None]) -> None:
        self._metadata = metadata
        self._pinned = pinned
        self._pool = ThreadPoolExecutor(workers or 1, thread_name_prefix="prefetch")
        self._lock = Lock()
        self._walked: set[tuple[str, NormalizedName, NormalizedName | None]] = set()
        self._backtracks: Counter[tuple[str, NormalizedName]] = Counter()
        self._closed = workers == 0

    def __enter__(self) -> Prefetcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        self._pool.shutdown(wait=True, cancel_futures=True)

    def walk(self, finder: Finder, markers: Markers, need: Need) -> None:
        """Read ahead from *need*: its page, its best candidate's metadata, and what that needs in turn."""
        key = (finder.target.name, need.project, need.extra)
        with self._lock:
            if self._closed or key in self._walked:
                return
            self._walked.add(key)
        self._pool.submit(self._walk, finder, markers, need)

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
        except (AirgapError, RuntimeError):  # RuntimeError: the pool was shut down meanwhile
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
                self._pool.submit(self._read, candidate.file)

    def _read(self, file: File) -> None:
        try:
            self._metadata.read(file)
        except AirgapError:
            return
