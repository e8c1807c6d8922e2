"""The connected side: receipts in, inputs resolved, and, where something is new, the next bundle into the outbox."""

from __future__ import annotations

import glob
from collections.abc import Collection
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

from packaging.utils import canonicalize_name

from mirror.bundle import BundleReader, Manifest, Since
from mirror.config import Config, SyncSettings
from mirror.errors import AirgapError, ConfigError, ResolutionError, StorageError, UsageError
from mirror.lockfiles import Inputs, read
from mirror.models import Reporter, Selection, Target
from mirror.ops.building import Building
from mirror.ops.cache import collect, parse_size
from mirror.ops.pack import pack
from mirror.resolver.times import cutoff
from mirror.store import Store
from mirror.sync.decision import Decision, closure_of
from mirror.sync.files import BUNDLE, drop, existing, numbered, write_whole
from mirror.sync.outcome import Outcome, Say, next_number
from mirror.sync.post import Post, receipts_in
from mirror.sync.slip import changes_since, slip, summary
from mirror.sync.state import (
    ConnectedState,
    Round,
    last_manifest,
    load_state,
    manifest_path,
    newest_manifests,
    save_state,
)


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
    existing(settings.outbox, "outbox")
    state = load_state(folder, ConnectedState)
    outcome = Outcome(settings.name, settings.side, dry_run=dry_run)
    post = Post(settings, folder, state, say, config.receipts.trusted_keys)
    post.open(dry_run=dry_run)
    outcome.quarantined = tuple(post.quarantined)
    outcome.pending = tuple(post.unfinished)
    decision = Decision(settings, folder, state, post, full=full)
    number = next_number(settings.outbox, settings.name, BUNDLE, state.number)
    name = f"{settings.name}-{number:06}"
    path = settings.outbox / f"{name}{BUNDLE}"

    def base(manifest: Manifest) -> Since | None:
        since = decision.base(manifest)
        return None if dry_run else since

    try:
        inputs = _inputs(settings, targets)
        packed = pack(
            inputs.choosing(_selection(settings)),
            targets,
            path,
            config,
            report,
            base=base,
            building=Building.of(settings.packing.allow_build, settings.packing.build_wheels),
            include=[Path(each) for each in _found(settings, settings.packing.include)],
            lock=inputs.lock,
        )
    except ResolutionError as error:
        if settings.on_failure == "stop" or last_manifest(folder, state) is None:
            raise
        say("warning", f"{error} The last good set stays in force.")
        outcome.message = "does not resolve now; the last good set stays in force"
        if not dry_run:
            save_state(folder, state)
        return outcome
    manifest, written = packed.manifest, packed.written
    del packed  # the plan is not needed again, and room for reading the new bundle is
    if manifest is None:
        raise StorageError("Nothing was packed.")
    outcome.unconfirmed = decision.missing if settings.inbox is not None else 0
    if decision.since is None:
        outcome.message = "nothing new"
        state.quiet += 1
    else:
        kind = "a delta" if decision.since.carriers else "a full bundle"
        outcome.message = f"{'would write' if dry_run else 'wrote'} {name}, {kind}: {decision.why}"
        changes = summary(changes_since(last_manifest(folder, state), manifest))
        say("info", "\n".join(changes))
    if written is not None and decision.since is not None:
        text, record = settings.outbox / f"{name}.txt", manifest_path(folder, number)
        try:
            _verify(path)
            write_whole(text, slip(f"{name}: {kind}; {decision.why}.", changes, written))
            write_whole(record, manifest.spelled())
            state.number = number
            state.closure = closure_of(manifest)
            state.quiet = 0
            state.asked = False
            is_full = not manifest.expected
            state.last_full = number if is_full else state.last_full
            state.rounds.append(Round(number, name, manifest.identity, is_full, sorted(manifest.since)))
            save_state(folder, state)  # before anything else can go wrong: what is not in it is written once more
        except AirgapError:
            # No state names it: as long as the cause lasts, each round would leave one more.
            with suppress(StorageError):
                drop([path, text, record])
            raise
        outcome.bundle = name
    if not dry_run:
        _retain(settings, folder, state)
        save_state(folder, state)
        _trim(settings, config, say)
    return outcome


def _verify(path: Path) -> None:
    """Read the new bundle once more; one that is not what was written must not be carried anywhere."""
    with BundleReader(path) as reader:
        reader.verify()


def _inputs(settings: SyncSettings, targets: tuple[Target, ...]) -> Inputs:
    inputs = read(
        _found(settings, settings.requirements),
        constraints=_found(settings, settings.constraints),
        extras=settings.packing.extras,
        groups=settings.packing.groups,
    )
    inputs.check(targets)
    return inputs


def _selection(settings: SyncSettings) -> Selection:
    packing = settings.packing
    try:
        before = cutoff(packing.exclude_newer, datetime.now(timezone.utc)) if packing.exclude_newer else None
    except UsageError as error:
        raise ConfigError(f"{settings.source}: {error}", hint=error.hint) from error
    return Selection(
        before=before,
        missing_time=packing.exclude_newer_missing,
        pre=frozenset(map(canonicalize_name, packing.pre_for)),
        all_wheels=packing.all_wheels,
        with_sdists=packing.with_sdists,
    )


def _found(settings: SyncSettings, patterns: Collection[str]) -> list[str]:
    """The files that *patterns* name, each once; a ConfigError for a pattern that names none."""
    paths: dict[str, None] = {}
    for pattern in patterns:
        matching = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 - patterns are absolute
        if not matching:
            raise ConfigError(f"{settings.source}: no file matches {pattern}.")
        paths.update(dict.fromkeys(matching))
    return list(paths)


def _retain(settings: SyncSettings, folder: Path, state: ConnectedState) -> None:
    """Keep the newest bundles and whatever they build on without a receipt for it; drop the others."""
    kept = {each.identity for each in state.rounds[-settings.keep :]}
    if settings.inbox is None:
        for each in reversed(state.rounds):
            if each.identity in kept:
                kept.update(each.since)
    gone = [each for each in state.rounds if each.identity not in kept]
    for each in gone:
        drop([settings.outbox / f"{each.name}{BUNDLE}", settings.outbox / f"{each.name}.txt"])
        drop([manifest_path(folder, each.number)])
    state.rounds = [each for each in state.rounds if each.identity in kept]
    if len(state.rounds) >= settings.keep:  # what a killed round left, which no state names, grows old as well
        known, oldest = {each.name for each in state.rounds}, state.rounds[-settings.keep].number
        for number, path in numbered(settings.outbox, settings.name, BUNDLE):
            name = path.name.removesuffix(BUNDLE)
            if number < oldest and name not in known:
                drop([path, settings.outbox / f"{name}.txt"])
    if settings.inbox is not None:
        old = receipts_in(settings.inbox / "done", settings.name) if (settings.inbox / "done").is_dir() else []
        drop(path for _, path in old[: -settings.keep * max(1, len(settings.sites))])


def _trim(settings: SyncSettings, config: Config, say: Say) -> None:
    """Bring the store down to its set size; while somebody else uses it, another round will."""
    if not settings.cache_size:
        return
    try:
        dropped = collect(Store(config.cache.value), parse_size(settings.cache_size), newest_manifests(config))
    except StorageError as error:
        say("warning", f"The cache was not trimmed: {error}")
    else:
        say("info", f"cache: dropped {dropped.blobs} files, {dropped.freed:,} bytes")
