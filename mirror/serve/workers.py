"""Several processes that answer on one socket, and the one that starts them again and ends them."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.reduction import ForkingPickler
from types import MappingProxyType

from mirror.errors import AirgapError, StorageError
from mirror.serve.repository import LOG

#: What a process does: it gets its link to the one that watches over it, and must be picklable.
Work = Callable[["Link"], None]

#: Seconds that a worker has to end before it is killed, and between starts of one that keeps ending.
_PATIENCE = 20.0
_LONGEST_REST = 30.0


@dataclass(frozen=True)
class Link:
    """A worker's end of the line to whoever started it."""

    pipe: Connection

    def ready(self) -> None:
        """Say that this worker answers."""
        self.pipe.send("")

    def when_gone(self, end: Callable[[], None]) -> None:
        """Call *end*, from a thread, when the one who started this worker is no more."""

        def listen() -> None:
            with contextlib.suppress(EOFError, OSError):
                self.pipe.recv()
            end()

        threading.Thread(target=listen, name="airgap-parent", daemon=True).start()


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: Connection
    is_ready: bool = field(default=False)


def supervise(count: int, work: Work, announce: Callable[[], None], shared: str) -> None:
    """Run *work* in *count* processes until SIGINT or SIGTERM; *announce* is called once, when all of them answer.

    *shared* is the environment variable in which they find a folder of their own. One that ends is started again; a
    StorageError where one ends before it has ever answered.
    """
    with tempfile.TemporaryDirectory(prefix="airgap-workers-") as folder, _told_to_end() as told:
        workers: list[_Worker] = []
        os.environ[shared] = folder  # inherited: what reads it does so as soon as it is imported
        try:
            for _ in range(count):
                workers.append(_start(work))  # noqa: PERF401 - one that fails must not hide those before it
            _watch(workers, told, count, lambda: _start(work), announce)
        finally:
            _end(workers)
            del os.environ[shared]


def _watch(
    workers: list[_Worker], told: Connection, count: int, start: Callable[[], _Worker], announce: Callable[[], None]
) -> None:
    announced, rest, due = False, 0.0, 0.0
    while True:
        missing = count - len(workers)
        waiting = [told, *(each.pipe for each in workers)]
        found = wait(waiting, max(0.0, due - time.monotonic()) if missing else None)
        if told in found:
            return
        for worker in [each for each in workers if each.pipe in found]:
            said = _hear(worker)
            if said == "":
                worker.is_ready, rest = True, 0.0
                continue
            workers.remove(worker)
            worker.process.join()
            worker.pipe.close()
            said = said or f"A worker ended with code {worker.process.exitcode}."
            if not announced:
                raise StorageError(said)
            LOG.warning("%s Another one is started.", said)
            rest = min(_LONGEST_REST, 2 * rest) if rest else 0.5
            due = time.monotonic() + (0.0 if worker.is_ready else rest)
        if not announced and all(each.is_ready for each in workers):
            announced = True
            announce()
        if count > len(workers) and time.monotonic() >= due:
            workers += [start() for _ in range(count - len(workers))]


def _hear(worker: _Worker) -> str | None:
    """Empty where the worker answers now, why it ended where it could say so, None where it is gone."""
    try:
        return str(worker.pipe.recv())
    except (EOFError, OSError):
        return None


def _start(work: Work) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(work, theirs), name="airgap-worker")
    process.start()
    theirs.close()  # or its end would never be seen
    return _Worker(process, ours)


def _run(work: Work, pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent then ends this one
    try:
        work(Link(pipe))
    except AirgapError as error:
        with contextlib.suppress(OSError):
            pipe.send(f"{error} {error.hint}".strip())


def _end(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.process.terminate()
    deadline = time.monotonic() + _PATIENCE
    for worker in workers:
        worker.process.join(max(0.0, deadline - time.monotonic()))
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.pipe.close()


@contextlib.contextmanager
def _told_to_end() -> Iterator[Connection]:
    """A connection that has something to read once SIGINT or SIGTERM came."""
    told, tell = multiprocessing.get_context("spawn").Pipe(duplex=False)
    before = {number: signal.signal(number, lambda *_: tell.send_bytes(b"!")) for number in _SIGNALS}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        told.close()
        tell.close()


_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def _mapping(items: dict[object, object]) -> MappingProxyType[object, object]:
    return MappingProxyType(items)  # by a function, since the type itself has no name that pickle finds


def _reduce_mapping(
    mapping: MappingProxyType[object, object],
) -> tuple[Callable[..., object], tuple[dict[object, object]]]:
    return _mapping, (dict(mapping),)


# Settings have mappings that nobody can change, which pickle does not know.
ForkingPickler.register(MappingProxyType, _reduce_mapping)
