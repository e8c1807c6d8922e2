"""Pack: requirements to plan, plan to files, proof, bundle."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from mirror.bundle import BundleContent, Frames, Manifest, Prepared, Since, as_delta, prepare, write_bundle
from mirror.config import Config
from mirror.errors import UsageError
from mirror.fetch import Fetched
from mirror.index.answer import Asked
from mirror.models import Event, File, FormatControl, Plan, Reporter, RequirementSet, Stage, Target, Written, silent
from mirror.ops.building import Building
from mirror.ops.builds import Builds
from mirror.ops.built import accepting, idle, unasked, with_wheels
from mirror.ops.connect import Connected, connected
from mirror.ops.direct import Direct, Overlay, projects_in
from mirror.ops.locked import Locked
from mirror.ops.overlap import compress_when_fetched, frames_beside
from mirror.ops.packed import Packed
from mirror.ops.prove import BundledMetadata, check_offered, prove
from mirror.ops.settled import Heard, settle
from mirror.ops.unchanged import Existing, remember
from mirror.resolver import Resolution
from mirror.store import Store

if TYPE_CHECKING:
    from mirror.lockfiles.lock import Lock


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
    fresh: Mapping[str, str] = MappingProxyType({}),
) -> Packed:
    """Pack the closure of *wanted* for *targets* into *output*; with None, resolve only (a dry run).

    *base* is called with the manifest of the whole set when it is proved, and says what the bundle builds on as a
    delta; where it returns None, no bundle is written. *building* names the projects whose code may run here, nobody's
    by default. *include* are wheels, sdists and folders of them that go into the bundle with what they require. With a
    *lock*, which decides everything else, *wanted* only constrains what building its sdists needs. *fresh* are the
    digests of index pages that were asked for a moment ago, by URL without credentials.

    Raises a ResolutionError where a target can't be resolved, a NetworkError where files can't be fetched, an
    IntegrityError where they are not what was promised, a StorageError where they can't be kept. Whatever was fetched
    by then stays in the store for the next run.
    """
    given, report = wanted, Heard(report)
    wanted = _with_config(wanted, config)
    if lock is not None:
        from mirror.ops.locks import with_digests, with_references

        wanted = with_references(with_digests(wanted, lock), lock, targets, own=projects_in(include))
    building = building or Building()
    if not (wanted.requirements or include or lock):
        report(Event("warning", Stage.RESOLVE, "The requirements ask for nothing: the bundle will be empty."))
    # Own packages and locks lie in files: what they come to is not to be noted.
    asked: list[Asked] | None = None if base or lock or include or building.allowed or building.wheels else []
    # A dry run has no output, and whatever lies there is nothing to it.
    with connected(config, wanted, report, fresh, asked) as at, Existing(output or Path(os.devnull)) as existing:
        job = _Job(at, wanted, lock, building, include, report)
        look_up = config.no_index.value or config.index_url.source.startswith("--")
        plan = job.resolve(targets, look_up=look_up, eager=output is not None)
        if output is None:
            files = plan.files()
            sizes = {name: at.metadata.size(file) for name, file in files.items()}
            return Packed(plan, sizes, {name: file.hashes.sha256 for name, file in files.items()}, None)
        plan, built = with_wheels(plan, job.builds)
        at.index.forget()
        # A delta carries few of the files: what it will be is known too late to begin now.
        with nullcontext() if base else frames_beside(output, at.store) as frames:
            if frames is not None:
                compress_when_fetched(plan, at.fetcher, frames)
            fetched = at.fetcher.fetch(plan.files().values())
            prepared = job.prove(plan, built, fetched)
            since = base(prepared.manifest) if base else Since()
            if since is not None and since.carriers:
                prepared = as_delta(prepared, since)
            written = None if since is None else _write(output, existing, prepared, at.store, frames, report)
        packed = Packed(
            plan,
            {name: file.size for name, file in fetched.items()},
            {name: file.sha256 for name, file in fetched.items()},
            written,
            prepared.manifest,
        )
        # Who was warned is to be warned again.
        if asked is not None and not report.warned and at.metadata.certain:
            settle(at.store, given, targets, config, asked, packed)
    return packed


class _Job:
    """What is packed, and what it takes: from requirements to a plan, and from its files to a proved set."""

    def __init__(
        self,
        at: Connected,
        wanted: RequirementSet,
        lock: Lock | None,
        building: Building,
        include: Sequence[Path],
        report: Reporter,
    ) -> None:
        self._at = at
        self._lock = lock
        self._report = report
        self._index = Overlay(at.index)
        self.builds = Builds(self._index, at.metadata, at.fetcher, at.store, building, _indexed(wanted), report)
        direct = Direct(self._index, at.fetcher, at.store, sdist=self.builds.sdist, allowed=building.allowed)
        self._given = direct.take(wanted, include)
        self._wanted = self.builds.rules = self._given.wanted
        if self._wanted.require_hashes and building.wheels:
            raise UsageError(
                "--build-wheels makes files that a lock with hashes can't name, so no installer would take them.",
                hint="Leave --build-wheels out: the sdist goes along with all that building it needs.",
            )

    def resolve(self, targets: tuple[Target, ...], *, look_up: bool, eager: bool) -> Plan:
        """What every target installs; with *eager*, downloads begin while the search still goes on."""
        if self._lock is not None:
            from mirror.ops.locks import LockedPlans

            plans = LockedPlans(
                self._lock, self._wanted, self._at, self._index, self.builds, self._report, look_up=look_up
            )
            return plans.plan(targets, eager=eager)

        def pinned(file: File) -> None:
            if eager:
                self._at.fetcher.start(file)

        with Resolution(self._wanted, self._index, self.builds, pinned=pinned, report=self._report) as resolution:
            try:
                return resolution.plan(targets)
            except KeyboardInterrupt:
                self._at.client.close()  # what is being read ahead need not be tried again and again
                raise

    def prove(self, plan: Plan, built: Mapping[str, Mapping[str, str]], fetched: Mapping[str, Fetched]) -> Prepared:
        """Hold the files against what was promised, prove that every target installs from them, and describe them."""
        at, wanted, files = self._at, self._wanted, plan.files()
        documents = self._proved(plan, built, fetched)
        at.metadata.forget()
        origins = {**self._given.origins, **built}
        return prepare(
            BundleContent(
                plan=plan,
                fetched=fetched,
                metadata=documents,
                sources=wanted.sources,
                origins={name: origin for name, origin in origins.items() if name in files},
            ),
            at.store.scratch(),
        )

    def _proved(
        self, plan: Plan, built: Mapping[str, Mapping[str, str]], fetched: Mapping[str, Fetched]
    ) -> Mapping[str, bytes]:
        """Raise unless the files are what was promised and every target installs from them; return their metadata."""
        at, wanted = self._at, self._wanted
        locked = Locked(wanted, at.store)
        for name, file in plan.files().items():
            locked.check(file, fetched[name].sha256)
        metadata = BundledMetadata(at.store, fetched, self.builds, at.metadata.known)
        check_offered(plan, at.metadata, metadata)
        lines = accepting(wanted, plan, built)
        if self._lock is not None:
            from mirror.ops.locks import proof_lines

            prove(plan, partial(proof_lines, wanted=lines), fetched, metadata, self._report)
        else:
            prove(plan, lines, fetched, metadata, self._report)
        _warn_of_builds(plan, built, self.builds, at.store, fetched, self._report)
        return metadata.documents(plan)


def _write(
    output: Path, existing: Existing, prepared: Prepared, store: Store, frames: Frames | None, report: Reporter
) -> Written:
    """The bundle at *output*, written unless it is there already, byte for byte."""
    written = existing.unchanged(prepared.manifest.identity, store)
    if written is None:
        written = write_bundle(output, prepared, store, frames=frames, report=report)
        remember(written, store)
    return written


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
