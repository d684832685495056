"""Traces by OpenTelemetry, sent as OTLP over HTTP to the collector that the operator names.

Off unless `telemetry.endpoint` is set; the standard's own variables name no endpoint here, but say
what else they say (OTEL_EXPORTER_OTLP_HEADERS, OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES). The
provider of spans is ours and not the process's: what other libraries would trace (addresses with
queries, words of exceptions) is not sent. FastAPI's own spans are off for the same reason. Spans
wait in memory (2,048 at most, then the newest are dropped, with a warning) and are sent every five
seconds by a thread of the library, so a collector that is away delays no request.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import longleaf
from longleaf.core import spans
from longleaf.core.errors import ConfigError
from longleaf.core.operation_settings import TelemetrySettings

if TYPE_CHECKING:
    from starlette.types import Scope

INSTALL = "pip install 'longleaf[telemetry]'"
_SEND_SECONDS = 5.0
_PREFIX = "longleaf."


class Tracing:
    """Makes the spans of a server's requests. Raises ConfigError where the packages are missing."""

    def __init__(self, settings: TelemetrySettings) -> None:
        try:
            from opentelemetry import trace
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError as error:
            raise ConfigError(
                f"telemetry.endpoint is set, and {error.name} is not installed.",
                f"{INSTALL}, or leave telemetry.endpoint empty.",
            ) from error
        resource = Resource.create({SERVICE_VERSION: longleaf.__version__})
        if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: "longleaf"}))
        self._provider = TracerProvider(
            resource=resource,
            sampler=ParentBased(TraceIdRatioBased(settings.sample)),
            shutdown_on_exit=False,
        )
        exporter = OTLPSpanExporter(
            endpoint=f"{settings.endpoint.rstrip('/')}/v1/traces", timeout=_SEND_SECONDS
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("longleaf", longleaf.__version__)
        self._propagator = TraceContextTextMapPropagator()
        self._trace: Any = trace

    @contextmanager
    def request(self, scope: Scope, method: str, request_id: str) -> Iterator[RequestSpan]:
        """The span of a request, below its caller's where that sent a `traceparent`."""
        told = ("traceparent", "tracestate")
        carrier = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in scope["headers"]
            if name.decode("latin-1") in told
        }
        with self._tracer.start_as_current_span(
            method,
            context=self._propagator.extract(carrier),
            kind=self._trace.SpanKind.SERVER,
            attributes={"http.request.method": method, "longleaf.request_id": request_id},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            token = spans.MAKER.set(self._part)
            try:
                yield RequestSpan(span, method, self._trace)
            finally:
                spans.MAKER.reset(token)

    @contextmanager
    def _part(self, name: str) -> Iterator[spans.Note]:
        with self._tracer.start_as_current_span(
            _PREFIX + name, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield lambda fact, value: span.set_attribute(_PREFIX + fact, value)
            except BaseException as error:
                _failed(span, self._trace, type(error).__qualname__)
                raise

    def flush(self) -> None:
        """Send what waits. For tests and the end."""
        self._provider.force_flush()

    def close(self) -> None:
        """Send what waits, for as long as one try takes, and make no more spans."""
        self._provider.shutdown()


class RequestSpan:
    """A request's span, for what is known of it at its end."""

    def __init__(self, span: Any, method: str, trace: Any) -> None:
        self._span = span
        self._method = method
        self._trace = trace

    @property
    def trace_id(self) -> str:
        """As W3C writes it: 32 hexadecimal digits."""
        return f"{self._span.get_span_context().trace_id:032x}"

    def end(self, route: str, status: int) -> None:
        """What took the request, and how it was answered."""
        self._span.update_name(f"{self._method} {route}")
        self._span.set_attribute("http.route", route)
        self._span.set_attribute("http.response.status_code", status)
        if status >= 500:
            _failed(self._span, self._trace, str(status))


def _failed(span: Any, trace: Any, kind: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(trace.StatusCode.ERROR)
