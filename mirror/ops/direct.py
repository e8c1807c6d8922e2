"""What is not on an index: direct references, and the user's own packages (--include), offered to the resolver.

A line ``name @ URL`` becomes ``name==VERSION`` of the one file that the URL leads to; the index that the resolver sees
has that file, and no other of the same version.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import parse_qsl, urldefrag, urlsplit
from urllib.request import url2pathname

from packaging.requirements import Requirement
from packaging.utils import NormalizedName
from packaging.version import InvalidVersion, Version

from mirror.errors import HashMismatchError, MetadataError, UsageError
from mirror.fetch import Fetcher
from mirror.filenames import split_filename
from mirror.metadata.core import parse
from mirror.models import DIGEST_LENGTHS, WEAK_DIGESTS, File, Hashes, RequirementLine, RequirementSet
from mirror.resolver.pages import FilePage
from mirror.resolver.protocols import Index, ProjectPage
from mirror.store import Store
from mirror.urls import basename, redact, without_credentials

_BLOCK = 1024 * 1024
#: Makes an sdist of a source tree whose metadata only its backend can tell: its file name and its bytes.
SdistMaker = Callable[[Path, NormalizedName, str], tuple[str, bytes]]


class _Others:
    """A page without the releases that were given."""

    def __init__(self, page: ProjectPage, project: NormalizedName, given: frozenset[Version]) -> None:
        self._page = page
        self.index = page.index
        self.status = page.status
        self._positions = [
            position for position, name in enumerate(page.filenames) if _version_of(name, project) not in given
        ]

    @property
    def filenames(self) -> Sequence[str]:
        names = self._page.filenames
        return [names[position] for position in self._positions]

    def file(self, position: int) -> File:
        return self._page.file(self._positions[position])


class Overlay:
    """An index in front of another one: what was given comes first, and stands alone for its version."""

    def __init__(self, behind: Index) -> None:
        self._behind = behind
        self._given: dict[NormalizedName, dict[str, File]] = {}
        self._alone: set[NormalizedName] = set()

    def offer(self, file: File, *, alone: bool) -> None:
        """Add *file*. *alone*: no other index is asked about its project, which may be nobody else's business."""
        self._given.setdefault(file.project, {})[file.filename] = file
        if alone:
            self._alone.add(file.project)

    def pages(self, project: NormalizedName) -> Sequence[ProjectPage]:
        """The given files of *project*, then what the index has."""
        given = tuple(self._given.get(project, {}).values())
        if not given:
            return self._behind.pages(project)
        if project in self._alone:
            return (FilePage(given),)
        versions = frozenset(Version(file.version) for file in given)
        return (FilePage(given), *(_Others(page, project, versions) for page in self._behind.pages(project)))


@dataclass(frozen=True, slots=True)
class Given:
    """Requirements without direct references, and where each given file came from, by file name."""

    wanted: RequirementSet
    origins: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


class Direct:
    """Turns direct references and included paths into files of *overlay*.

    *sdist* makes an sdist of a source tree by running its backend, for the projects in *allowed*; where a tree's
    pyproject.toml tells everything, an sdist is made without running anything.
    """

    def __init__(
        self,
        overlay: Overlay,
        fetcher: Fetcher,
        store: Store,
        *,
        sdist: SdistMaker,
        allowed: frozenset[NormalizedName],
    ) -> None:
        self._overlay = overlay
        self._fetcher = fetcher
        self._store = store
        self._sdist = sdist
        self._allowed = allowed
        self._origins: dict[str, Mapping[str, str]] = {}

    def take(self, wanted: RequirementSet, include: Sequence[Path] = ()) -> Given:
        """Resolve every direct reference of *wanted*, and add *include* to its requirements.

        Raises a UsageError for what can't be used, a HashMismatchError for bytes that are not the promised ones, a
        NetworkError for what can't be reached.
        """
        own = [line for path in include for line in self._include(path, wanted)]
        _check_once(own)
        direct = {line.project for line in wanted.requirements if line.requirement.url}
        conditional = {line.project for line in wanted.requirements if not line.requirement.url}
        conditional |= {line.project for line in wanted.requirements if line.requirement.marker}
        alone = frozenset(direct - conditional)
        return Given(
            replace(
                wanted,
                requirements=(*(self._line(line, wanted, alone) for line in wanted.requirements), *own),
                constraints=tuple(self._line(line, wanted, frozenset()) for line in wanted.constraints),
            ),
            self._origins,
        )

    def _line(self, line: RequirementLine, wanted: RequirementSet, alone: frozenset[NormalizedName]) -> RequirementLine:
        url = line.requirement.url
        if not url:
            return line
        scheme = urlsplit(url).scheme.lower()
        if scheme.startswith("git+"):
            file, origin = self._git(line, url)
        elif scheme in ("http", "https"):
            file, origin = self._remote(line, url)
        elif scheme == "file":
            file, origin = self._local(line, url)
        else:
            raise UsageError(
                f"{line.origin}: {line.requirement.name} @ {redact(url)} has a scheme that is not supported.",
                hint="https, file, git+https, git+ssh and git+file are.",
            )
        if file.project != line.project:
            raise UsageError(f"{line.origin}: {redact(url)} is {file.project}, and not {line.requirement.name}.")
        self._overlay.offer(file, alone=file.project in alone)
        self._origins[file.filename] = origin
        pinned = Requirement(str(line.requirement).partition("@")[0].strip() + f"=={file.version}")
        pinned.marker = line.requirement.marker
        hashes = line.hashes
        if wanted.require_hashes and not hashes:
            hashes = tuple(f"{algorithm}:{digest}" for algorithm, digest in file.hashes)
        return RequirementLine(pinned, line.origin, hashes)

    def _remote(self, line: RequirementLine, url: str) -> tuple[File, Mapping[str, str]]:
        place, fragment = urldefrag(url)
        shown = redact(place)
        hashes = _hashes(fragment, line)
        file = _file(basename(place), without_credentials(place), hashes, f"{line.origin}: {shown}")
        if not hashes and not line.hashes:
            found = self._fetcher.start(file).result()
            raise UsageError(
                f"{line.origin}: {shown} has no digest, so nothing says that it is the right file.",
                hint=f"If the one that is there now is right, write #sha256={found.sha256} behind the URL.",
            )
        return file, {"kind": "url", "url": redact(without_credentials(place))}

    def _local(self, line: RequirementLine, url: str) -> tuple[File, Mapping[str, str]]:
        place, fragment = urldefrag(url)
        path = Path(url2pathname(urlsplit(place).path))
        if path.is_dir():
            subdirectory = dict(parse_qsl(fragment)).get("subdirectory", "")
            made = self._tree(path / subdirectory, line.project, f"{line.origin}: {line.requirement.name}")
            return made, {"kind": "folder"}
        file = self._own(path, line.origin)
        promised = _hashes(fragment, line)
        if promised and promised.agrees(file.hashes) is False:
            raise HashMismatchError(
                f"{line.origin}: {path.name} has the sha256 {file.hashes.sha256}, not the given one."
            )
        return file, {"kind": "file"}

    def _git(self, line: RequirementLine, url: str) -> tuple[File, Mapping[str, str]]:
        from mirror.build.git import checkout, parse_reference

        reference = parse_reference(url, where=line.origin)
        with tempfile.TemporaryDirectory(prefix="airgap-") as temporary:
            tree = checkout(reference, Path(temporary))
            file = self._tree(tree, line.project, f"{line.origin}: {line.requirement.name}")
        origin = {"kind": "git", "url": redact(without_credentials(reference.url)), "commit": reference.commit}
        if reference.subdirectory:
            origin["subdirectory"] = reference.subdirectory
        return file, origin

    def _tree(self, tree: Path, project: NormalizedName, what: str) -> File:
        """An sdist of a source tree: packed as it is where that suffices, else by its backend if the user lets it."""
        from mirror.build.source import make_sdist, static_metadata

        raw = static_metadata(tree, what)
        if raw is not None:
            metadata = parse(raw, filename=what)
            stem = f"{metadata.name.replace('-', '_')}-{metadata.version}"
            filename, data = f"{stem}.tar.gz", make_sdist(tree, raw, stem)
        elif project in self._allowed:
            filename, data = self._sdist(tree, project, what)
        else:
            raise MetadataError(
                f"{what}: what it requires, or its version, is known only once it is built, which would run its code.",
                hint=f"If you trust it, --allow-build {project} lets it be built here, in isolation.",
            )
        sha256 = self._store.add(data)
        return _file(filename, self._store.path(sha256).as_uri(), Hashes.of({"sha256": sha256}), what)

    def _include(self, path: Path, wanted: RequirementSet) -> list[RequirementLine]:
        """A line for each project whose wheels and sdists *path* is, or has in it."""
        paths = _entries(path)
        if not paths:
            raise UsageError(
                f"--include {path}: there is no wheel and no sdist in it.", hint="python -m build fills dist/."
            )
        files = [self._own(entry, "--include") for entry in paths]
        for file in files:
            self._overlay.offer(file, alone=True)
            self._origins[file.filename] = {"kind": "file"}
        hashes: dict[tuple[NormalizedName, str], list[str]] = {}
        for file in files:
            known = hashes.setdefault((file.project, file.version), [])
            if wanted.require_hashes:
                known += [f"{algorithm}:{digest}" for algorithm, digest in file.hashes]
        return [
            RequirementLine(Requirement(f"{project}=={version}"), "--include", tuple(allowed))
            for (project, version), allowed in hashes.items()
        ]

    @staticmethod
    def _own(path: Path, where: str) -> File:
        """A file of the user's own; its digest is the one that it has now."""
        digest = hashlib.sha256()
        try:
            with path.open("rb") as stream:
                while block := stream.read(_BLOCK):
                    digest.update(block)
        except OSError as error:
            raise UsageError(f"{where}: {path} can't be read: {error.strerror or error}.") from error
        hashes = Hashes.of({"sha256": digest.hexdigest()})
        return _file(path.name, path.absolute().as_uri(), hashes, f"{where}: {path.name}")


def projects_in(include: Iterable[Path]) -> set[NormalizedName]:
    """The projects of the wheels and sdists that *include* names, by their file names."""
    splits = (split_filename(entry.name) for path in include for entry in _entries(path))
    return {split.project for split in splits if split is not None}


def _entries(path: Path) -> list[Path]:
    """The wheels and sdists in a folder; what is no folder is an entry itself."""
    if not path.is_dir():
        return [path]
    return sorted(entry for entry in path.iterdir() if entry.is_file() and split_filename(entry.name))


def _file(filename: str, url: str, hashes: Hashes, shown: str) -> File:
    split = split_filename(filename)
    if split is None:
        raise UsageError(f"{shown} is neither a wheel nor an sdist by its name.")
    try:
        version = str(Version(split.version.replace("_", "-")))
    except InvalidVersion as error:
        raise UsageError(f"{shown}: {split.version!r} is not a version (PEP 440).") from error
    return File(filename, url, split.project, version, hashes)


def _hashes(fragment: str, line: RequirementLine) -> Hashes:
    """Digests that the URL's fragment or the line's --hash options promise; weak ones promise nothing."""
    named = {name: digest for name, digest in parse_qsl(fragment) if name in DIGEST_LENGTHS}
    if len(line.hashes) == 1:  # one of several is right, and the lock's check finds out which
        algorithm, _, digest = line.hashes[0].partition(":")
        named.setdefault(algorithm, digest)
    return Hashes.of({name: digest for name, digest in named.items() if name not in WEAK_DIGESTS})


def _version_of(filename: str, project: NormalizedName) -> Version | None:
    split = split_filename(filename, project)
    try:
        return Version(split.version.replace("_", "-")) if split is not None else None
    except InvalidVersion:
        return None


def _check_once(lines: Iterable[RequirementLine]) -> None:
    seen: dict[NormalizedName, Requirement] = {}
    for line in lines:
        other = seen.setdefault(line.project, line.requirement)
        if str(other) != str(line.requirement):
            raise UsageError(
                f"--include has two versions of {line.project}: {other} and {line.requirement}.",
                hint="Include only one of them: a dist folder may hold earlier builds.",
            )
