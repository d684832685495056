"""Every error leaves as an RFC 9457 problem: one table says which status each class has.

A browser that asks for a page gets the same problem as a page; a path where other APIs' clients ask
has their form of it (`app.state.say_at`); everything else gets application/problem+json. `type`
points at the problem's entry on the `/api` page. What went wrong inside the server is logged with
the request's id and never told outside.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException as StarletteHTTPException

from longleaf.api.http.allowed import allowed, routes_of
from longleaf.api.http.html import render
from longleaf.api.http.plain import PlainJSON
from longleaf.core import errors

PROBLEM_TYPE = "application/problem+json"

STATUSES: Mapping[type[errors.LongleafError], tuple[int, str]] = {
    errors.InvalidRequest: (400, "The request does not make sense"),
    errors.NotFound: (404, "There is no such thing"),
    errors.Conflict: (409, "It is there already, or somebody else holds it"),
    errors.TooLarge: (413, "Larger than what is taken"),
    errors.Rejected: (422, "The file was not indexed"),
    errors.NoTextFound: (422, "The file holds no text"),
    errors.NotDrawn: (422, "The page cannot be drawn"),
    errors.Overloaded: (429, "More waits than can be done soon"),
    errors.NoAnswers: (501, "No model answers here"),
    errors.RemoteRefused: (502, "A service elsewhere cannot be used"),
    errors.ShuttingDown: (503, "The server is ending"),
    errors.StageStalled: (503, "A part of this machine does not answer"),
    errors.RemoteUnavailable: (503, "A service elsewhere does not answer"),
    errors.CatalogBusy: (503, "Another process keeps the catalog locked"),
    errors.CatalogUnavailable: (503, "The catalog's database or store does not answer"),
    errors.IndexLocked: (503, "Another process owns the index"),
    errors.IndexUnavailable: (503, "The index is being started again"),
    errors.ModelUnavailable: (503, "A model cannot be had"),
    errors.GenerationMismatch: (503, "Indexed with other settings"),
    errors.NoSpace: (507, "There is no room on the disk"),
    errors.ConfigError: (500, "A setting cannot be used"),
    errors.CatalogBroken: (500, "The data folder does not check out"),
    errors.ForeignIndex: (500, "The index on the server is not this catalog's"),
    errors.LongleafError: (500, "Something went wrong"),
}
"""Status and title of each class; a class that is not here has its parent's."""

_RETRY_AFTER: Mapping[type[errors.LongleafError], str] = {
    errors.CatalogBusy: "5",
    errors.CatalogUnavailable: "5",
    errors.IndexUnavailable: "2",
    errors.ShuttingDown: "5",
    errors.StageStalled: "10",
}
"""Seconds after which a class of errors may be over by itself."""

CLIENT_LEFT = 499
"""As nginx calls it; nobody reads it but log and metrics."""

# The titles are ours: Python's phrases for statuses change between its versions.
_OTHERS = {
    400: ("bad_request", "Bad request"),
    401: ("unauthorized", "A key is needed"),
    403: ("forbidden", "Forbidden"),
    404: ("not_found", "Not found"),
    405: ("method_not_allowed", "Method not allowed"),
    408: ("too_slow", "The request came too slowly"),
    413: ("too_large", "Content too large"),
    421: ("wrong_host", "Misdirected request"),
    422: ("validation", "Unprocessable content"),
    500: ("internal", "Internal server error"),
    501: ("not_installed", "A part is not installed"),
    503: ("not_ready", "Service unavailable"),
}
OTHER_PROBLEMS: Mapping[str, tuple[int, str]] = {
    code: (status, title) for status, (code, title) in _OTHERS.items()
}
"""Problems that are no LongleafError: code -> status and title."""


class FieldProblem(BaseModel):
    """One part of a request that cannot be taken."""

    field: str = Field(description="Where it stands, such as `body.limit`.")
    message: str


class Problem(BaseModel):
    """An RFC 9457 problem."""

    type: str = Field(description="What kind of problem: an entry of the /api page.")
    title: str
    status: int
    detail: str = Field(description="What was wrong this time.")
    hint: str = Field("", description="What to do about it.")
    code: str = Field(description="The kind of problem, stable, for programs.")
    request_id: str = Field("", description="Names this request in the server's log.")
    reason: str | None = Field(None, description="Why a file was rejected (code `rejected`).")
    reasons: list[str] | None = Field(None, description="Why the server is not ready.")
    errors: list[FieldProblem] | None = Field(None, description="The parts that were refused.")


PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "A problem (RFC 9457).",
        "content": {
            PROBLEM_TYPE: {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "example": {
                    "type": "/api#not_found",
                    "title": "There is no such thing",
                    "status": 404,
                    "detail": "There is no collection 'leases'.",
                    "hint": "Collections: contracts, statutes.",
                    "code": "not_found",
                    "request_id": "5b0b2c0f6f7c4a0e",
                },
            }
        },
    }
}
"""What every route declares, so that OpenAPI shows problems and not the framework's own errors."""

FOREIGN_PROBLEMS: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "A problem, in the form of those whose clients ask here.",
        "content": {
            **PROBLEM_RESPONSES["default"]["content"],
            "application/json": {"schema": {"type": "object"}},
        },
    }
}
"""The same for routes that speak another API's dialect."""


class BodyTooLarge(HTTPException):
    """A body that went over its limit while it was being received.

    An HTTPException, because the framework turns any other exception of a body into a 400.
    """

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(413, f"The body is larger than the {limit_bytes:,} bytes that are taken.")


def problem(
    status: int, code: str, title: str, detail: str, hint: str = "", **more: Any
) -> Problem:
    return Problem(
        type=f"/api#{code}",
        title=title,
        status=status,
        detail=detail,
        hint=hint,
        code=code,
        **more,
    )


def problem_of(error: errors.LongleafError) -> Problem:
    """The problem that an error of ours is."""
    status, title = next(STATUSES[each] for each in type(error).__mro__ if each in STATUSES)
    reason = None
    if isinstance(error, errors.Rejected):
        reason = str(error.reason)
        if error.reason is errors.RejectReason.INTERNAL:
            status = 500  # our mistake, and not the file's
    return problem(status, error.code, title, error.message, error.hint, reason=reason)


def retry_headers(error: errors.LongleafError) -> dict[str, str]:
    """When to ask again, for errors that may be over by themselves."""
    retry_after = _RETRY_AFTER.get(type(error))
    if isinstance(error, errors.Overloaded):
        retry_after = str(max(1, math.ceil(error.retry_after_seconds)))
    return {} if retry_after is None else {"Retry-After": retry_after}


def http_problem(status: int, detail: str = "", hint: str = "", **more: Any) -> Problem:
    """A problem that is known by its status alone."""
    code, title = _OTHERS.get(status, ("http_error", "The request was not answered"))
    return problem(status, code, title, detail or title, hint, **more)


def our_fault() -> Problem:
    """What is said of an exception that nobody expected: nothing of it, it is in the log."""
    return http_problem(
        500,
        "The server failed on this request; it is not your fault.",
        "The log names the cause under this request id.",
    )


Say = Callable[[Problem], tuple[int, Any]]
"""A problem to the status and body that some other API's clients know."""


def _nobody(_path: str) -> Say | None:
    return None


def respond(request: Request, what: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """The problem as JSON, in the form of whose client asks; or as a page for a browser that asks
    for one outside /v1."""
    what = what.model_copy(update={"request_id": getattr(request.state, "request_id", "")})
    say_at = getattr(getattr(request.scope.get("app"), "state", None), "say_at", _nobody)
    say: Say | None = getattr(request.state, "say", None) or say_at(request.url.path)
    if say is not None:
        status, told = say(what)
        return PlainJSON(told, status, headers)
    wants_page = "text/html" in request.headers.get("accept", "")
    if wants_page and not request.url.path.startswith("/v1/"):
        return HTMLResponse(render("error.html", problem=what), what.status, headers)
    body = what.model_dump(mode="json", exclude_none=True)
    return PlainJSON(body, what.status, headers, media_type=PROBLEM_TYPE)


def validation_problem(found: Sequence[Mapping[str, Any]]) -> Problem:
    """What the framework says of a request that does not fit; the input is never sent back."""
    fields = [
        FieldProblem(field=".".join(str(part) for part in each["loc"]), message=_message(each))
        for each in found[:20]
    ]
    detail = "; ".join(f"{each.field}: {each.message}" for each in fields[:3])
    return http_problem(422, detail, "The /api page describes every field.", errors=fields)


def _message(found: Mapping[str, Any]) -> str:
    if found["type"] == "extra_forbidden":
        return "unknown here; it may be misspelt, or come with a later version"
    if found["type"] == "json_invalid":
        return f"not JSON: {found.get('ctx', {}).get('error', '')}"
    if found["type"] == "string_unicode":
        return "holds half of a surrogate pair; only text that UTF-8 can hold is taken"
    return str(found["msg"])


def add_handlers(app: FastAPI) -> None:
    """Make every error of the app's routes leave as a problem."""

    async def on_longleaf_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, errors.LongleafError)
        return respond(request, problem_of(error), retry_headers(error))

    async def on_validation_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return respond(request, validation_problem(error.errors()))

    routes = routes_of(app)

    async def on_http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, StarletteHTTPException)
        detail, hint, headers = error.detail, "", error.headers
        if error.status_code == 404:
            detail = f"There is nothing at {request.url.path[:200]}."
            hint = "The /api page lists the routes."
        elif error.status_code == 405:
            detail = f"{request.url.path[:200]} does not take {request.method[:20]}."
            headers = {**(headers or {}), "Allow": allowed(routes, request.url.path)}
        return respond(request, http_problem(error.status_code, detail, hint), headers)

    app.add_exception_handler(errors.LongleafError, on_longleaf_error)
    app.add_exception_handler(RequestValidationError, on_validation_error)
    app.add_exception_handler(StarletteHTTPException, on_http_error)
