"""What changed between two bundles, by project, file and target, from their manifests alone. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from mirror.bundle import BundledFile, BundledTarget

_Projects = Iterator[tuple[str, Sequence[BundledFile]]]


@dataclass(frozen=True, slots=True)
class ProjectChange:
    """One project in both bundles or in one: its versions and its files' bytes, before and after."""

    project: str
    old_versions: tuple[str, ...]
    new_versions: tuple[str, ...]
    added: tuple[BundledFile, ...]
    removed: tuple[BundledFile, ...]
    replaced: tuple[BundledFile, ...]

    @property
    def kind(self) -> str:
        """``added``, ``removed`` or ``changed``."""
        return "changed" if self.old_versions and self.new_versions else "added" if self.new_versions else "removed"

    @property
    def added_size(self) -> int:
        """Bytes that the new bundle needs and the old one did not have."""
        return sum(file.size for file in (*self.added, *self.replaced))

    @property
    def removed_size(self) -> int:
        """Bytes that only the old bundle needed; what was replaced is not counted."""
        return sum(file.size for file in self.removed)


@dataclass(frozen=True, slots=True)
class TargetChange:
    """A target in both or in one: ``(project, old version, new version)``; an empty version is none."""

    name: str
    kind: str
    pins: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """Everything that differs, sorted; empty where both name the same files for the same targets."""

    projects: tuple[ProjectChange, ...]
    targets: tuple[TargetChange, ...]

    def __bool__(self) -> bool:
        return bool(self.projects or self.targets)

    def of_kind(self, kind: str) -> tuple[ProjectChange, ...]:
        """The projects that were ``added``, ``changed`` or ``removed``."""
        return tuple(change for change in self.projects if change.kind == kind)


class Named(Protocol):
    """What names files project by project; ``targets`` are asked for after the last one. Manifests do, and rows."""

    @property
    def targets(self) -> Sequence[BundledTarget]: ...
    def grouped(self) -> Iterator[tuple[str, Sequence[BundledFile]]]:
        """Every project with its files, sorted."""


def diff(old: Named, new: Named) -> Difference:
    """Compare what two bundles name, whether they carry it or not; what is the same in both is not held."""
    projects = (_project(*found) for found in _merged(old.grouped(), new.grouped()))
    changes = tuple(change for change in projects if change.added or change.removed or change.replaced)
    return Difference(changes, _targets(old.targets, new.targets))


def _merged(old: _Projects, new: _Projects) -> Iterator[tuple[str, Sequence[BundledFile], Sequence[BundledFile]]]:
    """Every project of either side with its files there, none where it has none."""
    before, after = next(old, None), next(new, None)
    while before or after:
        name = min(each[0] for each in (before, after) if each)
        was: Sequence[BundledFile] = ()
        is_: Sequence[BundledFile] = ()
        if before and before[0] == name:
            was, before = before[1], next(old, None)
        if after and after[0] == name:
            is_, after = after[1], next(new, None)
        yield name, was, is_


def _project(name: str, old: Iterable[BundledFile], new: Iterable[BundledFile]) -> ProjectChange:
    before = {file.filename: file for file in old}
    after = {file.filename: file for file in new}
    return ProjectChange(
        project=name,
        old_versions=_versions(before.values()),
        new_versions=_versions(after.values()),
        added=tuple(file for key, file in sorted(after.items()) if key not in before),
        removed=tuple(file for key, file in sorted(before.items()) if key not in after),
        replaced=tuple(
            file for key, file in sorted(after.items()) if key in before and before[key].sha256 != file.sha256
        ),
    )


def _versions(files: Iterable[BundledFile]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(file.version for file in files))


def _targets(old: Iterable[BundledTarget], new: Iterable[BundledTarget]) -> tuple[TargetChange, ...]:
    before = {target.name: target.pins for target in old}
    after = {target.name: target.pins for target in new}
    found: list[TargetChange] = []
    for name in sorted({*before, *after}):
        was, is_ = before.get(name, {}), after.get(name, {})
        pins = tuple(
            (project, was.get(project, ""), is_.get(project, ""))
            for project in sorted({*was, *is_})
            if was.get(project) != is_.get(project)
        )
        kind = "changed" if name in before and name in after else "added" if name in after else "removed"
        if pins or kind != "changed":
            found.append(TargetChange(name, kind, pins))
    return tuple(found)
