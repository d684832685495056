"""An index follows the log: every crash point ends, after following again, in the same state."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from longleaf.core.catalog import Catalog, DocumentWrite, Generation, content_digest
from longleaf.core.catalog.records import ContentWrite
from longleaf.core.errors import CatalogBroken
from longleaf.core.ids import point_id
from longleaf.core.protocols import IndexEntry, IndexFilter
from longleaf.core.types import Document, Passage, PassageVectors, Scope
from longleaf.retriever.follow import Follower, FollowerThread
from longleaf.retriever.index.edge import EdgeIndex

DIM = 8
LAW = IndexFilter(collections=("law",))


@pytest.fixture
def generation(catalog: Catalog) -> Generation:
    return catalog.open_generation("c", "e", "tiny", DIM, 0)


def put(catalog: Catalog, generation: Generation, key: str, words: str) -> None:
    document = Document(words, f"Title of {key}")
    half = len(words) // 2
    spans = [(0, half), (half, len(words))]
    vectors = np.random.default_rng(len(words)).normal(size=(2, DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    content = ContentWrite(
        content_digest(document),
        document,
        tuple(Passage(n, start, end, 3) for n, (start, end) in enumerate(spans)),
        tuple(PassageVectors(v, np.zeros((0, 0), np.int8)) for v in vectors),
    )
    write = DocumentWrite(
        "law", key, content.digest, {}, (), key, "text/plain", None, "en", (), None, content
    )
    catalog.commit(generation, [write])


def points(index: EdgeIndex) -> list[int]:
    return index.scroll(LAW, 10_000)


def expected(catalog: Catalog) -> list[int]:
    heads = catalog.documents(Scope.all(), limit=10_000)
    return sorted(point_id(head.revision_id, n) for head in heads for n in (0, 1))


def open_index(folder: Path) -> EdgeIndex:
    return EdgeIndex.open(folder, DIM, "f")


def test_an_index_follows_puts_replacements_and_deletions(
    catalog: Catalog, generation: Generation, tmp_path: Path
) -> None:
    index = open_index(tmp_path / "index")
    follower = Follower(catalog, index, generation, "one")
    assert follower.catch_up() == 0
    for number in range(5):
        put(catalog, generation, str(number), f"words of document {number}")
    assert follower.lag() == 5
    assert follower.catch_up() == 5
    put(catalog, generation, "1", "other words than before")
    put(catalog, generation, "1", "and again other words")
    gone = catalog.documents(Scope.all())[0]
    catalog.delete_document(gone.public_id, Scope.all())
    follower.catch_up()
    assert (follower.lag(), index.indexed_seq()) == (0, catalog.head_seq())
    assert points(index) == expected(catalog)
    index.close()


def test_a_new_index_is_filled_even_when_the_log_was_cut(
    catalog: Catalog, generation: Generation, tmp_path: Path
) -> None:
    first = open_index(tmp_path / "first")
    for number in range(7):
        put(catalog, generation, str(number), f"words of document {number}")
    Follower(catalog, first, generation, "first", flush_documents=2).catch_up()
    first.close()
    assert catalog.log_horizon() == catalog.head_seq()
    second = open_index(tmp_path / "second")
    seen: list[tuple[int, int]] = []
    follower = Follower(catalog, second, generation, "second", flush_documents=3)
    assert follower.catch_up(lambda done, total: seen.append((done, total))) == 7
    assert seen == [(3, 7), (6, 7), (7, 7)]
    assert points(second) == expected(catalog)
    assert second.indexed_seq() == catalog.head_seq()
    second.close()


def test_an_index_that_missed_deletions_is_refused(
    catalog: Catalog, generation: Generation, tmp_path: Path
) -> None:
    put(catalog, generation, "a", "some words")
    late = open_index(tmp_path / "late")
    Follower(catalog, late, generation, "late").catch_up()
    put(catalog, generation, "b", "more words")
    catalog.forget_follower("late")
    catalog.record_follower("other", catalog.head_seq())
    with pytest.raises(CatalogBroken, match="longleaf rebuild"):
        Follower(catalog, late, generation, "late").catch_up()
    late.close()


class _Crash(BaseException):
    pass


@pytest.mark.parametrize("step", ["before put", "after put", "before flush", "after flush"])
@pytest.mark.parametrize("occurrence", [1, 2])
def test_a_crash_at_any_step_is_mended_by_following_again(
    catalog: Catalog, generation: Generation, tmp_path: Path, step: str, occurrence: int
) -> None:
    index = open_index(tmp_path / "index")
    Follower(catalog, index, generation, "f").catch_up()
    rng = random.Random(7)
    for number in range(12):
        put(catalog, generation, str(rng.randrange(5)), f"words {number} of a document")
    for head in catalog.documents(Scope.all())[:1]:
        catalog.delete_document(head.public_id, Scope.all())

    when, what = step.split()
    real, calls = getattr(index, what), 0

    def crashing(*args: object) -> None:
        nonlocal calls
        calls += 1
        if calls == occurrence and when == "before":
            raise _Crash
        real(*args)
        if calls == occurrence and when == "after":
            raise _Crash

    setattr(index, what, crashing)
    try:
        Follower(catalog, index, generation, "f", flush_documents=3).catch_up()
    except _Crash:
        pass
    else:
        pytest.fail("the crash did not happen")
    delattr(index, what)
    index.close()
    again = open_index(tmp_path / "index")
    assert again.indexed_seq() <= catalog.head_seq()
    Follower(catalog, again, generation, "f", flush_documents=3).catch_up()
    assert points(again) == expected(catalog)
    assert again.indexed_seq() == catalog.head_seq()
    again.close()


@pytest.mark.parametrize("reopened", [False, True])
def test_a_fill_begun_again_keeps_no_document_deleted_since(
    catalog: Catalog, generation: Generation, tmp_path: Path, reopened: bool
) -> None:
    """In the same process the log tells which are gone; a new process makes the index anew."""
    for number in range(6):
        put(catalog, generation, str(number), f"words of document {number}")
    index = EdgeIndex.open(tmp_path / "index", DIM, "f", catalog)
    follower = Follower(catalog, index, generation, "f", flush_documents=2)
    real = index.put

    def put_and_crash(entries: Sequence[IndexEntry]) -> None:
        real(entries)
        raise _Crash

    index.put = put_and_crash  # type: ignore[method-assign]
    with pytest.raises(_Crash):
        follower.catch_up()
    index.put = real  # type: ignore[method-assign]
    assert (index.indexed_seq(), len(points(index))) == (0, 4)
    if reopened:
        index.flush(0)
        index.close()
        index = EdgeIndex.open(tmp_path / "index", DIM, "f", catalog)
        assert index.passage_count() == 0
        follower = Follower(catalog, index, generation, "f", flush_documents=2)
    oldest = min(catalog.documents(Scope.all()), key=lambda head: head.revision_id)
    catalog.delete_document(oldest.public_id, Scope.all())
    catalog.record_follower("another", catalog.head_seq())
    follower.catch_up()
    assert follower.lag() == 0
    assert points(index) == expected(catalog)
    index.close()


def test_another_follower_cannot_cut_the_log_that_a_fill_needs_next(
    catalog: Catalog, generation: Generation, tmp_path: Path
) -> None:
    for number in range(4):
        put(catalog, generation, str(number), f"words of document {number}")
    first, second = open_index(tmp_path / "first"), open_index(tmp_path / "second")
    quick = Follower(catalog, first, generation, "first")
    quick.catch_up()
    slow = Follower(catalog, second, generation, "second", flush_documents=2)
    real = second.put
    calls: list[Sequence[IndexEntry]] = []

    def put_while_others_write(entries: Sequence[IndexEntry]) -> None:
        real(entries)
        calls.append(entries)
        if len(calls) == 2:  # the first documents are read: their deletion only the log tells
            oldest = min(catalog.documents(Scope.all()), key=lambda head: head.revision_id)
            catalog.delete_document(oldest.public_id, Scope.all())
            put(catalog, generation, "late", "late words here")
            quick.catch_up()

    second.put = put_while_others_write  # type: ignore[method-assign]
    slow.catch_up()
    assert slow.lag() == 0
    assert points(second) == points(first) == expected(catalog)
    first.close()
    second.close()


def test_an_index_ahead_of_a_restored_catalog_is_refused_and_then_made_anew(
    tmp_path: Path,
) -> None:
    catalog = Catalog(tmp_path / "data")
    catalog.create_collection("law")
    generation = catalog.open_generation("c", "e", "tiny", DIM, 0)
    put(catalog, generation, "kept", "words that were backed up")
    catalog.close()
    shutil.copytree(tmp_path / "data", tmp_path / "backup")
    catalog = Catalog(tmp_path / "data")
    for number in range(3):
        put(catalog, generation, str(number), f"lost words {number}")
    index = EdgeIndex.open(tmp_path / "index", DIM, "f", catalog)
    Follower(catalog, index, generation, "f").catch_up()
    catalog.close()

    catalog = Catalog(tmp_path / "backup")
    put(catalog, generation, "new", "another document altogether")
    follower = Follower(catalog, index, generation, "f")
    with pytest.raises(CatalogBroken, match="longleaf rebuild"):
        follower.catch_up()
    thread = FollowerThread(follower, interval_seconds=0.01)
    thread.start()
    deadline = time.monotonic() + 30
    while thread.failure is None and time.monotonic() < deadline:
        time.sleep(0.01)
    thread.stop()
    assert "longleaf rebuild" in str(thread.failure)
    index.close()

    index = EdgeIndex.open(tmp_path / "index", DIM, "f", catalog)
    assert (index.indexed_seq(), index.passage_count()) == (0, 0)
    Follower(catalog, index, generation, "f").catch_up()
    assert points(index) == expected(catalog)
    index.close()
    catalog.close()


def test_the_thread_follows_by_itself_and_survives_a_failure(
    catalog: Catalog, generation: Generation, tmp_path: Path
) -> None:
    index = open_index(tmp_path / "index")
    follower = Follower(catalog, index, generation, "f")
    real, failures = index.put, []

    def failing_once(entries: object) -> None:
        if not failures:
            failures.append(thread.failure)
            raise OSError("No space left on device")
        real(entries)  # type: ignore[arg-type]

    index.put = failing_once  # type: ignore[method-assign,assignment]
    thread = FollowerThread(follower, interval_seconds=0.01, retry_seconds=0.05)
    thread.start()
    put(catalog, generation, "a", "some words")
    deadline = time.monotonic() + 60
    while follower.lag() and time.monotonic() < deadline:
        time.sleep(0.01)
    thread.stop()
    assert failures
    assert thread.failure is None, "a failure that is over is not shown any more"
    assert points(index) == expected(catalog)
    index.close()
