"""An index in a folder of its own in the data folder, which one process has open at a time."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from longleaf.core.catalog import Catalog, Generation
from longleaf.core.config import Settings
from longleaf.core.errors import IndexLocked
from longleaf.core.protocols import PassageIndex
from longleaf.retriever.follow import Follower
from longleaf.retriever.index.folder import TakenFolder, remove_scraps


class FolderPlace:
    """What the places of such indexes share; `prefix` and a generation's number name the folder."""

    prefix: ClassVar[str]

    def __init__(self, settings: Settings, catalog: Catalog, generation: Generation) -> None:
        self._settings = settings
        self._catalog = catalog
        self._generation = generation
        self.folder = self.folder_of(settings, generation)
        self.name = catalog.follower_name(self.folder)

    @classmethod
    def folder_of(cls, settings: Settings, generation: Generation) -> Path:
        """Where the index of a generation lies."""
        return settings.home / "index" / f"{cls.prefix}{generation.id}"

    def exists(self) -> bool:
        return self.folder.exists()

    def make_follower(self, index: PassageIndex) -> Follower:
        """What brings an index opened here up to date."""
        flush_documents = self._settings.retriever.flush_documents
        return Follower(self._catalog, index, self._generation, self.name, flush_documents)

    def drop(self, *, take_over: bool = False) -> None:
        self._make_if_missing()
        with TakenFolder(self.folder) as taken:
            _remove(self._catalog, taken)

    def byte_count(self) -> int:
        from longleaf.retriever.index.compaction import allocated_bytes

        return allocated_bytes(self.folder)

    def unmet(self) -> list[str]:
        return []

    def _make_if_missing(self) -> None:
        raise NotImplementedError

    @classmethod
    def drop_closed(cls, settings: Settings, catalog: Catalog) -> list[str]:
        """Delete the indexes of generations that are open no more, and what crashes left of folders
        that were being made or removed; returns those in use."""
        remove_scraps(settings.home / "index", cls.prefix)
        keep = {cls.folder_of(settings, each.generation) for each in catalog.generations.opened()}
        left = []
        for folder in sorted((settings.home / "index").glob(f"{cls.prefix}*")):
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
    name = catalog.follower_name(taken.folder)
    catalog.forget_follower(name)
    catalog.forget_followers_in(name)
    taken.remove()
