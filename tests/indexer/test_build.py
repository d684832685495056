"""The builder's promises, with the real chunker, parsers and model on a small catalog."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from longleaf.core.catalog import Catalog
from longleaf.core.catalog.writes import ContentGone
from longleaf.core.config import IndexerSettings
from longleaf.core.errors import Conflict, NotFound
from longleaf.core.logs import file_label
from longleaf.core.types import Document, Outcome, PassageVectors, Rejection, Scope
from longleaf.indexer.build import FileResult, Indexer, Target
from longleaf.indexer.parsers.here import ReadHere
from longleaf.indexer.prepare import Labels

EVERYONE = Scope.all()


class CountingEmbedder:
    """The real embedder, counting what it is asked to embed."""

    def __init__(self, inner: object) -> None:
        self._inner = inner
        self.count = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def embed_passages(self, inputs: object) -> Iterator[PassageVectors]:
        listed = list(inputs)  # type: ignore[call-overload]
        self.count += len(listed)
        return self._inner.embed_passages(listed)  # type: ignore[attr-defined,no-any-return]


@pytest.fixture
def indexer(tmp_path: Path, minilm: object, chunker: object) -> Iterator[Indexer]:
    catalog = Catalog(tmp_path / "data")
    catalog.create_collection("law")
    embedder = CountingEmbedder(minilm)
    generation = catalog.open_generation(
        chunker.fingerprint,
        embedder.fingerprint,
        "minilm",
        embedder.dim,
        embedder.token_dim,
    )
    yield Indexer(
        catalog,
        [Target(generation, chunker, embedder)],  # type: ignore[arg-type]
        ReadHere(),
        IndexerSettings(commit_passages=4),
    )
    catalog.close()


def embedded(indexer: Indexer) -> int:
    """How many passages were embedded by now."""
    counting = indexer.targets[0].embedder
    assert isinstance(counting, CountingEmbedder)
    return counting.count


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "documents"
    (root / "inner").mkdir(parents=True)
    (root / "lease.txt").write_text("LEASE\n\nThe tenant pays rent on the first of each month.\n")
    (root / "inner" / "note.md").write_text("# Note\n\nThe landlord keeps the roof tight.\n")
    (root / "broken.pdf").write_bytes(b"%PDF-1.7 this is no pdf at all")
    (root / "empty.txt").write_bytes(b"")
    lines = [{"_id": str(n), "title": f"Title {n}", "text": f"Text number {n}."} for n in range(9)]
    (root / "many.jsonl").write_text(
        "\n".join([*(json.dumps(line) for line in lines), "{not json", json.dumps(lines[0])])
    )
    return root


def run(indexer: Indexer, folder: Path, **options: object) -> dict[str, FileResult]:
    results: list[FileResult] = []
    indexer.index_paths(
        "law",
        "english",
        [folder],
        on_result=results.append,
        **options,  # type: ignore[arg-type]
    )
    named = {Path(result.key).name: result for result in results}
    assert len(named) == len(results), "every file ends once"
    return named


def test_every_file_ends_in_a_named_outcome_and_none_stops_the_rest(
    indexer: Indexer, folder: Path
) -> None:
    results = run(indexer, folder)
    outcomes = {name: (result.outcome, result.reason) for name, result in results.items()}
    assert outcomes == {
        "lease.txt": (Outcome.INDEXED, ""),
        "note.md": (Outcome.INDEXED, ""),
        "broken.pdf": (Outcome.REJECTED, "malformed"),
        "empty.txt": (Outcome.REJECTED, "empty"),
        "many.jsonl": (Outcome.INDEXED_WITH_WARNINGS, ""),
    }
    assert results["many.jsonl"].document_count == 9
    assert "line 10" in results["many.jsonl"].detail
    assert "duplicate key" in results["many.jsonl"].detail
    keys = {Path(head.key).name for head in indexer.catalog.documents(EVERYONE)}
    assert keys == {"lease.txt", "note.md", *map(str, range(9))}


def test_a_second_run_embeds_nothing(indexer: Indexer, folder: Path) -> None:
    run(indexer, folder)
    before, seq = embedded(indexer), indexer.catalog.head_seq()
    again = run(indexer, folder)
    assert {name: result.outcome for name, result in again.items()} == {
        "lease.txt": Outcome.UNCHANGED,
        "note.md": Outcome.UNCHANGED,
        "many.jsonl": Outcome.UNCHANGED,
        "broken.pdf": Outcome.REJECTED,
        "empty.txt": Outcome.REJECTED,
    }
    assert embedded(indexer) == before
    assert indexer.catalog.head_seq() == seq
    # A file that was only touched is read, recognised and not embedded.
    os.utime(folder / "lease.txt", ns=(1, 1))
    assert run(indexer, folder)["lease.txt"].outcome is Outcome.UNCHANGED
    assert embedded(indexer) == before


def test_a_changed_file_replaces_only_what_changed(indexer: Indexer, folder: Path) -> None:
    run(indexer, folder)
    lines = (folder / "many.jsonl").read_text().splitlines()[:8]
    lines[3] = json.dumps({"_id": "3", "title": "Title 3", "text": "Now it says something else."})
    (folder / "many.jsonl").write_text("\n".join(lines))
    before = embedded(indexer)
    result = run(indexer, folder)["many.jsonl"]
    assert (result.outcome, result.document_count, result.changed_count) == (Outcome.INDEXED, 8, 1)
    assert embedded(indexer) == before + 1
    by_key = {head.key: head for head in indexer.catalog.documents(EVERYONE)}
    assert "8" not in by_key, "a line that is gone takes its document with it"
    assert by_key["3"].revision == 2
    assert indexer.catalog.text(by_key["3"]).text == "Now it says something else."
    now = (folder / "many.jsonl").read_bytes()
    assert {indexer.catalog.blobs.get(by_key[str(n)].original or "") for n in range(8)} == {now}


def test_prune_removes_what_is_gone_and_only_below_the_roots(
    indexer: Indexer, folder: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "stays.txt").write_text("This one lies elsewhere.")
    run(indexer, elsewhere)
    run(indexer, folder)
    (elsewhere / "stays.txt").unlink()
    (folder / "lease.txt").unlink()
    assert "lease.txt" not in run(indexer, folder)
    assert len(indexer.catalog.documents(EVERYONE)) == 12
    assert run(indexer, folder, prune=True)["lease.txt"].outcome is Outcome.REMOVED
    keys = {Path(head.key).name for head in indexer.catalog.documents(EVERYONE)}
    assert "lease.txt" not in keys
    assert "stays.txt" in keys


def test_prune_takes_nothing_of_a_folder_that_looks_like_a_drive_not_mounted(
    indexer: Indexer, folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "goes.txt").write_text("This one goes.")
    (other / "stays.txt").write_text("This one stays.")
    run(indexer, folder)
    run(indexer, other)
    before = len(indexer.catalog.documents(EVERYONE))
    (other / "goes.txt").unlink()
    folder.rename(tmp_path / "elsewhere")
    folder.mkdir()  # the empty folder that a drive is mounted on
    removed: list[FileResult] = []
    with pytest.raises(Conflict, match=r"empty, and 5 files came from it") as raised:
        indexer.index_paths("law", "english", [folder, other], prune=True, on_result=removed.append)
    assert "any file into it" in raised.value.hint
    assert [Path(each.key).name for each in removed if each.outcome is Outcome.REMOVED] == [
        "goes.txt"
    ]
    assert len(indexer.catalog.documents(EVERYONE)) == before - 1
    folder.rmdir()
    with pytest.raises(NotFound):
        run(indexer, folder, prune=True)
    with pytest.raises(Conflict):
        run(indexer, folder, prune=True, missing_is_gone=True)
    folder.mkdir()
    (folder / "README").write_text("Nothing is kept here any more.")
    gone = run(indexer, folder, prune=True)
    assert sum(each.outcome is Outcome.REMOVED for each in gone.values()) == 5


def test_a_deleted_document_stays_so_until_its_file_is_read_again(
    indexer: Indexer, folder: Path
) -> None:
    run(indexer, folder)
    [head] = [h for h in indexer.catalog.documents(EVERYONE) if h.key.endswith("note.md")]
    indexer.catalog.delete_document(head.public_id, EVERYONE)
    again = run(indexer, folder)["note.md"]
    assert (again.outcome, again.document_count) == (Outcome.UNCHANGED, 0)
    assert "--again" in again.detail
    assert run(indexer, folder)["lease.txt"].detail == ""
    assert run(indexer, folder, again=True)["note.md"].outcome is Outcome.INDEXED
    assert len([h for h in indexer.catalog.documents(EVERYONE) if h.key.endswith("note.md")]) == 1


class Lacking(ReadHere):
    """A reader on a machine that lacks some programs; it notes what it is given."""

    def __init__(self, lacking: frozenset[str]) -> None:
        super().__init__()
        self.lacking = lacking
        self.opened: list[str] = []

    def open(self, data: bytes, name: str, *more: Any) -> Any:
        self.opened.append(name)
        return super().open(data, name, *more)


def test_what_lacked_a_program_is_read_again_when_it_is_there(
    indexer: Indexer, tmp_path: Path
) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    (folder / "scan.html").write_text("<html><body><img src='x.png'></body></html>")
    (folder / "words.txt").write_text("Words that need no program.")

    def look(*lacking: str) -> list[str]:
        reader = Lacking(frozenset(lacking))
        indexer.reader = reader
        found = run(indexer, folder)
        assert found["scan.html"].outcome is Outcome.NO_TEXT
        return reader.opened

    assert look("tesseract", "libreoffice") == ["scan.html", "words.txt"]
    assert look("tesseract", "libreoffice") == []
    assert look("libreoffice") == ["scan.html"], "Tesseract is there now"
    assert look("libreoffice", "tesseract") == []
    assert look("libreoffice") == []
    assert look() == ["scan.html"]
    assert look() == look("tesseract") == []


def test_equal_texts_are_embedded_once(indexer: Indexer, tmp_path: Path) -> None:
    root = tmp_path / "copies"
    root.mkdir()
    for number in range(5):
        (root / f"copy-{number}.txt").write_text("Exactly the same words in every file.")
    run(indexer, root)
    assert embedded(indexer) == 1
    assert len(indexer.catalog.documents(EVERYONE)) == 5


def test_labels_reach_every_document_and_new_labels_are_no_unchanged_file(
    indexer: Indexer, folder: Path
) -> None:
    run(indexer, folder, labels=Labels(("partners",), {"year": 2020}))
    for head in indexer.catalog.documents(EVERYONE):
        assert head.groups == ("partners",)
        assert head.metadata["year"] == 2020
    before = embedded(indexer)
    run(indexer, folder, labels=Labels(("board",)))
    assert {head.groups for head in indexer.catalog.documents(EVERYONE)} == {("board",)}
    assert embedded(indexer) == before, "access changes without embedding"


def test_uploads_have_their_content_hash_as_key_and_rejections_raise_nothing(
    indexer: Indexer,
) -> None:
    first = indexer.index_bytes("law", "english", b"Some uploaded words.", "a.txt")
    again = indexer.index_bytes("law", "english", b"Some uploaded words.", "b.txt")
    assert first.document_ids == again.document_ids
    assert first.changed_count == 1
    [head] = indexer.catalog.documents(EVERYONE)
    assert head.key.startswith("sha256:")
    assert indexer.catalog.blobs.get(head.original or "") == b"Some uploaded words."
    bad = indexer.index_bytes("law", "english", b"\x00\x01\x02" * 50, "x.bin")
    assert bad.outcome is Outcome.REJECTED
    assert bad.reason


def test_an_interrupted_container_is_taken_up_again(
    indexer: Indexer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, calls = indexer.catalog.commit, 0

    def interrupted(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return commit(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(indexer.catalog, "commit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(indexer, folder / "many.jsonl")
    kept = embedded(indexer)
    source = indexer.catalog.sources("law")[str(folder / "many.jsonl")]
    assert source.outcome is Outcome.INTERRUPTED
    monkeypatch.undo()
    result = run(indexer, folder / "many.jsonl")["many.jsonl"]
    assert (result.outcome, result.document_count) == (Outcome.INDEXED_WITH_WARNINGS, 9)
    assert embedded(indexer) <= kept + 4, "only the lost batch is embedded again"


def test_content_erased_by_another_process_meanwhile_is_made_again(
    indexer: Indexer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    indexer.index_bytes("law", "english", (folder / "lease.txt").read_bytes(), "lease.txt")
    [head] = indexer.catalog.documents(EVERYONE)
    commit = indexer.catalog.commit
    failures: list[ContentGone] = []

    def raced(*args: object, **kwargs: object) -> object:
        if not failures:
            indexer.catalog.delete_document(head.public_id, EVERYONE)
        try:
            return commit(*args, **kwargs)  # type: ignore[arg-type]
        except ContentGone as gone:
            failures.append(gone)
            raise

    monkeypatch.setattr(indexer.catalog, "commit", raced)
    result = run(indexer, folder / "lease.txt")["lease.txt"]
    assert failures, "the race did not happen"
    assert result.outcome is Outcome.INDEXED
    [found] = indexer.catalog.documents(EVERYONE)
    assert indexer.catalog.blobs.exists(found.original or "")


def test_a_parser_that_breaks_is_an_internal_rejection(
    indexer: Indexer, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        media_type = "text/plain"

        def __iter__(self) -> Iterator[Document | Rejection]:
            raise ZeroDivisionError("our bug")
            yield

        def close(self) -> None: ...

    class BreaksOnTheLease(ReadHere):
        def open(self, data: bytes, name: str, *args: Any) -> Any:
            return Broken() if "lease" in name else super().open(data, name, *args)

    indexer.reader = BreaksOnTheLease()
    results = run(indexer, folder)
    assert (results["lease.txt"].outcome, results["lease.txt"].reason) == (
        Outcome.REJECTED,
        "internal",
    )
    detail = results["lease.txt"].detail
    assert "ZeroDivisionError" not in detail and "our bug" not in detail
    assert f"file={file_label('lease.txt')}" in detail, "what to look for in the log"
    assert results["note.md"].outcome is Outcome.INDEXED


def test_a_failed_upload_leaves_the_good_document(indexer: Indexer) -> None:
    indexer.index_bytes("law", "english", b"The good lease.", "lease.txt", key="lease")
    bad = indexer.index_bytes("law", "english", b"%PDF-1.7 no pdf", "lease.pdf", key="lease")
    assert bad.outcome is Outcome.REJECTED
    [head] = indexer.catalog.documents(EVERYONE)
    assert indexer.catalog.text(head).text == "The good lease."


def test_a_file_that_is_too_large_keeps_its_document_and_is_tried_again(
    indexer: Indexer, folder: Path
) -> None:
    run(indexer, folder)
    settings = indexer.settings
    (folder / "lease.txt").write_text("LEASE\n\nNow it is longer than it may be. " * 9)
    indexer.settings = settings.model_copy(update={"max_file_bytes": 100})
    assert run(indexer, folder)["lease.txt"].reason == "too large"
    keys = {Path(head.key).name for head in indexer.catalog.documents(EVERYONE)}
    assert "lease.txt" in keys, "what was good before is still there"
    indexer.settings = settings
    assert run(indexer, folder)["lease.txt"].outcome is Outcome.INDEXED


def test_prune_keeps_what_a_pattern_left_out(indexer: Indexer, folder: Path) -> None:
    run(indexer, folder)
    results = run(indexer, folder, include=["*.md"], prune=True)
    assert Outcome.REMOVED not in {result.outcome for result in results.values()}
    assert len(indexer.catalog.documents(EVERYONE)) == 11


def test_known_texts_do_not_pile_up_before_a_commit(
    indexer: Indexer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from longleaf.indexer import run as running

    monkeypatch.setattr(running, "_WAITING_CHARS", 1_000)
    root = tmp_path / "many"
    root.mkdir()
    for number in range(12):
        (root / f"{number}.txt").write_text("The same words again and again. " * 12)
    indexer.settings = indexer.settings.model_copy(update={"commit_passages": 1_000})
    calls = 0
    commit = indexer.catalog.commit

    def counted(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        return commit(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(indexer.catalog, "commit", counted)
    run(indexer, root)
    assert calls >= 4


def test_a_sidecar_describes_its_file_and_is_no_document(indexer: Indexer, folder: Path) -> None:
    (folder / "lease.txt.json").write_text(
        json.dumps({"title": "The lease of Elm Street", "court": "ca9", "groups": ["none"]})
    )
    results = run(indexer, folder, labels=Labels(metadata={"court": "from a flag"}))
    assert "lease.txt.json" not in results
    assert results["lease.txt"].outcome is Outcome.INDEXED_WITH_WARNINGS  # groups cannot be set
    [head] = [h for h in indexer.catalog.documents(EVERYONE) if h.key.endswith("lease.txt")]
    assert head.title == "The lease of Elm Street" and head.groups == ()
    assert head.metadata["court"] == "from a flag"

    labels = Labels(metadata={"court": "from a flag"})
    assert run(indexer, folder, labels=labels)["lease.txt"].outcome is Outcome.UNCHANGED
    (folder / "lease.txt.json").write_text('{"title": "Another title", "year": 1999}')
    assert run(indexer, folder, labels=labels)["lease.txt"].outcome is Outcome.INDEXED
    [head] = [h for h in indexer.catalog.documents(EVERYONE) if h.key.endswith("lease.txt")]
    assert head.title == "Another title" and head.metadata["year"] == 1999


def test_a_table_that_names_no_file_says_so_on_every_run(indexer: Indexer, folder: Path) -> None:
    (folder / "metadata.csv").write_text("file,court\nlease.txt,ca9\nleese.txt,ca1\n")
    for outcome in (Outcome.INDEXED, Outcome.UNCHANGED):
        results = run(indexer, folder)
        told = results["metadata.csv"]
        assert told.outcome is Outcome.INDEXED_WITH_WARNINGS and told.document_count == 0
        assert told.detail == "its rows for 1 files that are not there were not used: leese.txt"
        assert results["lease.txt"].outcome is outcome
    (folder / "metadata.csv").write_text("file,court\nlease.txt,ca9\n")
    assert "metadata.csv" not in run(indexer, folder)
