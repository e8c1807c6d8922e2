"""From configuration to connections: one client, one store, one index for a whole command."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import MappingProxyType

from mirror.config import Config
from mirror.fetch import Fetcher
from mirror.index.answer import Asked
from mirror.index.client import IndexClient
from mirror.metadata.reader import MetadataReader
from mirror.models import Reporter, RequirementSet
from mirror.net import Client
from mirror.ops.access import index_client, index_sources
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
def connected(
    config: Config,
    wanted: RequirementSet,
    report: Reporter,
    fresh: Mapping[str, str] = MappingProxyType({}),
    asked: list[Asked] | None = None,
) -> Iterator[Connected]:
    """Open what packing *wanted* needs; *fresh* are the digests of pages that need not be asked for again, by URL.

    What every index is asked and says goes to *asked*, where that is given.
    """
    sources, find_links = index_sources(config, wanted)
    best_match = config.index_strategy.value == "unsafe-best-match"
    store = Store(config.cache.value)
    with ExitStack() as stack:
        stack.enter_context(store.using())
        client = stack.enter_context(index_client(config, wanted, sources, report))
        fetcher = stack.enter_context(Fetcher(client, store, report=report))
        index = stack.enter_context(
            IndexClient(
                client,
                store,
                indexes=sources,
                find_links=find_links,
                best_match=best_match,
                fresh=fresh,
                asked=asked,
            )
        )
        metadata = MetadataReader(client, store, fetch=fetcher.start, keep=fetcher.keep, report=report)
        yield Connected(client, store, fetcher, index, metadata)
