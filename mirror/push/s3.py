"""Publisher for a static index in an S3-compatible bucket; :mod:`mirror.index.static` has the layout of its pages.

Files come first, under names that hold their digest: ``packages/SHA256/FILE``. Whoever puts the same name puts the same
bytes, so that nothing is ever overwritten. Pages are put under the condition that they are still what was read
(``If-Match``, ``If-None-Match``), so that pushes at the same time lose nothing. The JSON page decides what is listed;
the HTML page is made of it afterwards, and a file counts as listed where both list it: a push that was killed in
between is finished by the next.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Collection, Mapping

from mirror.errors import AirgapError, StorageError
from mirror.index import static
from mirror.index.simple import PageEntry
from mirror.models import Hashes
from mirror.net.retry import delay
from mirror.objects import Bucket
from mirror.push.directory import listed_with, read_entries
from mirror.push.publisher import PageByPage, TransientUploadError, Upload

# A name with a digest in it always has the same content; a page is to be asked for each time.
_FILES_KEPT, _PAGES_KEPT = "public, max-age=31536000, immutable", "no-cache"
_TRUTH, _MADE = "index.json", "index.html"
# A put fails only where somebody else's succeeded.
_TRIES = 40


class BucketPublisher(PageByPage):
    """The static index in *bucket*. Several pushes at once lose nothing, from any number of machines."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._lock = threading.Lock()
        self._named: set[str] = set()

    @property
    def url(self) -> str:
        return self._bucket.url

    @property
    def digests(self) -> Collection[str]:
        return ()

    def projects(self) -> Collection[str] | None:
        try:
            return self._names(_TRUTH) & self._names(_MADE)
        except StorageError:
            return None

    def listing(self, project: str) -> Mapping[str, Hashes]:
        made = self._entries(_MADE, project)
        return {
            filename: entry.hashes
            for filename, entry in self._entries(_TRUTH, project).items()
            if filename in made and made[filename].hashes.agrees(entry.hashes)
        }

    def digest(self, project: str, filename: str) -> str | None:
        entry = self._entries(_TRUTH, project).get(filename)
        place = static.linked_path(entry.url) if entry is not None else None
        if place is None or self._bucket.head(place) is None:
            return None
        sha256 = hashlib.sha256()
        for piece in self._bucket.stream(place):
            sha256.update(piece)
        return sha256.hexdigest()

    def upload(self, upload: Upload) -> None:
        place = f"packages/{upload.hashes.sha256}/{upload.filename}"
        # Asked now as well as when the page is put: a file that is in conflict need not be sent.
        listed_with(upload, place, self._entries(_TRUTH, upload.project))
        there = self._bucket.head(place)
        if there is None or there.size != upload.size:
            self._bucket.put(place, upload.path, cache=_FILES_KEPT)
        if upload.metadata and upload.filename.endswith(".whl"):
            self._bucket.put(f"{place}.metadata", upload.metadata, cache=_FILES_KEPT)
        self._name(upload.project)
        self._list(upload, place)

    def _name(self, project: str) -> None:
        """Have the root pages name *project*."""
        with self._lock:
            if project in self._named:
                return
            self._change(static.page_path(_TRUTH), lambda body: _root(_TRUTH, {*self._named_on(body), project}))
            self._change(static.page_path(_MADE), lambda _: _root(_MADE, self._names(_TRUTH)))
            self._named.add(project)

    def _list(self, upload: Upload, place: str) -> None:
        """Have the pages of the project list *upload*, which is at *place*."""
        truth, made = (static.page_path(name, upload.project) for name in (_TRUTH, _MADE))

        def with_upload(body: bytes | None) -> bytes:
            entries = {} if body is None else read_entries(body, _TRUTH, upload.project, f"{self.url}/{truth}")
            return static.project_pages(upload.project, listed_with(upload, place, entries).values())[truth]

        def from_truth(_: bytes | None) -> bytes:
            return static.project_pages(upload.project, self._entries(_TRUTH, upload.project).values())[made]

        self._change(truth, with_upload)
        self._change(made, from_truth)

    def _change(self, path: str, new: Callable[[bytes | None], bytes]) -> None:
        """Put what *new* makes of the page at *path*, None where there is none, unless somebody did so meanwhile."""
        kind = static.PAGES[path.rpartition("/")[2]]
        for failures in range(1, _TRIES + 1):
            found = self._bucket.get(path)
            # What it is made of is read after the page that it replaces: so no page goes back to an older content.
            body = new(found[0] if found is not None else None)
            if found is None:
                done = self._bucket.create(path, body, kind, _PAGES_KEPT)
            else:
                done = body == found[0] or self._bucket.replace(path, body, found[1].etag, kind, _PAGES_KEPT)
            if done:
                return
            time.sleep(delay(min(failures, 3), None))
        raise TransientUploadError(f"{self.url}/{path} is changed by others all the time.", ambiguous=True)

    def _entries(self, name: str, project: str) -> dict[str, PageEntry]:
        path = static.page_path(name, project)
        found = self._bucket.get(path)
        return {} if found is None else read_entries(found[0], name, project, f"{self.url}/{path}")

    def _names(self, name: str) -> frozenset[str]:
        found = self._bucket.get(static.page_path(name))
        return self._named_on(found[0] if found is not None else None, name)

    def _named_on(self, body: bytes | None, name: str = _TRUTH) -> frozenset[str]:
        try:
            return frozenset(static.read_root(body, name) if body is not None else ())
        except AirgapError as error:
            raise StorageError(
                f"{self.url}/{static.page_path(name)} can't be read as an index page: {error}",
                hint="Delete it: it is made anew, with the projects that are pushed from then on.",
            ) from error


def _root(name: str, projects: Collection[str]) -> bytes:
    return static.root_pages(projects)[static.page_path(name)]
