"""`longleaf mcp`: the MCP tools on standard input and output, for programs that start a process."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from longleaf.api.cli.output import quiet_logs

if TYPE_CHECKING:
    import httpx

    from longleaf.core.config import Settings


def register(app: typer.Typer) -> None:
    app.command("mcp")(mcp)


def mcp(home: Annotated[Path | None, typer.Option(help="The data folder.")] = None) -> None:
    """Speak MCP on standard input and output until the input ends.

    Asks the running server of the data folder; without one it opens the index itself, which one
    process at a time may.
    """
    quiet_logs()
    import anyio

    from longleaf.api.http.mcp import INSTALL, MISSING, is_installed
    from longleaf.core.config import load_settings
    from longleaf.core.errors import ConfigError

    if not is_installed():
        raise ConfigError(MISSING, INSTALL)
    anyio.run(_serve, load_settings({"home": home}).settings)


async def _serve(settings: Settings) -> None:
    from mcp.server.stdio import stdio_server

    from longleaf.api.mcp.server import make_server
    from longleaf.api.mcp.tools import Api

    async with _Reach(settings) as reach, stdio_server() as (read, write):
        server = make_server(Api(reach))
        await server.run(read, write, server.create_initialization_options())


class _Reach:
    """Finds, for every call, the running server, else opens one in this process that nobody else
    reaches. Nothing is opened before the first call, so that a program need not wait to start."""

    def __init__(self, settings: Settings) -> None:
        import anyio

        self._settings = settings
        self._lock = anyio.Lock()
        self._opened = AsyncExitStack()
        self._clients: dict[tuple[str, str], httpx.AsyncClient] = {}
        self._own: httpx.AsyncClient | None = None

    async def __aenter__(self) -> _Reach:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._opened.aclose()

    async def __call__(self) -> httpx.AsyncClient:
        import anyio

        from longleaf.api.running import find_server, local_headers

        async with self._lock:
            if self._own is not None:
                return self._own
            url = await anyio.to_thread.run_sync(find_server, self._settings.home)
            if url is None:
                self._own = await anyio.to_thread.run_sync(self._open)
                return self._own
            headers = local_headers(self._settings.home)
            server = (url, headers.get("Authorization", ""))  # each start has a token of its own
            if server not in self._clients:
                client = _client_of(url, headers)
                self._clients[server] = await self._opened.enter_async_context(client)
            return self._clients[server]

    def _open(self) -> httpx.AsyncClient:
        import secrets

        import httpx

        from longleaf.api import wire
        from longleaf.api.app import create_app

        runtime = wire.open_runtime(self._settings, follow=True)
        self._opened.callback(runtime.close)
        token = secrets.token_urlsafe(32)
        app = create_app(runtime, local_token=token)
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(app, raise_app_exceptions=False),
            base_url="http://localhost",
            headers={"Authorization": f"Bearer {token}"},
        )


def _client_of(url: str, headers: dict[str, str]) -> httpx.AsyncClient:
    import httpx

    from longleaf.api.asking import PATIENCE_SECONDS

    return httpx.AsyncClient(
        base_url=url, headers=headers, timeout=PATIENCE_SECONDS, trust_env=False
    )
