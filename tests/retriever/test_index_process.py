"""The index in a process of its own: it follows by itself, dies alone, and comes back."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.contracts.entries import some_filter
from tests.retriever.test_follow import DIM, LAW, expected, put

from longleaf.core import errors
from longleaf.core.catalog import Catalog, Generation
from longleaf.core.protocols import IndexFilter, LexicalQuery
from longleaf.core.types import Scope
from longleaf.retriever.index import frames
from longleaf.retriever.index.edge import EdgeIndex
from longleaf.retriever.index.process import IndexProcess

EVERYTHING = 100_000


@pytest.fixture
def generation(catalog: Catalog) -> Generation:
    return catalog.open_generation("c", "e", "tiny", DIM, 0)


@pytest.fixture
def index(catalog: Catalog, generation: Generation, tmp_path: Path) -> Iterator[IndexProcess]:
    opened = IndexProcess.open(catalog, generation, tmp_path / "index", flush_documents=20)
    yield opened
    opened.close()


def wait_for(what: Callable[[], object], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def answers(index: IndexProcess) -> bool:
    try:
        return index.passage_count() >= 0
    except errors.IndexUnavailable:
        return False


def kill(index: IndexProcess) -> None:
    pid = index.child_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: index.child_pid != pid)


def test_it_follows_by_itself(catalog: Catalog, generation: Generation, index: IndexProcess):
    assert (index.lag(), index.passage_count(), index.indexed_seq()) == (0, 0, 0)
    for number in range(30):
        put(catalog, generation, str(number), f"words of document {number}")
    gone = catalog.documents(Scope.all())[0]
    catalog.delete_document(gone.public_id, Scope.all())
    put(catalog, generation, "7", "another text")
    wait_for(lambda: index.lag() == 0)
    assert index.scroll(LAW, EVERYTHING) == expected(catalog)
    assert index.applied_seq == index.indexed_seq() == catalog.head_seq()
    found = index.search_bm25(LexicalQuery("another text", "english"), LAW, 3)
    assert len(found) >= 1
    assert index.catch_up() == 0


def test_what_an_answer_has_seen_is_never_said_too_high(
    catalog: Catalog, generation: Generation, index: IndexProcess
) -> None:
    """A search begun after `applied_seq` was read finds every document up to that seq."""
    for number in range(60):
        put(catalog, generation, str(number), f"words of document {number}")
        seen_seq = index.applied_seq
        assert len(index.scroll(LAW, EVERYTHING)) >= 2 * seen_seq
    wait_for(lambda: index.lag() == 0)
    index.scroll(LAW, 1)
    assert index.applied_seq == catalog.head_seq()


def test_killed_at_any_time_it_comes_back_and_nothing_is_lost(
    catalog: Catalog, generation: Generation, index: IndexProcess
) -> None:
    ended = threading.Event()
    surprises: list[object] = []
    counts = {"answered": 0, "refused": 0}

    def search() -> None:
        while not ended.is_set():
            try:
                index.search_dense(np.ones(DIM, np.float32), LAW, 10)
                counts["answered"] += 1
            except errors.IndexUnavailable:
                counts["refused"] += 1
                time.sleep(0.005)
            except BaseException as error:
                surprises.append(error)
                raise

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    choose = random.Random(3)
    try:
        for _ in range(4):
            for _ in range(40):
                number = choose.randrange(60)
                put(catalog, generation, str(number), f"words {choose.random()} of {number}")
            time.sleep(choose.random() * 0.5)
            wait_for(lambda: answers(index))
            kill(index)
        wait_for(lambda: answers(index))
        wait_for(lambda: index.lag() == 0)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert not surprises
    assert min(counts.values()) > 0, counts
    assert index.scroll(LAW, EVERYTHING) == expected(catalog)
    assert index.failure is None


def test_while_it_is_gone_everybody_is_told(
    index: IndexProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise errors.IndexLocked("Another process owns the index.")

    with monkeypatch.context() as patch:
        patch.setattr(index, "_start", refuse)
        kill(index)
        with pytest.raises(errors.IndexUnavailable):
            index.scroll(LAW, 1)
        wait_for(lambda: "owns the index" in str(index.failure))
        with pytest.raises(errors.IndexUnavailable, match="owns the index"):
            index.passage_count()
        with pytest.raises(errors.IndexUnavailable, match="started again"):
            index.search_dense(np.ones(DIM, np.float32), LAW, 1)
    wait_for(lambda: answers(index))
    assert index.failure is None


def test_a_failure_to_follow_is_shown(
    catalog: Catalog, generation: Generation, index: IndexProcess, tmp_path: Path
) -> None:
    put(catalog, generation, "a", "some words")
    wait_for(lambda: index.lag() == 0)
    connection = sqlite3.connect(tmp_path / "data" / "catalog.sqlite3")
    connection.execute("ALTER TABLE changes RENAME TO hidden")
    connection.execute("UPDATE meta SET value = value + 1 WHERE key = 'last_seq'")
    connection.commit()
    connection.close()
    wait_for(lambda: index.failure is not None)
    with pytest.raises(errors.IndexUnavailable, match="OperationalError"):
        index.catch_up()
    assert index.passage_count() == 2, "what is there can still be searched"


@pytest.mark.parametrize("damage", ["locked", "other models", "broken"])
def test_errors_at_the_start_arrive_as_they_are(
    catalog: Catalog, generation: Generation, tmp_path: Path, damage: str
) -> None:
    folder = tmp_path / "index"
    fingerprint = "others" if damage == "other models" else generation.fingerprint
    there = EdgeIndex.open(folder, DIM, fingerprint)
    kind: type[errors.LongleafError] = errors.IndexLocked
    if damage != "locked":
        there.close()
        kind = errors.GenerationMismatch
    if damage == "broken":
        (folder / "longleaf.json").write_text("{")
        kind = errors.CatalogBroken
    threads = threading.active_count()
    with pytest.raises(kind) as raised:
        IndexProcess.open(catalog, generation, folder)
    assert type(raised.value) is kind and str(folder) in raised.value.message
    assert raised.value.hint
    assert threading.active_count() == threads
    there.close()


def test_an_index_that_missed_deletions_is_made_anew(
    catalog: Catalog, generation: Generation, tmp_path: Path
) -> None:
    folder = tmp_path / "index"
    put(catalog, generation, "a", "some words")
    index = IndexProcess.open(catalog, generation, folder)
    index.catch_up()
    index.close()
    for head in catalog.documents(Scope.all()):
        catalog.delete_document(head.public_id, Scope.all())
    put(catalog, generation, "b", "other words")
    catalog.forget_follower(str(folder))
    catalog.record_follower("other", catalog.head_seq())
    assert catalog.log_horizon() == catalog.head_seq()
    index = IndexProcess.open(catalog, generation, folder)
    index.catch_up()
    assert index.scroll(LAW, EVERYTHING) == expected(catalog)
    index.close()


def test_an_index_ahead_of_the_catalog_is_made_anew(
    catalog: Catalog, generation: Generation, tmp_path: Path
) -> None:
    folder = tmp_path / "index"
    put(catalog, generation, "a", "some words")
    stale = EdgeIndex.open(folder, DIM, generation.fingerprint)
    stale.flush(catalog.head_seq() + 1)
    stale.close()
    index = IndexProcess.open(catalog, generation, folder)
    index.catch_up()
    assert index.scroll(LAW, EVERYTHING) == expected(catalog)
    index.close()


def test_an_error_leaves_the_connection_usable(index: IndexProcess) -> None:
    pid = index.child_pid
    for _ in range(10):
        with pytest.raises(errors.GenerationMismatch, match="dim"):
            index.search_dense(np.ones(DIM + 1, np.float32), LAW, 3)
        with pytest.raises(errors.ConfigError, match="klingon"):
            index.search_bm25(LexicalQuery("words", "klingon"), LAW, 3)
        with pytest.raises(RuntimeError, match="in the other process"):
            index.scroll(LAW, "many")  # type: ignore[arg-type]
    assert index.scroll(LAW, 3) == []
    assert index.child_pid == pid


def test_writing_is_not_offered(index: IndexProcess) -> None:
    for write in (
        lambda: index.put([]),
        lambda: index.delete([1]),
        lambda: index.flush(1),
        index.optimize,
    ):
        with pytest.raises(AssertionError, match="follows the catalog by itself"):
            write()


def test_closing_ends_the_child_soon_however_much_there_is_to_follow(
    catalog: Catalog, generation: Generation, tmp_path: Path
) -> None:
    for number in range(300):
        put(catalog, generation, str(number), f"words of document {number}")
    index = IndexProcess.open(catalog, generation, tmp_path / "index", flush_documents=5)
    pid = index.child_pid
    assert pid is not None
    started = time.monotonic()
    index.close()
    index.close()
    assert time.monotonic() - started < 10
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(errors.IndexUnavailable, match="closed"):
        index.scroll(LAW, 1)
    EdgeIndex.open(tmp_path / "index", DIM, generation.fingerprint).close()


_PARENT = """
import json, sys, time
from pathlib import Path
from longleaf.core.catalog import Catalog
from longleaf.retriever.index.process import IndexProcess
home = Path(sys.argv[1])
catalog = Catalog(home)
index = IndexProcess.open(catalog, catalog.live_generation(), home / "index")
print(json.dumps(index.child_pid), flush=True)
time.sleep(600)
"""


def test_it_dies_with_its_parent_and_lets_go_of_the_index(
    catalog: Catalog, generation: Generation, tmp_path: Path
) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(tmp_path / "data")], stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    child = json.loads(parent.stdout.readline())
    folder = tmp_path / "data" / "index"
    with pytest.raises(errors.IndexLocked):
        EdgeIndex.open(folder, DIM, generation.fingerprint)
    os.kill(child, signal.SIGINT)
    os.kill(child, signal.SIGTERM)
    time.sleep(0.3)
    os.kill(child, 0)  # it leaves both to its parent
    parent.kill()
    parent.wait()
    parent.stdout.close()

    def free() -> bool:
        try:
            EdgeIndex.open(folder, DIM, generation.fingerprint).close()
        except errors.IndexLocked:
            return False
        return True

    wait_for(free, seconds=5)


def test_it_loads_no_model_library() -> None:
    code = (
        "import sys, longleaf.retriever.index.worker, qdrant_edge\n"
        "heavy = {'torch', 'transformers', 'sentence_transformers', 'tokenizers', 'fastapi'}\n"
        "sys.exit(str(heavy & set(sys.modules) or ''))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert ended.stderr.strip() == b""


# --- filters -----------------------------------------------------------------------------------


def test_filters_arrive_as_they_were_sent() -> None:
    choose = random.Random(5)
    for number in range(500):
        where = some_filter(choose)
        sent = IndexFilter(("law", "\ud800"), ("a",) if number % 2 else None, where, ("x y",))
        text = json.dumps(frames.index_filter_to_json(sent))
        again = frames.index_filter_from_json(json.loads(text))
        # By text, because a NaN in a filter does not equal itself; compared as JSON because a
        # range without bounds and an empty prefix mean the same and are written alike.
        assert json.dumps(frames.index_filter_to_json(again)) == text
