"""The group repository: members in an order, read as if they were one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import groupby
from typing import TypeVar

from mirror.errors import AirgapError, NetworkError
from mirror.index.simple import PageEntry
from mirror.serve.repository import LOG, Content, Names, Page, Readable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class GroupRepository:
    """Merges its members: of files with one name, the first member's counts.

    A member that fails is reported and left out, unless no other has what was asked for: then its error is the
    answer, since "not found" would be a guess.
    """

    name: str
    members: Sequence[Readable]
    kind: str = "group"

    def below(self) -> list[str]:
        """The names of all repositories that are read through this one."""
        found = [member.name for member in self.members]
        return found + [name for each in self.members if isinstance(each, GroupRepository) for name in each.below()]

    def projects(self) -> Names:
        found, _ = self._ask(lambda member: _unless_empty(member.projects()))
        return Names(lambda: (name for name, _ in groupby(merge(*(names for _, names in found)))))

    def page(self, project: str, *, whole: bool = True) -> Page | None:
        found, failed = self._ask(lambda member: member.page(project, whole=whole))
        if not found:
            return None
        pages = [page for _, page in found]
        names = [*failed, *(name for page in pages for name in page.failed)]
        tag = hashlib.sha256("\n".join([*(page.tag for page in pages), "failed", *names]).encode()).hexdigest()[:32]
        return Page(tag, lambda: _merged(pages), pages[0].status, tuple(names))

    def content(self, project: str, version: str, filename: str) -> Content | None:
        failure: AirgapError | None = None
        for member in self.members:
            try:
                found = member.content(project, version, filename)
            except NetworkError as error:
                LOG.warning("%s: its member %s failed: %s", self.name, member.name, error)
                failure = error
                continue
            if found is not None:
                return found
        if failure is not None:
            raise failure
        return None

    def _ask(self, ask: Callable[[Readable], T | None]) -> tuple[list[tuple[str, T]], list[str]]:
        """What each member answered, and the names of those that failed."""
        found: list[tuple[str, T]] = []
        failed: list[str] = []
        failure: AirgapError | None = None
        for member in self.members:
            try:
                answer = ask(member)
            except NetworkError as error:
                LOG.warning("%s: its member %s failed: %s", self.name, member.name, error)
                failed.append(member.name)
                failure = error
                continue
            if answer is not None:
                found.append((member.name, answer))
        if not found and failure is not None:
            raise failure
        return found, failed


def _unless_empty(names: Iterable[str]) -> Iterable[str] | None:
    return names if any(True for _ in names) else None


def _merged(pages: Sequence[Page]) -> list[PageEntry]:
    entries: dict[str, PageEntry] = {}
    for page in pages:
        for entry in page.read():
            entries.setdefault(entry.filename.lower(), entry)
    return [entries[name] for name in sorted(entries)]
