"""The isolated side: bundles in, verified and pushed in an order that their needs allow, receipts out."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from mirror.bundle import BundleReader
from mirror.config import SyncSettings
from mirror.errors import AirgapError, ConflictError, IntegrityError, PushError, StorageError
from mirror.models import Reporter
from mirror.ops.push import PushOptions, push_verified, unmet_needs
from mirror.push.publisher import Publisher
from mirror.push.receipt import Sign
from mirror.push.run import UnmetNeedsError
from mirror.sync.files import (
    BUNDLE,
    check_writable,
    drop,
    existing,
    misnamed,
    move,
    numbered,
    reason_beside,
    write_whole,
)
from mirror.sync.outcome import Outcome, Say, next_number
from mirror.sync.receipts import ENDING, sealed
from mirror.sync.state import IsolatedState, has_settled, load_state, save_state

OpenPublisher = Callable[[str], AbstractContextManager[Publisher]]


def run_isolated(
    settings: SyncSettings,
    folder: Path,
    open_publisher: OpenPublisher,
    *,
    report: Reporter,
    say: Say,
    sign: Sign = dict,
    dry_run: bool = False,
) -> Outcome:
    """One round, its receipts *sign*ed; *folder* holds the state and is locked by the caller.

    What is wrong with one bundle does not stop the others; a repository that can't be reached does, and is raised.
    """
    inbox = existing(settings.inbox, "inbox")
    found = numbered(inbox, settings.name, BUNDLE)
    work = _Work(settings, inbox, folder, load_state(folder, IsolatedState), report, say, sign)
    work.tell_misnamed()
    if dry_run:
        for _, path in found:
            work.look(path)
    elif found:
        # Before anything is uploaded: a receipt would be written again with every round that can't put a bundle away.
        why = "What was pushed is put away there. From a disc that can only be read, copy bundles into a folder first."
        check_writable(inbox / "done", why)
        check_writable(existing(settings.outbox, "outbox"), "Receipts leave there.")
        with open_publisher(settings.repo) as publisher:
            work.push_all(found, publisher)
    if not dry_run:
        work.retain()
    return work.outcome(dry_run=dry_run)


@dataclass
class _Work:
    settings: SyncSettings
    inbox: Path
    folder: Path
    state: IsolatedState
    report: Reporter
    say: Say
    sign: Sign
    pushed: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    waiting: dict[str, tuple[str, ...]] = field(default_factory=dict)
    quarantined: list[str] = field(default_factory=list)
    misnamed: list[str] = field(default_factory=list)
    in_part: int = 0
    whole: int = 0
    failure: AirgapError | None = None

    def push_all(self, found: list[tuple[int, Path]], publisher: Publisher) -> None:
        """Push what can be, oldest first, until no bundle meets another's needs any more."""
        left = found
        while left:
            waiting: list[tuple[int, Path]] = []
            self.waiting.clear()
            before = len(self.pushed)
            for number, path in left:
                if not self._push(number, path, publisher):
                    waiting.append((number, path))
            if len(self.pushed) == before:
                break
            left = waiting
        for number, path in left:
            if path.name in self.waiting and number < self.state.number:
                newer = f"{self.settings.name}-{self.state.number:06}"
                del self.waiting[path.name]
                self._quarantine(
                    path, f"Not pushed: {newer} holds a newer set, and what this one builds on is missing."
                )
        self._tell_gaps()

    def tell_misnamed(self) -> None:
        """Say what looks like a bundle and is none by its name: nobody would know why it stays where it is."""
        self.misnamed = misnamed(self.inbox, BUNDLE)
        for name in self.misnamed:
            taken = f"{self.settings.name}-000001{BUNDLE}"
            self.say("warning", f"{name} is left alone: sync takes bundles that are called like {taken}")

    def look(self, path: Path) -> None:
        """Verify one bundle and say what it is; nothing is sent."""
        try:
            with BundleReader(path) as reader:
                reader.verify(report=self.report)
                manifest = reader.manifest
        except (IntegrityError, StorageError) as error:
            self.unfinished.append(path.name)
            self.say("warning", f"{path.name} can't be used: {error}")
        else:
            self.whole += 1
            names = [name or identity for identity, name in manifest.since.items()]
            needs = f", builds on {', '.join(names)}" if names else ""
            self.say(
                "info",
                f"{path.name}: carries {len(manifest.carried)} of {len(manifest.files)} files{needs}; would push",
            )

    def _push(self, number: int, path: Path, publisher: Publisher) -> bool:
        """Whether the bundle is done with for this round; one that can't be read, say, does not stop the others."""
        try:
            return self._take(number, path, publisher)
        except StorageError as error:
            self._left(path, error)
            return True

    def _left(self, path: Path, error: AirgapError) -> None:
        """Leave the bundle where it is: the next round tries again."""
        self.say("warning", f"{path.name}: {error}")
        self.unfinished.append(path.name)
        self.failure = self.failure or error

    def _take(self, number: int, path: Path, publisher: Publisher) -> bool:
        """Whether the bundle is done with: pushed, in quarantine, or not to be tried again in this round."""
        draft = self.folder / "draft.receipt.json"
        drop([draft])
        options = PushOptions(skip_conflicts=self.settings.on_conflict == "skip", receipt=draft)
        identity = ""
        try:
            with BundleReader(path) as reader:
                identity = reader.manifest.identity
                if identity in self.state.refused:  # it waits: as long as it must, it need not be read once more
                    needs = unmet_needs(reader, publisher, report=self.report)
                    if needs:
                        self.waiting[path.name] = tuple(name or carrier for carrier, name in needs.items())
                        self.say("warning", f"{path.name} still waits for {', '.join(self.waiting[path.name])}")
                        return False
                push_verified(reader, publisher, options, report=self.report)
        except IntegrityError as error:
            return self._damaged(path, error)
        except UnmetNeedsError as error:
            self._wait(path, identity, error, draft)
            return False
        except ConflictError as error:
            self._send(draft)
            self.failure = self.failure or error
            if options.skip_conflicts:
                self._done(number, path, f"{error} {error.hint}")
            else:
                save_state(self.folder, self.state)
                self._quarantine(path, f"{error} {error.hint}")
        except PushError as error:
            self._left(path, error)
        else:
            self._send(draft)
            self._done(number, path)
            self.say("info", f"{path.name}: pushed and read back, identity {identity}")
        return True

    def _done(self, number: int, path: Path, left_alone: str = "") -> None:
        """Put away what was pushed; *left_alone* says which files were not, and why."""
        self.state.number = max(self.state.number, number)
        self.state.seen.pop(path.name, None)
        save_state(self.folder, self.state)
        move(path, self.inbox / "done", left_alone)
        self.pushed.append(path.name.removesuffix(BUNDLE))
        if left_alone:
            self.in_part += 1
            self.say("warning", f"{path.name}: pushed in part: {left_alone}")

    def _damaged(self, path: Path, error: IntegrityError) -> bool:
        if has_settled(self.state.seen, path, self.settings.settle):
            self.state.seen.pop(path.name, None)
            self.failure = self.failure or error
            self._quarantine(path, str(error))
        else:
            self.unfinished.append(path.name)
            self.say("info", f"{path.name} is not complete yet; left alone until it stops changing ({error})")
        save_state(self.folder, self.state)
        return True

    def _wait(self, path: Path, identity: str, error: UnmetNeedsError, draft: Path) -> None:
        self.waiting[path.name] = tuple(name or carrier for carrier, name in error.bundles)
        if identity not in self.state.refused:
            self._send(draft)
            self.state.refused = [*self.state.refused, identity][-100:]
            save_state(self.folder, self.state)
        self.say("warning", f"{path.name} waits: {error}")

    def _quarantine(self, path: Path, reason: str) -> None:
        self.say("warning", f"{path.name} goes into quarantine: {reason}")
        move(path, self.inbox / "quarantine", reason)
        self.quarantined.append(path.name)

    def _send(self, draft: Path) -> None:
        """Seal the receipt of the push that just ended and put it into the outbox."""
        stem = f"{self.settings.name}-{self.settings.site}"
        serial = next_number(self.settings.outbox, stem, ENDING, self.state.serial)
        pieces = sealed(draft, self.settings.name, self.settings.site, serial, self.sign)
        write_whole(self.settings.outbox / f"{stem}-{serial:06}{ENDING}", pieces)
        self.state.serial = serial
        drop([draft])

    def _tell_gaps(self) -> None:
        """Say which numbers never came, where something still waits for them."""
        if not self.waiting:
            return
        here = {number for number, _ in numbered(self.inbox, self.settings.name, BUNDLE)}
        missing = sorted(set(range(self.state.number + 1, max(here, default=0))) - here)
        if missing:
            names = ", ".join(f"{self.settings.name}-{number:06}" for number in missing[:10])
            self.say("warning", f"These never came: {names}. Ask for: {', '.join(self._asked())}, or a full bundle.")

    def _asked(self) -> list[str]:
        return sorted({name for names in self.waiting.values() for name in names})

    def retain(self) -> None:
        """Keep the newest bundles that are done and the newest receipts."""
        keep = self.settings.keep
        done = numbered(self.inbox / "done", self.settings.name, BUNDLE)
        receipts = numbered(self.settings.outbox, f"{self.settings.name}-{self.settings.site}", ENDING)
        old = [path for _, path in [*done[:-keep], *receipts[:-keep]]]
        drop([*old, *map(reason_beside, old)])
        names = {path.name for _, path in numbered(self.inbox, self.settings.name, BUNDLE)}
        self.state.seen = {name: sighting for name, sighting in self.state.seen.items() if name in names}
        save_state(self.folder, self.state)

    def outcome(self, *, dry_run: bool) -> Outcome:
        """The round in one value."""
        parts = [f"pushed {len(self.pushed)}"] if self.pushed else []
        parts += [f"{self.in_part} of them in part"] if self.in_part else []
        parts += [f"{len(self.waiting)} waiting for others"] if self.waiting else []
        parts += [f"{len(self.unfinished)} not complete"] if self.unfinished else []
        parts += [f"{len(self.misnamed)} of another name"] if self.misnamed else []
        parts += [f"{len(self.quarantined)} into quarantine"] if self.quarantined else []
        parts += [f"would push {self.whole}"] if self.whole else []
        message = ", ".join(parts) or "nothing new"
        if self.failure is not None and self.unfinished:
            message += f". First cause: {self.failure}"
        code = self.failure.exit_code if self.failure else PushError.exit_code if self.waiting else 0
        return Outcome(
            self.settings.name,
            self.settings.side,
            message=message,
            exit_code=code,
            pushed=tuple(self.pushed),
            pending=(*self.waiting, *self.unfinished, *self.misnamed),
            asked=tuple(self._asked()),
            quarantined=tuple(self.quarantined),
            dry_run=dry_run,
        )
