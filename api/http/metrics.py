"""What Prometheus reads at /metrics: requests, stage times, degradations, sizes, lag.

A registry per app, so two apps in one process (tests) do not share counts. Labels are route
templates and stage names, never paths or queries: their number stays bounded and they tell nothing
about what anybody searched for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from longleaf.api.search import SearchAnswer
    from longleaf.core.catalog import CatalogCounts

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Metrics:
    """Counters and gauges of one app."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "longleaf_http_requests",
            "HTTP requests by route template and status.",
            ["method", "route", "status"],
            registry=self._registry,
        )
        self._request_seconds = Histogram(
            "longleaf_http_request_seconds",
            "Time to answer a request.",
            ["route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._stage_seconds = Histogram(
            "longleaf_search_stage_seconds",
            "Time of each stage of a search; stage total is the whole search.",
            ["stage"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._degraded = Counter(
            "longleaf_search_degraded",
            "Searches that had to answer without part of a stage.",
            ["stage"],
            registry=self._registry,
        )
        self._collections = self._gauge("longleaf_collections", "Collections in the catalog.")
        self._documents = self._gauge("longleaf_documents", "Documents in the catalog.")
        self._passages = self._gauge("longleaf_passages", "Passages in the catalog.")
        self._lag = self._gauge(
            "longleaf_index_lag", "Changes that the index has not followed yet."
        )

    def _gauge(self, name: str, description: str) -> Gauge:
        return Gauge(name, description, registry=self._registry)

    def note_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request; `route` is a template such as /v1/documents/{id}."""
        method = method if method in _METHODS else "other"
        self._requests.labels(method, route, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def note_answer(self, answer: SearchAnswer) -> None:
        """Count one search's stage times and degradations."""
        for stage, elapsed_ms in answer.timings_ms.items():
            self._stage_seconds.labels(stage).observe(elapsed_ms / 1000.0)
        for stage in {each.stage for each in answer.degraded}:
            self._degraded.labels(stage).inc()

    def exposition(self, counts: CatalogCounts, lag: int) -> bytes:
        """The text that Prometheus scrapes."""
        self._collections.set(counts.collections)
        self._documents.set(counts.documents)
        self._passages.set(counts.passages)
        self._lag.set(lag)
        return generate_latest(self._registry)
