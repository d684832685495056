"""What the Qdrant index asks of the server, request by request: what an engine in memory ignores,
and what nothing would notice if it were left out."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from qdrant_client import models
from tests.contracts.entries import ALL, DIM, entry, unit
from tests.contracts.qdrant_indexes import OneAtATime
from tests.retriever.test_qdrant import behind, opened, server, writing

from longleaf.core.protocols import LexicalQuery
from longleaf.retriever.index import payload
from longleaf.retriever.index.qdrant import QdrantIndex
from longleaf.retriever.index.qdrant_server import Server

__all__ = ["server"]


class Recorded(OneAtATime):
    """The engine in memory that keeps what it was asked: (method, positional, named)."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        call = super().__getattr__(name)

        def kept(*arguments: Any, **more: Any) -> Any:
            self.calls.append((name, arguments, more))
            return call(*arguments, **more)

        return kept

    def named(self, name: str) -> list[dict[str, Any]]:
        return [more for method, _, more in self.calls if method == name]


@pytest.fixture
def engine() -> Recorded:
    return Recorded()


def dense_params(engine: Recorded, index: QdrantIndex) -> models.SearchParams:
    engine.calls.clear()
    index.search_dense(unit(np.random.default_rng(1)), ALL, 5)
    [asked] = engine.named("query_points")
    params = asked["search_params"]
    assert isinstance(params, models.SearchParams)
    return params


@pytest.mark.parametrize(
    ("hnsw_m", "quantization", "exact"),
    [(0, "int8", False), (0, "none", True), (16, "int8", False), (16, "none", False)],
)
def test_codes_are_scanned_where_there_are_any(
    engine: Recorded, server: Server, hnsw_m: int, quantization: str, exact: bool
) -> None:
    """`exact` switches Qdrant's codes off: every search would read every full vector."""
    index = writing(server, hnsw_m=hnsw_m, quantization=quantization, hnsw_ef=99)
    params = dense_params(engine, index)
    assert (params.exact, params.hnsw_ef) == (exact, 99)
    assert params.quantization is not None
    assert (params.quantization.rescore, params.quantization.oversampling) == (True, 2.0)
    assert not params.quantization.ignore


def test_given_passages_are_scored_with_their_full_vectors(
    engine: Recorded, server: Server
) -> None:
    index = writing(server)
    index.put([entry(1)])
    index.score_dense(unit(np.random.default_rng(1)), index.scroll(ALL, 10))
    params = engine.named("query_points")[-1]["search_params"]
    assert params.exact and params.quantization.ignore


@pytest.mark.parametrize("asked", ["one", "majority", "quorum", "all"])
def test_read_consistency_is_asked_for(engine: Recorded, server: Server, asked: str) -> None:
    index = writing(server, read_consistency=asked)
    index.put([entry(1)])
    engine.calls.clear()
    index.search_dense(unit(np.random.default_rng(1)), ALL, 5)
    index.search_bm25(LexicalQuery("words", "english"), ALL, 5)
    index.scroll(ALL, 5)
    told = [
        more["consistency"] for name in ("query_points", "scroll") for more in engine.named(name)
    ]
    assert told == [None if asked == "one" else models.ReadConsistencyType(asked)] * 3


def test_point_0_is_written_in_one_order_and_read_from_most(
    engine: Recorded, server: Server
) -> None:
    index = writing(server)
    engine.calls.clear()
    index.flush(5)
    [written] = engine.named("upsert")
    assert written["ordering"] is models.WriteOrdering.STRONG and written["wait"]
    [condition] = written["update_filter"].must
    assert (condition.key, condition.range.lte) == (payload.FENCE, 1)
    read = [more["consistency"] for more in engine.named("retrieve")]
    assert read and set(read) == {models.ReadConsistencyType.MAJORITY}


def test_writes_have_as_many_passages_as_was_set(engine: Recorded, server: Server) -> None:
    index = writing(server, batch_points=3)
    engine.calls.clear()
    index.put([entry(1, ("one", "two", "three", "four")), entry(2, ("five", "six", "seven"))])
    sent = [len(arguments[1]) for name, arguments, _ in engine.calls if name == "upsert"]
    assert sorted(sent) == [1, 3, 3]


@pytest.mark.parametrize("streams", [1, 3])
def test_as_many_writes_are_under_way_as_was_set(
    server: Server, monkeypatch: pytest.MonkeyPatch, streams: int
) -> None:
    """All streams stand at a barrier at once; one more never comes."""
    index = writing(server, streams=streams, batch_points=1)
    at_once, most, gate = [0], [0], threading.Barrier(streams)
    counting = threading.Lock()
    real = QdrantIndex._upsert

    def upsert(self: QdrantIndex, points: list[Any]) -> None:
        with counting:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
        gate.wait(60.0)
        with counting:
            at_once[0] -= 1
        real(self, points)

    monkeypatch.setattr(QdrantIndex, "_upsert", upsert)
    index.put([entry(number) for number in range(1, 2 * streams + 1)])
    assert most == [streams]


def test_a_collection_is_made_for_many_tenants(engine: Recorded, server: Server) -> None:
    writing(server, hnsw_m=24)
    [made] = engine.named("create_collection")
    assert made["metadata"] == {"longleaf_epoch": "epoch"}
    assert (made["hnsw_config"].m, made["hnsw_config"].payload_m) == (24, 24)
    indexed = {
        arguments[1]: arguments[2]
        for name, arguments, _ in engine.calls
        if name == "create_payload_index"
    }
    tenants = {key for key, kind in indexed.items() if getattr(kind, "is_tenant", None)}
    assert tenants == {payload.COLLECTION}


class Cluster:
    """What a client says of its peers."""

    def __init__(self, status: Any) -> None:
        self._status = status

    def cluster_status(self) -> Any:
        if isinstance(self._status, Exception):
            raise self._status
        return self._status


@pytest.mark.parametrize(
    ("peers", "nodes"), [({}, 1), ({"1": {}}, 1), ({"1": {}, "2": {}, "3": {}}, 3)]
)
def test_nodes_are_counted(peers: dict[str, Any], nodes: int) -> None:
    status = models.ClusterStatusOneOf1.model_construct(status="enabled", peers=peers)
    client: Any = Cluster(status)
    assert Server(client, "").node_count() == nodes


def test_a_server_that_does_not_tell_its_nodes_has_one() -> None:
    from httpx import Headers
    from qdrant_client.http.exceptions import UnexpectedResponse

    refused = UnexpectedResponse(403, "Forbidden", b"", Headers())
    for status in (models.ClusterStatusOneOf(status="disabled"), refused, NotImplementedError()):
        client: Any = Cluster(status)
        assert Server(client, "").node_count() == 1


def test_dimensions_are_those_of_the_catalog(engine: Recorded, server: Server) -> None:
    writing(server).flush(1)
    info = engine.get_collection(behind(server))
    assert info.config.params.vectors["dense"].size == DIM
    assert opened(server).applied_seq() == 1
