"""Where text leaves this machine for, as the settings say; the page claims no more."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from longleaf.core.config import Settings

_HERE = frozenset({"", "localhost", "127.0.0.1", "::1"})


def text_goes_to(settings: Settings) -> tuple[str, ...]:
    """For people: hosts other than this one that get text of documents or queries, and for what.

    Empty when all stays here. Answers are asked for one by one, and say where they go themselves.
    """
    return tuple(
        f"{host} ({what})" for what, url in _services(settings) if (host := _host(url)) not in _HERE
    )


def _services(settings: Settings) -> Iterator[tuple[str, str]]:
    if settings.embedder.kind == "openai":
        yield "embedding", settings.embedder.url
    if settings.reranker.kind == "remote":
        yield "reading", settings.reranker.url
    if settings.index.kind == "qdrant":
        yield "index", settings.qdrant.url
    yield "catalog", settings.catalog.url
    if "://" in settings.catalog.originals:
        yield "originals", settings.catalog.originals


def _host(url: str) -> str:
    """Without user, password and port; what cannot be read is somewhere else."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return "another machine"
