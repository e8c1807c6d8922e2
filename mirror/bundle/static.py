"""The static simple index inside a bundle: what ``pip --index-url file://…/simple`` reads from the unpacked folder."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import quote

from mirror.bundle.manifest import BundledFile, Manifest
from mirror.errors import AirgapError, BundleError
from mirror.index.simple import (
    PageEntry,
    parse_page,
    parse_root,
    render_html,
    render_json,
    render_root_html,
    render_root_json,
)
from mirror.models import Hashes

#: Page name in every folder below ``simple/``, and the content type that it has.
PAGES = {"index.html": "text/html", "index.json": "application/vnd.pypi.simple.v1+json"}


def index_pages(projects: Iterable[tuple[str, tuple[BundledFile, ...]]]) -> dict[str, bytes]:
    """Return every page by its path: the root and one folder a project, each as HTML (PEP 503) and JSON (PEP 691)."""
    pages: dict[str, bytes] = {}
    names: list[str] = []
    for project, files in projects:
        entries = [_entry(file) for file in sorted(files, key=lambda file: file.filename)]
        names.append(project)
        pages[f"simple/{project}/index.html"] = render_html(project, entries)
        pages[f"simple/{project}/index.json"] = render_json(project, entries)
    pages["simple/index.html"] = render_root_html(names)
    pages["simple/index.json"] = render_root_json(names)
    return pages


def check_root(manifest: Manifest, path: str, body: bytes) -> None:
    """Raise a BundleError unless the root page at *path* lists exactly the bundle's projects."""
    try:
        names = parse_root(body, PAGES[path.rpartition("/")[2]], "https://bundle.invalid/simple/")
    except AirgapError as error:
        raise BundleError(f"{path} can't be read: {error}") from error
    if names != list(manifest.projects):
        raise BundleError(f"{path} does not list the projects that the manifest names.")


def check_page(manifest: Manifest, path: str, body: bytes) -> None:
    """Raise a BundleError unless the project page at *path* offers exactly the project's files, with their digests."""
    _, project, name = path.split("/")
    base = "https://bundle.invalid/"
    try:
        page = parse_page(body, PAGES[name], f"{base}simple/{project}/", project=project, index=f"{base}simple/")
        files = [page.file(position) for position in range(len(page.filenames))]
    except AirgapError as error:
        raise BundleError(f"{path} can't be read: {error}") from error
    offered = {file.filename: (file.url.partition("#")[0], file.hashes.sha256) for file in files}
    promised = {
        file.filename: (f"{base}packages/{quote(file.filename)}", file.sha256) for file in manifest.files_of(project)
    }
    if offered != promised or len(files) != len(offered) or page.skipped:
        raise BundleError(f"{path} does not offer the files that the manifest names for {project}.")


def _entry(file: BundledFile) -> PageEntry:
    metadata = Hashes.of({"sha256": file.metadata_sha256}) if file.metadata_sha256 else None
    return PageEntry(
        filename=file.filename,
        url=f"../../packages/{quote(file.filename)}",
        hashes=Hashes.of({"sha256": file.sha256}),
        size=file.size,
        requires_python=file.requires_python,
        yanked=file.yanked,
        upload_time=file.upload_time,
        metadata=metadata,
    )
