"""From configuration to connections: one client, one store, one index for a whole command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from mirror.config import Config, CredentialStore
from mirror.fetch import Fetcher
from mirror.index.client import IndexClient
from mirror.metadata.reader import MetadataReader
from mirror.models import Reporter, RequirementSet
from mirror.net import Client, Settings
from mirror.store import Store


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


@dataclass(frozen=True, slots=True)
class Connected:
    """What the connected side works with."""

    client: Client
    store: Store
    fetcher: Fetcher
    index: IndexClient
    metadata: MetadataReader


@contextmanager
def connected(config: Config, wanted: RequirementSet, report: Reporter) -> Iterator[Connected]:
    """Open what packing *wanted* needs. The command line beats requirements files, and they beat the configuration."""
    indexes, find_links = _sources(config, wanted)
    store = Store(config.cache.value)
    with ExitStack() as stack:
        client = stack.enter_context(
            Client(net_settings(config), CredentialStore(config, index_urls=indexes, report=report), report)
        )
        fetcher = stack.enter_context(Fetcher(client, store, report=report))
        index = stack.enter_context(IndexClient(client, store, indexes=indexes, find_links=find_links, report=report))
        metadata = stack.enter_context(MetadataReader(client, store, fetch=fetcher.start, report=report))
        yield Connected(client, store, fetcher, index, metadata)


def _sources(config: Config, wanted: RequirementSet) -> tuple[tuple[str, ...], tuple[str, ...]]:
    find_links = (*wanted.find_links, *config.find_links.value)
    if wanted.no_index or config.no_index.value:
        return (), find_links
    index_url = config.index_url.value
    if wanted.index_url and not config.index_url.source.startswith("--"):
        index_url = wanted.index_url
    return (index_url, *config.extra_index_urls.value, *wanted.extra_index_urls), find_links
