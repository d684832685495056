"""The app for looking at its routes: without a runtime, which takes a model and a catalog."""

from __future__ import annotations

from collections.abc import Collection
from types import SimpleNamespace
from typing import cast

from fastapi import FastAPI

from longleaf.api.app import create_app
from longleaf.api.wire import Runtime
from longleaf.core.config import Settings


def bare_app(settings: Settings | None = None, allowed_hosts: Collection[str] = ()) -> FastAPI:
    """All routes, and nothing behind them but a catalog that has no keys."""
    runtime = SimpleNamespace(
        settings=settings or Settings(),
        engine=SimpleNamespace(reranker=None),
        catalog=SimpleNamespace(keys=SimpleNamespace(exist=lambda: False), audit=None),
    )
    return create_app(cast(Runtime, runtime), allowed_hosts=allowed_hosts)
