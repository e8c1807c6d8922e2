"""HTTP: TLS, proxies, credentials by origin, redirects, retries. The only maker of connections."""

from __future__ import annotations

from mirror.net.auth import Credentials
from mirror.net.client import Client, Response, SendError, Settings

__all__ = ["Client", "Credentials", "Response", "SendError", "Settings"]
