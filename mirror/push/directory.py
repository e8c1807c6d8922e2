"""Publisher for a static index in a folder, which any web server hands out; :mod:`mirror.index.static` has the layout.

A file is in its place before a page names it, and every page is replaced whole, so that a reader sees the index before
or after an upload, never in between.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from packaging.metadata import parse_email

from mirror.durable import permit, sync_folder, write_whole
from mirror.errors import AirgapError, ConflictError, IndexPageError, StorageError
from mirror.index import static
from mirror.index.simple import PageEntry
from mirror.models import Hashes
from mirror.push.publisher import PageByPage, Upload
from mirror.store import locked

_CHUNK = 2**20
_PAGE_LIMIT = 2**26
# Both pages list the same; this one is read, because it says more.
_TRUTH = "index.json"


class DirectoryPublisher(PageByPage):
    """The static index in the folder *root*, which is made when it is needed. Several pushes at once lose nothing."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._packages = root / "packages"
        self._written: tuple[static.Root, tuple[int, ...]] | None = None

    @property
    def url(self) -> str:
        return self._root.absolute().as_uri()

    @property
    def digests(self) -> Collection[str]:
        return ()

    def projects(self) -> Collection[str] | None:
        return None  # a listing costs no request

    def listing(self, project: str) -> Mapping[str, Hashes]:
        return {filename: entry.hashes for filename, entry in self._entries(project).items()}

    def digest(self, project: str, filename: str) -> str | None:
        entry = self._entries(project).get(filename)
        place = static.linked_path(entry.url) if entry is not None else None
        if place is None:
            return None
        with self._disk():
            path = self._root / place
            return _sha256(path) if path.is_file() else None

    def upload(self, upload: Upload) -> None:
        with self._disk():
            self._packages.mkdir(parents=True, exist_ok=True)
            part = _temporary(self._packages, upload.path)
            try:
                with locked(self._root / ".airgap.lock"):
                    self._add(upload, part)
            finally:
                part.unlink(missing_ok=True)

    def _add(self, upload: Upload, part: Path) -> None:
        """Give the file its name, then list it: a name is given only to what is on the disk."""
        entries = listed_with(upload, f"packages/{upload.filename}", self._entries(upload.project))
        path = self._packages / upload.filename
        if not path.exists():
            part.replace(path)
            sync_folder(self._packages)
        elif (there := _sha256(path)) != upload.hashes.sha256:
            raise ConflictError(f"{path} exists and holds sha256 {there}.", filenames=[upload.filename])
        # Or it was uploaded before, or a push that was killed had no time to list it.
        if upload.metadata and upload.filename.endswith(".whl"):
            _write(self._packages / f"{upload.filename}.metadata", upload.metadata)
        self._name(upload.project)
        # The JSON page of the project last: it is what listing() reads, and says that all is done.
        for place, body in static.project_pages(upload.project, entries.values()).items():
            _write(self._root / place, body)

    def _name(self, project: str) -> None:
        """Have the root pages name *project*. They are read only where somebody else wrote them since this push did."""
        truth = self._root / static.page_path(_TRUTH)
        root = self._written[0] if self._written and self._written[1] == _version(truth) else None
        self._written = None
        root = root or static.Root(self._names())
        root.add(project)
        for place, body in root.pages.items():
            _write(self._root / place, body)
        self._written = root, _version(truth)

    def _names(self) -> list[str]:
        """What the root page lists; without one, every project that has a page."""
        try:
            return static.read_root((self._root / static.page_path(_TRUTH)).read_bytes(), _TRUTH)
        except (FileNotFoundError, IndexPageError):
            return [path.parent.name for path in self._root.glob(static.page_path(_TRUTH, "*"))]

    def _entries(self, project: str) -> dict[str, PageEntry]:
        path = self._root / static.page_path(_TRUTH, project)
        with self._disk():
            if not path.is_file():
                return {}
            if path.stat().st_size > _PAGE_LIMIT:
                raise StorageError(f"{path} has more than {_PAGE_LIMIT} bytes: it is no index page.")
            body = path.read_bytes()
        return read_entries(body, _TRUTH, project, str(path))

    @contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise StorageError(
                f"{error.filename or self._root}: {error.strerror or error}.",
                hint="Free some space, and run the same command again." if full else "",
            ) from error


def listed_with(upload: Upload, path: str, entries: Mapping[str, PageEntry]) -> dict[str, PageEntry]:
    """*entries* of a project, and *upload*, which is at *path* below the root; what is listed stays as it is listed.

    Raises ConflictError where another file is listed under its name.
    """
    known = entries.get(upload.filename)
    if known is not None and known.hashes.agrees(upload.hashes):
        return dict(entries)
    if known is not None:
        raise ConflictError(
            f"The index lists {upload.filename} with sha256 {known.hashes.sha256}.", filenames=[upload.filename]
        )
    offered = upload.metadata and upload.filename.endswith(".whl")
    entry = PageEntry(
        upload.filename,
        static.link(path),
        hashes=Hashes((("sha256", upload.hashes.sha256 or ""),)),
        size=upload.size,
        requires_python=parse_email(upload.metadata)[0].get("requires_python"),
        metadata=Hashes((("sha256", hashlib.sha256(upload.metadata).hexdigest()),)) if offered else None,
    )
    return {**entries, upload.filename: entry}


def read_entries(body: bytes, name: str, project: str, where: str) -> dict[str, PageEntry]:
    """The files on a page of a static index; a StorageError where it is none. *where* it is, for people."""
    try:
        return static.read_project(body, name, project)
    except AirgapError as error:
        raise StorageError(
            f"{where} can't be read as an index page: {error}", hint="Put the page back, or push into a new place."
        ) from error


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _write(path: Path, data: bytes) -> None:
    """Replace *path*, whole or not at all, where it does not hold *data* already."""
    with suppress(FileNotFoundError):
        if path.read_bytes() == data:
            return
    write_whole(path, data)


def _version(path: Path) -> tuple[int, ...]:
    """What no other version of the file at *path* has in common with this one; nothing where there is none."""
    with suppress(FileNotFoundError):
        status = path.stat()
        return status.st_ino, status.st_mtime_ns, status.st_size
    return ()


def _temporary(folder: Path, content: Path) -> Path:
    """Copy *content* to a new file in *folder*, down to the disk."""
    handle, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=folder)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as target, content.open("rb") as source:
            shutil.copyfileobj(source, target, _CHUNK)
            target.flush()
            os.fsync(target.fileno())
        permit(part, 0o644)  # made for its owner only, and a web server is to read it
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return part
