"""/mcp: the MCP tools over Streamable HTTP, where the package `mcp` is installed.

Every request stands for itself (stateless): any replica answers it, a restart breaks no session,
and a client that leaves ends its call. A tool asks this app's own routes in the caller's name, so
nothing is allowed here that /v1 would refuse. Trade-off: `notifications/cancelled` of clients that
keep the connection open has nothing to act on; closing the connection has.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version

import httpx
from anyio import to_thread
from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from longleaf.api.http.access import within
from longleaf.api.http.errors import http_problem, respond

router = APIRouter(include_in_schema=False)

PATH = "/mcp"
MISSING = "MCP needs a package that is not installed here."
INSTALL = 'pip install "longleaf[mcp]"'
_FORWARDED = (b"authorization", b"x-api-key")
"""Who asks."""


@cache
def is_installed() -> bool:
    """Whether /mcp can answer, without importing what it needs (a second). Version 1 cannot."""
    try:
        return version("mcp").startswith("2.")
    except PackageNotFoundError:
        return False


@router.post(PATH)
async def post_mcp(request: Request) -> Response:
    """One message of an MCP client."""
    if not is_installed():
        return respond(request, http_problem(501, MISSING, INSTALL))
    try:
        received = await request.body()
    except ClientDisconnect:
        raise HTTPException(400, "The body ended early.") from None
    return _Exchange(request, received)


class _Exchange(Response):
    """What the `mcp` package answers to a request, whose body has been received."""

    def __init__(self, request: Request, received: bytes) -> None:
        super().__init__()
        self._request = request
        self._messages: list[Message] = [{"type": "http.request", "body": received}]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await to_thread.run_sync(_load)
        from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

        from longleaf.api.mcp.server import make_server
        from longleaf.api.mcp.tools import Api

        async def again() -> Message:
            return self._messages.pop() if self._messages else await receive()

        async with _own_routes(self._request) as client:

            async def reach() -> httpx.AsyncClient:
                return client

            manager = StreamableHTTPSessionManager(make_server(Api(reach)), stateless=True)
            async with manager.run():
                await manager.handle_request(scope, again, send)


def _load() -> None:
    """Import, off the event loop, what takes a second the first time."""
    import mcp.server.streamable_http_manager  # noqa: F401

    import longleaf.api.mcp.server  # noqa: F401


def _own_routes(request: Request) -> httpx.AsyncClient:
    """A client of this app's routes, as whoever sent `request`, at the same Host."""
    # As bytes: a header may hold what ASCII does not.
    headers = [each for each in request.headers.raw if each[0] in _FORWARDED]
    headers.append((b"x-request-id", str(getattr(request.state, "request_id", "")).encode()))
    peer = (request.client.host, request.client.port) if request.client else ("", 0)
    transport = httpx.ASGITransport(within(request.app), raise_app_exceptions=False, client=peer)
    return httpx.AsyncClient(
        transport=transport,
        base_url=f"{request.url.scheme}://{request.headers['host']}",
        headers=headers,
        trust_env=False,
    )
