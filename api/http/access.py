"""Who asks, and may they: decided before a route, or a body, is looked at.

Pure ASGI around all routes, pages and mounts. A caller is found by key (`Authorization: Bearer`, or
`X-API-Key`) or by the page's session cookie and handed on as `request.state.caller`, whose scope
every read takes. What a request needs stands in one table; a change that is not in it needs an
admin, so that a forgotten route is shut and not open. What changed something is in the audit log
before its answer begins.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

import structlog
from anyio import CapacityLimiter, to_thread
from fastapi import Request
from fastapi.responses import RedirectResponse, Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from longleaf.api.gate import Gate
from longleaf.api.http.dialects import places
from longleaf.api.http.errors import BodyTooLarge, http_problem, problem_of, respond, retry_headers
from longleaf.api.http.guard import counted, declares_more, is_loopback
from longleaf.api.http.html import ASKING
from longleaf.core import types
from longleaf.core.access import LOCAL, Caller, Role
from longleaf.core.catalog.audit import Audit, AuditWrite
from longleaf.core.errors import LongleafError, Overloaded
from longleaf.core.waiting import CATALOG, Patience

_log = structlog.get_logger(__name__)

PUBLIC: Final = frozenset(
    {"/healthz", "/readyz", "/login", "/logout", "/login/oidc", "/login/oidc/callback"}
)
"""Paths for everybody, beside the page's own files."""
_FILES = "/static/"
ANONYMOUS = Caller("anonymous", Role.READ, types.Scope(frozenset(), frozenset()))
"""Who asks for a public path without a key: sees nothing."""

COOKIE = "longleaf_session"
SECURE_COOKIE = f"__Host-{COOKIE}"
"""Beyond this machine, where the browser sends it by TLS only."""

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_LOOK_THREADS = 4
_LOOK_SECONDS = 30.0
_QUICK_SECONDS = 2.0
_QUICK = frozenset({"/metrics", "/v1/status", "/library/health"})
"""Who asks whether all is well is told soon, as for all public paths, also when the catalog does
not say who it is."""
_KEEP_THREADS = 4
"""Beside those that look: a write may wait a minute for the catalog, and nobody's key with it."""
_WITHIN = "longleaf.within"
"""Of a scope that `within` marked."""

_QUESTIONS: Final = frozenset(
    f"POST {path}"
    for path in (
        *places.PLACES,
        "/as/{dialect}/{path:path}",
        "/v1/search",
        "/results",
        "/v1/answer",
        "/answer",
        "/v1/embeddings",
        "/v1/vector_stores/{vector_store_id}/search",
        "/mcp",
    )
)
"""Asked with a body. They change nothing, so the audit log says nothing of them."""
NEEDS: Final[Mapping[str, Role]] = {
    **dict.fromkeys(_QUESTIONS, Role.READ),
    # An opinion is its reader's own.
    "POST /v1/judgements": Role.READ,
    "DELETE /v1/judgements": Role.READ,
    "POST /judge": Role.READ,
    # Documents and the work on them.
    "POST /v1/documents": Role.WRITE,
    "DELETE /v1/documents/{document_id}": Role.WRITE,
    "POST /v1/documents/{document_id}/reindex": Role.WRITE,
    "GET /v1/jobs": Role.WRITE,
    "GET /v1/jobs/{job_id}": Role.WRITE,
    "GET /v1/jobs/{job_id}/files": Role.WRITE,
    "GET /v1/uploads": Role.WRITE,
    "GET /library/uploads/{job_id}": Role.WRITE,
    "POST /v1/collections/{name}/reindex": Role.WRITE,
    "GET /library/collections/{name}/reindex": Role.WRITE,
    "POST /library/collections/{name}/reindex": Role.WRITE,
    "POST /v1/jobs/{job_id}/cancel": Role.WRITE,
    "POST /v1/jobs/{job_id}/retry": Role.WRITE,
    # What others asked and thought.
    "GET /v1/judgements": Role.WRITE,
    "GET /v1/judgements/standing": Role.WRITE,
    "GET /v1/judgements/table": Role.WRITE,
    "POST /v1/judgements/table": Role.WRITE,
    "GET /v1/evaluations": Role.WRITE,
    "POST /v1/evaluations": Role.WRITE,
    "GET /v1/evaluations/{evaluation_id}": Role.WRITE,
    "POST /v1/evaluations/{evaluation_id}/cancel": Role.WRITE,
    "POST /library/upload": Role.WRITE,
    "GET /library/documents/{document_id}/delete": Role.WRITE,
    "POST /library/documents/{document_id}/delete": Role.WRITE,
    "POST /library/documents/{document_id}/reindex": Role.WRITE,
    "POST /library/uploads/{job_id}/{what}": Role.WRITE,
    "GET /evaluate": Role.WRITE,
    "POST /evaluate": Role.WRITE,
    "POST /evaluate/cancel": Role.WRITE,
    "POST /evaluate/take-back": Role.WRITE,
    "POST /evaluate/import": Role.WRITE,
    # What all have in common.
    "POST /v1/collections": Role.ADMIN,
    "PATCH /v1/collections/{name}": Role.ADMIN,
    "DELETE /v1/collections/{name}": Role.ADMIN,
    "GET /library/collections": Role.ADMIN,
    "POST /library/collections": Role.ADMIN,
    "POST /library/collections/{name}": Role.ADMIN,
    "GET /library/collections/{name}/delete": Role.ADMIN,
    "POST /library/collections/{name}/delete": Role.ADMIN,
    "POST /v1/index/compare": Role.ADMIN,
    # The machine, and all collections together.
    "GET /v1/status": Role.ADMIN,
    "GET /library/health": Role.ADMIN,
    "GET /metrics": Role.READ,
}
"""Method and route -> what a caller must be. Else: looking needs `read`, anything more `admin`."""
_OF_ALL: Final = frozenset(
    {"GET /v1/status", "GET /library/health", "GET /metrics", "POST /v1/index/compare"}
)
"""These tell of all collections together, so they are for keys without limits."""


def _pattern(route: str) -> re.Pattern[str]:
    """A path parameter is a segment, or with `:path` the rest."""
    whole = re.sub(r"\\\{\w+:path\\\}", ".+", re.escape(route))
    return re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", whole))


_PATTERNS = [(_pattern(route), route, role) for route, role in NEEDS.items()]
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def needed(method: str, path: str) -> tuple[str, Role]:
    """The route of a request, as far as it is known here, and what its caller must be."""
    asked = f"{'GET' if method == 'HEAD' else method} {path}"
    if _CONTROL.search(path):
        # The router takes /v1/jobs%0A for /v1/jobs: the end of a line is an end to its patterns.
        return asked, Role.ADMIN
    for pattern, route, role in _PATTERNS:
        if pattern.fullmatch(asked):
            return route, role
    return asked, Role.READ if method in _SAFE or is_public(path) else Role.ADMIN


def is_public(path: str) -> bool:
    """Whether everybody may ask for it."""
    return path in PUBLIC or path.startswith(_FILES)


def within(app: ASGIApp) -> ASGIApp:
    """`app` for a request that was let in and asks our own routes for its caller (MCP's tools do):
    it is not counted again.

    Said in the scope, which no client writes. A context variable would go on to the next request of
    the connection, whose task may begin inside this one's.
    """

    async def asked(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, _WITHIN: True}, receive, send)

    return asked


class Access:
    """See the module."""

    def __init__(self, app: ASGIApp, gate: Gate, audit: Audit) -> None:
        self._app = app
        self._gate = gate
        self._audit = audit
        self._looking = CapacityLimiter(_LOOK_THREADS)
        self._quickly = CapacityLimiter(_LOOK_THREADS)
        self._looks = Patience(CATALOG)
        self._quick_looks = Patience(CATALOG, 2)
        self._keeping = CapacityLimiter(_KEEP_THREADS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(_FILES):
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        path, method = scope["path"], scope["method"]
        try:
            caller = await self._caller(request)
        except LongleafError as error:  # the catalog cannot be asked; /healthz answers all the same
            if not is_public(path):
                await respond(request, problem_of(error), retry_headers(error))(
                    scope, receive, send
                )
                return
            caller = None
        if caller is None and is_public(path):
            caller = ANONYMOUS
        ASKING.set(caller or ANONYMOUS)
        if caller is not LOCAL:
            send = _unkept(send)
        route, role = needed(method, path)
        refused = self._refused(request, caller, route, role)
        if refused is not None:
            if caller is not None and method not in _SAFE and refused.status_code != 429:
                await self._note(request, caller, route, refused.status_code)
            await refused(scope, receive, send)
            return
        assert caller is not None
        request.state.caller = caller
        named = structlog.contextvars.bind_contextvars(who=caller.name, key=caller.key_id)
        if caller.max_body_bytes is not None:
            receive = counted(receive, caller.max_body_bytes)
        try:
            if method in _SAFE or is_public(path) or route in _QUESTIONS:
                await self._app(scope, receive, send)
            else:
                await self._kept(request, caller, route, receive, send)
        finally:
            structlog.contextvars.reset_contextvars(**named)
            if self._gate.is_use_news(caller):
                await to_thread.run_sync(self._gate.note_use, caller, limiter=self._keeping)

    async def _kept(
        self, request: Request, caller: Caller, route: str, receive: Receive, send: Send
    ) -> None:
        """A change: the audit log has how it ended before its answer begins."""
        is_noted = False

        async def noted(message: Message) -> None:
            nonlocal is_noted
            if message["type"] == "http.response.start":
                is_noted = True
                await self._note(request, caller, route, message["status"])
            await send(message)

        try:
            await self._app(request.scope, receive, noted)
        except Exception:
            # It failed in a way that nobody expected, and may be done all the same.
            if not is_noted:
                await self._note(request, caller, route, 500)
            raise

    async def _caller(self, request: Request) -> Caller | None:
        key, session = credentials(request.headers, request.cookies)
        path = request.scope["path"]
        looks, seconds, limiter = self._looks, _LOOK_SECONDS, self._looking
        if is_public(path) or path in _QUICK:
            looks, seconds, limiter = self._quick_looks, _QUICK_SECONDS, self._quickly

        def look() -> Caller | None:
            return looks.call(lambda: self._gate.caller(key, session), seconds)

        return await to_thread.run_sync(look, limiter=limiter)

    def _refused(
        self, request: Request, caller: Caller | None, route: str, role: Role
    ) -> Response | None:
        if caller is None:
            return _who_is_it(request)
        if caller is ANONYMOUS:
            return None
        if _WITHIN not in request.scope:
            try:
                self._gate.admit(caller)
            except Overloaded as error:
                return respond(request, problem_of(error), retry_headers(error))
        if not caller.role.includes(role):
            what = http_problem(
                403,
                f"{caller.name} has the role {caller.role}; this needs {role}.",
                "Ask whoever keeps the keys: longleaf keys create --role.",
            )
            return respond(request, what)
        if route in _OF_ALL and caller.scope != types.Scope.all():
            what = http_problem(
                403,
                f"{caller.name} may see a part; this tells of all collections together.",
                "Ask with a key that has no limits.",
            )
            return respond(request, what)
        most = caller.max_body_bytes
        if most is not None and declares_more(request.headers, most):
            hint = "Ask whoever keeps the keys for more."
            return respond(request, http_problem(413, str(BodyTooLarge(most).detail), hint))
        return None

    async def _note(self, request: Request, caller: Caller, route: str, status: int) -> None:
        request_id = str(getattr(request.state, "request_id", ""))
        act = AuditWrite(caller.name, caller.key_id, route, request.url.path, status, request_id)
        try:
            await to_thread.run_sync(self._audit.put, act, limiter=self._keeping)
        except LongleafError as error:
            # What was done is done; an answer that says otherwise would be asked again.
            _log.error("audit.not_kept", act=route, status=status, reason=error.code)


def _unkept(send: Send) -> Send:
    """`send`, whose answers no browser keeps: after logging out nothing is left to go back to."""

    async def one(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)["cache-control"] = "no-store"
        await send(message)

    return one


def credentials(headers: Headers, cookies: Mapping[str, str]) -> tuple[str, str]:
    """The key that a request brings, and its session ("" for none)."""
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    key = bearer.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
    return key, cookies.get(cookie_name(headers), "")


def cookie_name(headers: Headers) -> str:
    """By the host that was asked. Beyond this machine only the one that a browser takes from this
    very host by TLS: a plain one could be another site's of the same domain, with its session."""
    return COOKIE if is_loopback(headers.get("host", "")) else SECURE_COOKIE


def _who_is_it(request: Request) -> Response:
    """401; a browser that asks for a page is shown where it can say so."""
    path = request.url.path
    wants_page = "text/html" in request.headers.get("accept", "")
    if wants_page and request.method in _SAFE and not path.startswith(("/v1/", "/mcp")):
        query = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(f"/login?next={quote(path + query, safe='')}", 303)
    what = http_problem(
        401,
        "This server asks for a key, and none that is good was given.",
        "Send Authorization: Bearer KEY; longleaf keys create makes one.",
    )
    return respond(request, what, {"WWW-Authenticate": 'Bearer realm="longleaf"'})
