"""airgap.toml as a document: read, and its keys checked, for the modules that read one of its tables each."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from mirror.config.files import abbreviate
from mirror.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_TABLES = ("index", "receipts", "repositories", "serve", "sync", "targets")


def read_document(path: Path, home: str) -> tuple[str, dict[str, Any]]:
    """Return how messages name *path*, and what it says; only its tables are checked, not what they hold."""
    name = abbreviate(path, home)
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{name} can't be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name} is not text in UTF-8.") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name} is not valid TOML: {error}.") from error
    check_keys(document, _TABLES, name)
    return name, document


def check_keys(table: Mapping[str, Any], allowed: Collection[str], place: str) -> None:
    """Raise a ConfigError that names the nearest known key, where *table* has one that is not *allowed*."""
    for key in table:
        if key not in allowed:
            near = difflib.get_close_matches(key, allowed, n=1, cutoff=0.0)
            raise ConfigError(
                f"{place}: {key!r} is not a known key; the nearest is {near[0]!r}.",
                hint=f"Known here: {', '.join(allowed)}.",
            )
