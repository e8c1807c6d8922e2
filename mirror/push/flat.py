"""Repositories that keep every file in one folder and list that folder with digests, as pypiserver does.

There each page of the index costs a look at every file, however few of them it shows; the list costs one for all.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from mirror.errors import IntegrityError, NetworkError
from mirror.index.simple import ACCEPT, parse_page
from mirror.models import Hashes
from mirror.net import SEND_LIMIT, Client
from mirror.urls import origin

#: no-cache: what a proxy in between remembers from before an upload must not answer the question what is there now.
PAGE_HEADERS = {"accept": ACCEPT, "cache-control": "no-cache"}

# Fewer pages than this are read one by one, whatever they take.
_MANY = 16
# How much more the list may show than is asked for while nobody knows how long it takes: a server may hash every file.
_SHARE = 2
# A list of so few projects takes little time, whatever the server does for it.
_SHORT = 64


class FlatFolder:
    """The folder of one repository's files, if it has such a one; found out from where its pages say that files are."""

    def __init__(self, client: Client, index_url: str) -> None:
        self._client = client
        self._origin = origin(index_url)
        self._url = ""
        self._project = ""
        self._sure = False
        self._ruled_out = False
        self._lock = threading.Lock()
        self._tried = False
        self._lists = False
        self._page_takes = 0.0
        self._list_takes = 0.0

    @property
    def known(self) -> bool:
        """Whether files of two projects were in it, and nothing since has spoken against it."""
        return self._sure and not self._ruled_out

    @property
    def lists(self) -> bool:
        """Whether it has shown its files, too: many servers keep all files in one folder and show none of that."""
        return self.known and self._lists

    def learn(self, project: str, url: str, seconds: float) -> None:
        """A file of *project* is at *url*, says a page that took so many *seconds*."""
        folder = f"{url.rpartition('/')[0]}/"
        self._page_takes = seconds
        if not self._url:
            self._url, self._project = folder, project
            self._ruled_out = origin(folder) != self._origin
        elif folder != self._url:
            self._ruled_out = True
        elif project != self._project:
            self._sure = True

    def is_cheaper(self, projects: int, shown: int | None) -> bool:
        """Whether to ask for the list in place of so many *projects*' pages; the repository shows *shown*, if known."""
        if not self.known or projects < _MANY:
            return False
        if self._lists:
            return self._list_takes < self._page_takes * projects
        return shown is not None and projects * _SHARE >= shown

    def try_out(self, shown: int | None) -> None:
        """Find out whether it shows its files, once, where that takes little: the repository shows *shown* projects."""
        if not self.known or shown is None or shown > _SHORT:
            return
        with self._lock:
            tried, self._tried = self._tried, True
        if not tried:
            self.files()

    def files(self) -> Mapping[str, Hashes] | None:
        """The digests of every file; None where the folder shows none, which is not asked again."""
        began = time.monotonic()
        self._tried = True
        try:
            answer = self._client.send("GET", self._url, headers=PAGE_HEADERS)
            if answer.status == 200 and len(answer.body) < SEND_LIMIT:
                kind = answer.headers.get("content-type", "")
                page = parse_page(answer.body, kind, answer.url, project="", index=self._url)
                found = {name: page.read(link).hashes for name, link in zip(page.filenames, page.links, strict=True)}
                if found and all(hashes.sha256 for hashes in found.values()):
                    self._lists, self._list_takes = True, time.monotonic() - began
                    return found
        except (NetworkError, IntegrityError):
            pass
        self._ruled_out = True
        return None
