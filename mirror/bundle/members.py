"""The members of a bundle that is being made, other than its distribution files: in a temporary file, not in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from mirror.bundle.manifest import Member
from mirror.store import Scratch

_CHUNK = 2**18


class Members:
    """Bytes by path, in *scratch*, to which nobody else writes."""

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch
        self._places: dict[str, tuple[int, int]] = {}

    def put(self, path: str, pieces: Iterable[bytes]) -> Member:
        """Keep *pieces*, one after the other, under *path*."""
        digest = hashlib.sha256()
        start = end = self._scratch.write(b"")
        for chunk in _chunks(pieces):
            digest.update(chunk)
            end = self._scratch.write(chunk) + len(chunk)
        self._places[path] = start, end
        return Member(path, end - start, digest.hexdigest())

    def chunks(self, path: str) -> Iterator[bytes]:
        """Yield what was put under *path*."""
        start, end = self._places[path]
        for place in range(start, end, _CHUNK):
            yield self._scratch.read(place, min(place + _CHUNK, end))

    def only(self, paths: Iterable[str]) -> Members:
        """Those of *paths*, to which others can be put."""
        found = Members(self._scratch)
        found._places = {path: self._places[path] for path in paths}
        return found


def _chunks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield *pieces* put together to chunks worth writing."""
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= _CHUNK:
            yield b"".join(waiting)
            waiting.clear()
            size = 0
    if waiting:
        yield b"".join(waiting)
