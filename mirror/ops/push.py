"""Push: a verified bundle into a hosted repository that is reached over HTTP, or into any other publisher."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from mirror.bundle import BundleReader
from mirror.config import Config, CredentialStore, Repository, repository_from_url
from mirror.errors import ConfigError
from mirror.metadata.sdist import sdist_metadata
from mirror.metadata.wheel import wheel_metadata
from mirror.models import Reporter, silent
from mirror.net import Client
from mirror.ops.connect import net_settings
from mirror.push.legacy import LegacyPublisher
from mirror.push.publisher import Publisher
from mirror.push.receipt import Receipt
from mirror.push.run import push


def push_bundle(
    bundle: Path,
    publisher: Publisher,
    *,
    workers: int = 8,
    receipt: Path | None = None,
    report: Reporter = silent,
) -> Receipt:
    """Bring every file of *bundle* into the repository behind *publisher*; see :func:`mirror.push.run.push`."""
    with BundleReader(bundle) as source:
        return push(source, publisher, metadata=read_metadata, workers=workers, report=report, receipt=receipt)


def read_metadata(path: Path) -> bytes:
    """The METADATA of the wheel or the PKG-INFO of the sdist at *path*; a MetadataError where it has none."""
    extract = wheel_metadata if path.name.endswith(".whl") else sdist_metadata
    with path.open("rb") as stream:
        return extract(stream, path.name)


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

    *index_url* is where it is read, if not where Nexus, devpi or pypiserver have it beside the upload URL.
    """
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
