"""What else would have to be built, asked without building anything."""

from __future__ import annotations

from packaging.requirements import Requirement

from mirror.errors import NeedsBuildError
from mirror.models import File, Metadata
from mirror.resolver.protocols import MetadataSource


class Unbuilt:
    """*metadata*, where an sdist that only a build could read requires nothing; ``sdists`` are the names of those."""

    def __init__(self, metadata: MetadataSource) -> None:
        self.sdists: set[str] = set()
        self._metadata = metadata

    def read(self, file: File) -> Metadata:
        """As :meth:`MetadataSource.read`."""
        try:
            return self._metadata.read(file)
        except NeedsBuildError:
            self.sdists.add(file.filename)
            return Metadata(file.project, file.version)

    def build_requires(self, file: File) -> tuple[Requirement, ...]:
        """As :meth:`MetadataSource.build_requires`."""
        return self._metadata.build_requires(file)
