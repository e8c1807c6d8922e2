"""``[[index]]`` in ``airgap.toml``: further indexes, and which projects belong to them alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mirror import urls
from mirror.config.document import check_keys, read_document
from mirror.config.values import NamedIndex
from mirror.errors import ConfigError

_KEYS = ("name", "url", "projects")
_PATTERN = re.compile(r"[A-Za-z0-9*?]([A-Za-z0-9._*?-]*[A-Za-z0-9*?])?\Z")
_SEPARATORS = re.compile(r"[-_.]+")


def read_indexes(path: Path, *, home: str) -> tuple[NamedIndex, ...]:
    """Return the indexes that *path* declares, in its order; a ConfigError says which one is wrong.

    A pattern is normalised as a project's name is (PEP 503), so that ``Acme_*`` is ``acme-*``.
    """
    name, document = read_document(path, home)
    tables = document.get("index", [])
    if not isinstance(tables, list):
        raise ConfigError(f"{name}: index must be tables like [[index]], with two brackets.")
    found: dict[str, NamedIndex] = {}
    for position, table in enumerate(tables, 1):
        index = _read(table, f"{name} [[index]] {position}")
        if index.name in found:
            raise ConfigError(f"{name}: two of [[index]] have the name {index.name!r}.")
        found[index.name] = index
    return tuple(found.values())


def _read(table: Any, place: str) -> NamedIndex:
    if not isinstance(table, dict):
        raise ConfigError(f"{place} must be a table.")
    check_keys(table, _KEYS, place)
    for key in ("name", "url"):
        if not isinstance(table.get(key), str) or not table[key].strip():
            raise ConfigError(f"{place}: {key} must be a text that is not empty.")
    url = table["url"].strip()
    try:
        scheme, host, _ = urls.origin(url)
    except ValueError:
        scheme = host = ""
    if scheme not in ("http", "https", "file") or (scheme != "file" and not host):
        raise ConfigError(f"{place}: url must be that of a simple index: http, https or file.")
    if urls.without_credentials(url) != url:
        raise ConfigError(
            f"{place}: url carries credentials, which must not be in this file.",
            hint="Use netrc, keyring, or the URL in pip.conf.",
        )
    patterns = table.get("projects", [])
    if not isinstance(patterns, list) or ("projects" in table and not patterns):
        raise ConfigError(f'{place}: projects must be a list of names and patterns, such as ["acme-*"].')
    for pattern in patterns:
        if not isinstance(pattern, str) or not _PATTERN.match(pattern):
            raise ConfigError(
                f"{place}: {str(pattern)[:80]!r} is neither a project's name nor a pattern of one.",
                hint="In patterns * stands for any text and ? for one character.",
            )
    return NamedIndex(
        table["name"].strip(), url, tuple(_SEPARATORS.sub("-", pattern).lower() for pattern in patterns), place
    )
