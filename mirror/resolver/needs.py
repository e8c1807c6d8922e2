"""What a search talks about: a version of a project that could be taken, and what somebody asks for."""

from __future__ import annotations

from dataclasses import dataclass, field

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
    its own project. A ``broken`` need is what a candidate has whose metadata is unsound, or not for the
    target's Python: nothing satisfies it.
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
        return self.specifier.contains(version, prereleases=True)

    @property
    def is_exact(self) -> bool:
        """Whether it names one version, which lets a yanked file in (PEP 592)."""
        return self.exact is not None or names_one(self.specifier)


def names_one(specifier: SpecifierSet) -> bool:
    """Whether *specifier* names one version."""
    return any(
        spec.operator == "===" or (spec.operator == "==" and not spec.version.endswith(".*")) for spec in specifier
    )
