"""What is asked about the server itself: does it answer, can it work, and what has it done (Prometheus).

The counting is prometheus_client's: what several workers count it adds up through files that they share, which a text
of our own would have to do as well.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus

import anyio
import anyio.to_thread
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mirror import __version__
from mirror.errors import AirgapError
from mirror.serve.access import Access
from mirror.serve.flights import Once
from mirror.serve.home import Home
from mirror.serve.repository import LOG

#: Where workers put their numbers for each other; the library wants the name in the environment before it is imported.
SHARED_NUMBERS = "PROMETHEUS_MULTIPROC_DIR"
#: Seconds within which catalog and blobs must answer.
_READY_SECONDS = 5.0
#: Seconds for which the sizes of repositories are not counted again.
_SIZES_SECONDS = 15.0
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE"})


class Watch:
    """Health, readiness and metrics of the server of *home*; *metrics* is who may see those: read, admin or off."""

    def __init__(self, home: Home, access: Access, metrics: str) -> None:
        self._home = home
        self._access = access
        self._metrics = metrics
        self._once: Once[str] = Once()
        self._registry = CollectorRegistry()
        self._sizes = _Sizes(home)
        self._requests = Counter(
            "airgap_http_requests", "Requests.", ("method", "handler", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "airgap_http_request_duration_seconds",
            "From a request's head to the last byte of its answer.",
            ("method", "handler"),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._received = Counter(
            "airgap_http_received_bytes", "Bytes of requests' bodies.", ("handler",), registry=self._registry
        )
        self._sent = Counter(
            "airgap_http_sent_bytes", "Bytes of answers' bodies.", ("handler",), registry=self._registry
        )
        self._asked = Counter(
            "airgap_proxy_requests",
            "What proxies were asked for: hit is from here, miss from the remote, stale an old page in need.",
            ("repository", "what", "result"),
            registry=self._registry,
        )
        home.observe = lambda *labels: self._asked.labels(*labels).inc()

    def routes(self) -> list[Route]:
        """Where the answers are."""
        return [
            Route("/-/health", self.health, methods=["GET"]),
            Route("/-/ready", self.ready, methods=["GET"]),
            Route("/metrics", self.metrics, methods=["GET"]),
        ]

    async def health(self, request: Request) -> Response:
        """The process answers; nothing else is asked."""
        return PlainTextResponse("ok\n", headers={"cache-control": "no-store"})

    async def ready(self, request: Request) -> Response:
        """Catalog and blobs answer; what is wrong with them is for the operator's eyes, not for everybody's."""
        said = ""
        with anyio.move_on_after(_READY_SECONDS) as scope:
            said = await anyio.to_thread.run_sync(self._once, "ready", self._missing, abandon_on_cancel=True)
        if scope.cancelled_caught:
            said = f"catalog and blobs did not answer within {_READY_SECONDS:g} seconds"
        status = HTTPStatus.SERVICE_UNAVAILABLE if said else HTTPStatus.OK
        return PlainTextResponse(f"{said or 'ready'}\n", status, {"cache-control": "no-store"})

    async def metrics(self, request: Request) -> Response:
        """The numbers of all workers of this node, in Prometheus's text format."""
        if self._metrics == "off":
            raise HTTPException(HTTPStatus.NOT_FOUND)
        text = await anyio.to_thread.run_sync(self._render, request)
        return Response(text, headers={"content-type": CONTENT_TYPE_LATEST, "cache-control": "no-store"})

    def counted(self, app: ASGIApp) -> ASGIApp:
        """*app*, whose requests are counted from now on."""

        async def count(scope: Scope, receive: Receive, send: Send) -> None:
            began, status, received, sent = time.perf_counter(), 0, 0, 0

            async def receiving() -> Message:
                nonlocal received
                message = await receive()
                received += len(message.get("body", b""))
                return message

            async def sending(message: Message) -> None:
                nonlocal status, sent
                status = message.get("status", status)
                sent += len(message.get("body", b""))
                await send(message)

            try:
                await app(scope, receiving, sending)
            finally:
                method = scope["method"] if scope["method"] in _METHODS else "other"
                # The handler's name, never the path: there are few of them.
                handler = getattr(scope.get("endpoint"), "__name__", "none")
                self._requests.labels(method, handler, status).inc()
                self._seconds.labels(method, handler).observe(time.perf_counter() - began)
                self._received.labels(handler).inc(received)
                self._sent.labels(handler).inc(sent)

        return count

    def _missing(self) -> str:
        """What does not answer; empty where all does."""
        failed = [
            name
            for name, ask in (("catalog", self._home.catalog.repositories), ("blobs", self._home.blobs.check))
            if not _answers(ask)
        ]
        return f"{' and '.join(failed)} can't be reached" if failed else ""

    def _render(self, request: Request) -> bytes:
        self._access.check(request, self._metrics, "*")
        registry = CollectorRegistry()
        registry.register(self._sizes)
        if SHARED_NUMBERS in os.environ:
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
            return generate_latest(registry)
        return generate_latest(self._registry) + generate_latest(registry)


def _answers(ask: Callable[[], object]) -> bool:
    try:
        ask()
    except AirgapError as error:
        LOG.warning("not ready: %s", error)
        return False
    return True


class _Sizes(Collector):
    """What the catalog says, alike on every worker and node."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._known: tuple[float, dict[str, tuple[int, int]]] = 0.0, {}

    def collect(self) -> Iterator[Metric]:
        build = GaugeMetricFamily("airgap_build_info", "The version that runs.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        if time.monotonic() > self._known[0]:
            try:
                self._known = time.monotonic() + _SIZES_SECONDS, self._home.catalog.sizes()
            except AirgapError as error:
                LOG.warning("no sizes in the metrics: %s", error)
                return
        files = GaugeMetricFamily("airgap_repository_files", "Files of a repository.", labels=["repository"])
        size = GaugeMetricFamily("airgap_repository_bytes", "Their bytes.", labels=["repository"])
        for repository, (count, total) in sorted(self._known[1].items()):
            files.add_metric([repository], count)
            size.add_metric([repository], total)
        yield from (files, size)
