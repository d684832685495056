"""A server switches to another generation between two searches: none fails, none is mixed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.api.test_reindexing import live, passages, settings_of, text_of

from longleaf.api import generations, reindexing, wire
from longleaf.api.generations import Upkeep
from longleaf.api.indexes.edge import InProcess
from longleaf.api.search import SearchRequest
from longleaf.core.catalog import Catalog, Generation
from longleaf.core.config import Settings
from longleaf.core.errors import ModelUnavailable
from longleaf.core.types import Scope
from longleaf.indexer.parsers.here import ReadHere
from longleaf.retriever.index.process import IndexProcess

if TYPE_CHECKING:
    from longleaf.indexer.embed import MiniLMEmbedder

EVERYONE = Scope.all()
QUERIES = ("force majeure", "who repairs the roof", "deposit returned", "rent on the first day")


@pytest.fixture(autouse=True)
def _quick(minilm: MiniLMEmbedder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        wire, "open_models", lambda settings, _: (minilm, wire.open_chunker(settings, minilm))
    )
    monkeypatch.setattr(wire, "open_reader", lambda *_: ReadHere())
    monkeypatch.setattr(generations, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(generations, "_GRACE_SECONDS", 0.2)


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[wire.Runtime]:
    """A server's runtime over ten documents, up to date."""
    opened = wire.open_runtime(settings_of(tmp_path / "home"), follow=True)
    try:
        opened.catalog.create_collection("law")
        for number in range(10):
            _index(opened, str(number), text_of(number))
        opened.follower.catch_up()
        yield opened
    finally:
        opened.close()


@pytest.fixture
def upkeep(runtime: wire.Runtime) -> Iterator[Upkeep]:
    started = Upkeep(runtime)
    started.start()
    yield started
    started.close()


def _index(runtime: wire.Runtime, key: str, text: str) -> None:
    runtime.indexer.index_bytes("law", "english", text.encode(), f"{key}.txt", key=key)


def process_of(side: wire.Side) -> IndexProcess:
    assert isinstance(side.followed, InProcess)
    return side.followed.process


def wait_for(what: Callable[[], object], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def spans(catalog: Catalog, generation: Generation) -> dict[str, set[tuple[int, int]]]:
    """Document key -> where its passages lie in this generation."""
    return {
        head.key: {
            (each.start_char, each.end_char)
            for each in catalog.passages(head, generation, limit=10_000)
        }
        for head in catalog.documents(EVERYONE, limit=1000)
    }


class Searching:
    """Threads that search as the routes do, and keep what they got."""

    def __init__(self, runtime: wire.Runtime) -> None:
        self.failures: list[BaseException] = []
        self.answers: list[list[tuple[str, int, int]]] = []
        self._runtime = runtime
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(2)]

    def __enter__(self) -> Searching:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for each in self._threads:
            each.join()

    def _run(self, number: int) -> None:
        while not self._ended.is_set():
            number += 1
            try:
                with self._runtime.answering() as engine:
                    answer = engine.search(SearchRequest(QUERIES[number % len(QUERIES)]))
                assert answer.hits and not answer.degraded
                assert all(hit.passages for hit in answer.hits)
                self.answers.append(
                    [
                        (hit.key, each.passage.start_char, each.passage.end_char)
                        for hit in answer.hits
                        for each in hit.passages
                    ]
                )
            except BaseException as error:
                self.failures.append(error)
                return


def test_a_swap_under_queries_fails_none_and_mixes_none(
    runtime: wire.Runtime, upkeep: Upkeep
) -> None:
    catalog, home = runtime.catalog, runtime.settings.home
    old = runtime.generation
    before = spans(catalog, old)
    first_process = process_of(runtime.side)
    with Searching(runtime) as searching:
        wait_for(lambda: len(searching.answers) > 20)
        done = reindexing.reindex(settings_of(home, chunker__target_tokens=48))
        assert done.changed and done.switched
        count = len(searching.answers)
        wait_for(lambda: len(searching.answers) > count + 20)
    assert searching.failures == []
    new = runtime.generation
    assert new.id == done.generation == live(catalog).id
    after = spans(catalog, new)
    kinds = []
    for answer in searching.answers:
        of_old = all((start, end) in before[key] for key, start, end in answer)
        of_new = all((start, end) in after[key] for key, start, end in answer)
        assert of_old != of_new, "an answer is of one generation or the other"
        kinds.append(of_new)
    assert not kinds[0] and kinds[-1]
    assert kinds.index(True) > 20
    assert first_process.child_pid is None
    assert set(passages(catalog, old).values()) == {0}
    wait_for(lambda: [path.name for path in (home / "index").iterdir()] == [f"generation-{new.id}"])
    assert str(new.id) in runtime.reasons["generation"]
    assert catalog.generations.answering(new) == [runtime.process]
    # What is written now is found in the new one.
    _index(runtime, "new", "An easement over the neighbouring parcel. " * 20)
    runtime.follower.catch_up()
    with runtime.answering() as engine:
        assert engine.search(SearchRequest("easement parcel")).hits[0].key == "new"


def test_the_old_one_is_fed_and_kept_while_the_new_one_is_prepared(
    runtime: wire.Runtime, upkeep: Upkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog, home = runtime.catalog, runtime.settings.home
    old, may_go = runtime.generation, threading.Event()
    real = wire.open_side

    def slow(*arguments: Any, **options: Any) -> wire.Side:
        assert may_go.wait(120)
        return real(*arguments, **options)

    monkeypatch.setattr(wire, "open_side", slow)
    done = reindexing.reindex(settings_of(home, chunker__target_tokens=48), wait=False)
    assert not done.switched
    assert [each.state for each in catalog.generations.opened()] == ["live", "retiring"]
    _index(runtime, "meanwhile", "An easement over the neighbouring parcel. " * 20)
    runtime.follower.catch_up()
    assert runtime.generation == old
    with runtime.answering() as engine:
        [hit] = engine.search(SearchRequest("easement parcel", limit=1)).hits
        assert hit.key == "meanwhile" and hit.passages
    may_go.set()
    wait_for(lambda: runtime.generation.id == done.generation)
    with runtime.answering() as engine:
        assert engine.search(SearchRequest("easement parcel", limit=1)).hits[0].key == "meanwhile"
    wait_for(lambda: [each.state for each in catalog.generations.opened()] == ["live"])


def test_a_search_under_way_finishes_on_the_old_one(runtime: wire.Runtime, upkeep: Upkeep) -> None:
    old = runtime.side
    with runtime.answering() as engine:
        reindexing.reindex(
            settings_of(runtime.settings.home, chunker__target_tokens=48), wait=False
        )
        wait_for(lambda: runtime.side is not old)
        time.sleep(0.5)
        answer = engine.search(SearchRequest("force majeure"))
        assert answer.hits and all(hit.passages for hit in answer.hits)
    wait_for(lambda: process_of(old).child_pid is None)


def test_a_generation_that_cannot_be_prepared_is_told_and_the_old_one_answers(
    runtime: wire.Runtime, upkeep: Upkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_settings: Settings, _embedder: object) -> None:
        raise ModelUnavailable("The model is not here.")

    real = wire.open_side
    monkeypatch.setattr(wire, "open_side", lambda *_, **__: gone(runtime.settings, None))
    monkeypatch.setattr(generations, "_RETRY_SECONDS", 0.1)
    old = runtime.generation
    reindexing.reindex(settings_of(runtime.settings.home, chunker__target_tokens=48), wait=False)
    wait_for(lambda: "cannot be prepared" in runtime.reasons.get("generation", ""))
    assert runtime.generation == old
    with runtime.answering() as engine:
        assert engine.search(SearchRequest("force majeure")).hits
    monkeypatch.setattr(wire, "open_side", real)
    wait_for(lambda: runtime.generation != old)


def test_a_server_that_ends_while_it_prepares_leaves_all_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    runtime = wire.open_runtime(settings_of(home), follow=True)
    runtime.catalog.create_collection("law")
    for number in range(4):
        _index(runtime, str(number), text_of(number))
    runtime.follower.catch_up()
    upkeep = Upkeep(runtime)
    reindexing.reindex(settings_of(home, chunker__target_tokens=48), wait=False)
    prepared: list[wire.Side] = []

    def never_caught_up(*arguments: Any, **options: Any) -> wire.Side:
        side = wire_open_side(*arguments, **options)
        monkeypatch.setattr(side.followed.follower, "lag", lambda: 1)
        prepared.append(side)
        return side

    wire_open_side = wire.open_side
    with monkeypatch.context() as patch:
        patch.setattr(wire, "open_side", never_caught_up)
        upkeep.start()
        wait_for(lambda: prepared)
        upkeep.close()
    runtime.close()
    assert process_of(prepared[0]).child_pid is None
    again = wire.open_runtime(settings_of(home), follow=True)
    upkeep = Upkeep(again)
    try:
        assert again.generation == live(again.catalog)
        again.follower.catch_up()
        upkeep.start()
        wait_for(lambda: len(list((home / "index").iterdir())) == 1)
        wait_for(lambda: [each.state for each in again.catalog.generations.opened()] == ["live"])
        with again.answering() as engine:
            assert len(engine.search(SearchRequest("rent")).hits) == 4
    finally:
        upkeep.close()
        again.close()


def test_deletions_are_scrubbed_after_the_time_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(tmp_path / "home", retriever__erase_minutes=0.001)
    runtime = wire.open_runtime(settings, follow=True)
    upkeep = Upkeep(runtime)
    try:
        runtime.catalog.create_collection("law")
        _index(runtime, "a", text_of(1))
        [head] = runtime.catalog.documents(EVERYONE)
        runtime.catalog.delete_document(head.public_id, EVERYONE)
        assert runtime.catalog.erasure.unscrubbed_since() is not None
        upkeep.start()
        wait_for(lambda: runtime.catalog.erasure.unscrubbed_since() is None)
    finally:
        upkeep.close()
        runtime.close()
