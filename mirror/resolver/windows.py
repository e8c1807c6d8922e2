"""Which part of a sorted list of versions a specifier can be about, so that 10,000 versions need few comparisons."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache

from packaging.specifiers import Specifier, SpecifierSet
from packaging.version import InvalidVersion, Version


def window(versions: Sequence[Version], specifier: SpecifierSet) -> tuple[int, int]:
    """Return ``(start, stop)`` into ascending *versions*: nothing outside of it satisfies *specifier*.

    What is inside may not satisfy it either. An exact pin, a range or a compatible release narrows it, the other
    operators don't.
    """
    start, stop = 0, len(versions)
    low, high = _bounds(specifier)
    if low is not None:
        start = bisect_left(versions, low)
    if high is not None:
        stop = bisect_left(versions, high, start)
    return start, stop


@lru_cache(maxsize=65536)
def _bounds(specifier: SpecifierSet) -> tuple[Version | None, Version | None]:
    """The first version that can satisfy *specifier* and the first one after it that can't, None for open ends."""
    bounds = [_bound(spec) for spec in specifier]
    lows = [low for low, _ in bounds if low is not None]
    highs = [high for _, high in bounds if high is not None]
    return max(lows, default=None), min(highs, default=None)


def _bound(spec: Specifier) -> tuple[Version | None, Version | None]:
    text = spec.version
    try:
        if spec.operator == "==" and text.endswith(".*"):
            prefix = Version(text[:-2])
            return _first(prefix.epoch, prefix.release), _after(prefix.epoch, prefix.release)
        version = Version(text)
    except InvalidVersion:
        return None, None  # === compares text
    if spec.operator in (">=", ">"):
        return version, None
    if spec.operator == "<":
        return None, version
    if spec.operator == "~=":
        return version, _after(version.epoch, version.release[:-1])
    if spec.operator == "==":
        # A public pin also takes its local versions, which sort right behind it.
        return version, _after(version.epoch, version.release)
    if spec.operator == "<=":
        return None, _after(version.epoch, version.release)
    return None, None


def _first(epoch: int, release: tuple[int, ...]) -> Version:
    """The smallest version that begins with *release*."""
    return Version(f"{epoch}!{'.'.join(map(str, release))}.dev0")


def _after(epoch: int, release: tuple[int, ...]) -> Version:
    """The smallest version beyond all that begin with *release*."""
    return _first(epoch, (*release[:-1], release[-1] + 1))
