"""The app for looking at its routes: without a runtime, which takes a model and a catalog."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from fastapi import FastAPI

from longleaf.api.app import create_app
from longleaf.api.wire import Runtime
from longleaf.core.config import Settings


def bare_app() -> FastAPI:
    """All routes, and nothing behind them."""
    runtime = SimpleNamespace(
        settings=Settings(),
        engine=SimpleNamespace(reranker=None),
        catalog=SimpleNamespace(keys=None, audit=None),
    )
    return create_app(cast(Runtime, runtime))
