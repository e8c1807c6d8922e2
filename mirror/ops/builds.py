"""What the user lets be built: metadata that only a build can tell, sdists of source trees, and wheels.

Nothing of a project that was not named runs, other than what its build requires; those come as wheels, or were named
too. A build sees what was resolved and fetched for it, no index and no credential.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import InvalidVersion, Version

from mirror.build.backend import Backend
from mirror.build.environment import create
from mirror.build.source import unpack_sdist
from mirror.errors import MetadataError, ResolutionError
from mirror.fetch import Fetched, Fetcher
from mirror.filenames import split_filename
from mirror.metadata.core import parse
from mirror.metadata.sdist import BuildSystem, build_system, parse_build_system
from mirror.metadata.wheel import wheel_metadata
from mirror.models import (
    Event,
    File,
    FormatControl,
    Hashes,
    Metadata,
    Pin,
    Plan,
    Reporter,
    RequirementSet,
    Stage,
    Target,
    TargetPlan,
)
from mirror.ops.locked import Locked
from mirror.resolver import Resolution
from mirror.resolver.protocols import Index, MetadataSource
from mirror.store import Store
from mirror.targets import Ranks, this_machine

#: Marker values in which a target must equal this machine, for a wheel built here to be right there.
_SAME = ("implementation_name", "platform_machine", "python_version", "sys_platform")


@dataclass(frozen=True, slots=True)
class Building:
    """What may run: the projects whose sdists may be built, and those of which wheels are wanted."""

    allowed: frozenset[NormalizedName] = frozenset()
    wheels: frozenset[NormalizedName] = frozenset()

    @classmethod
    def of(cls, allow: Sequence[str], wheels: Sequence[str]) -> Building:
        """From names in any spelling; who wants a wheel built also lets its metadata be built."""
        wanted = frozenset(map(canonicalize_name, wheels))
        return cls(frozenset(map(canonicalize_name, allow)) | wanted, wanted)


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


@dataclass(frozen=True, slots=True)
class _Ready:
    """A backend in an environment that has all that it asked for."""

    backend: Backend
    requires: tuple[Requirement, ...]
    pins: tuple[Pin, ...]


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
        self.host = this_machine()
        self._index = index
        self._metadata = metadata
        self._fetcher = fetcher
        self._store = store
        self._report = report
        self._lock = threading.RLock()
        self._under_way: list[str] = []
        self._learned: dict[tuple[str, str], Learned | MetadataError] = {}
        self._wheels: dict[str, BuiltWheel] = {}

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
        known = self._learned.get(_key(file))
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
        with self._lock, self._alone(what), tempfile.TemporaryDirectory(prefix="airgap-") as temporary:
            pyproject = tree / "pyproject.toml"
            system = parse_build_system(pyproject.read_bytes(), what) if pyproject.is_file() else BuildSystem()
            ready = self._prepare(Path(temporary), tree, system, what, sdist=True)
            made = Path(temporary) / "made"
            made.mkdir()
            path = ready.backend.sdist(made)
            return path.name, path.read_bytes()

    def _learn(self, file: File) -> Learned:
        with self._lock:
            known = self._learned.get(_key(file))
            if known is None:
                try:
                    known = self._ask_backend(file)
                except MetadataError as error:
                    known = error
                self._learned[_key(file)] = known
        if isinstance(known, MetadataError):
            raise known
        return known

    def _ask_backend(self, file: File) -> Learned:
        self._report(Event("info", Stage.RESOLVE, f"Building the metadata of {file.filename}."))
        with self._opened(self._fetched(file)) as ready:
            metadata = parse(ready.backend.metadata(), filename=file.filename)
        _check(file, metadata.name, metadata.version)
        return Learned(metadata, ready.requires)

    def _build_wheel(self, sdist: Fetched) -> BuiltWheel:
        file = sdist.file
        self._report(Event("info", Stage.RESOLVE, f"Building a wheel of {file.filename}."))
        with self._opened(self._fetched(file)) as ready, tempfile.TemporaryDirectory(prefix="airgap-") as folder:
            path = ready.backend.wheel(Path(folder))
            split = split_filename(path.name)
            if split is None or not split.is_wheel:
                raise MetadataError(f"{file.filename}: its build backend made {path.name[:200]!r}, which is no wheel.")
            _check(file, split.project, split.version)
            with path.open("rb") as stream:
                parse(wheel_metadata(stream, path.name), filename=path.name)
            fetched = _keep(self._store, path, file)
        origin = {
            "kind": "built",
            "from": file.filename,
            "from-sha256": sdist.sha256,
            "python": f"{self.host.environment['implementation_name']} {self.host.python}",
            "with": ", ".join(f"{pin.project} {pin.version}" for pin in ready.pins),
        }
        return BuiltWheel(fetched, origin)

    def _fetched(self, file: File) -> Fetched:
        """*file* in the store; nothing of it is used before the lock's digests were compared with its own."""
        fetched = self._fetcher.start(file).result()
        Locked(self.rules).check(file, fetched.sha256)
        return fetched

    @contextmanager
    def _opened(self, sdist: Fetched) -> Iterator[_Ready]:
        filename = sdist.file.filename
        with self._alone(filename), tempfile.TemporaryDirectory(prefix="airgap-") as temporary:
            folder = Path(temporary)
            source = folder / "source"
            source.mkdir()
            with self._store.open(sdist.sha256) as stream:
                system = build_system(stream, filename)
                stream.seek(0)
                tree = unpack_sdist(stream, filename, source)
            yield self._prepare(folder, tree, system, filename)

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

    def _prepare(self, folder: Path, tree: Path, system: BuildSystem, what: str, *, sdist: bool = False) -> _Ready:
        pins = self._resolve(system.requires, what)
        environment = create(folder / "static", self._installable(pins, folder / "static-wheels"), what=what)
        backend = Backend(tree, system, environment, what=what)
        asked = backend.requires_for_sdist() if sdist else backend.requires_for_wheel()
        requires = tuple(dict.fromkeys([*system.requires, *asked]))
        if requires != system.requires:
            complete = self._resolve(requires, what)
            if complete != pins:
                pins = complete
                wheels = self._installable(pins, folder / "dynamic-wheels")
                environment = create(folder / "dynamic", wheels, what=what)
                backend = Backend(tree, system, environment, what=what)
        return _Ready(backend, requires, pins)

    def _resolve(self, requires: Sequence[Requirement], what: str) -> tuple[Pin, ...]:
        """What an environment on this machine needs for *requires*, under the user's rules."""
        with Resolution(self.rules, self._index, self, workers=0) as resolution:
            try:
                return resolution.environment(self.host, requires, f"building {what}")
            except ResolutionError as error:
                told = str(error).replace("\n", "\n  ")
                raise MetadataError(
                    f"{what}: what building it needs can't be had.\n  {told}", hint=error.hint
                ) from error

    def _installable(self, pins: Sequence[Pin], folder: Path) -> list[Path]:
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
            fetched = self._fetched(file) if file.is_wheel else self.wheel(file).fetched
            found.append(folder / fetched.file.filename)
            _link(self._store.path(fetched.sha256), found[-1])
        return found


def with_wheels(plan: Plan, builds: Builds) -> tuple[Plan, dict[str, Mapping[str, str]]]:
    """Put wheels built here in place of the sdists that ``building.wheels`` names, for targets that match this machine.

    Returns the plan, and how each wheel was built, by file name.
    """
    origins: dict[str, Mapping[str, str]] = {}

    def built(target: Target, pin: Pin) -> Pin:
        if pin.file.is_wheel or pin.project not in builds.building.wheels or not _alike(target, builds.host):
            return pin
        wheel = builds.wheel(pin.file)
        filename = wheel.fetched.file.filename
        portable = filename.endswith("-none-any.whl") or builds.host.tags[0] in target.tags
        if not portable or Ranks(target).wheel(filename) is None:
            return pin
        origins[filename] = wheel.origin
        return replace(pin, file=wheel.fetched.file)

    targets = []
    for each in plan.targets:
        pins = tuple(built(each.target, pin) for pin in each.pins)
        build_pins = [
            replace(build, pins=tuple(built(each.target, pin) for pin in build.pins)) for build in each.builds
        ]
        targets.append(_pruned(replace(each, pins=pins, builds=tuple(build_pins))))
    return replace(plan, targets=tuple(targets)), origins


def accepting(wanted: RequirementSet, plan: Plan, built: Collection[str]) -> RequirementSet:
    """*wanted*, as an installer must be told once the wheels *built* are in the plan: --no-binary spares them."""
    files = plan.files()
    spared = {files[name].project for name in built}
    no_binary = set(wanted.format_control.no_binary)
    if spared and ":all:" in no_binary:
        no_binary |= {file.project for file in files.values()}
        no_binary -= {":all:"}
    control = FormatControl(frozenset(no_binary - spared), wanted.format_control.only_binary)
    return replace(wanted, format_control=control)


def _pruned(plan: TargetPlan) -> TargetPlan:
    """Drop the builds whose sdist nobody builds any more."""
    builds = {(build.project, build.version): build for build in plan.builds}
    needed: set[tuple[NormalizedName, str]] = set()
    waiting = list(plan.pins)
    while waiting:
        pin = waiting.pop()
        key = (pin.project, pin.version)
        if not pin.file.is_wheel and key in builds and key not in needed:
            needed.add(key)
            waiting.extend(builds[key].pins)
    return replace(plan, builds=tuple(build for key, build in builds.items() if key in needed))


def _alike(target: Target, host: Target) -> bool:
    there, here = target.environment, host.environment
    return all(there.get(name) == here.get(name) for name in _SAME)


def _key(file: File) -> tuple[str, str]:
    strongest = file.hashes.strongest
    return file.filename, "=".join(strongest) if strongest else file.url


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


def _keep(store: Store, path: Path, sdist: File) -> Fetched:
    """Put the wheel at *path* into the store."""
    with store.receive(f"built {path.name} {path}") as receiver, path.open("rb") as stream:
        while chunk := stream.read(1024 * 1024):
            receiver.write(chunk)
        blob = receiver.commit()
    file = File(
        filename=path.name,
        url=store.path(blob.sha256).as_uri(),
        project=sdist.project,
        version=sdist.version,
        hashes=Hashes.of({"sha256": blob.sha256}),
        size=blob.size,
        requires_python=sdist.requires_python,
    )
    return Fetched(file, blob.sha256, blob.size)
