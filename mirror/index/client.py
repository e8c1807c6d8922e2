"""Project pages from indexes and find-links places: fetched once per run, revalidated across runs."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit
from urllib.request import url2pathname

from packaging.utils import NormalizedName

from mirror.errors import IndexPageError, NotFoundError
from mirror.index.simple import ACCEPT, HTML_TYPE, ParsedPage, folder_page, parse_page
from mirror.index.sources import Source, Sources
from mirror.once import Once
from mirror.store import Scratch, Store
from mirror.urls import redact, with_slash, without_credentials

if TYPE_CHECKING:  # importing it costs an HTTP library, which whoever has a Client has paid for
    from mirror.net import Client, Response

#: Bytes; the largest pages of the largest index are a tenth of it.
PAGE_LIMIT = 256 * 1024 * 1024
_NAMESPACE = "pages"


class IndexClient:
    """Finds a project's pages. Safe to use from many threads; a context manager that drops them at its end.

    *indexes* are simple indexes (http, https, or file for a static one), the most wanted first; *find_links* are
    folders, or URLs of folders or pages. Both may carry credentials; pages never do. With *best_match* every index
    that may serve a project is asked, as pip does it, and not only the first that has it.
    """

    def __init__(
        self,
        client: Client,
        store: Store,
        *,
        indexes: Sequence[Source | str],
        find_links: Sequence[str] = (),
        best_match: bool = False,
    ) -> None:
        self._client = client
        self._store = store
        self._sources = Sources(indexes)
        self._best_match = best_match
        self._find_links = tuple(find_links)
        # Parsing takes many times the memory of what is kept, and threads would take turns at it in any case.
        self._parsing = threading.Lock()
        self._scratch: Scratch | None = None  # lasts for as long as somebody has a page that lies in it
        self._found: Once[tuple[str, str], tuple[ParsedPage, ...]] = Once()

    def __enter__(self) -> IndexClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.forget()

    def forget(self) -> None:
        """Drop every page: they take memory and room on the disk, and are asked for anew."""
        self._found.forget()
        with self._parsing:
            self._scratch = None

    def pages(self, project: NormalizedName) -> tuple[ParsedPage, ...]:
        """The find-links pages that name *project*, then its page on the first index that has it.

        Only one index is ever used for a project: a name that the first one knows is never taken from another
        (dependency confusion). A project that is pinned to indexes comes from those, or from a folder of this
        machine, and from nowhere else. A page without links is as good as none, unless the project is quarantined:
        that holds for all indexes behind it. Where nobody has it: empty. A NetworkError that came once comes again
        at every call.
        """
        return self._found.get(("project", project), lambda: self._find(project))

    def _find(self, project: NormalizedName) -> tuple[ParsedPage, ...]:
        found: list[ParsedPage] = []
        sources, pinned = self._sources.for_project(project)
        for place in self._find_links:
            if pinned and not _is_file(_find_links_url(place)):
                continue  # it may belong to anybody, as an index may
            for page in self._found.get(("find-links", place), lambda place=place: self._links(place)):  # type: ignore[misc]
                mine = page.only(project)
                found += [mine] if mine.filenames else []
        for source in sources:
            offered = self._page(source.url, project)
            if offered is not None and (offered.filenames or offered.quarantined):
                found.append(offered)
                if offered.quarantined or not self._best_match:
                    break
        return tuple(found)

    def _page(self, index: str, project: NormalizedName) -> ParsedPage | None:
        url = f"{index}{quote(project)}/"
        try:
            if _is_file(url):
                return _local_page(url, project, index)
            body, kind, final = self._fetch(url)
            with self._parsing:
                self._scratch = self._scratch or self._store.scratch()
                return parse_page(body, kind, final, project=project, index=index).kept_in(self._scratch)
        except NotFoundError:
            return None
        except IndexPageError as error:
            told = f"The page of {project} on {redact(without_credentials(index))} can't be used: {error}"
            raise IndexPageError(told, hint=error.hint) from error

    def _fetch(self, url: str) -> tuple[bytes, str, str]:
        """Return body, content type and final URL of a page, asking the server only whether it has changed."""
        key = without_credentials(url)
        known = _Cached.read(self._store.note(_NAMESPACE, key))
        headers = {"accept": ACCEPT, **(known.conditions() if known else {})}
        answer = self._client.get(url, headers=headers, limit=PAGE_LIMIT)
        if answer.status == 304 and known is not None:
            return known.body, known.kind, known.url
        fresh = _Cached.of(answer)
        if fresh.conditions():
            self._store.set_note(_NAMESPACE, key, fresh.head(), fresh.body)
        return fresh.body, fresh.kind, fresh.url

    def _links(self, place: str) -> tuple[ParsedPage, ...]:
        """Everything that a find-links place offers, whatever project it belongs to; asked for once."""
        url = _find_links_url(place)
        nobody = NormalizedName("")
        if _is_file(url):
            path = _path(url)
            try:
                if path.is_dir():
                    names = sorted(entry.name for entry in path.iterdir() if entry.is_file())
                    return (folder_page(names, with_slash(url)),)
                return (parse_page(path.read_bytes(), HTML_TYPE, url, project=nobody, index=url),)
            except OSError as error:
                raise IndexPageError(f"find-links {redact(url)} can't be read: {error.strerror or error}.") from error
        body, kind, final = self._fetch(url)
        return (parse_page(body, kind, final, project=nobody, index=url),)


@dataclass(frozen=True, slots=True)
class _Cached:
    """A page as a note in the store: one line of JSON, then the body."""

    url: str
    kind: str
    etag: str
    modified: str
    body: bytes

    @classmethod
    def of(cls, answer: Response) -> _Cached:
        headers = answer.headers
        return cls(
            url=without_credentials(answer.url),
            kind=headers.get("content-type", ""),
            etag=headers.get("etag", ""),
            modified=headers.get("last-modified", ""),
            body=answer.body,
        )

    @classmethod
    def read(cls, note: bytes | None) -> _Cached | None:
        if note is None:
            return None
        head, _, body = note.partition(b"\n")
        try:
            url, kind, etag, modified = json.loads(head)
        except ValueError:  # another version of airgap wrote it
            return None
        return cls(url, kind, etag, modified, body)

    def head(self) -> bytes:
        return json.dumps([self.url, self.kind, self.etag, self.modified]).encode() + b"\n"

    def conditions(self) -> dict[str, str]:
        """Request headers that ask for the page only if it has changed; none where the server gave no validator."""
        if self.etag:
            return {"if-none-match": self.etag}
        return {"if-modified-since": self.modified} if self.modified else {}


def _find_links_url(place: str) -> str:
    return place if "://" in place or place.startswith("file:") else Path(place).resolve().as_uri()


def _is_file(url: str) -> bool:
    return urlsplit(url).scheme == "file"


def _path(url: str) -> Path:
    return Path(url2pathname(urlsplit(url).path))


def _local_page(url: str, project: NormalizedName, index: str) -> ParsedPage | None:
    """A project's page of a static index on disk, such as an unpacked bundle."""
    try:
        body = (_path(url) / "index.html").read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise IndexPageError(f"{url} can't be read: {error.strerror or error}.") from error
    return parse_page(body, HTML_TYPE, url, project=project, index=index)
