"""The hosted repository: one set of rules for what comes in, over HTTP as well as from a push without a server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from mirror.errors import ConflictError, HashMismatchError, IntegrityError, MetadataError, StorageError
from mirror.filenames import Split, split_filename
from mirror.metadata.core import parse
from mirror.metadata.sdist import sdist_metadata
from mirror.metadata.wheel import wheel_metadata
from mirror.models import Metadata, is_safe_filename
from mirror.serve.blobs import Blobs, Incoming
from mirror.serve.catalog import Catalog, CatalogFile, Repository

_CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Claims:
    """What an uploader says about a file; None and missing digests are no claim.

    ``digests`` are lower-case hexadecimal, by the names of :data:`mirror.serve.blobs.DIGESTS`.
    """

    name: str | None = None
    version: str | None = None
    digests: Mapping[str, str] = field(default_factory=dict)


class HostedRepository:
    """A repository that takes uploads. It believes nothing that it can read from the file itself."""

    def __init__(self, name: str, catalog: Catalog, blobs: Blobs) -> None:
        self.name = name
        self._repository = Repository(name, "hosted")
        self._catalog = catalog
        self._blobs = blobs

    def projects(self) -> list[str]:
        """The projects that have files here, sorted."""
        return self._catalog.projects(self.name)

    def tag(self, project: str) -> str | None:
        """A text that changes whenever the page of *project* does; None where there is no such project."""
        return self._catalog.tag(self.name, project)

    def files(self, project: str) -> list[CatalogFile]:
        """The files of *project*, sorted by name."""
        return self._catalog.files(self.name, project)

    def file(self, filename: str) -> CatalogFile | None:
        """The file called *filename*, or None."""
        return self._catalog.file(self.name, filename)

    def blob(self, sha256: str) -> Path:
        """Where the bytes of a file, or of its metadata, are."""
        return self._blobs.path(sha256)

    def incoming(self) -> Incoming:
        """Where to write a file that :meth:`admit` shall judge."""
        return self._blobs.incoming()

    def add(self, path: Path, filename: str, claims: Claims) -> CatalogFile:
        """Take a copy of the file at *path* in under the name *filename*; see :meth:`admit`."""
        check_filename(filename)
        with self.incoming() as incoming:
            try:
                with path.open("rb", buffering=0) as stream:
                    while chunk := stream.read(_CHUNK):
                        incoming.write(chunk)
            except OSError as error:
                raise StorageError(f"Can't read {path}: {error.strerror}.") from error
            return self.admit(incoming, filename, claims)

    def admit(self, incoming: Incoming, filename: str, claims: Claims) -> CatalogFile:
        """Check a file that arrived completely, store it, and return its row; the same bytes again are a success.

        Raises ConflictError where other bytes have this name, HashMismatchError where a digest is not as claimed,
        IntegrityError where the name is not this file's, MetadataError where the file is no distribution that installs.
        Nothing is stored then.
        """
        check_filename(filename)
        digests = incoming.digests()
        for algorithm, claimed in claims.digests.items():
            if claimed != digests[algorithm]:
                raise HashMismatchError(
                    f"{filename}: the upload says {algorithm} {claimed[:128]}, but what arrived has "
                    f"{digests[algorithm]}.",
                    hint="The file changed or was damaged on its way. Upload it again.",
                )
        known = self.file(filename)
        if known is not None:
            return _same(known, digests["sha256"])
        path = incoming.flush()
        with path.open("rb") as stream:
            raw = (wheel_metadata if filename.endswith(".whl") else sdist_metadata)(stream, filename)
        metadata = parse(raw, filename=filename)
        _check_identity(filename, metadata, claims)
        # Bytes first, the row after: a page never shows what can't be fetched.
        metadata_sha256 = self._blobs.add(raw) if filename.endswith(".whl") else None
        entry = CatalogFile(
            project=metadata.name,
            version=metadata.version,
            filename=filename,
            size=incoming.size,
            sha256=incoming.commit(),
            md5=digests["md5"],
            blake2_256=digests["blake2_256"],
            metadata_sha256=metadata_sha256,
            requires_python=metadata.requires_python,
            yanked=None,
            upload_time=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        )
        return _same(self._catalog.add(self._repository, entry), entry.sha256)


def check_filename(filename: str) -> Split:
    """Refuse with an IntegrityError what is not one plain file name of a wheel or an sdist."""
    if not is_safe_filename(filename) or not filename.isascii():
        raise IntegrityError(
            f"{filename[:255]!r} can't be a file name here.",
            hint="It must be ASCII, without a path and without characters that some file system does not allow.",
        )
    parts = split_filename(filename)
    if parts is None:
        raise IntegrityError(
            f"{filename} is neither a wheel nor an sdist.",
            hint="Wheels are NAME-VERSION[-BUILD]-PYTHON-ABI-PLATFORM.whl, sdists NAME-VERSION.tar.gz or .zip.",
        )
    return parts


def _check_identity(filename: str, metadata: Metadata, claims: Claims) -> None:
    """Name and version must be the same in the file's name, in its metadata and in the form."""
    parts = split_filename(filename, metadata.name) or check_filename(filename)
    if parts.project != metadata.name or not _equal(parts.version, metadata.version):
        raise MetadataError(
            f"{filename} holds {metadata.name} {metadata.version}, which its name does not say.",
            hint="Build it again. A distribution file must not be renamed.",
        )
    if claims.name is not None and canonicalize_name(claims.name) != metadata.name:
        raise IntegrityError(
            f"{filename} was uploaded as a file of {claims.name[:200]!r}, but it holds {metadata.name}."
        )
    if claims.version is not None and not _equal(claims.version, metadata.version):
        raise IntegrityError(
            f"{filename} was uploaded as version {claims.version[:200]!r}, but it holds {metadata.version}."
        )


def _equal(one: str, other: str) -> bool:
    """Whether two spellings are one version (PEP 440); a hyphen in a wheel's version is written as underscore."""
    try:
        return Version(one.replace("_", "-")) == Version(other)
    except InvalidVersion:
        return False


def _same(known: CatalogFile, sha256: str) -> CatalogFile:
    if known.sha256 == sha256:
        return known
    raise ConflictError(
        f"File already exists: {known.filename} is here with sha256 {known.sha256}, and other bytes were sent under "
        "its name.",
        filenames=[known.filename],
        hint="Give the new file another version or build number. Files are never overwritten.",
    )
