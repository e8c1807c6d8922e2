"""What every lock comes down to: the packages that one target installs, and the files that it names for each. Pure."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol
from urllib.parse import quote

from packaging.markers import InvalidMarker, Marker, UndefinedComparison, UndefinedEnvironmentName
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version

from mirror import urls
from mirror.errors import IntegrityError, RequirementsError, ResolutionError
from mirror.filenames import split_filename
from mirror.lockfiles.toml import Table
from mirror.models import File, FormatControl, Hashes, Target
from mirror.targets import Ranks

# uv and Poetry compare ``extra`` with one name; PEP 751 has a set, which is what somebody asked for.
_EXTRA_IS = re.compile(r'\bextra (?P<operator>==|!=) (?P<name>"[^"]*")|(?P<name2>"[^"]*") (?P<operator2>==|!=) extra\b')


@dataclass(frozen=True, slots=True)
class Locked:
    """One package as a lock has it. A file's ``url`` is empty where the lock does not say where the file is.

    ``requires`` are the names that the lock says it needs, on whatever machine; empty where the lock does not say.
    ``elsewhere`` says what it is locked to where that is no file of an index (``a folder``); ``version`` may then be
    empty. ``reference`` is the direct reference that leads there (``git+https://…@COMMIT``), if there is one.
    """

    project: NormalizedName
    version: str
    files: tuple[File, ...]
    extras: tuple[NormalizedName, ...] = ()
    requires: tuple[NormalizedName, ...] = ()
    elsewhere: str = ""
    reference: str = ""


@dataclass(frozen=True, slots=True)
class Selected:
    """What a lock installs on one target, sorted by project. ``roots`` are the projects that were asked for."""

    packages: tuple[Locked, ...]
    roots: tuple[NormalizedName, ...] = ()


class Lock(Protocol):
    """A lock that was read, for the extras and groups that were asked for."""

    @property
    def name(self) -> str:
        """The file's name, for messages and requirement chains."""
        ...

    @property
    def packages(self) -> Sequence[Locked]:
        """Every package that it names, for any machine."""
        ...

    def select(self, target: Target) -> Selected:
        """Return what *target* installs; a ResolutionError where the lock is not made for it."""
        ...


class Conditions:
    """Evaluates a lock's markers on one target, for the extras and groups asked for."""

    def __init__(self, target: Target, extras: Collection[str], groups: Collection[str] = ()) -> None:
        self._environment: dict[str, str | frozenset[str]] = {
            **target.environment,
            "extras": frozenset(extras),
            "dependency_groups": frozenset(groups),
        }

    def hold(self, marker: Marker | None) -> bool:
        if marker is None:
            return True
        try:
            return marker.evaluate(self._environment, context="lock_file")
        except (UndefinedComparison, UndefinedEnvironmentName):
            return False  # as everywhere: a comparison that makes no sense is false


def read_marker(text: str | None, at: Table) -> Marker | None:
    """Read a marker of a lock, in which ``extra == "name"`` may stand for "name is among the extras"."""
    if not text:
        return None
    try:
        return Marker(_EXTRA_IS.sub(_membership, str(Marker(text))))
    except InvalidMarker as error:
        raise at.error(f"{text!r} is not a marker (PEP 508).") from error


def _membership(match: re.Match[str]) -> str:
    operator, name = match["operator"] or match["operator2"], match["name"] or match["name2"]
    return f"{name} {'in' if operator == '==' else 'not in'} extras"


def read_version(at: Table) -> str:
    """The ``version`` of a package, normalised (PEP 440)."""
    text = at.text("version")
    try:
        return str(Version(text))
    except InvalidVersion as error:
        raise at.error(f"{text!r} is not a version (PEP 440).") from error


def read_hashes(texts: Iterable[str], at: Table) -> Hashes:
    """Read ``algorithm:hex`` digests."""
    try:
        return Hashes.of(dict(text.partition(":")[::2] for text in texts))
    except IntegrityError as error:
        raise at.error(str(error)) from error


def git_reference(url: str, commit: str, subdirectory: str | None) -> str:
    """The direct reference to a commit of the git repository at *url*, which may be spelled ``user@host:path``."""
    if "://" not in url:
        host, _, path = url.partition(":")
        url = f"ssh://{host}/{path}"
    plain = quote(url, safe="!$%&'()*+,/:;=?@[]~")  # what no URL can hold would end the requirement that it stands in
    return f"git+{plain}@{quote(commit)}{f'#subdirectory={quote(subdirectory)}' if subdirectory else ''}"


def locked_file(
    at: Table,
    filename: str,
    project: NormalizedName,
    version: str,
    *,
    url: str = "",
    hashes: Hashes = Hashes(),
    index: str = "",
    size: int | None = None,
    upload_time: str | None = None,
) -> File:
    """Return a file of a lock; a name that belongs to another project or version is an error."""
    split = split_filename(filename, project)
    try:
        matches = split and split.project == project and Version(split.version.replace("_", "-")) == Version(version)
    except InvalidVersion:
        matches = False
    if not matches:
        raise at.error(f"{filename!r} is not a file of {project} {version}.")
    try:
        return File(
            filename=filename,
            url=urls.without_credentials(url),
            project=project,
            version=version,
            hashes=hashes,
            index=urls.without_credentials(index),
            size=size,
            upload_time=upload_time,
        )
    except (IntegrityError, ValueError) as error:
        raise at.error(f"{filename!r} can't be used: {error}") from error


def is_specifier(text: str | None) -> bool:
    """Whether *text* is a set of versions (PEP 440); None is not."""
    if text is None:
        return False
    try:
        SpecifierSet(text)
    except InvalidSpecifier:
        return False
    return True


def check_python(name: str, specifier: str | None, target: Target) -> None:
    """Raise a ResolutionError where the lock says that it was not made for the target's Python."""
    try:
        # As pip: a release candidate of Python counts as that Python.
        python = Version(target.python).base_version
        fits = not specifier or SpecifierSet(specifier).contains(python, prereleases=True)
    except InvalidSpecifier as error:
        raise RequirementsError(f"{specifier!r} is not a set of Python versions (PEP 440).", file=name) from error
    if not fits:
        raise ResolutionError(
            f"{target.name}: {name} was made for Python {specifier}, and this target has {target.python}.",
            hint="Lock again for this Python too, or leave the target out.",
        )


def check_known(kind: str, asked: Iterable[str], known: Collection[str], at: Table) -> tuple[NormalizedName, ...]:
    """Return *asked*, normalised; a name that is not among *known* is an error that lists them."""
    names = {canonicalize_name(name) for name in known}
    found = tuple(dict.fromkeys(canonicalize_name(name) for name in asked))
    for name in found:
        if name not in names:
            has = f"it has {', '.join(sorted(names))}" if names else "it has none"
            raise at.error(f"there is no {kind} {name!r}; {has}.")
    return found


def choose(package: Locked, ranks: Ranks, formats: FormatControl) -> File | None:
    """Return the file that an installer would take: the best wheel, else the sdist, else None."""
    wheels = [
        (-fit[0], fit[1], file)
        for file in package.files
        if file.is_wheel and formats.allows(package.project, wheel=True) and (fit := ranks.wheel(file.filename))
    ]
    if wheels:
        return max(wheels, key=lambda entry: entry[:2])[2]
    sdists = (file for file in package.files if not file.is_wheel)
    return next(sdists, None) if formats.allows(package.project, wheel=False) else None


def chains(
    name: str,
    versions: Mapping[NormalizedName, str],
    requires: Mapping[NormalizedName, Collection[NormalizedName]],
    roots: Collection[NormalizedName],
) -> dict[NormalizedName, tuple[str, ...]]:
    """The shortest way from the lock called *name* to each project, one sentence a step.

    Without *roots*, those that no other project needs are taken for them.
    """
    needed = {other for project, others in requires.items() for other in others if other != project}
    found: dict[NormalizedName, tuple[str, ...]] = {}

    def walk(starts: Iterable[NormalizedName]) -> None:
        queue = deque(starts)
        for start in queue:
            # A folder's version may be known only where it is built.
            pinned = f"=={versions[start]}" if versions[start] else ""
            found[start] = (f"{name}: {start}{pinned}",)
        while queue:
            project = queue.popleft()
            for other in sorted(requires.get(project, ())):
                if other in versions and other not in found:
                    found[other] = (*found[project], f"{f'{project} {versions[project]}'.rstrip()}: {other}")
                    queue.append(other)

    walk([project for project in sorted(roots) if project in versions])
    walk([project for project in sorted(versions) if project not in found and project not in needed])
    for project in sorted(versions):  # what is left needs each other in a circle
        if project not in found:
            walk([project])
    return found


@dataclass(frozen=True, slots=True)
class Entry:
    """A package that a lock installs where any of *conditions*, ``(group, marker)``, holds; None is always."""

    package: Locked
    conditions: tuple[tuple[str | None, Marker | None], ...]
    requires_python: str | None = None


@dataclass(frozen=True, slots=True)
class MarkedLock:
    """A lock whose every package says where it is installed: pylock.toml, poetry.lock, pdm.lock."""

    name: str
    entries: tuple[Entry, ...]
    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    requires_python: str | None = None
    environments: tuple[Marker, ...] = ()

    @property
    def packages(self) -> Sequence[Locked]:
        return [entry.package for entry in self.entries]

    def select(self, target: Target) -> Selected:
        check_python(self.name, self.requires_python, target)
        conditions = Conditions(target, self.extras, self.groups)
        if self.environments and not any(conditions.hold(marker) for marker in self.environments):
            known = " | ".join(str(marker) for marker in self.environments)
            raise ResolutionError(
                f"{target.name}: {self.name} was made for other machines: {known}.",
                hint="Lock again for this one too, or leave the target out.",
            )
        return Selected(unique(self.name, target, self._installed(target, conditions)))

    def _installed(self, target: Target, conditions: Conditions) -> Iterator[Locked]:
        for entry in self.entries:
            if any(
                (group is None or group in self.groups) and conditions.hold(marker)
                for group, marker in entry.conditions
            ):
                project, version = entry.package.project, entry.package.version
                check_python(f"{project} {version} of {self.name}", entry.requires_python, target)
                yield entry.package


def unique(name: str, target: Target, packages: Iterable[Locked]) -> tuple[Locked, ...]:
    """Sort by project; entries of one version become one, two versions of a project are a ResolutionError."""
    found: dict[NormalizedName, Locked] = {}
    for package in packages:
        known = found.setdefault(package.project, package)
        if known.version != package.version:
            raise ResolutionError(
                f"{target.name}: {name} installs both {package.project} {known.version} and {package.version}.",
                hint="Ask for fewer extras or groups: some exclude each other.",
            )
        if known is not package:
            found[package.project] = replace(
                known,
                files=known.files or package.files,
                extras=tuple(sorted({*known.extras, *package.extras})),
                requires=tuple(sorted({*known.requires, *package.requires} - {known.project})),
            )
    return tuple(found[project] for project in sorted(found))
