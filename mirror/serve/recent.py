"""What was used last and fits into so much memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """Values by name; those used longest ago go when all together weigh more than *limit*. Safe for threads."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._held: OrderedDict[str, tuple[T, int]] = OrderedDict()
        self._weight = 0

    def get(self, name: str) -> T | None:
        """The value of that name, if it is still here."""
        with self._lock:
            found = self._held.get(name)
            if found is None:
                return None
            self._held.move_to_end(name)
            return found[0]

    def put(self, name: str, value: T, weight: int) -> None:
        """Hold *value*, unless it weighs too much by itself."""
        with self._lock:
            if name in self._held:
                self._weight -= self._held.pop(name)[1]
            self._held[name] = value, weight
            self._weight += weight
            while self._weight > self._limit:
                self._weight -= self._held.popitem(last=False)[1][1]
