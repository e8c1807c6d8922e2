"""Frozen values that cross the seams between modules. No I/O, no behaviour beyond what follows from the value."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from mirror.errors import IntegrityError

#: Length in hexadecimal digits of the digests that an index may show, strongest first.
DIGEST_LENGTHS: Mapping[str, int] = {
    "sha512": 128,
    "sha384": 96,
    "blake2b": 128,
    "sha256": 64,
    "sha224": 56,
    "sha1": 40,
    "md5": 32,
}
#: What PEP 503 and PEP 691 pages may name but nothing may be trusted for on its own.
WEAK_DIGESTS = frozenset({"sha1", "md5"})

_HEX = re.compile(r"[0-9a-f]+\Z")
# Characters that some file system or shell gives a meaning of its own, and every control character.
_UNSAFE_FILENAME = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]|^\.|[. ]\Z')


@dataclass(frozen=True, slots=True)
class Hashes:
    """Digests of one file, ``((algorithm, lower-case hex), …)`` sorted by algorithm."""

    values: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, digests: Mapping[str, str]) -> Hashes:
        """Build from ``{algorithm: hex}``; unknown algorithms are dropped, a malformed digest is an IntegrityError."""
        kept: list[tuple[str, str]] = []
        for algorithm, digest in digests.items():
            length = DIGEST_LENGTHS.get(algorithm)
            if length is None:
                continue
            algorithm = sys.intern(algorithm)
            digest = digest.lower()
            if len(digest) != length or not _HEX.match(digest):
                raise IntegrityError(f"{digest[:140]!r} is not a {algorithm} digest.")
            kept.append((algorithm, digest))
        return cls(tuple(sorted(kept)))

    def __bool__(self) -> bool:
        return bool(self.values)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.values)

    def get(self, algorithm: str) -> str | None:
        """The digest for *algorithm*, or None."""
        for name, digest in self.values:
            if name == algorithm:
                return digest
        return None

    @property
    def sha256(self) -> str | None:
        return self.get("sha256")

    @property
    def strongest(self) -> tuple[str, str] | None:
        """The strongest ``(algorithm, digest)`` here, or None."""
        for algorithm in DIGEST_LENGTHS:
            digest = self.get(algorithm)
            if digest is not None:
                return algorithm, digest
        return None

    def agrees(self, other: Hashes) -> bool | None:
        """True or False by every algorithm that both name; None where they share none."""
        mine = dict(self.values)
        shared = [(digest, mine[name]) for name, digest in other.values if name in mine]
        return all(theirs == ours for theirs, ours in shared) if shared else None


def is_safe_filename(filename: str) -> bool:
    """Whether *filename* is one plain path segment on Linux, macOS and Windows."""
    return bool(filename) and len(filename) <= 255 and not _UNSAFE_FILENAME.search(filename)


@dataclass(frozen=True, slots=True)
class File:
    """One distribution file as an index offers it (PEP 503, 592, 658, 691, 700).

    ``url`` and ``index`` never carry credentials. ``yanked`` is None where the file is not yanked, else the reason,
    which may be empty. ``metadata`` is None where the index offers no PEP 658 file; empty Hashes where it offers one
    without a digest. ``size`` is in bytes.
    """

    filename: str
    url: str
    project: NormalizedName
    version: str
    hashes: Hashes = Hashes()
    index: str = ""
    size: int | None = None
    requires_python: str | None = None
    yanked: str | None = None
    upload_time: str | None = None
    metadata: Hashes | None = None

    def __post_init__(self) -> None:
        if not is_safe_filename(self.filename):
            raise IntegrityError(f"{self.filename!r} is not a usable file name.")

    @property
    def is_wheel(self) -> bool:
        return self.filename.endswith(".whl")

    @property
    def key(self) -> tuple[str, str]:
        """What tells one file from another: the same name may come from two indexes with different bytes."""
        strongest = self.hashes.strongest
        return self.filename, strongest[1] if strongest else self.url


@dataclass(frozen=True, slots=True)
class Target:
    """A machine that will install: wheel tags, best first (``cp312-cp312-win_amd64``), and marker values (PEP 508)."""

    name: str
    tags: tuple[str, ...]
    markers: tuple[tuple[str, str], ...]

    @property
    def environment(self) -> dict[str, str]:
        """The marker environment, without ``extra``."""
        return dict(self.markers)

    @property
    def python(self) -> str:
        """``python_full_version``: what Requires-Python is compared with."""
        return self.environment["python_full_version"]


@dataclass(frozen=True, slots=True)
class RequirementLine:
    """One requirement or constraint as a user wrote it. ``hashes`` are pip's ``--hash`` options, ``algorithm:hex``."""

    requirement: Requirement
    origin: str
    hashes: tuple[str, ...] = ()

    @property
    def project(self) -> NormalizedName:
        return canonicalize_name(self.requirement.name)


@dataclass(frozen=True, slots=True)
class FormatControl:
    """pip's ``--no-binary`` and ``--only-binary``: normalised names, or ``:all:``."""

    no_binary: frozenset[str] = frozenset()
    only_binary: frozenset[str] = frozenset()

    def allows(self, project: str, *, wheel: bool) -> bool:
        """Whether a wheel (or, with ``wheel=False``, an sdist) of *project* may be chosen; a name beats ``:all:``."""
        refusing, allowing = (self.no_binary, self.only_binary) if wheel else (self.only_binary, self.no_binary)
        if project in refusing:
            return False
        return project in allowing or ":all:" not in refusing

    def after(self, option: str, argument: str) -> FormatControl:
        """Return this after one more *option*, ``no-binary`` or ``only-binary``: it takes its names from the other."""
        mine, other = set(self.no_binary), set(self.only_binary)
        if option == "only-binary":
            mine, other = other, mine
        names = argument.split(",")
        while ":all:" in names:
            other.clear()
            mine = {":all:"}
            del names[: names.index(":all:") + 1]
            if ":none:" not in names:  # whatever else is named, :all: covers it
                names.clear()
        for name in names:
            if name == ":none:":
                mine.clear()
            elif name.strip():
                other.discard(canonicalize_name(name.strip()))
                mine.add(canonicalize_name(name.strip()))
        if option == "only-binary":
            mine, other = other, mine
        return FormatControl(frozenset(mine), frozenset(other))


@dataclass(frozen=True, slots=True)
class Selection:
    """What the command line says about which files may be chosen, and which go along besides.

    Files uploaded at ``before`` (with a time zone) or later don't exist; ``missing_time`` says what becomes of those
    whose index does not tell (PEP 700): an error, or they are skipped or allowed. ``pre`` are the projects whose
    pre-releases are welcome. ``all_wheels`` adds every wheel of the chosen versions that any target takes,
    ``with_sdists`` their sdists.
    """

    before: datetime | None = None
    missing_time: Literal["error", "skip", "allow"] = "error"
    pre: frozenset[NormalizedName] = frozenset()
    all_wheels: bool = False
    with_sdists: bool = False


@dataclass(frozen=True, slots=True)
class RequirementSet:
    """Everything that the given requirements files say, in pip's terms, and what the command line adds to it.

    ``sources`` holds ``(name, text)`` of every file read, in reading order, for the bundle's ``requirements/`` folder.
    ``index_url`` and the other index options are None or empty where no file set them.
    """

    requirements: tuple[RequirementLine, ...]
    constraints: tuple[RequirementLine, ...] = ()
    index_url: str | None = None
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    no_index: bool = False
    trusted_hosts: tuple[str, ...] = ()
    pre: bool = False
    prefer_binary: bool = False
    require_hashes: bool = False
    format_control: FormatControl = FormatControl()
    sources: tuple[tuple[str, str], ...] = ()
    selection: Selection = Selection()


@dataclass(frozen=True, slots=True)
class Metadata:
    """The part of core metadata that a resolver and an index need; ``text`` returns the rest, wherever it is kept."""

    name: NormalizedName
    version: str
    requires_dist: tuple[Requirement, ...] = ()
    requires_python: str | None = None
    provides_extra: frozenset[NormalizedName] = frozenset()
    text: Callable[[], bytes] = field(default=bytes, repr=False, compare=False)

    @property
    def raw(self) -> bytes:
        """The METADATA or PKG-INFO as it was."""
        return self.text()


@dataclass(frozen=True, slots=True)
class Pin:
    """One project as one target installs it.

    ``requires`` are the projects that it needs on that target. ``chain`` leads from the user's line to it, one
    sentence a step.
    """

    project: NormalizedName
    version: str
    file: File
    extras: tuple[NormalizedName, ...] = ()
    requires: tuple[NormalizedName, ...] = ()
    chain: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Build:
    """What building an sdist on a target needs: its ``build-system.requires`` and their closure, sorted by project."""

    project: NormalizedName
    version: str
    requires: tuple[Requirement, ...]
    pins: tuple[Pin, ...]


@dataclass(frozen=True, slots=True)
class TargetPlan:
    """What one target installs, sorted by project, and one build for each sdist among it or among the builds' pins."""

    target: Target
    pins: tuple[Pin, ...]
    builds: tuple[Build, ...] = ()

    def every_pin(self) -> Iterator[Pin]:
        """The pins, then those of the builds; a file may come more than once."""
        yield from self.pins
        for build in self.builds:
            yield from build.pins


@dataclass(frozen=True, slots=True)
class ProjectStatus:
    """What an index says about a project as a whole (PEP 792): archived, deprecated, quarantined, and why."""

    project: NormalizedName
    status: str
    reason: str
    index: str

    def __str__(self) -> str:
        return f"{self.project} is {self.status} on {self.index}{f': {self.reason}' if self.reason else ''}"


@dataclass(frozen=True, slots=True)
class Difference:
    """A project that could not have one version everywhere: the version by target, and why, one sentence each."""

    project: NormalizedName
    versions: Mapping[str, str]
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What all targets install.

    ``extras`` are files that no target installs: further wheels and the sdists of releases that some target does.
    ``statuses`` has the projects that are not simply active.
    """

    targets: tuple[TargetPlan, ...]
    extras: tuple[File, ...] = ()
    differences: tuple[Difference, ...] = ()
    statuses: tuple[ProjectStatus, ...] = ()

    def files(self) -> dict[str, File]:
        """Every file by its name, sorted; the same name with different digests is an IntegrityError."""
        found: dict[str, File] = {}
        pinned = (pin.file for target in self.targets for pin in target.every_pin())
        for file in (*pinned, *self.extras):
            known = found.setdefault(file.filename, file)
            if known.hashes.agrees(file.hashes) is False:
                raise IntegrityError(
                    f"{file.filename} has different digests on {known.index} and {file.index}.",
                    hint="Pin the project to one index.",
                )
        return dict(sorted(found.items()))


@dataclass(frozen=True, slots=True)
class Written:
    """A bundle on the disk: the digest of its manifest, the digest of the whole file, its size in bytes."""

    path: Path
    identity: str
    sha256: str
    size: int


class Stage(Enum):
    """What a long command is doing, as progress bars and log lines name it."""

    RESOLVE = "Resolving"
    DOWNLOAD = "Downloading"
    PROVE = "Proving"
    WRITE = "Writing"
    READ = "Reading"
    VERIFY = "Verifying"
    LOOK = "Looking at the repository"
    UPLOAD = "Uploading"
    READ_BACK = "Reading back"


@dataclass(frozen=True, slots=True)
class Event:
    """One step of progress.

    ``begin`` opens a stage and may know totals (0 means unknown; a later ``begin`` of the same stage corrects them),
    ``advance`` adds items and bytes, ``end`` closes it. ``info`` and ``warning`` are for people and carry only text.
    ``note`` sums up a part of the stage, for logs: text, and the bytes of that part.
    """

    kind: Literal["begin", "advance", "end", "info", "note", "warning"]
    stage: Stage
    text: str = ""
    items: int = 0
    bytes: int = 0


#: Receives events from any thread; must be quick and must not raise.
Reporter = Callable[[Event], None]


def silent(_: Event) -> None:
    """A reporter that drops everything."""
