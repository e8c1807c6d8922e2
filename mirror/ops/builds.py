"""What the user lets be built: metadata that only a build can tell, sdists of source trees, and wheels.

Nothing of a project that was not named runs, other than what its build requires; those come as wheels, or were named
too. A build sees what was resolved and fetched for it, no index and no credential.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import NormalizedName
from packaging.version import InvalidVersion, Version

from mirror.errors import MetadataError, ResolutionError
from mirror.fetch import Fetched, Fetcher
from mirror.filenames import split_filename
from mirror.metadata.core import parse
from mirror.metadata.sdist import BuildSystem, build_system, parse_build_system
from mirror.metadata.wheel import wheel_metadata
from mirror.models import (
    Event,
    File,
    Hashes,
    Metadata,
    Pin,
    Reporter,
    RequirementSet,
    Stage,
    Target,
)
from mirror.ops.building import Building
from mirror.ops.locked import Locked
from mirror.ops.work import Work
from mirror.resolver import Resolution
from mirror.resolver.protocols import Index, MetadataSource
from mirror.store import Store
from mirror.targets import this_machine

_BLOCK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Learned:
    """What a build told about an sdist: its metadata, and everything that building it needs."""

    metadata: Metadata
    requires: tuple[Requirement, ...]


@dataclass(frozen=True, slots=True)
class BuiltWheel:
    """A wheel that was built here, in the store, and with what."""

    fetched: Fetched
    origin: Mapping[str, str]


class Builds:
    """A source of metadata that may build what *building* names; one build at a time, and each only once.

    *metadata* reads everything that needs no build. ``rules`` are the user's lines: a build environment is resolved
    under the same constraints and hashes as everything else.
    """

    def __init__(
        self,
        index: Index,
        metadata: MetadataSource,
        fetcher: Fetcher,
        store: Store,
        building: Building,
        rules: RequirementSet,
        report: Reporter,
    ) -> None:
        self.building = building
        self.rules = rules
        #: Projects that were built, or of which a note tells how that went.
        self.used: set[NormalizedName] = set()
        self._index = index
        self._metadata = metadata
        self._fetcher = fetcher
        self._store = store
        self._report = report
        self._lock = threading.RLock()
        self._under_way: list[str] = []
        self._learned: dict[tuple[str, str], Learned | MetadataError] = {}
        self._wheels: dict[str, BuiltWheel] = {}

    @cached_property
    def host(self) -> Target:
        """The machine that everything is built on."""
        return this_machine()

    def read(self, file: File) -> Metadata:
        """Metadata of *file*, built where nothing else tells and the user lets it."""
        if file.is_wheel or file.project not in self.building.allowed:
            return self._metadata.read(file)
        try:
            return self._metadata.read(file)
        except MetadataError:
            return self._learn(file).metadata

    def build_requires(self, file: File) -> tuple[Requirement, ...]:
        """What building *file* needs; of a project that may be built, also what its backend asks for on top."""
        if file.project not in self.building.allowed:
            return self._metadata.build_requires(file)
        return self._learn(file).requires

    def learned(self, file: File) -> Learned | None:
        """What a build told about *file*, if one did."""
        known = self._learned.get(file.key)
        return known if isinstance(known, Learned) else None

    def wheel(self, file: File) -> BuiltWheel:
        """Build the sdist *file* into a wheel for this machine and keep it in the store."""
        with self._lock:
            sdist = self._fetcher.start(file).result()
            known = self._wheels.get(sdist.sha256)
            if known is None:
                known = self._wheels[sdist.sha256] = self._build_wheel(sdist)
            return known

    def sdist(self, tree: Path, project: NormalizedName, what: str) -> tuple[str, bytes]:
        """Have the backend of the source *tree* make an sdist: its file name and its bytes."""
        self.used.add(project)
        with self._lock, self._alone(what), tempfile.TemporaryDirectory(prefix="airgap-") as temporary:
            pyproject = tree / "pyproject.toml"
            system = parse_build_system(pyproject.read_bytes(), what) if pyproject.is_file() else BuildSystem()
            work = Work(self, system, Path(temporary), what, tree=lambda: tree)
            work.settle(lambda backend: backend.requires_for_sdist())
            made = Path(temporary) / "made"
            made.mkdir()
            path = work.backend().sdist(made)
            return path.name, path.read_bytes()

    def _learn(self, file: File) -> Learned:
        with self._lock:
            known = self._learned.get(file.key)
            if known is None:
                try:
                    known = self._ask_backend(file)
                except MetadataError as error:
                    known = error
                self._learned[file.key] = known
        if isinstance(known, MetadataError):
            raise known
        return known

    def _ask_backend(self, file: File) -> Learned:
        with self._opened(self.fetched(file)) as work:
            raw = work.noted("metadata", lambda: work.backend().metadata())
        metadata = parse(raw, filename=file.filename)
        _check(file, metadata.name, metadata.version)
        return Learned(metadata, work.requires)

    def _build_wheel(self, sdist: Fetched) -> BuiltWheel:
        file = sdist.file
        with self._opened(self.fetched(file)) as work:

            def build() -> bytes:
                with tempfile.TemporaryDirectory(prefix="airgap-") as folder:
                    path = work.backend().wheel(Path(folder))
                    return f"{_keep(self._store, path, file)} {path.name}".encode()

            noted = work.noted("wheel", build, sound=lambda value: self._store.has(value.decode()[:64]))
        sha256, _, filename = noted.decode().partition(" ")
        built = File(
            filename=filename,
            url=self._store.path(sha256).as_uri(),
            project=file.project,
            version=file.version,
            hashes=Hashes.of({"sha256": sha256}),
            size=self._store.size(sha256),
            requires_python=file.requires_python,
        )
        origin = {
            "kind": "built",
            "from": file.filename,
            "from-sha256": sdist.sha256,
            "python": f"{self.host.environment['implementation_name']} {self.host.python}",
            "with": ", ".join(f"{pin.project} {pin.version}" for pin in work.pins),
        }
        return BuiltWheel(Fetched(built, sha256, self._store.size(sha256)), origin)

    def fetched(self, file: File) -> Fetched:
        """*file* in the store; nothing of it is used before the lock's digests were compared with its own."""
        fetched = self._fetcher.start(file).result()
        Locked(self.rules, self._store).check(file, fetched.sha256)
        return fetched

    @contextmanager
    def _opened(self, sdist: Fetched) -> Iterator[Work]:
        """The sdist with all that its backend asks for."""
        self.used.add(sdist.file.project)
        filename = sdist.file.filename
        with self._alone(filename), tempfile.TemporaryDirectory(prefix="airgap-") as temporary:
            folder = Path(temporary)

            def tree() -> Path:
                source = folder / "source"
                source.mkdir()
                self._report(Event("info", Stage.RESOLVE, f"Running the build backend of {filename}."))
                from mirror.build.source import unpack_sdist

                with self._store.open(sdist.sha256) as stream:
                    return unpack_sdist(stream, filename, source)

            with self._store.open(sdist.sha256) as stream:
                system = build_system(stream, filename)
            work = Work(self, system, folder, filename, tree=tree, notes=(self._store, sdist.sha256))
            work.settle(lambda backend: backend.requires_for_wheel())
            yield work

    @contextmanager
    def _alone(self, what: str) -> Iterator[None]:
        """A build that needs itself, through whatever its requirements need, would never end."""
        if what in self._under_way:
            way = " needs ".join([*self._under_way[self._under_way.index(what) :], what])
            raise MetadataError(f"Building goes round in a circle: {way}.", hint="One of them must come as a wheel.")
        self._under_way.append(what)
        try:
            yield
        finally:
            self._under_way.pop()

    def resolve(self, requires: Sequence[Requirement], what: str) -> tuple[Pin, ...]:
        """What an environment on this machine needs for *requires*, under the user's rules."""
        with Resolution(self.rules, self._index, self, workers=0) as resolution:
            try:
                return resolution.environment(self.host, requires, f"building {what}")
            except ResolutionError as error:
                told = str(error).replace("\n", "\n  ")
                raise MetadataError(
                    f"{what}: what building it needs can't be had.\n  {told}", hint=error.hint
                ) from error

    def installable(self, pins: Sequence[Pin], folder: Path) -> list[Path]:
        """The wheels of *pins*, fetched, checked, or built where the user lets them, in *folder* under their names."""
        folder.mkdir()
        found: list[Path] = []
        for pin in pins:
            file = pin.file
            if not file.is_wheel and file.project not in self.building.allowed:
                way = "\n".join(f"  {step}" for step in pin.chain)
                raise MetadataError(
                    f"{file.filename} is needed to build here, but there is no wheel of it for this machine.\n{way}",
                    hint=f"If you trust it, --allow-build {file.project} lets it be built too.",
                )
            fetched = self.fetched(file) if file.is_wheel else self.wheel(file).fetched
            found.append(folder / fetched.file.filename)
            _link(self._store.path(fetched.sha256), found[-1])
        return found


def _check(file: File, project: str, version: str) -> None:
    try:
        same = project == file.project and Version(version) == Version(file.version)
    except InvalidVersion:
        same = False
    if not same:
        raise MetadataError(
            f"{file.filename} became {project} {version} when it was built.",
            hint=f"Report it to the maintainers of {file.project}, and pin another version.",
        )


def _link(blob: Path, path: Path) -> None:
    """Give a blob a second name; a copy where the file system has no links, or the store is on another one."""
    try:
        os.link(blob, path)
    except OSError:
        shutil.copyfile(blob, path)


def _keep(store: Store, path: Path, sdist: File) -> str:
    """Put the wheel at *path* into the store, and return its SHA-256; a MetadataError unless it is one of *sdist*."""
    split = split_filename(path.name)
    if split is None or not split.is_wheel:
        raise MetadataError(f"{sdist.filename}: its build backend made {path.name[:200]!r}, which is no wheel.")
    _check(sdist, split.project, split.version)
    with path.open("rb") as stream:
        parse(wheel_metadata(stream, path.name), filename=path.name)
    with store.receive(f"built {path.name} {path}") as receiver, path.open("rb") as stream:
        while chunk := stream.read(_BLOCK):
            receiver.write(chunk)
        return receiver.commit().sha256
