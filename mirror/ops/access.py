"""What clients of servers and buckets take from the configuration; light: every command that connects needs it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mirror.config import Config, Repository
from mirror.net import Settings

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


def open_bucket(repository: Repository) -> Bucket:
    """The bucket of an ``s3://`` repository. What the repository's own settings say beats the AWS_* variables."""
    from mirror.objects import Bucket

    own = {"AWS_CA_BUNDLE": str(repository.ca_cert)} if repository.ca_cert is not None else {}
    if repository.username is not None:
        own |= {"AWS_ACCESS_KEY_ID": repository.username, "AWS_SECRET_ACCESS_KEY": repository.password or ""}
    return Bucket(repository.url or "", {**os.environ, **own})
