"""What the resolver needs from the outside. Adapters satisfy these by their shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from packaging.requirements import Requirement
from packaging.utils import NormalizedName

from mirror.models import File, Metadata


class ProjectPage(Protocol):
    """One project on one index: names of all its files, and each file in full when it is asked for."""

    @property
    def index(self) -> str: ...

    @property
    def filenames(self) -> Sequence[str]: ...

    @property
    def status(self) -> tuple[str, str]:
        """PEP 792's ``(status, reason)``; ``("active", "")`` where nothing is said."""
        ...

    def file(self, position: int) -> File: ...


class Index(Protocol):
    """Where projects come from. Called from several threads at once."""

    def pages(self, project: NormalizedName) -> Sequence[ProjectPage]:
        """The pages that offer *project*, best first; none where no index has it."""
        ...


class MetadataSource(Protocol):
    """Where metadata comes from. Called from several threads at once; a second call for a file costs nothing."""

    def read(self, file: File) -> Metadata: ...

    def build_requires(self, file: File) -> tuple[Requirement, ...]:
        """What building the sdist *file* needs: ``build-system.requires``, or setuptools where it says nothing."""
        ...
