"""``airgap.toml``: the project's own file. Unknown keys are errors, so that a typing mistake can't go unnoticed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mirror import urls
from mirror.config.document import check_keys, read_document
from mirror.config.files import abbreviate, expand_user
from mirror.config.pypirc import repository_from_url
from mirror.config.values import Repository
from mirror.errors import ConfigError

FILENAME = "airgap.toml"
#: The upload protocols that ``type`` may name.
REPOSITORY_TYPES = ("legacy", "nexus", "directory", "s3")
# How the URLs of those begin that are not reached by HTTP.
_SCHEMES = {"directory": "file:///", "s3": "s3://"}

_REPOSITORY_KEYS = ("url", "username", "password-env", "index-url", "ca-cert", "client-cert", "type")


def find_airgap_toml(cwd: Path, user_config: Path) -> Path | None:
    """Return the nearest ``airgap.toml`` in *cwd* or above it, else the user's own, else None."""
    for folder in (cwd, *cwd.parents, user_config):
        if os.path.isfile(folder / FILENAME):  # noqa: PTH113  # a folder above that may not be entered is no error
            return folder / FILENAME
    return None


def read_airgap_toml(
    path: Path, known: Mapping[str, Repository], *, environ: Mapping[str, str], home: str
) -> dict[str, Repository]:
    """Return the repositories that *path* declares.

    One with a ``url`` stands for itself; one without adds to that of the same name in *known*, so that a password is
    never sent anywhere but where its own file says.
    """
    name, document = read_document(path, home)
    tables = document.get("repositories", {})
    if not isinstance(tables, dict):
        raise ConfigError(f"{name}: repositories must be tables like [repositories.nexus].")
    return {key: _repository(key, table, known.get(key), path, environ, home) for key, table in tables.items()}


def _repository(
    key: str, table: Any, known: Repository | None, path: Path, environ: Mapping[str, str], home: str
) -> Repository:
    place = f"{abbreviate(path, home)} [repositories.{key}]"
    if not isinstance(table, dict):
        raise ConfigError(f"{place} must be a table.")
    if "password" in table:
        raise ConfigError(
            f"{place}: a password must not be in this file.",
            hint='Write password-env = "NAME" and put the password into that environment variable, or use .pypirc, '
            "netrc or keyring.",
        )
    check_keys(table, _REPOSITORY_KEYS, place)
    for name, value in table.items():
        if not isinstance(value, str) or not value:
            raise ConfigError(f"{place}: {name} must be a text that is not empty.")
    for name in ("url", "index-url"):
        if name in table and (repository_from_url(table[name], source=f"{name} in {place}").password):
            raise ConfigError(f"{place}: {name} carries a password.", hint='Use password-env = "NAME".')
    if "url" in table:
        repository = repository_from_url(table["url"], name=key, source=place)
    elif known is not None and known.url is not None:
        repository = replace(known, source=f"{place}, {known.source}")
    else:
        raise ConfigError(f"{place} has no url.")
    kind = table.get("type", repository.type)
    if "type" in table and kind not in REPOSITORY_TYPES:
        raise ConfigError(f"{place}: type must be one of {', '.join(REPOSITORY_TYPES)}, not {kind!r}.")
    if _SCHEMES.get(kind) != _SCHEMES.get(repository.type):
        raise ConfigError(
            f"{place}: type {kind!r} does not fit its url.",
            hint=f"Its URL begins with {_SCHEMES.get(kind, 'https://')}.",
        )
    variable = table.get("password-env", repository.password_env)
    index_url = table.get("index-url")
    return replace(
        repository,
        username=table.get("username", repository.username),
        password=(environ.get(variable) or None) if variable else repository.password,
        password_env=variable,
        index_url=urls.without_credentials(index_url) if index_url else repository.index_url,
        ca_cert=_path(table.get("ca-cert"), path, home) or repository.ca_cert,
        client_cert=_path(table.get("client-cert"), path, home) or repository.client_cert,
        type=kind,
    )


def _path(text: str | None, file: Path, home: str) -> Path | None:
    """A path in the file is relative to the file's own folder."""
    return file.parent / expand_user(text, home) if text else None
