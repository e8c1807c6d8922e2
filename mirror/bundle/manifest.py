"""The manifest: what a bundle holds, why, and in which frame. Pure.

Its SHA-256 is the bundle's identity, so its bytes are canonical: :meth:`Manifest.from_bytes` accepts exactly what
:meth:`Manifest.to_bytes` writes. ``docs/bundle-format.md`` describes every field.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby, pairwise
from typing import TypeVar

from mirror.bundle import tar
from mirror.errors import BundleError
from mirror.models import is_safe_filename

FORMAT = "airgap-bundle"
VERSION = 1
MANIFEST = "manifest.json"
#: Bytes of one frame before compression, at most: what readers of the seekable format agree on.
FRAME_LIMIT = 2**30
#: Bytes of a manifest, at most: a reader holds it whole.
MANIFEST_LIMIT = 2**26
#: Frames before the first project's: the manifest, then every other member that is not a distribution file.
LEADING_FRAMES = 2

_T = TypeVar("_T")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_PROJECT = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*\Z")
_TARGET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_MEMBER_FOLDERS = frozenset({"simple", "packages", "locks", "requirements"})
_MEMBER_FILES = frozenset({"sbom.cdx.json", "report.html"})


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


@dataclass(frozen=True, slots=True)
class Entry:
    """A member as a section of the archive holds it; ``size`` is in bytes."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Section:
    """Neighbouring members that share frames: those of one project, or all that are not distribution files."""

    name: str
    frame: int
    entries: tuple[Entry, ...]

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
    members: tuple[Member, ...] = ()
    version: int = VERSION
    since: Mapping[str, str] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Canonical JSON in UTF-8: keys sorted, one file, member or target a line; no clock, no host."""
        return self._bytes

    @cached_property
    def _bytes(self) -> bytes:
        lines: list[str] = []
        for key, values in (
            ("files", [_file_document(file) for file in self.files]),
            ("members", [{"path": m.path, "sha256": m.sha256, "size": m.size} for m in self.members]),
            ("targets", [_target_document(target) for target in self.targets]),
        ):
            items = ",\n".join(_dump(value) for value in values)
            lines.append(f'"{key}":[\n{items}\n]' if items else f'"{key}":[]')
        lines.insert(1, f'"format":{_dump(FORMAT)}')
        if self.since:
            lines.insert(3, f'"since":{_dump(dict(self.since))}')
        lines.append(f'"version":{self.version}')
        return ("{" + ",\n".join(lines) + "}\n").encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Parse, and check all that can be checked without the archive; a BundleError says which field is wrong."""
        try:
            document = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise BundleError(f"The manifest is not JSON: {error}.") from error
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise BundleError("The manifest is not one of an airgap bundle.")
        if document.get("version") != VERSION:
            raise BundleError(
                f"The bundle has format version {str(document.get('version'))[:40]}; this airgap reads {VERSION}.",
                hint="Install the airgap version that wrote the bundle, or a later one.",
            )
        fields = _Fields(document, "")
        fields.text("format")
        manifest = cls(
            targets=fields.items("targets", _read_target),
            files=fields.items("files", _read_file),
            members=fields.items("members", _read_member),
            version=fields.integer("version"),
            since=fields.mapping("since") if fields.has("since") else {},
        )
        fields.done()
        manifest.check()
        if manifest.to_bytes() != data:
            raise BundleError(
                "The manifest is not in canonical form.", hint="It was edited or written by another tool."
            )
        return manifest

    @cached_property
    def identity(self) -> str:
        """The SHA-256 of the manifest's bytes, which stands for the whole content."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @cached_property
    def projects(self) -> tuple[str, ...]:
        """Every project, sorted."""
        return tuple(dict.fromkeys(file.project for file in self.files))

    def files_of(self, project: str) -> tuple[BundledFile, ...]:
        """The files of *project* in archive order, carried or not."""
        return self._by_project.get(project, ())

    def carried_of(self, project: str) -> tuple[BundledFile, ...]:
        """The files of *project* that the bundle holds, in archive order."""
        return tuple(file for file in self.files_of(project) if file.carried)

    @cached_property
    def carried(self) -> tuple[BundledFile, ...]:
        """The files that the bundle holds; all of them, unless it is a delta."""
        return tuple(file for file in self.files if file.carried)

    @cached_property
    def expected(self) -> tuple[BundledFile, ...]:
        """The files that a delta expects to find in the repository."""
        return tuple(file for file in self.files if not file.carried)

    @cached_property
    def _by_project(self) -> dict[str, tuple[BundledFile, ...]]:
        return {project: tuple(files) for project, files in groupby(self.files, key=lambda file: file.project)}

    @cached_property
    def member_section(self) -> Section:
        return Section("index and documents", 1, tuple(Entry(m.path, m.size, m.sha256) for m in self.members))

    @cached_property
    def project_sections(self) -> Mapping[str, Section]:
        return {
            project: Section(project, files[0].frame, tuple(Entry(file.path, file.size, file.sha256) for file in files))
            for project in self.projects
            if (files := self.carried_of(project))
        }

    @property
    def end_frame(self) -> int:
        """The frame that holds the end-of-archive blocks: the first after all projects."""
        if not self.carried:
            return LEADING_FRAMES
        last = self.project_sections[self.carried[-1].project]
        return last.frame + frames_of(last.size)

    def check(self) -> None:
        """Raise a BundleError unless all parts agree with each other and with the layout of format 1."""
        _check_order([member.path for member in self.members], "members")
        _check_order([target.name for target in self.targets], "targets")
        _check_order(
            [project for project, _ in groupby(self.files, key=lambda file: file.project)], "projects of files"
        )
        _check_unique([MANIFEST, *(m.path for m in self.members), *(file.path for file in self.files)])
        if self.member_section.size > FRAME_LIMIT:
            raise BundleError("The manifest names more members than fit into their frame.")
        if len(self.to_bytes()) > MANIFEST_LIMIT:
            raise BundleError(f"The manifest has more than {MANIFEST_LIMIT} bytes.")
        frame = LEADING_FRAMES
        for section in self.project_sections.values():
            if any(file.frame != frame for file in self.carried_of(section.name)):
                raise BundleError(f"The manifest does not place the files of {section.name} into frame {frame}.")
            frame += frames_of(section.size)
        self._check_since()
        self._check_members()
        self._check_targets()

    def _check_since(self) -> None:
        for file in self.expected:
            if file.frame:
                raise BundleError(f"The manifest places {file.filename} into a frame, but says that it is not carried.")
        if set(self.since) != {file.carrier for file in self.expected}:
            raise BundleError("The manifest contradicts itself about the bundles that it builds on.")
        for identity, name in self.since.items():
            if not _SHA256.match(identity) or not name.isprintable():
                raise BundleError(f"The manifest builds on something that is no bundle: {identity[:80]!r}.")

    def _check_members(self) -> None:
        digests = {member.path: member.sha256 for member in self.members}
        for path in required_members(self.projects, [target.name for target in self.targets]):
            if path not in digests:
                raise BundleError(f"The manifest names no {path}.")
        beside = {path for path in digests if path.startswith("packages/")}
        for file in self.files:
            if not file.version.isprintable():  # it is shown in terminals
                raise BundleError(f"{file.filename} has a version that can't be printed.")
            path = f"{file.path}.metadata"
            if digests.get(path) != (file.metadata_sha256 if file.carried else None):
                raise BundleError(f"The manifest contradicts itself about {path}.")
            beside.discard(path)
        if beside:
            raise BundleError(f"The manifest names {min(beside)}, which belongs to no file.")

    def _check_targets(self) -> None:
        pins = {target.name: target.pins for target in self.targets}
        builds = {target.name: target.build_versions() for target in self.targets}
        installed: set[tuple[str, str]] = set()
        built_with: set[tuple[str, str, str]] = set()
        for file in self.files:
            for name in file.targets:
                if pins.get(name, {}).get(file.project) != file.version:
                    raise BundleError(f"{file.filename} is for {name}, which does not install {file.version}.")
                if (name, file.project) in installed:
                    raise BundleError(f"The manifest has two files of {file.project} for {name}.")
                installed.add((name, file.project))
            for name in file.builds:
                if (file.project, file.version) not in builds.get(name, ()):
                    raise BundleError(f"{file.filename} is for builds on {name}, where none needs {file.version}.")
                built_with.add((name, file.project, file.version))
        releases = {pin for versions in pins.values() for pin in versions.items()}.union(*builds.values())
        for file in self.files:
            if not file.targets and not file.builds and (file.project, file.version) not in releases:
                raise BundleError(f"{file.filename} is of a release that no target of the manifest needs.")
        for name, versions in pins.items():
            for project, version in versions.items():
                if (name, project) not in installed:
                    raise BundleError(f"The manifest has no file of {project} {version} for {name}.")
            for project, version in builds[name]:
                if (name, project, version) not in built_with:
                    raise BundleError(f"The manifest has no file of {project} {version} for builds on {name}.")


def frames_of(size: int) -> int:
    """How many frames *size* bytes of one section take: all but the last hold FRAME_LIMIT bytes."""
    return max(1, -(-size // FRAME_LIMIT))


def required_members(projects: Iterable[str], targets: Iterable[str]) -> list[str]:
    """The members that every bundle of these projects and targets has."""
    paths = ["simple/index.html", "simple/index.json", *sorted(_MEMBER_FILES)]
    paths += [f"simple/{project}/index.{ending}" for project in projects for ending in ("html", "json")]
    paths += [lock_path(target) for target in targets]
    return paths


def lock_path(target: str) -> str:
    """Where the lock of *target* is; PEP 751 wants the name ``pylock.NAME.toml``, without a dot in NAME."""
    return f"locks/pylock.{target.replace('.', '_')}.toml"


def _check_order(names: Sequence[str], what: str) -> None:
    if any(first >= second for first, second in pairwise(names)):
        raise BundleError(f"The manifest's {what} are not sorted or not unique.")


def _check_unique(paths: Iterable[str]) -> None:
    """Two names that a file system may take for one are a duplicate."""
    seen: dict[str, str] = {}
    for path in paths:
        other = seen.setdefault(path.casefold(), path)
        if other is not path:
            raise BundleError(f"The manifest names {path} twice.", hint=f"The other one is {other}.")


_dump = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode


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


def _read_file(fields: _Fields) -> BundledFile:
    file = BundledFile(
        filename=fields.text("filename"),
        project=fields.matching("project", _PROJECT),
        version=fields.text("version"),
        size=fields.integer("size"),
        sha256=fields.matching("sha256", _SHA256),
        index=fields.text("index"),
        requires_python=fields.text_or_none("requires-python"),
        yanked=fields.text_or_none("yanked"),
        upload_time=fields.text_or_none("upload-time"),
        targets=fields.texts("targets"),
        builds=fields.texts("builds"),
        chain=fields.texts("chain"),
        requires=fields.texts("requires"),
        encoding=fields.text("encoding"),
        frame=fields.integer("frame"),
        metadata_sha256=fields.digest_or_none("metadata-sha256"),
        carrier=fields.matching("carrier", _SHA256) if fields.has("carrier") else None,
        origin=tuple(sorted(fields.mapping("origin").items())) if fields.has("origin") else (),
    )
    if not is_safe_filename(file.filename):
        raise fields.error("filename", "is not a plain file name")
    if not file.version:
        raise fields.error("version", "is empty")
    if file.origin and not dict(file.origin).get("kind"):
        raise fields.error("origin", "has no kind")
    if file.encoding != "identity":
        raise BundleError(
            f"{file.filename} is encoded as {file.encoding[:40]!r}, which this airgap can't read.",
            hint="Install the airgap version that wrote the bundle, or a later one.",
        )
    return file


def _read_member(fields: _Fields) -> Member:
    member = Member(path=fields.text("path"), size=fields.integer("size"), sha256=fields.matching("sha256", _SHA256))
    folder, *rest = member.path.split("/")
    known = folder in _MEMBER_FOLDERS if rest else folder in _MEMBER_FILES
    if not known or len(rest) > 2 or not all(map(is_safe_filename, rest)):
        raise fields.error("path", f"has no place in a bundle: {member.path[:200]!r}")
    return member


def _read_target(fields: _Fields) -> BundledTarget:
    target = BundledTarget(
        name=fields.matching("name", _TARGET),
        tags=fields.texts("tags"),
        markers=fields.mapping("markers"),
        pins=fields.mapping("pins"),
        builds=fields.mappings("builds"),
    )
    if not all(map(_PROJECT.match, target.pins)):
        raise fields.error("pins", "names a project that is not normalised")
    if not all(_PROJECT.match(project) for project, _ in target.build_versions()):
        raise fields.error("builds", "name a project that is not normalised")
    return target


class _Fields:
    """One JSON object, read strictly: every field once, of its type, and none that nobody asked for.

    What was read is taken out of *values*, so that a large manifest is not in memory twice.
    """

    def __init__(self, values: dict[str, object], where: str) -> None:
        self._values = values
        self._where = where

    def error(self, key: str, problem: str) -> BundleError:
        return BundleError(f"The manifest's {self._where}{key} {problem}.")

    def has(self, key: str) -> bool:
        return key in self._values

    def text(self, key: str) -> str:
        value = self._take(key)
        if not isinstance(value, str):
            raise self.error(key, "is not a text")
        return self._clean(key, value)

    def text_or_none(self, key: str) -> str | None:
        if key in self._values and self._values[key] is None:
            del self._values[key]
            return None
        return self.text(key)

    def matching(self, key: str, pattern: re.Pattern[str]) -> str:
        value = self.text(key)
        if not pattern.match(value):
            raise self.error(key, f"is malformed: {value[:80]!r}")
        return value

    def digest_or_none(self, key: str) -> str | None:
        value = self.text_or_none(key)
        if value is not None and not _SHA256.match(value):
            raise self.error(key, f"is malformed: {value[:80]!r}")
        return value

    def integer(self, key: str) -> int:
        value = self._take(key)
        if type(value) is not int or not 0 <= value < 2**63:
            raise self.error(key, "is not a count")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._take(key)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error(key, "is not a list of texts")
        return tuple([self._clean(key, item) for item in value])

    def mapping(self, key: str) -> dict[str, str]:
        return self._mapping(key, self._take(key))

    def mappings(self, key: str) -> dict[str, dict[str, str]]:
        value = self._take(key)
        if not isinstance(value, dict):
            raise self.error(key, "is not a mapping")
        return {self._clean(key, name): self._mapping(key, item) for name, item in value.items()}

    def _mapping(self, key: str, value: object) -> dict[str, str]:
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            raise self.error(key, "is not a mapping of texts")
        return {self._clean(key, name): self._clean(key, item) for name, item in value.items()}

    def items(self, key: str, read: Callable[[_Fields], _T]) -> tuple[_T, ...]:
        value = self._take(key)
        if not isinstance(value, list):
            raise self.error(key, "is not a list")
        count = len(value)
        value.reverse()
        return tuple([self._read(read, value.pop(), f"{key}[{position}]") for position in range(count)])

    def done(self) -> None:
        for key in self._values:
            raise self.error(key[:80], "is unknown to format 1")

    def _read(self, read: Callable[[_Fields], _T], item: object, where: str) -> _T:
        if not isinstance(item, dict):
            raise self.error(where, "is not an object")
        fields = _Fields(item, f"{where}.")
        result = read(fields)
        fields.done()
        return result

    def _take(self, key: str) -> object:
        if key not in self._values:
            raise self.error(key, "is missing")
        return self._values.pop(key)

    def _clean(self, key: str, value: str) -> str:
        """A lone surrogate, which JSON can spell and UTF-8 can't, would come back as an encoding error later."""
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise self.error(key, "is not Unicode text")
        return value


def cut(size: int) -> Iterator[int]:
    """Yield how many bytes each frame of a section of *size* bytes holds."""
    while size > FRAME_LIMIT:
        yield FRAME_LIMIT
        size -= FRAME_LIMIT
    yield size
