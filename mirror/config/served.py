"""What ``[serve]`` in ``airgap.toml`` and ``airgap repo`` turn into."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mirror import urls

HOST, PORT = "127.0.0.1", 8081
MOST_WORKERS = 64
#: Seconds.
MAX_AGE, NEGATIVE_MAX_AGE = 600.0, 60.0
#: What a table of each kind may say besides its kind.
KEYS = {
    "hosted": ("write-policy", "version-policy"),
    "proxy": (
        "remote", "max-age", "negative-max-age", "keep-days", "offline", "username", "password-env", "ca-cert",
        "client-cert",
    ),
    "group": ("members", "deploy-to"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Served:
    """One embedded repository; ``kind`` is hosted, proxy or group, and only its own settings mean anything.

    ``write_policy``: ``allow`` takes new files and answers identical ones again with success, ``allow-once`` refuses
    those as Nexus does, ``deny`` takes nothing; no policy ever replaces a file. ``version_policy``: ``snapshot`` takes
    only development and local versions, ``release`` only others. ``remote`` is a simple index without credentials;
    ages are in seconds; garbage collection forgets what nobody asked for in ``keep_days``. ``members`` are asked in
    this order; uploads go to ``deploy_to``.
    """

    name: str
    kind: str
    write_policy: str = "allow"
    version_policy: str = "mixed"
    remote: str = ""
    max_age: float = MAX_AGE
    negative_max_age: float = NEGATIVE_MAX_AGE
    keep_days: float | None = None
    offline: bool = False
    username: str | None = None
    password_env: str | None = None
    ca_cert: Path | None = None
    client_cert: Path | None = None
    members: tuple[str, ...] = ()
    deploy_to: str | None = None
    source: str = field(default="default", compare=False)

    def credentials(self, url: str, environ: Mapping[str, str] = os.environ) -> tuple[str, str] | None:
        """User and password for *url*, where these settings name them and it is on the remote's own server."""
        if self.username is None or urls.origin(url) != urls.origin(self.remote):
            return None
        return self.username, environ.get(self.password_env or "", "")

    def table(self) -> dict[str, Any]:
        """The settings of this kind as ``airgap.toml`` has them, without those that are not set."""
        values = {key: getattr(self, key.replace("-", "_")) for key in KEYS[self.kind]}
        plain = {key: str(value) if isinstance(value, Path) else value for key, value in values.items()}
        return {"kind": self.kind, **{key: value for key, value in plain.items() if value is not None}}


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """``[serve]``: the address, TLS files, and from which addresses ``X-Forwarded-*`` headers are believed.

    ``catalog`` is the URL of a database in PostgreSQL, without a password, ``blobs`` a place in an S3 bucket; None is a
    file and a folder in the home. ``metrics`` says who may see them: whoever may read or admin everything, or nobody.
    """

    host: str = HOST
    port: int = PORT
    tls_cert: Path | None = None
    tls_key: Path | None = None
    trusted_proxies: tuple[str, ...] = ()
    anonymous_read: bool = True
    catalog: str | None = None
    blobs: str | None = None
    workers: int = 1
    metrics: str = "read"
    repositories: Mapping[str, Served] = field(default_factory=lambda: MappingProxyType({}))
