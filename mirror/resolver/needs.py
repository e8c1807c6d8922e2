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
    """One requirement on one project (or on one extra of it): who asks (``origin``, in words) and in which words.

    ``exact`` is the version that an extra demands of its own project. A ``broken`` need is what a candidate has whose
    metadata is unsound: nothing satisfies it.
    """

    project: NormalizedName
    extra: NormalizedName | None
    specifier: SpecifierSet
    text: str
    origin: str
    parent: Candidate | None = field(default=None, compare=False)
    exact: Version | None = None
    broken: bool = False

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
        return self.exact is not None or any(
            spec.operator == "===" or (spec.operator == "==" and not spec.version.endswith(".*"))
            for spec in self.specifier
        )
