"""A Qdrant collection as a place: shared by every process that has the same catalog."""

from __future__ import annotations

from contextlib import suppress

from longleaf.api.indexes.places import Followed, StoredContent
from longleaf.core.catalog import Catalog, Generation, generations
from longleaf.core.catalog.leases import Lease
from longleaf.core.config import Settings
from longleaf.core.errors import CatalogBroken, ForeignIndex, GenerationMismatch, IndexLocked
from longleaf.core.protocols import PassageIndex
from longleaf.core.store_settings import without_password
from longleaf.retriever.follow import Following
from longleaf.retriever.index import qdrant_content, qdrant_schema
from longleaf.retriever.index.qdrant import QdrantIndex
from longleaf.retriever.index.qdrant_server import Server
from longleaf.retriever.shared import LEASE_SECONDS, SharedFollower

_DROP_SECONDS = 60.0


def connect(settings: Settings) -> Server:
    """The server that the settings name. Tests put another in its place."""
    return Server.connect(settings.qdrant)


def alias_of(settings: Settings, generation_id: int) -> str:
    """What searches ask for a generation."""
    return f"{settings.qdrant.prefix}-generation-{generation_id}"


def follower_name(alias: str) -> str:
    """As the catalog knows whoever follows into it: the same for every process."""
    return f"qdrant:{alias}"


class SharedHere:
    """The collection as this process sees it, with its candidate for following."""

    def __init__(
        self, index: QdrantIndex, follower: SharedFollower, told: str, *, by_itself: bool
    ) -> None:
        self.by_itself = by_itself
        self.told = told
        self.index: PassageIndex = index
        self._shared = follower
        self.follower: Following = follower
        if by_itself:
            follower.start()

    @property
    def failure(self) -> str | None:
        return self._shared.failure

    def close(self) -> None:
        self._shared.close(wait=not self.by_itself)


class QdrantPlace:
    """`places.Place` for index.kind qdrant."""

    def __init__(self, settings: Settings, catalog: Catalog, generation: Generation) -> None:
        self._settings = settings
        self._catalog = catalog
        self._generation = generation
        self._alias = alias_of(settings, generation.id)
        self.name = follower_name(self._alias)

    def exists(self) -> bool:
        server = connect(self._settings)
        try:
            return qdrant_schema.Place(server, self._alias).behind() is not None
        finally:
            server.close()

    def open(self) -> Followed:
        return self._opened(by_itself=False)

    def serve(self) -> Followed:
        return self._opened(by_itself=True)

    def _opened(self, *, by_itself: bool) -> SharedHere:
        chosen, generation = self._settings.qdrant, self._generation
        server = connect(self._settings)
        try:
            index = self._index(server)
            unmet = index.unmet()
        except BaseException:
            server.close()
            raise
        follower = SharedFollower(
            self._catalog,
            index,
            generation,
            self.name,
            generations.process_name(),
            self._settings.retriever.flush_documents,
            chosen.timeout_seconds,
            max(LEASE_SECONDS, 2 * chosen.timeout_seconds),
        )
        told = f"Qdrant at {without_password(chosen.url)}, collection {self._alias}"
        if unmet:
            told = f"{told}; {', '.join(unmet)} (longleaf rebuild)"
        return SharedHere(index, follower, told, by_itself=by_itself)

    def unmet(self) -> list[str]:
        server = connect(self._settings)
        try:
            return self._index(server).unmet()
        finally:
            server.close()

    def _index(self, server: Server) -> QdrantIndex:
        return QdrantIndex.open(
            server,
            self._alias,
            self._generation.dim,
            self._generation.fingerprint,
            self._catalog.epoch(),
            self._settings.qdrant,
        )

    def why_unusable(self) -> str | None:
        opened = self._opened(by_itself=False)
        try:
            assert isinstance(opened.index, QdrantIndex)
            return opened.index.why_unusable(self._catalog)
        finally:
            opened.close()

    def drop(self, *, take_over: bool = False) -> None:
        """One that can be read goes on answering until its successor is full; one of ours that
        cannot goes at once, and with `take_over` whatever else stands there.

        Raises IndexLocked while another process follows the catalog into it.
        """
        holder = generations.process_name()
        lease = self._lease(holder)
        server = connect(self._settings)
        place = qdrant_schema.Place(server, self._alias)
        try:
            try:
                opened = self._index(server)
                if (written := opened.fence_written()) >= lease.fence:
                    # We hold the lease: whoever had that fence had it of a database that was
                    # restored since. Kept in the lease, for those who follow next.
                    lease = self._lease(holder, above=written)
                opened.make_anew_next(lease.fence)
            except ForeignIndex:
                if not take_over:
                    raise
                place.take_over()
            except (CatalogBroken, GenerationMismatch):
                place.drop(self._catalog.epoch())
        finally:
            server.close()
            self._catalog.forget_follower(self.name)
            self._catalog.leases.give_back(lease)

    def _lease(self, holder: str, above: int = 0) -> Lease:
        leases = self._catalog.leases
        lease = leases.take(self.name, holder, _DROP_SECONDS, above=above)
        if lease is None:
            raise IndexLocked(
                f"{leases.holder(self.name)} follows the catalog into the index {self._alias}.",
                "Stop that process (longleaf serve), and try again.",
            )
        return lease

    def byte_count(self) -> int:
        return 0  # the server's disk

    def content(self) -> StoredContent:
        return qdrant_content


def drop_closed(settings: Settings, catalog: Catalog) -> list[str]:
    """Delete the collections of generations that are open no more; all of them can go at once.

    A generation is closed when no process answers from it any longer, so nobody searches there.
    """
    keep = {each.generation.id for each in catalog.generations.opened()}
    begins = f"{settings.qdrant.prefix}-generation-"
    server = connect(settings)
    try:
        names = server.call(lambda client: client.get_collections(), again=True).collections
        numbers = {each.name.removeprefix(begins).split("-")[0] for each in names
                   if each.name.startswith(begins)}  # fmt: skip
        for number in sorted(numbers):
            if number.isdigit() and int(number) not in keep:
                alias = alias_of(settings, int(number))
                # One that is not ours stays, even under the name that ours would have.
                with suppress(ForeignIndex):
                    qdrant_schema.Place(server, alias).drop(catalog.epoch())
                catalog.forget_follower(follower_name(alias))
                catalog.leases.forget(follower_name(alias))
    finally:
        server.close()
    return []
