"""httpx for servers that tests start on this machine without TLS.

httpx reads all certificates that it trusts for each client, and for each request that has no client: fifty times as
long as the request takes. These trust nobody.
"""

from __future__ import annotations

import ssl
from functools import partial

import httpx

_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

Client = partial(httpx.Client, verify=_NOBODY)
request = partial(httpx.request, verify=_NOBODY)
stream = partial(httpx.stream, verify=_NOBODY)
get = partial(httpx.get, verify=_NOBODY)
head = partial(httpx.head, verify=_NOBODY)
post = partial(httpx.post, verify=_NOBODY)
delete = partial(httpx.delete, verify=_NOBODY)
