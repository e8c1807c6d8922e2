"""Pack: requirements to plan, plan to files, proof, bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mirror.bundle import BundleContent, Written, write_bundle
from mirror.config import Config
from mirror.errors import HashMismatchError
from mirror.fetch import Fetched
from mirror.models import File, FormatControl, Hashes, Plan, Reporter, RequirementSet, Target, silent
from mirror.ops.connect import Connected, connected
from mirror.ops.prove import BundledMetadata, prove
from mirror.resolver import Resolution


@dataclass(frozen=True, slots=True)
class Packed:
    """What ``pack`` found and, unless it was a dry run, wrote. ``sizes`` are bytes by file name, None where unknown."""

    plan: Plan
    sizes: Mapping[str, int | None]
    sha256: Mapping[str, str | None]
    written: Written | None


def pack(
    wanted: RequirementSet,
    targets: tuple[Target, ...],
    output: Path | None,
    config: Config,
    report: Reporter = silent,
) -> Packed:
    """Pack the closure of *wanted* for *targets* into *output*; with None, resolve only (a dry run).

    Raises a ResolutionError where a target can't be resolved, a NetworkError where files can't be fetched, an
    IntegrityError where they are not what was promised, a StorageError where they can't be kept. Whatever was fetched
    by then stays in the store for the next run.
    """
    wanted = _with_config(wanted, config)
    with connected(config, wanted, report) as at:
        if output is None:
            plan = _resolve(wanted, targets, at, report, eager=False)
            files = plan.files()
            return Packed(
                plan,
                {name: at.metadata.size(file) for name, file in files.items()},
                {name: file.hashes.sha256 for name, file in files.items()},
                None,
            )
        plan = _resolve(wanted, targets, at, report, eager=True)
        fetched = at.fetcher.fetch(plan.files().values())
        _check_locked(plan, wanted, fetched)
        metadata = BundledMetadata(at.store, fetched)
        prove(plan, wanted, fetched, metadata, report)
        files = plan.files()
        content = BundleContent(
            plan=plan,
            fetched=fetched,
            metadata={name: metadata.read(file).raw for name, file in files.items()},
            sources=wanted.sources,
        )
        written = write_bundle(output, content, at.store, report=report)
    return Packed(
        plan,
        {name: fetched[name].size for name in files},
        {name: fetched[name].sha256 for name in files},
        written,
    )


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


def _resolve(
    wanted: RequirementSet, targets: tuple[Target, ...], at: Connected, report: Reporter, *, eager: bool
) -> Plan:
    def pinned(file: File) -> None:
        if eager:
            at.fetcher.start(file)

    with Resolution(wanted, at.index, at.metadata, pinned=pinned, report=report) as resolution:
        return resolution.plan(targets)


def _check_locked(plan: Plan, wanted: RequirementSet, fetched: Mapping[str, Fetched]) -> None:
    """Hold every fetched file against the lock's digests; an index need not have shown the algorithm that it names."""
    allowed: dict[str, set[str]] = {}
    for line in (*wanted.requirements, *wanted.constraints):
        if line.hashes:
            allowed.setdefault(line.project, set()).update(line.hashes)
    for name, file in plan.files().items():
        known = Hashes.of({**dict(file.hashes), "sha256": fetched[name].sha256})
        hashes = allowed.get(file.project)
        if hashes and not any(f"{algorithm}:{digest}" in hashes for algorithm, digest in known):
            raise HashMismatchError(
                f"{name} from {file.index} has sha256 {fetched[name].sha256}, which the lock does not name.",
                hint="Lock again if the index is right, or find out why it serves another file.",
            )
