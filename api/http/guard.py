"""What a request must be before any route sees it: for this host, from this origin, not too large.

Three doors that a web page in the user's browser could otherwise come through: a name that was
rebound to 127.0.0.1 (Host), a form that another site submits (Origin), and a body that never ends.
Pure ASGI, so a body is counted while it streams, whatever Content-Length says. It knows no user:
who asks is looked at behind it (`access.py`).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection

from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from longleaf.api.http.errors import BodyTooLarge, Problem, http_problem, respond

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
MAX_BODY_BYTES = 1024 * 1024
MULTIPART_EXTRA_BYTES = 1024 * 1024
UPLOAD_PATHS = frozenset({"/v1/documents", "/library/upload"})
RERANK_BODY_BYTES = 4 * 1024 * 1024
"""Texts to read. Their JSON is parsed on the event loop: 13-17 ms of one core a MiB, and 0.2 s for
the most passages that are taken (rerank_schemas)."""

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Guard:
    """Refuses requests by Host, path, Origin and body length.

    Bound to loopback, only loopback names are taken; bound wider, any IP address is as well (an
    address cannot be rebound, a name can). `allowed_hosts` are further names, without ports.
    `takes_texts` tells the paths where a body holds texts and may have RERANK_BODY_BYTES.
    """

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        max_upload_bytes: int,
        allowed_hosts: Collection[str] = (),
        takes_texts: Callable[[str], bool] = lambda _path: False,
    ) -> None:
        self._app = app
        bound = f"[{host}]" if ":" in host else host.lower()
        self._names = LOOPBACK_HOSTS | {name.lower() for name in allowed_hosts} | {bound}
        self._takes_addresses = bound not in LOOPBACK_HOSTS
        self._max_upload_bytes = max_upload_bytes
        self._takes_texts = takes_texts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        limit_bytes = self._limit_bytes(scope)
        refused = (
            self._wrong_host(headers)
            or _odd_path(scope)
            or _foreign_origin(scope, headers)
            or self._declared_too_large(scope, headers, limit_bytes)
        )
        if refused is not None:
            await respond(Request(scope), refused, {"Connection": "close"})(scope, receive, send)
            return
        await self._app(scope, counted(receive, limit_bytes), send)

    def _limit_bytes(self, scope: Scope) -> int:
        if scope["method"] == "POST" and scope["path"] in UPLOAD_PATHS:
            return self._max_upload_bytes + MULTIPART_EXTRA_BYTES
        if scope["method"] == "POST" and self._takes_texts(scope["path"]):
            return RERANK_BODY_BYTES
        return MAX_BODY_BYTES

    def _declared_too_large(
        self, scope: Scope, headers: Headers, limit_bytes: int
    ) -> Problem | None:
        if not declares_more(headers, limit_bytes):
            return None
        hint = TEXTS_HINT if self._takes_texts(scope["path"]) else UPLOAD_HINT
        return http_problem(
            413, f"The body is larger than the {limit_bytes:,} bytes that are taken.", hint
        )

    def _wrong_host(self, headers: Headers) -> Problem | None:
        hosts = headers.getlist("host")
        found = _HOST.fullmatch(hosts[0].lower()) if len(hosts) == 1 else None
        if found and (found[1] in self._names or (self._takes_addresses and _is_address(found[1]))):
            return None
        return http_problem(
            421, "This server does not answer to that Host.", "Ask it as localhost or 127.0.0.1."
        )


def declares_more(headers: Headers, limit_bytes: int) -> bool:
    """Whether a request says itself that its body is larger."""
    declared = headers.get("content-length", "")
    return declared.isdecimal() and int(declared[:20]) > limit_bytes


def counted(receive: Receive, limit_bytes: int) -> Receive:
    """`receive`, which raises BodyTooLarge as soon as more has come."""
    received_bytes = 0

    async def one() -> Message:
        nonlocal received_bytes
        message = await receive()
        received_bytes += len(message.get("body", b""))
        if received_bytes > limit_bytes:
            raise BodyTooLarge(limit_bytes)
        return message

    return one


def is_loopback(host: str) -> bool:
    """Whether a Host header, port and all, names this machine."""
    found = _HOST.fullmatch(host.lower())
    return found is not None and found[1] in LOOPBACK_HOSTS


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _odd_path(scope: Scope) -> Problem | None:
    """No path of ours has control characters, and routers and proxies do not agree on them: to
    Starlette /metrics%0A is /metrics, to a proxy that keeps /metrics from strangers it is not."""
    if not _CONTROL.search(scope["path"]):
        return None
    return http_problem(400, "The path has control characters.", "Take them out.")


def _foreign_origin(scope: Scope, headers: Headers) -> Problem | None:
    """Refuses a change that another site's page asks for; programs send neither header."""
    if scope["method"] in _SAFE_METHODS:
        return None
    origins = headers.getlist("origin")
    own = f"//{headers['host']}".lower()
    foreign = any(origin.lower().partition(":")[2] != own for origin in origins)
    if not origins:
        foreign = headers.get("sec-fetch-site", "none") not in ("same-origin", "none")
    if not foreign:
        return None
    return http_problem(
        403, "Changes are not taken from other sites' pages.", "Ask from this server's own page."
    )


TEXTS_HINT = "Give fewer documents in one request; scores do not depend on what stands beside."
UPLOAD_HINT = "Uploads: the setting server.max_upload_bytes. From disk: longleaf index."
