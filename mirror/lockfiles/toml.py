"""TOML documents read strictly: a value of another type than expected is an error that names file and place. Pure."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from mirror.errors import RequirementsError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class Table:
    """A TOML table that knows where it stands. Keys that are not there read as empty; ``text`` asks for its key."""

    def __init__(self, values: Mapping[str, Any], file: str, place: str = "") -> None:
        self.values = values
        self.file = file
        self.place = place

    def error(self, message: str, hint: str = "") -> RequirementsError:
        """Return an error about this table."""
        return RequirementsError(f"{self.place}: {message}" if self.place else message, file=self.file, hint=hint)

    def text(self, key: str) -> str:
        found = self.optional(key)
        if not found:
            raise self.error(f"{key} is missing.")
        return found

    def optional(self, key: str) -> str | None:
        found = self.values.get(key)
        if found is not None and not isinstance(found, str):
            raise self.error(f"{key} must be a text.")
        return found

    def number(self, key: str) -> int | None:
        found = self.values.get(key)
        if found is not None and (not isinstance(found, int) or isinstance(found, bool)):
            raise self.error(f"{key} must be a number.")
        return found

    def texts(self, key: str) -> tuple[str, ...]:
        found = self.values.get(key, [])
        if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
            raise self.error(f"{key} must be a list of texts.")
        return tuple(found)

    def table(self, key: str) -> Table:
        found = self.values.get(key, {})
        if not isinstance(found, dict):
            raise self.error(f"{key} must be a table.")
        return Table(found, self.file, self._below(key))

    def tables(self, key: str) -> list[Table]:
        found = self.values.get(key, [])
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            raise self.error(f"{key} must be a list of tables.")
        return [Table(item, self.file, self._below(f"{key}[{number}]")) for number, item in enumerate(found)]

    def _below(self, key: str) -> str:
        return f"{self.place}.{key}" if self.place else key


def parse(text: str, file: str) -> Table:
    """Read a whole document; *file* is how messages name it."""
    try:
        return Table(tomllib.loads(text), file)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise RequirementsError(f"this is not valid TOML: {error}.", file=file) from error
