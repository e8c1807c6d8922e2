"""``.pypirc`` as twine reads it, and the ``TWINE_*`` variables that say something about repositories."""

from __future__ import annotations

import configparser
from collections.abc import Mapping
from pathlib import Path

from mirror import urls
from mirror.config.files import abbreviate, expand_user, read_ini
from mirror.config.values import Repository
from mirror.errors import ConfigError

#: What twine knows without configuration.
DEFAULT_URLS = {"pypi": "https://upload.pypi.org/legacy/", "testpypi": "https://test.pypi.org/legacy/"}


def repository_from_url(url: str, *, name: str = "", source: str = "--repo") -> Repository:
    """Return a Repository for *url*, whose user and password go into their own fields.

    A ``file:///`` URL is a static index in a folder, an ``s3://`` URL one in a bucket. Raises ConfigError for anything
    else that is no http(s) URL with a host.
    """
    if url.startswith("file:///"):
        return Repository(name or url, url, source=source, type="directory")
    if url.startswith("s3://") and "@" not in url:
        return Repository(name or url, url, source=source, type="s3")
    _check_url(url, f"The repository URL from {source}")
    username, password = _userinfo(url)
    bare = urls.without_credentials(url)
    return Repository(name or bare, bare, username, password, source=source)


def read_pypirc(path: Path, *, required: bool, home: str, warnings: list[str]) -> dict[str, Repository]:
    """Return every repository that twine would find in *path*; a file that isn't there is an error if *required*.

    A server that index-servers names and nothing describes has no URL.
    """
    name = abbreviate(path, home)
    parser = read_ini(path, name=name, warnings=warnings)
    if parser is None:
        if required:
            raise ConfigError(f"There is no file {name} that can be read.")
        parser = configparser.RawConfigParser()
    servers = parser.get("distutils", "index-servers", fallback="pypi testpypi").split()
    # pypi needs no configuration even where index-servers leaves it out; twine does the same.
    return {server: _read_server(parser, server, name, home) for server in dict.fromkeys([*servers, "pypi"])}


def _read_server(parser: configparser.RawConfigParser, server: str, file: str, home: str) -> Repository:
    def value(key: str, fallback: str | None = None) -> str | None:
        return parser.get(server, key, fallback=None) or fallback

    def path(key: str) -> Path | None:
        text = value(key)
        return expand_user(text, home) if text else None

    login = {
        # [server-login] is obsolete, twine still reads it
        key: parser.get("server-login", key, fallback=None)
        for key in ("username", "password")
    }
    url = value("repository", DEFAULT_URLS.get(server))
    if parser.has_section(server):
        source = f"{file} [{server}]"
    else:
        source = "default" if server in DEFAULT_URLS else f"{file} [distutils]"
    plain = repository_from_url(url, name=server, source=source) if url else Repository(server, None)
    return Repository(
        server,
        plain.url,
        value("username", plain.username or login["username"]),
        value("password", plain.password or login["password"]),
        path("ca_cert"),
        path("client_cert"),
        source=source,
        type=plain.type,
    )


def twine_certificates(environ: Mapping[str, str], home: str) -> tuple[Path | None, Path | None]:
    """Return ``TWINE_CERT`` and ``TWINE_CLIENT_CERT``, which beat what a file says about any repository."""
    found = [environ.get(name) for name in ("TWINE_CERT", "TWINE_CLIENT_CERT")]
    ca_cert, client_cert = (expand_user(text, home) if text else None for text in found)
    return ca_cert, client_cert


def _check_url(url: str, what: str) -> None:
    try:
        scheme, host, _ = urls.origin(url)
    except ValueError:
        scheme = host = ""
    if scheme not in ("http", "https") or not host:
        folder = "A folder is file:///srv/index, with three slashes." if url.startswith("file:") else ""
        raise ConfigError(f"{what} is not an http or https URL.", hint=folder)


def _userinfo(url: str) -> tuple[str | None, str | None]:
    user, password = urls.credentials(url) or ("", "")
    return user or None, password or None
