"""Pack: requirements to plan, plan to files, proof, bundle."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from mirror.bundle import BundleContent, Manifest, Since, Written, as_delta, prepare, write_bundle
from mirror.config import Config
from mirror.errors import UsageError
from mirror.fetch import Fetched
from mirror.lockfiles import Lock
from mirror.models import Event, File, FormatControl, Plan, Reporter, RequirementSet, Stage, Target, silent
from mirror.ops.builds import Building, Builds
from mirror.ops.built import accepting, idle, unasked, with_wheels
from mirror.ops.connect import Connected, connected
from mirror.ops.direct import Direct, Overlay
from mirror.ops.locked import Locked
from mirror.ops.locks import LockedPlans, proof_lines, with_digests
from mirror.ops.overlap import compress_when_fetched, frames_beside
from mirror.ops.prove import BundledMetadata, check_offered, prove
from mirror.ops.unchanged import remember, unchanged
from mirror.resolver import Index, MetadataSource, Resolution
from mirror.store import Store


@dataclass(frozen=True, slots=True)
class Packed:
    """What ``pack`` found and, unless it was a dry run, wrote. ``sizes`` are bytes by file name, None where unknown.

    ``manifest`` is that of the bundle, or, where *base* had none written, of the whole set; None after a dry run.
    """

    plan: Plan
    sizes: Mapping[str, int | None]
    sha256: Mapping[str, str | None]
    written: Written | None
    manifest: Manifest | None = None


def pack(
    wanted: RequirementSet,
    targets: tuple[Target, ...],
    output: Path | None,
    config: Config,
    report: Reporter = silent,
    *,
    base: Callable[[Manifest], Since | None] | None = None,
    building: Building | None = None,
    include: Sequence[Path] = (),
    lock: Lock | None = None,
) -> Packed:
    """Pack the closure of *wanted* for *targets* into *output*; with None, resolve only (a dry run).

    *base* is called with the manifest of the whole set when it is proved, and says what the bundle builds on as a
    delta; where it returns None, no bundle is written. *building* names the projects whose code may run here, nobody's
    by default. *include* are wheels, sdists and folders of them that go into the bundle with what they require. With a
    *lock*, which decides everything else, *wanted* only constrains what building its sdists needs.

    Raises a ResolutionError where a target can't be resolved, a NetworkError where files can't be fetched, an
    IntegrityError where they are not what was promised, a StorageError where they can't be kept. Whatever was fetched
    by then stays in the store for the next run.
    """
    wanted = _with_config(wanted, config)
    if lock is not None:
        wanted = with_digests(wanted, lock)
    look_up = config.no_index.value or config.index_url.source.startswith("--")
    with ExitStack() as stack:
        at = stack.enter_context(connected(config, wanted, report))
        index = Overlay(at.index)
        builds = Builds(index, at.metadata, at.fetcher, at.store, building or Building(), _indexed(wanted), report)
        direct = Direct(index, at.fetcher, at.store, sdist=builds.sdist, allowed=builds.building.allowed)
        given = direct.take(wanted, include)
        wanted = builds.rules = given.wanted
        if wanted.require_hashes and builds.building.wheels:
            raise UsageError(
                "--build-wheels makes files that a lock with hashes can't name, so no installer would take them.",
                hint="Leave --build-wheels out: the sdist goes along with all that building it needs.",
            )
        if output is None:
            plan = _resolve(wanted, targets, at, index, builds, report, lock, look_up=look_up, eager=False)
            files = plan.files()
            return Packed(
                plan,
                {name: at.metadata.size(file) for name, file in files.items()},
                {name: file.hashes.sha256 for name, file in files.items()},
                None,
            )
        plan = _resolve(wanted, targets, at, index, builds, report, lock, look_up=look_up, eager=True)
        plan, built = with_wheels(plan, builds)
        at.index.forget()
        # A delta carries few of the files: what it will be is known too late to begin now.
        frames = stack.enter_context(frames_beside(output, at.store)) if base is None else None
        if frames is not None:
            compress_when_fetched(plan, at.fetcher, frames)
        fetched = at.fetcher.fetch(plan.files().values())
        _check_locked(plan, wanted, fetched)
        metadata = BundledMetadata(at.store, fetched, builds)
        check_offered(plan, at.metadata, metadata)
        accepted = accepting(wanted, plan, built)
        lines = accepted if lock is None else partial(proof_lines, wanted=accepted)
        prove(plan, lines, fetched, metadata, report)
        _warn_of_builds(plan, built, builds, at.store, fetched, report)
        files = plan.files()
        content = BundleContent(
            plan=plan,
            fetched=fetched,
            metadata=metadata.documents(plan),
            sources=wanted.sources,
            origins={name: origin for name, origin in {**given.origins, **built}.items() if name in files},
        )
        prepared = prepare(content)
        since = base(prepared.manifest) if base else Since()
        if since is not None and since.carriers:
            prepared = as_delta(prepared, since)
        written = None if since is None else unchanged(output, prepared.manifest.identity, at.store)
        if since is not None and written is None:
            written = write_bundle(output, prepared, at.store, frames=frames, report=report)
            remember(written, at.store)
    return Packed(
        plan,
        {name: fetched[name].size for name in files},
        {name: fetched[name].sha256 for name in files},
        written,
        prepared.manifest,
    )


def _warn_of_builds(
    plan: Plan,
    built: Collection[str],
    builds: Builds,
    store: Store,
    fetched: Mapping[str, Fetched],
    report: Reporter,
) -> None:
    """Say what the proof can't know of sdists, and which permissions to build were of no use."""
    for told in idle(plan, builds, built):
        report(Event("warning", Stage.PROVE, told))
    for project in unasked(plan, builds, store, fetched):
        told = f"Building {project} may need more than its pyproject.toml names: --allow-build {project} finds out."
        report(Event("warning", Stage.PROVE, told))


def _with_config(wanted: RequirementSet, config: Config) -> RequirementSet:
    """Add what pip's configuration says about selection to what the files say."""
    named = wanted.format_control
    return replace(
        wanted,
        pre=wanted.pre or config.pre.value,
        format_control=FormatControl(
            named.no_binary | (frozenset(config.no_binary.value) - named.only_binary),
            named.only_binary | (frozenset(config.only_binary.value) - named.no_binary),
        ),
    )


def _indexed(wanted: RequirementSet) -> RequirementSet:
    """*wanted* without its direct references: the rules for what is built before those are known."""
    return replace(
        wanted,
        requirements=tuple(line for line in wanted.requirements if not line.requirement.url),
        constraints=tuple(line for line in wanted.constraints if not line.requirement.url),
    )


def _resolve(
    wanted: RequirementSet,
    targets: tuple[Target, ...],
    at: Connected,
    index: Index,
    metadata: MetadataSource,
    report: Reporter,
    lock: Lock | None,
    *,
    look_up: bool,
    eager: bool,
) -> Plan:
    if lock is not None:
        return LockedPlans(lock, wanted, at, index, metadata, report, look_up=look_up).plan(targets, eager=eager)

    def pinned(file: File) -> None:
        if eager:
            at.fetcher.start(file)

    with Resolution(wanted, index, metadata, pinned=pinned, report=report) as resolution:
        return resolution.plan(targets)


def _check_locked(plan: Plan, wanted: RequirementSet, fetched: Mapping[str, Fetched]) -> None:
    locked = Locked(wanted)
    for name, file in plan.files().items():
        locked.check(file, fetched[name].sha256)
