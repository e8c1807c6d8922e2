"""Proof after the last upload: the index shows every file, and the repository serves its bytes."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from mirror.errors import NetworkError
from mirror.models import Event, Hashes, Reporter, Stage, silent
from mirror.push.look import each
from mirror.push.outcomes import THERE, Outcomes
from mirror.push.publisher import Publisher, SourceFile
from mirror.push.receipt import State

#: For :func:`verify_downloads`: all of them.
ALL = -1


def read_back(publisher: Publisher, outcomes: Outcomes, wait: float, report: Reporter) -> None:
    """Compare the index with what was sent and not seen in it yet; see :func:`confirm`."""
    missing = [outcomes.files[name] for name in outcomes.sent]
    report(Event("begin", Stage.READ_BACK, publisher.url, items=outcomes.seen + len(missing)))
    report(Event("advance", Stage.READ_BACK, items=outcomes.seen))
    confirm(publisher, outcomes, missing, wait, report)
    report(Event("end", Stage.READ_BACK))


def confirm(
    publisher: Publisher,
    outcomes: Outcomes,
    files: Sequence[SourceFile],
    wait: float,
    report: Reporter = silent,
    stop: threading.Event | None = None,
) -> None:
    """Settle by what the index shows what became of *files*, all of which were sent.

    It is asked until it shows everything, or until nothing of this push has appeared for *wait* seconds: a server that
    works through its uploads later (Pulp) takes its time. Where a question fails for good, it is not repeated. What the
    repository accepted and does not show then has failed: a server, or whoever answers in its place, may say that all
    is well and store nothing. Where *stop* is set meanwhile, the rest is left unsettled.
    """
    stop = stop or threading.Event()
    deadline, seen = time.monotonic() + wait, outcomes.seen
    pause = 0.1
    missing = list(files)
    errors: dict[str, NetworkError] = {}

    def settle(group: tuple[str, list[SourceFile]]) -> None:
        project, mine = group
        try:
            _look(publisher, outcomes, project, mine, report)
        except NetworkError as error:
            errors[project] = error

    while missing:
        listed = publisher.listings({file.project for file in missing})
        if listed is not None:
            for file in missing:
                _settle(file, listed, outcomes, report)
        groups: dict[str, list[SourceFile]] = {}
        for file in missing:
            if file.filename in outcomes.sent:
                groups.setdefault(file.project, []).append(file)
        errors.clear()
        each(groups.items(), settle)
        final = bool(groups) and len(errors) == len(groups) and not any(error.retryable for error in errors.values())
        # A file whose upload failed is looked for once, since the server may have it; one that was accepted must come.
        missing = [
            file
            for file in missing
            if file.filename in outcomes.sent and outcomes.state(file.filename) is State.UPLOADED
        ]
        if outcomes.seen > seen:
            deadline, seen = time.monotonic() + wait, outcomes.seen
        pause = min(pause, deadline - time.monotonic())
        if not missing or final or pause <= 0:
            break
        if stop.wait(pause):
            return
        pause = min(pause * 2, 5.0)
    for file in missing:
        error = errors.get(file.project)
        why = f": {error}" if error is not None else "."
        reason = f"the repository accepted it, but does not show it in its index{why}"
        outcomes.unseen[file.filename] = error.hint if error is not None else ""
        outcomes.set(file.filename, State.FAILED, reason)


def glance(publisher: Publisher, outcomes: Outcomes, project: str, files: Sequence[SourceFile]) -> None:
    """Settle what became of *files* of *project*, which were sent, by one look at the index; the rest waits."""
    with suppress(NetworkError):
        _look(publisher, outcomes, project, files, silent)


def verify_downloads(publisher: Publisher, outcomes: Outcomes, number: int, report: Reporter) -> None:
    """Fetch the *number* largest files that are there (ALL: every one) and hash what the repository serves."""
    there = [file for file in outcomes.files.values() if outcomes.state(file.filename) in THERE]
    there.sort(key=lambda file: (-file.size, file.filename))
    chosen = there if number == ALL else there[:number]
    if not chosen:
        return
    report(Event("begin", Stage.VERIFY, publisher.url, items=len(chosen), bytes=sum(file.size for file in chosen)))

    def check(file: SourceFile) -> None:
        try:
            digest = publisher.digest(file.project, file.filename)
        except NetworkError as error:
            outcomes.set(file.filename, State.FAILED, f"it can't be fetched: {error}")
        else:
            if digest is None:
                outcomes.set(file.filename, State.FAILED, "the index shows it, but the repository does not serve it")
            elif digest != file.sha256:
                outcomes.set(file.filename, State.CONFLICT, f"the repository serves bytes with sha256 {digest}")
        report(Event("advance", Stage.VERIFY, file.filename, items=1, bytes=file.size))

    each(chosen, check)
    report(Event("end", Stage.VERIFY))


def _look(
    publisher: Publisher, outcomes: Outcomes, project: str, files: Sequence[SourceFile], report: Reporter
) -> None:
    page = publisher.listing_for(project, {file.filename: outcomes.digests(file) for file in files})
    # At once: the pages of all projects together would take more memory than all that is known of them.
    for file in files:
        _settle(file, page, outcomes, report)


def _settle(file: SourceFile, page: Mapping[str, Hashes], outcomes: Outcomes, report: Reporter) -> None:
    """Settle the outcome of a file that was sent by what the index shows of it, if anything."""
    if file.filename not in page:
        return
    state = outcomes.state(file.filename)
    same = page[file.filename].agrees(outcomes.digests(file))
    if same is False and state is not State.CONFLICT:
        outcomes.set(file.filename, State.CONFLICT, "the index shows another digest for it")
    elif state is State.UPLOADED or (state is State.FAILED and same):
        outcomes.set(file.filename, State.UPLOADED)
    outcomes.show(file.filename)
    report(Event("advance", Stage.READ_BACK, file.filename, items=1))
