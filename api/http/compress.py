"""gzip for pages and assets, where nobody can learn from a length what he may not read.

A page holds texts of documents beside words of the request (the query). Over TLS, whoever sees
lengths and makes a victim's browser ask could guess such texts letter by letter (BREACH). So a page
is compressed only where the browser says that its own user or our own page asks (Sec-Fetch-Site,
which no script can set); that costs others some kilobytes. Style sheets and modules hold no secret.
JSON, events, originals and metrics go as they are: programs on the same machine gain nothing.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

_LEAST_BYTES = 1024
_LEVEL = 6
_NEVER = ("/v1/", "/mcp", "/metrics", "/healthz", "/readyz", "/openapi.json")
_OWN = ("same-origin", "none")


class Compress:
    """Compresses what may be, for those who take it."""

    def __init__(self, app: ASGIApp) -> None:
        self._plain = app
        self._gzip = GZipMiddleware(app, minimum_size=_LEAST_BYTES, compresslevel=_LEVEL)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_chosen = scope["type"] == "http" and _may_be_compressed(scope)
        await (self._gzip if is_chosen else self._plain)(scope, receive, send)


def _may_be_compressed(scope: Scope) -> bool:
    path: str = scope["path"]
    if path.startswith("/static/"):
        return True
    if path.startswith(_NEVER):
        return False
    return Headers(scope=scope).get("sec-fetch-site") in _OWN
