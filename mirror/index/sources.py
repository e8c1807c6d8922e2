"""Which indexes may serve which project. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from packaging.utils import NormalizedName

from mirror.urls import with_slash, without_credentials


@dataclass(frozen=True, slots=True)
class Source:
    """A simple index. ``url`` may carry credentials.

    Where it has ``projects``, normalised names or patterns with ``*`` and ``?``, it serves only those, and only it
    serves them.
    """

    url: str = field(repr=False)
    projects: tuple[str, ...] = ()

    def claims(self, project: NormalizedName) -> bool:
        """Whether *project* is pinned to this index."""
        return any(fnmatchcase(project, pattern) for pattern in self.projects)


class Sources:
    """Indexes in the order of preference; the same URL twice is one index, at its first place and with all patterns."""

    def __init__(self, sources: Iterable[Source | str]) -> None:
        found: dict[str, Source] = {}
        for source in sources:
            url, projects = (source, ()) if isinstance(source, str) else (source.url, source.projects)
            url = with_slash(url)
            key = without_credentials(url)
            known = found.get(key)
            if known is not None:
                url = known.url if known.url != key else url  # whichever spelling has the credentials
                projects = tuple(dict.fromkeys((*known.projects, *projects)))
            found[key] = Source(url, projects)
        self._sources: Sequence[Source] = tuple(found.values())

    def __iter__(self) -> Iterator[Source]:
        return iter(self._sources)

    def for_project(self, project: NormalizedName) -> tuple[tuple[Source, ...], bool]:
        """The indexes that may serve *project*, best first, and whether it is pinned to them."""
        pinned = tuple(source for source in self._sources if source.claims(project))
        return pinned or tuple(source for source in self._sources if not source.projects), bool(pinned)
