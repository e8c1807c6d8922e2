"""The connected side: receipts in, inputs resolved, and, where something is new, the next bundle into the outbox."""

from __future__ import annotations

import glob
import hashlib
import json
import re
from collections.abc import Collection
from pathlib import Path

from mirror.bundle import BundleReader, Manifest, Since
from mirror.config import Config, SyncSettings
from mirror.errors import BundleError, ConfigError, ResolutionError, StorageError
from mirror.lockfiles import Inputs, read
from mirror.models import Reporter, Target
from mirror.ops.cache import parse_size
from mirror.ops.delta import read_manifest
from mirror.ops.diff import Difference, diff
from mirror.ops.pack import pack
from mirror.store import Store
from mirror.sync.files import drop, move, write_whole
from mirror.sync.outcome import Outcome, Say, next_number
from mirror.sync.receipts import ENDING, SealedReceipt, Site, common, load_sites, read_sealed, save_site
from mirror.sync.state import (
    ConnectedState,
    Round,
    has_settled,
    load_state,
    manifest_path,
    newest_manifests,
    save_state,
)

BUNDLE = ".tar.zst"
_SITE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*\Z")


def run_connected(
    settings: SyncSettings,
    config: Config,
    folder: Path,
    targets: tuple[Target, ...],
    *,
    report: Reporter,
    say: Say,
    full: bool = False,
    dry_run: bool = False,
) -> Outcome:
    """One round; *folder* holds the state and is locked by the caller. Errors of packing are raised."""
    state = load_state(folder, ConnectedState)
    outcome = Outcome(settings.name, settings.side, dry_run=dry_run)
    post = _Post(settings, folder, state, say)
    post.open(dry_run=dry_run)
    outcome.quarantined = tuple(post.quarantined)
    outcome.pending = tuple(post.unfinished)
    decision = _Decision(settings, folder, state, post, full=full)
    number = next_number(settings.outbox, settings.name, BUNDLE, state.number)
    name = f"{settings.name}-{number:06}"
    path = settings.outbox / f"{name}{BUNDLE}"

    def base(manifest: Manifest) -> Since | None:
        since = decision.base(manifest)
        return None if dry_run else since

    try:
        inputs = _inputs(settings, targets)
        packed = pack(inputs.wanted, targets, path, config, report, base=base, lock=inputs.lock)
    except ResolutionError as error:
        if settings.on_failure == "stop" or _last_manifest(folder, state) is None:
            raise
        say("warning", f"{error} The last good set stays in force.")
        outcome.message = "does not resolve now; the last good set stays in force"
        if not dry_run:
            save_state(folder, state)
        return outcome
    manifest = packed.manifest
    if manifest is None:
        raise StorageError("Nothing was packed.")
    outcome.unconfirmed = decision.missing if settings.inbox is not None else 0
    if decision.since is None:
        outcome.message = "nothing new"
        state.quiet += 1
    else:
        kind = "a delta" if decision.since.carriers else "a full bundle"
        outcome.message = f"{'would write' if dry_run else 'wrote'} {name}, {kind}: {decision.why}"
        changes = summary(diff(_last_manifest(folder, state) or Manifest(), manifest))
        say("info", "\n".join(changes))
    if packed.written is not None and decision.since is not None:
        _verify(path)
        text = "\n".join([f"{name}: {kind}; {decision.why}.", "", *changes])
        write_whole(settings.outbox / f"{name}.txt", f"{text}\n".encode())
        write_whole(manifest_path(folder, number), manifest.to_bytes())
        state.number = number
        state.closure = closure_of(manifest)
        state.quiet = 0
        state.asked = False
        is_full = not manifest.expected
        state.last_full = number if is_full else state.last_full
        state.rounds.append(Round(number, name, manifest.identity, is_full))
        outcome.bundle = name
    if not dry_run:
        _retain(settings, folder, state)
        save_state(folder, state)
        _trim(settings, config, say)
    return outcome


class _Post:
    """The receipts in the inbox: opened, added to what their sites said, and put away."""

    def __init__(self, settings: SyncSettings, folder: Path, state: ConnectedState, say: Say) -> None:
        self._settings = settings
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
        for _, path in _receipts(inbox, self._settings.name):
            try:
                sealed = read_sealed(path)
                if sealed.sync != self._settings.name:  # another job's, in an inbox that they share
                    continue
                self._check(sealed)
            except BundleError as error:
                self._refuse(path, inbox, str(error), dry_run=dry_run)
                continue
            site = self.sites.setdefault(sealed.site, Site(sealed.site))
            site.learn(sealed)
            self._state.seen.pop(path.name, None)
            counts = ", ".join(f"{count} {state.value}" for state, count in sealed.receipt.counts.items() if count)
            self._say("info", f"receipt {sealed.serial} of {sealed.site}: {counts}")
            self._state.asked = self._state.asked or not sealed.receipt.complete
            if not dry_run:
                save_site(self._folder, site)
                save_state(self._folder, self._state)
                move(path, inbox / "done")

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


class _Decision:
    """Whether a bundle is due, and what it may leave out."""

    def __init__(self, settings: SyncSettings, folder: Path, state: ConnectedState, post: _Post, *, full: bool) -> None:
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
        known = self._known()
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

    def _known(self) -> Since:
        """What beyond the gap is there: by receipts, or without an inbox for them, by what was sent."""
        names = {each.identity: each.name for each in self._state.rounds}
        if self._settings.inbox is not None:
            return common(self._post.sites, self._settings.sites, names)
        last = _last_manifest(self._folder, self._state)
        if last is None:
            return Since()
        since = Since.of(last, "")
        return Since(since.carriers, {**since.names, **names})


def closure_of(manifest: Manifest) -> str:
    """A digest of which files go to which targets, whatever the bundle carries and whatever led to them."""
    files = [(file.filename, file.sha256, file.targets, file.builds, file.yanked) for file in manifest.files]
    targets = [(target.name, dict(target.pins)) for target in manifest.targets]
    return hashlib.sha256(json.dumps([files, targets], sort_keys=True).encode()).hexdigest()


def summary(found: Difference) -> list[str]:
    """What is new, changed and gone, a line a project, for people."""
    if not found:
        return ["The same files as last time."]
    lines: list[str] = []
    for kind, title in (("added", "new"), ("changed", "changed"), ("removed", "gone")):
        for change in found.of_kind(kind):
            versions = " -> ".join(filter(None, (", ".join(change.old_versions), ", ".join(change.new_versions))))
            size = f", {change.added_size:,} bytes" if change.added_size else ""
            lines.append(f"{title}: {change.project} {versions}{size}")
            lines += [f"  other bytes under the same name: {file.filename}" for file in change.replaced]
    lines += [f"target {target.kind}: {target.name}" for target in found.targets if target.kind != "changed"]
    return lines or ["The same files for other targets."]


def _verify(path: Path) -> None:
    """Read the new bundle once more; one that is not what was written must not be carried anywhere."""
    try:
        with BundleReader(path) as reader:
            reader.verify()
    except BundleError:
        drop([path])
        raise


def _inputs(settings: SyncSettings, targets: tuple[Target, ...]) -> Inputs:
    inputs = read(_found(settings, settings.requirements), constraints=_found(settings, settings.constraints))
    inputs.check(targets)
    return inputs


def _found(settings: SyncSettings, patterns: Collection[str]) -> list[str]:
    """The files that *patterns* name, each once; a ConfigError for a pattern that names none."""
    paths: dict[str, None] = {}
    for pattern in patterns:
        matching = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - patterns are absolute
        if not matching:
            raise ConfigError(f"{settings.source}: no file matches {pattern}.")
        paths.update(dict.fromkeys(matching))
    return list(paths)


def _receipts(inbox: Path, name: str) -> list[tuple[int, Path]]:
    """Receipts for this job, whatever site they are of, oldest number first."""
    if not inbox.is_dir():
        raise StorageError(f"The inbox {inbox} is not there.", hint="Is the medium mounted?")
    ours = re.compile(rf"{re.escape(name)}-[A-Za-z0-9_-]+-(\d{{6,}}){re.escape(ENDING)}\Z")
    found = [(int(match[1]), path) for path in inbox.iterdir() if (match := ours.match(path.name)) and path.is_file()]
    return sorted(found)


def _last_manifest(folder: Path, state: ConnectedState) -> Manifest | None:
    path = manifest_path(folder, state.number)
    return read_manifest(path) if state.number and path.exists() else None


def _retain(settings: SyncSettings, folder: Path, state: ConnectedState) -> None:
    """Keep the newest bundles and whatever they build on without a receipt for it; drop the others."""
    kept = {each.identity for each in state.rounds[-settings.keep :]}
    if settings.inbox is None:
        for each in reversed(state.rounds):
            path = manifest_path(folder, each.number)
            if each.identity in kept and path.exists():
                kept |= set(read_manifest(path).since)
    gone = [each for each in state.rounds if each.identity not in kept]
    for each in gone:
        drop([settings.outbox / f"{each.name}{BUNDLE}", settings.outbox / f"{each.name}.txt"])
        drop([manifest_path(folder, each.number)])
    state.rounds = [each for each in state.rounds if each.identity in kept]
    if settings.inbox is not None:
        old = _receipts(settings.inbox / "done", settings.name) if (settings.inbox / "done").is_dir() else []
        drop(path for _, path in old[: -settings.keep * max(1, len(settings.sites))])


def _trim(settings: SyncSettings, config: Config, say: Say) -> None:
    """Bring the store down to its set size; while somebody else uses it, another round will."""
    if not settings.cache_size:
        return
    keep = {file.sha256 for path in newest_manifests(config) for file in read_manifest(path).files}
    try:
        dropped = Store(config.cache.value).collect(keep, limit=parse_size(settings.cache_size))
    except StorageError as error:
        say("warning", f"The cache was not trimmed: {error}")
    else:
        say("info", f"cache: dropped {dropped.blobs} files, {dropped.freed:,} bytes")
