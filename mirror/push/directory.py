"""Publisher for a static index in a folder, which any web server hands out: HTML (PEP 503) beside JSON (PEP 691).

::

    ROOT/simple/index.html, index.json            every project
    ROOT/simple/PROJECT/index.html, index.json    its files with digests
    ROOT/packages/FILE, FILE.metadata             the files, and what PEP 658 offers of them

The layout is that of an unpacked bundle. A file is in its place before a page names it, and every page is replaced
whole, so that a reader sees the index before or after an upload, never in between.
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
from urllib.parse import quote

from packaging.metadata import parse_email

from mirror.errors import AirgapError, ConflictError, IndexPageError, StorageError
from mirror.index.simple import (
    JSON_TYPE,
    PageEntry,
    parse_page,
    parse_root,
    render_html,
    render_json,
    render_root_html,
    render_root_json,
)
from mirror.models import File, Hashes
from mirror.push.publisher import Upload
from mirror.store import locked

_CHUNK = 2**20
_PAGE_LIMIT = 2**26
# Stands for the folder where pages are parsed, which takes URLs.
_HOST = "https://directory.invalid/"


class DirectoryPublisher:
    """The static index in the folder *root*, which is made when it is needed. Several pushes at once lose nothing."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._packages = root / "packages"
        self._simple = root / "simple"

    @property
    def url(self) -> str:
        return self._root.absolute().as_uri()

    @property
    def digests(self) -> Collection[str]:
        return ()

    def projects(self) -> Collection[str] | None:
        return None  # a listing costs no request

    def listing(self, project: str) -> Mapping[str, Hashes]:
        return {file.filename: file.hashes for file in self._files(project)}

    def digest(self, project: str, filename: str) -> str | None:
        path = self._packages / filename
        if all(file.filename != filename for file in self._files(project)):
            return None
        with self._disk():
            return _sha256(path) if path.is_file() else None

    def upload(self, upload: Upload) -> None:
        with self._disk():
            for folder in (self._packages, self._simple / upload.project):
                folder.mkdir(parents=True, exist_ok=True)
            part = _temporary(self._packages, upload.path)
            try:
                with locked(self._root / ".airgap.lock"):
                    self._add(upload, part)
            finally:
                part.unlink(missing_ok=True)

    def _add(self, upload: Upload, part: Path) -> None:
        """Give the file its name, then list it: a name is given only to what is on the disk."""
        path = self._packages / upload.filename
        if not path.exists():
            part.replace(path)
        elif (there := _sha256(path)) != upload.hashes.sha256:
            raise ConflictError(f"{path} exists and holds sha256 {there}.", filenames=[upload.filename])
        # Or it was uploaded before, or a push that was killed had no time to list it.
        offered: Hashes | None = None
        if upload.metadata and upload.filename.endswith(".whl"):
            _write(self._packages / f"{upload.filename}.metadata", upload.metadata)
            offered = Hashes((("sha256", hashlib.sha256(upload.metadata).hexdigest()),))
        entries = {file.filename: _entry(file) for file in self._files(upload.project)}
        entries[upload.filename] = PageEntry(
            upload.filename,
            f"../../packages/{quote(upload.filename)}",
            hashes=Hashes((("sha256", upload.hashes.sha256 or ""),)),
            size=upload.size,
            requires_python=parse_email(upload.metadata)[0].get("requires_python"),
            metadata=offered,
        )
        # JSON last: that is the page that listing() reads.
        listed = [entries[name] for name in sorted(entries)]
        _write(self._simple / upload.project / "index.html", render_html(upload.project, listed))
        _write(self._simple / upload.project / "index.json", render_json(upload.project, listed))
        names = sorted({*self._names(), upload.project})
        _write(self._simple / "index.html", render_root_html(names))
        _write(self._simple / "index.json", render_root_json(names))

    def _names(self) -> list[str]:
        """What the root page lists; without one, every project that has a page."""
        try:
            return parse_root((self._simple / "index.json").read_bytes(), JSON_TYPE, f"{_HOST}simple/")
        except (FileNotFoundError, IndexPageError):
            return [path.parent.name for path in self._simple.glob("*/index.json")]

    def _files(self, project: str) -> Iterator[File]:
        path = self._simple / project / "index.json"
        with self._disk():
            if not path.is_file():
                return
            if path.stat().st_size > _PAGE_LIMIT:
                raise StorageError(f"{path} has more than {_PAGE_LIMIT} bytes: it is no index page.")
            body = path.read_bytes()
        try:
            page = parse_page(body, JSON_TYPE, f"{_HOST}simple/{project}/", project=project, index=f"{_HOST}simple/")
            unusable = {filename for filename, _ in page.skipped}
            found = [page.file(at) for at, name in enumerate(page.filenames) if name not in unusable]
        except AirgapError as error:
            raise StorageError(
                f"{path} can't be read as an index page: {error}", hint="Put the page back, or push into a new folder."
            ) from error
        yield from found

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


def _entry(file: File) -> PageEntry:
    """The entry as it was: only links within the folder are relative."""
    return PageEntry(
        file.filename,
        f"../../{file.url.removeprefix(_HOST)}" if file.url.startswith(_HOST) else file.url,
        hashes=file.hashes,
        size=file.size,
        requires_python=file.requires_python,
        yanked=file.yanked,
        upload_time=file.upload_time,
        metadata=file.metadata,
    )


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
    part = _temporary(path.parent, data)
    try:
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _temporary(folder: Path, content: Path | bytes) -> Path:
    """Write *content*, or that of the file it names, to a new file in *folder*, down to the disk."""
    handle, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=folder)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as target:
            if isinstance(content, bytes):
                target.write(content)
            else:
                with content.open("rb") as source:
                    shutil.copyfileobj(source, target, _CHUNK)
            target.flush()
            os.fsync(target.fileno())
        part.chmod(0o644)  # made for its owner only, and a web server is to read it
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return part
