"""The embedded server behind a front that makes it answer as other versions and settings of Nexus do."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx

from mirror import serve
from tests import plain

_API = "/service/rest/v1/"
# Recorded from Nexus 3.30.1, but for icons and styles.
ERROR_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
  <title>{status} - Nexus Repository Manager</title>
  <link rel="stylesheet" type="text/css" href="http://127.0.0.1:8081/static/css/nexus-content.css?3.30.1-01"/>
</head>
<body>
<div class="nexus-header">
  <a href="http://127.0.0.1:8081">
    <div class="product-id">
      <div class="product-id__line-1">
        <span class="product-name">Nexus Repository Manager</span>
      </div>
      <div class="product-id__line-2">
        <span class="product-spec">OSS 3.30.1-01</span>
      </div>
    </div>
  </a>
</div>

<div class="nexus-body">
  <div class="content-header">
    <span class="title">Error {status}</span>
    <span class="description">{reason}</span>
  </div>
  <div class="content-body">
    <div class="content-section">
      {said}
    </div>
      </div>
</div>
</body>
</html>
"""
_KEPT = ("content-type", "location", "www-authenticate", "etag")


class Front(ThreadingHTTPServer):
    """Hands requests on. ``closed`` maps the beginnings of paths below the REST API to the status that answers them.

    Where ``denied``, uploads to the REST API are answered as to a user without the privilege "edit", with 400.
    ``policies`` are the deployment policies of repositories, for a user who may read settings.
    ``fragment`` is the digest that index pages show, HTML only, as Nexus up to 3.40 shows MD5; "" shows none.
    ``stale`` are projects whose index page is an old one, from before they had files. ``rewrite`` may change the answer
    to a path. ``requests`` are those that came.
    """

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.client = plain.Client(base_url=upstream)
        self.closed: dict[str, int] = {}
        self.denied = False
        self.policies: dict[str, str] = {}
        self.fragment = "sha256"
        self.stale: set[str] = set()
        self.rewrite: Callable[[str, bytes], bytes] = lambda _, body: body
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is its own business."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Front

    def version_string(self) -> str:
        return "Nexus/3.30.1-01 (OSS)"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Tests are quiet."""

    def do_GET(self) -> None:
        self._hand_on()

    def do_POST(self) -> None:
        self._hand_on()

    def _hand_on(self) -> None:
        front = self.server
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        front.requests.append(f"{self.command} {self.path}")
        for beginning, status in front.closed.items():
            if self.path.startswith(_API + beginning):
                self._answer(status, {"content-type": "text/html"}, b"<html><body>Not for you</body></html>")
                return
        if front.denied and self.path.startswith(f"{_API}components"):
            said = b'[{"id":"*","message":"Not authorized for requested path \'packages/alpha/1.0/alpha-1.0.whl\'"}]'
            self._answer(400, {"content-type": "application/vnd.siesta-validation-errors-v1+json"}, said)
            return
        policy = front.policies.get(self.path.removeprefix(f"{_API}repositories/pypi/hosted/"))
        if policy is not None:
            said = json.dumps({"format": "pypi", "online": True, "storage": {"writePolicy": policy}}).encode()
            self._answer(200, {"content-type": "application/json"}, said)
            return
        headers = {name: self.headers[name] for name in ("authorization", "content-type") if name in self.headers}
        # The embedded server takes no token but its own, and gives all of a project's files at once.
        path = re.sub(r"&continuationToken=\d+$", "", self.path)
        answer = front.client.request(self.command, path, content=body, headers=headers)
        content = answer.content.replace(front.upstream.encode(), front.url.encode())
        page = re.fullmatch(r"/repository/[^/]+/simple/([^/]+)/", self.path)
        if page is not None and page[1] in front.stale:
            self._answer(404, {}, b"")
            return
        if page is not None and front.fragment != "sha256":
            content = re.sub(rb'href="([^"#]+)#sha256=\w+"', self._link, content)
        content = front.rewrite(self.path, content)
        self._answer(
            answer.status_code, {name: answer.headers[name] for name in _KEPT if name in answer.headers}, content
        )

    def _link(self, found: re.Match[bytes]) -> bytes:
        if not self.server.fragment:
            return b'href="%b"' % found[1]
        path = str(httpx.URL(f"{self.server.upstream}{self.path}").join(found[1].decode()).raw_path, "ascii")
        digest = hashlib.new(self.server.fragment, self.server.client.get(path).content).hexdigest()
        return b'href="%b#%b=%b"' % (found[1], self.server.fragment.encode(), digest.encode())

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def nexus(home: Path) -> Iterator[Front]:
    with serve.running(home) as server:
        front = Front(server.url)
        thread = threading.Thread(target=front.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield front
        finally:
            front.shutdown()
            thread.join()
            front.server_close()
            front.client.close()
