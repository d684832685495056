"""Rebuilding beside other processes, over damage, and after an interrupted rebuild."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import select

from longleaf.api import rebuilding, wire
from longleaf.api.cli.corpus import _ensure_collection
from longleaf.core.catalog import Catalog, Generation, schema
from longleaf.core.config import Settings, load_settings
from longleaf.core.errors import Conflict, IndexLocked
from longleaf.core.types import Scope


def settings_of(home: Path, **more: Any) -> Settings:
    flags = {"home": home, "embedder.threads": 1, **more}
    return load_settings(flags, {}).settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A data folder with one document, in the index too."""
    made = settings_of(tmp_path)
    parts = wire.open_write_side(made)
    parts.catalog.create_collection("law")
    index_one(parts, "a", "The tenant pays rent.")
    rebuilding.follow_once(parts)
    parts.close()
    return made


@pytest.fixture
def other_settings(tmp_path: Path) -> Settings:
    """The same data folder with another chunker: a new generation."""
    return settings_of(tmp_path, **{"chunker.target_tokens": 64})


@pytest.fixture
def catalog(settings: Settings) -> Iterator[Catalog]:
    opened = wire.open_catalog(settings)
    yield opened
    opened.close()


def index_one(parts: wire.WriteSide, key: str, text: str) -> None:
    parts.indexer.index_bytes("law", "english", text.encode(), f"{key}.txt", key=key)


def live(catalog: Catalog) -> Generation:
    found = catalog.live_generation()
    assert found is not None
    return found


def folders(settings: Settings) -> list[str]:
    return sorted(path.name for path in (settings.home / "index").iterdir())


def followers(catalog: Catalog) -> set[str]:
    with catalog._database.reading() as connection:
        names = connection.execute(select(schema.followers.c.name)).scalars()
        return {Path(name).name for name in names}


def test_a_damaged_index_is_what_a_rebuild_is_for(settings: Settings) -> None:
    [shard] = (settings.home / "index" / "generation-1").glob("shard-*")
    shutil.rmtree(shard / "segments")
    done = rebuilding.rebuild(settings, embed=False)
    assert (done.documents, done.passages) == (1, 1)
    assert folders(settings) == ["generation-1"]


def test_embedding_anew_is_refused_before_the_work_when_the_index_is_in_use(
    settings: Settings, other_settings: Settings, catalog: Catalog
) -> None:
    index = wire.open_index(settings, catalog, live(catalog))
    worked: list[str] = []
    with pytest.raises(IndexLocked):
        rebuilding.rebuild(
            other_settings, embed=True, progress=lambda what, *_: worked.append(what)
        )
    assert worked == []
    assert live(catalog).id == 1
    index.close()
    done = rebuilding.rebuild(other_settings, embed=True)
    assert (done.documents, done.generation) == (1, live(catalog).id)
    assert folders(settings) == [f"generation-{done.generation}"]
    assert followers(catalog) == {f"generation-{done.generation}"}


def test_the_old_index_stays_taken_while_everything_is_embedded(
    settings: Settings, other_settings: Settings, catalog: Catalog
) -> None:
    refused: list[str] = []

    def try_to_open(what: str, _done: int, _total: int) -> None:
        if what == "Embed":
            with pytest.raises(IndexLocked):
                wire.open_index(settings, catalog, live(catalog))
            refused.append(what)

    rebuilding.rebuild(other_settings, embed=True, progress=try_to_open)
    assert refused == ["Embed"]


def test_what_interrupted_rebuilds_left_is_removed(settings: Settings, catalog: Catalog) -> None:
    home = settings.home / "index"
    shutil.copytree(home / "generation-1", home / "generation-7")
    shutil.copytree(home / "generation-1", home / ".old-generation-1-ab")
    (home / "generation-8").mkdir()
    catalog.record_follower(str(home / "generation-7"), 1)
    rebuilding.rebuild(settings, embed=False)
    assert folders(settings) == ["generation-1"]
    assert followers(catalog) == {"generation-1"}


def test_what_is_added_while_the_index_is_tidied_is_followed_too(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from longleaf.retriever.index.edge import EdgeIndex

    parts = wire.open_write_side(settings)
    said: list[str] = []
    real = EdgeIndex.optimize

    def optimize(index: EdgeIndex) -> bool:
        index_one(parts, "c", "Written meanwhile by another process.")
        said.append(rebuilding.follow_once(parts))
        return real(index)

    monkeypatch.setattr(rebuilding, "OPTIMIZE_PASSAGES", 1)
    monkeypatch.setattr(EdgeIndex, "optimize", optimize)
    index_one(parts, "b", "The landlord repairs the roof.")
    assert "(2 documents" in rebuilding.follow_once(parts)
    assert said == ["Another process has the index open: it, or the next search, adds them."]
    index = wire.open_index(settings, parts.catalog, parts.generation)
    assert index.passage_count() == 3
    index.close()
    parts.close()


def test_two_processes_that_make_the_same_collection_both_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = Catalog(tmp_path), Catalog(tmp_path)
    real = Catalog.create_collection

    def too_late(catalog: Catalog, name: str, *more: str) -> Any:
        if name not in theirs.collection_languages(Scope.all(), None):
            real(theirs, name, "german")
        return real(catalog, name, *more)

    monkeypatch.setattr(Catalog, "create_collection", too_late)
    parts: Any = SimpleNamespace(catalog=ours)
    assert _ensure_collection(parts, "law", None) == "german"
    with pytest.raises(Conflict, match="reads german"):
        _ensure_collection(parts, "acts", "english")
    ours.close()
    theirs.close()


def test_embedding_anew_goes_on_where_it_was_interrupted(
    settings: Settings, other_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = wire.open_write_side(settings)
    for number in range(3):
        index_one(parts, f"more-{number}", f"Another text, number {number}.")
    parts.close()
    real, made = Catalog.add_vectors, []

    def interrupted(self: Catalog, generation: Generation, content: Any) -> None:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(content.digest)
        real(self, generation, content)

    monkeypatch.setattr(Catalog, "add_vectors", interrupted)
    with pytest.raises(KeyboardInterrupt):
        rebuilding.rebuild(other_settings, embed=True)
    monkeypatch.undo()
    again: list[str] = []

    def counted(self: Catalog, generation: Generation, content: Any) -> None:
        again.append(content.digest)
        real(self, generation, content)

    monkeypatch.setattr(Catalog, "add_vectors", counted)
    assert rebuilding.rebuild(other_settings, embed=True).documents == 4
    assert len(again) == 2
    assert not set(again) & set(made)


def test_a_document_written_while_everything_is_embedded_is_not_lost(
    settings: Settings, other_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Catalog.make_live
    written = []

    def late(self: Catalog, generation: Generation) -> bool:
        if not written:
            parts = wire.open_write_side(settings)
            index_one(parts, "late", "Written at the last moment.")
            parts.close()
            written.append("late")
        return real(self, generation)

    monkeypatch.setattr(Catalog, "make_live", late)
    assert rebuilding.rebuild(other_settings, embed=True).documents == 2
    runtime = wire.open_runtime(other_settings, follow=False)
    try:
        runtime.follower.catch_up()
        assert runtime.engine.index.passage_count() == 2
    finally:
        runtime.close()
