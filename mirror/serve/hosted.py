"""The hosted repository: one set of rules for what comes in, over HTTP as well as from a push without a server."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.parser import HeaderParser
from pathlib import Path

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from mirror.config.served import Served
from mirror.errors import ConfigError, ConflictError, HashMismatchError, IntegrityError, MetadataError, StorageError
from mirror.filenames import Split, split_filename
from mirror.metadata.core import parse
from mirror.metadata.sdist import sdist_metadata
from mirror.metadata.wheel import wheel_metadata
from mirror.models import Metadata, is_safe_filename
from mirror.serve.audit import Audit
from mirror.serve.blobs import Blob, Blobs, Incoming
from mirror.serve.catalog import Catalog, CatalogFile, Repository
from mirror.serve.repository import Content, Names, Page, file_path, stored_page

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

    kind = "hosted"

    def __init__(self, served: Served, catalog: Catalog, blobs: Blobs, audit: Audit) -> None:
        self.name = served.name
        self._served = served
        self._repository = Repository(served.name, "hosted")
        self._catalog = catalog
        self._blobs = blobs
        self._audit = audit

    def projects(self) -> Names:
        """The projects that have files here, sorted."""
        return Names(lambda: self._catalog.projects(self.name))

    def tag(self, project: str) -> str | None:
        """A text that changes whenever the page of *project* does; None where there is no such project."""
        return self._catalog.tag(self.name, project)

    def files(self, project: str) -> list[CatalogFile]:
        """The files of *project*, sorted by name."""
        return self._catalog.files(self.name, project)

    def file(self, filename: str) -> CatalogFile | None:
        """The file called *filename*, or None."""
        return self._catalog.file(self.name, filename)

    def page(self, project: str, *, whole: bool = True) -> Page | None:
        """The page of *project*, None where there is none."""
        return stored_page(self._catalog, self.name, project, whole=whole)

    def content(self, project: str, version: str, filename: str) -> Content | None:
        """The bytes of a file, or with ``.metadata`` behind its name of its metadata."""
        return stored_content(self.file(filename.removesuffix(".metadata")), self._blobs, project, version, filename)

    def blob(self, sha256: str) -> Blob:
        """The bytes of a file, or of its metadata."""
        return self._blobs.get(sha256)

    def incoming(self, digests: Collection[str] = ()) -> Incoming:
        """Where to write a file that :meth:`admit` shall judge; *digests* are the ones that are claimed."""
        return self._blobs.incoming(digests)

    def check_writable(self) -> None:
        """Raise WriteRefusedError where the write policy takes nothing at all."""
        if self._served.write_policy == "deny":
            raise WriteRefusedError(f"Repository is read only: {self.name}", hint="Its write policy is deny.")

    def remove(self, filename: str, *, actor: str) -> None:
        """Take a file out of the repository; its bytes go with the next garbage collection."""
        removed = self._catalog.remove(self.name, filename)
        if removed is None:
            raise self._unknown(filename)
        self._audit.write(actor, "delete", self.name, filename, removed.sha256)

    def yank(self, filename: str, reason: str | None, *, actor: str) -> None:
        """Mark a file so that installers take it only by exact pin; *reason* None takes the mark away (PEP 592)."""
        if not self._catalog.set_yanked(self.name, filename, reason):
            raise self._unknown(filename)
        self._audit.write(actor, "unyank" if reason is None else "yank", self.name, filename)

    def add(self, path: Path, filename: str, claims: Claims, *, actor: str = "local") -> CatalogFile:
        """Take a copy of the file at *path* in under the name *filename*; see :meth:`admit`."""
        check_filename(filename)
        self.check_writable()
        with self.incoming(claims.digests) as incoming:
            try:
                with path.open("rb", buffering=0) as stream:
                    while chunk := stream.read(_CHUNK):
                        incoming.write(chunk)
            except OSError as error:
                raise StorageError(f"Can't read {path}: {error.strerror}.") from error
            return self.admit(incoming, filename, claims, actor=actor)

    def admit(self, incoming: Incoming, filename: str, claims: Claims, *, actor: str = "local") -> CatalogFile:
        """Check a file that arrived completely, store it, and return its row; the same bytes again are a success.

        Raises ConflictError where other bytes have this name, HashMismatchError where a digest is not as claimed,
        IntegrityError where the name is not this file's, MetadataError where the file is no distribution that installs,
        WriteRefusedError where a policy does not want it. Nothing is stored then.
        """
        check_filename(filename)
        self.check_writable()
        digests = incoming.digests(claims.digests)
        for algorithm, claimed in claims.digests.items():
            if claimed != digests[algorithm]:
                raise HashMismatchError(
                    f"{filename}: the upload says {algorithm} {claimed[:128]}, but what arrived has "
                    f"{digests[algorithm]}.",
                    hint="The file changed or was damaged on its way. Upload it again.",
                )
        known = self.file(filename)
        if known is not None:
            return self._again(known, digests["sha256"])
        path = incoming.flush()
        with path.open("rb") as stream:
            raw = (wheel_metadata if filename.endswith(".whl") else sdist_metadata)(stream, filename)
        metadata = parse(raw, filename=filename)
        _check_identity(filename, metadata, claims)
        self._check_version(filename, metadata.version)
        # Bytes first, the row after: a page never shows what can't be fetched.
        metadata_sha256 = self._blobs.add(raw) if filename.endswith(".whl") else None
        entry = CatalogFile(
            project=metadata.name,
            version=metadata.version,
            filename=filename,
            size=incoming.size,
            sha256=incoming.commit(),
            md5=digests.get("md5", ""),
            blake2_256=digests.get("blake2_256", ""),
            metadata_sha256=metadata_sha256,
            requires_python=metadata.requires_python,
            yanked=None,
            upload_time=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            summary=summary(raw),
        )
        added = self._catalog.add(self._repository, entry)
        if added is not entry:
            return self._again(added, entry.sha256)
        self._audit.write(actor, "upload", self.name, filename, entry.sha256)
        return added

    def _again(self, known: CatalogFile, sha256: str) -> CatalogFile:
        """Judge a file whose name is taken."""
        if known.sha256 != sha256:
            raise ConflictError(
                f"File already exists: {known.filename} is here with sha256 {known.sha256}, and other bytes were sent "
                "under its name.",
                filenames=[known.filename],
                hint="Give the new file another version or build number. Files are never overwritten.",
            )
        if self._served.write_policy == "allow-once":
            path = file_path(known.project, known.version, known.filename)
            raise WriteRefusedError(
                f"{self.name}/{path} cannot be updated", hint="Its write policy is allow-once; the same bytes are here."
            )
        return known

    def _check_version(self, filename: str, version: str) -> None:
        parsed = Version(version)
        snapshot = parsed.is_devrelease or parsed.local is not None
        if self._served.version_policy == "release" and snapshot:
            raise WriteRefusedError(
                f"{filename} has a development or local version, and {self.name} takes releases only.",
                hint="Upload it to a repository whose version policy is snapshot or mixed.",
            )
        if self._served.version_policy == "snapshot" and not snapshot:
            raise WriteRefusedError(
                f"{filename} has a released version, and {self.name} takes development and local versions only.",
                hint="Upload it to a repository whose version policy is release or mixed.",
            )

    def _unknown(self, filename: str) -> ConfigError:
        return ConfigError(f"{self.name} has no file {filename[:255]!r}.")


class WriteRefusedError(IntegrityError):
    """An upload that a repository's policy does not want, whatever its bytes are."""


def stored_content(
    found: CatalogFile | None, blobs: Blobs, project: str, version: str, filename: str
) -> Content | None:
    """The blob for a link to a file of the catalog, or to its metadata; None where the link is none of this file's."""
    if found is None or (project, version) != (found.project, found.version):
        return None
    sha256 = found.metadata_sha256 if filename.endswith(".metadata") else found.sha256
    return Content(blob=blobs.get(sha256), sha256=sha256) if sha256 else None


def summary(raw: bytes) -> str | None:
    """The one-line summary in core metadata, for searches."""
    value = HeaderParser().parsestr(raw.partition(b"\n\n")[0].decode("utf-8", "replace")).get("summary", "")
    return " ".join(str(value).split())[:1000] or None


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
