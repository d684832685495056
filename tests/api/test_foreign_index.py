"""Two catalogs with one `qdrant.prefix`, and one whose database went back in time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from qdrant_client import models
from sqlalchemy import update
from tests.api.conftest import TEXTS
from tests.api.test_indexes import _quick, answers, engine, examine, fill, settings_of
from tests.contracts.qdrant_indexes import OneAtATime
from typer.testing import CliRunner

from longleaf.api import indexes, rebuilding, wire
from longleaf.api.cli.main import app
from longleaf.api.doctor.report import Status
from longleaf.api.indexes import qdrant
from longleaf.core.catalog import schema
from longleaf.core.config import Settings
from longleaf.core.errors import ForeignIndex, IndexUnavailable
from longleaf.retriever.index.qdrant import QdrantIndex
from longleaf.retriever.index.qdrant_server import Server

__all__ = ["_quick", "engine"]


@pytest.fixture
def settings(tmp_path: Path, engine: OneAtATime) -> Settings:
    return settings_of(tmp_path / "home", "qdrant")


def filled(settings: Settings) -> list[list[str]]:
    runtime = wire.open_runtime(settings, follow=False)
    try:
        fill(runtime)
        return answers(runtime)
    finally:
        runtime.close()


def asked(settings: Settings) -> list[list[str]]:
    runtime = wire.open_runtime(settings, follow=False)
    try:
        runtime.follower.catch_up()
        return answers(runtime)
    finally:
        runtime.close()


def names(engine: OneAtATime) -> set[str]:
    return {each.name for each in engine.get_collections().collections}


def stored(engine: OneAtATime) -> dict[str, Any]:
    return {name: engine.scroll(name, limit=1000, with_vectors=True) for name in names(engine)}


def only_cataloged(settings: Settings, texts: dict[str, str] = TEXTS) -> None:
    """A catalog with documents and no index."""
    here = settings_of(settings.home, "edge")
    runtime = wire.open_runtime(here, follow=False)
    try:
        fill(runtime, texts)
    finally:
        runtime.close()


def test_two_catalogs_with_one_prefix_leave_each_other_alone(
    settings: Settings, engine: OneAtATime, tmp_path: Path
) -> None:
    before = filled(settings)
    there = stored(engine)
    second = settings_of(tmp_path / "second", "qdrant")
    only_cataloged(second)
    for repair in (False, True):
        told = examine(second, repair=repair)
        assert told["index"].status is Status.FAIL and "doctor" not in told
        assert "follows another catalog" in told["index"].fact
        assert "longleaf rebuild --take-over" in told["index"].remedy
    with pytest.raises(ForeignIndex, match="follows another catalog"):
        rebuilding.rebuild(second)
    assert stored(engine) == there and asked(settings) == before
    # Asked for, it goes; then the first one is refused in its turn.
    done = CliRunner().invoke(
        app, ["rebuild", "--take-over", "--home", str(second.home)], env=ENVIRONMENT
    )
    assert done.exit_code == 0, done.output
    assert len(names(engine)) == 1 and not names(engine) & set(there)
    assert asked(second) == before
    with pytest.raises(ForeignIndex):
        rebuilding.rebuild(settings)


ENVIRONMENT = {
    "LONGLEAF_INDEX__KIND": "qdrant",
    "LONGLEAF_QDRANT__HNSW_M": "0",
    "LONGLEAF_QDRANT__HOLDBACK_SECONDS": "0",
    "LONGLEAF_CHUNKER__TARGET_TOKENS": "48",
    "LONGLEAF_RERANKER__KIND": "none",
}


def test_a_plain_collection_in_the_aliass_place(settings: Settings, engine: OneAtATime) -> None:
    only_cataloged(settings)
    engine.create_collection(
        "longleaf-generation-1",
        vectors_config={"dense": models.VectorParams(size=4, distance="Cosine")},
    )
    for repair in (False, True):
        told = examine(settings, repair=repair)
        assert told["index"].status is Status.FAIL and "doctor" not in told
        assert "not an alias" in told["index"].fact
    with pytest.raises(ForeignIndex, match="not an alias"):
        rebuilding.rebuild(settings)
    assert names(engine) == {"longleaf-generation-1"}
    rebuilt = rebuilding.rebuild(settings, take_over=True)
    assert rebuilt.documents == len(TEXTS) and "longleaf-generation-1" not in names(engine)
    assert all(asked(settings))


def test_taking_over_what_is_ours_is_an_ordinary_rebuild(
    settings: Settings, engine: OneAtATime
) -> None:
    before = filled(settings)
    copy = "longleaf-generation-1-backup"
    engine.create_collection(copy, vectors_config={})
    assert rebuilding.rebuild(settings, take_over=True).documents == len(TEXTS)
    assert asked(settings) == before and copy in names(engine)


def test_a_server_that_is_away_is_one_finding(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    only_cataloged(settings)

    def away(_: Settings) -> Server:
        raise IndexUnavailable("The Qdrant server does not answer.", "See that it runs.")

    monkeypatch.setattr(qdrant, "connect", away)
    for repair in (False, True):
        told = examine(settings, repair=repair)
        assert told["index"].fact == "The Qdrant server does not answer." and "doctor" not in told


def gone_back(settings: Settings, fence: int) -> None:
    """As `pg_restore` leaves it: the leases of then beside an index of now."""
    catalog = wire.open_catalog(settings)
    try:
        with catalog.database.writing() as connection:
            connection.execute(update(schema.leases).values(fence=fence, expires_at=0.0))
    finally:
        catalog.close()


def fence_written(settings: Settings) -> int:
    catalog = wire.open_catalog(settings)
    try:
        live = catalog.live_generation()
        assert live is not None
        followed = indexes.place(settings, catalog, live).open()
        try:
            return followed.index.fence_written()  # type: ignore[attr-defined,no-any-return]
        finally:
            followed.close()
    finally:
        catalog.close()


@pytest.mark.parametrize("by", ["rebuild", "doctor"])
def test_a_database_that_was_restored_is_followed_at_the_first_try(
    settings: Settings, engine: OneAtATime, by: str
) -> None:
    before = filled(settings)
    gone_back(settings, 40)  # as many holders after the dump
    asked(settings)
    was = fence_written(settings)
    old = names(engine)
    gone_back(settings, 3)
    told = examine(settings)["index"]
    assert told.status is Status.FAIL and "restored" in told.fact
    if by == "rebuild":
        assert rebuilding.rebuild(settings).documents == len(TEXTS)
    else:
        assert examine(settings, repair=True)["index"].status is Status.OK
    assert fence_written(settings) > was > 40
    assert not names(engine) & old and asked(settings) == before


def test_settings_that_need_a_rebuild_are_told(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    what = "it has 2 shards and not the 5 of qdrant.shards"
    monkeypatch.setattr(QdrantIndex, "unmet", lambda _: [what])
    runtime = wire.open_runtime(settings, follow=False)
    try:
        fill(runtime)
        assert f"{what} (longleaf rebuild)" in runtime.reasons["index"]
    finally:
        runtime.close()
    told = examine(settings)
    assert told["index"].status is Status.OK
    assert told["index settings"].status is Status.WARN
    assert (told["index settings"].fact, told["index settings"].remedy) == (
        what,
        "longleaf rebuild",
    )
