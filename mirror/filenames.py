"""Names of distribution files: which project and version they say they are. Pure, and cheap enough for 10,000 links."""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import NamedTuple

from packaging.utils import NormalizedName, canonicalize_name

#: Endings of source distributions that indexes carry, PEP 625's first.
SDIST_ENDINGS = (".tar.gz", ".zip", ".tar.bz2", ".tgz", ".tar.xz")


@lru_cache(maxsize=4096)
def normalised(name: str) -> NormalizedName:
    """The same object for every spelling of a name: thousands of values hold it."""
    return NormalizedName(sys.intern(canonicalize_name(name)))


class Split(NamedTuple):
    """What a file name says: normalised project, version as written, and whether it is a wheel."""

    project: NormalizedName
    version: str
    is_wheel: bool


def split_filename(filename: str, project: str | None = None) -> Split | None:
    """Split a wheel's or sdist's name; None where it is neither. The version is not validated.

    A wheel's name is unambiguous (PEP 427). An old sdist's may not be: ``foo-1.0-1.tar.gz`` is version ``1.0-1`` of
    ``foo``, or ``1`` of ``foo-1.0``. A normalised *project* settles that; without it the last dash separates (PEP 625).
    """
    if filename.endswith(".whl"):
        parts = filename[:-4].split("-")
        if len(parts) not in (5, 6) or not all(parts):
            return None
        return Split(normalised(parts[0]), parts[1], is_wheel=True)
    for ending in SDIST_ENDINGS:
        if filename.endswith(ending):
            stem = filename[: -len(ending)]
            break
    else:
        return None
    if project is not None:
        dash = stem.find("-")
        while dash != -1:
            if dash + 1 < len(stem) and normalised(stem[:dash]) == project:
                return Split(normalised(stem[:dash]), stem[dash + 1 :], is_wheel=False)
            dash = stem.find("-", dash + 1)
    name, dash_, version = stem.rpartition("-")
    return Split(normalised(name), version, is_wheel=False) if name and dash_ and version else None
