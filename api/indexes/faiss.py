"""FAISS as a place: a folder in the data folder, held in the memory of the process that owns it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from longleaf.api.indexes.edge import erase_seconds
from longleaf.api.indexes.folder import FolderPlace
from longleaf.api.indexes.places import Followed, FollowedHere, OpenedHere, StoredContent

if TYPE_CHECKING:
    from longleaf.retriever.index.faiss import FaissIndex
    from longleaf.retriever.index.followed import ChangeLog


class FaissPlace(FolderPlace):
    """`places.Place` for index.kind faiss."""

    prefix = "faiss-generation-"

    def open(self) -> Followed:
        index = self._open(self._catalog)
        return OpenedHere(index, self.make_follower(index), f"FAISS: {index.device_reason}")

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
        return FollowedHere(index, self.make_follower(index), told, tidy)

    def why_unusable(self) -> str | None:
        from longleaf.retriever.index import faiss_content

        if not self.folder.exists():
            return "there is none"
        index = self._open(None)
        try:
            return faiss_content.why_unusable(index, self._catalog)
        finally:
            index.close()

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

    def _make_if_missing(self) -> None:
        from longleaf.retriever.index import faiss_folder

        generation = self._generation
        faiss_folder.make_if_missing(self.folder, generation.dim, generation.fingerprint)
