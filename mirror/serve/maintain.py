"""Garbage collection, and the proof that catalog and blobs agree."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from mirror.errors import HashMismatchError, StorageError
from mirror.serve.home import Home
from mirror.serve.proxy import ProxyRepository

#: Blobs that are read beside each other: a bucket is far away.
_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Collected:
    """What a garbage collection removed; ``size`` is in bytes, ``forgotten`` files went from proxies."""

    blobs: int
    size: int
    forgotten: int = 0


@dataclass(frozen=True, slots=True)
class Checked:
    """How many blobs were read, and a sentence for each that is not what the catalog says."""

    blobs: int
    problems: tuple[str, ...]


def collect(home: Home) -> Collected:
    """Remove blobs that no file needs and that are older than a day; safe beside running servers, on other nodes too.

    Before that, proxies forget what they need not keep.

    Each one goes while its digest is locked: whoever enters a file that needs it either came before, and it stays, or
    comes after, and sees that it is gone.
    """
    opened = [home.open(name) for name, served in home.repositories().items() if served.kind == "proxy"]
    forgotten = sum(proxy.forget_unused() for proxy in opened if isinstance(proxy, ProxyRepository))
    home.blobs.sweep()
    keep, count, size = home.catalog.blobs(), 0, 0
    for sha256 in home.blobs.stale():
        if sha256 not in keep:
            removed = home.catalog.unless_needed(sha256, partial(home.blobs.remove_stale, sha256))
            if removed is not None:
                count, size = count + 1, size + removed
    return Collected(count, size, forgotten)


def check(home: Home) -> Checked:
    """Read every blob that the catalog names and compare size and digest."""
    wanted = home.catalog.blobs()
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="check") as pool:
        found = pool.map(lambda item: tuple(_problems(home, *item)), sorted(wanted.items()))
        return Checked(len(wanted), tuple(problem for problems in found for problem in problems))


def _problems(home: Home, sha256: str, size: int) -> Iterator[str]:
    hasher = hashlib.sha256()
    try:
        blob = home.blobs.get(sha256)
        if size not in (-1, blob.size):
            yield f"{sha256}: it has {blob.size} bytes, and the catalog says {size}."
        for piece in blob.read(0, blob.size):
            hasher.update(piece)
    except (OSError, StorageError, HashMismatchError) as error:
        yield f"{sha256}: {error}"
        return
    if hasher.hexdigest() != sha256:
        yield f"{blob.path}: its bytes have the sha256 {hasher.hexdigest()}."
