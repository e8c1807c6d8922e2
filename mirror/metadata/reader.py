"""Core metadata of files on an index, by the cheapest way that can be trusted."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit, urlunsplit

from packaging.requirements import Requirement
from packaging.version import Version

from mirror.errors import HashMismatchError, MetadataError, NeedsBuildError, NotFoundError
from mirror.metadata import sdist
from mirror.metadata.core import parse, trusted
from mirror.metadata.remote import NoRangesError, remote_metadata
from mirror.metadata.wheel import METADATA_LIMIT, wheel_metadata
from mirror.models import Event, File, Hashes, Metadata, Reporter, Stage, silent
from mirror.once import Once
from mirror.store import Scratch, Store
from mirror.urls import origin, redact

if TYPE_CHECKING:  # importing it costs an HTTP library, which whoever has a Client has paid for
    from mirror.net import Client

_NAMESPACE = "metadata"


class InStore(Protocol):
    """A whole file that is in the store under this digest."""

    @property
    def sha256(self) -> str: ...


class Fetching(Protocol):
    """A file on its way into the store: what a :class:`~concurrent.futures.Future` is."""

    def result(self) -> InStore: ...


class MetadataReader:
    """Reads metadata. Safe to use from many threads.

    In this order: the file itself if the store has it, what an earlier run read for the same digest, the index's
    PEP 658 file, ranged requests for the end of the wheel, the whole file through *fetch*, which keeps it. A file that
    such a request brought whole goes to *keep*, or into the store at once.
    """

    def __init__(
        self,
        client: Client,
        store: Store,
        *,
        fetch: Callable[[File], Fetching],
        keep: Callable[[File, bytes], object] | None = None,
        report: Reporter = silent,
    ) -> None:
        self._client = client
        self._store = store
        self._fetch = fetch
        self._keep = keep or (lambda _, data: store.add(data))
        self._report = report
        self._lock = threading.Lock()
        self._certain = True
        self._scratch: Scratch | None = None
        self._found: Once[tuple[str, str], Metadata] = Once()
        self._builds: dict[tuple[str, str], tuple[Requirement, ...]] = {}
        self._sizes: dict[tuple[str, str], int] = {}
        self._rangeless: set[tuple[str, str, int]] = set()

    def read(self, file: File) -> Metadata:
        """Return the metadata of *file*; a second call, from any thread, costs nothing and gives the same.

        Raises MetadataError where it is unsound, or is that of another project or version; NeedsBuildError where it is
        an sdist's that only a build could tell (PEP 643); HashMismatchError where a PEP 658 file is not what the index
        promised; NetworkError where the file can't be reached.
        """
        if file.hashes.strongest is None:
            self._certain = False
        return self._found.get(file.key, lambda: self._kept(self._read(file)))

    def known(self, file: File) -> Metadata | None:
        """What :meth:`read` returned for *file* already; None where nobody asked, or it is no sound answer."""
        return self._found.known(file.key)

    def forget(self) -> None:
        """Drop every answer of :meth:`read`; who asks again has it found anew."""
        self._found.forget()

    @property
    def certain(self) -> bool:
        """Whether every file that was asked for is known by a digest: what such a file says never changes."""
        return self._certain

    def build_requires(self, file: File) -> tuple[Requirement, ...]:
        """What building the sdist *file* needs: ``build-system.requires``, or setuptools where it says nothing."""
        key = file.key
        known = self._builds.get(key)
        if known is None:
            with self._store.open(self._fetch(file).result().sha256) as stream:
                known = self._builds[key] = sdist.build_requires(stream, file.filename)
        return known

    def size(self, file: File) -> int | None:
        """Bytes of *file*, from the index, the store, or what a server said meanwhile; None where nobody knows."""
        if file.size is not None:
            return file.size
        sha256 = file.hashes.sha256
        if sha256 is not None and self._store.has(sha256):
            return self._store.size(sha256)
        return self._sizes.get(file.key)

    def _kept(self, metadata: Metadata) -> Metadata:
        """The same, with its text in a temporary file: most of it is a description that no resolver reads."""
        with self._lock:
            self._scratch = self._scratch or self._store.scratch()
        return replace(metadata, text=self._scratch.keep(metadata.raw))

    def _read(self, file: File) -> Metadata:
        sha256, strongest = file.hashes.sha256, file.hashes.strongest
        note = ":".join(strongest) if strongest else None
        if file.is_wheel and sha256 is not None and self._store.has(sha256):
            return self._check(file, self._from_store(file, sha256))  # the truth, and as quick to read as a note
        if note is not None:
            known = self._store.note(_NAMESPACE, note)
            if known is not None:
                return self._check(file, known)
        raw = self._ask(file)
        metadata = self._check(file, raw)
        if note is not None:
            self._store.set_note(_NAMESPACE, note, raw)
        return metadata

    def _ask(self, file: File) -> bytes:
        if urlsplit(file.url).scheme != "file":
            if file.metadata is not None:
                offered = self._offered(file, file.metadata)
                if offered is not None:
                    return offered
            if file.is_wheel and origin(file.url) not in self._rangeless:
                try:
                    return self._remote(file)
                except NoRangesError:
                    self._without_ranges(file)
        return self._from_store(file, self._fetch(file).result().sha256)

    def _offered(self, file: File, promised: Hashes) -> bytes | None:
        """The index's PEP 658 file; None where the index offers it and doesn't have it, as some proxies do."""
        parts = urlsplit(file.url)
        url = urlunsplit(parts._replace(path=f"{parts.path}.metadata", fragment=""))
        try:
            raw = self._client.get(url, limit=METADATA_LIMIT).body
        except NotFoundError:
            return None
        _verify(raw, promised, f"{file.filename}.metadata on {redact(file.index)}")
        return raw

    def _remote(self, file: File) -> bytes:
        found = remote_metadata(self._client, file.url, file.filename, file.size)
        self._sizes[file.key] = found.size
        if found.whole is not None and file.hashes.sha256 is not None:
            _verify(found.whole, file.hashes, f"{file.filename} on {redact(file.index)}")
            self._keep(file, found.whole)  # so small that it is here already: not downloaded again
        return found.metadata

    def _without_ranges(self, file: File) -> None:
        place = origin(file.url)
        with self._lock:
            if place in self._rangeless:
                return
            self._rangeless.add(place)
        told = f"{place[1]} can't serve parts of files: reading metadata takes whole wheels from there."
        self._report(Event("info", Stage.RESOLVE, told))

    def _from_store(self, file: File, sha256: str) -> bytes:
        with self._store.open(sha256) as stream:
            if file.is_wheel:
                return wheel_metadata(stream, file.filename)
            return sdist.sdist_metadata(stream, file.filename)

    def _check(self, file: File, raw: bytes) -> Metadata:
        metadata = parse(raw, filename=file.filename)
        if metadata.name != file.project or Version(metadata.version) != Version(file.version):
            raise MetadataError(
                f"{file.filename} says inside that it is {metadata.name} {metadata.version}.",
                hint=f"Report it to the maintainers of {file.project}, and choose another version.",
            )
        if not file.is_wheel and not trusted(raw):
            raise NeedsBuildError({file.project: file.filename})
        return metadata


def _verify(data: bytes, promised: Hashes, shown: str) -> None:
    for algorithm, digest in promised:
        found = hashlib.new(algorithm, data, usedforsecurity=False).hexdigest()
        if found != digest:
            raise HashMismatchError(f"{shown}: the {algorithm} should be {digest}, but it is {found}.")
