"""Whether the connected side has something to send, and what it may leave out."""

from __future__ import annotations

import hashlib
from pathlib import Path

from mirror.bundle import Manifest, Since
from mirror.config import SyncSettings
from mirror.ops.delta import read_since
from mirror.sync.post import Post
from mirror.sync.receipts import common
from mirror.sync.state import ConnectedState, last_manifest


class Decision:
    """Whether a bundle is due, and what it may leave out."""

    def __init__(self, settings: SyncSettings, folder: Path, state: ConnectedState, post: Post, *, full: bool) -> None:
        self._settings = settings
        self._folder = folder
        self._state = state
        self._post = post
        self._full = full
        self.since: Since | None = None
        self.why = ""
        self.missing = 0

    def base(self, manifest: Manifest) -> Since | None:
        """What the next bundle builds on; None where none is due."""
        known = self._known(manifest)
        self.missing = sum((file.filename, file.sha256) not in known.carriers for file in manifest.files)
        self.why = self._reason(manifest, self.missing)
        if self.why:
            self.since = Since() if self._is_full() else known
        return self.since

    def _reason(self, manifest: Manifest, missing: int) -> str:
        if not self._state.number:
            return "the first one"
        if self._full:
            return "asked for"
        if closure_of(manifest) != self._state.closure:
            return "something changed"
        if missing and self._state.asked:
            return "a receipt says that files are missing"
        resend = self._settings.resend_after
        if missing and self._settings.inbox and resend and self._state.quiet + 1 >= resend:
            return f"no receipt for {missing} files after {self._state.quiet + 1} rounds"
        return ""

    def _is_full(self) -> bool:
        every = self._settings.full_every
        return self._full or bool(every and self._state.number + 1 - self._state.last_full >= every)

    def _known(self, manifest: Manifest) -> Since:
        """What beyond the gap is there: by receipts, or without an inbox for them, by what was sent."""
        names = {each.identity: each.name for each in self._state.rounds}
        if self._settings.inbox is not None:
            return common(self._post.sites, self._settings.sites, manifest.files, names)
        last = last_manifest(self._folder, self._state)
        if last is None:
            return Since()
        since = read_since(last)
        return Since(since.carriers, {**since.names, **names})


def closure_of(manifest: Manifest) -> str:
    """A digest of which files go to which targets, whatever the bundle carries and whatever led to them."""
    digest = hashlib.sha256()
    for file in manifest.files:
        digest.update(repr((file.filename, file.sha256, file.targets, file.builds, file.yanked)).encode())
    for target in manifest.targets:
        digest.update(repr((target.name, sorted(target.pins.items()))).encode())
    return digest.hexdigest()
