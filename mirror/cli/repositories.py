"""Names that --repo may mean, for the commands that take it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mirror.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from mirror.config import Config


def embedded_names(config: Config) -> list[str]:
    """The embedded repositories that take uploads; none where the extra ``serve`` is not installed."""
    from mirror.serve import repository_names

    try:
        return repository_names(config.home.value, config.serve)
    except MissingExtraError as error:
        if error.extra != "serve":  # without the one for PostgreSQL or S3 nobody knows what there is
            raise
        return []


def unknown_repository(name: str, config: Config) -> ConfigError:
    """The error for a name that is neither configured nor embedded; it lists those that are."""
    shown = name.rpartition("@")[2]  # it may have been meant as a URL
    known = [f"{name} ({repository.source})" for name, repository in sorted(config.repositories.items())]
    known += [f"{name} (embedded in {config.home.value})" for name in embedded_names(config)]
    hint = f"Known are: {', '.join(known)}; a URL will also do."
    if "@" not in name and any(letter in name for letter in "/\\"):
        hint = f"A folder is named by its URL: {Path(name).absolute().as_uri()}. {hint}"
    return ConfigError(f"There is no repository called {shown}.", hint=hint)
