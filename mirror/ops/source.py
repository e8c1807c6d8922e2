"""What is pushed: a bundle in a file or in a pipe, or wheels and sdists as they lie in folders."""

from __future__ import annotations

import filecmp
import hashlib
import os
import re
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from mirror.errors import HashMismatchError, MetadataError, StorageError, UsageError
from mirror.filenames import SDIST_ENDINGS, normalised, split_filename
from mirror.models import Reporter, silent

if TYPE_CHECKING:
    from packaging.utils import NormalizedName

    from mirror.bundle.archive import Archive
    from mirror.bundle.reader import BundleReader
    from mirror.push.publisher import Source

_CHUNK = 2**20
_DISTRIBUTIONS = (".whl", *SDIST_ENDINGS)
# What names of projects, versions and tags are made of. "foo-1.0-py3-none-any (1).whl" was foo's once.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]*\Z")


@contextmanager
def opened(paths: Sequence[Path], report: Reporter = silent, *, stdin: BinaryIO | None = None) -> Iterator[Source]:
    """Open what the command line names: one bundle, ``-`` for a bundle on *stdin*, or distribution files and folders.

    A bundle's digest is computed from here on, in the background. Raises a UsageError for anything else, a BundleError
    where a bundle can't be read.
    """
    if stdin is not None and [str(path) for path in paths] == ["-"]:
        with _piped(stdin) as path, _bundle(path, report) as bundle:
            yield bundle
    elif len(paths) == 1 and not paths[0].is_dir() and not paths[0].name.endswith(_DISTRIBUTIONS):
        with _bundle(paths[0], report) as bundle:
            yield bundle
    else:
        yield DistributionFiles(distribution_files(paths))


@contextmanager
def _bundle(path: Path, report: Reporter) -> Iterator[_Bundle]:
    from mirror.bundle.archive import Archive

    with Archive(path) as archive, _Check(archive, report) as check:
        # Only now: all of it is being hashed while this is loaded and the manifest is read.
        from mirror.bundle.reader import BundleReader

        with BundleReader(archive) as reader:
            yield _Bundle(reader, check)


class _Check(AbstractContextManager["_Check"]):
    """The check of *archive*, under way in the background: it takes no Python to speak of, and the rest loads."""

    def __init__(self, archive: Archive, report: Reporter) -> None:
        self._archive = archive
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(report,), name="airgap-check")

    def __enter__(self) -> _Check:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def wait(self, stop: threading.Event) -> None:
        """Wait for its result, but no longer than until *stop* is set; raises the error that it ended with."""
        while self._thread.is_alive() and not stop.is_set():
            self._thread.join(0.05)
        if self._error is not None:
            raise self._error

    def _run(self, report: Reporter) -> None:
        try:
            self._archive.check(self._stop, report)
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            self._error = error


class _Bundle:
    """A bundle whose check began when it was opened."""

    def __init__(self, reader: BundleReader, check: _Check) -> None:
        self.manifest = reader.manifest
        self.spool = reader.spool
        self._check = check

    def check(self, stop: threading.Event, report: Reporter = silent) -> None:
        """Wait for the result of the check that is under way."""
        self._check.wait(stop)


@contextmanager
def _piped(stream: BinaryIO) -> Iterator[Path]:
    """Keep what comes through a pipe in a temporary file while it is used: its manifest is found from behind."""
    from mirror.push.scratch import scratch

    with scratch() as folder:
        path = folder / "standard-input.tar.zst"
        try:
            with path.open("xb") as target:
                shutil.copyfileobj(stream, target, _CHUNK)
        except OSError as error:
            raise StorageError(
                f"No room for the bundle from the pipe in {folder}: {error.strerror}.",
                hint="Set TMPDIR to a folder with more space, or push the bundle from a file.",
            ) from error
        yield path


def distribution_files(paths: Sequence[Path]) -> list[Path]:
    """Every wheel and sdist among *paths* and in the folders among them, sorted by name.

    Signatures (``.asc``) and metadata beside them are passed over, as twine does, and so is the same file once more;
    anything else is a UsageError, and so are two files of one name with different bytes, and none at all.
    """
    found: dict[str, Path] = {}
    for path in paths:
        inside = sorted(path.iterdir()) if path.is_dir() else [path]
        for file in inside:
            if file.name.endswith(_DISTRIBUTIONS):
                if _other(found.setdefault(file.name, file), file):
                    raise UsageError(
                        f"{found[file.name]} and {file} are two files of one name.",
                        hint="A repository can hold one of them. Name only that.",
                    )
            elif file is path and not file.name.endswith((".asc", ".metadata", ".attestation")):
                raise UsageError(
                    f"{file} is neither a wheel nor an sdist.",
                    hint="A bundle goes alone; files of other kinds can't be uploaded.",
                )
    if not found:
        raise UsageError(f"No wheel and no sdist in {', '.join(map(str, paths))}.")
    return [found[name] for name in sorted(found)]


def _other(one: Path, two: Path) -> bool:
    """Whether the files differ."""
    if one == two:
        return False
    try:
        return not filecmp.cmp(one, two, shallow=False)
    except OSError as error:
        raise UsageError(f"{error.filename} can't be read: {error.strerror}.") from error


@dataclass(frozen=True, slots=True)
class DistributionFile:
    """A wheel or sdist on the disk as push wants it; ``carrier`` is None: it is at hand."""

    filename: str
    project: str
    version: str
    size: int
    sha256: str
    requires: tuple[str, ...] = ()
    carrier: str | None = None


@dataclass(frozen=True)
class FileList:
    """What takes the manifest's place; ``identity`` is the SHA-256 over the files' digests and names, sorted."""

    files: tuple[DistributionFile, ...]
    since: Mapping[str, str] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        lines = (f"{file.sha256}  {file.filename}\n" for file in self.files)
        return hashlib.sha256("".join(lines).encode()).hexdigest()


class DistributionFiles:
    """Wheels and sdists as a push's source. Each is hashed when it is opened, and again while it is copied to be sent.

    They are ordered by what their own metadata requires, whatever the marker or extra.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = {path.name: path for path in paths}
        self.manifest = FileList(tuple(map(_described, paths)))

    def check(self, stop: threading.Event, report: Reporter = silent) -> None:
        """Nothing to do: the digests are those of the files as they are."""

    def spool(self, project: str, folder: Path) -> list[Path]:
        """Copy the files of *project*: what was compared is what is sent, whoever writes to them meanwhile."""
        found: list[Path] = []
        for file in self.manifest.files:
            if file.project == project:
                target = folder / file.filename
                if _copy(self._paths[file.filename], target) != file.sha256:
                    raise HashMismatchError(f"{self._paths[file.filename]} was changed while it was being pushed.")
                found.append(target)
        return found


def read_metadata(path: Path) -> bytes:
    """The METADATA of the wheel or the PKG-INFO of the sdist at *path*; a MetadataError where it has none."""
    if path.name.endswith(".whl"):
        from mirror.metadata.wheel import wheel_metadata as extract
    else:
        from mirror.metadata.sdist import sdist_metadata as extract
    with path.open("rb") as stream:
        return extract(stream, path.name)


def _described(path: Path) -> DistributionFile:
    parts = split_filename(path.name)
    if parts is None or not _NAME.match(path.name):
        raise UsageError(
            f"{path} does not have the name of a wheel or an sdist.",
            hint="A file that was renamed since it was built would be listed under that name for ever.",
        )
    try:
        raw = read_metadata(path)
    except MetadataError as error:
        raise UsageError(f"{path} can't be uploaded: {error}", hint=error.hint) from error
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}.") from error
    # An old sdist's name does not say where the version begins: foo-1.0-1.tar.gz.
    parts = split_filename(path.name, next(iter(_names("Name", raw)), None)) or parts
    requires = tuple(sorted(set(_names("Requires-Dist", raw))))
    return DistributionFile(path.name, parts.project, parts.version, path.stat().st_size, _sha256(path), requires)


def _names(field: str, raw: bytes) -> list[NormalizedName]:
    """The names of projects that the values of *field* in core metadata begin with, normalised."""
    head = raw.replace(b"\r\n", b"\n").partition(b"\n\n")[0].decode("utf-8", "replace")
    names = re.findall(rf"^{field}:\s*([A-Za-z0-9][A-Za-z0-9._-]*)", head, re.MULTILINE | re.IGNORECASE)
    return [normalised(name) for name in names]


def _sha256(path: Path) -> str:
    return _copy(path, Path(os.devnull))


def _copy(path: Path, target: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as source, target.open("wb", buffering=0) as sink:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            view = memoryview(chunk)
            while view:
                view = view[sink.write(view) :]
    return digest.hexdigest()
