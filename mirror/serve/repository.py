"""What every kind of embedded repository offers to whoever reads it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from mirror.index.simple import PageEntry
from mirror.models import Hashes
from mirror.serve.catalog import CatalogFile
from mirror.serve.flights import Flight

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
    """The bytes of a file or of its metadata: at ``path``, or on their way in ``flight``, or in ``data``."""

    path: Path | None = None
    sha256: str = ""
    flight: Flight | None = None
    data: bytes = b""


class Readable(Protocol):
    """A repository as readers see it; a remote that gives no usable answer is a NetworkError."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    def projects(self) -> list[str]:
        """The projects, sorted."""
        ...

    def page(self, project: str) -> Page | None:
        """The page of a normalised *project*; None where there is no such project."""
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


def file_path(project: str, version: str, filename: str) -> str:
    """Where a file is below its repository's URL."""
    return "/".join(["packages", project, quote(version, safe=""), quote(filename, safe="")])
