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
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from mirror.errors import AirgapError, ConflictError, MetadataError, StorageError
from mirror.index.simple import (
    JSON_TYPE,
    PageEntry,
    parse_page,
    render_html,
    render_json,
    render_root_html,
    render_root_json,
)
from mirror.metadata.core import parse
from mirror.models import File, Hashes
from mirror.push.publisher import Upload
from mirror.store import locked

_CHUNK = 2**20
_PAGE_LIMIT = 2**26
_BASE = "https://directory.invalid/simple/"


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
            self._keep(upload)
            described = bool(upload.metadata) and upload.filename.endswith(".whl")
            if described:
                _write(self._packages / f"{upload.filename}.metadata", upload.metadata)
            with locked(self._root / ".airgap.lock"):
                files = {file.filename: _entry(file) for file in self._files(upload.project)}
                files[upload.filename] = PageEntry(
                    upload.filename,
                    f"../../packages/{quote(upload.filename)}",
                    hashes=Hashes.of({"sha256": upload.hashes.sha256 or ""}),
                    size=upload.size,
                    requires_python=_requires_python(upload),
                    metadata=Hashes.of({"sha256": hashlib.sha256(upload.metadata).hexdigest()}) if described else None,
                )
                self._write_pages(upload.project, [files[name] for name in sorted(files)])

    def _keep(self, upload: Upload) -> None:
        """Put the file into its place unless other bytes are there; a name is given only to what is on the disk."""
        path = self._packages / upload.filename
        handle, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=self._packages)
        part = Path(name)
        try:
            with os.fdopen(handle, "wb") as target, upload.path.open("rb") as source:
                shutil.copyfileobj(source, target, _CHUNK)
                target.flush()
                os.fsync(target.fileno())
            part.chmod(0o644)  # made for its owner only, and a web server is to read it
            try:
                _name(part, path)
            except FileExistsError:
                # Either it was uploaded before, or a push that was killed had no time to list it.
                if (there := _sha256(path)) != upload.hashes.sha256:
                    raise ConflictError(
                        f"{path} exists and holds sha256 {there}.", filenames=[upload.filename]
                    ) from None
        finally:
            part.unlink(missing_ok=True)

    def _write_pages(self, project: str, entries: list[PageEntry]) -> None:
        """Replace the pages of *project*, JSON last: that is the one that :meth:`listing` reads."""
        _write(self._simple / project / "index.html", render_html(project, entries))
        _write(self._simple / project / "index.json", render_json(project, entries))
        names = sorted(path.parent.name for path in self._simple.glob("*/index.json"))
        _write(self._simple / "index.html", render_root_html(names))
        _write(self._simple / "index.json", render_root_json(names))

    def _files(self, project: str) -> Iterator[File]:
        path = self._simple / project / "index.json"
        with self._disk():
            if not path.is_file():
                return
            if path.stat().st_size > _PAGE_LIMIT:
                raise StorageError(f"{path} has more than {_PAGE_LIMIT} bytes: it is no index page.")
            body = path.read_bytes()
        try:
            page = parse_page(body, JSON_TYPE, f"{_BASE}{project}/", project=project, index=_BASE)
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


def _name(part: Path, path: Path) -> None:
    """Give *part* the name *path* unless that is taken: a FileExistsError."""
    try:
        path.hardlink_to(part)
    except FileExistsError:
        raise
    except OSError:  # no hard links on this file system
        with path.open("xb"):
            part.replace(path)


def _entry(file: File) -> PageEntry:
    return PageEntry(
        file.filename,
        f"../../{file.url.removeprefix(_BASE.removesuffix('simple/'))}" if file.url.startswith(_BASE[:-7]) else file.url,
        hashes=file.hashes,
        size=file.size,
        requires_python=file.requires_python,
        yanked=file.yanked,
        upload_time=file.upload_time,
        metadata=file.metadata,
    )


def _requires_python(upload: Upload) -> str | None:
    if not upload.metadata:
        return None
    with suppress(MetadataError):
        return parse(upload.metadata, filename=upload.filename).requires_python
    return None


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
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        part.chmod(0o644)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
