"""httpx for servers that tests start on this machine without TLS.

httpx reads all certificates that it trusts for each client, and for each request that has no client: fifty times as
long as the request takes. These trust nobody. Its five seconds until it gives up are nothing on a busy machine: these
wait a minute.
"""

from __future__ import annotations

import ssl
from functools import partial

import httpx

_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

Client = partial(httpx.Client, verify=_NOBODY, timeout=60)
request = partial(httpx.request, verify=_NOBODY, timeout=60)
stream = partial(httpx.stream, verify=_NOBODY, timeout=60)
get = partial(httpx.get, verify=_NOBODY, timeout=60)
head = partial(httpx.head, verify=_NOBODY, timeout=60)
post = partial(httpx.post, verify=_NOBODY, timeout=60)
delete = partial(httpx.delete, verify=_NOBODY, timeout=60)
