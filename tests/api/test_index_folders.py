"""Folders of indexes that nobody opens any more, and looking at one without changing it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.contracts.indexes import without
from tests.contracts.test_index_folder import DIM, entry

from longleaf.api import indexes
from longleaf.api.doctor.index import IndexExam
from longleaf.api.doctor.report import Status
from longleaf.core.catalog import Catalog
from longleaf.core.config import Settings, load_settings
from longleaf.retriever.index import edge_folder
from longleaf.retriever.index.edge import EdgeIndex
from longleaf.retriever.index.faiss import FaissIndex

OPENERS: dict[str, Callable[..., EdgeIndex | FaissIndex]] = {
    "edge": EdgeIndex.open,
    "faiss": lambda *what: FaissIndex.open(*what, devices="cpu"),
}


def settings_of(home: Path, kind: str) -> Settings:
    return load_settings({"home": home, "index.kind": kind, "faiss.devices": "cpu"}, {}).settings


@pytest.mark.parametrize("kind", ["edge", "faiss"])
def test_closed_indexes_of_every_kind_go_without_their_engines(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Words of deleted documents lie in them, also after `index.kind` was changed."""
    catalog, settings = Catalog(tmp_path), settings_of(tmp_path, kind)
    live = catalog.open_generation("chunker", "embedder", "tiny", DIM, 0)
    for number in (live.id, live.id + 7):
        for name in ("generation-", "faiss-generation-"):
            (tmp_path / "index" / f"{name}{number}").mkdir(parents=True)
    for engine in ("faiss", "qdrant_edge"):
        monkeypatch.setitem(sys.modules, engine, None)
    assert indexes.drop_closed(settings, catalog) == []
    left = {path.name for path in (tmp_path / "index").iterdir()}
    assert left == {f"generation-{live.id}", f"faiss-generation-{live.id}"}
    catalog.close()


@pytest.mark.parametrize("kind", list(OPENERS))
def test_looking_at_an_interrupted_fill_does_not_throw_it_away(tmp_path: Path, kind: str) -> None:
    if kind == "faiss" and (why := without("faiss", "faiss-cpu")()):
        pytest.skip(why)
    catalog, settings = Catalog(tmp_path), settings_of(tmp_path, kind)
    live = catalog.open_generation("chunker", "embedder", "tiny", DIM, 0)
    place = indexes.place(settings, catalog, live)
    where = (tmp_path / "index" / f"{'faiss-' * (kind == 'faiss')}generation-{live.id}", DIM)
    index = OPENERS[kind](*where, live.fingerprint)
    index.put([entry(1, 1), entry(2, 2)])
    index.flush(0)
    index.close()
    for _ in range(2):
        [told] = IndexExam(
            settings, catalog, live, False, False, pytest.fail, lambda *_: None
        ).alone()
        assert told.status is Status.WARN and "first fill was interrupted" in told.fact
        assert "--repair" in told.remedy
    index = OPENERS[kind](*where, live.fingerprint)
    assert index.passage_count() == 4
    index.close()
    index = OPENERS[kind](*where, live.fingerprint, catalog)
    assert index.passage_count() == 0, "whoever follows the log makes it anew"
    index.close()
    assert place.why_unusable() is None
    catalog.close()


def test_looking_at_a_shard_of_an_older_longleaf_leaves_it(tmp_path: Path) -> None:
    catalog, settings = Catalog(tmp_path), settings_of(tmp_path, "edge")
    live = catalog.open_generation("chunker", "embedder", "tiny", DIM, 0)
    place, folder = indexes.place(settings, catalog, live), tmp_path / "index" / "generation-1"
    EdgeIndex.open(folder, DIM, live.fingerprint).close()
    sidecar = folder / edge_folder.SIDECAR
    older = sidecar.read_text().replace(f'"schema": {edge_folder.SCHEMA}', '"schema": 1')
    sidecar.write_text(older)
    assert place.why_unusable() == edge_folder.OLDER
    assert sidecar.read_text() == older
    catalog.close()
