"""What a search talks about: a version of a project that could be taken, and what somebody asks for."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from packaging.specifiers import SpecifierSet
from packaging.utils import NormalizedName
from packaging.version import Version

from mirror.models import File


@dataclass(frozen=True, slots=True)
class Candidate:
    """One version of a project as one target installs it; with ``extra``, what that extra adds to it."""

    project: NormalizedName
    extra: NormalizedName | None
    version: Version
    file: File = field(compare=False)

    def __str__(self) -> str:
        extra = f"[{self.extra}]" if self.extra else ""
        return f"{self.project}{extra} {self.version}"


@dataclass(frozen=True, slots=True)
class Need:
    """One requirement on one project (or on one extra of it): what it calls the project, and who asks.

    That is ``parent``, or the user's ``line`` where there is none. ``exact`` is the version that an extra demands of
    its own project. A ``broken`` need is what a candidate has whose metadata is unsound: nothing satisfies it.
    """

    project: NormalizedName
    extra: NormalizedName | None
    specifier: SpecifierSet
    named: str
    line: str = ""
    parent: Candidate | None = field(default=None, compare=False)
    exact: Version | None = None
    broken: bool = False

    @property
    def text(self) -> str:
        """What is asked for, in words."""
        if self.broken:
            return "sound metadata"
        return f"{self.named}{self.specifier}" if self.exact is None else f"{self.named}=={self.exact}"

    @property
    def origin(self) -> str:
        """Who asks, in words."""
        return self.line if self.parent is None else str(self.parent)

    def accepts(self, version: Version) -> bool:
        """Whether *version* satisfies this need; whether a pre-release may be offered at all is decided before."""
        if self.broken:
            return False
        if self.exact is not None:
            return version == self.exact
        return _contains(self.specifier, version)

    @property
    def is_exact(self) -> bool:
        """Whether it names one version, which lets a yanked file in (PEP 592)."""
        return self.exact is not None or _is_exact(self.specifier)

    @property
    def is_bounded(self) -> bool:
        """Whether it keeps versions out that are newer than some other."""
        return _is_bounded(self.specifier)


# A search asks this of the same few objects again and again; what a project asks for, others ask for too.
@lru_cache(maxsize=65536)
def _contains(specifier: SpecifierSet, version: Version) -> bool:
    return specifier.contains(version, prereleases=True)


@lru_cache(maxsize=65536)
def _is_exact(specifier: SpecifierSet) -> bool:
    return any(
        spec.operator == "===" or (spec.operator == "==" and not spec.version.endswith(".*")) for spec in specifier
    )


@lru_cache(maxsize=65536)
def _is_bounded(specifier: SpecifierSet) -> bool:
    return any(spec.operator in ("<", "<=", "~=", "==") for spec in specifier)
