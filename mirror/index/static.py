"""The static index that an unpacked bundle, a folder and a bucket have in common: where what is, and how pages list it.

::

    simple/index.html, index.json            every project
    simple/PROJECT/index.html, index.json    its files with digests: HTML (PEP 503) and JSON (PEP 691) of one content
    packages/…                               the files, and beside each what PEP 658 offers of it, FILE.metadata

Pure. Pages link to files by relative URLs, so that the whole works below any URL.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from urllib.parse import quote, unquote

from mirror.index.simple import (
    JSON_TYPE,
    PageEntry,
    parse_page,
    parse_root,
    render_html,
    render_json,
    render_root_html,
    render_root_json,
    root_html_item,
    root_json_item,
)
from mirror.models import File

#: Name of a page, and the content type that it has.
PAGES = {"index.html": "text/html", "index.json": JSON_TYPE}

# Stands for the root where pages are parsed, which takes URLs.
_ROOT = "https://static.invalid/"


def page_path(name: str, project: str = "") -> str:
    """Where the page *name* of *project* is, or of the whole index."""
    return f"simple/{project}/{name}" if project else f"simple/{name}"


def project_pages(project: str, entries: Iterable[PageEntry]) -> dict[str, bytes]:
    """Both pages of a project by their paths; files are listed in the order of their names."""
    listed = sorted(entries, key=lambda entry: entry.filename)
    return {
        page_path("index.html", project): render_html(project, listed),
        page_path("index.json", project): render_json(project, listed),
    }


def root_pages(projects: Iterable[str]) -> dict[str, bytes]:
    """Both pages that name all projects, by their paths."""
    names = sorted(set(projects))
    return {page_path("index.html"): render_root_html(names), page_path("index.json"): render_root_json(names)}


class Root:
    """Both pages that name all projects, as :func:`root_pages` makes them; one more is put in without making the rest.

    So naming thousands of projects, one after the other, does not take the square of that time.
    """

    def __init__(self, projects: Iterable[str]) -> None:
        self._names = sorted(set(projects))
        pages = root_pages(self._names)
        self._html, self._json = pages[page_path("index.html")], pages[page_path("index.json")]

    @property
    def pages(self) -> dict[str, bytes]:
        """Both pages by their paths."""
        return {page_path("index.html"): self._html, page_path("index.json"): self._json}

    def add(self, project: str) -> None:
        """Name *project*, too."""
        position = bisect_left(self._names, project)
        after = self._names[position] if position < len(self._names) else None
        if after == project:
            return
        line, item = f"{root_html_item(project)}\n", root_json_item(project)
        if after is not None:  # an item's markup occurs nowhere but in its place: in texts it would be escaped
            self._html = _inserted(self._html, line, before=f"{root_html_item(after)}\n")
            self._json = _inserted(self._json, f"{item},", before=root_json_item(after))
        else:
            self._html = _inserted(self._html, line, before="</body>\n</html>\n")
            self._json = _inserted(self._json, f",{item}" if self._names else item, before="]}")
        self._names.insert(position, project)


def _inserted(page: bytes, text: str, *, before: str) -> bytes:
    cut = page.rindex(before.encode())
    return b"".join((page[:cut], text.encode(), page[cut:]))


def link(path: str) -> str:
    """How a project's page links to what is at *path* below the root."""
    return f"../../{quote(path)}"


def linked_path(url: str) -> str | None:
    """What *url* on a project's page links to: a path below the root; None where it is elsewhere."""
    path = unquote(url.removeprefix("../../"))
    inside = url.startswith("../../") and not {"", ".", ".."} & {*path.split("/")}
    return path if inside else None


def read_project(body: bytes, name: str, project: str) -> dict[str, PageEntry]:
    """The files on the page *name* of *project* as they can be written again; an error of ours where it is no page."""
    page = parse_page(body, PAGES[name], f"{_ROOT}simple/{project}/", project=project, index=f"{_ROOT}simple/")
    unusable = {filename for filename, _ in page.skipped}
    entries: dict[str, PageEntry] = {}
    for position, filename in enumerate(page.filenames):
        if filename in unusable:
            continue
        file = page.file(position)
        inside = file.url.startswith(_ROOT)
        entries[filename] = entry_of(file, f"../../{file.url.removeprefix(_ROOT)}" if inside else file.url)
    return entries


def entry_of(file: File, url: str) -> PageEntry:
    """How a page lists *file* with a link to *url*: all that another page said of it."""
    return PageEntry(
        filename=file.filename,
        url=url,
        hashes=file.hashes,
        size=file.size,
        requires_python=file.requires_python,
        yanked=file.yanked,
        upload_time=file.upload_time,
        metadata=file.metadata,
    )


def read_root(body: bytes, name: str) -> list[str]:
    """The projects on the page *name* of the whole index."""
    return parse_root(body, PAGES[name], f"{_ROOT}simple/")
