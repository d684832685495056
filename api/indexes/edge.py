"""The embedded shard as a place: a folder in the data folder that one process owns."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from longleaf.api.indexes.places import Followed, OpenedHere, StoredContent
from longleaf.core.catalog import Catalog, Generation
from longleaf.core.config import Settings
from longleaf.core.errors import IndexLocked
from longleaf.core.protocols import PassageIndex
from longleaf.retriever.follow import Follower, Following

if TYPE_CHECKING:
    from longleaf.retriever.index.edge import EdgeIndex
    from longleaf.retriever.index.edge_folder import TakenFolder
    from longleaf.retriever.index.process import IndexProcess

_GENERATION = "generation-"


def folder_of(settings: Settings, generation: Generation) -> Path:
    """Where the shard of a generation lies."""
    return settings.home / "index" / f"{_GENERATION}{generation.id}"


class InProcess:
    """The shard and its follower in a process of their own, seen from here."""

    by_itself = True

    def __init__(self, process: IndexProcess) -> None:
        self.process = process
        self.index: PassageIndex = process
        self.follower: Following = process

    @property
    def failure(self) -> str | None:
        return self.process.failure

    @property
    def told(self) -> str:
        return "embedded shard, in a process of its own"

    def close(self) -> None:
        self.process.close()


class EdgePlace:
    """`places.Place` for index.kind edge."""

    def __init__(self, settings: Settings, catalog: Catalog, generation: Generation) -> None:
        self._settings = settings
        self._catalog = catalog
        self._generation = generation
        self.folder = folder_of(settings, generation)
        self.name = catalog.follower_name(self.folder)

    def exists(self) -> bool:
        return self.folder.exists()

    def open(self) -> OpenedHere:
        index = self.open_index()
        return OpenedHere(index, self.make_follower(index), "embedded shard")

    def open_index(self) -> EdgeIndex:
        """The shard without a follower. Raises what `open` raises."""
        from longleaf.retriever.index.edge import EdgeIndex

        generation = self._generation
        return EdgeIndex.open(self.folder, generation.dim, generation.fingerprint, self._catalog)

    def make_follower(self, index: PassageIndex) -> Follower:
        """What brings an index opened here up to date."""
        flush_documents = self._settings.retriever.flush_documents
        return Follower(self._catalog, index, self._generation, self.name, flush_documents)

    def serve(self) -> Followed:
        """In a process of its own, because the engine's writes stop every thread of theirs."""
        from longleaf.retriever.index.process import IndexProcess

        process = IndexProcess.open(
            self._catalog,
            self._generation,
            self.folder,
            self._settings.retriever.flush_documents,
            self._settings.server.workers,
            erase_seconds(self._settings),
        )
        return InProcess(process)

    def why_unusable(self) -> str | None:
        """Raises what opening it raises."""
        from longleaf.retriever.index import edge_content
        from longleaf.retriever.index.edge import EdgeIndex

        if not self.folder.exists():
            return "there is none"
        # Without the log, so that it is looked at and not made anew by opening it.
        index = EdgeIndex.open(self.folder, self._generation.dim, self._generation.fingerprint)
        try:
            return edge_content.why_unusable(index, self._catalog)
        finally:
            index.close()

    def take(self) -> TakenFolder:
        """Keep all others from it, be it damaged or not there yet. Raises IndexLocked."""
        from longleaf.retriever.index import edge_folder

        edge_folder.make_if_missing(self.folder, self._generation.dim, self._generation.fingerprint)
        return edge_folder.TakenFolder(self.folder)

    def drop(self) -> None:
        with self.take() as taken:
            _remove(self._catalog, taken)

    def byte_count(self) -> int:
        from longleaf.retriever.index.compaction import allocated_bytes

        return allocated_bytes(self.folder)

    def content(self) -> StoredContent:
        from longleaf.retriever.index import edge_content

        return edge_content


def drop_closed(settings: Settings, catalog: Catalog) -> list[str]:
    """Delete the shards of generations that are open no more, and what crashes left of others.

    Returns those that somebody still has open: they are for the next time.
    """
    from longleaf.retriever.index import edge_folder

    keep = {folder_of(settings, each.generation) for each in catalog.generations.opened()}
    left = []
    for folder in sorted((settings.home / "index").glob("*")):
        if folder.name.startswith(edge_folder.OLD_PREFIX):
            shutil.rmtree(folder, ignore_errors=True)  # another process may be at it, too
        elif folder.name.startswith(_GENERATION) and folder not in keep:
            try:
                with edge_folder.TakenFolder(folder) as taken:
                    _remove(catalog, taken)
            except IndexLocked:
                left.append(str(folder))
            except FileNotFoundError:
                pass
    return left


def erase_seconds(settings: Settings) -> float | None:
    """How long what was deleted may stay in files; None: until something else rewrites them."""
    minutes = settings.retriever.erase_minutes
    return None if minutes == 0 else minutes * 60.0


def _remove(catalog: Catalog, taken: TakenFolder) -> None:
    # Forgotten first: a crash in between leaves an index that the log's horizon betrays, not a
    # follower that holds back the log.
    name = catalog.follower_name(taken.folder)
    catalog.forget_follower(name)
    catalog.forget_followers_in(name)
    taken.remove()
