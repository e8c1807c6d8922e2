"""The resolvelib provider: names, order of work, and dependencies. It decides nothing about files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from packaging.specifiers import SpecifierSet
from packaging.utils import NormalizedName
from packaging.version import Version
from resolvelib import AbstractProvider, BaseReporter

from mirror.errors import MetadataError
from mirror.resolver.candidates import Finder, Matches
from mirror.resolver.dependencies import Markers, dependencies, unsatisfiable
from mirror.resolver.needs import Candidate, Need, names_one
from mirror.resolver.prefetch import Prefetcher
from mirror.resolver.protocols import MetadataSource

if TYPE_CHECKING:
    from resolvelib.providers import Preference
    from resolvelib.resolvers.criterion import Criterion
    from resolvelib.structs import RequirementInformation

#: A project, or one extra of it.
Key = tuple[NormalizedName, NormalizedName | None]

_NONE: frozenset[Version] = frozenset()  # every other empty one would be an object of its own


class Provider(AbstractProvider[Need, Candidate, Key]):
    """Answers resolvelib's questions for one target."""

    def __init__(self, finder: Finder, markers: Markers, metadata: MetadataSource, prefetcher: Prefetcher) -> None:
        self._finder = finder
        self._markers = markers
        self._metadata = metadata
        self._prefetcher = prefetcher
        self._seen: dict[Key, int] = {}
        self._rejections: Counter[Key] = Counter()
        self._needs: dict[NormalizedName, Sequence[Need]] = {}
        self._dependencies: dict[Candidate, list[Need]] = {}
        # By the identity of the specifier, whose hash costs more than all else here; many ask in the same words. It is
        # kept beside the answer, so that no other object can come by its id.
        self._strictness: dict[int, tuple[SpecifierSet, bool, bool]] = {}

    def identify(self, requirement_or_candidate: Need | Candidate) -> Key:
        return requirement_or_candidate.project, requirement_or_candidate.extra

    def narrow_requirement_selection(
        self,
        identifiers: Iterable[Key],
        resolutions: Mapping[Key, Candidate],
        candidates: Mapping[Key, Iterator[Candidate]],
        information: Mapping[Key, Iterator[RequirementInformation[Need, Candidate]]],
        backtrack_causes: Sequence[RequirementInformation[Need, Candidate]],
    ) -> Iterable[Key]:
        """Work on what caused the last conflict first: it is settled there or nowhere.

        Those who ask come before what they ask for: pinning them needs no metadata of the project they clash over.
        """
        if not backtrack_causes:
            return identifiers
        identifiers = list(identifiers)
        askers = {self.identify(cause.parent) for cause in backtrack_causes if cause.parent is not None}
        causes = {self.identify(cause.requirement) for cause in backtrack_causes}
        return (
            [key for key in identifiers if key in askers]
            or [key for key in identifiers if key in causes]
            or identifiers
        )

    def get_preference(
        self,
        identifier: Key,
        resolutions: Mapping[Key, Candidate],
        candidates: Mapping[Key, Iterator[Candidate]],
        information: Mapping[Key, Iterator[RequirementInformation[Need, Candidate]]],
        backtrack_causes: Sequence[RequirementInformation[Need, Candidate]],
    ) -> Preference:
        """Exact pins first, then who was rejected most, then upper bounds, then in the order of meeting.

        A project whose versions were rejected one after the other clashed with one that was pinned before it. Pinned
        first the next time, it decides, and the other one, which has more versions that fit, gives way.
        """
        exact = bounded = False
        for need, _ in information[identifier]:
            exact = exact or need.exact is not None
            if need.specifier:
                known = self._strictness.get(id(need.specifier))
                if known is None:
                    closed = any(spec.operator in ("<", "<=", "~=", "==") for spec in need.specifier)
                    known = self._strictness[id(need.specifier)] = need.specifier, names_one(need.specifier), closed
                exact, bounded = exact or known[1], bounded or known[2]
        return (
            not exact,
            -self._rejections[identifier],
            not bounded,
            self._seen.setdefault(identifier, len(self._seen)),
            identifier[0],
        )

    def find_matches(
        self,
        identifier: Key,
        requirements: Mapping[Key, Iterator[Need]],
        incompatibilities: Mapping[Key, Iterator[Candidate]],
    ) -> Matches:
        project, extra = identifier
        needs = tuple(requirements[identifier])
        refused = {candidate.version for candidate in incompatibilities[identifier]}
        if extra is not None:  # an extra stands or falls with its project
            base: Key = (project, None)
            needs += tuple(requirements.get(base, ()))
            refused.update(candidate.version for candidate in incompatibilities.get(base, ()))
        if not any(need.broken for need in needs):  # nobody has to read ahead for those
            self._needs[project] = needs
        self._seen.setdefault(identifier, len(self._seen))
        return Matches(self._finder, identifier, needs, frozenset(refused) if refused else _NONE)

    def is_satisfied_by(self, requirement: Need, candidate: Candidate) -> bool:
        return requirement.accepts(candidate.version)

    def get_dependencies(self, candidate: Candidate) -> list[Need]:
        known = self._dependencies.get(candidate)
        if known is None:
            try:
                metadata = self._metadata.read(candidate.file)
                if self._finder.fits_python(candidate, metadata):
                    known = dependencies(candidate, metadata, self._markers)
                else:
                    known = [unsatisfiable(candidate)]
            except MetadataError as error:
                # As for pip and uv, the next older one may do.
                self._finder.unsound.setdefault(candidate.project, {})[candidate.version] = error
                known = [unsatisfiable(candidate)]
            self._dependencies[candidate] = known
            for need in known:
                self._prefetcher.walk(self._finder, self._markers, need)
        return known

    def rejected(self, candidate: Candidate) -> None:
        """*candidate* clashed with what is pinned: the next older ones are wanted soon."""
        self._rejections[self.identify(candidate)] += 1
        self._prefetcher.backtracking(self._finder, candidate, self._needs.get(candidate.project, ()))


class SearchReporter(BaseReporter[Need, Candidate, Key]):
    """Passes on each pin, so that its download can begin while the search goes on, and each rejection.

    ``first`` keeps the need that first brought each project in. Its parent was brought in earlier, so that following
    parents ends at a user's line.
    """

    def __init__(self, pinned: Callable[[Candidate], None], rejected: Callable[[Candidate], None]) -> None:
        self._pinned = pinned
        self._rejected = rejected
        self.first: dict[NormalizedName, Need] = {}

    def adding_requirement(self, requirement: Need, parent: Candidate | None) -> None:
        self.first.setdefault(requirement.project, requirement)

    def pinning(self, candidate: Candidate) -> None:
        self._pinned(candidate)

    def rejecting_candidate(self, criterion: Criterion[Need, Candidate], candidate: Candidate) -> None:
        self._rejected(candidate)
