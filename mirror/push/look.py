"""What a repository shows of a bundle's projects, read with as few requests as can be trusted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

from mirror.models import Event, Hashes, Reporter, Stage
from mirror.push.plan import undecided
from mirror.push.publisher import Publisher, SourceFile

_LOOKERS = 16
# Where answers come at once, the processor is the limit, at this end or the other: more would wait for each other.
_NEAR, _NEAR_LOOKERS = 0.01, 2
# With fewer projects than this, the root page is no saving.
_FEW = 8
# So many pages tell a publisher whether there is a list of all files.
_PAGES = 2
# So many of the projects that the root page leaves out are asked for all the same.
_PROBES = 4
# Seconds after which whoever waits for the threads looks up.
_PATIENCE = 1.0

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


def look(publisher: Publisher, files: Sequence[SourceFile], report: Reporter) -> dict[str, dict[str, Hashes]]:
    """Return what *publisher* shows of every project of *files*: file names and digests, sha256 wherever it has one.

    Where the index shows none for a file, the bytes that the repository serves are hashed. Raises NetworkError where
    the repository can't be read.
    """
    projects = sorted({file.project for file in files})
    # What else a project has there is of no interest, and may be a thousand times as much.
    wanted = {file.filename for file in files}
    shown: set[str] = set()
    report(Event("begin", Stage.LOOK, publisher.url, items=len(projects)))
    listings: dict[str, dict[str, Hashes]] = {}
    nothing: dict[str, Hashes] = {}  # for most projects of a first push: one for all

    def ask(project: str) -> dict[str, Hashes]:
        listing = publisher.listing(project)
        if listing:
            shown.add(project)
        return {filename: hashes for filename, hashes in listing.items() if filename in wanted} or nothing

    def read(names: Sequence[str]) -> None:
        for project, listing in each(names, ask):
            listings[project] = listing
            report(Event("advance", Stage.LOOK, project, items=1))

    absent = _left_out(publisher, projects)
    # A root page that does not know its own projects is of no use.
    probes = absent[:: max(1, len(absent) // _PROBES)][:_PROBES]
    present = sorted({*projects} - {*absent})
    read([*present[:_PAGES], *probes])
    left = set(present[_PAGES:])
    found = publisher.listings(left)
    if found is not None:
        # Only a page is believed that it does not show a file: who knows how old a list of all files is.
        unlisted = {file.project for file in files if file.project in left and file.filename not in found}
        listed = left - unlisted
        listings.update((project, {}) for project in listed)
        for file in files:
            if file.project in listed:
                listings[file.project][file.filename] = found[file.filename]
        report(Event("advance", Stage.LOOK, items=len(listed)))
        left = unlisted
    read(sorted(left))
    absent = [project for project in absent if project not in listings]
    if not shown.isdisjoint(probes):
        read(absent)
    else:
        listings.update(dict.fromkeys(absent, nothing))
        report(Event("advance", Stage.LOOK, items=len(absent)))

    unclear = undecided(files, listings)
    if unclear:
        text = f"{publisher.url} shows {len(unclear)} files without sha256: comparing their bytes."
        report(Event("info", Stage.LOOK, text))
    for file, digest in each(unclear, lambda file: publisher.digest(file.project, file.filename)):
        if digest is None:
            del listings[file.project][file.filename]
        else:
            listings[file.project][file.filename] = Hashes((("sha256", digest),))
    report(Event("end", Stage.LOOK))
    return listings


def each(items: Iterable[ItemT], function: Callable[[ItemT], ResultT]) -> list[tuple[ItemT, ResultT]]:
    """``(item, function(item))`` for all *items*, many at a time where they take long; the first error ends it."""
    todo = list(items)
    if len(todo) < 2:
        return [(item, function(item)) for item in todo]
    # A future for each would take more memory than what comes out.
    found: dict[int, ResultT] = {}
    failed: dict[int, BaseException] = {}
    lock, waiting = threading.Lock(), iter(range(len(todo)))
    stop = threading.Event()
    working: list[Future[None]] = []

    def work() -> None:
        while not stop.is_set():
            with lock:
                number = next(waiting, None)
            if number is None:
                return
            began = time.monotonic()
            try:
                found[number] = function(todo[number])
            except BaseException as error:  # noqa: BLE001 - raised below
                failed[number] = error
                stop.set()
            if time.monotonic() - began > _NEAR:
                start(_LOOKERS)

    def start(workers: int) -> None:
        with lock:
            working.extend(executor.submit(work) for _ in range(min(workers, len(todo)) - len(working)))

    with ThreadPoolExecutor(_LOOKERS, thread_name_prefix="airgap-look") as executor:
        start(_NEAR_LOOKERS)
        try:
            while left := [each for each in working if not each.done()]:  # Windows hears Ctrl-C between two waits
                wait(left, _PATIENCE)
        finally:
            stop.set()
    if failed:
        raise failed[min(failed)]
    results = [(item, found.pop(number)) for number, item in enumerate(todo)]
    todo.clear()  # work and start hold each other, and this, until somebody collects them
    return results


def _left_out(publisher: Publisher, projects: Sequence[str]) -> list[str]:
    """The *projects* that the repository's list of all projects does not name; none where it has no such list."""
    known = publisher.projects() if len(projects) > _FEW else None
    return [] if known is None else [project for project in projects if project not in known]
