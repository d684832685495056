"""The doctor on a real data folder: well, and made ill in every way that it can tell and mend."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from tests.api.conftest import TEXTS, copy_home, skip_on_postgres, sqlite_only
from typer.testing import CliRunner

from longleaf.api import indexes, wire
from longleaf.api.app import create_app
from longleaf.api.cli.main import app as cli
from longleaf.api.doctor import data
from longleaf.api.doctor.examine import Examination, Wishes
from longleaf.api.doctor.report import Finding, Report, Status
from longleaf.api.indexes.edge import EdgePlace
from longleaf.api.running import announced
from longleaf.core.catalog import Catalog, orphans
from longleaf.core.config import Settings, load_settings
from longleaf.core.errors import CatalogBroken
from longleaf.core.filters import Eq
from longleaf.core.ids import point_id
from longleaf.core.protocols import IndexEntry, IndexFilter
from longleaf.core.types import Scope
from longleaf.retriever.index.edge import EdgeIndex

FILE = "catalog.sqlite3"
DOCUMENTS = [f"{name}: {text} {text[::-1]}" for name, text in TEXTS.items()]


def settings_of(home: Path) -> Settings:
    flags = {"home": home, "chunker.target_tokens": 48, "server.port": 0}
    return load_settings(flags, {}).settings


@pytest.fixture(scope="module")
def models() -> Callable[..., Any]:
    """`wire.open_models`, with the real models loaded once."""
    known: dict[str, str] = {}
    loaded = wire.open_models(settings_of(Path("/nowhere")), known)

    def open_models(_settings: Settings, reasons: dict[str, str]) -> Any:
        reasons.update(known)
        return loaded

    return open_models


@pytest.fixture(autouse=True)
def loaded_once(monkeypatch: pytest.MonkeyPatch, models: Any) -> None:
    monkeypatch.setattr(wire, "open_models", models)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, models: Any) -> Path:
    """A folder with a dozen documents, their originals and an index that has followed."""
    home = tmp_path_factory.mktemp("template")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "open_models", models)
        parts = wire.open_write_side(settings_of(home))
    parts.catalog.create_collection("law")
    for number, text in enumerate(DOCUMENTS):
        parts.indexer.index_bytes("law", "english", text.encode(), f"{number}.txt", key=str(number))
    with opened(home, parts.catalog):
        pass
    parts.close()
    return home


@pytest.fixture
def home(template: Path, tmp_path: Path) -> Path:
    home = copy_home(template, tmp_path / "home")
    with contextlib.closing(Catalog(home)) as catalog:
        # A copied folder's index follows under its new name.
        there = indexes.index_folder(settings_of(template), live(catalog))
        catalog.forget_follower(catalog.follower_name(there))
    return home


def live(catalog: Catalog) -> Any:
    generation = catalog.live_generation()
    assert generation is not None
    return generation


@contextlib.contextmanager
def opened(home: Path, catalog: Catalog) -> Iterator[EdgeIndex]:
    """The index, up to date; flushed at the end with the seq that it has."""
    index = (place := EdgePlace(settings_of(home), catalog, live(catalog))).open_index()
    place.make_follower(index).catch_up()
    yield index
    index.flush(index.indexed_seq())
    index.close()


def examine(home: Path, **wishes: Any) -> Report:
    return Examination(settings_of(home), Wishes(**wishes)).run()


def of(report: Report, subject: str) -> Finding:
    [finding] = [each for each in report if each.subject == subject]
    return finding


def failing(report: Report) -> list[str]:
    return [each.subject for each in report if each.status is Status.FAIL]


def sql(home: Path, statement: str) -> None:
    skip_on_postgres()
    with contextlib.closing(sqlite3.connect(home / FILE, isolation_level=None)) as file:
        assert file.execute(statement).rowcount > 0


def test_settings_that_nobody_set_are_those_of_the_folder(home: Path) -> None:
    asked: list[int] = []
    real = wire.open_models

    def open_models(settings: Settings, reasons: dict[str, str]) -> Any:
        asked.append(settings.chunker.target_tokens)
        return real(settings, reasons)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "open_models", open_models)
        unset = load_settings({"home": home, "server.port": 0}, {}).settings
        assert unset.chunker.target_tokens != 48
        Examination(unset, Wishes()).run()
    assert asked == [48]


def test_a_folder_that_is_well(home: Path) -> None:
    for deep in (False, True):
        report = examine(home, deep=deep)
        assert failing(report) == []
        assert report.repaired == []
        assert "and nothing else" in of(report, "index").fact
        assert of(report, "embedder").fact.startswith("all-MiniLM-L6-v2 in ")
        assert of(report, "reranker").fact.startswith("late: ")
        assert of(report, "orphans").status is Status.OK
    assert of(report, "index content").status is Status.OK


@sqlite_only
def test_a_folder_with_nothing_in_it_is_told_and_not_made(tmp_path: Path) -> None:
    report = examine(tmp_path / "none")
    assert of(report, "catalog").remedy.startswith("longleaf index")
    assert report.worst is Status.WARN
    assert not (tmp_path / "none").exists()


def test_the_command_prints_json_and_exits_with_one_when_something_fails(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LONGLEAF_CHUNKER__TARGET_TOKENS", "48")
    monkeypatch.setenv("LONGLEAF_SERVER__PORT", "0")
    well = CliRunner().invoke(cli, ["doctor", "--home", str(home), "--json"])
    assert well.exit_code == 0, well.output
    said = json.loads(well.stdout)
    assert said["status"] in ("OK", "WARN")  # WARN where a program is not installed
    assert {"subject", "status", "fact", "remedy", "details"} == set(said["findings"][0])
    sql(home, "UPDATE contents SET title = 'another'")
    ill = CliRunner().invoke(cli, ["doctor", "--home", str(home)])
    assert ill.exit_code == 1
    assert "FAIL texts" in ill.output
    assert "longleaf restore" in ill.output


# --- the index ---------------------------------------------------------------------------------


def test_missing_and_extra_passages_are_found_and_mended(home: Path) -> None:
    catalog = Catalog(home)
    ids, _ = catalog.all_document_ids()
    [entry] = catalog.index_entries(ids[3:4], live(catalog))
    with opened(home, catalog) as index:
        index.delete(ids[:2])
        # One of a document that is gone, and one of a collection that is.
        index.put([_moved(entry, 9001), replace(_moved(entry, 9002), collection="gone")])
    lost = sum(len(each.passages) for each in catalog.index_entries(ids[:2], live(catalog)))
    catalog.close()
    report = examine(home)
    assert failing(report) == ["index"]
    fact = of(report, "index").fact
    assert f"lacks {lost:,} of" in fact
    assert f"holds {2 * len(entry.passages):,} that are none of it" in fact
    mended = examine(home, repair=True)
    assert failing(mended) == []
    assert mended.repaired
    assert failing(examine(home, deep=True)) == []


def _moved(entry: IndexEntry, number: int) -> IndexEntry:
    """The same passages as those of document and revision `number`."""
    passages = tuple(
        replace(each, point_id=point_id(number, ordinal))
        for ordinal, each in enumerate(entry.passages)
    )
    return replace(entry, document_id=number, revision_id=number, passages=passages)


def test_missing_passages_are_mended_without_making_the_index_anew(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = Catalog(home)
    ids, _ = catalog.all_document_ids()
    with opened(home, catalog) as index:
        index.delete(ids[:2])
    catalog.close()
    monkeypatch.setattr(EdgePlace, "drop", lambda _: pytest.fail("it was made anew"))
    report = examine(home, repair=True)
    assert failing(report) == []
    assert "pushed" in report.repaired[0]


@pytest.mark.parametrize("damage", ["segments", "sidecar", "everything"])
def test_a_damaged_index_is_made_anew(home: Path, damage: str) -> None:
    catalog = Catalog(home)
    folder = indexes.index_folder(settings_of(home), live(catalog))
    catalog.close()
    if damage == "everything":
        shutil.rmtree(folder)
    elif damage == "segments":
        shutil.rmtree(next(folder.glob("shard-*")) / "segments")
    else:
        (folder / "longleaf.json").write_text("{")
    ill = of(examine(home), "index")
    assert ill.status is (Status.WARN if damage == "everything" else Status.FAIL)
    report = examine(home, repair=True)
    assert failing(report) == []
    assert "made the index anew" in report.repaired[0]


def test_what_the_index_says_of_a_passage_is_compared_with_deep(home: Path) -> None:
    catalog = Catalog(home)
    ids, _ = catalog.all_document_ids()
    first, second = catalog.index_entries(ids[:2], live(catalog))
    passage = first.passages[0]
    turned = replace(passage, dense=np.roll(passage.dense, 1))
    with opened(home, catalog) as index:
        index.put([replace(first, passages=(turned, *first.passages[1:]))])
        index.put([replace(second, groups=("nobody",))])
    catalog.close()
    assert failing(examine(home)) == []
    ill = of(examine(home, deep=True), "index content")
    assert ill.status is Status.FAIL
    assert ill.details == (
        f"document {ids[0]} has another dense vector",
        f"document {ids[1]} has other words or labels",
    )
    assert ill.remedy == "longleaf doctor --deep --repair"
    assert failing(examine(home, repair=True)) == []
    assert failing(examine(home, deep=True)) != [], "a look at a part mends a part"
    assert failing(examine(home, deep=True, repair=True)) == []
    assert failing(examine(home, deep=True)) == []


@pytest.mark.parametrize("deep", [False, True])
def test_a_point_without_its_document_has_the_index_made_anew(home: Path, deep: bool) -> None:
    catalog = Catalog(home)
    folder = indexes.index_folder(settings_of(home), live(catalog))
    ids, _ = catalog.all_document_ids()
    pages = folder.glob("shard-*/segments/*/payload_storage/page_*.dat")
    damaged = [page for page in pages if b"doc" in page.read_bytes()]
    assert damaged
    for page in damaged:
        page.write_bytes(page.read_bytes().replace(b"doc", b"dod"))
    with opened(home, catalog) as index, pytest.raises(CatalogBroken) as refused:
        index.delete(ids[:1])
    assert "lost the document" in refused.value.message and "rebuild" in refused.value.hint
    catalog.close()
    if deep:
        assert of(examine(home, deep=True), "index content").status is Status.FAIL
    else:  # a look at ids alone goes on to the remaking when the log cannot mend it
        catalog = Catalog(home)
        catalog.delete_document(catalog.documents(Scope.all())[0].public_id, Scope.all())
        catalog.close()
    report = examine(home, deep=deep, repair=True)
    assert failing(report) == [] and "made the index anew" in report.repaired
    assert failing(examine(home, deep=True)) == []


def test_what_is_deleted_and_not_yet_gone_from_the_files_is_told(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert of(examine(home), "erasure").status is Status.OK
    catalog = Catalog(home)
    head = catalog.documents(Scope.all())[0]
    catalog.delete_document(head.public_id, Scope.all())
    catalog.close()
    just_now = of(examine(home), "erasure")
    assert just_now.status is Status.OK and "since 0 minutes" in just_now.fact
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3 * 3600)
    late = of(examine(home), "erasure")
    assert late.status is Status.WARN and "longleaf compact" in late.remedy
    monkeypatch.undo()
    catalog = Catalog(home)
    catalog.erasure.scrub()
    catalog.close()
    assert "no copy" in of(examine(home), "erasure").fact


def test_an_index_of_another_history_is_told_and_left_to_repair(home: Path) -> None:
    sql(home, "UPDATE meta SET value = 'restored' WHERE key = 'epoch'")
    told = of(examine(home), "index")
    assert told.status is Status.WARN
    assert "another history" in told.fact
    assert examine(home, repair=True).repaired
    assert failing(examine(home, deep=True)) == []


def test_an_index_that_somebody_else_has_open_is_left_alone(home: Path) -> None:
    catalog = Catalog(home)
    with opened(home, catalog):
        assert of(examine(home, repair=True), "index").status is Status.WARN
    catalog.close()


# --- the catalog -------------------------------------------------------------------------------


def answers(home: Path) -> list[tuple[int, float]]:
    catalog = Catalog(home)
    with opened(home, catalog) as index:
        vector = np.ones(384, dtype=np.float32) / np.sqrt(384, dtype=np.float32)
        found = index.search_dense(vector, IndexFilter(("law",)), 100)
    catalog.close()
    return [(each.point_id, round(each.score, 5)) for each in found]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE passages SET start_char = start_char + 1 WHERE ordinal = 0",
        "UPDATE vectors SET dense = zeroblob(768) WHERE passage_id = 1",
        "UPDATE vectors SET segment_offset = segment_offset + 1 WHERE passage_id = 2",
        "DELETE FROM vectors WHERE passage_id = 3",
    ],
)
def test_damaged_passages_and_vectors_are_made_anew_from_the_text(
    home: Path, statement: str
) -> None:
    before = answers(home)
    sql(home, statement)
    assert failing(examine(home)) != []
    report = examine(home, repair=True)
    assert failing(report) == []
    assert failing(examine(home, deep=True)) == []
    assert answers(home) == before


def test_damaged_text_and_metadata_are_not_invented(home: Path) -> None:
    sql(home, "UPDATE text_blocks SET text = 'x' || text WHERE content_id = 1")
    sql(home, "UPDATE revisions SET metadata = '{\"a\": 1}' WHERE id = 2")
    report = examine(home, repair=True)
    assert set(failing(report)) == {"texts", "metadata and groups"}
    assert "longleaf restore" in of(report, "texts").remedy
    assert report.worst is Status.FAIL


def _narrow_an_index(home: Path) -> None:
    """Leave rows out of one of SQLite's own indexes, as a lost page would."""
    skip_on_postgres()
    change = "UPDATE sqlite_master SET sql = {} WHERE name = 'revisions_by_document'"
    with contextlib.closing(sqlite3.connect(home / FILE, isolation_level=None)) as file:
        file.execute("PRAGMA writable_schema=ON")
        file.execute(change.format("sql || ' WHERE id < 5'"))
        file.execute("PRAGMA writable_schema=RESET")
        file.execute("REINDEX revisions_by_document")
        file.execute("PRAGMA writable_schema=ON")
        file.execute(change.format("replace(sql, ' WHERE id < 5', '')"))


def test_damaged_sqlite_indexes_are_made_anew(home: Path) -> None:
    _narrow_an_index(home)
    assert "--repair" in of(examine(home, deep=True), "catalog file").remedy
    report = examine(home, deep=True, repair=True)
    assert failing(report) == []
    assert report.repaired[0] == "made SQLite's indexes anew"


@sqlite_only
def test_a_broken_catalog_file_ends_the_examination(home: Path) -> None:
    data_before = (home / FILE).read_bytes()
    (home / FILE).write_bytes(data_before[:8192] + bytes(4096) + data_before[12288:])
    report = examine(home, repair=True)
    assert failing(report) == ["catalog file"]
    assert "longleaf restore" in of(report, "catalog file").remedy


def test_orphans_go_only_when_somebody_says_yes(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans, "OLD_SECONDS", -1.0)
    catalog = Catalog(home)
    name = catalog.blobs.put(b"left by a crash")
    asked: list[str] = []

    def no(question: str) -> bool:
        asked.append(question)
        return False

    assert of(examine(home, repair=True, confirm=no), "orphans").status is Status.WARN
    assert asked[0].startswith("Remove 1 originals")
    assert catalog.blobs.exists(name)
    report = examine(home, repair=True, confirm=lambda _: True)
    assert of(report, "orphans").status is Status.OK
    assert not catalog.blobs.exists(name)
    catalog.close()


def test_a_follower_whose_folder_is_gone_is_forgotten(home: Path) -> None:
    catalog = Catalog(home)
    catalog.record_follower(gone := catalog.follower_name(home / "index" / "gone"), 1)
    assert of(examine(home), "followers").status is Status.WARN
    report = examine(home, repair=True)
    assert f"forgot the follower {gone}" in report.repaired
    assert [each for each in report if each.subject == "followers"] == []
    catalog.close()


def test_jobs_that_stand_still_are_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert of(examine(home), "jobs").fact == "0 open, none stands still"
    catalog = Catalog(home)
    catalog.jobs.create("folder", "law", {}, owner="a worker that dies")
    catalog.close()
    assert of(examine(home), "jobs").status is Status.OK
    monkeypatch.setattr(data, "_STUCK_SECONDS", -60.0)
    assert "stand still" in of(examine(home), "jobs").fact


def test_a_model_that_did_not_make_the_vectors_is_told(home: Path) -> None:
    sql(home, "UPDATE embedders SET fingerprint = 'another'")
    report = examine(home)
    assert "another embedder" in of(report, "generation").fact
    assert of(report, "generation").status is Status.FAIL


# --- recall ------------------------------------------------------------------------------------


def test_recall_is_one_on_a_good_index_and_falls_with_a_bad_one(home: Path) -> None:
    good = of(examine(home, recall=True, queries=20, given=["may I sublet?"]), "recall")
    assert (good.status, good.fact.startswith("recall@")) == (Status.OK, True)
    assert " 1.0000 (worst 1.00) over 21 queries" in good.fact
    catalog = Catalog(home)
    ids, _ = catalog.all_document_ids()
    with opened(home, catalog) as index:
        index.delete(ids[: len(ids) // 2])
    catalog.close()
    bad = of(examine(home, recall=True, queries=20), "recall")
    assert bad.status is Status.FAIL


# --- beside a running server -------------------------------------------------------------------


def test_beside_a_server_it_asks_and_mends_through_the_log(home: Path) -> None:
    catalog = Catalog(home)
    ids, _ = catalog.all_document_ids()
    with opened(home, catalog) as index:
        index.delete(ids[:2])
    runtime = wire.open_runtime(settings_of(home), follow=True)
    config = uvicorn.Config(create_app(runtime), port=0, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        with announced(home, f"http://127.0.0.1:{port}"):
            ill = examine(home)
            assert failing(ill) == ["index"]
            assert of(ill, "embedder").fact.startswith("all-MiniLM-L6-v2")
            mended = examine(home, repair=True, deep=True)
            assert failing(mended) == []
            assert mended.repaired == ["pushed 2 documents to the index again"]
            assert "Stop the server" in of(mended, "index content").remedy
            assert of(examine(home, recall=True), "recall").remedy == "Stop it and try again."
    finally:
        server.should_exit = True
        thread.join()
        runtime.close()
    with opened(home, catalog) as index:
        key = catalog.documents(Scope.all())[0].key
        assert index.scroll(IndexFilter(("law",), where=Eq("key", key)), 10)
    catalog.close()
