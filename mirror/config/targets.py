"""``[targets.NAME]`` in ``airgap.toml``: machines that will install, by a name of the user's own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mirror.config.document import check_keys, read_document
from mirror.config.files import expand_user
from mirror.errors import ConfigError

_KEYS = ("python", "platform", "implementation", "abi", "file")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
# ``this`` is the machine at hand, and cp312-win_amd64 means the same everywhere.
_TAKEN = re.compile(r"this\Z|(?:cp|pp|py)\d\d+\S*-")


@dataclass(frozen=True, slots=True)
class TargetProfile:
    """A target as airgap.toml has it: either ``file``, which describes a machine, or the others, in pip's terms.

    ``platforms`` are those of one machine, most wanted first. ``source`` says where it stands.
    """

    name: str
    source: str
    python: str | None = None
    platforms: tuple[str, ...] = ()
    implementation: str = "cp"
    abis: tuple[str, ...] = ()
    file: Path | None = None


def read_targets(path: Path, *, home: str) -> dict[str, TargetProfile]:
    """Return the targets that *path* declares; a ConfigError says which one is wrong."""
    name, document = read_document(path, home)
    tables = document.get("targets", {})
    if not isinstance(tables, dict):
        raise ConfigError(f"{name}: targets must be tables like [targets.web].")
    return {key: _read(key, table, f"{name} [targets.{key}]", path, home) for key, table in tables.items()}


def _read(key: str, table: Any, place: str, path: Path, home: str) -> TargetProfile:
    if not isinstance(table, dict):
        raise ConfigError(f"{place} must be a table.")
    if not _NAME.match(key) or len(key) > 100:
        raise ConfigError(f"{place}: a target's name has letters, digits, dots, dashes and underscores.")
    if _TAKEN.match(key):
        raise ConfigError(f"{place}: this name has a meaning of its own.", hint="Call the target something else.")
    check_keys(table, _KEYS, place)
    file = _text(table, "file", place)
    if file is not None:
        if len(table) > 1:
            raise ConfigError(f"{place}: file says everything about the machine; nothing else may stand beside it.")
        return TargetProfile(key, place, file=path.parent / expand_user(file, home))
    python = _text(table, "python", place)
    if python is None:
        raise ConfigError(f"{place} has neither python nor file.", hint='For example: python = "3.12"')
    return TargetProfile(
        key,
        place,
        python=python,
        platforms=_texts(table, "platform", place),
        implementation=_text(table, "implementation", place) or "cp",
        abis=_texts(table, "abi", place),
    )


def _text(table: dict[str, Any], key: str, place: str) -> str | None:
    found = table.get(key)
    if found is not None and (not isinstance(found, str) or not found):
        raise ConfigError(f"{place}: {key} must be a text that is not empty.")
    return found


def _texts(table: dict[str, Any], key: str, place: str) -> tuple[str, ...]:
    """One text or a list of them."""
    found = table.get(key, [])
    texts = [found] if isinstance(found, str) else found
    if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
        raise ConfigError(f"{place}: {key} must be a text, or a list of texts.")
    return tuple(texts)
