"""Configuration: pip.conf, .pypirc, airgap.toml, netrc, keyring and the environment, in one frozen Config."""

from __future__ import annotations

from mirror.config.credentials import CredentialStore
from mirror.config.load import load
from mirror.config.pypirc import repository_from_url
from mirror.config.sync import SyncSettings
from mirror.config.values import Config, NamedIndex, Overrides, Repository, Setting

__all__ = [
    "Config",
    "CredentialStore",
    "NamedIndex",
    "Overrides",
    "Repository",
    "Setting",
    "SyncSettings",
    "load",
    "repository_from_url",
]
