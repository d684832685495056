"""A generation's collection on a Qdrant server: its name, how it is made, and how it stands.

Readers ask an alias, `PREFIX-generation-N`; behind it is a collection with a name of its own, so
that one made anew takes over whole while searches go on. Point 0, which is no passage, says which
catalog the collection follows, how far, and whose fence wrote last: like the sidecar of a shard it
travels with every snapshot. A collection without that point, or of another form, is a stranger's:
it is neither written to nor deleted (`ForeignIndex`), but for `Place.take_over`. One without that
point because its maker crashed is known by the metadata that it was made with. It knows no
documents and no queries.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from longleaf.core.catalog.leases import LeaseLost
from longleaf.core.errors import CatalogBroken, ForeignIndex, GenerationMismatch
from longleaf.retriever.index import payload, qdrant_filter
from longleaf.retriever.index.incoming import REBUILD
from longleaf.retriever.index.qdrant_server import Server
from longleaf.retriever.index.stored import BM25, DENSE

if TYPE_CHECKING:
    from longleaf.core.store_settings import QdrantSettings

SCHEMA = 2
STATE_POINT = 0
"""No passage has it: revisions are numbered from 1."""

MAX_LIMIT = 100_000
"""Most passages of one answer; strict mode refuses more."""

MAX_RANGE_INDEXES = 256
"""Metadata fields whose numbers and dates can be compared."""

_STATE = "state"
_OWNER = "longleaf_epoch"
"""In a collection's metadata: whose it is, from the moment it is made."""

_FLUSH_SECONDS = 5


@dataclass(frozen=True, slots=True)
class QdrantState:
    """What point 0 says. `indexed_seq` is durable for certain, `applied_seq` what searches see.

    `range_keys` are the payload keys that have an index for ranges. `make_anew`: somebody asked
    for another collection in place of this one.
    """

    fingerprint: str
    dim: int
    epoch: str
    indexed_seq: int = 0
    applied_seq: int = 0
    range_keys: tuple[str, ...] = ()
    make_anew: bool = False
    schema: int = SCHEMA


@dataclass(frozen=True, slots=True)
class Place:
    """Where a generation's collection is on a server, by its alias."""

    server: Server
    alias: str

    def behind(self) -> str | None:
        """The collection that readers are led to; None when there is none yet."""
        aliases = self.server.call(lambda client: client.get_aliases(), again=True).aliases
        for each in aliases:
            if each.alias_name == self.alias:
                return str(each.collection_name)
        if self.server.call(lambda client: client.collection_exists(self.alias), again=True):
            raise foreign(self.server, self.alias, "it is a collection and not an alias")
        return None

    def collections(self) -> list[str]:
        """Every collection with a name as we make them: what answers, and what crashes left."""
        ours = re.compile(re.escape(self.alias) + "-[0-9a-f]{8}")
        found = self.server.call(lambda client: client.get_collections(), again=True).collections
        return sorted(each.name for each in found if ours.fullmatch(each.name))

    def make(self, dim: int, settings: QdrantSettings, epoch: str) -> str:
        """A new, empty collection of `epoch` that nobody is led to yet; returns its name."""
        name = f"{self.alias}-{secrets.token_hex(4)}"
        made = creation(dim, settings, self.server.node_count())
        owner = {_OWNER: epoch}
        self.server.call(lambda client: client.create_collection(name, metadata=owner, **made))
        self.add_indexes(name, qdrant_filter.first_indexes())
        return name

    def add_indexes(self, collection: str, schemas: dict[str, Any]) -> None:
        for key, schema in schemas.items():
            self._add_index(collection, key, schema)

    def _add_index(self, collection: str, key: str, schema: Any) -> None:
        self.server.call(
            lambda client: client.create_payload_index(collection, key, schema, wait=True),
            again=True,
        )

    def lead_to(self, collection: str) -> None:
        """Let readers be led there from now on, in one step."""
        from qdrant_client import models

        steps: list[Any] = []
        if self.behind() is not None:
            gone = models.DeleteAlias(alias_name=self.alias)
            steps.append(models.DeleteAliasOperation(delete_alias=gone))
        new = models.CreateAlias(collection_name=collection, alias_name=self.alias)
        steps.append(models.CreateAliasOperation(create_alias=new))
        self.server.call(lambda client: client.update_collection_aliases(steps))

    def drop(self, epoch: str, *, but: str | None = None) -> None:
        """Delete the generation's collections that are surely the catalog's of `epoch`, or all
        `but` one."""
        if but is None:
            behind = self.behind()
            if behind is not None and self._is_of(epoch, behind):
                self._delete_alias()
        for name in self.collections():
            if name != but and self._is_of(epoch, name):
                self._delete(name)

    def take_over(self) -> None:
        """Delete what has the generation's names, whosever it is: the alias, a collection in its
        place, and collections named as we name them. One of another name, which the alias may have
        led to, stays."""
        try:
            if self.behind() is not None:
                self._delete_alias()
        except ForeignIndex:  # a collection in the alias's place
            self._delete(self.alias)
        for name in self.collections():
            self._delete(name)

    def _is_of(self, epoch: str, collection: str) -> bool:
        try:
            told = _told(self.server, collection)
            if told is None:
                info = described(self.server, collection)
                return bool((info.config.metadata or {}).get(_OWNER) == epoch)
            return told.get("epoch") == epoch
        except KeyError:  # somebody else has deleted it
            return False

    def _delete_alias(self) -> None:
        from qdrant_client import models

        gone = models.DeleteAlias(alias_name=self.alias)
        step = models.DeleteAliasOperation(delete_alias=gone)
        self.server.call(lambda client: client.update_collection_aliases([step]))

    def _delete(self, collection: str) -> None:
        self.server.call(lambda client: client.delete_collection(collection))


def creation(dim: int, settings: QdrantSettings, nodes: int) -> dict[str, Any]:
    """What a collection is made with: the same vectors and terms as the embedded shard's.

    Shards: two for each node. Replicas: two where there are three nodes, because with two a lost
    one stops changes of collections. A write is acknowledged by more than half of the replicas.
    """
    from qdrant_client import models

    quantized = settings.quantization == "int8"
    memory = models.Memory
    replicas = settings.replicas or (2 if nodes >= 3 else 1)
    graph = models.HnswConfigDiff(
        m=settings.hnsw_m, payload_m=settings.hnsw_m, ef_construct=max(128, settings.hnsw_m)
    )
    codes = models.ScalarQuantization(
        scalar=models.ScalarQuantizationConfig(
            type=models.ScalarType.INT8, quantile=0.99, memory=memory.PINNED
        )
    )
    return {
        "vectors_config": {
            DENSE: models.VectorParams(
                size=dim,
                distance=models.Distance.COSINE,
                memory=memory.COLD if quantized else memory.CACHED,
            )
        },
        "sparse_vectors_config": {
            BM25: models.SparseVectorParams(
                modifier=models.Modifier.IDF,
                # Pinned, as is the default, it would want as much memory as all codes twice over.
                index=models.SparseIndexParams(memory=memory.CACHED),
            )
        },
        "shard_number": settings.shards or 2 * nodes,
        "replication_factor": replicas,
        "write_consistency_factor": settings.write_consistency or replicas // 2 + 1,
        "hnsw_config": graph,
        "quantization_config": codes if quantized else None,
        "optimizers_config": models.OptimizersConfigDiff(flush_interval_sec=_FLUSH_SECONDS),
        "payload": models.PayloadStorageParams(memory=memory.COLD),
        "strict_mode_config": strict_mode(settings),
    }


def strict_mode(settings: QdrantSettings) -> Any:
    """What the server refuses, so that no request can make it scan or reserve without bound."""
    from qdrant_client import models

    return models.StrictModeConfig(
        enabled=True,
        max_query_limit=MAX_LIMIT,
        unindexed_filtering_retrieve=False,
        unindexed_filtering_update=False,
        search_max_hnsw_ef=max(4096, settings.hnsw_ef),
        search_allow_exact=True,  # the union of both sides is scored exactly, by id
        upsert_max_batchsize=1024,
        max_payload_index_count=2 * MAX_RANGE_INDEXES + len(qdrant_filter.first_indexes()),
    )


def read_state(server: Server, collection: str, epoch: str) -> QdrantState:
    """What the collection says of itself.

    Raises ForeignIndex unless it says that it follows `epoch`, and CatalogBroken for one of ours
    that another version has made.
    """
    told = _told(server, collection)
    if told is None:
        raise foreign(server, collection, "it does not say which catalog it follows")
    if not isinstance(told.get("epoch"), str):
        raise foreign(server, collection, "what it says of itself has another form")
    if told["epoch"] != epoch:
        why = "it follows another catalog, or this one before a backup was restored"
        raise foreign(server, collection, why)
    if told.get("schema") != SCHEMA:
        raise CatalogBroken(
            f"{collection} on {server.url} has the form {told.get('schema')}; this Longleaf reads "
            f"{SCHEMA}.",
            REBUILD,
        )
    try:
        return QdrantState(**{**told, "range_keys": tuple(told["range_keys"])})
    except (KeyError, TypeError, ValueError):
        raise CatalogBroken(
            f"What {collection} on {server.url} says of itself cannot be read.", REBUILD
        ) from None


def described(server: Server, collection: str) -> Any:
    """What the server says of a collection's form."""
    return server.call(lambda client: client.get_collection(collection), again=True)


def _told(server: Server, collection: str) -> dict[str, Any] | None:
    """What point 0 says, in whatever form; None without such a point. Empty for one that is none
    of Longleaf's."""
    found = _point_zero(server, collection, _STATE)
    if found is None:
        return None
    state = found.get(_STATE)
    return dict(state) if isinstance(state, dict) else {}


def _point_zero(server: Server, collection: str, key: str) -> dict[str, Any] | None:
    """Its payload under `key`, as most copies have it."""
    from qdrant_client import models

    found = server.call(
        lambda client: client.retrieve(
            collection,
            [STATE_POINT],
            with_payload=[key],
            consistency=models.ReadConsistencyType.MAJORITY,
        ),
        again=True,
    )
    return dict(found[0].payload or {}) if found else None


def write_state(server: Server, collection: str, state: QdrantState, fence: int) -> None:
    """Raises LeaseLost when a holder with a higher fence has written its own."""
    from qdrant_client import models

    point = models.PointStruct(
        id=STATE_POINT, vector={}, payload={payload.FENCE: fence, _STATE: asdict(state)}
    )
    mine = models.FieldCondition(key=payload.FENCE, range=models.Range(lte=fence))
    server.call(
        lambda client: client.upsert(
            collection,
            [point],
            update_filter=models.Filter(must=[mine]),
            ordering=models.WriteOrdering.STRONG,
            wait=True,
        ),
        again=True,
    )
    require_fence(server, collection, fence)


def require_fence(server: Server, collection: str, fence: int) -> None:
    """Raises LeaseLost when the last state was written under another fence."""
    written = fence_of(server, collection)
    if written != fence:
        raise LeaseLost(
            f"{collection} was written under the fence {written}, and this process has {fence}: "
            "another one follows the catalog into it now, or the catalog's database was restored.",
            "After pg_restore: stop every server and worker, then longleaf rebuild",
        )


def fence_of(server: Server, collection: str) -> int:
    """Under which fence it was written last; 0 for none."""
    found = (_point_zero(server, collection, payload.FENCE) or {}).get(payload.FENCE)
    return found if isinstance(found, int) else 0


def check_made_by(state: QdrantState, collection: str, dim: int, fingerprint: str) -> None:
    """Raise GenerationMismatch when the collection was made with others."""
    if (state.fingerprint, state.dim) != (fingerprint, dim):
        raise GenerationMismatch(
            f"{collection} was made by another embedder or chunker ({state.fingerprint}, dim "
            f"{state.dim}) than the configured one ({fingerprint}, dim {dim}).",
            REBUILD,
        )


def check_collection(server: Server, collection: str, state: QdrantState) -> dict[str, Any]:
    """The payload indexes that the collection lacks. Raises ForeignIndex for other vectors."""
    info = described(server, collection)
    dense = (info.config.params.vectors or {}).get(DENSE)
    sparse = (info.config.params.sparse_vectors or {}).get(BM25)
    if dense is None or dense.size != state.dim or str(dense.distance) != "Cosine":
        raise foreign(server, collection, "its dense vectors are others")
    if sparse is None or str(sparse.modifier) != "idf":
        raise foreign(server, collection, "it does not weigh words by how rare they are")
    wanted = qdrant_filter.first_indexes()
    for key in state.range_keys:
        wanted[key] = qdrant_filter.range_index(key)
    return {key: schema for key, schema in wanted.items() if key not in info.payload_schema}


def with_range_keys(state: QdrantState, keys: set[str]) -> QdrantState:
    return replace(state, range_keys=tuple(sorted({*state.range_keys, *keys})))


def foreign(server: Server, name: str, why: str) -> ForeignIndex:
    """The error for a collection that is not this catalog's."""
    return ForeignIndex(
        f"{name} on {server.url} is not this catalog's index: {why}.",
        "Choose another qdrant.prefix; or, if nothing else uses it and it may be deleted: "
        "longleaf rebuild --take-over",
    )
