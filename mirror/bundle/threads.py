"""Several tasks at a time, until all are done or one has failed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait

# Seconds after which whoever waits for threads looks up: Windows hears Ctrl-C only between two waits.
_PATIENCE = 1.0


def run(tasks: Iterable[Callable[[threading.Event], None]], threads: int) -> None:
    """Run all; the first to fail stops the others, and its error is raised."""
    stop = threading.Event()
    lock = threading.Lock()
    waiting = enumerate(tasks)
    failed: dict[int, BaseException] = {}

    def work() -> None:
        while not stop.is_set():
            with lock:
                number, task = next(waiting, (0, None))
            if task is None:
                return
            try:
                task(stop)
            except BaseException as error:  # noqa: BLE001 - raised below
                failed[number] = error
                stop.set()

    threads = max(1, threads)
    with ThreadPoolExecutor(threads, "bundle") as executor:
        left = {executor.submit(work) for _ in range(threads)}
        try:
            while left:
                left = wait(left, _PATIENCE).not_done
        finally:
            stop.set()
    if failed:
        raise failed[min(failed)]
