"""A push: look, compare, upload dependencies first, read back, give a receipt. Running it again is resuming."""

from __future__ import annotations

import hashlib
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path
from typing import Protocol, TypeVar

from mirror import __version__
from mirror.errors import (
    AirgapError,
    AuthError,
    BundleError,
    ConflictError,
    HTTPError,
    IntegrityError,
    MetadataError,
    NetworkError,
    NotFoundError,
    PushError,
    StorageError,
    TLSError,
    UsageError,
)
from mirror.models import Event, Hashes, Reporter, Stage, silent
from mirror.net.retry import delay
from mirror.push.plan import PushPlan, Step, plan, undecided
from mirror.push.publisher import Publisher, Source, SourceFile, TransientUploadError, Upload
from mirror.push.receipt import Receipt, ReceiptFile, State
from mirror.push.schedule import run_steps

#: How often one file is sent at most.
TRIES = 5
#: Seconds that a repository gets to show in its index what it accepted.
READ_BACK_WAIT = 30.0

_CHUNK = 1024 * 1024
_LOOKERS = 16
# What a request costs besides its bytes, in bytes: an order of uploads needs no better figure.
_FILE_COST = 1024 * 1024
# These say something about every upload that would follow, not about one file.
_STOPPING = (AuthError, NotFoundError, TLSError, UsageError, StorageError)
_THERE = (State.UPLOADED, State.PRESENT)


class _Hasher(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


_HASHERS: Mapping[str, Callable[[], _Hasher]] = {
    "md5": lambda: hashlib.md5(usedforsecurity=False),
    "blake2_256": lambda: hashlib.blake2b(digest_size=32),
}

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


class IncompletePushError(PushError):
    """Some files are not in the repository; ``receipt`` lists each with its reason."""

    def __init__(self, message: str, *, receipt: Receipt, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.receipt = receipt


def push(
    source: Source,
    publisher: Publisher,
    *,
    metadata: Callable[[Path], bytes],
    workers: int = 8,
    report: Reporter = silent,
    receipt: Path | None = None,
    read_back_wait: float = READ_BACK_WAIT,
) -> Receipt:
    """Bring every file of *source* into the repository behind *publisher* and return what is there now.

    *metadata* reads the METADATA or PKG-INFO out of a distribution file (MetadataError: the form then says only what
    the file's name says). Nothing is sent before the whole source is verified and every file compared with what is
    there: other bytes under the same name are a ConflictError before the first upload. A file that fails holds back
    its dependents only, unless the failure is one that all others would share. The receipt goes to the path *receipt*
    as soon as there is something to tell, also where the push ends with an error.

    Raises IncompletePushError where files are missing at the end, IntegrityError where the source is damaged,
    NetworkError where the repository can't be read at all.
    """
    run = _Push(source, publisher, metadata, max(1, workers), report, read_back_wait)
    started = _now()
    compared = run.look()
    try:
        if compared.conflicts:
            names = [file.filename for file in compared.conflicts]
            raise ConflictError(
                f"{publisher.url} holds other files under {len(names)} of these names: {_some(names)}. "
                "Nothing was uploaded.",
                filenames=names,
                hint="Find out who put them there. Files in a repository are never overwritten.",
            )
        run.deliver(compared)
        run.read_back()
    finally:
        result = run.receipt(started)
        if receipt is not None:
            result.write(receipt)
    if not result.complete:
        raise run.incomplete(result)
    return result


class _Push:
    """The state of one push. Worker threads write outcomes, each file's by one of them."""

    def __init__(
        self,
        source: Source,
        publisher: Publisher,
        metadata: Callable[[Path], bytes],
        workers: int,
        report: Reporter,
        read_back_wait: float,
    ) -> None:
        self._source = source
        self._publisher = publisher
        self._metadata = metadata
        self._workers = workers
        self._report = report
        self._read_back_wait = read_back_wait
        self._files: dict[str, SourceFile] = {file.filename: file for file in source.manifest.files}
        # Files without an outcome were not tried.
        self._outcomes: dict[str, tuple[State, str]] = {}
        self._sent: dict[str, Hashes] = {}
        self._blocked: dict[str, str] = {}
        self._stop = threading.Event()
        self._halted_by: AirgapError | None = None

    def look(self) -> PushPlan[SourceFile]:
        """Verify the source and read, meanwhile, what is there."""
        projects = sorted({file.project for file in self._files.values()})
        self._report(Event("begin", Stage.LOOK, self._publisher.url, items=len(projects)))
        with ThreadPoolExecutor(1, thread_name_prefix="airgap-verify") as verifier:
            verified = verifier.submit(self._source.verify, report=self._report)
            listings = {
                project: dict(listing)
                for project, listing in self._each(projects, self._publisher.listing, stage=Stage.LOOK)
            }
            unclear = undecided(self._files.values(), listings)
            if unclear:
                text = f"{self._publisher.url} shows {len(unclear)} files without sha256: comparing their bytes."
                self._report(Event("info", Stage.LOOK, text))
            for file, digest in self._each(unclear, lambda file: self._publisher.digest(file.project, file.filename)):
                if digest is None:
                    del listings[file.project][file.filename]
                else:
                    listings[file.project][file.filename] = Hashes((("sha256", digest),))
            verified.result()
        self._report(Event("end", Stage.LOOK))
        compared = plan(list(self._files.values()), listings)
        for file in compared.present:
            self._outcomes[file.filename] = State.PRESENT, ""
        for file in compared.conflicts:
            there = listings[file.project][file.filename].sha256
            self._outcomes[file.filename] = State.CONFLICT, f"the repository holds sha256 {there} under this name"
        return compared

    def deliver(self, compared: PushPlan[SourceFile]) -> None:
        """Upload what is new, dependencies before what requires them."""
        new: dict[str, list[SourceFile]] = {}
        for file in compared.new:
            new.setdefault(file.project, []).append(file)
        size = sum(file.size for file in compared.new)
        self._report(Event("begin", Stage.UPLOAD, self._publisher.url, items=len(compared.new), bytes=size))
        blocked = run_steps(
            [step for wave in compared.waves for step in wave],
            lambda step: self._step(step, new),
            workers=self._workers,
            cost={project: sum(file.size + _FILE_COST for file in files) for project, files in new.items()},
            stop=self._stop,
        )
        self._blocked = {project: cause for step, cause in blocked.items() for project in step.projects}
        self._report(Event("end", Stage.UPLOAD))

    def read_back(self) -> None:
        """Compare the index with what was sent until it shows everything, or until the wait is over."""
        missing = [self._files[name] for name in self._sent]
        self._report(Event("begin", Stage.READ_BACK, self._publisher.url, items=len(missing)))
        deadline = time.monotonic() + self._read_back_wait
        pause = 0.1
        while missing:
            pages = dict(self._each({file.project for file in missing}, self._listing_or_error))
            missing = [file for file in missing if not self._is_seen(file, pages[file.project])]
            if not missing or time.monotonic() + pause > deadline:
                break
            time.sleep(pause)
            pause = min(pause * 2, 5.0)
        for file in missing:
            if self._outcomes[file.filename][0] is State.UPLOADED:
                page = pages[file.project]
                why = f": {page}" if isinstance(page, AirgapError) else "."
                reason = f"the repository accepted it, but does not show it in its index{why}"
                self._outcomes[file.filename] = State.FAILED, reason
        self._report(Event("end", Stage.READ_BACK))

    def receipt(self, started: str) -> Receipt:
        """What is known now."""
        return Receipt(
            tool=f"airgap {__version__}",
            repository=self._publisher.url,
            bundle=self._source.manifest.identity,
            started=started,
            finished=_now(),
            files=tuple(
                ReceiptFile(
                    name,
                    file.project,
                    file.version,
                    file.size,
                    file.sha256,
                    *self._outcomes.get(name, self._untried(file)),
                )
                for name, file in sorted(self._files.items())
            ),
        )

    def incomplete(self, receipt: Receipt) -> IncompletePushError:
        """The error for a receipt that is not complete; its message holds the first cause."""
        failed = [file for file in receipt.files if file.state not in _THERE]
        cause = next((file.reason for file in failed if file.filename in self._outcomes), failed[0].reason)
        return IncompletePushError(
            f"{len(failed)} of {len(receipt.files)} files are not in {receipt.repository}: "
            f"{_some([file.filename for file in failed])}. First cause: {cause}",
            receipt=receipt,
            hint=(self._halted_by.hint if self._halted_by else "")
            or "Run the same command again: it goes on with what is missing.",
        )

    def _step(self, step: Step, new: Mapping[str, Sequence[SourceFile]]) -> bool:
        """Upload the projects of one step; True where all of their files are there now."""
        return all(self._project(project, new[project]) for project in step.projects if project in new)

    def _project(self, project: str, files: Sequence[SourceFile]) -> bool:
        if self._stop.is_set():
            return False
        try:
            with tempfile.TemporaryDirectory(prefix="airgap-push-") as folder:
                paths = {path.name: path for path in self._source.spool(project, Path(folder))}
                for file in files:
                    if self._stop.is_set():
                        return False
                    if file.filename not in paths:
                        raise BundleError(f"The bundle holds no {file.filename}, which its manifest names.")
                    self._file(file, paths[file.filename])
                    paths[file.filename].unlink()
        except (IntegrityError, StorageError) as error:
            self._halt(error)
        except OSError as error:
            self._halt(StorageError(f"No room to unpack {project} in {tempfile.gettempdir()}: {error.strerror}."))
        return all(self._outcomes.get(file.filename, (State.FAILED,))[0] in _THERE for file in files)

    def _file(self, file: SourceFile, path: Path) -> None:
        upload = self._prepared(file, path)
        self._sent[file.filename] = upload.hashes
        try:
            outcome = self._send(upload)
        except AirgapError as error:
            outcome = State.FAILED, str(error)
            if isinstance(error, _STOPPING) or (isinstance(error, TransientUploadError) and not error.ambiguous):
                self._halt(error)
        self._outcomes[file.filename] = outcome
        self._report(Event("advance", Stage.UPLOAD, file.filename, items=1, bytes=file.size))

    def _send(self, upload: Upload) -> tuple[State, str]:
        """Upload one file; after an answer that proves nothing look, compare, and only then try again."""
        maybe_ours = False
        for failures in range(1, TRIES + 1):
            try:
                self._publisher.upload(upload)
            except TransientUploadError as error:  # noqa: PERF203 - a request costs more
                maybe_ours = maybe_ours or error.ambiguous
                found = self._compared(upload, State.UPLOADED) if error.ambiguous else None
                if found is not None:
                    return found
                if failures == TRIES or self._stop.wait(delay(failures, error.retry_after)):
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
                break
        return State.UPLOADED, "accepted, not read back"

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

    def _is_seen(self, file: SourceFile, page: Mapping[str, Hashes] | AirgapError) -> bool:
        """Settle the outcome of a file that was sent by what the index shows of it; False where it shows nothing."""
        if isinstance(page, AirgapError) or file.filename not in page:
            return False
        state, _ = self._outcomes[file.filename]
        same = page[file.filename].agrees(self._sent[file.filename])
        if same is False:
            self._outcomes[file.filename] = State.CONFLICT, "the index shows another digest for it"
        elif state is State.UPLOADED or (state is State.FAILED and same):
            self._outcomes[file.filename] = State.UPLOADED, ""
        self._report(Event("advance", Stage.READ_BACK, file.filename, items=1))
        return True

    def _listing_or_error(self, project: str) -> Mapping[str, Hashes] | AirgapError:
        try:
            return self._publisher.listing(project)
        except NetworkError as error:
            return error

    def _untried(self, file: SourceFile) -> tuple[State, str]:
        if self._halted_by is not None:
            return State.FAILED, f"not tried: stopped after this: {self._halted_by}"
        cause = self._blocked.get(file.project)
        return State.FAILED, f"not tried: it requires {cause}, which failed" if cause else "not tried"

    def _halt(self, error: AirgapError) -> None:
        """Begin nothing any more: what follows would fail in the same way."""
        if self._halted_by is None:
            self._halted_by = error
        self._stop.set()

    def _each(
        self, items: Iterable[ItemT], function: Callable[[ItemT], ResultT], *, stage: Stage | None = None
    ) -> list[tuple[ItemT, ResultT]]:
        """``(item, function(item))`` for all *items*, many at a time; the first error ends it."""
        executor = ThreadPoolExecutor(_LOOKERS, thread_name_prefix="airgap-look")
        try:
            futures = [(item, executor.submit(function, item)) for item in items]
            found: list[tuple[ItemT, ResultT]] = []
            for item, future in futures:
                found.append((item, future.result()))
                if stage is not None:
                    self._report(Event("advance", stage, items=1))
            return found
        finally:
            executor.shutdown(wait=True, cancel_futures=True)


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


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
