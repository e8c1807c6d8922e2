"""From configuration to connections: one client, one store, one index for a whole command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from mirror.config import Config, CredentialStore
from mirror.fetch import Fetcher
from mirror.index.client import IndexClient
from mirror.index.sources import Source
from mirror.metadata.reader import MetadataReader
from mirror.models import Reporter, RequirementSet
from mirror.net import Client
from mirror.ops.access import net_settings
from mirror.store import Store


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
    sources, find_links = _sources(config, wanted)
    indexes = tuple(source.url for source in sources)
    best_match = config.index_strategy.value == "unsafe-best-match"
    store = Store(config.cache.value)
    with ExitStack() as stack:
        stack.enter_context(store.using())
        client = stack.enter_context(
            Client(
                net_settings(config),
                CredentialStore(config, index_urls=(*indexes, *_direct(wanted)), report=report),
                report,
            )
        )
        fetcher = stack.enter_context(Fetcher(client, store, report=report))
        index = stack.enter_context(
            IndexClient(client, store, indexes=sources, find_links=find_links, best_match=best_match)
        )
        metadata = MetadataReader(client, store, fetch=fetcher.start, report=report)
        yield Connected(client, store, fetcher, index, metadata)


def _direct(wanted: RequirementSet) -> tuple[str, ...]:
    """URLs of the user's own lines: they may carry credentials, as those of indexes do."""
    urls = (line.requirement.url for line in (*wanted.requirements, *wanted.constraints))
    return tuple(url for url in urls if url and url.lower().startswith(("http://", "https://")))


def _sources(config: Config, wanted: RequirementSet) -> tuple[tuple[Source, ...], tuple[str, ...]]:
    """The indexes, those of airgap.toml first, and the find-links places."""
    find_links = (*wanted.find_links, *config.find_links.value)
    if wanted.no_index or config.no_index.value:
        return (), find_links
    index_url = config.index_url.value
    if wanted.index_url and not config.index_url.source.startswith("--"):
        index_url = wanted.index_url
    named = [Source(index.url, index.projects) for index in config.indexes]
    others = (index_url, *config.extra_index_urls.value, *wanted.extra_index_urls)
    return (*named, *map(Source, others)), find_links
