"""The releases of a project: which files on its pages make up which version. Grouped once, for all targets."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate, chain
from threading import Lock
from typing import NamedTuple

from packaging.utils import NormalizedName
from packaging.version import InvalidVersion, Version

from mirror.filenames import split_filename
from mirror.models import File, ProjectStatus
from mirror.resolver.needs import Need
from mirror.resolver.protocols import Index, ProjectPage
from mirror.resolver.windows import window


class Listed:
    """A file as a page lists it; what else the page says of it is read when it is asked for, and kept."""

    __slots__ = ("_file", "_page", "_position", "filename", "is_wheel")

    def __init__(self, page: ProjectPage, position: int, filename: str) -> None:
        self._page = page
        self._position = position
        self._file: File | None = None
        self.filename = filename
        self.is_wheel = filename.endswith(".whl")

    def file(self) -> File:
        """The file; an AirgapError where it has a name or a digest that can't be."""
        if self._file is None:
            self._file = self._page.file(self._position)
        return self._file


class Release(NamedTuple):
    """All files of one version, in the order of the pages."""

    version: Version
    files: Sequence[Listed]


class Releases:
    """All releases of one project, oldest first.

    *files* has the numbers of each version's files, counted through all *pages*. A page has thousands of them, and few
    are looked at: their names are not kept, but read from the page again for the releases that somebody asks for.
    """

    __slots__ = ("_ends", "_files", "_known", "_pages", "versions")

    def __init__(self, pages: Sequence[ProjectPage], files: Mapping[Version, Sequence[int]]) -> None:
        self.versions = sorted(files)
        self._pages = pages
        self._files = array("I", chain.from_iterable(files[version] for version in self.versions))
        self._ends = array("I", accumulate(len(files[version]) for version in self.versions))
        self._known: dict[int, Release] = {}

    def accepted(self, needs: Collection[Need]) -> Iterator[Release]:
        """Yield the releases that satisfy every one of *needs*, newest first."""
        start, stop = 0, len(self.versions)
        for need in needs:
            low, high = window(self.versions, need.specifier)
            start, stop = max(start, low), min(stop, high)
        for place in range(stop - 1, start - 1, -1):
            if all(need.accepts(self.versions[place]) for need in needs):
                yield self._release(place)

    def among(self, versions: Collection[Version], needs: Collection[Need]) -> list[Release]:
        """Those of *versions* that satisfy every one of *needs*, newest first."""
        wanted = (version for version in sorted(versions, reverse=True) if all(need.accepts(version) for need in needs))
        return [release for version in wanted if (release := self.get(version)) is not None]

    def get(self, version: Version) -> Release | None:
        place = bisect_left(self.versions, version)
        found = place < len(self.versions) and self.versions[place] == version
        return self._release(place) if found else None

    def _release(self, place: int) -> Release:
        known = self._known.get(place)
        if known is None:
            numbers = self._files[self._ends[place - 1] if place else 0 : self._ends[place]]
            files = tuple(self._file(number) for number in numbers)
            known = self._known.setdefault(place, Release(self.versions[place], files))
        return known

    def _file(self, number: int) -> Listed:
        for page in self._pages:
            names = page.filenames
            if number < len(names):
                return Listed(page, number, names[number])
            number -= len(names)
        raise IndexError(number)


class Catalog:
    """Releases of projects, grouped once for all targets."""

    def __init__(self, index: Index) -> None:
        self._index = index
        #: Projects that their index calls anything but active (PEP 792), as far as they were looked up.
        self.statuses: dict[NormalizedName, ProjectStatus] = {}
        self._releases: dict[NormalizedName, Releases] = {}
        self._locks: dict[NormalizedName, Lock] = {}  # of those that are being looked up
        self._lock = Lock()

    def releases(self, project: NormalizedName) -> Releases:
        with self._lock:
            known = self._releases.get(project)
            if known is not None:
                return known
            lock = self._locks.setdefault(project, Lock())
        with lock:  # the prefetcher and the resolver often ask at the same moment
            known = self._releases.get(project)
            if known is None:
                known = self._releases[project] = self._look_up(project)
                with self._lock:
                    del self._locks[project]
            return known

    def _look_up(self, project: NormalizedName) -> Releases:
        pages = self._index.pages(project)
        for page in pages:
            status, reason = page.status
            if status != "active":
                self.statuses[project] = ProjectStatus(project, status, reason, page.index)
            if status == "quarantined":
                return Releases((), {})  # not even what another index or a folder has
        return Releases(pages, _group(project, pages))

    def looked_up(self, project: NormalizedName) -> Releases | None:
        """The releases of *project* if anybody has asked for them, without asking an index."""
        return self._releases.get(project)


def _group(project: NormalizedName, pages: Sequence[ProjectPage]) -> dict[Version, list[int]]:
    """The numbers of each version's files, in the order of the pages."""
    by_text: dict[str, list[int]] = {}
    # Nearly every wheel has the name of one that was split before, and the tags of one; only its version may be new.
    names: set[str] = set()
    tags: set[str] = set()
    for number, filename in enumerate(chain.from_iterable(page.filenames for page in pages)):
        name, _, rest = filename.partition("-")
        text, _, rest = rest.partition("-")
        if rest not in tags or name not in names or not text:
            split = split_filename(filename, project)
            if split is None or split.project != project:
                continue
            text = split.version
            if split.is_wheel:
                names.add(name)
                tags.add(rest)
        files = by_text.get(text)
        if files is None:
            files = by_text[text] = []
        files.append(number)
    by_version: dict[Version, list[int]] = {}
    for text, files in by_text.items():
        version = _version(text)
        if version is not None:
            by_version.setdefault(version, []).extend(files)
    return by_version


@lru_cache(maxsize=65536)
def _version(text: str) -> Version | None:
    try:
        # Wheels spell a local version's or a legacy post-release's dash as an underscore.
        return Version(text.replace("_", "-"))
    except InvalidVersion:
        return None
