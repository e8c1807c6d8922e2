"""How many requests a repository gets at a time: fewer as soon as it struggles, more again while it does not."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from mirror.net.retry import LONGEST_RETRY_AFTER


class Pace:
    """Lets at most *most* requests run at a time. Safe for threads.

    The server's 429, 503 or silence halves the number (:meth:`slower`), and a Retry-After holds back everybody, not
    only the request that was told; a round of requests without such an answer adds one (:meth:`fine`).
    """

    def __init__(self, most: int, stop: threading.Event) -> None:
        self._most = most
        self._stop = stop
        self._changed = threading.Condition()
        self._limit = most
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

    def fine(self) -> None:
        """Count an answer that shows no strain."""
        with self._changed:
            self._in_a_row += 1
            if self._in_a_row >= self._limit < self._most:
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
