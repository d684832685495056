"""Whose a collection on a Qdrant server is, and that nothing of others is ever deleted unasked."""

from __future__ import annotations

import dataclasses

import pytest
from qdrant_client import models
from tests.contracts.entries import ALL, DIM, entry, found
from tests.contracts.qdrant_indexes import OneAtATime, settings
from tests.retriever.test_qdrant import ALIAS, Log, behind, engine, opened, server, writing

from longleaf.core.catalog.leases import LeaseLost
from longleaf.core.errors import CatalogBroken, ForeignIndex
from longleaf.core.ids import point_id
from longleaf.retriever.index import qdrant_schema
from longleaf.retriever.index.qdrant_schema import Place, QdrantState
from longleaf.retriever.index.qdrant_server import Server

__all__ = ["engine", "server"]


def names(engine: OneAtATime) -> set[str]:
    return {each.name for each in engine.get_collections().collections}


def full(server: Server) -> str:
    """A collection that answers; returns its name."""
    index = writing(server)
    index.put([entry(1)])
    index.flush(5)
    made = behind(server)
    assert made is not None
    return made


def copied(engine: OneAtATime, name: str, epoch: str | None) -> str:
    """A collection that says it follows `epoch`, as a snapshot brings one back."""
    dense = models.VectorParams(size=DIM, distance="Cosine")
    engine.create_collection(name, vectors_config={"dense": dense})
    if epoch is not None:
        state = dataclasses.asdict(QdrantState("made-so", DIM, epoch))
        point = models.PointStruct(id=0, vector={}, payload={"state": state})
        engine.upsert(name, [point])
    return name


@pytest.mark.parametrize(
    "name",
    [
        f"{ALIAS}-backup",
        f"{ALIAS}-0123456g",
        f"{ALIAS}-0123456789",
        f"{ALIAS}-generation-1-0123abcd",
        f"{ALIAS}0-0123abcd",
    ],
)
def test_a_collection_with_another_name_is_left_alone(
    server: Server, engine: OneAtATime, name: str
) -> None:
    copied(engine, name, "epoch")
    full(server)
    writing(server, fence=2)
    Place(server, ALIAS).drop("epoch")
    assert names(engine) == {name}


def test_of_our_names_only_what_is_surely_ours_goes(server: Server, engine: OneAtATime) -> None:
    answers = full(server)
    theirs = copied(engine, f"{ALIAS}-00000001", "another")
    nobodys = copied(engine, f"{ALIAS}-00000002", None)
    odd = copied(engine, f"{ALIAS}-00000003", None)
    engine.upsert(odd, [models.PointStruct(id=0, vector={}, payload={"state": "ours"})])
    left = copied(engine, f"{ALIAS}-00000004", "epoch")
    crashed = Place(server, ALIAS).make(DIM, settings(), "epoch")
    they_crashed = Place(server, ALIAS).make(DIM, settings(), "another")
    assert {left, crashed} < names(engine)
    writing(server, fence=2)
    assert names(engine) == {answers, theirs, nobodys, odd, they_crashed}


def test_an_alias_of_another_catalog_outlives_our_dropping(
    server: Server, engine: OneAtATime
) -> None:
    theirs = full(server)
    Place(server, ALIAS).drop("another")
    assert behind(server) == theirs
    Place(server, ALIAS).drop("epoch")
    assert behind(server) is None and names(engine) == set()


def test_a_crash_before_the_state_is_written_leaves_what_we_remove(
    server: Server, engine: OneAtATime, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(qdrant_schema, "write_state", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            writing(server)
    [crashed] = names(engine)
    writing(server, fence=2)
    assert behind(server) != crashed and names(engine) == {behind(server)}


def test_one_of_ours_in_another_form_is_not_foreign(server: Server, engine: OneAtATime) -> None:
    name = full(server)
    for state in ({"epoch": "epoch", "schema": 1}, {"epoch": "epoch", "schema": 2, "odd": 1}):
        engine.upsert(name, [models.PointStruct(id=0, vector={}, payload={"state": state})])
        with pytest.raises(CatalogBroken, match=r"has the form 1|cannot be read") as raised:
            opened(server)
        assert not isinstance(raised.value, ForeignIndex)
    Place(server, ALIAS).drop("epoch")
    assert names(engine) == set()


def test_another_catalogs_is_foreign_whatever_made_its_vectors(server: Server) -> None:
    full(server)
    with pytest.raises(ForeignIndex):
        opened(server, epoch="another", dim=8)


def test_other_vectors_are_foreign_and_nothing_is_written(
    server: Server, engine: OneAtATime
) -> None:
    name = copied(engine, f"{ALIAS}-00000001", "epoch")
    made = models.CreateAlias(collection_name=name, alias_name=ALIAS)
    engine.update_collection_aliases([models.CreateAliasOperation(create_alias=made)])
    before = engine.retrieve(name, [0], with_payload=True)
    index = opened(server)
    for ask in (
        lambda: index.why_unusable(Log()),
        lambda: index.make_anew_next(9),
        lambda: index.begin_writing(9, lambda: None, Log(head=0)),
    ):
        with pytest.raises(ForeignIndex, match="how rare they are"):
            ask()
    assert engine.retrieve(name, [0], with_payload=True) == before
    assert names(engine) == {name}


def test_taking_over_deletes_what_has_our_names(server: Server, engine: OneAtATime) -> None:
    full(server)
    copy = copied(engine, f"{ALIAS}-backup", "another")
    left = copied(engine, f"{ALIAS}-00000001", None)
    assert left in names(engine)
    Place(server, ALIAS).take_over()
    assert names(engine) == {copy} and behind(server) is None


def test_taking_over_a_plain_collection_and_an_alias_to_another(
    server: Server, engine: OneAtATime
) -> None:
    copied(engine, ALIAS, None)
    Place(server, ALIAS).take_over()
    assert names(engine) == set()
    copied(engine, "theirs", None)
    made = models.CreateAlias(collection_name="theirs", alias_name=ALIAS)
    engine.update_collection_aliases([models.CreateAliasOperation(create_alias=made)])
    Place(server, ALIAS).take_over()
    assert names(engine) == {"theirs"} and behind(server) is None
    full(server)
    assert found(opened(server), ALL) == {point_id(1, 0)}


def test_a_fence_of_a_database_that_was_restored_is_told(server: Server) -> None:
    writing(server, fence=40).flush(5)
    assert opened(server).fence_written() == 40
    with pytest.raises(LeaseLost, match=r"fence 40.*this process has 3.*restored") as raised:
        writing(server, fence=3)
    assert "longleaf rebuild" in raised.value.hint
