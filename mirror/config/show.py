"""The merged configuration as people read it: every value with where it came from, and no secret."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from mirror.config.served import ServeSettings
from mirror.config.values import Config, Setting
from mirror.urls import redact

#: Never shown, whatever it holds.
SECRETS = frozenset({"password"})
HIDDEN = "****"
_DECLARED = ("repositories", "indexes", "syncs", "targets")


@dataclass(frozen=True, slots=True)
class Row:
    """One value; ``key`` is as ``airgap.toml`` and pip spell it, ``value`` is text, numbers, or a list of texts."""

    key: str
    value: object
    source: str


def rows(config: Config) -> list[Row]:
    """Every setting, then what is declared under names, then ``[serve]``."""
    found = [
        Row(_spelled(item.name), _plain(value.value), value.source)
        for item in fields(config)
        if isinstance(value := getattr(config, item.name), Setting)
    ]
    for table in _DECLARED:
        declared = getattr(config, table)
        for entry in declared.values() if isinstance(declared, Mapping) else declared:
            found += _declared(f"{table}.{entry.name}", entry, entry.source)
    for item in fields(ServeSettings):
        value = getattr(config.serve, item.name)
        if item.name != "repositories":
            source = "default" if value == item.default else "airgap.toml [serve]"
            found.append(Row(f"serve.{_spelled(item.name)}", _plain(value), source))
    found += _declared("receipts", config.receipts, "airgap.toml [receipts]")
    for name, served in config.serve.repositories.items():
        found += _declared(f"serve.repositories.{name}", served, served.source)
    return found


def _declared(prefix: str, entry: Any, source: str) -> Iterator[Row]:
    """What *entry* sets: values that are not the defaults of its kind."""
    hidden = set(SECRETS)
    if getattr(entry, "password", None) is None and getattr(entry, "password_env", None) is None:
        hidden.add("username")  # alone in a URL it is a token, as for pip
    for item in fields(entry):
        value = getattr(entry, item.name)
        if is_dataclass(value):  # such keys stand in the same table
            yield from _declared(prefix, value, source)
        elif item.name not in ("name", "source") and value != _default(item):
            yield Row(f"{prefix}.{_spelled(item.name)}", HIDDEN if item.name in hidden else _plain(value), source)


def _default(item: Field[Any]) -> object:
    if item.default_factory is not MISSING:
        return item.default_factory()
    return item.default if item.default is not MISSING else None


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return [f"{key}={_plain(each)}" for key, each in value.items()]
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(item) for item in value]
    text = str(value)
    return redact(text) if "@" in text or "://" in text else text


def _spelled(name: str) -> str:
    return name.replace("_", "-")
