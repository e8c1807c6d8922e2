"""When to try again, and how long to wait first. The only place that decides it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from mirror.errors import NetworkError

#: Statuses that may be gone at the next try (520 to 527 are Cloudflare's for an origin that can't be reached).
TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504, *range(520, 528)})

#: Seconds.
FIRST_DELAY = 0.25
LONGEST_DELAY = 10.0
LONGEST_RETRY_AFTER = 60.0


class Transient(Exception):  # noqa: N818 - not an error by itself: it carries the one that will be raised
    """A try failed in a way that may pass; ``wait`` is the server's Retry-After in seconds, or None."""

    def __init__(self, error: NetworkError, wait: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.wait = wait


class Tries:
    """Counts the failures in a row of one request and sleeps between them; ``stop`` cuts a sleep short."""

    def __init__(self, retries: int, stop: threading.Event) -> None:
        self._retries = retries
        self._stop = stop
        self._failures = 0

    def progress(self) -> None:
        """Bytes arrived: what comes now is the first failure again."""
        self._failures = 0

    def failed(self, failure: Transient) -> None:
        """Sleep before the next try, or raise the failure's error where none is left."""
        self._failures += 1
        if self._failures > self._retries:
            raise failure.error
        if self._stop.wait(delay(self._failures, failure.wait)):
            raise failure.error


def delay(failures: int, wait: float | None) -> float:
    """Seconds before the next try: what the server asks for, else exponential backoff with full jitter."""
    if wait is not None:
        return min(wait, LONGEST_RETRY_AFTER)
    ceiling = min(FIRST_DELAY * 2.0 ** min(failures - 1, 16), LONGEST_DELAY)
    return random.uniform(0, ceiling)  # noqa: S311 - spreads load, hides nothing


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a Retry-After header asks for (RFC 9110: a number or a date), or None."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
