"""Distribution files into the store: concurrent, resumed, verified, none of them twice."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from mirror.errors import AirgapError, IntegrityError, NetworkError, StorageError
from mirror.models import Event, File, Reporter, Stage, silent
from mirror.net import Client
from mirror.store import Receiver, Store
from mirror.urls import redact

#: Threads to begin with: on a fast link the processor is the limit, and more of them get into each other's way.
FIRST_WORKERS = 2
MOST_WORKERS = 16
#: Small files that may wait for the disk in memory, at most 128 KiB each.
MOST_KEPT = 32
#: Seconds after which whoever waits for files looks up: Windows hears Ctrl-C only between two waits.
_LOOK = 1.0
_NAMESPACE = "digests"
_BLOCK = 1024 * 1024
_OTHER_BYTES = "Try again; if it stays so, tell whoever runs the index, or pin another version."


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that is in the store under ``sha256``; ``size`` is in bytes."""

    file: File
    sha256: str
    size: int


class Fetcher(AbstractContextManager["Fetcher"]):
    """Fetches files in the background, in the order in which they were started; a context manager.

    Leaving it stops what is still under way at the next chunk; the store keeps the bytes for the next run.
    """

    def __init__(self, client: Client, store: Store, *, workers: int = MOST_WORKERS, report: Reporter = silent) -> None:
        self._client = client
        self._store = store
        self._report = report
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="fetch")
        self._keeping = ThreadPoolExecutor(1, thread_name_prefix="keep")
        self._lock = threading.Lock()
        self._stop = threading.Event()
        # A future takes ten times the memory of what it results in: of files that are here, only that is kept.
        self._futures: dict[tuple[str, str], Future[Fetched]] = {}
        self._fetched: dict[tuple[str, str], Fetched] = {}
        self._waiting: deque[tuple[Future[Fetched], File]] = deque()
        self._running = self._kept = 0
        self._pace = _Pace(workers)
        self._items = self._bytes = 0

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop what is still under way, also what waits for a server, and end the stage; the client stays open."""
        self._stop.set()
        with self._lock:
            waiting, self._waiting = self._waiting, deque()
        for future, _ in waiting:
            future.cancel()
        self._client.hang_up()  # a server that sends nothing more would hold up its thread until the timeout
        self._pool.shutdown()
        self._keeping.shutdown()
        self._end()

    def start(self, file: File) -> Future[Fetched]:
        """Begin to fetch *file* unless that has been done; the result is there once the store has it, verified."""
        key = file.key
        with self._lock:
            fetched, future = self._fetched.get(key), self._futures.get(key)
            if future is not None:
                return future
            future = Future()
            if fetched is None:
                self._futures[key] = future
        if fetched is not None:
            future.set_result(fetched)
            return future
        try:
            known = self._known(file)
        except AirgapError as error:
            future.set_exception(error)
            return future
        if known is not None:
            self._settle(key, future, known)
            return future
        if file.hashes.strongest is None:
            self._report(
                Event("warning", Stage.DOWNLOAD, f"{file.filename}: the index shows no digest; its bytes go unchecked.")
            )
        with self._lock:
            if self._stop.is_set():
                future.cancel()
                return future
            self._items += 1
            self._bytes += file.size or 0
            items, size = self._items, self._bytes
            self._waiting.append((future, file))
        self._report(Event("begin", Stage.DOWNLOAD, items=items, bytes=size))
        self._employ()
        return future

    def keep(self, file: File, data: bytes) -> None:
        """Put *data*, all of *file* and checked, into the store in the background: :meth:`start` waits for that.

        On a disk that is slower than what comes, whoever comes with more of it waits: little is held in memory.
        """
        key = file.key
        with self._lock:
            if key in self._futures or key in self._fetched or self._stop.is_set():
                return
            future = self._futures[key] = Future()
            crowded = self._kept >= MOST_KEPT
            if not crowded:
                self._kept += 1
                self._keeping.submit(self._keep_later, future, file, data)
        if crowded:
            self._keep(future, file, data)

    def _keep_later(self, future: Future[Fetched], file: File, data: bytes) -> None:
        self._keep(future, file, data)
        with self._lock:
            self._kept -= 1

    def _keep(self, future: Future[Fetched], file: File, data: bytes) -> None:
        try:
            self._settle(file.key, future, Fetched(file, self._store.add(data), len(data)))
        except BaseException as error:  # noqa: BLE001 - whoever waits for the result must see it
            future.set_exception(error)

    def fetch(self, files: Iterable[File]) -> dict[str, Fetched]:
        """Fetch all *files* and return them by name; the first failure stops the others and is raised."""
        futures = {file.filename: self.start(file) for file in files}
        needed = set(futures.values())
        with self._lock:  # what a resolver started on a guess can wait; the largest file must not come last
            self._waiting = deque(
                sorted(self._waiting, key=lambda entry: (entry[0] not in needed, -(entry[1].size or 0)))
            )
        failed, left = False, needed
        while left and not failed:
            done, left = wait(needed, _LOOK, FIRST_EXCEPTION)
            failed = any(future.cancelled() or future.exception() is not None for future in done)
        if failed:
            self.close()
            for future in futures.values():  # a failure of its own, rather than having been stopped by another's
                if not future.cancelled() and not isinstance(future.exception(), CancelledError | None):
                    future.result()
        self._end()
        return {filename: future.result() for filename, future in futures.items()}

    def _end(self) -> None:
        with self._lock:
            began, self._items, self._bytes = self._items > 0, 0, 0
        if began:
            self._report(Event("end", Stage.DOWNLOAD))

    def _employ(self) -> None:
        """Put as many threads to work as the pace allows and as there is work for."""
        with self._lock:
            if self._stop.is_set():
                return
            wanted = min(self._pace.workers, self._running + len(self._waiting))
            for _ in range(self._running, wanted):
                self._running += 1
                self._pool.submit(self._work)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._running -= 1
                    return
                future, file = self._waiting.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                self._settle(file.key, future, self._receive(file))
            except AirgapError as error:
                if self._stop.is_set() and isinstance(error, NetworkError):
                    future.set_exception(CancelledError())  # hung up on: see close()
                    continue
                if file.filename not in str(error):
                    error.args = (f"{file.filename}: {error}",)
                future.set_exception(error)
            except BaseException as error:  # noqa: BLE001 - whoever waits for the result must see it
                future.set_exception(error)

    def _settle(self, key: tuple[str, str], future: Future[Fetched], fetched: Fetched) -> None:
        with self._lock:
            self._fetched[key] = fetched
            del self._futures[key]
        future.set_result(fetched)

    def _known(self, file: File) -> Fetched | None:
        """What the store has under one of the file's digests; sha256 first, then what an earlier download proved."""
        sha256 = file.hashes.sha256
        if sha256 is None and file.hashes.strongest is not None:
            note = self._store.note(_NAMESPACE, ":".join(file.hashes.strongest))
            sha256 = note.decode("ascii") if note is not None else None
        if sha256 is None or not self._store.has(sha256):
            return None
        return Fetched(file, sha256, self._store.size(sha256))

    def _receive(self, file: File) -> Fetched:
        strongest = file.hashes.strongest
        key = f"{file.filename}#{'='.join(strongest)}" if strongest else f"{file.filename} from {redact(file.url)}"
        again = False
        while True:
            with self._store.receive(key, expected=file.hashes, size=file.size, stop=self._stop) as receiver:
                known = self._known(file)
                if known is not None:  # another process had it on the way
                    receiver.discard()
                    return known
                if strongest is None and receiver.offset:
                    receiver.restart()  # nothing would tell whether the rest belongs to this beginning
                resumed = receiver.offset > 0
                try:
                    self._transfer(file, receiver)
                    blob = receiver.commit()
                except IntegrityError as error:
                    receiver.discard()
                    if again or not (resumed or error.retryable):
                        told = str(error).replace(key, f"{file.filename} from {redact(file.index or file.url)}")
                        raise type(error)(told, hint=error.hint or _OTHER_BYTES, retryable=error.retryable) from error
                    # The fault may lie in bytes of an earlier run, or of an earlier file at this URL: from the start.
                    self._report(Event("info", Stage.DOWNLOAD, f"{error} Starting again from the beginning."))
                    again = True
                    continue
            for algorithm, digest in file.hashes:
                if algorithm != "sha256":
                    self._store.set_note(_NAMESPACE, f"{algorithm}:{digest}", blob.sha256.encode("ascii"))
            self._report(Event("advance", Stage.DOWNLOAD, file.filename, items=1))
            return Fetched(file, blob.sha256, blob.size)

    def _transfer(self, file: File, receiver: Receiver) -> None:
        unreported = receiver.offset
        wall, cpu = time.monotonic(), time.thread_time()
        for chunk in self._chunks(file, receiver.offset):
            if self._stop.is_set():
                raise CancelledError
            receiver.write(chunk)
            unreported += len(chunk)
            since, spent, wall, cpu = wall, cpu, time.monotonic(), time.thread_time()
            if self._pace.grows(wall - since, cpu - spent):
                self._employ()
            if unreported >= _BLOCK:
                self._report(Event("advance", Stage.DOWNLOAD, file.filename, bytes=unreported))
                unreported = 0
        self._report(Event("advance", Stage.DOWNLOAD, file.filename, bytes=unreported))

    def _chunks(self, file: File, offset: int) -> Iterator[bytes]:
        if urlsplit(file.url).scheme == "file":
            return _read(file.url, offset)
        return self._client.download(file.url, offset=offset, size=file.size, stop=self._stop)


class _Pace:
    """How many threads should download: more while they wait for the network, never fewer again."""

    #: Seconds of work, per thread, between two looks.
    INTERVAL = 0.02
    #: Share of its time that a thread spends computing, below which more threads help.
    BUSY = 0.3

    def __init__(self, most: int) -> None:
        self.workers = min(FIRST_WORKERS, most)
        self._most = most
        self._lock = threading.Lock()
        self._wall = self._cpu = 0.0

    def grows(self, wall: float, cpu: float) -> bool:
        """Add what a thread took for a chunk, in seconds; whether there is room for more threads now."""
        with self._lock:
            self._wall += wall
            self._cpu += cpu
            if self.workers == self._most or self._wall < self.INTERVAL * self.workers:
                return False
            busy = self._cpu / self._wall
            self._wall = self._cpu = 0.0
            if busy >= self.BUSY:
                return False
            self.workers = min(self.workers * 4, self._most)
            return True


def _read(url: str, offset: int) -> Iterator[bytes]:
    """Yield a local file (a find-links folder's) from *offset* on."""
    path = Path(url2pathname(urlsplit(url).path))
    try:
        with path.open("rb") as stream:
            stream.seek(offset)
            while chunk := stream.read(_BLOCK):
                yield chunk
    except OSError as error:
        raise StorageError(f"{path} can't be read: {error.strerror or error}.") from error
