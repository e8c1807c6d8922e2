"""What the user lets run, as a value; apart from what builds, which few runs load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from packaging.utils import NormalizedName, canonicalize_name


@dataclass(frozen=True, slots=True)
class Building:
    """What may run: the projects whose sdists may be built, and those of which wheels are wanted."""

    allowed: frozenset[NormalizedName] = frozenset()
    wheels: frozenset[NormalizedName] = frozenset()

    @classmethod
    def of(cls, allow: Sequence[str], wheels: Sequence[str]) -> Building:
        """From names in any spelling; who wants a wheel built also lets its metadata be built."""
        wanted = frozenset(map(canonicalize_name, wheels))
        return cls(frozenset(map(canonicalize_name, allow)) | wanted, wanted)
