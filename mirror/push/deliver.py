"""Uploading what is new: dependencies first, a project per thread, each file until its fate is known."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Protocol

from mirror.errors import (
    AirgapError,
    AuthError,
    BundleError,
    ConflictError,
    HTTPError,
    IntegrityError,
    MetadataError,
    NotFoundError,
    PushError,
    StorageError,
    TLSError,
    UsageError,
)
from mirror.models import Event, Hashes, Reporter, Stage
from mirror.net.retry import delay
from mirror.push.outcomes import THERE, Outcomes
from mirror.push.pace import Pace
from mirror.push.plan import PushPlan, Step
from mirror.push.publisher import Publisher, SourceFile, TransientUploadError, Upload
from mirror.push.readback import confirm, glance
from mirror.push.receipt import State
from mirror.push.schedule import run_steps
from mirror.push.unpacker import Unpacker
from mirror.push.waves import Waves

#: How often one file is sent at most.
TRIES = 5

_CHUNK = 1024 * 1024
# What a request costs besides its bytes, in bytes: an order of uploads needs no better figure.
_FILE_COST = 1024 * 1024
# These say something about every upload that would follow, not about one file.
_STOPPING = (AuthError, NotFoundError, TLSError, UsageError, StorageError)


class _Hasher(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


_HASHERS: Mapping[str, Callable[[], _Hasher]] = {
    "md5": lambda: hashlib.md5(usedforsecurity=False),
    "blake2_256": lambda: hashlib.blake2b(digest_size=32),
}


def deliver(
    plan: PushPlan[SourceFile],
    unpacker: Unpacker,
    publisher: Publisher,
    outcomes: Outcomes,
    *,
    metadata: Callable[[Path], bytes],
    pace: Pace,
    workers: int,
    patience: float,
    report: Reporter,
) -> None:
    """Upload what *plan* calls new, and leave in *outcomes* what became of it; see :func:`mirror.push.run.push`.

    Before something that needs a project is begun, the index must show that project's files, for which it gets
    *patience* seconds: an accepted upload is no proof yet. Where the repository has a list of all files, many projects
    are looked for together, by their names where these are enough.
    """
    new: dict[str, list[SourceFile]] = {}
    for file in plan.new:
        new.setdefault(file.project, []).append(file)
    size = sum(file.size for file in plan.new)
    report(Event("begin", Stage.UPLOAD, publisher.url, items=len(plan.new), bytes=size))
    delivery = _Delivery(unpacker, publisher, outcomes, metadata, pace, report)
    steps = [step for wave in plan.waves for step in wave]
    grounds = _grounds(steps, new)
    waves = Waves(plan.waves, new, outcomes, report)

    def work(step: Step) -> bool | None:
        complete = delivery.step(step, new)
        mine = [project for project in step.projects if project in new]
        if complete and not grounds.isdisjoint(mine):
            return None if publisher.lists_all else bool(settle([step]))
        if complete and not publisher.lists_all:
            # Nobody waits for these. But now others send meanwhile, and at the end nobody would.
            for project in mine:
                glance(publisher, outcomes, project, new[project])
        waves.done(step)
        return complete and not outcomes.stop.is_set()

    def settle(accepted: Sequence[Step]) -> list[Step]:
        """Wait for the index to show *accepted*; returns what it shows."""
        sent = {step: {project for project in step.projects if project in new} for step in accepted}
        # Where a project has come, its only file has. Whether that has the right digest is asked at the end.
        single = {project for project in chain.from_iterable(sent.values()) if len(new[project]) == 1}
        arrived = publisher.arrived(single)
        missing = [new[project] for project in chain.from_iterable(sent.values()) if project not in arrived]
        confirm(publisher, outcomes, [*chain.from_iterable(missing)], patience, stop=outcomes.stop)
        for step in accepted:
            waves.done(step)
        if outcomes.stop.is_set():
            return []
        return [step for step in accepted if all(delivery.complete(new[project]) for project in sent[step])]

    blocked = run_steps(steps, work, workers=workers, cost=costs(plan), stop=outcomes.stop, settle=settle)
    waves.close()
    outcomes.block({project: cause for step, cause in blocked.items() for project in step.projects})
    report(Event("end", Stage.UPLOAD))


def costs(plan: PushPlan[SourceFile]) -> dict[str, int]:
    """What uploading each project takes, in bytes; those without new files are left out."""
    found: dict[str, int] = {}
    for file in plan.new:
        found[file.project] = found.get(file.project, 0) + file.size + _FILE_COST
    return found


def _grounds(steps: Sequence[Step], new: Collection[str]) -> set[str]:
    """The projects that something with files to upload needs, however indirectly; *steps* come dependencies first."""
    found: set[str] = set()
    for step in reversed(steps):
        if any(project in new or project in found for project in step.projects):
            found.update(step.after)
    return found


class _StoppedError(Exception):
    """The push ended before this file's turn came."""


class _Delivery:
    """What the threads of one delivery share."""

    def __init__(
        self,
        unpacker: Unpacker,
        publisher: Publisher,
        outcomes: Outcomes,
        metadata: Callable[[Path], bytes],
        pace: Pace,
        report: Reporter,
    ) -> None:
        self._unpacker = unpacker
        self._publisher = publisher
        self._outcomes = outcomes
        self._metadata = metadata
        self._pace = pace
        self._report = report

    def step(self, step: Step, new: Mapping[str, Sequence[SourceFile]]) -> bool:
        """Upload the projects of one step; True where all of their files are there now."""
        return all(self._project(project, new[project]) for project in step.projects if project in new)

    def _project(self, project: str, files: Sequence[SourceFile]) -> bool:
        if self._outcomes.stop.is_set():
            return False
        paths: dict[str, Path] = {}
        try:
            paths = self._unpacker.take(project)
            for file in files:
                if self._outcomes.stop.is_set():
                    return False
                if file.filename not in paths:
                    raise BundleError(f"The bundle holds no {file.filename}, which its manifest names.")
                self._file(file, paths[file.filename])
                paths.pop(file.filename).unlink()
        except (IntegrityError, StorageError) as error:
            self._outcomes.halt(error)
        finally:
            for path in paths.values():
                path.unlink(missing_ok=True)
        return self.complete(files)

    def complete(self, files: Sequence[SourceFile]) -> bool:
        """Whether all of *files* are there, as far as is known."""
        return all(self._outcomes.state(file.filename) in THERE for file in files)

    def _file(self, file: SourceFile, path: Path) -> None:
        upload = self._prepared(file, path)
        try:
            outcome = self._send(upload)
        except _StoppedError:
            return
        except AirgapError as error:
            self._outcomes.fail(file.filename, error)
            if isinstance(error, _STOPPING) or (isinstance(error, TransientUploadError) and not error.ambiguous):
                self._outcomes.halt(error)
        else:
            self._outcomes.set(file.filename, *outcome)
        self._report(Event("advance", Stage.UPLOAD, file.filename, items=1, bytes=file.size))

    def _send(self, upload: Upload) -> tuple[State, str]:
        """Upload one file; after an answer that proves nothing look, compare, and only then try again."""
        maybe_ours = False
        for failures in range(1, TRIES + 1):
            try:
                with self._pace.turn() as began:
                    if self._outcomes.stop.is_set():
                        raise _StoppedError
                    self._outcomes.sent[upload.filename] = upload.hashes.get("md5") or ""
                    self._publisher.upload(upload)
            except TransientUploadError as error:  # noqa: PERF203 - a request costs more
                self._strained(began, error)
                maybe_ours = maybe_ours or error.ambiguous
                found = self._compared(upload, State.UPLOADED) if error.ambiguous else None
                if found is not None:
                    return self._mangled(upload, error, found[1]) if found[0] is State.CONFLICT else found
                if failures == TRIES or self._outcomes.stop.wait(delay(failures, error.retry_after)):
                    raise
            except HTTPError:
                # Refused. Servers word "it is there already" in many ways, with several statuses: look instead.
                found = self._compared(upload, State.UPLOADED if maybe_ours else State.PRESENT)
                if found is None:
                    raise
                return found
            except ConflictError as error:
                return State.CONFLICT, str(error)
            else:
                self._pace.fine()
                break
        return State.UPLOADED, "accepted, not read back"

    def _strained(self, began: float, error: TransientUploadError) -> None:
        if self._pace.slower(began, error.retry_after):
            text = f"{self._publisher.url} struggles: {self._pace.limit} uploads at a time from now on."
            self._report(Event("info", Stage.UPLOAD, text))

    def _mangled(self, upload: Upload, error: AirgapError, there: str) -> tuple[State, str]:
        """End the push: what was not there has come with an upload that failed, and the next would do the same."""
        why = f"{error} Since then {there}."
        hint = "Is its disk full? Have what it holds of this file removed there, then run the same command again."
        self._outcomes.halt(PushError(why, hint=hint))
        return State.CONFLICT, why

    def _compared(self, upload: Upload, same: State) -> tuple[State, str] | None:
        """What the repository holds under the file's name: None, the *same* bytes, or a conflict."""
        shown = self._publisher.listing(upload.project).get(upload.filename)
        if shown is None:
            return None
        there = shown.sha256 or self._publisher.digest(upload.project, upload.filename)
        if there is None:
            return None
        if there == upload.hashes.sha256:
            return same, ""
        return State.CONFLICT, f"the repository holds sha256 {there} under this name"

    def _prepared(self, file: SourceFile, path: Path) -> Upload:
        try:
            metadata = self._metadata(path)
        except MetadataError as error:
            self._report(Event("warning", Stage.UPLOAD, f"{error} Uploaded without its metadata."))
            metadata = b""
        hashes = _digests(path, file.sha256, self._publisher.digests)
        return Upload(file.filename, file.project, file.version, file.size, hashes, path, metadata)


def _digests(path: Path, sha256: str, wanted: Collection[str]) -> Hashes:
    """The digests that the upload form carries; *sha256* was checked when the file was unpacked."""
    found = {"sha256": sha256}
    hashers = {name: make() for name, make in _HASHERS.items() if name in wanted}
    if hashers:
        with path.open("rb", buffering=0) as stream:
            while chunk := stream.read(_CHUNK):
                for hasher in hashers.values():
                    hasher.update(chunk)
        found.update((name, hasher.hexdigest()) for name, hasher in hashers.items())
    return Hashes(tuple(sorted(found.items())))
