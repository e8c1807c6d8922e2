"""From files, environment and command line to one Config."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from mirror import urls
from mirror.config.airgap import find_airgap_toml, read_airgap_toml
from mirror.config.files import expand_user, home_folder
from mirror.config.indexes import read_indexes
from mirror.config.locations import app_folders, pip_files
from mirror.config.pip import PipValues, read_pip
from mirror.config.pypirc import read_pypirc, repository_from_url, twine_certificates
from mirror.config.receipts import ReceiptSettings, read_receipts
from mirror.config.served import ServeSettings
from mirror.config.serving import read_serving
from mirror.config.sync import read_syncs
from mirror.config.targets import read_targets
from mirror.config.values import Config, Overrides, Setting
from mirror.errors import ConfigError
from mirror.models import FormatControl

DEFAULT_INDEX = "https://pypi.org/simple"
NO_OVERRIDES = Overrides()
#: uv's names: the first index that has a project is the only one for it, or the best version of any index wins.
INDEX_STRATEGIES = ("first-index", "unsafe-best-match")
KEYRING_PROVIDERS = ("auto", "disabled", "import", "subprocess")

T = TypeVar("T")


def load(
    *,
    environ: Mapping[str, str] = os.environ,
    overrides: Overrides = NO_OVERRIDES,
    airgap_toml: Path | None = None,
    config_file: Path | None = None,
    cwd: Path | None = None,
) -> Config:
    """Read pip's configuration, ``.pypirc`` (or *config_file*), ``airgap.toml`` and *environ*.

    Without *airgap_toml* the file is looked for in *cwd* (default: the process's) and above, then in the user's
    configuration folder. Raises ConfigError, which names file and line or the variable; no file is written and
    nothing is asked of the network.
    """
    cwd = Path(cwd or Path.cwd())
    home = home_folder(environ)
    folders = app_folders("airgap", platform=sys.platform, environ=environ, home=home)
    pip = read_pip(
        pip_files(
            platform=sys.platform,
            environ=environ,
            home=home,
            prefix=environ.get("VIRTUAL_ENV") or sys.prefix,
            exists=os.path.exists,
        ),
        environ=environ,
        home=home,
    )
    warnings = list(pip.warnings)
    named = environ.get("PIP_CONFIG_FILE")
    if named and named != os.devnull and not os.path.exists(named):  # noqa: PTH110  # never raises
        warnings.append(f"PIP_CONFIG_FILE names {named}, which does not exist.")

    pypirc = config_file or Path(home, ".pypirc")
    toml = airgap_toml or find_airgap_toml(cwd, Path(folders.config))
    repositories = read_pypirc(pypirc, required=config_file is not None, home=home, warnings=warnings)
    if toml is not None:
        repositories |= read_airgap_toml(toml, repositories, environ=environ, home=home)
    default_name = environ.get("TWINE_REPOSITORY")
    default_repository: Setting[str | None] = Setting(
        default_name or None, "TWINE_REPOSITORY" if default_name else "default"
    )
    if environ.get("TWINE_REPOSITORY_URL"):
        unnamed = repository_from_url(environ["TWINE_REPOSITORY_URL"], source="TWINE_REPOSITORY_URL")
        repositories.setdefault(unnamed.name, unnamed)
        default_repository = Setting(unnamed.name, "TWINE_REPOSITORY_URL")
    ca_cert, client_cert = twine_certificates(environ, home)
    repositories = {
        name: replace(
            repository, ca_cert=ca_cert or repository.ca_cert, client_cert=client_cert or repository.client_cert
        )
        for name, repository in repositories.items()
    }
    files = [*pip.files, *(path for path in (pypirc, toml) if path and os.path.isfile(path))]  # noqa: PTH113

    no_binary, only_binary = _formats(pip, overrides)
    return Config(
        index_url=_checked_index(_first(overrides.index_url, "--index-url", pip.text("index-url"), DEFAULT_INDEX)),
        extra_index_urls=_checked_extra(_added(pip, "extra-index-url", overrides.extra_index_urls)),
        find_links=_located(_added(pip, "find-links", overrides.find_links), cwd, home),
        no_index=_first(overrides.no_index, "--no-index", pip.flag("no-index"), default=False),
        trusted_hosts=_added(pip, "trusted-host", overrides.trusted_hosts),
        cert=_cert(pip, overrides, environ, home),
        client_cert=_path(overrides.client_cert, pip, "client-cert", home),
        proxy=_first(overrides.proxy, "--proxy", pip.text("proxy"), None),
        timeout=_checked_timeout(_first(overrides.timeout, "--timeout", pip.number("timeout"), 15.0)),
        retries=_checked_retries(_first(overrides.retries, "--retries", pip.integer("retries"), 5)),
        pre=_first(overrides.pre, "--pre", pip.flag("pre"), default=False),
        no_binary=no_binary,
        only_binary=only_binary,
        keyring_provider=_checked_keyring(
            _first(overrides.keyring_provider, "--keyring-provider", pip.text("keyring-provider"), "auto")
        ),
        home=_folder(overrides.home, "--home", "AIRGAP_HOME", environ, folders.data, cwd, home),
        cache=_folder(overrides.cache, "--cache", "AIRGAP_CACHE", environ, folders.cache, cwd, home),
        repositories=MappingProxyType(repositories),
        default_repository=default_repository,
        files=tuple(files),
        warnings=tuple(warnings),
        serve=read_serving(toml, home=home) if toml is not None else ServeSettings(),
        receipts=read_receipts(toml, home=home) if toml is not None else ReceiptSettings(),
        indexes=read_indexes(toml, home=home) if toml is not None else (),
        syncs=MappingProxyType(read_syncs(toml, home=home) if toml is not None else {}),
        targets=MappingProxyType(read_targets(toml, home=home) if toml is not None else {}),
        index_strategy=_checked_strategy(
            _first(overrides.index_strategy, "--index-strategy", None, INDEX_STRATEGIES[0])
        ),
    )


def _first(given: T | None, option: str, configured: Setting[T] | None, default: T) -> Setting[T]:
    if given is not None:
        return Setting(given, option)
    return configured or Setting(default, "default")


def _added(pip: PipValues, name: str, given: tuple[str, ...]) -> Setting[tuple[str, ...]]:
    configured = pip.words(name)
    sources = [configured.source] if configured else []
    sources += [f"--{name}"] if given else []
    return Setting((*(configured.value if configured else ()), *given), ", ".join(sources) or "default")


def _formats(pip: PipValues, overrides: Overrides) -> tuple[Setting[tuple[str, ...]], Setting[tuple[str, ...]]]:
    given = [("no-binary", Setting(text, "--no-binary")) for text in overrides.no_binary]
    given += [("only-binary", Setting(text, "--only-binary")) for text in overrides.only_binary]
    # Between the two options the order on the command line is not known here: the wide ones first, so that
    # "--only-binary :all: --no-binary NAME" means the same both ways round.
    given.sort(key=lambda pair: ":" not in pair[1].value)
    control = FormatControl()
    sources: dict[str, dict[str, None]] = {"no-binary": {}, "only-binary": {}}
    for option, setting in (*pip.formats, *given):
        control = control.after(option, setting.value)
        sources[option][setting.source] = None
    return (
        Setting(tuple(sorted(control.no_binary)), ", ".join(sources["no-binary"]) or "default"),
        Setting(tuple(sorted(control.only_binary)), ", ".join(sources["only-binary"]) or "default"),
    )


def _path(given: Path | None, pip: PipValues, name: str, home: str) -> Setting[Path | None]:
    if given is not None:
        return Setting(given, f"--{name}")
    configured = pip.text(name)
    return Setting(expand_user(configured.value, home), configured.source) if configured else Setting(None, "default")


def _cert(pip: PipValues, overrides: Overrides, environ: Mapping[str, str], home: str) -> Setting[Path | None]:
    found = _path(overrides.cert, pip, "cert", home)
    if found.value is None:
        # requests reads these two inside pip wherever --cert says nothing
        for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            if environ.get(variable):
                return Setting(Path(environ[variable]), variable)
    return found


def _folder(
    given: Path | None, option: str, variable: str, environ: Mapping[str, str], default: str, cwd: Path, home: str
) -> Setting[Path]:
    if given is not None:
        return Setting(cwd / given, option)
    if environ.get(variable):
        return Setting(cwd / expand_user(environ[variable], home), variable)
    return Setting(Path(default), "default")


def _located(links: Setting[tuple[str, ...]], cwd: Path, home: str) -> Setting[tuple[str, ...]]:
    def locate(link: str) -> str:
        if "://" in link or link.startswith("file:"):
            _check_url(link, "find-links", links.source)
            return link
        path = cwd / expand_user(link, home)
        return str(path) if path.exists() else link

    return Setting(tuple(locate(link) for link in links.value), links.source)


def _check_url(url: str, name: str, source: str) -> None:
    try:
        scheme, host, _ = urls.origin(url)
    except ValueError:
        scheme, host = "http", ""
    if scheme in ("http", "https") and not host:
        raise ConfigError(f"{name} from {source} is not a valid URL.")


def _checked_index(setting: Setting[str]) -> Setting[str]:
    _check_url(setting.value, "index-url", setting.source)
    return setting


def _checked_extra(setting: Setting[tuple[str, ...]]) -> Setting[tuple[str, ...]]:
    for url in setting.value:
        _check_url(url, "extra-index-url", setting.source)
    return setting


def _checked_timeout(setting: Setting[float]) -> Setting[float]:
    if not (math.isfinite(setting.value) and setting.value > 0):
        raise ConfigError(f"timeout from {setting.source} must be more than 0 seconds.")
    return setting


def _checked_retries(setting: Setting[int]) -> Setting[int]:
    if setting.value < 0:
        raise ConfigError(f"retries from {setting.source} must not be negative.")
    return setting


def _checked_strategy(setting: Setting[str]) -> Setting[str]:
    if setting.value not in INDEX_STRATEGIES:
        raise ConfigError(
            f"index-strategy from {setting.source} must be {' or '.join(INDEX_STRATEGIES)}, not {setting.value[:40]!r}."
        )
    return setting


def _checked_keyring(setting: Setting[str]) -> Setting[str]:
    if setting.value not in KEYRING_PROVIDERS:
        raise ConfigError(
            f"keyring-provider from {setting.source} must be one of {', '.join(KEYRING_PROVIDERS)}, "
            f"not {setting.value[:40]!r}."
        )
    return setting
