"""What a push has to do, computed from the files of a bundle and what the repository shows. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from mirror.models import Hashes
from mirror.push.publisher import SourceFile

FileT = TypeVar("FileT", bound=SourceFile)


@dataclass(frozen=True, slots=True)
class Step:
    """Projects that become visible together: one, or all of a dependency cycle, which has no better order.

    ``after`` names the projects outside this step that must be complete before it begins.
    """

    projects: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PushPlan(Generic[FileT]):
    """Every file is in exactly one of ``new``, ``present`` and ``conflicts``, each sorted by name.

    ``waves`` covers all projects: a step needs nothing but steps of earlier waves. A project that is complete
    already is in it, because what it requires may be missing still.
    """

    new: tuple[FileT, ...]
    present: tuple[FileT, ...]
    conflicts: tuple[FileT, ...]
    waves: tuple[tuple[Step, ...], ...]


def undecided(files: Iterable[FileT], listings: Mapping[str, Mapping[str, Hashes]]) -> list[FileT]:
    """Return the files that are there by name but shown without sha256: only their bytes can tell."""
    return [
        file
        for file in files
        if (shown := listings.get(file.project, {}).get(file.filename)) is not None and shown.sha256 is None
    ]


def plan(files: Sequence[FileT], listings: Mapping[str, Mapping[str, Hashes]]) -> PushPlan[FileT]:
    """Compare *files* with *listings* (project, file name, digests) and put the projects into dependency order.

    Only sha256 decides. A file that is shown without one counts as a conflict: see :func:`undecided` first.
    """
    new: list[FileT] = []
    present: list[FileT] = []
    conflicts: list[FileT] = []
    for file in sorted(files, key=lambda file: file.filename):
        shown = listings.get(file.project, {}).get(file.filename)
        if shown is None:
            new.append(file)
        elif shown.sha256 == file.sha256:
            present.append(file)
        else:
            conflicts.append(file)
    return PushPlan(tuple(new), tuple(present), tuple(conflicts), dependency_waves(files))


def dependency_waves(files: Iterable[SourceFile]) -> tuple[tuple[Step, ...], ...]:
    """Return the projects of *files* in waves, dependencies first, cycles as one step; sorted, so always the same."""
    graph: dict[str, tuple[str, ...]] = {}
    for file in files:
        graph[file.project] = tuple({*graph.get(file.project, ()), *file.requires})
    for project, requires in graph.items():
        # What the bundle does not hold (a delta) can't be waited for.
        graph[project] = tuple(sorted({*requires}.intersection(graph) - {project}))
    waves: list[list[Step]] = []
    wave_of: dict[str, int] = {}
    for component in _components(graph):
        after = set().union(*(graph[project] for project in component)) - set(component)
        wave = max((wave_of[project] + 1 for project in after), default=0)
        wave_of.update(dict.fromkeys(component, wave))
        if wave == len(waves):
            waves.append([])
        waves[wave].append(Step(tuple(sorted(component)), tuple(sorted(after))))
    return tuple(tuple(sorted(wave, key=lambda step: step.projects)) for wave in waves)


def _components(graph: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Tarjan's strongly connected components, each after all that it points to, sorted; no recursion limit."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    found: list[list[str]] = []
    for root in sorted(graph):
        if root in number:
            continue
        work = [(root, iter(graph[root]))]
        number[root] = low[root] = len(number)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, successors = work[-1]
            for successor in successors:
                if successor not in number:
                    number[successor] = low[successor] = len(number)
                    stack.append(successor)
                    on_stack.add(successor)
                    work.append((successor, iter(graph[successor])))
                    break
                if successor in on_stack:
                    low[node] = min(low[node], number[successor])
            else:
                work.pop()
                if work:
                    parent = work[-1][0]
                    low[parent] = min(low[parent], low[node])
                if low[node] == number[node]:
                    cut = stack.index(node)
                    component = stack[cut:]
                    del stack[cut:]
                    on_stack.difference_update(component)
                    found.append(component)
    return found
