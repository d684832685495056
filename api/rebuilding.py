"""Bringing the index up to date once, making it anew, and making its files anew.

All work on a data folder without a server: an index belongs to one process, and these say so when
somebody else has it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from longleaf.api import indexes, wire
from longleaf.api.running import find_server
from longleaf.core.config import Settings
from longleaf.core.errors import Conflict, IndexLocked, LongleafError
from longleaf.core.logs import reason_of
from longleaf.core.protocols import PassageIndex

Progress = Callable[[int, int], None]
NamedProgress = Callable[[str, int, int], None]

_log = structlog.get_logger(__name__)

OPTIMIZE_PASSAGES = 5_000
"""New passages that make it worth tidying the index: a plain scan of so many costs about 1 ms."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What an index holds after it was made anew."""

    documents: int
    passages: int
    generation: int


def follow_once(parts: wire.WriteSide, progress: Progress | None = None) -> str:
    """Bring the index up to date, or leave that to the server that owns it; says which."""
    if find_server(parts.settings.home) is not None:
        return "The running server adds them to its index within a second."
    live = parts.catalog.live_generation() or parts.generation
    try:
        followed = indexes.place(parts.settings, parts.catalog, live).open()
    except IndexLocked:
        return "Another process has the index open: it, or the next search, adds them."
    try:
        index, follower = followed.index, followed.follower
        before = index.passage_count()
        applied = follower.catch_up(progress)
        if index.passage_count() - before >= OPTIMIZE_PASSAGES:
            _tidy(index)
            # Whoever wrote meanwhile was told that this process has the index.
            applied += follower.catch_up(progress)
    finally:
        followed.close()
    return f"The index is up to date ({applied:,} documents applied)."


def _tidy(index: PassageIndex) -> None:
    """Without room for it all is found as well, only slower."""
    try:
        index.optimize()
    except LongleafError as error:
        _log.warning("index.not_optimized", reason=reason_of(error))


def rebuild(
    settings: Settings,
    *,
    take_over: bool = False,
    progress: NamedProgress = lambda *_: None,
) -> Rebuilt:
    """Make the index anew from the catalog.

    Raises Conflict while a server runs on the data folder, IndexLocked while any other process has
    the index open, and ForeignIndex where what stands on a Qdrant server is not this catalog's;
    `take_over` deletes that.
    """
    if find_server(settings.home) is not None:
        raise Conflict(
            "A server runs on this data folder and owns its index.", "Stop it and try again."
        )
    parts = wire.open_write_side(settings)
    try:
        catalog, generation = parts.catalog, parts.generation
        indexes.place(settings, catalog, generation).drop(take_over=take_over)
        indexes.drop_closed(settings, catalog)
        with indexes.opened(settings, catalog, generation) as followed:
            documents = followed.follower.catch_up(
                lambda done, total: progress("Index", done, total)
            )
            _tidy(followed.index)
            return Rebuilt(documents, followed.index.passage_count(), generation.id)
    finally:
        parts.close()
