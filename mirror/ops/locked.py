"""The lock's digests, held against the bytes that came: an index need not have shown what a lock names."""

from __future__ import annotations

from mirror.errors import HashMismatchError
from mirror.models import File, Hashes, RequirementSet


class Locked:
    """Which digests the lines of a requirement set allow for each project."""

    def __init__(self, wanted: RequirementSet) -> None:
        self._allowed: dict[str, set[str]] = {}
        for line in (*wanted.requirements, *wanted.constraints):
            if line.hashes:
                self._allowed.setdefault(line.project, set()).update(line.hashes)

    def check(self, file: File, sha256: str) -> None:
        """Raise a HashMismatchError where the lock names digests for the file's project, and none that it has."""
        known = Hashes.of({**dict(file.hashes), "sha256": sha256})
        hashes = self._allowed.get(file.project)
        if hashes and not any(f"{algorithm}:{digest}" in hashes for algorithm, digest in known):
            raise HashMismatchError(
                f"{file.filename} from {file.index} has sha256 {sha256}, which the lock does not name.",
                hint="Lock again if the index is right, or find out why it serves another file.",
            )
