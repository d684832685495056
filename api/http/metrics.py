"""What Prometheus reads at /metrics: requests, stage times, degradations, sizes, lag, jobs, room.

A registry per app, so two apps in one process (tests) do not share counts. Labels are route
templates and stage names, never paths or queries: their number stays bounded and they tell nothing
about what anybody searched for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from longleaf.api.http.lanes import Lane
    from longleaf.api.search import SearchAnswer
    from longleaf.core.catalog import CatalogCounts
    from longleaf.core.catalog.standing import Standing
    from longleaf.core.types import ReaderLoad

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_READER: tuple[tuple[str, type[Metric], str], ...] = (
    ("waiting_requests", GaugeMetricFamily, "Requests that wait or are under way."),
    ("waiting_tokens", GaugeMetricFamily, "Tokens that wait for the reranker."),
    ("requests", CounterMetricFamily, "Requests that the reranker took."),
    ("refused", CounterMetricFamily, "Requests that were refused (429): too much waited."),
    ("passes", CounterMetricFamily, "Forward passes."),
    ("documents", CounterMetricFamily, "Texts that were scored."),
    ("tokens", CounterMetricFamily, "Tokens that went through forward passes."),
    ("out_of_memory", CounterMetricFamily, "Passes that did not fit and were tried with half."),
    ("queue_seconds", CounterMetricFamily, "Time that requests waited for their first pass."),
    ("tokenize_seconds", CounterMetricFamily, "Time that texts took to become tokens."),
    ("busy_seconds", CounterMetricFamily, "Time in forward passes."),
    ("utilisation", GaugeMetricFamily, "Arithmetic while busy, of what the device can do."),
)
"""Fields of `ReaderLoad` as `longleaf_reader_…`."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """What is looked up when Prometheus asks, and counted by nobody.

    `load`: of a reranker with a queue. `free_bytes`: left on the disk of the data folder.
    """

    counts: CatalogCounts
    lag: int
    is_ready: bool
    standing: Standing
    free_bytes: int
    load: ReaderLoad | None = None


class _ReaderCollector:
    """A reranker counts for itself; this shows its numbers as they are."""

    def __init__(self) -> None:
        self.load: ReaderLoad | None = None

    def collect(self) -> Iterator[Metric]:
        if self.load is not None:
            for name, family, description in _READER:
                value = float(getattr(self.load, name))
                yield family(f"longleaf_reader_{name}", description, value=value)  # type: ignore[call-arg]


class _LaneCollector:
    """Lanes count for themselves too."""

    def __init__(self, lanes: Sequence[Lane]) -> None:
        self._lanes = lanes

    def collect(self) -> Iterator[Metric]:
        waiting = GaugeMetricFamily(
            "longleaf_lane_waiting", "Requests in line for their turn.", labels=["lane"]
        )
        running = GaugeMetricFamily(
            "longleaf_lane_running", "Requests whose turn it is.", labels=["lane"]
        )
        refused = CounterMetricFamily(
            "longleaf_lane_refused", "Requests refused (429): the line was full.", labels=["lane"]
        )
        left = GaugeMetricFamily(
            "longleaf_lane_left",
            "Requests whose thread stands in a part that does not come back.",
            labels=["lane"],
        )
        for each in self._lanes:
            left.add_metric([each.what], each.left)
            waiting.add_metric([each.what], each.waiting)
            running.add_metric([each.what], each.running)
            refused.add_metric([each.what], each.refused)
        yield from (waiting, running, refused, left)


class Metrics:
    """Counters and gauges of one app."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._cut = Counter(
            "longleaf_http_cut",
            "Connections closed because the client was too slow, or refused as too many.",
            ["what"],
            registry=self._registry,
        )
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
        self._written = Counter(
            "longleaf_answers",
            "Answers in words by how they ended.",
            ["state"],
            registry=self._registry,
        )
        self._collections = self._gauge("longleaf_collections", "Collections in the catalog.")
        self._documents = self._gauge("longleaf_documents", "Documents in the catalog.")
        self._passages = self._gauge("longleaf_passages", "Passages in the catalog.")
        self._reader = _ReaderCollector()
        self._registry.register(self._reader)
        self._lag = self._gauge(
            "longleaf_index_lag", "Changes that the index has not followed yet."
        )
        self._ready = self._gauge("longleaf_ready", "1 where /readyz says 200, else 0.")
        self._free = self._gauge(
            "longleaf_home_free_bytes", "Room that is left on the disk of the data folder."
        )
        self._jobs = self._gauge("longleaf_jobs", "Jobs of the catalog by state.", "state")
        self._files = self._gauge(
            "longleaf_job_files", "Files of kept jobs by how they ended.", "outcome"
        )

    def _gauge(self, name: str, description: str, *labels: str) -> Gauge:
        return Gauge(name, description, labels, registry=self._registry)

    def note_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request; `route` is a template such as /v1/documents/{id}."""
        method = method if method in METHODS else "other"
        self._requests.labels(method, route, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def watch_lanes(self, lanes: Sequence[Lane]) -> None:
        """Show these lanes, which count for themselves."""
        self._registry.register(_LaneCollector(lanes))

    def note_cut(self, what: str) -> None:
        """Count one connection closed because its head, body or answer was too slow."""
        self._cut.labels(what).inc()

    def note_answer(self, answer: SearchAnswer) -> None:
        """Count one search's stage times and degradations."""
        for stage, elapsed_ms in answer.timings_ms.items():
            self._stage_seconds.labels(stage).observe(elapsed_ms / 1000.0)
        for stage in {each.stage for each in answer.degraded}:
            self._degraded.labels(stage).inc()

    def note_written(self, state: str) -> None:
        """Count one answer in words by its state."""
        self._written.labels(state).inc()

    def exposition(self, seen: Sighting) -> bytes:
        """The text that Prometheus scrapes."""
        self._reader.load = seen.load
        self._collections.set(seen.counts.collections)
        self._documents.set(seen.counts.documents)
        self._passages.set(seen.counts.passages)
        self._lag.set(seen.lag)
        self._ready.set(seen.is_ready)
        self._free.set(seen.free_bytes)
        for state, jobs in seen.standing.jobs.items():
            self._jobs.labels(state.value).set(jobs)
        for outcome, files in seen.standing.files.items():
            self._files.labels(outcome.value).set(files)
        return generate_latest(self._registry)
