"""`longleaf serve`: API and page, with the index in a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from longleaf.api.cli.output import console, print_json, quiet_logs


def register(app: typer.Typer) -> None:
    app.command("serve")(serve)


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on (loopback).")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.")] = None,
    home: Annotated[Path | None, typer.Option(help="The data folder.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log every request.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the address as JSON when ready.")
    ] = False,
) -> None:
    """Serve the API and the search page until stopped (ctrl-C)."""
    quiet_logs()
    import ipaddress
    import secrets
    import socket

    from longleaf.api import wire, working
    from longleaf.api.app import create_app
    from longleaf.api.generations import Upkeep
    from longleaf.api.http import mcp
    from longleaf.api.http.draining import Draining
    from longleaf.api.http.server import (
        allow_connections,
        end_hanging_later,
        make_server,
        settle,
    )
    from longleaf.api.running import announced
    from longleaf.api.telemetry import Tracing
    from longleaf.core import logs
    from longleaf.core.config import load_settings
    from longleaf.core.errors import ConfigError, Conflict
    from longleaf.core.oidc_settings import check_oidc

    flags: dict[str, object] = {"home": home, "server.host": host, "server.port": port}
    if verbose:
        flags["log.level"] = "info"
    settings = load_settings(flags).settings
    logs.configure(settings.log.form, settings.log.number)
    tracing = Tracing(settings.telemetry) if settings.telemetry.endpoint else None
    address = settings.server.host
    try:
        loopback = address == "localhost" or ipaddress.ip_address(address).is_loopback
    except ValueError:
        loopback = False
    signs_in = check_oidc(settings.oidc)
    runtime = wire.open_runtime(settings, follow=True)
    if not loopback and not settings.server.allow_remote and not runtime.catalog.keys.exist():
        runtime.close()
        raise ConfigError(
            f"{address} is not a loopback address, and there is no key.",
            "Anybody who reaches the port could read every document. Make a key first: longleaf "
            "keys create NAME. Only inside a container whose port is published on loopback set "
            "LONGLEAF_SERVER__ALLOW_REMOTE=true.",
        )
    if signs_in and not runtime.catalog.keys.exist():
        runtime.close()
        raise ConfigError(
            "oidc.issuer is set, and there is no key.",
            "The first key shuts the door for good: without one it would stand open as soon as the "
            "setting is gone, and nobody could come in while the provider is away. Make one: "
            "longleaf keys create NAME --role admin.",
        )
    worker = working.WorkerProcess(settings) if settings.server.worker else None
    upkeep = Upkeep(runtime)
    try:
        upkeep.start()
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address, settings.server.port))
        except OSError as error:
            listener.close()
            raise Conflict(
                f"Cannot listen on {address}:{settings.server.port}: {error.strerror}.",
                "Choose another port with --port.",
            ) from None
        listener.listen()  # who reads the address below may connect at once
        bound = listener.getsockname()[1]
        shown = "127.0.0.1" if address in ("0.0.0.0", "::") else address  # noqa: S104
        url = f"http://{f'[{shown}]' if ':' in shown else shown}:{bound}"
        if as_json:
            print_json({"url": url, "mcp": url + mcp.PATH if mcp.is_installed() else None})
        else:
            console().print(f"Longleaf answers at {url} (ctrl-C stops it)")
            programs = f"MCP: {url}{mcp.PATH}" if mcp.is_installed() else f"MCP: {mcp.INSTALL}"
            console().print(programs, markup=False)
        allowed = [name for name in settings.server.allowed_hosts.split(",") if name.strip()]
        local_token = secrets.token_urlsafe(32)
        connections = allow_connections(settings.serving.connections)
        serving = settings.serving.model_copy(update={"connections": connections})
        draining = Draining(serving.drain_seconds, serving.shutdown_seconds)

        def begin_to_end() -> None:
            end_hanging_later(serving.drain_seconds + serving.shutdown_seconds)
            if worker is not None:
                worker.end_soon()

        web = create_app(
            runtime,
            allowed_hosts=allowed,
            worker=worker,
            local_token=local_token,
            draining=draining,
            tracing=tracing,
        )
        server = make_server(
            web,
            serving,
            draining,
            note_cut=web.state.service.metrics.note_cut,
            on_begin=begin_to_end,
            log_config=None,
            access_log=False,
        )
        with announced(settings.home, url, local_token):
            settle()
            server.run(sockets=[listener])
    finally:
        if worker is not None:
            worker.close()
        upkeep.close()
        runtime.close()
        if tracing is not None:
            tracing.close()
