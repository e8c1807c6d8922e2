"""Receipts that arrive on the connected side: opened, added to what their sites said before, and put away."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from mirror.config import SyncSettings
from mirror.errors import BundleError, StorageError
from mirror.push.receipt import State
from mirror.sync.files import existing, misnamed, move
from mirror.sync.outcome import Say
from mirror.sync.receipts import ENDING, SealedReceipt, load_sites, new_site, read_sealed
from mirror.sync.state import ConnectedState, has_settled, save_state

_SITE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*\Z")


class Post:
    """The receipts in the inbox: opened, added to what their sites said, and put away."""

    def __init__(
        self, settings: SyncSettings, folder: Path, state: ConnectedState, say: Say, trusted: Mapping[str, Path]
    ) -> None:
        self._settings = settings
        self._trusted = trusted
        self._folder = folder
        self._state = state
        self._say = say
        self.sites = load_sites(folder)
        self.quarantined: list[str] = []
        self.unfinished: list[str] = []

    def open(self, *, dry_run: bool) -> None:
        """Read every receipt; what it says is safe before the receipt leaves the inbox."""
        inbox = self._settings.inbox
        if inbox is None:
            return
        found = receipts_in(inbox, self._settings.name)
        for name in misnamed(inbox, ENDING):
            self.unfinished.append(name)
            taken = f"{self._settings.name}-main-000001{ENDING}"
            self._say("warning", f"{name} is left alone: sync takes receipts that are called like {taken}")
        for _, path in found:
            try:
                sealed = read_sealed(path, self._trusted)
                if sealed.sync != self._settings.name:  # another job's, in an inbox that they share
                    continue
                self._check(sealed)
            except BundleError as error:
                self._refuse(path, inbox, str(error), dry_run=dry_run)
                continue
            except StorageError as error:  # whoever copied it kept others from reading it; no reason to send nothing
                self.unfinished.append(path.name)
                self._say("warning", f"{path.name} is left alone: {error}")
                continue
            site = self.sites.setdefault(sealed.site, new_site(self._folder, sealed.site))
            site.learn(sealed)
            self._state.seen.pop(path.name, None)
            counts = ", ".join(f"{count} {state.value}" for state, count in sealed.receipt.counts.items() if count)
            self._say("info", f"receipt {sealed.serial} of {sealed.site}: {counts}")
            self._hear(sealed)
            if not dry_run:
                site.save()
                save_state(self._folder, self._state)
                move(path, inbox / "done")

    def _hear(self, sealed: SealedReceipt) -> None:
        """Note what the site asks for. Carrying a file again does not help where another has taken its name."""
        conflicts = [file.filename for file in sealed.receipt.files if file.state is State.CONFLICT]
        if conflicts:
            shown = ", ".join(conflicts[:10]) + (" …" if len(conflicts) > 10 else "")
            self._say("warning", f"{sealed.site} holds other bytes under {len(conflicts)} of the names: {shown}")
        elif not sealed.receipt.complete:
            self._state.asked = True

    def _check(self, sealed: SealedReceipt) -> None:
        if not _SITE.match(sealed.site) or (self._settings.sites and sealed.site not in self._settings.sites):
            raise BundleError(f"The receipt is of a site that is not known here: {sealed.site[:80]!r}.")

    def _refuse(self, path: Path, inbox: Path, reason: str, *, dry_run: bool) -> None:
        if not has_settled(self._state.seen, path, self._settings.settle):
            self.unfinished.append(path.name)
            self._say("info", f"{path.name} is not readable yet; left alone until it stops changing")
            return
        self._say("warning", f"{path.name} goes into quarantine: {reason}")
        self.quarantined.append(path.name)
        if not dry_run:
            self._state.seen.pop(path.name, None)
            move(path, inbox / "quarantine", reason)


def receipts_in(inbox: Path, name: str) -> list[tuple[int, Path]]:
    """Receipts for this job, whatever site they are of, oldest number first."""
    ours = re.compile(rf"{re.escape(name)}-[A-Za-z0-9_-]+-(\d{{6,}}){re.escape(ENDING)}\Z")
    found = [
        (int(match[1]), path)
        for path in existing(inbox, "inbox").iterdir()
        if (match := ours.match(path.name)) and path.is_file()
    ]
    return sorted(found)
