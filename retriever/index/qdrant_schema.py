"""A generation's collection on a Qdrant server: its name, how it is made, and how it stands.

Readers ask an alias, `PREFIX-generation-N`; behind it is a collection with a name of its own, so
that one made anew takes over whole while searches go on. Point 0, which is no passage, says which
catalog the collection follows, how far, and whose fence wrote last: like the sidecar of a shard it
travels with every snapshot. A collection without that point, or of another form, is a stranger's
and is never written to. It knows no documents and no queries.
"""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from longleaf.core.catalog.leases import LeaseLost
from longleaf.core.errors import CatalogBroken, GenerationMismatch
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
        """Every collection of this generation: the one that answers and what crashes left."""
        found = self.server.call(lambda client: client.get_collections(), again=True).collections
        return [each.name for each in found if each.name.startswith(f"{self.alias}-")]

    def make(self, dim: int, settings: QdrantSettings) -> str:
        """A new, empty collection that nobody is led to yet; returns its name."""
        name = f"{self.alias}-{secrets.token_hex(4)}"
        made = creation(dim, settings, self.server.node_count())
        self.server.call(lambda client: client.create_collection(name, **made))
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

    def drop(self, *, but: str | None = None) -> None:
        """Delete the generation's collections, or all `but` one."""
        from qdrant_client import models

        if but is None and self.behind() is not None:
            gone = models.DeleteAlias(alias_name=self.alias)
            step = models.DeleteAliasOperation(delete_alias=gone)
            self.server.call(lambda client: client.update_collection_aliases([step]))
        for name in self.collections():
            if name != but:
                self._delete(name)

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


def read_state(server: Server, collection: str) -> QdrantState:
    """What the collection says of itself. Raises CatalogBroken for a stranger's."""
    from qdrant_client import models

    found = server.call(
        lambda client: client.retrieve(
            collection,
            [STATE_POINT],
            with_payload=[_STATE],
            consistency=models.ReadConsistencyType.MAJORITY,
        ),
        again=True,
    )
    if not found:
        raise foreign(server, collection, "it does not say which catalog it follows")
    try:
        told = dict((found[0].payload or {})[_STATE])
        state = QdrantState(**{**told, "range_keys": tuple(told["range_keys"])})
    except (KeyError, TypeError, ValueError):
        raise foreign(server, collection, "what it says of itself has another form") from None
    if state.schema != SCHEMA:
        raise CatalogBroken(
            f"{collection} on {server.url} has the form {state.schema}; this Longleaf reads "
            f"{SCHEMA}.",
            REBUILD,
        )
    return state


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
    from qdrant_client import models

    [found] = server.call(
        lambda client: client.retrieve(
            collection,
            [STATE_POINT],
            with_payload=[payload.FENCE],
            consistency=models.ReadConsistencyType.MAJORITY,
        ),
        again=True,
    )
    if (found.payload or {}).get(payload.FENCE) != fence:
        raise LeaseLost("Another process follows the catalog into this index now.")


def check_made_by(state: QdrantState, collection: str, dim: int, fingerprint: str) -> None:
    """Raise GenerationMismatch when the collection was made with others."""
    if (state.fingerprint, state.dim) != (fingerprint, dim):
        raise GenerationMismatch(
            f"{collection} was made by another embedder or chunker ({state.fingerprint}, dim "
            f"{state.dim}) than the configured one ({fingerprint}, dim {dim}).",
            REBUILD,
        )


def check_collection(server: Server, collection: str, state: QdrantState) -> dict[str, Any]:
    """The payload indexes that the collection lacks. Raises CatalogBroken for other vectors."""
    info: Any = server.call(lambda client: client.get_collection(collection), again=True)
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


def foreign(server: Server, name: str, why: str) -> CatalogBroken:
    """The error for a collection that is not this catalog's."""
    return CatalogBroken(
        f"{name} on {server.url} is not this catalog's index: {why}.",
        "Choose another qdrant.prefix; or, if nothing else uses it: longleaf rebuild",
    )
