"""Every kind of index behind the same commands: searched, examined, mended, made anew, dropped."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.api.conftest import TEXTS
from tests.contracts.qdrant_indexes import OneAtATime

from longleaf.api import compacting, indexes, rebuilding, reindexing, wire
from longleaf.api.doctor.examine import Examination, Wishes
from longleaf.api.doctor.report import Status
from longleaf.api.indexes import qdrant
from longleaf.api.search import SearchRequest
from longleaf.core.config import Settings, load_settings
from longleaf.core.errors import IndexLocked, LongleafError
from longleaf.core.types import Scope
from longleaf.indexer.parsers.here import ReadHere
from longleaf.indexer.prepare import Labels
from longleaf.retriever.index.qdrant_server import Server

if TYPE_CHECKING:
    from longleaf.indexer.embed import MiniLMEmbedder

QUERIES = ("who pays the rent?", "patent litigation", '"force majeure"', "year:2008..2012 lease")


@pytest.fixture(autouse=True)
def _quick(minilm: MiniLMEmbedder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real model, loaded once."""
    monkeypatch.setattr(
        wire, "open_models", lambda settings, _: (minilm, wire.open_chunker(settings, minilm))
    )
    monkeypatch.setattr(wire, "open_reader", lambda *_: ReadHere())


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> OneAtATime:
    """What stands for the server: the same one whoever connects."""
    made: Any = OneAtATime()
    monkeypatch.setattr(qdrant, "connect", lambda _: Server(made, "memory"))
    found: OneAtATime = made
    return found


@pytest.fixture(params=["edge", "faiss", "qdrant"])
def settings(request: pytest.FixtureRequest, tmp_path: Path, engine: OneAtATime) -> Settings:
    if request.param == "faiss":
        pytest.importorskip("faiss", reason="faiss-cpu is not installed")
    return settings_of(tmp_path / "home", request.param)


def settings_of(home: Path, kind: str, **flags: Any) -> Settings:
    chosen = {
        "home": home,
        "index.kind": kind,
        "qdrant.hnsw_m": 0,
        "qdrant.holdback_seconds": 0,
        "faiss.devices": "cpu",
        "chunker.target_tokens": 48,
        "reranker.kind": "none",
    } | {name.replace("__", "."): value for name, value in flags.items()}
    return load_settings(chosen, {}).settings


def fill(runtime: wire.Runtime, texts: dict[str, str] = TEXTS) -> None:
    if "law" not in runtime.catalog.collection_languages(Scope.all(), None):
        runtime.catalog.create_collection("law")
    for name, text in texts.items():
        data, labels = text.encode(), Labels(metadata={"year": 2000 + len(name)})
        runtime.indexer.index_bytes("law", "english", data, name, key=name, labels=labels)
    runtime.follower.catch_up()


def answers(runtime: wire.Runtime) -> list[list[str]]:
    return [
        [hit.key for hit in runtime.engine.search(SearchRequest(query=query)).hits]
        for query in QUERIES
    ]


def examine(settings: Settings, **wishes: Any) -> dict[str, Any]:
    report = Examination(settings, Wishes(**wishes)).run()
    return {finding.subject: finding for finding in report}


def wait_for(what: Callable[[], object], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_place_is_searched_and_answers_as_the_embedded_shard(
    settings: Settings, tmp_path: Path
) -> None:
    runtime = wire.open_runtime(settings, follow=False)
    here = wire.open_runtime(settings_of(tmp_path / "edge", "edge"), follow=False)
    try:
        for each in (runtime, here):
            fill(each)
        assert all(answers(here)) and answers(runtime) == answers(here)
        assert runtime.reasons["index"]
    finally:
        runtime.close()
        here.close()


def test_a_server_follows_by_itself(settings: Settings) -> None:
    runtime = wire.open_runtime(settings, follow=True)
    try:
        assert runtime.side.followed.by_itself
        fill(runtime)
        wait_for(lambda: runtime.follower.lag() == 0)
        before = answers(runtime)
        assert all(before)
        fill(runtime, {"new.txt": "The sublessee keeps an ocelot in the premises."})
        wait_for(lambda: runtime.follower.lag() == 0)
        [hit] = runtime.engine.search(SearchRequest(query='"an ocelot"')).hits
        assert hit.key == "new.txt"
        assert runtime.side.followed.failure is None
    finally:
        runtime.close()


def test_a_place_is_examined_and_mended(settings: Settings) -> None:
    runtime = wire.open_runtime(settings, follow=False)
    try:
        fill(runtime)
        before = answers(runtime)
    finally:
        runtime.close()
    found = examine(settings, deep=True)
    assert found["index"].status is Status.OK and found["index content"].status is Status.OK
    catalog = wire.open_catalog(settings)
    try:
        live = catalog.live_generation()
        assert live is not None
        ids, _ = catalog.all_document_ids()
        with indexes.opened(settings, catalog, live) as followed:
            followed.follower.catch_up()
            followed.index.delete(ids[:2])
            followed.index.flush(followed.index.indexed_seq())
    finally:
        catalog.close()
    assert examine(settings)["index"].status is Status.FAIL
    assert examine(settings, repair=True)["index"].status is Status.OK
    runtime = wire.open_runtime(settings, follow=False)
    try:
        runtime.follower.catch_up()
        assert answers(runtime) == before
    finally:
        runtime.close()


def test_a_place_is_made_anew_compacted_and_dropped_with_its_generation(
    settings: Settings, engine: OneAtATime
) -> None:
    runtime = wire.open_runtime(settings, follow=False)
    try:
        fill(runtime)
        before = answers(runtime)
    finally:
        runtime.close()
    rebuilt = rebuilding.rebuild(settings)
    assert rebuilt.documents == len(TEXTS) and rebuilt.passages >= len(TEXTS)
    compacting.compact(settings)
    reindexed = reindexing.reindex(
        settings.model_copy(
            update={"chunker": settings.chunker.model_copy(update={"target_tokens": 64})}
        )
    )
    assert reindexed.changed and reindexed.switched
    longer = settings_of(settings.home, settings.index.kind, chunker__target_tokens=64)
    runtime = wire.open_runtime(longer, follow=False)
    try:
        runtime.follower.catch_up()
        after = answers(runtime)
        assert list(map(set, after)) == list(map(set, before))
        number = runtime.generation.id
    finally:
        runtime.close()
    folders = {path.name for path in (settings.home / "index").glob("*")}
    collections = [each.name for each in engine.get_collections().collections]
    if settings.index.kind == "qdrant":
        assert folders == set() and len(collections) == 1
        assert collections[0].startswith(f"longleaf-generation-{number}-")
    else:
        assert [name.rpartition("-")[2] for name in folders] == [str(number)]


def test_what_one_process_has_another_cannot_drop(settings: Settings) -> None:
    runtime = wire.open_runtime(settings, follow=False)
    try:
        fill(runtime)
        place = indexes.place(settings, runtime.catalog, runtime.generation)
        with pytest.raises(IndexLocked) as raised:
            place.drop()
        assert isinstance(raised.value, LongleafError) and raised.value.hint
        assert all(answers(runtime))
    finally:
        runtime.close()
