"""Around every request: an id, the security headers, the count, the log's line, the last catch.

The outermost layer, so a refusal of the guard and a failure of our own carry the same headers and
are counted as well. Pure ASGI; it never touches bodies.
"""

from __future__ import annotations

import re
import time
import uuid
from contextlib import ExitStack
from typing import Any

import structlog
from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from longleaf.api.http.errors import CLIENT_LEFT, our_fault, respond
from longleaf.api.http.metrics import METHODS, Metrics
from longleaf.api.telemetry import Tracing

_log = structlog.get_logger(__name__)

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# No referrer to other sites; with no-referrer a form's Origin would be null, which is refused.
_HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "x-frame-options": "DENY",
}
_PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
"""Asked every few seconds: no line where all is well, and no warning where it is not."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Observe:
    """Gives a request its id (the caller's X-Request-ID when it is a plain one) and watches it."""

    def __init__(self, app: ASGIApp, metrics: Metrics, tracing: Tracing | None = None) -> None:
        self._app = app
        self._metrics = metrics
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex[:16]
        scope.setdefault("state", {})["request_id"] = request_id
        started = time.perf_counter()
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        with ExitStack() as around:
            named, span = {"request_id": request_id}, None
            if self._tracing is not None and scope["path"] not in _PROBES:
                traced = self._tracing.request(scope, _method(scope), request_id)
                span = around.enter_context(traced)
                named["trace_id"] = span.trace_id
            around.enter_context(structlog.contextvars.bound_contextvars(**named))
            try:
                await self._app(scope, receive, watched)
            except Exception:
                _log.exception("http.failed", route=_route(scope))
                if status:  # the answer has begun; cutting it off is all that is left
                    raise
                await respond(Request(scope), our_fault())(scope, receive, watched)
            finally:
                elapsed = time.perf_counter() - started
                answered = status or CLIENT_LEFT  # cancelled: nobody is there to be answered
                self._metrics.note_request(scope["method"], _route(scope), answered, elapsed)
                _tell(scope, answered, elapsed)
                if span is not None:
                    span.end(_route(scope), answered)


def _tell(scope: Scope, status: int, seconds: float) -> None:
    """The request's line in the log. A path may name a document, so its route stands for it."""
    path = scope["path"]
    fails = status >= 500 and path not in _PROBES
    if status < 400 and (path in _PROBES or path.startswith("/static/")):
        return
    caller = scope["state"].get("caller")
    (_log.warning if fails else _log.info)(
        "http.request",
        method=_method(scope),
        route=_route(scope),
        status=status,
        ms=round(seconds * 1000.0, 1),
        who="nobody" if caller is None else caller.name,
        key=None if caller is None else caller.key_id,
    )


def _method(scope: Scope) -> str:
    """One that HTTP has; anything else may be anything."""
    method = str(scope["method"])
    return method if method in METHODS else "other"


def _route(scope: Scope) -> str:
    """The template of the route that took the request."""
    route: Any = scope.get("route")
    return str(getattr(route, "path", "")) or "unmatched"
