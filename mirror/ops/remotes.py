"""The HTTP clients that proxy repositories reach their remotes with: pip's settings, and what the repository adds."""

from __future__ import annotations

from dataclasses import replace

from mirror.config import Config, CredentialStore
from mirror.config.served import Served
from mirror.models import Reporter, silent
from mirror.net import Client
from mirror.ops.access import net_settings

#: Clients of a proxy repeat a request themselves: it is better to tell them soon.
_RETRIES = 2


def remote_client(served: Served, config: Config, report: Reporter = silent) -> Client:
    """Return a client for the remote of *served*; its own credentials and certificates beat the configured ones."""
    settings = net_settings(config)
    settings = replace(
        settings,
        ca_bundle=served.ca_cert or settings.ca_bundle,
        client_cert=served.client_cert or settings.client_cert,
        retries=min(settings.retries, _RETRIES),
    )
    store = CredentialStore(config, index_urls=(config.index_url.value,), report=report)

    def credentials(url: str, *, refused: bool = False) -> tuple[str, str] | None:
        return served.credentials(url) or store(url, refused=refused)

    return Client(settings, credentials, report)
