"""Project pages from indexes and find-links places: fetched once per run, revalidated across runs."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit
from urllib.request import url2pathname

from packaging.utils import NormalizedName

from mirror.errors import IndexPageError, NotFoundError
from mirror.index.answer import ACCEPT, PAGE_LIMIT, Answer, Asked
from mirror.index.simple import HTML_TYPE, ParsedPage, folder_page, parse_page
from mirror.index.sources import Source, Sources
from mirror.once import Once
from mirror.store import Scratch, Store
from mirror.urls import redact, with_slash, without_credentials

if TYPE_CHECKING:  # importing it costs an HTTP library, which whoever has a Client has paid for
    from mirror.net import Client

_NAMESPACE = "pages"


class IndexClient(AbstractContextManager["IndexClient"]):
    """Finds a project's pages. Safe to use from many threads; a context manager that drops them at its end.

    *indexes* are simple indexes (http, https, or file for a static one), the most wanted first; *find_links* are
    folders, or URLs of folders or pages. Both may carry credentials; pages never do. With *best_match* every index
    that may serve a project is asked, as pip does it, and not only the first that has it. *fresh* has the digests of
    pages that were asked for a moment ago, by URL without credentials. Where *asked* is given, it receives every index
    that is asked about a project over the network, and what it said, in no order.
    """

    def __init__(
        self,
        client: Client,
        store: Store,
        *,
        indexes: Sequence[Source | str],
        find_links: Sequence[str] = (),
        best_match: bool = False,
        fresh: Mapping[str, str] = MappingProxyType({}),
        asked: list[Asked] | None = None,
    ) -> None:
        self._client = client
        self._store = store
        self._sources = Sources(indexes)
        self._best_match = best_match
        self._fresh = fresh
        self._find_links = tuple(find_links)
        # Parsing takes many times the memory of what is kept, and threads would take turns at it in any case.
        self._parsing = threading.Lock()
        self._scratch: Scratch | None = None  # lasts for as long as somebody has a page that lies in it
        self._found: Once[tuple[str, str], tuple[ParsedPage, ...]] = Once()
        self._asked = asked

    def __exit__(self, *_: object) -> None:
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
            found = self._fetch(url)
            self._note(index, project, found)
            with self._parsing:
                self._scratch = self._scratch or self._store.scratch()
                page = parse_page(found.body, found.kind, found.url, project=project, index=index)
                return page.kept_in(self._scratch)
        except NotFoundError:
            self._note(index, project, None)
            return None
        except IndexPageError as error:
            told = f"The page of {project} on {redact(without_credentials(index))} can't be used: {error}"
            raise IndexPageError(told, hint=error.hint) from error

    def _note(self, index: str, project: str, answer: Answer | None) -> None:
        if self._asked is not None:
            self._asked.append(Asked.of(index, project, answer))

    def _fetch(self, url: str) -> Answer:
        """Return a page, asking the server only whether it has changed."""
        key = without_credentials(url)
        known = Answer.read(self._store.note(_NAMESPACE, key))
        fresh = self._fresh.get(key)
        if known is not None and fresh:
            if known.digest == fresh:
                return known
            known = None  # it is not what the index said a moment ago, so no 304 may stand for it
        headers = {"accept": ACCEPT, **(known.conditions() if known else {})}
        answer = self._client.get(url, headers=headers, limit=PAGE_LIMIT)
        if answer.status == 304 and known is not None:
            return known
        found = Answer.of(answer)
        if found.conditions():
            self._store.set_note(_NAMESPACE, key, found.head(), found.body)
        return found

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
        found = self._fetch(url)
        return (parse_page(found.body, found.kind, found.url, project=nobody, index=url),)


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
        if not _path(index).is_dir():  # else every project would be said to be on no index
            raise IndexPageError(f"{redact(index)} is not a folder.", hint="Check the index URL.") from None
        return None
    except OSError as error:
        raise IndexPageError(f"{url} can't be read: {error.strerror or error}.") from error
    return parse_page(body, HTML_TYPE, url, project=project, index=index)
