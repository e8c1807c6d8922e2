"""``uv.lock``, whose packages form a graph: the project's own requirements lead to everything else. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from packaging.markers import Marker
from packaging.utils import NormalizedName, canonicalize_name

from mirror import urls
from mirror.errors import ResolutionError
from mirror.lockfiles.lock import (
    Conditions,
    Lock,
    Locked,
    Selected,
    check_known,
    check_python,
    git_reference,
    locked_file,
    read_hashes,
    read_marker,
    read_version,
    unique,
)
from mirror.lockfiles.toml import Table
from mirror.models import File, Target

#: The only format that uv has written so far; its revisions only add what may be left unread.
_VERSION = 1


@dataclass(frozen=True, slots=True)
class _Edge:
    """One requirement of a package, on some machines; ``version`` and ``source`` are there where they are needed."""

    project: NormalizedName
    version: str | None
    source: str | None
    extras: tuple[NormalizedName, ...]
    marker: Marker | None


@dataclass(frozen=True, slots=True)
class _Package:
    """A node of the graph; ``here`` is the folder of a project that is locked, and None for what comes from outside."""

    locked: Locked
    source: str
    here: str | None
    forks: tuple[Marker, ...]
    edges: tuple[_Edge, ...]
    extras: dict[NormalizedName, tuple[_Edge, ...]]
    groups: dict[NormalizedName, tuple[_Edge, ...]]


def read_uv(document: Table, folder: PurePath, *, extras: Sequence[str], groups: Sequence[str]) -> Lock:
    """Read a lock that stands in *folder*. The project at its root, or every member of a workspace without one."""
    version = document.number("version")
    if version != _VERSION:
        raise document.error(f"version {version} of uv's lock is not known here.", "Update airgap.")
    packages = tuple(_package(table, folder) for table in document.tables("package"))
    roots = tuple(package for package in packages if package.here == ".")
    roots = roots or tuple(package for package in packages if package.here is not None)
    if not roots:
        raise document.error("it locks no project.", "Lock again with: uv lock")
    return _UvLock(
        name=PurePath(document.file).name,
        requires_python=document.optional("requires-python"),
        nodes=packages,
        roots=roots,
        extras=check_known("extra", extras, [name for root in roots for name in root.extras], document),
        groups=check_known("group", groups, [name for root in roots for name in root.groups], document),
    )


@dataclass(frozen=True, slots=True)
class _UvLock:
    name: str
    requires_python: str | None
    nodes: tuple[_Package, ...]
    roots: tuple[_Package, ...]
    extras: tuple[NormalizedName, ...]
    groups: tuple[NormalizedName, ...]

    @property
    def packages(self) -> Sequence[Locked]:
        return [node.locked for node in self.nodes if node not in self.roots]

    def select(self, target: Target) -> Selected:
        check_python(self.name, self.requires_python, target)
        conditions = Conditions(target, self._active())
        asked = [edge for root in self.roots for edge in self._asked(root)]
        queue: deque[tuple[_Edge, tuple[str, ...]]] = deque((edge, (self.name,)) for edge in asked)
        seen: set[tuple[int, NormalizedName | None]] = set()
        found: list[Locked] = []
        roots: set[NormalizedName] = set()
        while queue:
            edge, path = queue.popleft()
            if not conditions.hold(edge.marker):
                continue
            package = self._find(edge, target, conditions, path)
            if package in self.roots:
                # A project that names itself, to ask for more of its extras.
                queue.extend((further, path) for name in edge.extras for further in package.extras.get(name, ()))
                continue
            locked = package.locked
            if len(path) == 1:
                roots.add(locked.project)
            step = (*path, f"{locked.project} {locked.version}")
            for extra in (None, *edge.extras):
                if (id(package), extra) in seen:
                    continue
                seen.add((id(package), extra))
                edges = package.edges if extra is None else package.extras.get(extra, ())
                queue.extend((further, step) for further in edges)
                requires = tuple(further.project for further in edges)
                found.append(replace(locked, extras=(extra,) if extra else (), requires=requires))
        return Selected(unique(self.name, target, found), tuple(sorted(roots)))

    def _asked(self, root: _Package) -> Iterable[_Edge]:
        yield from root.edges
        for name in self.extras:
            yield from root.extras.get(name, ())
        for name in self.groups:
            yield from root.groups.get(name, ())

    def _active(self) -> set[str]:
        """The names by which uv's markers tell extras and groups that exclude each other."""
        active: set[str] = set()
        for root in self.roots:
            project = root.locked.project
            active.add(f"project-{len(project)}-{project}")
            active |= {f"extra-{len(project)}-{project}-{name}" for name in self.extras}
            active |= {f"group-{len(project)}-{project}-{name}" for name in self.groups}
        return active

    def _find(self, edge: _Edge, target: Target, conditions: Conditions, path: tuple[str, ...]) -> _Package:
        fitting = [
            package
            for package in self.nodes
            if package.locked.project == edge.project
            and edge.version in (None, package.locked.version)
            and edge.source in (None, package.source)
        ]
        if len(fitting) > 1:
            fitting = [package for package in fitting if not package.forks or any(map(conditions.hold, package.forks))]
        if len(fitting) == 1:
            return fitting[0]
        wanted = f"{edge.project} {edge.version}" if edge.version else edge.project
        has = "has no" if not fitting else "has more than one"
        raise ResolutionError(
            f"{target.name}: {self.name} {has} {wanted}.\n  {' → '.join((*path, wanted))}",
            hint="Lock again with: uv lock",
        )


def _package(at: Table, folder: PurePath) -> _Package:
    project = canonicalize_name(at.text("name"))
    source = at.table("source")
    here = source.optional("virtual") or source.optional("editable")
    elsewhere = reference = ""
    if "git" in source.values:
        elsewhere, reference = "a Git repository", _git(source.text("git"))
    elif here is not None or "directory" in source.values:
        elsewhere = "a folder"
    files: tuple[File, ...] = ()
    version = read_version(at) if "version" in at.values or not elsewhere else ""
    if not elsewhere:
        distributions = [*at.tables("wheels"), *([at.table("sdist")] if "sdist" in at.values else [])]
        files = tuple(_file(table, source, project, version, folder) for table in distributions)
    return _Package(
        locked=Locked(project, version, files, elsewhere=elsewhere, reference=reference),
        source=_identity(source),
        here=here,
        forks=tuple(marker for text in at.texts("resolution-markers") if (marker := read_marker(text, at))),
        edges=_edges(at, "dependencies"),
        extras=_edges_by_name(at.table("optional-dependencies")),
        groups=_edges_by_name(at.table("dev-dependencies")),
    )


def _git(url: str) -> str:
    """The reference that uv spells ``https://host/repository?subdirectory=folder&rev=main#COMMIT``."""
    parts = urlsplit(url)
    subdirectory = dict(parse_qsl(parts.query)).get("subdirectory")
    return git_reference(urlunsplit(parts._replace(query="", fragment="")), parts.fragment, subdirectory)


def _identity(source: Table) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(source.values.items()) if key != "subdirectory")


def _edges_by_name(at: Table) -> dict[NormalizedName, tuple[_Edge, ...]]:
    return {canonicalize_name(name): _edges(at, name) for name in at.values}


def _edges(at: Table, key: str) -> tuple[_Edge, ...]:
    return tuple(
        _Edge(
            project=canonicalize_name(table.text("name")),
            version=read_version(table) if "version" in table.values else None,
            source=_identity(table.table("source")) if "source" in table.values else None,
            extras=tuple(map(canonicalize_name, table.texts("extra"))),
            marker=read_marker(table.optional("marker"), table),
        )
        for table in at.tables(key)
    )


def _file(at: Table, source: Table, project: NormalizedName, version: str, folder: PurePath) -> File:
    registry = source.optional("registry") or ""
    url = at.optional("url") or source.optional("url") or ""
    path = at.optional("path") or source.optional("path")
    if not url and path:
        local = folder if "://" in registry or not registry else folder / registry
        url = (local / path).as_uri()
    hash_ = at.optional("hash")
    return locked_file(
        at,
        at.optional("filename") or urls.basename(url),
        project,
        version,
        url=url,
        hashes=read_hashes([hash_] if hash_ else [], at),
        index=registry if "://" in registry else "",
        size=at.number("size"),
        upload_time=at.optional("upload-time"),
    )
