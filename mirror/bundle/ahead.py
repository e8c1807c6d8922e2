"""Working ahead: what an iterator takes time for is done in a thread of its own, a few steps before it is wanted."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from queue import SimpleQueue
from threading import Semaphore, Thread
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def ahead(items: Generator[T], steps: int) -> Iterator[Iterator[T]]:
    """Yield an iterator over *items*, which are produced no more than *steps* ahead and not after the block has ended.

    What *items* raises is raised where its item would have come.
    """
    produced: SimpleQueue[tuple[T] | BaseException | None] = SimpleQueue()
    room = Semaphore(steps)
    wanted = True

    def produce() -> None:
        try:
            with closing(items):
                for item in items:
                    produced.put((item,))
                    room.acquire()
                    if not wanted:
                        return
            produced.put(None)
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            produced.put(error)

    def consume() -> Iterator[T]:
        while (found := produced.get()) is not None:
            if isinstance(found, BaseException):
                raise found
            yield found[0]
            room.release()

    thread = Thread(target=produce, name="ahead")
    thread.start()
    try:
        yield consume()
    finally:
        wanted = False
        room.release()
        thread.join()
