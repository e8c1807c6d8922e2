"""The values that configuration turns into. Every setting knows where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from mirror.config.receipts import ReceiptSettings
from mirror.config.served import ServeSettings
from mirror.config.sync import SyncSettings
from mirror.config.targets import TargetProfile
from mirror.models import FormatControl

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Setting(Generic[T_co]):
    """A value and its ``source``: ``PIP_INDEX_URL``, ``~/.config/pip/pip.conf [global]``, ``--index-url``, ``default``.

    The value is kept out of ``repr``: it may be a URL with a password in it.
    """

    value: T_co = field(repr=False)
    source: str


@dataclass(frozen=True, slots=True)
class Repository:
    """A hosted repository that can be pushed to. Neither URL carries credentials.

    ``password_env`` names the environment variable that holds the password, where airgap.toml says so; ``password``
    is then its content, or None where the variable is not set. ``type`` is the upload protocol; ``auto`` is Nexus's
    where the server speaks it, else the legacy one.
    """

    name: str
    url: str | None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_cert: Path | None = None
    client_cert: Path | None = None
    index_url: str | None = None
    source: str = ""
    type: str = "auto"
    password_env: str | None = None


@dataclass(frozen=True, slots=True)
class NamedIndex:
    """An index that airgap.toml declares; ``url`` carries no credentials.

    Where it has ``projects``, normalised names or patterns of them, it serves only those, and only it serves them.
    """

    name: str
    url: str
    projects: tuple[str, ...] = ()
    source: str = ""


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the command line said; None and empty mean that it said nothing.

    As with pip, ``extra_index_urls``, ``find_links`` and ``trusted_hosts`` add to what is configured, and the others
    replace it. ``no_binary`` and ``only_binary`` hold the options' arguments as given, commas included.
    """

    index_url: str | None = None
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    no_index: bool | None = None
    trusted_hosts: tuple[str, ...] = ()
    cert: Path | None = None
    client_cert: Path | None = None
    proxy: str | None = None
    timeout: float | None = None
    retries: int | None = None
    pre: bool | None = None
    no_binary: tuple[str, ...] = ()
    only_binary: tuple[str, ...] = ()
    keyring_provider: str | None = None
    index_strategy: str | None = None
    home: Path | None = None
    cache: Path | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that is configured outside of the command's own arguments, after the command line had its say.

    ``index_url``, ``extra_index_urls`` and ``find_links`` are as given: they may carry credentials, and may be local
    paths, ``find_links`` then absolute where they exist. ``timeout`` is in seconds. ``home`` holds the embedded
    repositories, ``cache`` the store. ``default_repository`` is a name or a URL (``TWINE_REPOSITORY``,
    ``TWINE_REPOSITORY_URL``). ``files`` were read, in this order; ``warnings`` are sentences for people.
    """

    index_url: Setting[str]
    extra_index_urls: Setting[tuple[str, ...]]
    find_links: Setting[tuple[str, ...]]
    no_index: Setting[bool]
    trusted_hosts: Setting[tuple[str, ...]]
    cert: Setting[Path | None]
    client_cert: Setting[Path | None]
    proxy: Setting[str | None]
    timeout: Setting[float]
    retries: Setting[int]
    pre: Setting[bool]
    no_binary: Setting[tuple[str, ...]]
    only_binary: Setting[tuple[str, ...]]
    keyring_provider: Setting[str]
    home: Setting[Path]
    cache: Setting[Path]
    repositories: Mapping[str, Repository]
    default_repository: Setting[str | None]
    files: tuple[Path, ...] = ()
    warnings: tuple[str, ...] = ()
    indexes: tuple[NamedIndex, ...] = ()
    syncs: Mapping[str, SyncSettings] = field(default_factory=dict)
    index_strategy: Setting[str] = Setting("first-index", "default")
    serve: ServeSettings = field(default_factory=ServeSettings)
    receipts: ReceiptSettings = field(default_factory=ReceiptSettings)
    targets: Mapping[str, TargetProfile] = field(default_factory=dict)

    @property
    def format_control(self) -> FormatControl:
        """``no_binary`` and ``only_binary`` as one value."""
        return FormatControl(frozenset(self.no_binary.value), frozenset(self.only_binary.value))
