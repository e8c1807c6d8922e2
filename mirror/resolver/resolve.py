"""From requirements and targets to a plan: one search per target, everything fetched shared between them."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager

from packaging.requirements import Requirement
from packaging.utils import NormalizedName
from packaging.version import Version
from resolvelib import BaseReporter, ResolutionImpossible, ResolutionTooDeep
from resolvelib import ResolutionError as NoResolution

from mirror.errors import AirgapError, MissingHashesError, NeedsBuildError, ResolutionError
from mirror.models import (
    Build,
    Event,
    File,
    Pin,
    Plan,
    ProjectStatus,
    Reporter,
    RequirementLine,
    RequirementSet,
    Stage,
    Target,
    TargetPlan,
    silent,
)
from mirror.resolver.advice import LEAVING_OUT, Change, Clash, advise
from mirror.resolver.candidates import Finder, Rules
from mirror.resolver.dependencies import Markers, dependencies, implied_build_requires, misses_extra, root_needs
from mirror.resolver.differences import Outcome, differences
from mirror.resolver.explain import Asked, blamed, conflict, hint, summed_up, tried
from mirror.resolver.extras import extra_files
from mirror.resolver.needs import Candidate, Need
from mirror.resolver.prefetch import Prefetcher
from mirror.resolver.protocols import Index, MetadataSource
from mirror.resolver.provider import Key, Provider, SearchReporter
from mirror.resolver.releases import Catalog
from mirror.resolver.search import Search
from mirror.resolver.unbuilt import Unbuilt
from mirror.resolver.walk import solves

_MAX_ROUNDS = 200_000
# What looking for advice may cost: rounds of each trial, and trials of all targets together.
_TRIAL_ROUNDS = 2_000
_MOST_TRIALS = 32
_RELAX = "Relax one of the lines above, or drop the target."


class Resolution(AbstractContextManager["Resolution"]):
    """Resolves one requirement set for any number of targets; a context manager, for the threads that read ahead.

    *pinned* hears of each file as soon as the search settles on it. It may later settle on another one.
    """

    def __init__(
        self,
        wanted: RequirementSet,
        index: Index,
        metadata: MetadataSource,
        *,
        workers: int = 16,
        pinned: Callable[[File], None] = lambda _: None,
        report: Reporter = silent,
    ) -> None:
        self._wanted = wanted
        self._catalog = Catalog(index)
        self._metadata = metadata
        self._prefetcher = Prefetcher(metadata, workers=workers, pinned=pinned)
        self._pinned = pinned
        self._report = report
        self._chosen: dict[NormalizedName, tuple[Version, ...]] = {}
        self._trials = 0

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._prefetcher.__exit__(kind, *rest)

    def plan(self, targets: Sequence[Target]) -> Plan:
        """Resolve every target; a ResolutionError explains each one that fails.

        The oldest Python goes first: what it can take, newer ones mostly can too, so the bundle holds fewer versions.
        """
        order = sorted(targets, key=lambda target: Version(target.python))
        self._report(Event("begin", Stage.RESOLVE, items=len(order)))
        searches = {target.name: self._search(target, self._wanted.requirements) for target in order}
        for search in searches.values():
            search.read_ahead()
        plans: dict[str, TargetPlan] = {}
        failures: dict[str, ResolutionError] = {}
        for target in order:
            try:
                plans[target.name] = self._plan_target(searches[target.name])
            except ResolutionError as error:
                failures[target.name] = error
            self._report(Event("advance", Stage.RESOLVE, target.name, items=1))
        self._report(Event("end", Stage.RESOLVE))
        if failures:
            raise summed_up(failures, resolved=len(plans))
        self._warn_of_quarantine()
        in_order = tuple(plans[target.name] for target in targets)
        done = [searches[target.name] for target in targets]
        selection = self._wanted.selection
        extras: tuple[File, ...] = ()
        if selection.all_wheels or selection.with_sdists:
            extras = extra_files(in_order, [search.finder for search in done])
            self._warn_without_sdist(in_order, extras)
        return Plan(
            in_order,
            extras,
            differences([search.outcome for search in done]),
            self._statuses(in_order),
        )

    def _warn_without_sdist(self, plans: Iterable[TargetPlan], extras: Iterable[File]) -> None:
        if self._wanted.selection.with_sdists:
            pins = [pin for plan in plans for pin in plan.every_pin()]
            files = (*(pin.file for pin in pins), *extras)
            have = {(file.project, Version(file.version)) for file in files if not file.is_wheel}
            lacking = sorted(
                {f"{pin.project} {pin.version}" for pin in pins if (pin.project, Version(pin.version)) not in have}
            )
            if lacking:
                self.warn(f"No sdist to take along of {', '.join(lacking)}.")

    def _warn_of_quarantine(self) -> None:
        for _, status in sorted(self._catalog.statuses.items()):
            if status.status == "quarantined":
                self.warn(f"{status}. It was passed over.")

    def _statuses(self, plans: Iterable[TargetPlan]) -> tuple[ProjectStatus, ...]:
        chosen = sorted({pin.project for plan in plans for pin in plan.every_pin()})
        known = (self._catalog.statuses.get(project) for project in chosen)
        return tuple(status for status in known if status is not None)

    def _plan_target(self, search: _Search) -> TargetPlan:
        pins = search.run()
        builds: dict[tuple[NormalizedName, str], Build] = {}
        to_build = deque(pin for pin in pins if not pin.file.is_wheel)
        unhashed: list[ResolutionError] = []
        while to_build:
            sdist = to_build.popleft()
            if (sdist.project, sdist.version) in builds:
                continue
            try:
                build = self._build(search.target, sdist)
            except ResolutionError as error:
                if MissingHashesError.behind(error) is None:
                    raise
                unhashed.append(error)
                continue
            builds[sdist.project, sdist.version] = build
            to_build.extend(pin for pin in build.pins if not pin.file.is_wheel)
        if unhashed:
            raise MissingHashesError.joined(unhashed)
        return TargetPlan(search.target, pins, tuple(builds[key] for key in sorted(builds)))

    def holds(self, plan: TargetPlan) -> bool:
        """Whether the pins of *plan*, wheels all of them, are a solution: the walk that a search would end with."""
        markers = Markers(plan.target)
        finder = self.finder(plan.target, _rules(self._wanted, markers, {}))
        roots = root_needs(self._wanted.requirements, markers)
        return solves(plan.pins, roots, finder, markers, self._metadata)

    def environment(self, target: Target, requires: Sequence[Requirement], origin: str) -> tuple[Pin, ...]:
        """What an environment on *target* holds that is made for *requires* alone; *origin* says who asks, in words."""
        return self._search(target, [RequirementLine(requirement, origin) for requirement in requires]).run()

    def _build(self, target: Target, sdist: Pin) -> Build:
        requires = self._metadata.build_requires(sdist.file)
        pins = self._build_pins(target, sdist, requires)
        implied = implied_build_requires(pins)
        if implied:
            requires = (*requires, *implied)
            pins = self._build_pins(target, sdist, requires)
        return Build(sdist.project, sdist.version, requires, pins)

    def _build_pins(self, target: Target, sdist: Pin, requires: Sequence[Requirement]) -> tuple[Pin, ...]:
        """Resolve what building *sdist* needs. It has an environment of its own, so it may take other versions."""
        origin = f"building {sdist.project} {sdist.version}"
        lines = tuple(RequirementLine(requirement, origin) for requirement in requires)
        try:
            pins = self._search(target, lines).run()
        except ResolutionError as error:
            way = _indented(sdist.chain)
            told = f"{error}\n"
            if self._wanted.format_control.allows(sdist.project, wheel=True):
                told += f"  no wheel of {sdist.project} {sdist.version} can be taken, so its sdist is:\n"
            raise ResolutionError(f"{told}  {sdist.file.filename} is there because of{way}", hint=error.hint) from error
        return tuple(
            Pin(pin.project, pin.version, pin.file, pin.extras, pin.requires, (*sdist.chain, *pin.chain))
            for pin in pins
        )

    def _search(self, target: Target, lines: Sequence[RequirementLine]) -> _Search:
        markers = Markers(target)
        finder = self.finder(target, _rules(self._wanted, markers, self._chosen))
        return _Search(self, finder, markers, root_needs(lines, markers), own=lines is self._wanted.requirements)

    # What a search needs of the whole.

    def finder(self, target: Target, rules: Rules, metadata: MetadataSource | None = None) -> Finder:
        return Finder(self._catalog, metadata or self._metadata, target, rules)

    @property
    def metadata(self) -> MetadataSource:
        return self._metadata

    @property
    def prefetcher(self) -> Prefetcher:
        return self._prefetcher

    def settled(self, candidate: Candidate) -> None:
        if candidate.extra is None:
            self._report(Event("advance", Stage.RESOLVE, str(candidate)))
            self._pinned(candidate.file)

    def may_try(self) -> bool:
        """Count one more trial of a change that may help; whether there is time for it."""
        self._trials += 1
        return self._trials <= _MOST_TRIALS

    def keep(self, candidates: Iterable[Candidate]) -> None:
        for candidate in candidates:
            known = self._chosen.get(candidate.project, ())
            if candidate.version not in known:
                self._chosen[candidate.project] = (*known, candidate.version)

    def warn(self, text: str) -> None:
        self._report(Event("warning", Stage.RESOLVE, text))


def _rules(wanted: RequirementSet, markers: Markers, preferred: Mapping[NormalizedName, Collection[Version]]) -> Rules:
    hashes: dict[NormalizedName, frozenset[str]] = {}
    for line in (*wanted.requirements, *wanted.constraints):
        if line.hashes and markers.hold(line.requirement.marker):
            allowed = frozenset(line.hashes)
            hashes[line.project] = hashes.get(line.project, allowed) & allowed
    constraints: dict[NormalizedName, list[Need]] = {}
    for need in root_needs(wanted.constraints, markers):
        constraints.setdefault(need.project, []).append(need)
    return Rules(
        format_control=wanted.format_control,
        pre=wanted.pre,
        selection=wanted.selection,
        hashes=hashes,
        require_hashes=wanted.require_hashes or any(line.hashes for line in wanted.requirements),
        constraints={project: tuple(needs) for project, needs in constraints.items()},
        preferred=preferred,
    )


def _pins_first(roots: Iterable[Need]) -> list[Need]:
    """An exact pin lets a yanked file in, and resolvelib asks for candidates after each need that it takes in."""
    return sorted(roots, key=lambda need: not need.is_exact)


class _Search:
    """One run of resolvelib for one target; *own* says that *roots* are the user's lines."""

    def __init__(
        self, whole: Resolution, finder: Finder, markers: Markers, roots: Sequence[Need], *, own: bool
    ) -> None:
        self.target = finder.target
        self.finder = finder
        self._whole = whole
        self._markers = markers
        self._roots = roots
        self._own = own
        self._found: tuple[Candidate, ...] = ()

    def read_ahead(self) -> None:
        for need in self._roots:
            self._whole.prefetcher.walk(self.finder, self._markers, need)

    def run(self) -> tuple[Pin, ...]:
        provider = Provider(self.finder, self._markers, self._whole.metadata, self._whole.prefetcher)
        reporter = SearchReporter(self._whole.settled, provider.rejected)
        self.read_ahead()
        try:
            mapping = Search(provider, reporter).resolve(_pins_first(self._roots), max_rounds=_MAX_ROUNDS)
        except ResolutionImpossible as impossible:
            raise self._explained([cause.requirement for cause in impossible.causes], reporter.first) from None
        except ResolutionTooDeep:
            raise ResolutionError(
                f"{self.target.name}: gave up after {_MAX_ROUNDS:,} rounds of backtracking.",
                hint="Pin or bound the projects with the most versions.",
            ) from None
        self._check_readable(mapping)
        self._whole.keep(mapping.values())
        self._found = tuple(mapping.values())
        self._warn_of_unsound(mapping)
        self.finder.forget()
        return self._pins(mapping)

    def _warn_of_unsound(self, mapping: Mapping[Key, Candidate]) -> None:
        """Nobody installs a wheel with unsound metadata; that an older version came in its place must be known."""
        for project, faults in self.finder.unsound.items():
            chosen = mapping.get((project, None))
            for version, error in faults.items():
                if chosen and version > chosen.version and self._wanted_by_all(project, version, mapping):
                    self._whole.warn(f"{self.target.name}: {project} {version} was passed over. {error}")

    @property
    def outcome(self) -> Outcome:
        """What :meth:`run` settled on."""
        return Outcome(self.finder, self._markers, self._roots, self._found, self._whole.metadata)

    def _check_readable(self, mapping: Mapping[Key, Candidate]) -> None:
        """Fail where an sdist that nobody may build was passed over, and an installer might have taken it.

        An installer would have built it to learn what it requires. Older versions that the search only tried on its
        way back don't count: a newer one was found.
        """
        for (project, extra), candidate in mapping.items():
            for version, error in self.finder.unreadable.get(project, {}).items():
                if extra is None and version > candidate.version and self._wanted_by_all(project, version, mapping):
                    together = self._all_to_build() if isinstance(error, NeedsBuildError) else None
                    raise together or error

    def _wanted_by_all(self, project: NormalizedName, version: Version, mapping: Mapping[Key, Candidate]) -> bool:
        needs = [*self._roots, *self.finder.rules.constraints.get(project, ())]
        for candidate in mapping.values():
            needs += dependencies(candidate, self._whole.metadata.read(candidate.file), self._markers)
        mine = [need for need in needs if need.project == project and need.exact is None]
        welcome = self.finder.welcomes_pre(project) or any(need.specifier.prereleases for need in mine)
        if version.is_prerelease and not (welcome or mapping[project, None].version.is_prerelease):
            return False
        return all(need.accepts(version) for need in mine)

    def _explained(self, needs: Sequence[Need], first: Mapping[NormalizedName, Need]) -> ResolutionError:
        needs = [need for need in needs if not need.broken]
        project = needs[0].project
        # A search that went back through many versions of one asker names them all: the newest speaks for them.
        speakers: dict[tuple[NormalizedName, NormalizedName | None] | str, Need] = {}
        for need in needs:
            if need.project == project:
                speakers.setdefault((need.parent.project, need.parent.extra) if need.parent else need.origin, need)
        asked = [Asked(need, self._path(need.parent, first)) for need in speakers.values()]
        told = conflict(self.finder, project, asked)
        voices = list(speakers.values())
        fault = blamed(self.finder, project, voices)
        if isinstance(fault, NeedsBuildError) and (together := self._all_to_build()) is not None:
            return together  # a change of one line would not do
        helps = self._advice(Clash.of(project, voices, first)) if self._own else []
        leading = fault.hint if fault is not None else ""
        if not leading and all(words.startswith(LEAVING_OUT) for words in helps):  # what no author of a line wants
            leading = hint(self.finder, project, voices)
        return ResolutionError(told, hint=f"{leading} {tried(helps)}".strip() or _RELAX)

    def _all_to_build(self) -> NeedsBuildError | None:
        """What else nobody may build, if the sdists that stand in the way required nothing; None where nothing else."""
        if not self._own:  # a trial, or the environment of one build
            return None
        metadata = Unbuilt(self._whole.metadata)
        finder = self._whole.finder(self.target, self.finder.rules, metadata)
        provider = Provider(finder, self._markers, metadata, self._whole.prefetcher)
        try:
            mapping = Search(provider, BaseReporter()).resolve(_pins_first(self._roots), max_rounds=_TRIAL_ROUNDS)
        except (NoResolution, AirgapError):
            return None
        found = [candidate for candidate in mapping.values() if candidate.file.filename in metadata.sdists]
        if len({candidate.project for candidate in found}) < 2:
            return None
        chains = self._chains(
            {key: dependencies(each, metadata.read(each.file), self._markers) for key, each in mapping.items()}
        )
        return NeedsBuildError(
            {candidate.project: candidate.file.filename for candidate in found},
            target=self.target.name,
            ways=[f"{each.file.filename}{_indented(chains[each.project])}" for each in found if each.extra is None],
        )

    def _advice(self, clash: Clash) -> list[str]:
        return advise(self.finder, self._roots, clash, self._try)

    def _try(self, change: Change) -> Mapping[NormalizedName, Version] | None:
        """Search once more as *change* has it, for so many rounds; the versions, or None where it does not help."""
        if not self._whole.may_try():
            return None
        finder = self._whole.finder(self.target, change.rules)
        trial = _Search(self._whole, finder, self._markers, change.roots, own=False)
        provider = Provider(finder, self._markers, self._whole.metadata, self._whole.prefetcher)
        try:
            mapping = Search(provider, BaseReporter()).resolve(_pins_first(change.roots), max_rounds=_TRIAL_ROUNDS)
            trial._check_readable(mapping)
        except (NoResolution, AirgapError):
            return None
        return {project: candidate.version for (project, _), candidate in mapping.items()}

    @staticmethod
    def _path(candidate: Candidate | None, first: Mapping[NormalizedName, Need]) -> tuple[str, ...]:
        """The needs that lead from a user's line to *candidate*, one sentence each."""
        steps: list[str] = []
        while candidate is not None:
            need = first[candidate.project]
            steps.append(f"{need.origin} asks for {need.text}")
            candidate = need.parent
        return tuple(reversed(steps))

    def _pins(self, mapping: Mapping[Key, Candidate]) -> tuple[Pin, ...]:
        needs: dict[Key, list[Need]] = {}
        for key, candidate in mapping.items():
            metadata = self._whole.metadata.read(candidate.file)
            needs[key] = dependencies(candidate, metadata, self._markers)
            missing = misses_extra(candidate, metadata)
            if missing:
                self._whole.warn(f"{self.target.name}: {candidate.project} {candidate.version} has no extra {missing}.")
        chains = self._chains(needs)
        pins = []
        for (project, extra), candidate in sorted(mapping.items(), key=lambda item: item[0][0]):
            if extra is not None:
                continue
            extras = sorted(name for other, name in mapping if other == project and name is not None)
            parts: list[Key] = [(project, None), *((project, name) for name in extras)]
            requires = {need.project for part in parts for need in needs[part]} - {project}
            pins.append(
                Pin(
                    project,
                    sys.intern(str(candidate.version)),
                    candidate.file,
                    tuple(extras),
                    tuple(sorted(requires)),
                    chains[project],
                )
            )
        self._check_hashes(pins)
        return tuple(pins)

    def _chains(self, needs: Mapping[Key, Sequence[Need]]) -> dict[NormalizedName, tuple[str, ...]]:
        """The shortest way from a user's line to each project, breadth first."""
        chains: dict[Key, tuple[str, ...]] = {}
        queue: deque[tuple[Need, tuple[str, ...]]] = deque((need, ()) for need in self._roots)
        while queue:
            need, path = queue.popleft()
            key = (need.project, need.extra)
            if key in chains:
                continue
            step = sys.intern(f"{need.origin}: {need.text}")  # mostly the same for every target
            chains[key] = (*path, step) if need.exact is None else path
            queue.extend((further, chains[key]) for further in needs[key])
        return {project: path for (project, extra), path in chains.items() if extra is None}

    def _check_hashes(self, pins: Iterable[Pin]) -> None:
        """As pip's --require-hashes: who hashes one line hashes all, transitive and build requirements included."""
        rules = self.finder.rules
        if not rules.require_hashes:
            return
        lacking = [pin for pin in pins if pin.project not in rules.hashes]
        if lacking:
            names = " and ".join(f"{pin.project} {pin.version}" for pin in lacking)
            ways = dict.fromkeys(f"\n  {step}" for pin in lacking for step in pin.chain)
            raise MissingHashesError(
                f"{self.target.name}: {names} {'have' if len(lacking) > 1 else 'has'} no --hash, but other lines have "
                f"one.{''.join(ways)}",
                lines=map(_hashed_line, lacking),
            )


def _indented(way: Iterable[str]) -> str:
    return "".join(f"\n    {step}" for step in way)


def _hashed_line(pin: Pin) -> str:
    return f"{pin.project}=={pin.version} --hash=sha256:{pin.file.hashes.sha256 or '…'}"
