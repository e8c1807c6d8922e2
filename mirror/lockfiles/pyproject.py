"""``pyproject.toml``: a project's requirements and extras (PEP 621), and its dependency groups (PEP 735). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from packaging.dependency_groups import CyclicDependencyGroup, DependencyGroupResolver
from packaging.errors import ExceptionGroup
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import NormalizedName, canonicalize_name

from mirror.lockfiles.lock import check_known
from mirror.lockfiles.toml import Table
from mirror.models import RequirementLine

_LOCKS = "Lock the project and pack the lock: uv.lock, poetry.lock, pdm.lock or pylock.toml."


def read_pyproject(
    document: Table, name: str, *, extras: Sequence[str], groups: Sequence[str]
) -> tuple[tuple[RequirementLine, ...], str | None]:
    """Return the project's requirements with those of *extras* and *groups*, and its ``requires-python``.

    *name* is how ``origin`` calls the file. A file without ``[project]`` may still have groups. What a tool's own table
    would take from elsewhere than an index is an error: another project of the same name could be on the index.
    """
    project = document.table("project")
    if not project.values and not groups:
        raise document.error("it has no [project] table with dependencies (PEP 621).", _LOCKS)
    for key in ("dependencies", "optional-dependencies") if extras else ("dependencies",):
        if key in project.texts("dynamic"):
            raise project.error(f"{key} are dynamic: only building the project tells them.", _LOCKS)
    lines = [
        RequirementLine(requirement, f"{name} [project] dependencies")
        for requirement in _requirements(project, "dependencies")
    ]
    lines += _extras(project, name, extras)
    lines += _groups(document, name, groups)
    _check_sources(document, lines)
    return tuple(lines), project.optional("requires-python")


def _requirements(at: Table, key: str) -> Iterator[Requirement]:
    texts = at.texts(key)
    try:
        yield from map(Requirement, texts)
    except InvalidRequirement as error:
        cause = getattr(error.__cause__, "message", None) or "it can't be read"  # the text may hold a password
        raise at.error(f"{key} has something that is not a requirement (PEP 508): {cause}.") from None


def _extras(project: Table, name: str, asked: Sequence[str]) -> Iterator[RequirementLine]:
    """The lines of the extras asked for, and of those that the project asks of itself."""
    optional = project.table("optional-dependencies")
    keys = {canonicalize_name(key): key for key in optional.values}
    own = canonicalize_name(project.optional("name") or "")
    queue = list(check_known("extra", asked, optional.values.keys(), project))
    seen: set[NormalizedName] = set()
    while queue:
        extra = queue.pop(0)
        if extra in seen:
            continue
        seen.add(extra)
        for requirement in _requirements(optional, keys[extra]):
            if canonicalize_name(requirement.name) == own:
                queue += check_known("extra", sorted(requirement.extras), optional.values.keys(), project)
            else:
                yield RequirementLine(requirement, f"{name} [project.optional-dependencies] {extra}")


def _groups(document: Table, name: str, asked: Iterable[str]) -> Iterator[RequirementLine]:
    table = document.table("dependency-groups")
    for group in check_known("group", asked, table.values.keys(), table):
        try:
            requirements = DependencyGroupResolver(table.values).resolve(group)
        except ExceptionGroup as error:
            circle = next((each for each in error.exceptions if isinstance(each, CyclicDependencyGroup)), None)
            reason = str(circle or error.exceptions[0])
            raise table.error(f"group {group!r} can't be used (PEP 735): {reason}.") from error
        for requirement in requirements:
            yield RequirementLine(requirement, f"{name} [dependency-groups] {group}")


def _check_sources(document: Table, lines: Iterable[RequirementLine]) -> None:
    sources = document.table("tool").table("uv").table("sources")
    elsewhere = {canonicalize_name(key) for key in sources.values}
    for line in lines:
        if line.project in elsewhere:
            raise sources.error(f"{line.project} comes from elsewhere than the index that airgap uses.", _LOCKS)
