"""What clients of servers and buckets take from the configuration; light: every command that connects needs it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from mirror.config import Config, CredentialStore, Repository
from mirror.index.sources import Source
from mirror.models import Reporter, RequirementSet
from mirror.net import Client, Settings

if TYPE_CHECKING:
    from mirror.objects import Bucket


def net_settings(config: Config) -> Settings:
    """What the HTTP client takes from the configuration."""
    return Settings(
        ca_bundle=config.cert.value,
        client_cert=config.client_cert.value,
        proxy=config.proxy.value,
        timeout=config.timeout.value,
        retries=config.retries.value,
        trusted_hosts=config.trusted_hosts.value,
    )


def index_client(config: Config, wanted: RequirementSet, sources: Iterable[Source], report: Reporter) -> Client:
    """The HTTP client for the indexes *sources*, which knows every credential that may be meant for them."""
    urls = (*(source.url for source in sources), *_direct(wanted))
    return Client(net_settings(config), CredentialStore(config, index_urls=urls, report=report), report)


def index_sources(config: Config, wanted: RequirementSet) -> tuple[tuple[Source, ...], tuple[str, ...]]:
    """The indexes, those of airgap.toml first, and the find-links places.

    The command line beats requirements files, and they beat the configuration.
    """
    find_links = (*wanted.find_links, *config.find_links.value)
    if wanted.no_index or config.no_index.value:
        return (), find_links
    index_url = config.index_url.value
    if wanted.index_url and not config.index_url.source.startswith("--"):
        index_url = wanted.index_url
    named = [Source(index.url, index.projects) for index in config.indexes]
    others = (index_url, *config.extra_index_urls.value, *wanted.extra_index_urls)
    return (*named, *map(Source, others)), find_links


def _direct(wanted: RequirementSet) -> tuple[str, ...]:
    """URLs of the user's own lines: they may carry credentials, as those of indexes do."""
    urls = (line.requirement.url for line in (*wanted.requirements, *wanted.constraints))
    return tuple(url for url in urls if url and url.lower().startswith(("http://", "https://")))


def open_bucket(repository: Repository) -> Bucket:
    """The bucket of an ``s3://`` repository. What the repository's own settings say beats the AWS_* variables."""
    from mirror.objects import Bucket

    own = {"AWS_CA_BUNDLE": str(repository.ca_cert)} if repository.ca_cert is not None else {}
    if repository.username is not None:
        own |= {"AWS_ACCESS_KEY_ID": repository.username, "AWS_SECRET_ACCESS_KEY": repository.password or ""}
    return Bucket(repository.url or "", {**os.environ, **own})
