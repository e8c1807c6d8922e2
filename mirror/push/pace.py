"""How many uploads a repository gets at a time: few where it is near, fewer where it struggles, more where it waits."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

from mirror.models import Hashes
from mirror.net.retry import LONGEST_RETRY_AFTER
from mirror.push.publisher import Publisher, Upload

#: Uploads at a time to begin with, where the repository answers at once.
FEW = 1
# Seconds of a processor's time that a request takes here: more at a time than fit into the wait for one bring nothing.
_OWN = 0.002
# An answer that takes so many times as long as the fastest one waits for others, at this end or at the other.
_CROWDED = 2.0
# How much of what is known of the waiting time comes from the last answer.
_FRESH = 0.25


class Pace:
    """Lets at most *most* uploads run at a time. Safe for threads.

    How long the repository takes to answer small questions (:meth:`answered`) says where to begin: with FEW where it is
    near, with more where most of the time is spent waiting. Each upload without a sign of strain (:meth:`fine`) adds
    one, unless answers have come to take longer: then whoever computes is at a limit, more at a time only wait for each
    other, and each takes one away. The server's 429, 503 or silence halves the number (:meth:`slower`), and a
    Retry-After holds back everybody, not only the request that was told; from then on a round of uploads adds one.
    """

    def __init__(self, most: int, stop: threading.Event) -> None:
        self._most = most
        self._stop = stop
        self._changed = threading.Condition()
        self._limit = most
        self._begun = False
        self._fastest = math.inf
        self._usual = 0.0
        self._running = 0
        self._in_a_row = 0
        self._slowed = 0.0
        self._resume = 0.0

    @property
    def limit(self) -> int:
        """How many may run now."""
        return self._limit

    @contextmanager
    def turn(self) -> Iterator[float]:
        """Wait for a turn, or for the push to stop; yields when it began, for :meth:`slower`."""
        with self._changed:
            if not self._begun:
                self._begun = True
                if self._fastest < math.inf:
                    self._limit = min(self._most, max(FEW, round(self._fastest / _OWN)))
            while not self._stop.is_set():
                pause = self._resume - time.monotonic()
                if pause <= 0 and self._running < self._limit:
                    break
                # Whoever sets the event does not notify: look at it now and then.
                self._changed.wait(min(pause, 0.2) if pause > 0 else 0.2)
            self._running += 1
        try:
            yield time.monotonic()
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify()

    def answered(self, seconds: float) -> None:
        """Count how long a small question took."""
        with self._changed:
            self._fastest = min(self._fastest, seconds)
            self._usual += (seconds - self._usual) * (_FRESH if self._usual else 1.0)

    def fine(self) -> None:
        """Count an upload that shows no strain."""
        with self._changed:
            self._in_a_row += 1
            if self._usual > _CROWDED * self._fastest:
                self._limit = max(min(FEW, self._limit), self._limit - 1)
                return
            if (self._in_a_row >= self._limit or not self._slowed) and self._limit < self._most:
                self._limit += 1
                self._in_a_row = 0
                self._changed.notify()

    def slower(self, began: float, wait: float | None) -> bool:
        """Take a sign of strain on a request that *began* then; *wait* is its Retry-After in seconds, or None.

        Requests that were under way together are one sign. Returns whether fewer will run from now on.
        """
        with self._changed:
            now = time.monotonic()
            if wait is not None:
                self._resume = max(self._resume, now + min(wait, LONGEST_RETRY_AFTER))
            self._in_a_row = 0
            if began < self._slowed or self._limit == 1:
                return False
            self._slowed = now
            self._limit = max(1, self._limit // 2)
            return True


class Timed:
    """*publisher*, whose listings are the small questions that *pace* counts."""

    def __init__(self, publisher: Publisher, pace: Pace) -> None:
        self._publisher = publisher
        self._pace = pace
        self.url = publisher.url

    @property
    def digests(self) -> Collection[str]:
        return self._publisher.digests

    def projects(self) -> Collection[str] | None:
        return self._publisher.projects()

    def listing(self, project: str) -> Mapping[str, Hashes]:
        with self._timed():
            return self._publisher.listing(project)

    def listing_for(self, project: str, sent: Mapping[str, Hashes]) -> Mapping[str, Hashes]:
        with self._timed():
            return self._publisher.listing_for(project, sent)

    @property
    def lists_all(self) -> bool:
        return self._publisher.lists_all

    def listings(self, projects: Collection[str]) -> Mapping[str, Hashes] | None:
        return self._publisher.listings(projects)

    def arrived(self, projects: Collection[str]) -> Collection[str]:
        return self._publisher.arrived(projects)

    def digest(self, project: str, filename: str) -> str | None:
        return self._publisher.digest(project, filename)

    def upload(self, upload: Upload) -> None:
        self._publisher.upload(upload)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        began = time.monotonic()
        yield
        self._pace.answered(time.monotonic() - began)
