"""What a candidate needs on a target: its metadata read for that machine's markers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from packaging.markers import Marker, UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

from mirror.errors import MetadataError, UsageError
from mirror.filenames import normalised
from mirror.models import Metadata, Pin, RequirementLine, Target
from mirror.resolver.needs import Candidate, Need
from mirror.urls import redact


class Markers:
    """Evaluates markers for one target, each text once."""

    def __init__(self, target: Target) -> None:
        self._environment = target.environment
        self._known: dict[tuple[str, str], bool] = {}
        # Making a marker's text takes longer than anything else here. It is kept, so that no other can come by its id.
        self._seen: dict[tuple[int, str], tuple[Marker, bool]] = {}

    def hold(self, marker: Marker | None, extra: str = "") -> bool:
        """Whether *marker* (None always does) holds on the target, with *extra* asked for."""
        if marker is None:
            return True
        seen = self._seen.get((id(marker), extra))
        if seen is None:
            seen = self._seen[id(marker), extra] = marker, self._holds(marker, extra)
        return seen[1]

    def _holds(self, marker: Marker, extra: str) -> bool:
        key = (str(marker), extra)
        if key not in self._known:
            try:
                self._known[key] = marker.evaluate({**self._environment, "extra": extra})
            except (UndefinedComparison, UndefinedEnvironmentName):
                # pip and uv take a comparison that makes no sense as false.
                self._known[key] = False
        return self._known[key]


def needs_of(requirement: Requirement, line: str, parent: Candidate | None = None) -> Iterator[Need]:
    """Yield the need for the project itself and one for each extra named, of a user's *line* or of *parent*."""
    project = normalised(requirement.name)
    if requirement.url:
        problem = f"{parent or line} asks for {requirement.name} at a URL, {redact(requirement.url)}"
        if parent is None:
            raise UsageError(f"{problem}.", hint=f"Publish {project} on an index, or leave the line out.")
        raise MetadataError(
            f"{problem}, which no installer beyond the gap could follow.",
            hint=f"Pick a version of {parent.project} that asks for {project} by its name alone.",
        )
    extras = sorted(requirement.extras)
    named = f"{requirement.name}[{','.join(extras)}]" if extras else requirement.name
    yield Need(project, None, requirement.specifier, named, line, parent)
    for extra in extras:
        yield Need(project, normalised(extra), requirement.specifier, named, line, parent)


def root_needs(lines: Iterable[RequirementLine], markers: Markers) -> list[Need]:
    """The needs of the user's own lines that hold on the target."""
    return [
        need
        for line in lines
        if markers.hold(line.requirement.marker)
        for need in needs_of(line.requirement, line.origin)
    ]


def dependencies(candidate: Candidate, metadata: Metadata, markers: Markers) -> list[Need]:
    """The needs that *candidate* brings; an extra brings its own project at the same version and what only it adds."""
    if candidate.extra is None:
        return [
            need
            for requirement in metadata.requires_dist
            if markers.hold(requirement.marker)
            for need in needs_of(requirement, "", candidate)
        ]
    from_extra = [
        need
        for requirement in metadata.requires_dist
        if requirement.marker is not None
        and not markers.hold(requirement.marker)
        and markers.hold(requirement.marker, candidate.extra)
        for need in needs_of(requirement, "", candidate)
    ]
    return [_itself(candidate), *from_extra]


def _itself(candidate: Candidate) -> Need:
    return Need(candidate.project, None, _ANY, candidate.project, parent=candidate, exact=candidate.version)


def unsatisfiable(candidate: Candidate) -> Need:
    """What *candidate* needs whose metadata is unsound, or not for the target's Python."""
    return Need(candidate.project, None, _ANY, candidate.project, parent=candidate, broken=True)


_ANY = Requirement("any").specifier
_SETUPTOOLS_WITH_WHEEL = Version("70.1")


def implied_build_requires(pins: Iterable[Pin]) -> tuple[Requirement, ...]:
    """What a build environment of *pins* is known to ask for when it runs: setuptools before 70.1 asks for wheel."""
    versions = {pin.project: Version(pin.version) for pin in pins}
    setuptools = versions.get(canonicalize_name("setuptools"), _SETUPTOOLS_WITH_WHEEL)
    return () if setuptools >= _SETUPTOOLS_WITH_WHEEL or "wheel" in versions else (Requirement("wheel"),)


def misses_extra(candidate: Candidate, metadata: Metadata) -> NormalizedName | None:
    """The extra of *candidate* where its metadata does not provide it, else None."""
    if candidate.extra is None or candidate.extra in metadata.provides_extra:
        return None
    return candidate.extra
