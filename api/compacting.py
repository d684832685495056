"""`longleaf compact`: the files of index and catalog made anew, so that nothing deleted is in them.

With a server it asks through the catalog and waits until the index has done it; without one it
does it here. The catalog's file is written anew either way; of a Postgres catalog, deleted rows'
room is given back to new ones (VACUUM), and nobody can promise more. It knows no engine.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from longleaf.api import indexes, wire
from longleaf.api.running import find_server
from longleaf.core.catalog import Catalog, Generation
from longleaf.core.config import Settings
from longleaf.core.errors import Conflict, IndexLocked, IndexUnavailable

Progress = Callable[[str, int, int], None]

_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Compacted:
    """Bytes on disk before and after, of index and catalog file."""

    index_bytes_before: int
    index_bytes_after: int
    catalog_bytes_before: int
    catalog_bytes_after: int


def compact(settings: Settings, *, progress: Progress = lambda *_: None) -> Compacted:
    """Make the live index's files and the catalog's file anew.

    Raises CompactionFailed without room for that, Conflict while another process than a server has
    the index open.
    """
    catalog = wire.open_catalog(settings)
    try:
        live = catalog.live_generation()
        before = (_index_bytes(settings, catalog, live), catalog.database.size_bytes())
        if live is not None:
            progress("Index", 0, 1)
            if settings.index.kind == "edge" and find_server(settings.home) is not None:
                _have_it_done(settings, catalog, live)
            else:
                _do_it(settings, catalog, live)
            progress("Index", 1, 1)
        progress("Catalog", 0, 1)
        catalog.erasure.scrub()
        progress("Catalog", 1, 1)
        after = (_index_bytes(settings, catalog, live), catalog.database.size_bytes())
        return Compacted(before[0], after[0], before[1], after[1])
    finally:
        catalog.close()


def _index_bytes(settings: Settings, catalog: Catalog, generation: Generation | None) -> int:
    return 0 if generation is None else indexes.place(settings, catalog, generation).byte_count()


def _have_it_done(settings: Settings, catalog: Catalog, generation: Generation) -> None:
    from longleaf.retriever.index import edge_folder
    from longleaf.retriever.index.compaction import CompactionFailed

    asked = catalog.ask_for_compaction()
    folder = indexes.index_folder(settings, generation)
    while True:
        state = edge_folder.read_state(folder)
        if state is not None and state.asked >= asked:
            # The shard that it was has a name until the last search in it has ended.
            if len(list(folder.glob(f"{edge_folder.SHARD_PREFIX}*"))) == 1:
                return
        elif (failure := catalog.compaction_failure()) is not None:
            raise CompactionFailed(failure)
        elif find_server(settings.home) is None:
            raise IndexUnavailable("The server has gone meanwhile.", "Try again.")
        time.sleep(_POLL_SECONDS)


def _do_it(settings: Settings, catalog: Catalog, generation: Generation) -> None:
    try:
        with indexes.opened(settings, catalog, generation) as followed:
            followed.follower.catch_up()
            followed.index.optimize()
    except IndexLocked:
        if find_server(settings.home) is not None:
            raise Conflict(
                "The running server has the index open. What was deleted leaves its files within "
                f"{settings.retriever.erase_minutes:g} minutes (retriever.erase_minutes).",
                "To have it now, stop the server and try again.",
            ) from None
        raise Conflict(
            "Another process than a server has the index open.", "Try again when it is done."
        ) from None
