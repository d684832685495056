"""The catalog keeps its promises: identity, sharing, scope, the log; nothing half-written."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from longleaf.core import ids
from longleaf.core.catalog import (
    Catalog,
    ContentWrite,
    DocumentWrite,
    Generation,
    SourceWrite,
    content_digest,
)
from longleaf.core.catalog.writes import ContentGone
from longleaf.core.errors import (
    CatalogBroken,
    Conflict,
    GenerationMismatch,
    InvalidRequest,
    NotFound,
)
from longleaf.core.types import Document, Outcome, Page, Passage, PassageVectors, Scope, Section

DIM, TOKEN_DIM = 8, 4
EVERYONE = Scope.all()


def content(text: str, title: str = "Title", width: int = 10) -> ContentWrite:
    """A content cut into passages of `width` characters, with vectors that tell them apart."""
    document = Document(
        text=text,
        title=title,
        pages=(Page(1, 0, len(text)),),
        sections=(Section("Head", 1, 0, len(text)),),
    )
    passages, vectors = [], []
    for ordinal, start in enumerate(range(0, len(text), width)):
        end = min(start + width, len(text))
        passages.append(Passage(ordinal, start, end, end - start, 1, 1, ("Head",)))
        dense = np.zeros(DIM, dtype=np.float32)
        dense[ordinal % DIM] = 1.0
        codes = np.full((end - start, TOKEN_DIM), ordinal % 100, dtype=np.int8)
        vectors.append(PassageVectors(dense, codes, prefix_tokens=1 if ordinal == 0 else 0))
    return ContentWrite(content_digest(document), document, tuple(passages), tuple(vectors))


def write(
    key: str,
    text: str,
    *,
    collection: str = "law",
    groups: tuple[str, ...] = (),
    metadata: dict[str, object] | None = None,
    source_key: str | None = None,
    known: bool = False,
    original: str | None = None,
) -> DocumentWrite:
    made = content(text)
    return DocumentWrite(
        collection=collection,
        key=key,
        digest=made.digest,
        metadata=metadata or {},  # type: ignore[arg-type]
        groups=groups,
        source=f"{key}.txt",
        media_type="text/plain",
        original=original,
        language="en",
        warnings=(),
        source_key=source_key,
        content=None if known else made,
    )


def source(key: str, *keep: str) -> list[SourceWrite]:
    count, kept = len(keep), frozenset(keep)
    return [
        SourceWrite(
            "law", key, "0" * 64, 10, 20, "v1", Outcome.INDEXED, "", "", count, keep_keys=kept
        )
    ]


def test_a_document_comes_back_exactly(catalog: Catalog, generation: Generation) -> None:
    text = "The tenant shall pay 𝔸 rent.\n" * 400  # several text blocks, characters beyond the BMP
    metadata = {"year": 2020, "court": "ca9", "tags": ("a", "b"), "score": 1.5, "final": True}
    [result] = catalog.commit(generation, [write("lease", text, metadata=metadata)])
    head = catalog.document(result.public_id, EVERYONE)
    assert result.public_id == ids.document_id("law", "lease")
    assert (head.key, head.title, head.revision, head.text_chars) == (
        "lease",
        "Title",
        1,
        len(text),
    )
    assert head.metadata == metadata
    stored = catalog.text(head)
    assert stored.text == text
    assert stored.pages == (Page(1, 0, len(text)),)
    assert stored.sections == (Section("Head", 1, 0, len(text)),)
    found = catalog.passages(head, generation, first=500, limit=3)
    assert [passage.text for passage in found] == [text[p.start_char : p.end_char] for p in found]
    assert [ids.split_point_id(p.point_id) for p in found] == [
        (head.revision_id, ordinal) for ordinal in (500, 501, 502)
    ]


def test_hydration_slices_across_text_blocks(catalog: Catalog, generation: Generation) -> None:
    text = "".join(chr(97 + n % 26) for n in range(20_000))
    made = content(text, width=3_000)
    [result] = catalog.commit(generation, [_with(write("long", text), made)])
    heads = catalog.heads([result.revision_id], EVERYONE)
    points = [ids.point_id(result.revision_id, ordinal) for ordinal in (6, 0, 2)]
    found, sizes = catalog.hydrate(heads, points, generation)
    for point in points:
        passage = found[point]
        assert passage.text == text[passage.start_char : passage.end_char]
    assert sizes[result.revision_id].passage_count == 7
    assert sizes[result.revision_id].token_count == len(text)


def _with(document: DocumentWrite, made: ContentWrite) -> DocumentWrite:
    from dataclasses import replace

    return replace(document, content=made, digest=made.digest)


def test_equal_content_is_shared_and_goes_with_its_last_document(
    catalog: Catalog, generation: Generation
) -> None:
    first, second = catalog.commit(
        generation, [write("a", "same words"), write("b", "same words", groups=("x",))]
    )
    heads = catalog.heads([first.revision_id, second.revision_id], EVERYONE)
    assert len({head.content_id for head in heads.values()}) == 1
    assert catalog.count(EVERYONE).passages == 1
    catalog.delete_document(first.public_id, EVERYONE)
    assert catalog.document(second.public_id, EVERYONE).groups == ("x",)
    assert catalog.has_content(content("same words").digest, generation)
    catalog.delete_document(second.public_id, EVERYONE)
    assert not catalog.has_content(content("same words").digest, generation)
    assert catalog.count(EVERYONE).passages == 0
    with pytest.raises(ContentGone):
        catalog.commit(generation, [write("c", "same words", known=True)])


def test_equal_texts_with_other_titles_are_other_contents() -> None:
    assert content("x", title="One").digest != content("x", title="Two").digest


def test_putting_the_same_again_changes_nothing(catalog: Catalog, generation: Generation) -> None:
    [first] = catalog.commit(generation, [write("a", "words")])
    before = catalog.head_seq()
    [again] = catalog.commit(generation, [write("a", "words", known=True)])
    assert (again.changed, again.revision_id) == (False, first.revision_id)
    assert catalog.head_seq() == before


def test_a_replaced_revision_stays_until_every_follower_has_passed_it(
    catalog: Catalog, generation: Generation
) -> None:
    catalog.record_follower("slow", 0)
    [old] = catalog.commit(generation, [write("a", "old words")])
    [new] = catalog.commit(generation, [write("a", "new words")])
    assert (new.document_id, new.revision) == (old.document_id, 2)
    assert set(catalog.visible([old.revision_id, new.revision_id], EVERYONE)) == {
        old.revision_id,
        new.revision_id,
    }
    catalog.record_follower("fast", catalog.head_seq())
    assert old.revision_id in catalog.visible([old.revision_id], EVERYONE)
    catalog.record_follower("slow", catalog.head_seq())
    assert catalog.visible([old.revision_id], EVERYONE) == {}
    assert not catalog.has_content(content("old words").digest, generation)
    assert catalog.log_horizon() == catalog.head_seq()
    assert catalog.changes_since(0) == []


def test_seq_is_commit_order_under_concurrent_writers(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    first = Catalog(folder)
    first.create_collection("law")
    generation = first.open_generation("c", "e", "tiny", DIM, TOKEN_DIM)
    seen: list[list[int]] = []

    def run(worker: int) -> None:
        mine = Catalog(folder)
        for number in range(20):
            mine.commit(generation, [write(f"{worker}-{number}", f"text {worker} {number}")])
            seen.append([change.seq for change in mine.changes_since(0)])
        mine.close()

    threads = [threading.Thread(target=run, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [change.seq for change in first.changes_since(0)] == list(range(1, 81))
    # Whoever looked, saw a prefix: never a later seq without the earlier ones.
    assert all(look == list(range(1, len(look) + 1)) for look in seen)
    first.close()


def test_scope_hides_collections_and_groups_everywhere(
    catalog: Catalog, generation: Generation
) -> None:
    catalog.create_collection("secret")
    opened, closed, other = catalog.commit(
        generation,
        [
            write("open", "open words"),
            write("closed", "closed words", groups=("partners", "board")),
            write("other", "other words", collection="secret"),
        ],
    )
    clerk = Scope(frozenset({"law"}), frozenset({"clerks"}))
    partner = Scope(frozenset({"law"}), frozenset({"partners"}))
    everything = [opened.revision_id, closed.revision_id, other.revision_id]
    assert set(catalog.visible(everything, clerk)) == {opened.revision_id}
    assert set(catalog.heads(everything, partner)) == {opened.revision_id, closed.revision_id}
    assert [head.key for head in catalog.documents(clerk)] == ["open"]
    assert catalog.count(clerk).documents == 1
    assert [c.name for c in catalog.collections(clerk)] == ["law"]
    assert [c.document_count for c in catalog.collections(partner)] == [2]
    for hidden in (closed, other):
        with pytest.raises(NotFound):
            catalog.document(hidden.public_id, clerk)
        with pytest.raises(NotFound):
            catalog.delete_document(hidden.public_id, clerk)
    with pytest.raises(NotFound):
        catalog.collection_languages(clerk, ["secret"])
    nobody = Scope(frozenset(), frozenset())
    assert catalog.documents(nobody) == []


def test_token_vectors_come_back_in_the_order_asked(
    catalog: Catalog, generation: Generation, tmp_path: Path
) -> None:
    [result] = catalog.commit(generation, [write("a", "x" * 35)])
    head = catalog.document(result.public_id, EVERYONE)
    found = catalog.passages(head, generation)
    asked = [found[2].passage_id, 999_999, found[0].passage_id]
    codes, starts, prefixes = catalog.token_vectors(asked, generation)
    assert starts.tolist() == [0, 10, 10, 20]
    assert codes.shape == (20, TOKEN_DIM)
    assert codes[:10].tolist() == [[2] * TOKEN_DIM] * 10
    assert prefixes.tolist() == [0, 0, 1]
    # A second process reads what the first wrote, and what it wrote after the file was mapped.
    other = Catalog(catalog.folder, catalog.settings)
    other.token_vectors(asked, generation)
    catalog.commit(generation, [write("b", "y" * 12)])
    newer = catalog.passages(catalog.documents(EVERYONE)[0], generation)
    for head in catalog.documents(EVERYONE):
        newer = catalog.passages(head, generation)
        assert other.token_vectors([newer[0].passage_id], generation)[0].shape[0] == 10
    other.close()


def test_a_flipped_byte_in_a_segment_is_noticed(catalog: Catalog, generation: Generation) -> None:
    [result] = catalog.commit(generation, [write("a", "x" * 10)])
    [segment] = (catalog.folder / "token-vectors").glob("*.seg")
    damaged = bytearray(segment.read_bytes())
    damaged[-1] ^= 1
    segment.write_bytes(damaged)
    head = catalog.document(result.public_id, EVERYONE)
    [passage] = catalog.passages(head, generation)
    fresh = Catalog(catalog.folder, catalog.settings)
    with pytest.raises(CatalogBroken, match="checksum"):
        fresh.token_vectors([passage.passage_id], generation)
    fresh.close()


def test_another_embedder_or_chunker_is_refused(catalog: Catalog, generation: Generation) -> None:
    assert catalog.open_generation("chunker-1", "embedder-1", "t", DIM, TOKEN_DIM) == generation
    with pytest.raises(GenerationMismatch, match="embedder"):
        catalog.open_generation("chunker-1", "embedder-2", "tiny", DIM, TOKEN_DIM)
    with pytest.raises(GenerationMismatch, match="chunker"):
        catalog.open_generation("chunker-2", "embedder-1", "tiny", DIM, TOKEN_DIM)


def test_a_source_replaces_exactly_its_own_documents(
    catalog: Catalog, generation: Generation
) -> None:
    catalog.commit(generation, [write("elsewhere", "stays")])
    lines = [write(key, f"text of {key}", source_key="f.jsonl") for key in ("1", "2", "3")]
    catalog.commit(generation, lines[:2])
    assert catalog.sources("law")["f.jsonl"].outcome is Outcome.INTERRUPTED
    catalog.commit(generation, lines[2:], source("f.jsonl", "1", "2", "3"))
    assert catalog.sources("law")["f.jsonl"].outcome is Outcome.INDEXED
    catalog.commit(generation, [], source("f.jsonl", "2"))
    assert sorted(head.key for head in catalog.documents(EVERYONE)) == ["2", "elsewhere"]
    assert catalog.remove_source(catalog.sources("law")["f.jsonl"]) == 1
    assert [head.key for head in catalog.documents(EVERYONE)] == ["elsewhere"]


def test_a_document_that_moved_to_another_file_says_so(
    catalog: Catalog, generation: Generation
) -> None:
    catalog.commit(generation, [write("1", "words", source_key="old.jsonl")])
    [moved] = catalog.commit(generation, [write("1", "other words", source_key="new.jsonl")])
    assert moved.replaced_source == "old.jsonl"


def test_a_commit_that_fails_leaves_nothing(catalog: Catalog, generation: Generation) -> None:
    before = catalog.head_seq()
    with pytest.raises(NotFound, match="collections create"):
        catalog.commit(generation, [write("a", "words"), write("b", "more", collection="missing")])
    assert catalog.documents(EVERYONE) == []
    assert catalog.head_seq() == before
    assert not catalog.has_content(content("words").digest, generation)


def test_originals_go_with_the_last_document(catalog: Catalog, generation: Generation) -> None:
    name = catalog.blobs.put(b"the original bytes")
    assert catalog.blobs.put(b"the original bytes") == name
    a, b = catalog.commit(
        generation, [write("a", "words", original=name), write("b", "words", original=name)]
    )
    catalog.delete_document(a.public_id, EVERYONE)
    assert catalog.blobs.get(name) == b"the original bytes"
    catalog.delete_document(b.public_id, EVERYONE)
    with pytest.raises(NotFound):
        catalog.blobs.get(name)
    with pytest.raises(NotFound):
        catalog.blobs.get("../../etc/passwd")


def test_a_document_whose_original_vanished_is_not_acknowledged(
    catalog: Catalog, generation: Generation
) -> None:
    with pytest.raises(ContentGone):
        catalog.commit(generation, [write("a", "words", original="a" * 64)])


def test_a_changed_original_is_noticed(catalog: Catalog) -> None:
    name = catalog.blobs.put(b"evidence")
    (catalog.folder / "originals" / name[:2] / name[2:]).write_bytes(b"tampered")
    with pytest.raises(CatalogBroken):
        catalog.blobs.get(name)


@pytest.mark.parametrize("name", ["", "../up", "a/b", "-x", "x" * 65, "a b", "ü"])
def test_bad_collection_names_are_refused(catalog: Catalog, name: str) -> None:
    with pytest.raises(InvalidRequest):
        catalog.create_collection(name)


def test_collections_are_unique_and_go_whole(catalog: Catalog, generation: Generation) -> None:
    with pytest.raises(Conflict):
        catalog.create_collection("law")
    catalog.commit(generation, [write("a", "words"), write("b", "more")], source("x"))
    before = catalog.head_seq()
    assert catalog.delete_collection("law", EVERYONE) == 2
    assert [change.op for change in catalog.changes_since(before)] == ["delete", "delete"]
    assert catalog.collections(EVERYONE) == []
    assert catalog.count(EVERYONE).passages == 0


def test_index_entries_are_the_current_state(catalog: Catalog, generation: Generation) -> None:
    [first] = catalog.commit(generation, [write("a", "old words")])
    [second] = catalog.commit(generation, [write("a", "new words and then some", groups=("g",))])
    [entry] = catalog.index_entries([first.document_id, 12345], generation)
    assert (entry.revision_id, entry.groups, entry.bm25_language) == (
        second.revision_id,
        ("g",),
        "english",
    )
    assert entry.passages[0].text == "Title\nHead\nnew words "
    assert entry.passages[0].phrase_text == "new words and then some"
    assert entry.passages[1].dense.tolist() == [0, 1, 0, 0, 0, 0, 0, 0]


def test_a_foreign_file_is_not_taken_for_a_catalog(tmp_path: Path) -> None:
    (tmp_path / "catalog.sqlite3").write_bytes(b"this is not a database, it only looks like one")
    with pytest.raises(CatalogBroken):
        Catalog(tmp_path)


def test_a_document_that_was_just_restricted_does_not_show_through_its_old_revision(
    catalog: Catalog, generation: Generation
) -> None:
    catalog.record_follower("slow", 0)
    [old] = catalog.commit(generation, [write("a", "open words")])
    catalog.commit(generation, [write("a", "open words", groups=("board",))])
    clerk = Scope(None, frozenset({"clerks"}))
    for look in (catalog.visible, catalog.heads, catalog.candidate_heads):
        assert look([old.revision_id], clerk) == {}
        assert set(look([old.revision_id], EVERYONE)) == {old.revision_id}


def test_an_original_outlives_a_commit_that_fails(
    catalog: Catalog, generation: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = catalog.blobs.put(b"evidence")
    [result] = catalog.commit(generation, [write("a", "words", original=name)])
    from longleaf.core.catalog import catalog as module

    def full(*_: object) -> int:
        raise OSError("No space left on device")

    monkeypatch.setattr(module.writes, "append_log", full)
    with pytest.raises(OSError, match="No space"):
        catalog.delete_document(result.public_id, EVERYONE)
    monkeypatch.undo()
    assert catalog.blobs.get(catalog.document(result.public_id, EVERYONE).original or "")


def test_a_metadata_value_of_another_type_is_a_change(
    catalog: Catalog, generation: Generation
) -> None:
    catalog.commit(generation, [write("a", "words", metadata={"v": 1})])
    [changed] = catalog.commit(generation, [write("a", "words", metadata={"v": True})])
    assert changed.changed
    assert catalog.document(changed.public_id, EVERYONE).metadata == {"v": True}


def test_a_document_erased_while_it_is_read_is_not_found(
    catalog: Catalog, generation: Generation
) -> None:
    [result] = catalog.commit(generation, [write("a", "words")])
    head = catalog.document(result.public_id, EVERYONE)
    catalog.delete_document(result.public_id, EVERYONE)
    with pytest.raises(NotFound):
        catalog.text(head)


def test_deleted_text_is_gone_from_the_catalog_file(
    catalog: Catalog, generation: Generation
) -> None:
    name = catalog.blobs.put(b"zyzzyva memorandum")
    [result] = catalog.commit(generation, [write("a", "zyzzyva memorandum", original=name)])
    catalog.delete_document(result.public_id, EVERYONE)
    for file in (catalog.folder.glob("catalog.sqlite3*"), catalog.blobs.folder.rglob("*")):
        for path in file:
            assert not path.is_file() or b"zyzzyva" not in path.read_bytes(), path


def test_a_late_follower_does_not_move_the_horizon_back(
    catalog: Catalog, generation: Generation
) -> None:
    catalog.commit(generation, [write("a", "words")])
    catalog.record_follower("first", catalog.head_seq())
    horizon = catalog.log_horizon()
    catalog.record_follower("late", 0)
    assert catalog.log_horizon() == horizon == catalog.head_seq()
