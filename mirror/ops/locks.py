"""A plan from a lock: its packages, its files, its digests, and no second opinion.

The resolver still runs over each target, with every package of the lock as a line of its own and the lock's files as
the only ones there are. So what is missing is found, and what building the sdists needs is resolved under the same
digests.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from mirror.errors import (
    HashMismatchError,
    MetadataError,
    MissingHashesError,
    NeedsBuildError,
    ResolutionError,
)
from mirror.index.client import IndexClient
from mirror.lockfiles.lock import Lock, Locked, Selected, chains, check_python, choose, is_specifier
from mirror.models import (
    Difference,
    Event,
    File,
    Hashes,
    Plan,
    Reporter,
    RequirementLine,
    RequirementSet,
    Stage,
    Target,
    TargetPlan,
)
from mirror.ops.connect import Connected
from mirror.resolver import Index, MetadataSource, ProjectPage, Resolution
from mirror.resolver.dependencies import Markers
from mirror.resolver.pages import FilePage
from mirror.targets import Ranks
from mirror.urls import redact

_AGAIN = "Lock again, or bring along what is missing with --include."


def with_digests(wanted: RequirementSet, lock: Lock) -> RequirementSet:
    """Let the digests of *lock* hold for everything, build environments included (pip's ``--require-hashes``)."""
    allowed: dict[NormalizedName, dict[str, None]] = {}
    for package in lock.packages:
        for file in package.files:
            allowed.setdefault(package.project, {}).update(dict.fromkeys(_texts(file)))
    lines = (
        RequirementLine(Requirement(project), lock.name, tuple(hashes)) for project, hashes in allowed.items() if hashes
    )
    return replace(
        wanted,
        constraints=(*wanted.constraints, *lines),
        require_hashes=wanted.require_hashes or any(allowed.values()),
    )


def with_references(
    wanted: RequirementSet, lock: Lock, targets: Sequence[Target], own: Collection[NormalizedName]
) -> RequirementSet:
    """Ask, as direct references, for what *lock* has as commits for any of *targets*, other than the *own* projects."""
    if not any(package.reference for package in lock.packages):
        return wanted
    taken = {*own, *(line.project for line in wanted.requirements)}
    found: dict[NormalizedName, str] = {}
    for package in (package for target in targets for package in lock.select(target).packages):
        if not package.reference or package.project in taken:
            continue
        if found.setdefault(package.project, package.reference) != package.reference:
            raise ResolutionError(
                f"{lock.name} has {package.project} as two commits, {redact(found[package.project])} and "
                f"{redact(package.reference)}, for different targets.",
                hint="Pack a bundle for each of them.",
            )
    lines = (
        RequirementLine(Requirement(f"{project} @ {reference}"), lock.name) for project, reference in found.items()
    )
    return replace(wanted, requirements=(*wanted.requirements, *lines))


def proof_lines(plan: TargetPlan, wanted: RequirementSet) -> RequirementSet:
    """What an installer is told on the other side: every project of *plan* by its version."""
    lines = tuple(_line(pin.project, pin.version, pin.extras, [pin.file], "the lock") for pin in plan.pins)
    return replace(wanted, requirements=lines)


class LockedPlans:
    """Makes the plan of every target that *lock* is used on.

    *index* is asked for what the lock does not have: where a file is, and what builds need. With *look_up* it is also
    asked where the files are that the lock has a URL for.
    """

    def __init__(
        self,
        lock: Lock,
        wanted: RequirementSet,
        at: Connected,
        index: Index,
        metadata: MetadataSource,
        report: Reporter,
        *,
        look_up: bool = False,
    ) -> None:
        self._lock = lock
        self._wanted = wanted
        self._at = at
        self._index = index
        self._metadata = metadata
        self._report = report
        self._look_up = look_up
        self._own = frozenset(line.project for line in wanted.requirements)
        self._referred = frozenset(package.project for package in lock.packages if package.reference)
        self._located: dict[tuple[File, ...], tuple[File, ...]] = {}
        self._clients: dict[str, IndexClient] = {}

    def plan(self, targets: Sequence[Target], *, eager: bool) -> Plan:
        """Choose for every target; with *eager*, files are fetched before their metadata is read.

        Raises a ResolutionError that names what the lock lacks for a target and the chain that leads there, a
        HashMismatchError where an index has another file than the lock.
        """
        self._report(Event("begin", Stage.RESOLVE, items=len(targets)))
        try:
            plans = self._plans(targets, eager=eager)
        finally:
            for client in self._clients.values():
                client.forget()
        self._report(Event("end", Stage.RESOLVE))
        pinned = {pin.file.filename for plan in plans for target in plan.targets for pin in target.every_pin()}
        extras = {file.filename: file for plan in plans for file in plan.extras if file.filename not in pinned}
        in_order = tuple(target for plan in plans for target in plan.targets)
        return Plan(in_order, tuple(extras.values()), tuple(self._differences(in_order)))

    def _plans(self, targets: Sequence[Target], *, eager: bool) -> list[Plan]:
        chosen = [(target, *self._choose(target)) for target in targets]
        if eager:
            files = {file.filename: file for _, _, mine in chosen for file in mine.values()}
            self._at.fetcher.fetch(files.values())
        self._check_builds({file.filename: file for _, _, mine in chosen for file in mine.values()}.values())
        plans = []
        for target, selected, mine in chosen:
            plans.append(self._plan(target, selected, mine))
            self._report(Event("advance", Stage.RESOLVE, target.name, items=1))
        return plans

    def _check_builds(self, files: Iterable[File]) -> None:
        """Refuse together what would come up one by one: sdists that nobody may build, and what builds lack."""
        unbuilt: dict[str, str] = {}
        unhashed: list[MetadataError] = []
        for file in files:
            if file.is_wheel:
                continue
            try:
                self._metadata.read(file)
            except NeedsBuildError as error:
                unbuilt.update(error.sdists)
            except MetadataError as error:
                if MissingHashesError.behind(error) is None:
                    raise
                unhashed.append(error)
        if unbuilt:
            raise NeedsBuildError(unbuilt)
        if unhashed:
            raise MissingHashesError.joined(unhashed)

    def _choose(self, target: Target) -> tuple[Selected, Mapping[NormalizedName, File]]:
        """What the lock installs on *target*, own packages excepted, and the file of each package."""
        selected = self._lock.select(target)
        ways = _ways(self._lock.name, selected, {package.project: package.requires for package in selected.packages})
        selected = replace(selected, packages=tuple(p for p in selected.packages if p.project not in self._own))
        ranks = Ranks(target)
        found: dict[NormalizedName, File] = {}
        unusable: dict[str, str] = {}
        for package in selected.packages:
            way = "".join(f"\n  {step}" for step in ways[package.project])
            file = choose(package, ranks, self._wanted.format_control)
            if package.elsewhere:
                told = (
                    f"{target.name}: {package.project} is locked to {package.elsewhere}, and only files of an index "
                    f"can be taken from a lock.{way}"
                )
                unusable[told] = "Build a wheel of it, and bring that along with --include."
                continue
            if file is None:
                names = ", ".join(sorted(each.filename for each in package.files)[:3]) or "no file"
                told = (
                    f"{target.name}: {self._lock.name} has no file of {package.project} {package.version} for this "
                    f"target; it has {names}{', …' if len(package.files) > 3 else ''}.{way}"
                )
                unusable[told] = "Lock again for this target too, or leave it out."
                continue
            located = {each.filename: each for each in self._locate(package)}
            if file.filename not in located:
                raise ResolutionError(
                    f"{target.name}: no index has {file.filename}, which {self._lock.name} names.{way}",
                    hint="Name the index that has it with --index-url, or lock again.",
                )
            found[package.project] = located[file.filename]
        if unusable:  # all of them: who mends one does not want to hear of the next
            raise ResolutionError("\n".join(unusable), hint="\n".join(dict.fromkeys(unusable.values())))
        return selected, found

    def _locate(self, package: Locked) -> tuple[File, ...]:
        """The files of *package* that there are, each with its URL."""
        if package.files not in self._located:
            missing = [file for file in package.files if self._look_up or not file.url]
            self._located[package.files] = (
                *(file for file in package.files if file not in missing),
                *self._looked_up(package, missing),
            )
        return self._located[package.files]

    def _looked_up(self, package: Locked, missing: Sequence[File]) -> list[File]:
        wanted = {file.filename: file for file in missing}
        found: dict[str, File] = {}
        for page in self._pages(package, missing):
            for position, filename in enumerate(page.filenames):
                if filename not in wanted or filename in found:
                    continue
                there, locked = page.file(position), wanted[filename]
                if there.hashes.agrees(locked.hashes) is False:
                    raise HashMismatchError(
                        f"{filename} on {page.index} is not the file that {self._lock.name} names: the digests differ.",
                        hint="Lock again if the index is right, or find out why it has another file.",
                    )
                found[filename] = replace(there, hashes=Hashes.of({**dict(there.hashes), **dict(locked.hashes)}))
        return list(found.values())

    def _pages(self, package: Locked, missing: Sequence[File]) -> Sequence[ProjectPage]:
        index = next((file.index for file in missing if file.index), "")
        if self._look_up or not index:
            return self._index.pages(package.project)
        if index not in self._clients:
            self._clients[index] = IndexClient(self._at.client, self._at.store, indexes=[index])
        return self._clients[index].pages(package.project)

    def _plan(self, target: Target, selected: Selected, files: Mapping[NormalizedName, File]) -> Plan:
        files = self._checked(target, selected, files)
        pages: dict[NormalizedName, FilePage] = {}
        lines: list[RequirementLine] = []
        for package in selected.packages:
            chosen = files[package.project]
            offered = tuple(chosen if file.filename == chosen.filename else file for file in self._locate(package))
            pages[package.project] = FilePage(offered, next((file.index for file in offered if file.index), ""))
            lines.append(_line(package.project, package.version, package.extras, offered, self._lock.name))
        index = _LockedIndex(pages, self._index)
        own = self._wanted.requirements
        if self._referred:  # lines for all targets by now, which are for those that the lock has the commits for
            mine = {package.project for package in self._lock.select(target).packages}
            own = tuple(line for line in own if line.project not in self._referred or line.project in mine)
        wanted = replace(self._wanted, requirements=(*lines, *own))
        with Resolution(wanted, index, self._metadata, report=self._warn) as resolution:
            plan = resolution.plan([target])
        (planned,) = plan.targets
        ways = _ways(self._lock.name, selected, {pin.project: pin.requires for pin in planned.pins})
        pins = tuple(
            pin if pin.project in self._own else replace(pin, chain=ways.get(pin.project, pin.chain))
            for pin in planned.pins
        )
        return replace(plan, targets=(replace(planned, pins=pins),))

    def _warn(self, event: Event) -> None:
        if event.kind == "warning":
            self._report(event)

    def _checked(
        self, target: Target, selected: Selected, files: Mapping[NormalizedName, File]
    ) -> dict[NormalizedName, File]:
        """Refuse a lock that lacks what its packages require, or has a package that is not for this Python.

        Returns the files with their Requires-Python, which few locks have.
        """
        checked: dict[NormalizedName, File] = {}
        markers = Markers(target)
        have = {*files, *self._own}
        ways: dict[NormalizedName, tuple[str, ...]] | None = None
        for package in selected.packages:
            metadata = self._metadata.read(files[package.project])
            if is_specifier(metadata.requires_python):  # as pip: one that can't be read excludes nobody
                check_python(f"{package.project} {package.version}", metadata.requires_python, target)
            file = files[package.project]
            checked[package.project] = replace(file, requires_python=file.requires_python or metadata.requires_python)
            for requirement in metadata.requires_dist:
                name = canonicalize_name(requirement.name)
                if name in have or not any(markers.hold(requirement.marker, extra) for extra in ("", *package.extras)):
                    continue
                if ways is None:
                    edges = {package.project: package.requires for package in selected.packages}
                    ways = _ways(self._lock.name, selected, edges)
                way = "".join(f"\n  {step}" for step in ways[package.project])
                raise ResolutionError(
                    f"{target.name}: {self._lock.name} lacks {requirement.name}, which {package.project} "
                    f"{package.version} requires.{way}\n  {package.project} {package.version}: {requirement}",
                    hint=_AGAIN,
                )
        return checked

    def _differences(self, plans: Iterable[TargetPlan]) -> Iterable[Difference]:
        versions: dict[NormalizedName, dict[str, str]] = {}
        for plan in plans:
            for pin in plan.pins:
                versions.setdefault(pin.project, {})[plan.target.name] = pin.version
        for project, by_target in sorted(versions.items()):
            if len(set(by_target.values())) > 1:
                yield Difference(
                    project, by_target, (f"{self._lock.name} has another version of it for some targets.",)
                )


def _ways(
    name: str, selected: Selected, requires: Mapping[NormalizedName, Sequence[NormalizedName]]
) -> dict[NormalizedName, tuple[str, ...]]:
    versions = {package.project: package.version for package in selected.packages}
    return chains(name, versions, requires, selected.roots)


def _line(
    project: NormalizedName, version: str, extras: Sequence[NormalizedName], files: Iterable[File], origin: str
) -> RequirementLine:
    asked = f"[{','.join(extras)}]" if extras else ""
    hashes = tuple(text for file in files for text in _texts(file))
    return RequirementLine(Requirement(f"{project}{asked}=={version}"), origin, hashes)


def _texts(file: File) -> list[str]:
    return [f"{algorithm}:{digest}" for algorithm, digest in file.hashes]


@dataclass(frozen=True, slots=True)
class _LockedIndex:
    """The lock's own files; only what is not in it comes from the index *behind*, which build environments need."""

    pages_of: Mapping[NormalizedName, FilePage]
    behind: Index

    def pages(self, project: NormalizedName) -> Sequence[ProjectPage]:
        mine = self.pages_of.get(project)
        return self.behind.pages(project) if mine is None else (mine,)
