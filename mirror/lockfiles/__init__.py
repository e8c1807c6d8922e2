"""Requirements files, projects and locks, recognised by their names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mirror.errors import RequirementsError, UsageError
from mirror.models import RequirementSet, Selection, Target

if TYPE_CHECKING:
    from mirror.lockfiles.lock import Lock

__all__ = ["Inputs", "read"]

#: Locks of other tools, which must not be taken for requirements files.
_UNREADABLE = (".lock", ".toml", ".json", ".yml", ".yaml", ".cfg", ".py")


@dataclass(frozen=True, slots=True)
class Inputs:
    """What to pack. With a ``lock``, ``wanted`` has no requirements of its own: the lock decides, for every target.

    ``pythons`` are ``(file, specifier)`` of the projects that say which Pythons they are for.
    """

    wanted: RequirementSet
    lock: Lock | None = None
    pythons: tuple[tuple[str, str], ...] = ()

    def choosing(self, selection: Selection) -> RequirementSet:
        """``wanted`` with *selection*, and the pre-releases that the files themselves welcome."""
        return replace(self.wanted, selection=replace(selection, pre=selection.pre | self.wanted.selection.pre))

    def check(self, targets: Iterable[Target]) -> None:
        """Raise a ResolutionError where a project is not for the Python of one of *targets*."""
        if not self.pythons:
            return
        from mirror.lockfiles.lock import check_python

        for target in targets:
            for name, specifier in self.pythons:
                check_python(name, specifier, target)


def read(
    paths: Sequence[str],
    *,
    constraints: Sequence[str] = (),
    environ: Mapping[str, str] = os.environ,
    extras: Sequence[str] = (),
    groups: Sequence[str] = (),
) -> Inputs:
    """Read requirements files, ``pyproject.toml``, or one lock: pylock.toml, uv.lock, poetry.lock or pdm.lock.

    *extras* and *groups* are those of the project or the lock. With a lock, *constraints* are about nothing but what
    building its sdists needs. Raises a RequirementsError that names the file, or a UsageError.
    """
    from mirror.lockfiles.requirements import read_requirements

    locks = [path for path in paths if _is_lock(path)]
    projects = [path for path in paths if Path(path).name == "pyproject.toml"]
    others = [path for path in paths if path not in locks and path not in projects]
    for path in others:
        if path.lower().endswith(_UNREADABLE):
            raise RequirementsError(
                "this is neither a requirements file nor a lock that is known here.",
                file=path,
                hint="Known are requirements.txt, pyproject.toml, pylock.toml, uv.lock, poetry.lock and pdm.lock.",
            )
    if locks and len(paths) > 1:
        raise UsageError(
            f"{locks[0]} is a lock, and a lock is packed alone: nothing else may add to what it decided.",
            hint="Pack each lock into a bundle of its own.",
        )
    if (extras or groups) and not (locks or projects):
        raise UsageError("--extra and --group are about a pyproject.toml or a lock, and none is given.")
    wanted = read_requirements(others, constraints=constraints, environ=environ)
    if locks:
        return _read_lock(locks[0], wanted, extras, groups)
    pythons: list[tuple[str, str]] = []
    for path in projects:
        wanted, python = _read_project(path, wanted, extras, groups)
        pythons += [(path, python)] if python else []
    return Inputs(wanted, pythons=tuple(pythons))


def _is_lock(path: str) -> bool:
    name = Path(path).name
    if name == "pylock.toml" or (name.startswith("pylock.") and name.endswith(".toml")):
        return True
    return name in ("uv.lock", "poetry.lock", "pdm.lock")


def _read_lock(path: str, wanted: RequirementSet, extras: Sequence[str], groups: Sequence[str]) -> Inputs:
    from mirror.lockfiles.requirements import redacted
    from mirror.lockfiles.toml import parse

    name, text = Path(path).name, _text(path)
    document, folder = parse(text, path), Path(path).absolute().parent
    lock: Lock
    if name == "uv.lock":
        from mirror.lockfiles.uv import read_uv

        lock = read_uv(document, folder, extras=extras, groups=groups)
    elif name == "poetry.lock":
        from mirror.lockfiles.poetry import read_poetry

        lock = read_poetry(document, extras=extras, groups=groups)
    elif name == "pdm.lock":
        from mirror.lockfiles.pdm import read_pdm

        lock = read_pdm(document, extras=extras, groups=groups)
    else:
        from mirror.lockfiles.pylock import read_pylock

        lock = read_pylock(document, folder, extras=extras, groups=groups)
    return Inputs(replace(wanted, sources=((name, redacted(text)), *wanted.sources)), lock)


def _read_project(
    path: str, wanted: RequirementSet, extras: Sequence[str], groups: Sequence[str]
) -> tuple[RequirementSet, str | None]:
    from mirror.lockfiles.pyproject import read_pyproject
    from mirror.lockfiles.requirements import redacted, unique_name
    from mirror.lockfiles.toml import parse

    text = _text(path)
    name = unique_name(path, [name for name, _ in wanted.sources])
    lines, python = read_pyproject(parse(text, path), name, extras=extras, groups=groups)
    return (
        replace(
            wanted,
            requirements=(*wanted.requirements, *lines),
            sources=(*wanted.sources, (name, redacted(text))),
        ),
        python,
    )


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise RequirementsError(f"it can't be read: {error.strerror}.", file=path) from error
    except UnicodeDecodeError as error:
        raise RequirementsError("it is not text in UTF-8.", file=path) from error
