"""``[serve]`` in ``airgap.toml``: embedded repositories and how they are served. ``airgap repo`` stores the same."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from mirror import urls
from mirror.config.document import check_keys, read_document
from mirror.config.files import expand_user
from mirror.config.served import HOST, KEYS, MAX_AGE, MOST_WORKERS, NEGATIVE_MAX_AGE, PORT, Served, ServeSettings
from mirror.errors import ConfigError

WRITE_POLICIES = ("allow", "allow-once", "deny")
VERSION_POLICIES = ("mixed", "release", "snapshot")
METRICS = ("read", "admin", "off")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_KEYS = (
    "host", "port", "tls-cert", "tls-key", "trusted-proxies", "anonymous-read", "catalog", "blobs", "workers",
    "metrics", "repositories",
)  # fmt: skip
_CATALOG = re.compile(r"postgresql(\+psycopg)?://")


def read_serving(path: Path, *, home: str) -> ServeSettings:
    """Return what the ``airgap.toml`` at *path* says about serving; a ConfigError says what is wrong and where."""
    name, document = read_document(path, home)
    table = document.get("serve", {})
    place = f"{name} [serve]"
    if not isinstance(table, dict):
        raise ConfigError(f"{place} must be a table.")
    check_keys(table, _KEYS, place)
    repositories = _typed(table, "repositories", dict, place) or {}
    port = _typed(table, "port", int, place)
    if port is not None and not 0 <= port <= 65535:
        raise ConfigError(f"{place}: port must be from 0 to 65535.")
    proxies = tuple(_texts(table, "trusted-proxies", place))
    for proxy in proxies:
        _check_network(proxy, place)
    anonymous = _typed(table, "anonymous-read", bool, place)
    settings = ServeSettings(
        host=_typed(table, "host", str, place) or HOST,
        port=PORT if port is None else port,
        tls_cert=_file(table, "tls-cert", place, path.parent, home),
        tls_key=_file(table, "tls-key", place, path.parent, home),
        trusted_proxies=proxies,
        anonymous_read=True if anonymous is None else anonymous,
        catalog=_catalog(table, place),
        blobs=_blobs(table, place),
        workers=_workers(table, place),
        metrics=_choice(table, "metrics", METRICS, "read", place),
        repositories=MappingProxyType(
            {
                key: read_served(key, value, f"{name} [serve.repositories.{key}]", folder=path.parent, home=home)
                for key, value in repositories.items()
            }
        ),
    )
    if settings.tls_key is not None and settings.tls_cert is None:
        raise ConfigError(f"{place}: tls-key has no tls-cert beside it.")
    return settings


def read_served(name: str, table: Any, place: str, *, folder: Path, home: str = "") -> Served:
    """Validate one repository's settings. Paths are relative to *folder*."""
    check_name(name)
    if not isinstance(table, dict):
        raise ConfigError(f"{place} must be a table.")
    kind = table.get("kind", "hosted")
    if kind not in KEYS:
        raise ConfigError(f"{place}: kind must be hosted, proxy or group, not {str(kind)[:40]!r}.")
    check_keys(table, ("kind", *KEYS[kind]), place)
    text = {key: _typed(table, key, str, place) for key in ("remote", "username", "password-env", "deploy-to")}
    members = tuple(_texts(table, "members", place))
    if kind == "proxy":
        _check_remote(text["remote"], place)
    if kind == "group":
        _check_group(name, members, text["deploy-to"], place)
    return Served(
        name=name,
        kind=kind,
        write_policy=_choice(table, "write-policy", WRITE_POLICIES, "allow", place),
        version_policy=_choice(table, "version-policy", VERSION_POLICIES, "mixed", place),
        remote=urls.with_slash(text["remote"]) if text["remote"] else "",
        max_age=_seconds(table, "max-age", MAX_AGE, place),
        negative_max_age=_seconds(table, "negative-max-age", NEGATIVE_MAX_AGE, place),
        keep_days=_number(table, "keep-days", place, "days") if "keep-days" in table else None,
        offline=_typed(table, "offline", bool, place) or False,
        username=text["username"],
        password_env=text["password-env"],
        ca_cert=_file(table, "ca-cert", place, folder, home),
        client_cert=_file(table, "client-cert", place, folder, home),
        members=members,
        deploy_to=text["deploy-to"],
        source=place,
    )


def check_name(name: str) -> None:
    """Refuse with a ConfigError what can't be a repository's name in a URL."""
    if not _NAME.match(name):
        raise ConfigError(
            f"{name[:80]!r} can't be a repository's name.", hint="Use letters, digits, and . _ - after the first."
        )


def _catalog(table: Mapping[str, Any], place: str) -> str | None:
    url: str | None = _typed(table, "catalog", str, place)
    if url is None:
        return None
    if not _CATALOG.match(url):
        raise ConfigError(
            f"{place}: catalog must be the URL of a database in PostgreSQL.",
            hint="Such as postgresql+psycopg://airgap@db.example/airgap. Without it the catalog is a file in the home.",
        )
    try:
        parts = urlsplit(url)
        secret = parts.password is not None or "password" in parse_qs(parts.query)
    except ValueError:
        raise ConfigError(f"{place}: catalog is no URL.") from None
    if secret:
        raise ConfigError(
            f"{place}: catalog carries a password, which must not be stored.",
            hint="Put it into PGPASSWORD, or into ~/.pgpass.",
        )
    return url


def _blobs(table: Mapping[str, Any], place: str) -> str | None:
    url: str | None = _typed(table, "blobs", str, place)
    if url is not None and not url.startswith("s3://"):
        raise ConfigError(
            f"{place}: blobs must be s3://BUCKET or s3://BUCKET/PREFIX.",
            hint="Without it the blobs are in a folder of the home.",
        )
    return url


def _workers(table: Mapping[str, Any], place: str) -> int:
    workers = _typed(table, "workers", int, place)
    if workers is not None and not 1 <= workers <= MOST_WORKERS:
        raise ConfigError(f"{place}: workers must be from 1 to {MOST_WORKERS}.")
    return workers or 1


def _check_remote(remote: str | None, place: str) -> None:
    try:
        scheme, host, _ = urls.origin(remote or "")
    except ValueError:
        scheme = host = ""
    if scheme not in ("http", "https") or not host:
        raise ConfigError(f"{place}: a proxy needs remote, the http or https URL of a simple index.")
    if urls.without_credentials(remote or "") != remote:
        raise ConfigError(
            f"{place}: remote carries credentials, which must not be stored.",
            hint='Use username and password-env = "NAME", netrc or keyring.',
        )


def _check_group(name: str, members: tuple[str, ...], deploy_to: str | None, place: str) -> None:
    if not members:
        raise ConfigError(f"{place}: a group needs members, in the order in which they are asked.")
    if name in members or len(set(members)) != len(members):
        raise ConfigError(f"{place}: members must be other repositories, each of them once.")
    if deploy_to is not None and deploy_to not in members:
        raise ConfigError(f"{place}: deploy-to must be one of the members.")


def _check_network(text: str, place: str) -> None:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ConfigError(f"{place}: trusted-proxies has {text[:60]!r}, which is no address or network.") from None


def _typed(table: Mapping[str, Any], key: str, kind: type, place: str) -> Any:
    value = table.get(key)
    if value is None:
        return None
    wrong = not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)
    if wrong or (kind is str and not value.strip()):
        names = {str: "a text that is not empty", int: "a whole number", bool: "true or false", dict: "tables"}
        raise ConfigError(f"{place}: {key} must be {names[kind]}.")
    return value


def _texts(table: Mapping[str, Any], key: str, place: str) -> list[str]:
    value = table.get(key, [])
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) and item for item in value):
        raise ConfigError(f"{place}: {key} must be a list of texts.")
    return list(value)


def _choice(table: Mapping[str, Any], key: str, allowed: tuple[str, ...], default: str, place: str) -> str:
    value = table.get(key, default)
    if value not in allowed:
        raise ConfigError(f"{place}: {key} must be {', '.join(allowed[:-1])} or {allowed[-1]}.")
    return str(value)


def _seconds(table: Mapping[str, Any], key: str, default: float, place: str) -> float:
    return _number(table, key, place, "seconds") if key in table else default


def _number(table: Mapping[str, Any], key: str, place: str, unit: str) -> float:
    value = table[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e10:
        raise ConfigError(f"{place}: {key} must be a number of {unit}.")
    return float(value)


def _file(table: Mapping[str, Any], key: str, place: str, folder: Path, home: str) -> Path | None:
    text = _typed(table, key, str, place)
    return folder / expand_user(text, home) if text else None
