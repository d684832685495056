"""Which index finds passages: settings to one of the places, and the only code that names them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from longleaf.api.indexes import edge
from longleaf.api.indexes.places import Followed, Place
from longleaf.core.catalog import Catalog, Generation
from longleaf.core.config import Settings

__all__ = ["Followed", "Place", "drop_closed", "erase_seconds", "index_folder", "opened", "place"]

erase_seconds = edge.erase_seconds
index_folder = edge.EdgePlace.folder_of


def place(settings: Settings, catalog: Catalog, generation: Generation) -> Place:
    """Where the index of a generation is kept, as `index.kind` says."""
    match settings.index.kind:
        case "qdrant":
            from longleaf.api.indexes.qdrant import QdrantPlace

            return QdrantPlace(settings, catalog, generation)
        case "faiss":
            from longleaf.api.indexes.faiss import FaissPlace

            return FaissPlace(settings, catalog, generation)
    return edge.EdgePlace(settings, catalog, generation)


@contextmanager
def opened(settings: Settings, catalog: Catalog, generation: Generation) -> Iterator[Followed]:
    """The index of a generation, open for this process until the block ends.

    Raises IndexLocked where another process owns it.
    """
    followed = place(settings, catalog, generation).open()
    try:
        yield followed
    finally:
        followed.close()


def drop_closed(settings: Settings, catalog: Catalog) -> list[str]:
    """Delete the indexes of generations that are open no more, and what crashes left of others.

    Those in the data folder go whatever `index.kind` is now; FAISS is not loaded for that. Returns
    those that somebody still has open: they are for the next time.
    """
    from longleaf.api.indexes.faiss import FaissPlace

    left = edge.EdgePlace.drop_closed(settings, catalog)
    left += FaissPlace.drop_closed(settings, catalog)
    if settings.index.kind == "qdrant":
        from longleaf.api.indexes import qdrant

        left += qdrant.drop_closed(settings, catalog)
    return left
