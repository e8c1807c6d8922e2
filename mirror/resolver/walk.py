"""Whether pins that are known already are a solution: a walk along what they require, in place of a search."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from packaging.utils import NormalizedName
from packaging.version import Version

from mirror.errors import MetadataError
from mirror.models import Pin
from mirror.resolver.candidates import Finder
from mirror.resolver.dependencies import Markers, dependencies
from mirror.resolver.needs import Candidate, Need
from mirror.resolver.protocols import MetadataSource


def solves(
    pins: Iterable[Pin], roots: Iterable[Need], finder: Finder, markers: Markers, metadata: MetadataSource
) -> bool:
    """Whether *pins* meet *roots* and everything that they require in turn, with files that *finder* offers for it."""
    known = {pin.project: pin for pin in pins}
    needs: dict[NormalizedName, list[Need]] = {}
    met: set[tuple[NormalizedName, NormalizedName | None]] = set()
    todo = deque(roots)
    while todo:
        need = todo.popleft()
        pin = known.get(need.project)
        if pin is None:
            return False
        needs.setdefault(need.project, []).append(need)
        if (need.project, need.extra) in met:
            continue
        met.add((need.project, need.extra))
        try:
            candidate = Candidate(need.project, need.extra, Version(pin.version), pin.file)
            read = metadata.read(pin.file)
            if not finder.fits_python(candidate, read):
                return False
            todo.extend(dependencies(candidate, read, markers))
        except MetadataError:
            return False
    return all(
        any(candidate.file == known[project].file for candidate in finder.candidates(project, None, asked))
        for project, asked in needs.items()
    )
