"""What Prometheus can read: how long requests and searches take, and how the collection and the pipeline are doing."""

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.index.manifest import Manifest
from pipeline.overview import Figures

# Whatever else a client makes up must not become a time series of its own.
METHODS = {"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"}
# A search takes tens of milliseconds, its steps a few, an upload of an archive minutes.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0)


class Metrics:
    """The measurements of one application.

    `figures` asks the servers, or says what they answered a moment ago; `served` is the generation that answers now.
    """

    def __init__(self, figures: Callable[[], Figures], served: Callable[[], Manifest | None]) -> None:
        self.registry = CollectorRegistry()
        self._requests = Histogram(
            "sleeve_http_request_seconds",
            "Time from a request to the last byte of its answer.",
            ["method", "route", "status"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self._searches = Histogram(
            "sleeve_search_step_seconds",
            "Time of a search in: wait (for a core), describe (decoding and SIFT), vote (first stage), "
            "catalogue (what was deleted), verify.",
            ["step"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        ProcessCollector(registry=self.registry)
        self.registry.register(_Gauges(figures, served))

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Note that a request was answered; `route` is the template of its path."""
        self._requests.labels(method if method in METHODS else "other", route, status).observe(seconds)

    def search(self, steps: Mapping[str, float]) -> None:
        """Note how many seconds the steps of a search took."""
        for step, seconds in steps.items():
            self._searches.labels(step).observe(seconds)


class _Gauges(Collector):
    """What is asked for when somebody reads the metrics."""

    def __init__(self, figures: Callable[[], Figures], served: Callable[[], Manifest | None]) -> None:
        self._figures = figures
        self._served = served

    def collect(self) -> Iterator[Metric]:
        yield from _of_servers(self._figures())
        if manifest := self._served():
            yield from _of_generation(manifest)


def _of_servers(figures: Figures) -> Iterator[Metric]:
    up = GaugeMetricFamily("sleeve_up", "Whether a server answered in time.", labels=["server"])
    for server in figures.asked:
        up.add_metric([server], server not in figures.away)
    yield up
    if figures.images is not None:
        images = GaugeMetricFamily("sleeve_images", "Images in the catalogue, by status.", labels=["status"])
        for status, number in figures.images.items():
            images.add_metric([status], number)
        yield images
    if figures.freshness is not None:
        text = "Seconds from the catalogue to the index, of the images that were indexed in the last hour."
        freshness = GaugeMetricFamily("sleeve_freshness_seconds", text, labels=["quantile"])
        for quantile, seconds in (("0.5", "p50"), ("0.95", "p95"), ("1", "max")):
            freshness.add_metric([quantile], getattr(figures.freshness, seconds))
        yield freshness
    if figures.messages is not None:
        yield GaugeMetricFamily("sleeve_consumer_lag", "Messages that were not taken yet.", figures.messages)


def _of_generation(manifest: Manifest) -> Iterator[Metric]:
    about = {"id": manifest.id, "kind": manifest.kind, "codes": manifest.choice.codes}
    yield InfoMetricFamily("sleeve_generation", "The generation that this replica answers from.", about)
    age = (datetime.now(UTC) - manifest.created_at).total_seconds()
    yield GaugeMetricFamily("sleeve_index_age_seconds", "How long ago that generation was made.", age)
    yield GaugeMetricFamily("sleeve_index_images", "Images in that generation.", manifest.counts.images)
    if manifest.recall:
        text = "Share of deformed copies of its own images that it found."
        yield GaugeMetricFamily("sleeve_index_recall", text, manifest.recall.recall_at_1)


class Requests:
    """Tells `Metrics` of each request."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, before = time.perf_counter(), 500, scope.get("root_path", "")

        async def seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, seen)
        finally:
            self._metrics.request(scope["method"], _template(scope, before), status, time.perf_counter() - began)


def _template(scope: Scope, before: str) -> str:
    """The template of the route that answered; `before` is the path that a proxy has cut off."""
    # Routing has noted both in the scope. What was found by no route has any path, so it is counted together.
    route, mounted = scope.get("route"), scope.get("root_path", "").removeprefix(before)
    if route is None:
        return "none"
    return mounted if isinstance(route, Mount) else f"{mounted}{route.path}"
