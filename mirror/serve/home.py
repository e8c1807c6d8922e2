"""A home: the folder in which embedded repositories keep their catalog and their blobs."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from mirror.errors import ConfigError
from mirror.serve import DEFAULT_HOSTED
from mirror.serve.blobs import Blobs
from mirror.serve.catalog import Catalog, Repository
from mirror.serve.hosted import HostedRepository


class Home:
    """The repositories of one home. The folder appears with the first write; until then the default one is empty."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.catalog = Catalog(folder / "catalog.sqlite")
        self.blobs = Blobs(folder / "blobs")

    def __enter__(self) -> Home:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the catalog's connections."""
        self.catalog.close()

    def repositories(self) -> dict[str, Repository]:
        """Every repository by its name, the one that always exists included."""
        found = {repository.name: repository for repository in self.catalog.repositories()}
        found.setdefault(DEFAULT_HOSTED, Repository(DEFAULT_HOSTED, "hosted"))
        return dict(sorted(found.items()))

    def names(self) -> list[str]:
        """The names of all repositories, sorted."""
        return list(self.repositories())

    def hosted(self, name: str) -> HostedRepository:
        """The hosted repository *name*; ConfigError where there is none."""
        found = self.repositories().get(name)
        if found is None or found.kind != "hosted":
            raise ConfigError(
                f"There is no hosted repository {name!r} in {self.folder}.",
                hint=f"There are: {', '.join(self.names())}.",
            )
        return HostedRepository(name, self.catalog, self.blobs)
