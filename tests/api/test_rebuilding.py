"""Making the index anew beside other processes, over damage, and after an interruption."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from longleaf.api import rebuilding, wire
from longleaf.api.cli.corpus import ensure_collection
from longleaf.api.indexes.edge import EdgePlace
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
    done = rebuilding.rebuild(settings)
    assert (done.documents, done.passages) == (1, 1)
    assert folders(settings) == ["generation-1"]


def test_a_rebuild_is_refused_while_the_index_is_in_use(
    settings: Settings, catalog: Catalog
) -> None:
    index = EdgePlace(settings, catalog, live(catalog)).open_index()
    worked: list[str] = []
    with pytest.raises(IndexLocked):
        rebuilding.rebuild(settings, progress=lambda what, *_: worked.append(what))
    assert worked == []
    index.close()
    assert rebuilding.rebuild(settings).passages == 1


def test_what_interrupted_rebuilds_left_is_removed(settings: Settings, catalog: Catalog) -> None:
    home = settings.home / "index"
    shutil.copytree(home / "generation-1", home / "generation-7")
    shutil.copytree(home / "generation-1", home / ".old-generation-1-ab")
    (home / "generation-8").mkdir()
    catalog.record_follower(catalog.follower_name(home / "generation-7"), 1)
    rebuilding.rebuild(settings)
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
    index = EdgePlace(settings, parts.catalog, parts.generation).open_index()
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
    assert ensure_collection(ours, "law", None) == "german"
    with pytest.raises(Conflict, match="reads german"):
        ensure_collection(ours, "acts", "english")
    ours.close()
    theirs.close()
