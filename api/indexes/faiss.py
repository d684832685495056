"""FAISS as a place: a folder in the data folder, held in the memory of the process that owns it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from longleaf.api.indexes.edge import erase_seconds
from longleaf.api.indexes.places import Followed, FollowedHere, OpenedHere, StoredContent
from longleaf.core.catalog import Catalog, Generation
from longleaf.core.config import Settings
from longleaf.core.errors import IndexLocked
from longleaf.core.protocols import PassageIndex
from longleaf.retriever.follow import Follower

if TYPE_CHECKING:
    from longleaf.retriever.index.edge_folder import ChangeLog, TakenFolder
    from longleaf.retriever.index.faiss import FaissIndex

_GENERATION = "faiss-generation-"


def folder_of(settings: Settings, generation: Generation) -> Path:
    """Where the files of a generation's index lie."""
    return settings.home / "index" / f"{_GENERATION}{generation.id}"


class FaissPlace:
    """`places.Place` for index.kind faiss."""

    def __init__(self, settings: Settings, catalog: Catalog, generation: Generation) -> None:
        self._settings = settings
        self._catalog = catalog
        self._generation = generation
        self.folder = folder_of(settings, generation)
        self.name = catalog.follower_name(self.folder)

    def exists(self) -> bool:
        return self.folder.exists()

    def open(self) -> Followed:
        index = self._open(self._catalog)
        return OpenedHere(index, self._follower(index), f"FAISS: {index.device_reason}")

    def serve(self) -> Followed:
        """In this process: unlike the shard's, its writes let other threads run.

        What was deleted leaves its files within `retriever.erase_minutes`.
        """
        index = self._open(self._catalog)
        seconds = erase_seconds(self._settings)

        def tidy() -> None:
            since = index.erase_since
            if seconds is not None and since is not None and time.time() - since >= seconds:
                index.optimize()

        told = f"FAISS: {index.device_reason}"
        return FollowedHere(index, self._follower(index), told, tidy)

    def why_unusable(self) -> str | None:
        from longleaf.retriever.index import faiss_content

        if not self.folder.exists():
            return "there is none"
        index = self._open(None)
        try:
            return faiss_content.why_unusable(index, self._catalog)
        finally:
            index.close()

    def drop(self) -> None:
        from longleaf.retriever.index.edge_folder import TakenFolder

        self.folder.mkdir(parents=True, exist_ok=True)
        with TakenFolder(self.folder) as taken:
            _remove(self._catalog, taken)

    def byte_count(self) -> int:
        from longleaf.retriever.index.compaction import allocated_bytes

        return allocated_bytes(self.folder)

    def content(self) -> StoredContent:
        from longleaf.retriever.index import faiss_content

        return faiss_content

    def _open(self, change_log: ChangeLog | None) -> FaissIndex:
        from longleaf.retriever.index.faiss import FaissIndex

        chosen, generation = self._settings.faiss, self._generation
        return FaissIndex.open(
            self.folder,
            generation.dim,
            generation.fingerprint,
            change_log,
            devices=chosen.devices,
            lists=chosen.lists,
            probes=chosen.probes,
        )

    def _follower(self, index: PassageIndex) -> Follower:
        flush_documents = self._settings.retriever.flush_documents
        return Follower(self._catalog, index, self._generation, self.name, flush_documents)


def drop_closed(settings: Settings, catalog: Catalog) -> list[str]:
    """Delete the indexes of generations that are open no more; returns those that are in use."""
    from longleaf.retriever.index.edge_folder import TakenFolder

    keep = {folder_of(settings, each.generation) for each in catalog.generations.opened()}
    left = []
    for folder in sorted((settings.home / "index").glob(f"{_GENERATION}*")):
        if folder not in keep:
            try:
                with TakenFolder(folder) as taken:
                    _remove(catalog, taken)
            except IndexLocked:
                left.append(str(folder))
            except FileNotFoundError:
                pass
    return left


def _remove(catalog: Catalog, taken: TakenFolder) -> None:
    # Forgotten first: a crash in between leaves an index that the log's horizon betrays, not a
    # follower that holds back the log.
    catalog.forget_follower(catalog.follower_name(taken.folder))
    taken.remove()
