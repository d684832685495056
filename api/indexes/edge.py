"""The embedded shard as a place: a folder in the data folder that one process owns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from longleaf.api.indexes.folder import FolderPlace
from longleaf.api.indexes.places import Followed, OpenedHere, StoredContent
from longleaf.core.config import Settings
from longleaf.core.protocols import PassageIndex
from longleaf.retriever.follow import Following

if TYPE_CHECKING:
    from longleaf.retriever.index.edge import EdgeIndex
    from longleaf.retriever.index.process import IndexProcess


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


class EdgePlace(FolderPlace):
    """`places.Place` for index.kind edge."""

    prefix = "generation-"

    def open(self) -> OpenedHere:
        index = self.open_index()
        return OpenedHere(index, self.make_follower(index), "embedded shard")

    def open_index(self) -> EdgeIndex:
        """The shard without a follower. Raises what `open` raises."""
        from longleaf.retriever.index.edge import EdgeIndex

        generation = self._generation
        return EdgeIndex.open(self.folder, generation.dim, generation.fingerprint, self._catalog)

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
        from longleaf.retriever.index import edge_content, edge_folder
        from longleaf.retriever.index.edge import EdgeIndex

        if not self.folder.exists():
            return "there is none"
        self._make_if_missing()  # an empty folder counts as none
        if edge_folder.read_state(self.folder) is None:
            return edge_folder.OLDER
        # Without the log, so that it is looked at and not made anew by opening it.
        index = EdgeIndex.open(self.folder, self._generation.dim, self._generation.fingerprint)
        try:
            return edge_content.why_unusable(index, self._catalog)
        finally:
            index.close()

    def content(self) -> StoredContent:
        from longleaf.retriever.index import edge_content

        return edge_content

    def _make_if_missing(self) -> None:
        from longleaf.retriever.index import edge_folder

        generation = self._generation
        edge_folder.make_if_missing(self.folder, generation.dim, generation.fingerprint)


def erase_seconds(settings: Settings) -> float | None:
    """How long what was deleted may stay in files; None: until something else rewrites them."""
    minutes = settings.retriever.erase_minutes
    return None if minutes == 0 else minutes * 60.0
