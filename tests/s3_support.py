"""An S3 server for tests: moto's, over a real socket, one request at a time so that its conditional puts hold."""

from __future__ import annotations

import io
import ssl
import threading
import urllib.request
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from mirror.objects import Bucket

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

KEY, SECRET = "AKIATESTTESTTESTTEST", "s3cr3t/of+the+tests"


@dataclass
class S3Server:
    """A server at *url*. ``requests`` are (method, path) of what came, in that order."""

    url: str
    requests: list[tuple[str, str]] = field(default_factory=list)

    def environ(self) -> dict[str, str]:
        """What a client needs to be told."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }

    def bucket(self, prefix: str = "") -> str:
        """The URL of a new empty bucket, or of *prefix* in it."""
        name = f"test-{uuid.uuid4().hex[:20]}"
        # moto does not look at signatures.
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/{name}", method="PUT")).close()
        return f"s3://{name}/{prefix}".rstrip("/")

    def open(self, url: str) -> Bucket:
        return Bucket(url, self.environ())


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
