"""What every kind of embedded repository offers to whoever reads it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote

from mirror.index.simple import PageEntry
from mirror.models import Hashes
from mirror.serve.blobs import Blob
from mirror.serve.catalog import Catalog, CatalogFile
from mirror.serve.flights import Flight

#: Bytes of one file. PyTorch's largest wheels have some 4 GB.
FILE_LIMIT = 16 * 1024**3
#: What an operator should read: a remote that fails, a member that is left out. Standard error by default.
LOG = logging.getLogger("airgap.serve")


@dataclass(frozen=True, slots=True)
class Page:
    """A project's page. ``tag`` was read before the entries will be, and changes whenever the page does.

    ``status`` is PEP 792's. ``failed`` names the members of a group that could not be asked.
    """

    tag: str
    read: Callable[[], Sequence[PageEntry]]
    status: tuple[str, str] = ("active", "")
    failed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of a file or of its metadata: in a ``blob``, or on their way in ``flight``, or in ``data``."""

    blob: Blob | None = None
    sha256: str = ""
    flight: Flight | None = None
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Names:
    """Names that are read anew each time somebody goes through them, and never held."""

    read: Callable[[], Iterator[str]]

    def __iter__(self) -> Iterator[str]:
        return self.read()


class Readable(Protocol):
    """A repository as readers see it; a remote that gives no usable answer is a NetworkError."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    def projects(self) -> Iterable[str]:
        """The projects, sorted; they may be gone through more than once."""
        ...

    def page(self, project: str, *, whole: bool = True) -> Page | None:
        """The page of a normalised *project*; None where there is no such project.

        Where not *whole*, the tag may be all that is looked at: the entries are looked up when they are read.
        """
        ...

    def content(self, project: str, version: str, filename: str) -> Content | None:
        """A file as the page's link names it, or ``FILE.metadata`` (PEP 658); None where there is none."""
        ...


def entry_of(file: CatalogFile) -> PageEntry:
    """How a page shows a file of the catalog."""
    return PageEntry(
        filename=file.filename,
        url=f"../../{file_path(file.project, file.version, file.filename)}",
        hashes=Hashes.of({"sha256": file.sha256}),
        size=file.size,
        requires_python=file.requires_python,
        yanked=file.yanked,
        upload_time=file.upload_time,
        metadata=Hashes.of({"sha256": file.metadata_sha256}) if file.metadata_sha256 else None,
    )


def stored_page(catalog: Catalog, repository: str, project: str, *, whole: bool) -> Page | None:
    """The page of a project whose files are all in the catalog: tag and files by one query, unless not *whole*."""
    if whole:
        found = catalog.page(repository, project)
        return None if found is None else Page(found[0], lambda: [entry_of(file) for file in found[1]])
    tag = catalog.tag(repository, project)
    return None if tag is None else Page(tag, lambda: [entry_of(file) for file in catalog.files(repository, project)])


def file_path(project: str, version: str, filename: str) -> str:
    """Where a file is below its repository's URL."""
    return "/".join(["packages", project, quote(version, safe=""), quote(filename, safe="")])
