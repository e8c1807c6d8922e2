"""From index pages to candidates: which file of which version one target would install, and why not the others."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, islice
from operator import itemgetter
from typing import overload

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import NormalizedName
from packaging.version import Version

from mirror.errors import AirgapError, MetadataError
from mirror.models import WEAK_DIGESTS, File, FormatControl, Metadata, Pin, ProjectStatus, Selection, Target
from mirror.resolver.needs import Candidate, Need
from mirror.resolver.protocols import MetadataSource
from mirror.resolver.releases import Catalog, Listed, Release
from mirror.resolver.times import too_new
from mirror.targets import Ranks

_OTHER_DIGEST = "its digest is not among the --hash values given"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A file that exists but is not a candidate, and why."""

    filename: str
    version: str
    reason: str


@dataclass(frozen=True, slots=True)
class Rules:
    """What the user's lines and options decide for a target, beside the needs themselves.

    ``hashes`` are the only digests (``algorithm:hex``) allowed for a project; none at all where lines contradict each
    other. ``preferred`` are versions chosen for
    other targets already.
    """

    format_control: FormatControl = FormatControl()
    pre: bool = False
    selection: Selection = field(default_factory=Selection)
    hashes: Mapping[NormalizedName, frozenset[str]] = field(default_factory=dict)
    require_hashes: bool = False
    constraints: Mapping[NormalizedName, tuple[Need, ...]] = field(default_factory=dict)
    preferred: Mapping[NormalizedName, Collection[Version]] = field(default_factory=dict)


@lru_cache(maxsize=4096)
def _python_fits(requires_python: str, python: str) -> bool:
    try:
        # As pip: a release candidate of Python counts as that Python.
        return SpecifierSet(requires_python).contains(Version(python).base_version, prereleases=True)
    except InvalidSpecifier:
        return True  # as pip: an unreadable Requires-Python excludes nobody


def _broken(listed: Listed) -> str:
    """Why nothing can be done with a file that its page lists; empty where something can."""
    try:
        listed.file()
    except AirgapError as error:
        told = str(error)  # also of which file, on which page
        return told.partition(" can't be used: ")[2].rstrip(".") or told
    return ""


class Matches(Sequence[Candidate]):
    """What :meth:`Finder.candidates` yields, found when it is looked at and then kept.

    Who asks for the first does not pay for the second. A search has thousands of these, looks at the first candidate of
    most, and an iterator that stands still would take ten times the memory of what it has yielded.
    """

    __slots__ = ("_candidates", "_finder", "_found", "_key", "_needs", "_refused")

    def __init__(
        self,
        finder: Finder,
        key: tuple[NormalizedName, NormalizedName | None],
        needs: Sequence[Need],
        refused: Collection[Version],
    ) -> None:
        self._finder = finder
        self._key = key
        self._needs = needs
        self._refused = refused
        self._found: list[Candidate] | tuple[()] = ()
        self._candidates: Iterator[Candidate] | None = None

    def __bool__(self) -> bool:
        return next(iter(self), None) is not None

    def __iter__(self) -> Iterator[Candidate]:
        position = 0
        while position < len(self._found) or self._more():
            yield self._found[position]
            position += 1

    def _more(self) -> bool:
        candidates = self._candidates
        if candidates is None:
            candidates = self._finder.candidates(*self._key, self._needs, self._refused)
            candidates = islice(candidates, len(self._found), None)
        candidate = next(candidates, None)
        if candidate is not None:
            if self._found:
                self._found.append(candidate)
            else:
                self._found = [candidate]
        self._candidates = None if len(self._found) == 1 and candidate is not None else candidates
        return candidate is not None

    def __len__(self) -> int:
        while self._more():
            pass
        return len(self._found)

    @overload
    def __getitem__(self, index: int) -> Candidate: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Candidate]: ...
    def __getitem__(self, index: int | slice) -> Candidate | Sequence[Candidate]:
        len(self)
        return self._found[index]


class Finder:
    """Chooses files for one target under its rules.

    An sdist is a candidate only if its metadata can be read without building it; *metadata* tells.
    """

    def __init__(self, catalog: Catalog, metadata: MetadataSource, target: Target, rules: Rules) -> None:
        self.target = target
        self.rules = rules
        #: Releases that would have been candidates, could their sdist's metadata be read without building it.
        self.unreadable: dict[NormalizedName, dict[Version, MetadataError]] = {}
        #: Releases that would have been candidates, were the metadata of their wheel sound.
        self.unsound: dict[NormalizedName, dict[Version, MetadataError]] = {}
        #: Releases that would have been candidates, were they for the target's Python: their page does not say.
        self.unfit: dict[NormalizedName, dict[Version, MetadataError]] = {}
        self._catalog = catalog
        self._metadata = metadata
        self._ranks = Ranks(target)
        # By the release's identity, which the catalog keeps; those chosen where a yanked file would do are others.
        self._chosen: tuple[dict[int, Candidate | None], dict[int, Candidate | None]] = ({}, {})

    def forget(self) -> None:
        """Let go of what was chosen of each release; it is chosen anew for whoever asks again."""
        self._chosen = ({}, {})

    def candidates(
        self,
        project: NormalizedName,
        extra: NormalizedName | None,
        needs: Collection[Need],
        refused: Collection[Version] = (),
    ) -> Iterator[Candidate]:
        """Yield what satisfies *needs* and the constraints, best first, and look at nothing further than is asked for.

        Versions chosen for other targets come first, then the newest. Pre-releases come only where they are allowed,
        or, as PEP 440 has it, where nothing else is left.
        """
        needs = [*needs, *self.rules.constraints.get(project, ())]
        exact = any(need.is_exact for need in needs)
        pre = self.welcomes_pre(project) or any(need.exact is not None or need.specifier.prereleases for need in needs)
        releases = self._catalog.releases(project)
        favourites = releases.among(self.rules.preferred.get(project, ()), needs)
        offered: set[Version] = set(refused)
        only_pre = readable = True
        # Where pre-releases are not welcome they come in a second round. Before that nobody looks at them: what can't
        # be read of one must not stand in the way of final releases.
        for pre_releases in (None,) if pre else (False, True):
            if pre_releases and not only_pre:
                return
            for position, release in enumerate(chain(favourites, releases.accepted(needs))):
                version = release.version
                if pre_releases is not None and version.is_prerelease is not pre_releases:
                    continue
                if version in offered:
                    # As for pip, a final release keeps pre-releases out although it clashed with something else.
                    only_pre = only_pre and version not in refused
                    continue
                candidate = self._choose(project, release, yanked=exact)
                if position < len(favourites) and (candidate is None or not candidate.file.is_wheel):
                    continue  # another target has a wheel of it; here a newer version may have one
                offered.add(version)
                if candidate is None:
                    continue
                only_pre = False
                if not candidate.file.is_wheel:
                    # Behind an sdist that only a build could read, an older one is nobody's choice: an installer would
                    # have built the newer one. Reading it costs a download.
                    readable = readable and self._readable(project, version, candidate.file)
                    if not readable:
                        continue
                yield candidate if extra is None else Candidate(project, extra, version, candidate.file)

    def welcomes_pre(self, project: NormalizedName) -> bool:
        """Whether pre-releases of *project* are as good as others, whatever the requirements say."""
        return self.rules.pre or project in self.rules.selection.pre

    def fits_python(self, candidate: Candidate, metadata: Metadata) -> bool:
        """Whether *candidate* takes the target's Python, as its *metadata* say: installers ask them too.

        Many indexes say nothing of it on their pages, folders of files never do, and some may lie.
        """
        asked, file = metadata.requires_python, candidate.file
        if not asked or asked == file.requires_python or _python_fits(asked, self.target.python):
            return True
        told = MetadataError(f"{file.filename}: requires Python {asked}")
        self.unfit.setdefault(candidate.project, {})[candidate.version] = told
        return False

    def _readable(self, project: NormalizedName, version: Version, sdist: File) -> bool:
        try:
            self._metadata.read(sdist)
        except MetadataError as error:
            self.unreadable.setdefault(project, {})[version] = error
            return False
        return True

    def _choose(self, project: NormalizedName, release: Release, *, yanked: bool) -> Candidate | None:
        chosen, key = self._chosen[yanked], id(release)
        if key in chosen:
            return chosen[key]
        judged = self._judge(project, release, yanked=yanked, fitting=True)
        file = next((file for file, reason in judged if reason is None), None)
        found = Candidate(project, None, release.version, file) if file is not None else None
        return chosen.setdefault(key, found)

    def _judge(
        self, project: NormalizedName, release: Release, *, yanked: bool, fitting: bool = False
    ) -> Iterator[tuple[File, str | None]]:
        """Yield each file of *release* with the reason for refusing it or None, best wheel first, sdists last.

        *fitting* leaves out what can't be taken by its name alone.
        """
        ordered: list[tuple[tuple[int, int], tuple[object, ...], Listed, str | None]] = []
        for listed in release.files:
            is_wheel = listed.is_wheel
            ranked = self._ranks.wheel(listed.filename) if is_wheel else None
            reason = None
            if not self.rules.format_control.allows(project, wheel=is_wheel):
                reason = "wheels are excluded by --no-binary" if is_wheel else "sdists are excluded by --only-binary"
            elif is_wheel and ranked is None:
                reason = f"no tag of it fits {self.target.name}"
            if fitting and reason:
                continue
            if ranked is not None:
                ordered.append(((0, ranked[0]), ranked[1], listed, reason))
            else:
                ordered.append(((2 if is_wheel else 1, 0), (), listed, reason))
        # Of two builds the higher number wins, then the better tag; what is equal stays in the order of the pages.
        ordered.sort(key=itemgetter(1), reverse=True)
        ordered.sort(key=itemgetter(0))
        for _, _, listed, reason in ordered:
            try:
                file = listed.file()
            except AirgapError:
                continue  # a name or digest that can't be: the page lies about this one file
            yield file, reason or self._refusal(project, file, yanked=yanked)

    def _refusal(self, project: NormalizedName, file: File, *, yanked: bool, any_python: bool = False) -> str | None:
        if file.yanked is not None and not yanked:
            return f"yanked{f': {file.yanked}' if file.yanked else ''}"
        if file.requires_python and not any_python and not _python_fits(file.requires_python, self.target.python):
            return f"requires Python {file.requires_python}"
        allowed = self.rules.hashes.get(project)
        if allowed is not None and not self._hash_allowed(file, allowed):
            return _OTHER_DIGEST if allowed else "its lines name different --hash values"
        return too_new(file, self.rules.selection)

    @staticmethod
    def _hash_allowed(file: File, allowed: frozenset[str]) -> bool:
        algorithms = {entry.partition(":")[0] for entry in allowed} - WEAK_DIGESTS
        shown = [(algorithm, digest) for algorithm, digest in file.hashes if algorithm in algorithms]
        # An index that shows no digest of an algorithm that the lock names: decided after the download.
        return bool(allowed) and (not shown or any(f"{algorithm}:{digest}" in allowed for algorithm, digest in shown))

    def refusals(self, project: NormalizedName, needs: Collection[Need]) -> Iterator[Refusal]:
        """Why each version that *needs* accept is no candidate; for explanations, newest first."""
        needs = [*needs, *self.rules.constraints.get(project, ())]
        exact = any(need.is_exact for need in needs)
        for release in self._catalog.releases(project).accepted(needs):
            unreadable = self.fault(project, release.version)
            for listed in release.files:
                broken = _broken(listed)
                if broken:
                    yield Refusal(listed.filename, str(release.version), broken)
            for file, reason in self._judge(project, release, yanked=exact):
                if reason is None and unreadable is not None:
                    reason, unreadable = str(unreadable).removeprefix(file.filename).lstrip(": "), None
                if reason is not None:
                    yield Refusal(file.filename, str(release.version), reason)

    def fault(self, project: NormalizedName, version: Version) -> MetadataError | None:
        """What is wrong with the metadata of *version*, as far as it was looked at."""
        known = (self.unsound, self.unfit, self.unreadable)
        return next((faults[project][version] for faults in known if version in faults.get(project, ())), None)

    def further(self, pin: Pin) -> Iterator[File]:
        """Yield the other files of the release of *pin* that the selection wants: the target's wheels, the sdist.

        They come from the index of the pin, which was asked for the project already.
        """
        selection, project = self.rules.selection, pin.project
        releases = self._catalog.looked_up(project)
        release = releases.get(Version(pin.version)) if releases else None
        if release is None:
            return
        yanked = pin.file.yanked is not None
        for file, reason in self._judge(project, release, yanked=yanked):
            if file.index != pin.file.index:
                continue
            if not file.is_wheel:  # of no target, so no target's Python and no --only-binary has a say
                reason = self._refusal(project, file, yanked=yanked, any_python=True)
            if reason is None and (selection.all_wheels if file.is_wheel else selection.with_sdists):
                yield file

    def judged(
        self, project: NormalizedName, version: Version, needs: Collection[Need]
    ) -> tuple[File | None, tuple[str, ...]]:
        """The file of *version* that the target would take, else None and why each of its files is refused."""
        release = self._catalog.releases(project).get(version)
        if release is None:
            return None, ()
        reasons: dict[str, None] = {}
        for file, reason in self._judge(project, release, yanked=any(need.is_exact for need in needs)):
            if reason is None:
                return file, ()
            reasons[reason] = None
        return None, tuple(reasons)

    def status(self, project: NormalizedName) -> ProjectStatus | None:
        """What the index says about *project* as a whole, None where it is simply active."""
        return self._catalog.statuses.get(project)

    def versions(self, project: NormalizedName) -> list[Version]:
        """Every version that the indexes list, newest first."""
        return self._catalog.releases(project).versions[::-1]
