"""HTTP: TLS, proxies, credentials by origin, redirects, retries. The only maker of connections."""

from mirror.net.auth import Credentials
from mirror.net.client import PROXY_LOGIN, SEND_LIMIT, Client, Response, SendError, Settings

__all__ = ["PROXY_LOGIN", "SEND_LIMIT", "Client", "Credentials", "Response", "SendError", "Settings"]
