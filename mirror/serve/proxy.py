"""The proxy repository: a remote simple index, its pages and files kept here once they were asked for."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote, urlsplit, urlunsplit

from packaging.utils import canonicalize_name

from mirror.config.served import Served
from mirror.errors import AirgapError, HashMismatchError, HTTPError, IndexPageError, IntegrityError, NetworkError
from mirror.index import static
from mirror.index.simple import ACCEPT, PageEntry, ParsedPage, parse_page, parse_root
from mirror.metadata.core import parse
from mirror.metadata.wheel import wheel_metadata
from mirror.models import File
from mirror.serve.audit import Audit
from mirror.serve.blobs import Blob, Blobs
from mirror.serve.catalog import Catalog, CatalogFile, Repository
from mirror.serve.flights import Flight, Once
from mirror.serve.hosted import stored_content, summary
from mirror.serve.recent import Recent
from mirror.serve.repository import FILE_LIMIT, LOG, Content, Names, Page, file_path, stored_page
from mirror.store import Store
from mirror.urls import origin

if TYPE_CHECKING:  # importing it costs an HTTP library, which only a repository with a remote needs
    from mirror.net import Client

T = TypeVar("T")

#: Makes the client that reaches a proxy's remote.
Connect = Callable[[Served], "Client"]

PAGE_LIMIT = 256 * 1024 * 1024
_METADATA_LIMIT = 64 * 1024 * 1024
#: Seconds for which a remote that did not answer is not asked again.
_REST = 20.0
#: Bytes of pages as they came, and as much again for what was read of them.
_IN_MEMORY = 64 * 1024 * 1024
_OVERHEAD = 1024
_DOWNLOADS = 16
_REACH = 1024 * 1024


@dataclass(frozen=True)
class _Held:
    """A remote's answer to a request for a page, as it is kept. ``checked`` is the time of day in seconds."""

    status: int
    url: str
    kind: str
    etag: str
    modified: str
    checked: float
    body: bytes

    @cached_property
    def tag(self) -> str:
        return hashlib.sha256(self.body).hexdigest()[:32]

    def write(self) -> bytes:
        head = [self.status, self.url, self.kind, self.etag, self.modified, self.checked]
        return json.dumps(head).encode() + b"\n" + self.body

    @classmethod
    def read(cls, note: bytes | None) -> _Held | None:
        if note is None:
            return None
        head, _, body = note.partition(b"\n")
        try:
            status, url, kind, etag, modified, checked = json.loads(head)
        except ValueError:  # another version of airgap wrote it
            return None
        return cls(status, url, kind, etag, modified, checked, body)


class ProxyRepository:
    """Serves what a remote has. A file is kept when its digest is the promised one, and then never asked for again.

    A page is asked for again when it is older than ``max_age``, and the old one serves where the remote then fails.
    With ``offline`` only what the catalog has is there. *loop* is a text that no other server sends: a remote that
    leads back here is found out by it. *observe* is told what was asked for, and whether it was here.
    """

    kind = "proxy"

    def __init__(
        self,
        served: Served,
        catalog: Catalog,
        blobs: Blobs,
        notes: Store,
        audit: Audit,
        connect: Connect,
        loop: str,
        observe: Callable[[str, str], None],
    ) -> None:
        self.name = served.name
        self._served = served
        self._catalog = catalog
        self._blobs = blobs
        self._notes = notes
        self._audit = audit
        self._connect = connect
        self._observe = observe
        self._via = {"via": f"1.1 {loop}"}
        self._lock = threading.Lock()
        self._opened: Client | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._asking: Once[_Held] = Once()
        self._memory: Recent[_Held] = Recent(_IN_MEMORY)
        self._parsed: Recent[ParsedPage] = Recent(_IN_MEMORY)
        self._flights: dict[str, Flight] = {}
        self._resting: tuple[float, NetworkError] | None = None

    def close(self) -> None:
        """End downloads and close connections."""
        with self._lock:
            client, self._opened, pool, self._pool = self._opened, None, self._pool, None
        if client is not None:
            client.close()
        if pool is not None:
            pool.shutdown(cancel_futures=True)

    def projects(self) -> Iterable[str]:
        """The projects that the remote lists; offline those of which a file is here."""
        if self._served.offline:
            return Names(lambda: self._catalog.projects(self.name))
        held = self._held("")
        names = parse_root(held.body, held.kind, held.url) if held.status == 200 else []
        return sorted({canonicalize_name(name) for name in names})

    def page(self, project: str, *, whole: bool = True) -> Page | None:
        """The remote's page with links that lead here; None where the remote has no such project."""
        if self._served.offline:
            return stored_page(self._catalog, self.name, project, whole=whole)
        held = self._held(project)
        if held.status != 200:
            return None
        parsed = self._parse(project, held)
        return Page(held.tag, lambda: _entries(parsed), parsed.status)

    def content(self, project: str, version: str, filename: str) -> Content | None:
        """A file from here, or on its way from the remote."""
        name = filename.removesuffix(".metadata")
        row = self._catalog.file(self.name, name)
        if self._served.offline:
            return stored_content(row, self._blobs, project, version, filename)
        offered = self._offered(project, version, name, fresh=row is None)
        if row is not None and offered is not None and offered.hashes.sha256 not in (None, row.sha256):
            LOG.warning(
                "%s: the remote has other bytes for %s than before; they replace the cached ones", self.name, name
            )
            self._catalog.remove(self.name, name)
            row = None
        if filename.endswith(".metadata"):
            return self._metadata(offered)
        if row is not None and self._blobs.has(row.sha256):
            self._observe("file", "hit")
            return stored_content(row, self._blobs, project, version, filename)
        if offered is None:
            return None
        self._observe("file", "miss")
        return Content(flight=self._flight(offered), sha256=offered.hashes.sha256 or "")

    def forget_unused(self) -> int:
        """Take out of the catalog what nobody asked for in ``keep_days``; return how many files. Offline: nothing.

        Installers read a page before its files, and a page is noted anew whenever it was older than ``max_age``.
        """
        served = self._served
        if served.keep_days is None or served.offline:
            return 0
        before = time.time() - max(served.keep_days * 86400, served.max_age)
        count = 0
        for project in self._catalog.projects(self.name):
            if (self._notes.noted("pages", self._page_url(project)) or 0.0) < before:
                for file in self._catalog.files(self.name, project):
                    self._catalog.remove(self.name, file.filename)
                    self._audit.write(f"proxy:{self.name}", "forget", self.name, file.filename, file.sha256)
                    count += 1
        for namespace in ("pages", "metadata"):
            self._notes.drop_notes(namespace, before)
        return count

    # Pages

    def _held(self, project: str, *, fresh: bool = True) -> _Held:
        """The remote's answer for a project, or for its root; where not *fresh*, of any age if there is one here."""
        held = self._memory.get(project) or _Held.read(self._notes.note("pages", self._page_url(project)))
        if held is not None and (not fresh or self._young(held)):
            self._memory.put(project, held, len(held.body) + _OVERHEAD)
            self._observe("page", "hit")
            return held
        return self._asking(project, lambda: self._ask(project, held))

    def _young(self, held: _Held) -> bool:
        age = time.time() - held.checked
        return 0 <= age < (self._served.max_age if held.status == 200 else self._served.negative_max_age)

    def _ask(self, project: str, known: _Held | None) -> _Held:
        url = self._page_url(project)
        headers = {"accept": ACCEPT, **self._via}
        if known is not None and known.status == 200 and known.etag:
            headers["if-none-match"] = known.etag
        elif known is not None and known.status == 200 and known.modified:
            headers["if-modified-since"] = known.modified
        try:
            answer = self._reach(lambda client: client.get(url, headers=headers, limit=PAGE_LIMIT, accept=(404, 410)))
            if answer.status == 304 and known is not None:
                held = replace(known, checked=time.time())
            else:
                found = answer.headers
                held = _Held(
                    status=200 if answer.status < 400 else 404,
                    url=answer.url,
                    kind=found.get("content-type", ""),
                    etag=found.get("etag", ""),
                    modified=found.get("last-modified", ""),
                    checked=time.time(),
                    body=answer.body if answer.status < 400 else b"",
                )
                if held.status == 200 and project:
                    self._parse(project, held)  # what is no index page is an error, and not kept
        except NetworkError as error:
            if known is None or known.status != 200:
                raise
            LOG.warning("%s: an old page of %s is served: %s", self.name, project or "the root", error)
            self._notes.set_note("pages", url, known.write())  # so that it counts as asked for
            self._observe("page", "stale")
            return known
        self._observe("page", "miss")
        if held.status == 200 or known is not None:  # names that nobody ever had must not fill the disk
            self._notes.set_note("pages", url, held.write())
        self._memory.put(project, held, len(held.body) + _OVERHEAD)
        return held

    def _parse(self, project: str, held: _Held) -> ParsedPage:
        parsed = self._parsed.get(f"{project} {held.tag}")
        if parsed is None:
            parsed = parse_page(held.body, held.kind, held.url, project=project, index=self._served.remote)
            self._parsed.put(f"{project} {held.tag}", parsed, len(held.body) + _OVERHEAD)
        return parsed

    def _page_url(self, project: str) -> str:
        return f"{self._served.remote}{quote(project)}/" if project else self._served.remote

    # Files

    def _offered(self, project: str, version: str, filename: str, *, fresh: bool) -> File | None:
        """What the remote's page says about a file; None where it is not on it. Only *fresh* ones may be asked for."""
        try:
            held = self._held(project, fresh=False) if not fresh else self._held(project)
        except NetworkError:
            if fresh:
                raise
            return None
        if held.status != 200:
            return None
        parsed = self._parse(project, held)
        try:
            file = parsed.file(list(parsed.filenames).index(filename))
        except (ValueError, IndexPageError):
            return None
        return file if file.version == version and _is_promised(file, parsed) else None

    def _metadata(self, offered: File | None) -> Content | None:
        if offered is None or offered.metadata is None:
            return None
        if offered.metadata.strongest is None and origin(offered.url) != origin(self._served.remote):
            return None
        key = f"{self.name} {offered.filename} {offered.hashes.strongest}"
        data = self._notes.note("metadata", key)
        if data is None:
            parts = urlsplit(offered.url)
            url = urlunsplit(parts._replace(path=f"{parts.path}.metadata"))
            answer = self._reach(lambda client: client.get(url, headers=self._via, limit=_METADATA_LIMIT))
            data = answer.body
            for algorithm, promised in offered.metadata:
                found = hashlib.new(algorithm, data, usedforsecurity=False).hexdigest()
                if found != promised:
                    raise HashMismatchError(
                        f"{offered.filename}.metadata: the {algorithm} should be {promised}, but it is {found}."
                    )
            self._notes.set_note("metadata", key, data)
        return Content(data=data, sha256=hashlib.sha256(data).hexdigest())

    def _flight(self, file: File) -> Flight:
        """The way in of a file, shared by everybody who asks for it now."""
        with self._lock:
            flight = self._flights.get(file.filename)
            if flight is None:
                flight = self._flights[file.filename] = Flight(file.size)
                if self._pool is None:
                    self._pool = ThreadPoolExecutor(_DOWNLOADS, thread_name_prefix=f"proxy-{self.name}")
                self._pool.submit(self._fly, file, flight)
            return flight

    def _fly(self, file: File, flight: Flight) -> None:
        try:
            blob = self._reach(lambda client: self._download(client, file, flight))
        except BaseException as error:  # noqa: BLE001 - whoever follows must see it
            LOG.warning("%s: %s could not be fetched: %s", self.name, file.filename, error)
            flight.failed(error)
        else:
            flight.landed(blob)
        finally:
            with self._lock:
                del self._flights[file.filename]

    def _download(self, client: Client, file: File, flight: Flight) -> Blob:
        expected = dict(file.hashes)
        others = {name: hashlib.new(name, usedforsecurity=False) for name in expected if name != "sha256"}
        with self._blobs.incoming(()) as incoming:
            shown = 0
            for chunk in client.download(file.url, size=file.size, headers=self._via):
                incoming.write(chunk)
                if incoming.size > FILE_LIMIT:
                    raise IntegrityError(f"{file.filename}: the remote sent more than {FILE_LIMIT} bytes.")
                for hasher in others.values():
                    hasher.update(chunk)
                if incoming.size - shown >= _REACH or not shown:
                    flight.grown(incoming.flush(), incoming.size)
                    shown = incoming.size
            found = {**incoming.digests(), **{name: hasher.hexdigest() for name, hasher in others.items()}}
            for name, promised in expected.items():
                if found[name] != promised:
                    raise HashMismatchError(
                        f"{file.filename}: the remote promised the {name} {promised}, but sent {found[name]}."
                    )
            raw = _own_metadata(incoming.flush(), file)
            metadata_sha256 = self._blobs.add(raw) if raw else None
            row = CatalogFile(
                project=file.project,
                version=file.version,
                filename=file.filename,
                size=incoming.size,
                sha256=incoming.commit(),
                md5=found.get("md5", ""),
                blake2_256="",
                metadata_sha256=metadata_sha256,
                requires_python=file.requires_python,
                yanked=file.yanked,
                upload_time=file.upload_time or datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
                summary=summary(raw) if raw else None,
            )
        self._catalog.remove(self.name, file.filename)
        self._catalog.add(Repository(self.name, "proxy"), row)
        self._audit.write(f"proxy:{self.name}", "cache", self.name, file.filename, row.sha256)
        return self._blobs.get(row.sha256)

    # The remote

    def _reach(self, ask: Callable[[Client], T]) -> T:
        """Ask the remote, unless it gave no answer a moment ago."""
        resting = self._resting
        if resting is not None and time.monotonic() < resting[0]:
            raise NetworkError(str(resting[1]), hint=resting[1].hint, retryable=True)
        with self._lock:
            if self._opened is None:
                self._opened = self._connect(self._served)
            client = self._opened
        try:
            return ask(client)
        except NetworkError as error:
            if not isinstance(error, HTTPError | IndexPageError) or (isinstance(error, HTTPError) and error.retryable):
                self._resting = time.monotonic() + _REST, error
            raise


def _entries(page: ParsedPage) -> Sequence[PageEntry]:
    """Every usable file of the remote's page, linked to this server."""
    entries: list[PageEntry] = []
    for position in range(len(page.filenames)):
        try:
            file = page.file(position)
        except IndexPageError:
            continue  # a link that no installer could take either; ParsedPage.skipped has the reasons
        if not _is_promised(file, page):
            continue
        path = file_path(file.project, file.version, file.filename)
        entries.append(static.entry_of(file, f"../../{path}"))
    return entries


def _is_promised(file: File, page: ParsedPage) -> bool:
    """Whether a file may be fetched: with a digest from anywhere, without one only from where the page came from.

    A remote could otherwise have this server fetch what only this server can reach, and read it here.
    """
    return file.hashes.strongest is not None or origin(file.url) == origin(page.url)


def _own_metadata(path: Path, file: File) -> bytes | None:
    """A wheel's METADATA; None where it can't be read: the remote's files are what they are."""
    if not file.is_wheel:
        return None
    try:
        with path.open("rb") as stream:
            raw = wheel_metadata(stream, file.filename)
        parse(raw, filename=file.filename)
    except AirgapError:
        return None
    return raw
