"""The static simple index inside a bundle: what ``pip --index-url file://…/simple`` reads from the unpacked folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from urllib.parse import quote

from mirror.bundle.manifest import BundledFile, Manifest
from mirror.errors import AirgapError, BundleError
from mirror.index import static
from mirror.index.simple import PageEntry, parse_page
from mirror.models import Hashes


def index_pages(projects: Iterable[tuple[str, Iterable[BundledFile]]]) -> Iterator[tuple[str, bytes]]:
    """Yield every page with its path: one folder a project and the root, each as HTML (PEP 503) and JSON (PEP 691)."""
    names: list[str] = []
    for project, files in projects:
        names.append(project)
        yield from _project_pages(project, files).items()
    yield from static.root_pages(names).items()


def absent_pages(manifest: Manifest) -> Iterator[tuple[str, bytes]]:
    """The pages that a delta leaves out, with their paths: those of the projects of which it carries nothing."""
    carried = manifest.project_sections
    for project in manifest.projects:
        if project not in carried:
            yield from _project_pages(project, manifest.files_of(project)).items()


def _project_pages(project: str, files: Iterable[BundledFile]) -> dict[str, bytes]:
    return static.project_pages(project, map(_entry, files))


def check_root(manifest: Manifest, path: str, body: bytes) -> None:
    """Raise a BundleError unless the root page at *path* lists exactly the bundle's projects."""
    try:
        names = static.read_root(body, path.rpartition("/")[2])
    except AirgapError as error:
        raise BundleError(f"{path} can't be read: {error}") from error
    if names != list(manifest.projects):
        raise BundleError(f"{path} does not list the projects that the manifest names.")


def check_page(manifest: Manifest, path: str, body: bytes) -> None:
    """Raise a BundleError unless the project page at *path* offers exactly the project's files, with their digests."""
    _, project, name = path.split("/")
    base = "https://bundle.invalid/"
    try:
        page = parse_page(body, static.PAGES[name], f"{base}simple/{project}/", project=project, index=f"{base}simple/")
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
        url=static.link(file.path),
        hashes=Hashes.of({"sha256": file.sha256}),
        size=file.size,
        requires_python=file.requires_python,
        yanked=file.yanked,
        upload_time=file.upload_time,
        metadata=metadata,
    )
