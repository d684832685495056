"""The index on a Qdrant server beyond the contract: whose it is, who writes, what a loss leaves."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.contracts.entries import ALL, DIM, entry, found, unit
from tests.contracts.qdrant_indexes import OneAtATime, settings
from tests.contracts.qdrant_rest import Faults, serving

from longleaf.core.catalog.leases import LeaseLost
from longleaf.core.errors import CatalogBroken, ConfigError, GenerationMismatch, IndexUnavailable
from longleaf.core.filters import Not, Range
from longleaf.core.ids import point_id
from longleaf.core.protocols import IndexFilter, LexicalQuery
from longleaf.retriever.index import (
    qdrant,
    qdrant_content,
    qdrant_schema,
    qdrant_search,
    qdrant_server,
)
from longleaf.retriever.index.qdrant import QdrantIndex
from longleaf.retriever.index.qdrant_schema import Place, creation
from longleaf.retriever.index.qdrant_server import Server

ALIAS = "longleaf-generation-1"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of the index's modules, in seconds. Not everybody's: servers of other tests run in
    threads of this process, and their event loops would wait for hours."""
    now = [100.0]
    for module in (qdrant, qdrant_search):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


class Log:
    """A change log that is where the test says."""

    def __init__(self, head: int = 100, horizon: int = 0) -> None:
        self.head, self.horizon = head, horizon

    def head_seq(self) -> int:
        return self.head

    def log_horizon(self) -> int:
        return self.horizon

    def epoch(self) -> str:
        return "epoch"


@pytest.fixture
def engine() -> OneAtATime:
    return OneAtATime()


@pytest.fixture
def server(engine: OneAtATime) -> Server:
    client: Any = engine
    return Server(client, "http://qdrant:6333")


def opened(server: Server, epoch: str = "epoch", dim: int = DIM, **more: Any) -> QdrantIndex:
    return QdrantIndex.open(server, ALIAS, dim, "made-so", epoch, settings(**more))


def writing(server: Server, fence: int = 1, log: Log | None = None, **more: Any) -> QdrantIndex:
    index = opened(server, **more)
    index.begin_writing(fence, lambda: None, log)
    return index


def behind(server: Server) -> str | None:
    return Place(server, ALIAS).behind()


# --- whose it is -------------------------------------------------------------------------------


def test_a_reader_without_a_collection_finds_nothing_and_makes_none(server: Server) -> None:
    index = opened(server)
    assert index.search_dense(unit(np.random.default_rng(1)), ALL, 5) == []
    assert (index.applied_seq(), behind(server)) == (0, None)


def test_a_collection_that_is_not_ours_is_refused(server: Server, engine: OneAtATime) -> None:
    from qdrant_client import models

    engine.create_collection(
        ALIAS, vectors_config={"dense": models.VectorParams(size=4, distance="Cosine")}
    )
    with pytest.raises(CatalogBroken, match="not an alias") as raised:
        opened(server)
    assert "qdrant.prefix" in str(raised.value) and "longleaf rebuild --take-over" in str(
        raised.value
    )


def test_an_alias_of_somebody_else_is_refused(server: Server, engine: OneAtATime) -> None:
    from qdrant_client import models

    engine.create_collection("theirs", vectors_config={})
    made = models.CreateAlias(collection_name="theirs", alias_name=ALIAS)
    engine.update_collection_aliases([models.CreateAliasOperation(create_alias=made)])
    with pytest.raises(CatalogBroken, match="does not say which catalog"):
        opened(server)
    engine.upsert("theirs", [models.PointStruct(id=0, vector={}, payload={"state": {"x": 1}})])
    with pytest.raises(CatalogBroken, match="another form"):
        opened(server)
    assert engine.collection_exists("theirs")


def test_another_catalogs_index_is_refused_and_left_alone(server: Server) -> None:
    index = writing(server)
    index.put([entry(1)])
    index.flush(5)
    with pytest.raises(CatalogBroken, match="follows another catalog"):
        opened(server, epoch="another")
    assert found(opened(server), ALL) == {point_id(1, 0)}


def test_other_vectors_are_refused(server: Server) -> None:
    writing(server).flush(1)
    with pytest.raises(GenerationMismatch, match="dim 16"):
        opened(server, dim=8)
    with pytest.raises(GenerationMismatch, match="made-so"):
        QdrantIndex.open(server, ALIAS, DIM, "otherwise", "epoch", settings())


def test_missing_payload_indexes_are_made_again(
    server: Server, engine: OneAtATime, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing(server).flush(1)
    made: list[str] = []
    monkeypatch.setattr(
        Place, "add_indexes", lambda _self, _collection, schemas: made.extend(schemas)
    )
    writing(server, fence=2)  # in memory, no payload index is ever told of
    assert set(made) == {"doc", "access", "collection", "fields", "text", "fence"}


def test_a_collection_is_made_for_what_it_is_asked() -> None:
    alone, cluster = creation(DIM, settings(), 1), creation(DIM, settings(), 3)
    assert (alone["shard_number"], alone["replication_factor"]) == (2, 1)
    assert alone["write_consistency_factor"] == 1
    assert (cluster["shard_number"], cluster["replication_factor"]) == (6, 2)
    assert cluster["write_consistency_factor"] == 2
    chosen = creation(DIM, settings(shards=5, replicas=3, write_consistency=3), 3)
    assert (chosen["shard_number"], chosen["replication_factor"]) == (5, 3)
    assert chosen["write_consistency_factor"] == 3
    strict = cluster["strict_mode_config"]
    assert strict.enabled and strict.unindexed_filtering_retrieve is False
    assert strict.max_query_limit == qdrant_schema.MAX_LIMIT
    assert cluster["quantization_config"].scalar.type == "int8"
    assert cluster["vectors_config"]["dense"].memory == "cold"
    assert cluster["sparse_vectors_config"]["bm25"].modifier == "idf"
    plain = creation(DIM, settings(quantization="none"), 1)
    assert plain["quantization_config"] is None
    assert plain["vectors_config"]["dense"].memory == "cached"


# --- who writes --------------------------------------------------------------------------------


def test_a_stale_follower_is_refused_and_changes_nothing_of_how_it_stands(server: Server) -> None:
    stale = writing(server, fence=1)
    stale.put([entry(1)])
    stale.flush(5)
    fresh = writing(server, fence=2)
    fresh.put([entry(2)])
    fresh.flush(6)
    stale.put([entry(3)])  # it believes in its lease still
    with pytest.raises(LeaseLost):
        stale.flush(9)
    again = opened(server)
    assert again.applied_seq() == 6
    with pytest.raises(LeaseLost):
        writing(server, fence=1)


def test_nobody_writes_without_the_lease(server: Server) -> None:
    lost: list[bool] = []

    def may_write() -> None:
        if lost:
            raise LeaseLost("gone")

    index = opened(server)
    index.begin_writing(1, may_write)
    index.put([entry(1)])
    assert index.unsure == {1}
    index.flush(5)
    assert index.unsure == set()
    lost.append(True)
    for write in (lambda: index.put([entry(2)]), lambda: index.delete([1])):
        with pytest.raises(LeaseLost):
            write()
    assert found(index, ALL) == {point_id(1, 0)}
    with pytest.raises(LeaseLost):
        index.flush(7)


# --- what a loss leaves ------------------------------------------------------------------------


def test_following_begins_behind_what_may_be_lost(server: Server, clock: list[float]) -> None:
    index = writing(server, holdback_seconds=10.0)
    index.flush(5)
    assert (index.indexed_seq(), index.applied_seq()) == (0, 5)
    assert index.settle_seconds() == 10.0
    clock[0] = 106.0
    index.flush(8)
    assert (index.indexed_seq(), index.applied_seq()) == (0, 8)
    clock[0] = 111.0
    index.flush(8)
    assert (index.indexed_seq(), index.applied_seq()) == (5, 8)
    clock[0] = 117.0
    index.flush(8)
    assert (index.indexed_seq(), index.settle_seconds()) == (8, 0.0)
    clock[0] = 119.0
    assert opened(server).indexed_seq() == 8


def test_what_is_applied_again_becomes_durable_again(server: Server, clock: list[float]) -> None:
    index = writing(server, holdback_seconds=10.0)
    index.flush(5)
    clock[0] = 111.0
    index.flush(9)
    assert (index.indexed_seq(), index.applied_seq()) == (5, 9)
    again = writing(server, fence=2, holdback_seconds=10.0)
    again.flush(7)
    again.flush(9)
    assert (again.indexed_seq(), again.applied_seq()) == (5, 9)
    clock[0] = 122.0
    again.flush(9)
    assert again.indexed_seq() == 9


def test_the_last_seconds_may_be_lost(server: Server, engine: OneAtATime) -> None:
    """A server that comes back as it was seconds ago is followed from where it surely was."""
    index = writing(server, holdback_seconds=3600.0)
    index.put([entry(1), entry(2)])
    index.flush(4)
    collection = behind(server)
    before = copy.deepcopy(engine.client._client.collections[collection].__dict__)  # type: ignore[index]
    index.put([entry(1, ("new words",), revision=7), entry(3)])
    index.delete([2])
    index.flush(9)
    engine.client._client.collections[collection].__dict__.update(before)  # type: ignore[index]
    after = writing(server, fence=2, log=Log(head=9))
    assert after.indexed_seq() == 0 < after.applied_seq()
    # What the follower does from there: the current state of all that changed since.
    after.put([entry(1, ("new words",), revision=7), entry(3)])
    after.delete([2])
    assert found(after, ALL) == {point_id(7, 0), point_id(3, 0)}


def test_an_interrupted_first_fill_is_begun_anew(server: Server) -> None:
    index = writing(server)
    index.put([entry(1), entry(2)])
    first = behind(server)
    again = writing(server, fence=2, log=Log())
    assert found(opened(server), ALL) == {point_id(1, 0), point_id(2, 0)}
    again.put([entry(2)])
    again.flush(3)
    assert behind(server) not in (None, first)
    assert found(opened(server), ALL) == {point_id(2, 0)}


@pytest.mark.parametrize(
    ("log", "why"), [(Log(horizon=50), "away longer"), (Log(head=3), "ahead of the catalog")]
)
def test_what_following_cannot_make_right_is_made_anew_beside_it(
    server: Server, log: Log, why: str
) -> None:
    index = writing(server)
    index.put([entry(1), entry(2)])
    index.flush(9)
    assert why in str(index.why_unusable(log))
    first, reader = behind(server), opened(server)
    again = writing(server, fence=2, log=log)
    assert (again.indexed_seq(), again.applied_seq()) == (0, 9)
    # Searches go on in the old one, in this process and in others, until the new one is full.
    for searching in (again, reader):
        assert found(searching, ALL) == {point_id(1, 0), point_id(2, 0)}
    again.put([entry(2), entry(3)])
    again.flush(0)
    assert behind(server) == first and found(reader, ALL) == {point_id(1, 0), point_id(2, 0)}
    again.flush(2)
    for searching in (again, reader, opened(server)):
        assert found(searching, ALL) == {point_id(2, 0), point_id(3, 0)}
    assert Place(server, ALIAS).collections() == [behind(server)]


def test_a_wish_to_make_it_anew_is_kept_until_it_is_done(server: Server) -> None:
    index = writing(server)
    index.put([entry(1)])
    index.flush(9)
    opened(server).make_anew_next(2)
    with pytest.raises(LeaseLost):
        index.flush(10)
    assert found(opened(server), ALL) == {point_id(1, 0)}
    again = writing(server, fence=3, log=Log())
    assert again.indexed_seq() == 0
    again.flush(11)
    assert opened(server).why_unusable(Log()) is None
    assert found(opened(server), ALL) == set()


def test_what_is_stored_is_compared(server: Server, engine: OneAtATime) -> None:
    index = writing(server)
    entries = [entry(1, ("one", "two")), entry(2), entry(3)]
    index.put(entries)
    assert list(qdrant_content.differences(index, entries)) == []
    engine.delete(behind(server), [point_id(1, 1)])
    engine.set_payload(behind(server), {"access": ["group:nobody"]}, points=[point_id(2, 0)])
    [first] = engine.retrieve(
        behind(server), [point_id(3, 0)], with_payload=True, with_vectors=True
    )
    turned = {**first.vector, "dense": first.vector["dense"][::-1]}
    from qdrant_client import models

    engine.upsert(
        behind(server),
        [models.PointStruct(id=point_id(3, 0), vector=turned, payload=first.payload)],
    )
    assert list(qdrant_content.differences(index, entries)) == [
        (1, "is not there"),
        (2, "has other words or labels"),
        (3, "has another dense vector"),
    ]
    assert qdrant_content.document_ids(index, [point_id(2, 0), point_id(9, 0)]) == {2}


# --- ranges ------------------------------------------------------------------------------------


def test_ranges_are_asked_only_over_fields_with_an_index(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qdrant_schema, "MAX_RANGE_INDEXES", 2)
    index = writing(server)
    index.put([entry(1, metadata={"year": 2020})])
    absent = IndexFilter(("law",), where=Range("pages", gte=1))
    assert found(index, absent) == set()
    assert found(index, IndexFilter(("law",), where=Not(Range("pages", gte=1)))) == {point_id(1, 0)}
    index.put([entry(2, metadata={"pages": 5, "weight": 3})])
    index.flush(1)
    reader = opened(server)
    assert found(reader, absent) == {point_id(2, 0)}
    with pytest.raises(IndexUnavailable, match="cannot be compared"):
        found(reader, IndexFilter(("law",), where=Range("weight", gte=1)))


def test_a_reader_hears_of_new_fields(server: Server, clock: list[float]) -> None:
    index = writing(server)
    index.put([entry(1)])
    index.flush(1)
    reader = opened(server)
    index.put([entry(2, metadata={"year": 2020})])
    clock[0] += 2.0
    assert found(reader, IndexFilter(("law",), where=Range("year", gte=2019))) == {point_id(2, 0)}


# --- over HTTP ---------------------------------------------------------------------------------


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def url(faults: Faults, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(qdrant_server, "_FIRST_PAUSE_SECONDS", 0.001)
    with serving(faults) as address:
        yield address


def test_a_server_that_is_away_is_named(url: str, faults: Faults) -> None:
    index = writing(Server.connect(settings(url=url)))
    index.put([entry(1)])
    faults.status = 503
    with pytest.raises(IndexUnavailable, match=r"does not answer \(503"):
        index.passage_count()
    with pytest.raises(IndexUnavailable):
        index.put([entry(2)])
    assert index.unsure == {1, 2}
    faults.status = None
    assert index.passage_count() == 1
    index.close()


def test_a_write_is_tried_again(url: str, faults: Faults) -> None:
    index = writing(Server.connect(settings(url=url)))
    failures = [2]

    def sometimes(method: str, path: str) -> None:
        if (method, path) == ("PUT", "points") and failures[0]:
            failures[0] -= 1
            raise RuntimeError("the test wants it")

    faults.before = sometimes
    index.put([entry(1)])
    assert failures == [0] and found(index, ALL) == {point_id(1, 0)}
    index.close()


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qdrant_server, "_TRIES", 1)
    with pytest.raises(IndexUnavailable, match=r"127\.0\.0\.1:9"):
        Server.connect(settings(url="http://127.0.0.1:9"))


def test_a_key_is_needed_and_never_told(url: str, faults: Faults) -> None:
    faults.api_key = "the-real-key"
    with pytest.raises(ConfigError, match="refuses the key") as raised:
        Server.connect(settings(url=url, api_key="a-wrong-key"))
    assert "wrong-key" not in str(raised.value)


def test_no_url_says_what_to_set() -> None:
    with pytest.raises(ConfigError, match="LONGLEAF_QDRANT__URL"):
        Server.connect(settings(url=""))


def test_an_old_server_is_refused(url: str, faults: Faults) -> None:
    faults.version = "1.16.3"
    with pytest.raises(ConfigError, match=r"1\.16\.3; Longleaf needs 1\.19"):
        Server.connect(settings(url=url))


def test_scores_are_the_embedded_shards(tmp_path: Path, url: str) -> None:
    """Moving from one store to the other changes no score."""
    from longleaf.retriever.index.edge import EdgeIndex

    edge = EdgeIndex.open(tmp_path / "edge", DIM, "made-so")
    index = writing(Server.connect(settings(url=url)))
    entries = [entry(n, (f"patent liability {'court ' * (n % 5)}", "god")) for n in range(1, 30)]
    for one in (edge, index):
        one.put(entries)
    query = unit(np.random.default_rng(3))
    lexical = LexicalQuery("patent court", "english")
    for left, right in [
        (edge.search_dense(query, ALL, 20), index.search_dense(query, ALL, 20)),
        (edge.search_bm25(lexical, ALL, 99), index.search_bm25(lexical, ALL, 99)),
    ]:
        assert [point.point_id for point in left] == [point.point_id for point in right]
        np.testing.assert_allclose(
            [point.score for point in left], [point.score for point in right], rtol=1e-5
        )
    edge.close()
    index.close()
