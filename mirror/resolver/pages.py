"""A project's page made of files that are known already: a bundle's, or those that a user gave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mirror.models import File


@dataclass(frozen=True, slots=True)
class FilePage:
    """Satisfies :class:`~mirror.resolver.protocols.ProjectPage`."""

    files: tuple[File, ...]
    index: str = ""
    status: tuple[str, str] = ("active", "")

    @property
    def filenames(self) -> Sequence[str]:
        return [file.filename for file in self.files]

    def file(self, position: int) -> File:
        return self.files[position]
