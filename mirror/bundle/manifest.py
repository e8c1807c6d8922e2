"""The manifest: what a bundle holds, why, and in which frame. Pure.

Its SHA-256 is the bundle's identity, so its bytes are canonical: :func:`~mirror.bundle.rows.parse_manifest` accepts
exactly what :meth:`Manifest.to_bytes` writes. ``docs/bundle-format.md`` describes every field.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from operator import attrgetter
from typing import Protocol

from mirror.bundle import tar
from mirror.bundle.canonical import spell

FORMAT = "airgap-bundle"
VERSION = 1
MANIFEST = "manifest.json"
#: Bytes of one frame before compression, at most: what readers of the seekable format agree on.
FRAME_LIMIT = 2**30
#: Bytes of a manifest, at most.
MANIFEST_LIMIT = 2**26
#: Frames before the first project's: the manifest and every other member that is not a distribution file.
LEADING_FRAMES = 1

#: Members at the top that every bundle has, besides the manifest.
MEMBER_FILES = frozenset({"sbom.cdx.json", "report.html"})

_project = attrgetter("project")


@dataclass(frozen=True, slots=True)
class BundledFile:
    """One distribution file in ``packages/``.

    ``size`` is in bytes; ``index`` is the URL that it came from, without credentials. ``yanked`` is None or the reason,
    which may be empty. ``targets`` install it, ``builds`` are the targets where building an sdist needs it; one with
    neither goes along with a release that some target installs or builds with. ``chain``
    says why, one sentence a step, and ``requires`` names the projects that it needs on any of them, to be built or to
    run. ``frame`` is the first frame of its project. ``metadata_sha256`` is the digest of the PEP 658 file beside it,
    or None where there is none. ``carrier`` is None where the bundle holds the file; else the bundle is a delta that
    expects to find it in the repository, and this is the identity of the bundle that brought it; ``frame`` is then 0.
    ``origin`` is empty for a file of an index; else pairs sorted by key, among them ``kind``, say where it is from.
    """

    filename: str
    project: str
    version: str
    size: int
    sha256: str
    index: str = ""
    requires_python: str | None = None
    yanked: str | None = None
    upload_time: str | None = None
    targets: tuple[str, ...] = ()
    builds: tuple[str, ...] = ()
    chain: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    encoding: str = "identity"
    frame: int = LEADING_FRAMES
    metadata_sha256: str | None = None
    carrier: str | None = None
    origin: tuple[tuple[str, str], ...] = ()

    @property
    def path(self) -> str:
        """Where it is in the archive."""
        return f"packages/{self.filename}"

    @property
    def source(self) -> str:
        """Where it is from, in words: its index, or what :attr:`origin` says; may be empty."""
        said = dict(self.origin)
        words = {
            "built": "built here from {from}",
            "file": "a file of the packer's own",
            "folder": "an sdist of a folder",
            "git": "commit {commit} of {url}",
            "url": "{url}",
        }.get(said.get("kind", ""), "")
        return words.format_map({"commit": "", "from": "", "url": "", **said}) or self.index

    @property
    def carried(self) -> bool:
        """Whether the bundle holds it."""
        return self.carrier is None

    @property
    def is_wheel(self) -> bool:
        return self.filename.endswith(".whl")


@dataclass(frozen=True, slots=True)
class Member:
    """Any other member of the archive, the manifest excepted; ``size`` is in bytes."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class BundledTarget:
    """A target: wheel tags, best first, marker values, and the version of every project that it installs.

    ``builds`` has an entry for every sdist that the target builds, ``project version``: the version of every project
    that its build environment installs.
    """

    name: str
    tags: tuple[str, ...]
    markers: Mapping[str, str]
    pins: Mapping[str, str]
    builds: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def build_versions(self) -> set[tuple[str, str]]:
        """Every project and version that any of the builds installs."""
        return {pin for pins in self.builds.values() for pin in pins.items()}


class Entry(Protocol):
    """A member as a section of the archive holds it; ``size`` is in bytes."""

    @property
    def path(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def sha256(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Section:
    """Neighbouring members that share frames: those of one project, or all that are not distribution files."""

    name: str
    frame: int
    entries: Collection[Entry]

    @property
    def size(self) -> int:
        """Bytes before compression, headers and padding included."""
        return sum(tar.member_size(entry.path, entry.size) for entry in self.entries)


@dataclass(frozen=True)
class Manifest:
    """What a bundle holds. Files are in archive order: by project, then as the writer arranged them.

    ``since`` is empty, or says of a delta what it builds on: the identity of every bundle that brought files which this
    one does not carry, and the name under which it was known, which may be empty.
    """

    targets: tuple[BundledTarget, ...] = ()
    files: tuple[BundledFile, ...] = ()
    members: Sequence[Member] = ()
    version: int = VERSION
    since: Mapping[str, str] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Canonical JSON in UTF-8: keys sorted, one file, member or target a line; no clock, no host."""
        return b"".join(self.spelled())

    def spelled(self) -> Iterator[bytes]:
        """Yield :meth:`to_bytes` in pieces, none of which is kept."""
        values: dict[str, object] = {
            "files": map(_file_document, self.files),
            "format": FORMAT,
            "members": ({"path": m.path, "sha256": m.sha256, "size": m.size} for m in self.members),
            "targets": map(_target_document, self.targets),
            "version": self.version,
        }
        if self.since:
            values["since"] = dict(self.since)
        return spell(values)

    @property
    def identity(self) -> str:
        """The SHA-256 of the manifest's bytes, which stands for the whole content."""
        return self._seal[0]

    @property
    def size(self) -> int:
        """How many bytes :meth:`to_bytes` has."""
        return self._seal[1]

    @cached_property
    def _seal(self) -> tuple[str, int]:
        digest, size = hashlib.sha256(), 0
        for piece in self.spelled():
            digest.update(piece)
            size += len(piece)
        return digest.hexdigest(), size

    @cached_property
    def projects(self) -> tuple[str, ...]:
        """Every project, sorted."""
        return tuple(dict.fromkeys(file.project for file in self.files))

    def files_of(self, project: str) -> tuple[BundledFile, ...]:
        """The files of *project* in archive order, carried or not."""
        start = bisect_left(self.files, project, key=_project)
        return self.files[start : bisect_right(self.files, project, start, key=_project)]

    def carried_of(self, project: str) -> tuple[BundledFile, ...]:
        """The files of *project* that the bundle holds, in archive order."""
        return tuple(file for file in self.files_of(project) if file.carried)

    def grouped(self) -> Iterator[tuple[str, tuple[BundledFile, ...]]]:
        """Every project with its files, carried or not, sorted."""
        return ((project, tuple(files)) for project, files in groupby(self.files, key=_project))

    @cached_property
    def carried(self) -> tuple[BundledFile, ...]:
        """The files that the bundle holds; all of them, unless it is a delta."""
        found = tuple(file for file in self.files if file.carried)
        return found if len(found) < len(self.files) else self.files

    @cached_property
    def expected(self) -> tuple[BundledFile, ...]:
        """The files that a delta expects to find in the repository."""
        return tuple(file for file in self.files if not file.carried)

    @property
    def member_section(self) -> Section:
        return Section(
            "manifest and documents", 0, _Documents(Member(MANIFEST, self.size, self.identity), self.members)
        )

    @property
    def project_sections(self) -> Mapping[str, Section]:
        """The sections of all projects of which the bundle holds files, sorted; each is made when it is asked for."""
        return _Sections(self)

    @property
    def end_frame(self) -> int:
        """The frame that holds the end-of-archive blocks: the first after all projects."""
        if not self.carried:
            return LEADING_FRAMES
        last = self.project_sections[self.carried[-1].project]
        return last.frame + frames_of(last.size)


class _Documents(Collection[Entry]):
    """The manifest and, behind it, every other member that is no distribution file."""

    def __init__(self, manifest: Member, members: Sequence[Member]) -> None:
        self._manifest = manifest
        self._members = members

    def __contains__(self, entry: object) -> bool:
        return entry == self._manifest or entry in self._members

    def __iter__(self) -> Iterator[Entry]:
        yield self._manifest
        yield from self._members

    def __len__(self) -> int:
        return 1 + len(self._members)


class _Sections(Mapping[str, Section]):
    """See :attr:`Manifest.project_sections`."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest

    def __getitem__(self, project: str) -> Section:
        files = self._manifest.carried_of(project)
        if not files:
            raise KeyError(project)
        return Section(project, files[0].frame, files)

    def __iter__(self) -> Iterator[str]:
        return (project for project, _ in groupby(self._manifest.carried, key=_project))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def frames_of(size: int) -> int:
    """How many frames *size* bytes of one section take: all but the last hold FRAME_LIMIT bytes."""
    return max(1, -(-size // FRAME_LIMIT))


def required_members(projects: Iterable[str], targets: Iterable[str]) -> Iterator[str]:
    """The members that every bundle that holds files of these projects for these targets has."""
    yield from ("simple/index.html", "simple/index.json", *sorted(MEMBER_FILES))
    for project in projects:
        yield from page_paths(project)
    yield from map(lock_path, targets)


def page_paths(project: str) -> tuple[str, str]:
    """Where the index pages of *project* are."""
    return f"simple/{project}/index.html", f"simple/{project}/index.json"


def lock_path(target: str) -> str:
    """Where the lock of *target* is; PEP 751 wants the name ``pylock.NAME.toml``, without a dot in NAME."""
    return f"locks/pylock.{target.replace('.', '_')}.toml"


def _file_document(file: BundledFile) -> dict[str, object]:
    return {
        **({} if file.carried else {"carrier": file.carrier}),
        "builds": file.builds,
        "chain": file.chain,
        "encoding": file.encoding,
        "filename": file.filename,
        "frame": file.frame,
        "index": file.index,
        "metadata-sha256": file.metadata_sha256,
        **({"origin": dict(file.origin)} if file.origin else {}),
        "project": file.project,
        "requires": file.requires,
        "requires-python": file.requires_python,
        "sha256": file.sha256,
        "size": file.size,
        "targets": file.targets,
        "upload-time": file.upload_time,
        "version": file.version,
        "yanked": file.yanked,
    }


def _target_document(target: BundledTarget) -> dict[str, object]:
    return {
        "builds": {sdist: dict(pins) for sdist, pins in target.builds.items()},
        "markers": dict(target.markers),
        "name": target.name,
        "pins": dict(target.pins),
        "tags": target.tags,
    }


def cut(size: int) -> Iterator[int]:
    """Yield how many bytes each frame of a section of *size* bytes holds."""
    while size > FRAME_LIMIT:
        yield FRAME_LIMIT
        size -= FRAME_LIMIT
    yield size
