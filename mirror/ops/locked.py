"""The lock's digests, held against the bytes that came: an index need not have shown what a lock names."""

from __future__ import annotations

import hashlib

from mirror.errors import HashMismatchError
from mirror.models import WEAK_DIGESTS, File, RequirementSet
from mirror.store import Store

_BLOCK = 2**20


class Locked:
    """Which digests the lines of a requirement set allow for each project, and the bytes in *store*."""

    def __init__(self, wanted: RequirementSet, store: Store) -> None:
        self._store = store
        self._allowed: dict[str, set[str]] = {}
        for line in (*wanted.requirements, *wanted.constraints):
            if line.hashes:
                self._allowed.setdefault(line.project, set()).update(line.hashes)

    def check(self, file: File, sha256: str) -> None:
        """Raise a HashMismatchError where the lock names digests for the file's project, and none that it has.

        What an index says of other digests than its *sha256* counts for nothing: they are made of the bytes.
        """
        allowed = self._allowed.get(file.project)
        if not allowed or f"sha256:{sha256}" in allowed:
            return
        algorithms = {text.partition(":")[0] for text in allowed}
        for algorithm in sorted(algorithms - WEAK_DIGESTS or algorithms):
            if f"{algorithm}:{self._digest(algorithm, sha256)}" in allowed:
                return
        raise HashMismatchError(
            f"{file.filename} from {file.index} has sha256 {sha256}, which the lock does not name.",
            hint="Lock again if the index is right, or find out why it serves another file.",
        )

    def _digest(self, algorithm: str, sha256: str) -> str:
        digest = hashlib.new(algorithm, usedforsecurity=False)
        with self._store.open(sha256) as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
        return digest.hexdigest()
