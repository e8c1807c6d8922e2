"""S3 servers for tests: moto's, over a real socket, one request at a time so that its conditional puts hold.

moto does not look at signatures. AIRGAP_TEST_S3 names a server that does, for the same tests.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import os
import ssl
import threading
import urllib.request
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pytest

from mirror.objects import Bucket

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

KEY, SECRET = "AKIATESTTESTTESTTEST", "s3cr3t/of+the+tests"
_REGION = "us-east-1"

#: Another server to test against, as ``http://KEY:SECRET@HOST:PORT/``. Read here: tests run without such settings.
ELSEWHERE = os.environ.get("AIRGAP_TEST_S3")


@dataclass
class S3Server:
    """A server at *url*. ``requests`` are (method, path) of what came, in that order; None where nobody can tell."""

    url: str
    key: str = KEY
    secret: str = field(default=SECRET, repr=False)
    requests: list[tuple[str, str]] | None = field(default_factory=list)
    buckets: list[str] = field(default_factory=list)

    def environ(self) -> dict[str, str]:
        """What a client needs to be told."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_REGION": _REGION,
        }

    def bucket(self, prefix: str = "") -> str:
        """The URL of a new empty bucket, or of *prefix* in it."""
        name = f"test-{uuid.uuid4().hex[:20]}"
        self.ask("PUT", f"/{name}")
        self.buckets.append(name)
        return f"s3://{name}/{prefix}".rstrip("/")

    def open(self, url: str) -> Bucket:
        return Bucket(url, self.environ())

    def publish(self, url: str) -> str:
        """Let everybody read the objects below *url*, s3://BUCKET/PREFIX; returns where they are over HTTP."""
        place = url.removeprefix("s3://")
        rule: dict[str, object] = {"Effect": "Allow", "Principal": {"AWS": ["*"]}, "Action": ["s3:GetObject"]}
        rule["Resource"] = [f"arn:aws:s3:::{place}/*"]
        document = json.dumps({"Version": "2012-10-17", "Statement": [rule]}).encode()
        self.ask("PUT", f"/{place.partition('/')[0]}", "policy=", document)
        return f"{self.url}/{place}"

    def ask(self, method: str, path: str, query: str = "", body: bytes = b"") -> None:
        """Make a request that the client has no method for, signed as AWS's version 4 has it."""
        digest = hashlib.sha256(body).hexdigest()
        now = datetime.now(timezone.utc)
        date, scope = f"{now:%Y%m%dT%H%M%SZ}", f"{now:%Y%m%d}/{_REGION}/s3/aws4_request"
        headers = {"host": urlsplit(self.url).netloc, "x-amz-content-sha256": digest, "x-amz-date": date}
        names = ";".join(headers)
        lines = [method, path, query, *(f"{name}:{value}" for name, value in headers.items()), "", names, digest]
        text = f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{hashlib.sha256(chr(10).join(lines).encode()).hexdigest()}"
        key = f"AWS4{self.secret}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.key}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
        headers["content-type"] = "application/json"  # or moto takes it for a form
        url = f"{self.url}{path}{f'?{query}' if query else ''}"
        urllib.request.urlopen(urllib.request.Request(url, body or None, headers, method=method)).close()


@contextmanager
def elsewhere_s3() -> Iterator[S3Server]:
    """The server that AIRGAP_TEST_S3 names; the buckets that the tests make there are removed at the end."""
    parts = urlsplit(ELSEWHERE or "")
    address = parts.netloc.rpartition("@")[2]
    found = S3Server(
        f"{parts.scheme}://{address}", unquote(parts.username or ""), unquote(parts.password or ""), requests=None
    )
    yield found
    for name in found.buckets:
        bucket = found.open(f"s3://{name}")
        bucket.delete([each.key for each in bucket.list()])
        found.ask("DELETE", f"/{name}")


@contextmanager
def serving_s3(tls: ssl.SSLContext | None = None) -> Iterator[S3Server]:
    pytest.importorskip("moto", reason="moto is not installed")
    from moto.moto_server.werkzeug_app import create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    application: Any = create_backend_app("s3")
    lock = threading.Lock()

    class Quiet(WSGIRequestHandler):
        def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 - werkzeug's name
            """Tests look at what was asked, not at a log."""

    def one_at_a_time(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # Bodies arrive beside each other; what moto then checks and stores is not disturbed.
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        with lock:
            assert found.requests is not None
            found.requests.append((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
            return list(application(environ, start_response))

    server = make_server("127.0.0.1", 0, one_at_a_time, threaded=True, request_handler=Quiet, ssl_context=tls)
    found = S3Server(f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, name="s3", daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
