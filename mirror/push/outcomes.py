"""What became of every file of a push so far, and why the push stopped where it did."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timezone

from mirror import __version__
from mirror.errors import AirgapError, AuthError
from mirror.models import Hashes
from mirror.push.publisher import SourceFile, SourceManifest
from mirror.push.receipt import Receipt, ReceiptFile, State

THERE = (State.UPLOADED, State.PRESENT)


class Outcomes:
    """The state of one push. Worker threads write to it, each file by one of them; a file without one was not tried.

    ``sent`` has the MD5, which may be all that an index shows, of every file whose upload was tried and that the index
    has not shown since; it is empty where none was wanted. ``seen`` counts those that it has shown, ``unseen`` names
    those that were accepted and that it did not show, each with a hint, which may be empty.
    ``stop`` is set where nothing may begin any more.
    """

    def __init__(self, manifest: SourceManifest) -> None:
        self.files: Mapping[str, SourceFile] = {file.filename: file for file in manifest.files}
        self.sent: dict[str, str] = {}
        self.seen = 0
        self.unseen: dict[str, str] = {}
        self.stop = threading.Event()
        self._identity = manifest.identity
        self._started = _now()
        self._found: dict[str, tuple[State, str]] = {}
        # Most files share what became of them: one value for all of those.
        self._shared: dict[tuple[State, str], tuple[State, str]] = {}
        self._blocked: Mapping[str, str] = {}
        self._halted_by: AirgapError | None = None
        self._refused: AirgapError | None = None
        self._may_pass = False
        self._lock = threading.Lock()

    def fail(self, filename: str, error: AirgapError) -> None:
        """*error* is what became of a file that was tried."""
        self.set(filename, State.FAILED, str(error))
        self._may_pass = self._may_pass or error.retryable
        self._refused = self._refused or error

    def set(self, filename: str, state: State, reason: str = "") -> None:
        found = state, reason
        self._found[filename] = self._shared.setdefault(found, found)

    def state(self, filename: str) -> State:
        """The state of a file, FAILED where it was not tried."""
        return self._found.get(filename, (State.FAILED, ""))[0]

    def digests(self, file: SourceFile) -> Hashes:
        """What the index may show of *file*, which was sent."""
        md5 = self.sent[file.filename]
        return Hashes((*((("md5", md5),) if md5 else ()), ("sha256", file.sha256)))

    def show(self, filename: str) -> None:
        """Note that the index shows a file that was sent."""
        with self._lock:
            del self.sent[filename]
            self.seen += 1

    def block(self, blocked: Mapping[str, str]) -> None:
        """Remember the projects that could not begin, each with the one that it requires and that failed."""
        self._blocked = blocked

    def halt(self, error: AirgapError) -> None:
        """Begin nothing any more: what follows would fail in the same way."""
        if self._halted_by is None:
            self._halted_by = error
        self.stop.set()

    @property
    def hint(self) -> str:
        """What to do about a push that is not complete."""
        error = self._halted_by
        if self.unseen and not self.seen:
            return next(filter(None, self.unseen.values()), "") or (
                "Is that where its index is? --index-url says where to read it; 'airgap doctor' looks. "
                "Then run the same command again."
            )
        again = "Run the same command again: it goes on with what is missing."
        if isinstance(error, AuthError) and any(state is State.UPLOADED for state, _ in self._found.values()):
            return f"The credentials worked until then: they have expired or were revoked. Renew them. {again}"
        if error is None and self._refused is not None and not self._may_pass:
            return self._refused.hint or f"That will not pass by itself: see to its cause. {again}"
        return (error.hint if error is not None else "") or again

    def first_cause(self, failed: Sequence[ReceiptFile]) -> str:
        """The reason of the first of *failed* that was tried; where none was, what ended the push before."""
        tried = next((file.reason for file in failed if file.filename in self._found), None)
        return tried or (str(self._halted_by) if self._halted_by is not None else failed[0].reason)

    def receipt(self, repository: str) -> Receipt:
        """What is known now."""
        failed = {file.project for name, file in self.files.items() if self.state(name) not in THERE}
        return Receipt(
            tool=f"airgap {__version__}",
            repository=repository,
            bundle=self._identity,
            started=self._started,
            finished=_now(),
            files=tuple(
                ReceiptFile(
                    name,
                    file.project,
                    file.version,
                    file.size,
                    file.sha256,
                    *self._found.get(name, self._untried(file, failed)),
                )
                for name, file in sorted(self.files.items())
            ),
        )

    def _untried(self, file: SourceFile, failed: Collection[str]) -> tuple[State, str]:
        if self._halted_by is not None:
            return State.FAILED, f"not tried: stopped after this: {self._halted_by}"
        cause = self._blocked.get(file.project)
        if cause is None:
            return State.FAILED, "not tried"
        why = "which failed" if cause in failed else "which the index did not show in time"
        return State.FAILED, f"not tried: it requires {cause}, {why}"


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
