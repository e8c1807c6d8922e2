"""Push: a verified bundle into a hosted repository that is reached over HTTP, or into any other publisher."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from mirror.config import Config, CredentialStore, Repository, repository_from_url
from mirror.errors import ConfigError
from mirror.models import Reporter, silent
from mirror.net import Client
from mirror.ops.connect import net_settings
from mirror.ops.source import opened, read_metadata
from mirror.push.directory import DirectoryPublisher
from mirror.push.legacy import LegacyPublisher
from mirror.push.plan import PushPlan
from mirror.push.publisher import Publisher, Source, SourceFile
from mirror.push.receipt import Receipt
from mirror.push.run import WORKERS, compare, push


@dataclass(frozen=True, slots=True)
class PushOptions:
    """How to push; see :func:`mirror.push.run.push`."""

    workers: int = WORKERS
    skip_conflicts: bool = False
    verify_download: int = 0
    receipt: Path | None = None


def push_source(
    source: Source,
    publisher: Publisher,
    options: PushOptions = PushOptions(),
    *,
    approve: Callable[[PushPlan[SourceFile]], object] = lambda _: None,
    report: Reporter = silent,
) -> Receipt:
    """Bring every file of *source* into the repository behind *publisher*; see :func:`mirror.push.run.push`."""
    return push(
        source,
        publisher,
        metadata=read_metadata,
        workers=options.workers,
        skip_conflicts=options.skip_conflicts,
        verify_download=options.verify_download,
        receipt=options.receipt,
        approve=approve,
        report=report,
    )


def push_bundle(
    bundle: Path, publisher: Publisher, *, receipt: Path | None = None, report: Reporter = silent
) -> Receipt:
    """Bring every file of *bundle* into the repository behind *publisher*; see :func:`mirror.push.run.push`."""
    with opened([bundle], report) as source:
        return push_source(source, publisher, PushOptions(receipt=receipt), report=report)


def plan_push(source: Source, publisher: Publisher, *, report: Reporter = silent) -> PushPlan[SourceFile]:
    """Return what a push would do now; a BundleError where the source is damaged."""
    plan = compare(source, publisher, report=report)
    source.check(threading.Event(), report)
    return plan


def find_repository(name_or_url: str, config: Config) -> Repository | None:
    """The repository that --repo means: a URL, or a name in ``.pypirc`` or ``airgap.toml``; None for other names."""
    if "://" in name_or_url:
        return repository_from_url(name_or_url)
    found = config.repositories.get(name_or_url)
    if found is not None and found.url is None:
        raise ConfigError(
            f"{found.source} names the repository {name_or_url}, but not its URL.",
            hint=f"Add a section [{name_or_url}] with repository = https://…/ to it.",
        )
    return found


@contextmanager
def remote_publisher(
    repository: Repository, config: Config, *, index_url: str | None = None, report: Reporter = silent
) -> Iterator[Publisher]:
    """Open the publisher for *repository*, whose CA and client certificate beat those of pip's configuration.

    A ``file:///`` URL is a static index in a folder. *index_url* is where it is read, if not where Nexus, devpi or
    pypiserver have it beside the upload URL.
    """
    if repository.type == "directory":
        yield DirectoryPublisher(Path(url2pathname(urlsplit(repository.url or "").path)))
        return
    settings = net_settings(config)
    settings = replace(
        settings,
        ca_bundle=repository.ca_cert or settings.ca_bundle,
        client_cert=repository.client_cert or settings.client_cert,
    )
    credentials = CredentialStore(config, repository=repository, report=report)
    with Client(settings, credentials, report) as client:
        url = repository.url or ""
        yield LegacyPublisher(client, url, index_url=index_url or repository.index_url, report=report)
