"""HTTP: TLS, proxies, credentials by origin, redirects, retries. The only maker of connections."""

from __future__ import annotations

import sys

# httpx's own command line loads rich and pygments wherever they happen to be installed: 60 ms that nobody here needs.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # Python's way to make an import fail

from mirror.net.auth import Credentials  # noqa: E402
from mirror.net.client import SEND_LIMIT, Client, Response, SendError, Settings  # noqa: E402

__all__ = ["SEND_LIMIT", "Client", "Credentials", "Response", "SendError", "Settings"]
