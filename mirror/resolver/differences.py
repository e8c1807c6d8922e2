"""Which projects could not have one version on every target, and what stood in the way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from packaging.utils import NormalizedName
from packaging.version import Version

from mirror.errors import AirgapError
from mirror.models import Difference
from mirror.resolver.candidates import Finder
from mirror.resolver.dependencies import Markers, dependencies
from mirror.resolver.needs import Candidate, Need
from mirror.resolver.protocols import MetadataSource


@dataclass(frozen=True)
class Outcome:
    """What one target's search settled on, for the user's lines *roots*."""

    finder: Finder
    markers: Markers
    roots: Sequence[Need]
    candidates: Sequence[Candidate]
    metadata: MetadataSource

    @cached_property
    def versions(self) -> Mapping[NormalizedName, Version]:
        return {candidate.project: candidate.version for candidate in self.candidates}

    @cached_property
    def needs(self) -> Sequence[Need]:
        """Everything that anybody asks for; not cheap, and seldom of interest."""
        needs = list(self.roots)
        for candidate in self.candidates:
            needs += dependencies(candidate, self.metadata.read(candidate.file), self.markers)
        return [need for need in needs if need.exact is None]


def differences(outcomes: Sequence[Outcome]) -> tuple[Difference, ...]:
    """The projects with more than one version among *outcomes*, sorted."""
    projects: dict[NormalizedName, set[Version]] = {}
    for outcome in outcomes:
        for project, version in outcome.versions.items():
            projects.setdefault(project, set()).add(version)
    return tuple(
        Difference(
            project,
            {o.finder.target.name: str(o.versions[project]) for o in outcomes if project in o.versions},
            tuple(_reasons(project, versions, outcomes)),
        )
        for project, versions in sorted(projects.items())
        if len(versions) > 1
    )


def _reasons(project: NormalizedName, versions: set[Version], outcomes: Sequence[Outcome]) -> Iterator[str]:
    """For each version, newest first, what keeps the targets that have another one from taking it."""
    for version in sorted(versions, reverse=True):
        by_reason: dict[str, list[str]] = {}
        for outcome in outcomes:
            if outcome.versions.get(project, version) != version:
                reason = _obstacle(outcome, project, version)
                if reason:
                    by_reason.setdefault(reason, []).append(outcome.finder.target.name)
        for reason, targets in by_reason.items():
            yield f"{version} not on {', '.join(targets)}: {reason}"


def _summed_up(reasons: Sequence[str]) -> str:
    """Why no file of a version is usable, in words that are the same for all targets that it holds for."""
    pythons = [reason for reason in reasons if reason.startswith("requires Python")]
    others = [reason for reason in reasons if not reason.startswith(("requires Python", "no tag"))]
    return "; ".join(pythons or others) or "no wheel of it fits"


def _obstacle(outcome: Outcome, project: NormalizedName, version: Version) -> str | None:
    needs = [need for need in outcome.needs if need.project == project]
    constraints = outcome.finder.rules.constraints.get(project, ())
    for need in needs:
        if not need.accepts(version):
            return f"{need.origin} asks for {need.text}"
    for need in constraints:
        if not need.accepts(version):
            return f"constraint {need.origin}: {need.text}"
    usable, reasons = outcome.finder.judged(project, version, [*needs, *constraints])
    if usable is None:
        return _summed_up(reasons)
    if not usable.is_wheel:
        return "only its sdist fits"
    try:
        metadata = outcome.metadata.read(usable)
        candidate = Candidate(project, None, version, usable)
        if not outcome.finder.fits_python(candidate, metadata):
            return f"requires Python {metadata.requires_python}"
        wanted = dependencies(candidate, metadata, outcome.markers)
    except AirgapError as error:
        return str(error)
    for need in wanted:
        chosen = outcome.versions.get(need.project)
        if chosen is not None and not need.accepts(chosen):
            return f"it asks for {need.text}, and {need.project} is {chosen} there"
        if chosen is None and next(outcome.finder.candidates(need.project, need.extra, [need]), None) is None:
            return f"it asks for {need.text}, of which no version can be had there"
    return None
