"""One shard makes way for another while searches go on; whoever dies when, the index is whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select
from tests.retriever.test_compaction import bytes_in
from tests.retriever.test_follow import DIM, LAW, expected, put
from tests.retriever.test_index_process import EVERYTHING, wait_for

from longleaf.core.catalog import Catalog, Generation, schema
from longleaf.core.errors import IndexLocked, IndexUnavailable
from longleaf.core.types import Scope
from longleaf.retriever.index import edge_folder, process
from longleaf.retriever.index.handover import Handover
from longleaf.retriever.index.process import IndexProcess

STAGES = ["copying", "tidying", "opening", "following", "catching_up"]
SECRET = "zyxwvsecret"


@pytest.fixture
def generation(catalog: Catalog) -> Generation:
    return catalog.open_generation("c", "e", "tiny", DIM, 0)


@pytest.fixture
def folder(catalog: Catalog, generation: Generation) -> Path:
    """A catalog with some documents; where their index will be."""
    for number in range(20):
        put(catalog, generation, str(number), f"words of document {number}")
    put(catalog, generation, "secret", f"{SECRET} {SECRET} {SECRET}")
    return catalog.folder / "index"


def shards(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("shard-*"))


def followers(catalog: Catalog) -> set[str]:
    with catalog._database.reading() as connection:
        return set(connection.execute(select(schema.followers.c.name)).scalars())


def delete(catalog: Catalog, key: str) -> None:
    [head] = [each for each in catalog.documents(Scope.all(), limit=10_000) if each.key == key]
    catalog.delete_document(head.public_id, Scope.all())


def is_made_anew(folder: Path, asked: int) -> bool:
    state = edge_folder.read_state(folder)
    return state is not None and state.asked >= asked and shards(folder) == [state.shard]


def check(catalog: Catalog, index: IndexProcess) -> None:
    index.catch_up()
    assert index.scroll(LAW, EVERYTHING) == expected(catalog)
    assert index.passage_count() == len(expected(catalog))


class Searching:
    """Threads that search all the time and remember whatever else than an answer they got."""

    def __init__(self, index: IndexProcess) -> None:
        self.failures: list[BaseException] = []
        self.answers = 0
        self._index = index
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(3)]

    def __enter__(self) -> Searching:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for each in self._threads:
            each.join()

    def _run(self) -> None:
        seen_seq = 0
        while not self._ended.is_set():
            try:
                before = self._index.applied_seq
                assert before >= seen_seq, "what was seen once is seen again"
                seen_seq = before
                assert len(self._index.search_dense(np.ones(DIM, np.float32), LAW, 5)) == 5
                self._index.passage_count()
                self.answers += 1
            except BaseException as error:
                self.failures.append(error)
                return


def test_searches_go_on_and_nothing_of_a_deleted_document_is_left(
    catalog: Catalog, generation: Generation, folder: Path
) -> None:
    index = IndexProcess.open(catalog, generation, folder)
    try:
        index.catch_up()
        delete(catalog, "secret")
        index.catch_up()
        assert bytes_in(folder, SECRET.encode())
        first_child, [old] = index.child_pid, shards(folder)
        with Searching(index) as searching:
            asked = catalog.ask_for_compaction()
            number = 0
            while not is_made_anew(folder, asked):
                number += 1
                put(catalog, generation, f"new-{number % 50}", f"written meanwhile {number}")
                time.sleep(0.02)
            wait_for(lambda: not _is_alive(first_child or 0))
            number = catalog.head_seq()
            wait_for(lambda: index.applied_seq >= number)
            answers = searching.answers
            wait_for(lambda: searching.answers > answers + 20)
        assert searching.failures == []
        check(catalog, index)
        assert old not in shards(folder)
        assert bytes_in(folder, SECRET.encode()) == []
        assert followers(catalog) == {str(folder)}
        assert is_made_anew(folder, asked), "the first child may not have the last word"
        assert catalog.compaction_failure() is None
    finally:
        index.close()
    again = IndexProcess.open(catalog, generation, folder)
    check(catalog, again)
    again.close()


def test_what_was_deleted_leaves_the_files_in_the_time_set(
    catalog: Catalog, generation: Generation, folder: Path
) -> None:
    index = IndexProcess.open(catalog, generation, folder, erase_seconds=0.5)
    try:
        index.catch_up()
        delete(catalog, "secret")
        wait_for(lambda: bytes_in(folder, SECRET.encode()) == [], seconds=120)
        wait_for(lambda: len(shards(folder)) == 1)
        check(catalog, index)
    finally:
        index.close()


@pytest.mark.parametrize("victim", ["compactor", "second child", "first child"])
def test_whichever_process_dies_the_index_goes_on(
    catalog: Catalog,
    generation: Generation,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    victim: str,
) -> None:
    real, killed = Handover.step, []
    stage = {"compactor": "tidying", "second child": "following", "first child": "catching_up"}

    def step(self: Handover, status: dict[str, object]) -> object:
        if self.stage == stage[victim] and not killed:
            who = {
                "compactor": self._compactor,
                "second child": self._new and self._new.process,
                "first child": self._old.process,
            }[victim]
            assert who is not None
            os.kill(who.pid, signal.SIGKILL)
            killed.append(who.pid)
        return real(self, status)

    monkeypatch.setattr(Handover, "step", step)
    index = IndexProcess.open(catalog, generation, folder)
    try:
        index.catch_up()
        asked = catalog.ask_for_compaction()
        wait_for(lambda: killed and catalog.compaction_failure() is not None, seconds=120)
        wait_for(lambda: _answers(index))
        check(catalog, index)
        assert len(shards(folder)) == 1
        index._retry_at = 0.0
        wait_for(lambda: is_made_anew(folder, asked), seconds=120)
        check(catalog, index)
        assert followers(catalog) == {str(folder)}
    finally:
        index.close()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _answers(index: IndexProcess) -> bool:
    try:
        return index.passage_count() > 0
    except IndexUnavailable:
        return False


_SERVER = """
import os, signal, sys, time
from pathlib import Path
from longleaf.core.catalog import Catalog
from longleaf.retriever.index import handover
from longleaf.retriever.index.process import IndexProcess

stage = sys.argv[2]
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
Handover = handover.Handover
step, finish = Handover.step, Handover.finish
Handover.step = lambda self, status: die() if self.stage == stage else step(self, status)
if stage == "taken over":
    Handover.finish = die
if stage == "ended":
    Handover._remove = die
catalog = Catalog(Path(sys.argv[1]))
index = IndexProcess.open(catalog, catalog.live_generation(), catalog.folder / "index")
index.catch_up()
catalog.ask_for_compaction()
time.sleep(600)
"""


@pytest.mark.parametrize("stage", [*STAGES, "taken over", "ended"])
def test_killed_at_any_stage_the_next_start_finds_a_whole_index(
    catalog: Catalog, generation: Generation, folder: Path, stage: str
) -> None:
    server = subprocess.run(
        [sys.executable, "-c", _SERVER, str(catalog.folder), stage], timeout=600, check=False
    )
    assert server.returncode == -signal.SIGKILL
    state = edge_folder.read_state(folder)
    assert state is not None and state.shard in shards(folder)
    assert state.asked == (1 if stage in ("taken over", "ended") else 0), "the swap is one write"
    put(catalog, generation, "1", "changed while nobody served")
    delete(catalog, "2")
    index = _opened(lambda: IndexProcess.open(catalog, generation, folder))
    try:
        check(catalog, index)
        wait_for(lambda: is_made_anew(folder, 1), seconds=120)  # as was asked before the death
        wait_for(lambda: followers(catalog) == {str(folder)})
        check(catalog, index)
    finally:
        index.close()


def _opened(open_index: Callable[[], IndexProcess]) -> IndexProcess:
    """The children of a killed server die a moment after it, and hold its lock until then."""
    end = time.monotonic() + 30
    while True:
        try:
            return open_index()
        except IndexLocked:
            assert time.monotonic() < end
            time.sleep(0.05)


def test_a_copy_that_is_refused_is_told_and_not_tried_again_at_once(
    catalog: Catalog, generation: Generation, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    real = process.Handover

    def refused(*arguments: object) -> Handover:
        begun.append("begun")
        handover = real(*arguments)  # type: ignore[arg-type]
        # As a worker answers that has no room for the copy.
        handover._step = lambda _: _raise(handover)
        return handover

    def _raise(handover: Handover) -> None:
        from longleaf.retriever.index.compaction import CompactionFailed

        raise CompactionFailed("No room.")

    monkeypatch.setattr(process, "Handover", refused)
    index = IndexProcess.open(catalog, generation, folder)
    try:
        index.catch_up()
        catalog.ask_for_compaction()
        wait_for(lambda: catalog.compaction_failure() == "No room.")
        time.sleep(3 * process.POLL_SECONDS)
        assert begun == ["begun"]
        check(catalog, index)
    finally:
        index.close()
