"""For what happens soon after, in another thread or process."""

from __future__ import annotations

import time
from collections.abc import Callable

_SECONDS = 30


def wait_for(true: Callable[[], bool]) -> None:
    """Return once *true* returns True; an AssertionError where that takes longer than any machine needs."""
    deadline = time.monotonic() + _SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)
