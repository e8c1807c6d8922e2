"""What several threads ask for is found once, and then kept without what the waiting took.

A future holds a lock and a queue: twenty times the memory of most answers, of which a run keeps thousands.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")


class Once(Generic[KeyT, ValueT]):
    """Answers by key. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[KeyT, ValueT] = {}
        self._pending: dict[KeyT, Future[ValueT]] = {}

    def get(self, key: KeyT, find: Callable[[], ValueT]) -> ValueT:
        """What *find* returns or raises, called by whichever thread comes first while the others wait."""
        with self._lock:
            if key in self._known:
                return self._known[key]
            future = self._pending.get(key)
            first = future is None
            if future is None:
                future = self._pending[key] = Future()
        if first:
            try:
                value = find()
            except BaseException as error:  # noqa: BLE001 - whoever waits must see it too, and so must who comes later
                future.set_exception(error)
            else:
                with self._lock:
                    if self._pending.get(key) is future:  # else it was to be forgotten meanwhile
                        self._known[key] = value
                        del self._pending[key]
                future.set_result(value)
        return future.result()

    def known(self, key: KeyT) -> ValueT | None:
        """What :meth:`get` returned for *key* already; None where nobody asked, or there was no answer."""
        with self._lock:
            return self._known.get(key)

    def forget(self) -> None:
        """Drop every answer; who asks again has it found anew."""
        with self._lock:
            self._known.clear()
            self._pending.clear()
