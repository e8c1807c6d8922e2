"""Blobs in an S3-compatible bucket, for as many nodes as there are."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path

from mirror.errors import HashMismatchError, StorageError
from mirror.objects import Bucket
from mirror.serve.blobs import DIGESTS, STALE_SECONDS, Blob, Incoming, sweep

_NOWHERE = "nothing-is-here"  # asked for to see whether the bucket answers


class BucketBlobs:
    """Blobs below the URL *url*. An upload waits in the folder *incoming* until all of it is there and hashed."""

    def __init__(self, url: str, incoming: Path) -> None:
        self._bucket = Bucket(url)
        self._incoming = incoming

    def get(self, sha256: str) -> Blob:
        found = self._bucket.head(_key(sha256))
        if found is None:
            raise StorageError(
                f"The blob {sha256} is missing in {self._bucket.url}.",
                hint="Restore it from a backup or push it again.",
            )
        return Blob(sha256, found.size, found.modified.timestamp(), None, partial(self._read, sha256, found.size))

    def has(self, sha256: str) -> bool:
        return self._bucket.head(_key(sha256)) is not None

    def incoming(self, digests: Collection[str] = DIGESTS) -> Incoming:
        return Incoming(self._incoming, self._keep, digests)

    def add(self, data: bytes) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        if not self.has(sha256):
            self._bucket.put(_key(sha256), data)
        return sha256

    def sweep(self) -> None:
        sweep(self._incoming)

    def stale(self) -> Iterator[str]:
        for found in self._bucket.list():
            name = found.key.rpartition("/")[2]
            if found.key == _key(name) and found.modified.timestamp() < time.time() - STALE_SECONDS:
                yield name

    def remove_stale(self, sha256: str) -> int | None:
        found = self._bucket.head(_key(sha256))
        if found is None or found.modified.timestamp() >= time.time() - STALE_SECONDS:
            return None
        self._bucket.delete([found.key])
        return found.size

    def check(self) -> None:
        next(self._bucket.list(_NOWHERE), None)  # unlike a HEAD, it tells a missing bucket from an empty one

    def _keep(self, part: Path, sha256: str, size: int) -> None:
        found = self._bucket.head(_key(sha256))
        if found is None or found.size != size:
            self._bucket.put(_key(sha256), part)

    def _read(self, sha256: str, size: int, start: int, end: int) -> Iterator[bytes]:
        """Yield bytes; where it is all of them, the last only if they have the digest that they should."""
        whole, held, hasher = (start, end) == (0, size), b"", hashlib.sha256()
        for piece in self._bucket.stream(_key(sha256), start, end):
            if not whole:
                yield piece
                continue
            hasher.update(piece)
            if held:
                yield held
            held = piece
        if whole and hasher.hexdigest() != sha256:
            raise HashMismatchError(
                f"{self._bucket.url}/{_key(sha256)}: its bytes have the sha256 {hasher.hexdigest()}.",
                hint="airgap repo check finds all that are damaged.",
            )
        if held:
            yield held


def _key(sha256: str) -> str:
    return f"{sha256[:2]}/{sha256}"
