"""A push: look, compare, upload dependencies first, read back, give a receipt. Running it again is resuming."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mirror.errors import ConflictError, PushError
from mirror.models import Hashes, Reporter, silent
from mirror.push.deliver import costs, deliver
from mirror.push.look import look
from mirror.push.outcomes import THERE, Outcomes
from mirror.push.pace import Pace, Timed
from mirror.push.plan import PushPlan, plan
from mirror.push.publisher import Publisher, Source, SourceFile
from mirror.push.readback import read_back, verify_downloads
from mirror.push.receipt import Receipt, Sign, State
from mirror.push.schedule import in_order
from mirror.push.scratch import sweep
from mirror.push.unpacker import Unpacker, unpacking

#: Seconds that a repository gets to show in its index what it accepted, or some more of it.
READ_BACK_WAIT = 30.0
#: Uploads at a time, at most.
WORKERS = 16


class IncompletePushError(PushError):
    """Some files are not in the repository; ``receipt`` lists each with its reason."""

    def __init__(self, message: str, *, receipt: Receipt, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.receipt = receipt


class UnmetNeedsError(PushError):
    """The bundle is a delta, and the repository lacks files that it builds on: ``filenames``; nothing was uploaded.

    ``bundles`` are those that would bring them, ``(identity, name)``; a name may be empty.
    """

    def __init__(
        self, message: str, *, filenames: Sequence[str], bundles: Sequence[tuple[str, str]], hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.filenames = tuple(filenames)
        self.bundles = tuple(bundles)


def push(
    source: Source,
    publisher: Publisher,
    *,
    metadata: Callable[[Path], bytes],
    workers: int = WORKERS,
    report: Reporter = silent,
    receipt: Path | None = None,
    sign: Sign = dict,
    read_back_wait: float = READ_BACK_WAIT,
    skip_conflicts: bool = False,
    verify_download: int = 0,
    approve: Callable[[PushPlan[SourceFile]], object] = lambda _: None,
) -> Receipt:
    """Bring every file of *source* into the repository behind *publisher* and return what is there now.

    *metadata* reads the METADATA or PKG-INFO out of a distribution file (MetadataError: the form then says only what
    the file's name says). Nothing is sent before the source is known to be undamaged and every file is compared with
    what is there: other bytes under the same name are a ConflictError before the first upload or, with
    *skip_conflicts*, after the last one. *approve* gets the plan before the first upload and may raise.

    At most *workers* files are under way at a time, fewer where the server asks for it. A file that fails holds back
    its dependents only, unless the failure is one that all others would share. Nothing is begun before the index shows
    what it needs, which gets *read_back_wait* seconds for it, and as many at the end to show everything, counted anew
    whenever something more appears. Then
    *verify_download* of the files, the largest (-1: all), are fetched and hashed. The receipt goes to the path
    *receipt*, *sign*ed, as soon as there is something to tell, also where the push ends with an error.

    A delta is pushed only where the repository has all that it builds on: UnmetNeedsError before the first upload.

    Raises IncompletePushError where files are missing at the end, IntegrityError where the source is damaged,
    NetworkError where the repository can't be read at all, StorageError where there is no room to unpack.
    """
    outcomes = Outcomes(source.manifest)
    workers = max(1, workers)
    pace = Pace(workers, outcomes.stop)
    publisher = Timed(publisher, pace)
    with _checking(source, report) as wait_for_check, ExitStack() as stack:
        compared = compare(source, publisher, outcomes, report)
        objection = _objection(compared, source, publisher, outcomes, skip_conflicts=skip_conflicts)
        unpacker: Unpacker | None = None
        if compared.new:
            if objection is None:
                approve(compared)
                unpacker = stack.enter_context(unpacking(source))
                unpacker.start(_in_order(compared))
            wait_for_check()
        else:
            sweep()  # nothing is left of the run that uploaded the last file, and was killed
        try:
            if objection is not None:
                raise objection
            if unpacker is not None:
                deliver(
                    compared,
                    unpacker,
                    publisher,
                    outcomes,
                    metadata=metadata,
                    pace=pace,
                    workers=workers,
                    patience=read_back_wait,
                    report=report,
                )
            read_back(publisher, outcomes, read_back_wait, report)
            verify_downloads(publisher, outcomes, verify_download, report)
        finally:
            result = outcomes.receipt(publisher.url)
            if receipt is not None:
                result.write(receipt, sign)
    skipped = {file.filename for file in compared.conflicts}
    if any(file.state not in THERE and file.filename not in skipped for file in result.files):
        raise _incomplete(result, outcomes.hint, outcomes)
    if compared.conflicts:
        raise _conflict(compared, publisher, "They were left alone, all others are there.")
    return result


def _in_order(compared: PushPlan[SourceFile]) -> list[str]:
    """The projects that have something to upload, as their turns will come."""
    cost = costs(compared)
    steps = in_order([step for wave in compared.waves for step in wave], cost)
    return [project for step in steps for project in step.projects if project in cost]


def compare(
    source: Source, publisher: Publisher, outcomes: Outcomes | None = None, report: Reporter = silent
) -> PushPlan[SourceFile]:
    """Return what a push would do, and note in *outcomes* what needs no upload."""
    files = list(source.manifest.files)
    listings = look(publisher, files, report)
    compared = plan(files, listings)
    if outcomes is not None:
        for file in compared.present:
            outcomes.set(file.filename, State.PRESENT)
        for file in compared.conflicts:
            outcomes.set(file.filename, State.CONFLICT, _other(listings, file))
    return compared


def prove(source: Source, publisher: Publisher, *, verify_download: int = 0, report: Reporter = silent) -> Receipt:
    """Say which files of *source* the repository holds, uploading nothing; the receipt calls them present.

    Raises ConflictError or IncompletePushError where it does not hold them all; *verify_download* is as for a push.
    """
    outcomes = Outcomes(source.manifest)
    compared = compare(source, publisher, outcomes, report)
    for file in compared.new:
        outcomes.set(file.filename, State.FAILED, "the repository does not have it")
    verify_downloads(publisher, outcomes, verify_download, report)
    result = outcomes.receipt(publisher.url)
    if compared.conflicts:
        raise _conflict(compared, publisher, "Nothing was changed.")
    if not result.complete:
        raise _incomplete(result, "Is it the right repository? 'airgap push' brings what is missing.", outcomes)
    return result


@contextmanager
def _checking(source: Source, report: Reporter) -> Iterator[Callable[[], None]]:
    """Check the source in the background; yields what waits for it. Left without waiting, the check ends early."""
    stop = threading.Event()
    with ThreadPoolExecutor(1, thread_name_prefix="airgap-check") as executor:
        checked = executor.submit(source.check, stop, report)
        try:
            yield checked.result
        finally:
            stop.set()


def _objection(
    compared: PushPlan[SourceFile],
    source: Source,
    publisher: Publisher,
    outcomes: Outcomes,
    *,
    skip_conflicts: bool,
) -> PushError | None:
    """Why nothing may be uploaded: conflicts, or a delta whose ground is missing; None where all is well."""
    if compared.conflicts and not skip_conflicts:
        return _conflict(compared, publisher, "Nothing was uploaded.")
    absent = [(file, file.carrier) for file in compared.new if file.carrier is not None]
    if not absent:
        return None
    since = source.manifest.since
    bundles = sorted({(carrier, since.get(carrier, "")) for _, carrier in absent})
    for file, carrier in absent:
        reason = f"not in this bundle, which is a delta; {_bundle_name(carrier, since)} brings it"
        outcomes.set(file.filename, State.FAILED, reason)
    names = [file.filename for file, _ in absent]
    return UnmetNeedsError(
        f"The bundle is a delta and builds on {len(names)} files that {publisher.url} does not have: "
        f"{_some(names)}. Nothing was uploaded.",
        filenames=names,
        bundles=bundles,
        hint=f"Push first: {', '.join(_bundle_name(carrier, since) for carrier, _ in bundles)}; or ask for a full "
        "bundle.",
    )


def _conflict(compared: PushPlan[SourceFile], publisher: Publisher, result: str) -> ConflictError:
    names = [file.filename for file in compared.conflicts]
    return ConflictError(
        f"{publisher.url} holds other files under {len(names)} of these names: {_some(names)}. {result}",
        filenames=names,
        hint="Find out who put them there. Files in a repository are never overwritten.",
    )


def _incomplete(receipt: Receipt, hint: str, outcomes: Outcomes) -> IncompletePushError:
    """The error for a receipt that is not complete; its message holds the first cause."""
    failed = [file for file in receipt.files if file.state not in THERE]
    return IncompletePushError(
        f"{len(failed)} of {len(receipt.files)} files are not in {receipt.repository}: "
        f"{_some([file.filename for file in failed])}. First cause: {outcomes.first_cause(failed)}",
        receipt=receipt,
        hint=hint,
    )


def _other(listings: Mapping[str, Mapping[str, Hashes]], file: SourceFile) -> str:
    there = listings[file.project][file.filename].sha256
    return f"the repository holds sha256 {there} under this name"


def _bundle_name(identity: str, since: Mapping[str, str]) -> str:
    name = since.get(identity)
    return f"{name} (identity {identity[:12]}…)" if name else f"the bundle with the identity {identity}"


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
