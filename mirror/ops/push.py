"""Push: a verified bundle into a hosted repository that is reached over HTTP, or into any other publisher."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from mirror.config import Config, CredentialStore, Repository, repository_from_url
from mirror.config.credentials import Ask
from mirror.errors import ConfigError, NetworkError
from mirror.models import Reporter, silent
from mirror.net import Client, Settings
from mirror.ops.access import net_settings, open_bucket
from mirror.ops.source import read_metadata
from mirror.push.knock import knock
from mirror.push.legacy import LegacyPublisher, index_url_meant, upload_url_for
from mirror.push.nexus import nexus_publisher
from mirror.push.plan import PushPlan
from mirror.push.publisher import Publisher, Source, SourceFile
from mirror.push.receipt import Receipt, Sign
from mirror.push.run import WORKERS, compare, push

if TYPE_CHECKING:
    from mirror.bundle import BundleReader


@dataclass(frozen=True, slots=True)
class PushOptions:
    """How to push; see :func:`mirror.push.run.push`."""

    workers: int = WORKERS
    skip_conflicts: bool = False
    verify_download: int = 0
    receipt: Path | None = None
    sign: Sign = dict


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
        sign=options.sign,
        approve=approve,
        report=report,
    )


def push_verified(
    bundle: BundleReader, publisher: Publisher, options: PushOptions = PushOptions(), *, report: Reporter = silent
) -> Receipt:
    """Verify all of *bundle*, and only then bring its files into the repository; see :func:`mirror.push.run.push`.

    Where nothing is new, a push need not read the bundle; who is told that a bundle arrived wants it to be whole.
    """
    bundle.verify(report=report)
    return push_source(_Verified(bundle), publisher, options, report=report)


def unmet_needs(bundle: BundleReader, publisher: Publisher, *, report: Reporter = silent) -> dict[str, str]:
    """The bundles that would bring what *bundle* builds on and the repository lacks: names by identity."""
    absent = {file.carrier for file in compare(bundle, publisher, report=report).new}
    return {identity: name for identity, name in bundle.manifest.since.items() if identity in absent}


class _Verified:
    """A bundle that was just verified; :meth:`spool` checks every file once more while it is read."""

    def __init__(self, reader: BundleReader) -> None:
        self.manifest = reader.manifest
        self.spool = reader.spool

    def check(self, stop: threading.Event, report: Reporter = silent) -> None:
        """Nothing is left to do."""


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
    repository: Repository,
    config: Config,
    *,
    index_url: str | None = None,
    ask: Ask | None = None,
    report: Reporter = silent,
) -> Iterator[Publisher]:
    """Open the publisher for *repository*, whose CA and client certificate beat those of pip's configuration.

    ``file:///`` and ``s3://`` URLs are static indexes in a folder or a bucket. What answers as Nexus gets Nexus's way.
    *index_url* is where the repository is read, if not where Nexus, devpi or pypiserver have it beside the upload URL.
    Where credentials are wanted and none are known, *ask* is asked before anything else happens.
    """
    if repository.type == "directory":
        from mirror.push.directory import DirectoryPublisher

        yield DirectoryPublisher(Path(url2pathname(urlsplit(repository.url or "").path)))
        return
    if repository.type == "s3":
        from mirror.push.s3 import BucketPublisher

        yield BucketPublisher(open_bucket(repository))
        return
    settings = net_settings(config)
    settings = replace(
        settings,
        ca_bundle=repository.ca_cert or settings.ca_bundle,
        client_cert=repository.client_cert or settings.client_cert,
    )
    credentials = CredentialStore(config, repository=repository, ask=ask, report=report)
    url = repository.url or ""
    if ask is not None and credentials(url) is None:
        _let_ask(credentials, url, settings)
    with Client(settings, credentials, report) as client:
        given = index_url or repository.index_url
        index = index_url_meant(given) if given else None
        publisher: Publisher | None = None
        if repository.type != "legacy":
            required = repository.type == "nexus"
            publisher = nexus_publisher(client, url, index_url=index, report=report, required=required)
        yield publisher or LegacyPublisher(client, url, index_url=index, report=report)


def _let_ask(credentials: CredentialStore, url: str, settings: Settings) -> None:
    """Have *credentials* ask for user and password where the server lets no stranger upload."""
    refused = False
    # What else is wrong is met again, and told then.
    with suppress(NetworkError), Client(replace(settings, retries=0)) as client:
        refused = knock(client, upload_url_for(url)).status == 401
    if refused:
        credentials(url, refused=True)
