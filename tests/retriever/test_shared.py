"""One of many follows the catalog into a shared index: leases, takeovers, who comes too late."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import select, update
from tests.contracts.qdrant_indexes import OneAtATime, settings
from tests.retriever.test_follow import DIM, LAW, expected, put

from longleaf.core.catalog import Catalog, Generation, schema
from longleaf.core.catalog.leases import LeaseLost
from longleaf.core.errors import IndexUnavailable
from longleaf.core.types import Scope
from longleaf.retriever import shared
from longleaf.retriever.index.qdrant import QdrantIndex
from longleaf.retriever.index.qdrant_server import Server
from longleaf.retriever.shared import SharedFollower

NAME = "qdrant:shared"


@pytest.fixture
def generation(catalog: Catalog) -> Generation:
    return catalog.open_generation("c", "e", "tiny", DIM, 0)


@pytest.fixture
def engine() -> OneAtATime:
    return OneAtATime()


@pytest.fixture
def join(
    catalog: Catalog, generation: Generation, engine: OneAtATime
) -> Iterator[Callable[..., SharedFollower]]:
    """Another process, as far as catalog and index can tell; closed after the test."""
    joined: list[SharedFollower] = []

    def one_more(holder: str, lease_seconds: float = 30.0, **more: Any) -> SharedFollower:
        client: Any = engine
        index = QdrantIndex.open(
            Server(client, "memory"), "shared", DIM, "f", catalog.epoch(), settings(**more)
        )
        joined.append(
            SharedFollower(
                catalog, index, generation, NAME, holder, request_seconds=0.1,
                lease_seconds=lease_seconds,
            )
        )  # fmt: skip
        return joined[-1]

    yield one_more
    for each in joined:
        each.close()


def points(follower: SharedFollower) -> list[int]:
    return follower._index.scroll(LAW, 10_000)


def wait_for(what: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_one_follows_and_all_see_it(
    catalog: Catalog, generation: Generation, join: Callable[..., SharedFollower]
) -> None:
    first, second = join("first"), join("second")
    put(catalog, generation, "a", "some words")
    assert first.catch_up() == 1
    assert first.follows and not second.follows
    assert points(second) == points(first) == expected(catalog)
    put(catalog, generation, "b", "more words than that")
    put(catalog, generation, "a", "other words")
    first.start()
    second.catch_up()
    assert not second.follows and second.lag() == 0
    assert points(second) == expected(catalog)


def test_another_takes_over_when_the_first_ends(
    catalog: Catalog, generation: Generation, join: Callable[..., SharedFollower]
) -> None:
    first, second = join("first"), join("second")
    first.start()
    wait_for(lambda: first.follows)
    second.start()
    put(catalog, generation, "a", "some words")
    wait_for(lambda: second.applied_seq == catalog.head_seq())
    assert not second.follows
    first.close()
    put(catalog, generation, "b", "more words than that")
    wait_for(lambda: second.follows and second.lag() == 0)
    assert points(second) == expected(catalog)


def test_another_takes_over_when_the_first_is_paused_and_the_first_hears_of_it(
    catalog: Catalog,
    generation: Generation,
    join: Callable[..., SharedFollower],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The pause is between the last look at the lease and the write: the worst there is."""
    first, second = join("first", 1.0), join("second", 1.0)
    put(catalog, generation, "a", "some words")
    first.catch_up()
    paused, go_on = threading.Event(), threading.Event()
    real = QdrantIndex._send

    def pause(self: QdrantIndex, *arguments: Any) -> None:
        if self is first._index and not paused.is_set():
            paused.set()
            assert go_on.wait(60.0)
        real(self, *arguments)

    monkeypatch.setattr(QdrantIndex, "_send", pause)
    put(catalog, generation, "b", "words that the first is writing")
    outcome: list[BaseException] = []

    def follow() -> None:
        try:
            first.catch_up()
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=follow)
    thread.start()
    assert paused.wait(60.0)
    put(catalog, generation, "b", "words that came meanwhile, and are longer")
    gone = catalog.documents(Scope.all())[0]
    catalog.delete_document(gone.public_id, Scope.all())
    wait_for(lambda: second._take())
    second.catch_up()
    assert second.follows and points(second) == expected(catalog)
    # What `first` still believes: the lease that it had looked at is its own.
    monkeypatch.setattr(first, "_may_write", lambda: None)
    first._index._may_write = lambda: None  # type: ignore[attr-defined]
    go_on.set()
    thread.join()
    assert [type(error) for error in outcome] == [LeaseLost]
    assert not first.follows
    second.catch_up()
    assert points(second) == expected(catalog)


def test_what_a_late_write_left_is_made_good_by_the_next(
    catalog: Catalog,
    generation: Generation,
    join: Callable[..., SharedFollower],
    engine: OneAtATime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first is paused in the middle of a request, which lands after a takeover."""
    first, second = join("first", 1.0), join("second", 1.0)
    put(catalog, generation, "a", "some words")
    first.catch_up()
    paused, go_on = threading.Event(), threading.Event()
    real = engine.client.upsert

    def pause(collection: str, points: Any, *arguments: Any, **more: Any) -> Any:
        if threading.current_thread().name.startswith("longleaf-qdrant") and not paused.is_set():
            paused.set()
            engine._turn.release()
            assert go_on.wait(60.0)
            engine._turn.acquire()
        return real(collection, points, *arguments, **more)

    monkeypatch.setattr(engine.client, "upsert", pause)
    put(catalog, generation, "b", "words of a revision that is late")
    outcome: list[BaseException] = []

    def follow() -> None:
        try:
            first.catch_up()
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=follow)
    thread.start()
    assert paused.wait(60.0)
    put(catalog, generation, "b", "words of the revision that counts")
    wait_for(lambda: second._take())
    second.catch_up()
    assert points(second) == expected(catalog)
    go_on.set()
    thread.join()
    assert [type(error) for error in outcome] == [LeaseLost]
    late = set(points(second)) - set(expected(catalog))
    assert late, "the late write has left nothing: this test proves nothing"
    # The first has named its documents in the log again, so the second applies them.
    assert second.catch_up() == 1
    assert points(second) == expected(catalog)


def test_a_follower_that_does_nothing_is_named(
    catalog: Catalog,
    generation: Generation,
    join: Callable[..., SharedFollower],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared, "_STILL_SECONDS", 0.2)
    monkeypatch.setattr(shared, "_POLL_SECONDS", 0.01)
    first, second = join("the first"), join("second")
    first.catch_up()
    put(catalog, generation, "a", "some words")
    with pytest.raises(IndexUnavailable, match=r"1 changes behind.*the first"):
        second.catch_up()


def test_a_server_that_is_away_is_shown_and_tried_again(
    catalog: Catalog,
    generation: Generation,
    join: Callable[..., SharedFollower],
    engine: OneAtATime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared, "_RETRY_SECONDS", 0.05)
    first = join("first")
    first.start()
    wait_for(lambda: first.follows)
    away = [True]
    real = engine.client.upsert

    def upsert(*arguments: Any, **more: Any) -> Any:
        if away[0]:
            raise IndexUnavailable("The Qdrant server does not answer.")
        return real(*arguments, **more)

    monkeypatch.setattr(engine.client, "upsert", upsert)
    put(catalog, generation, "a", "some words")
    wait_for(lambda: first.failure)
    assert "does not answer" in str(first.failure)
    away[0] = False
    wait_for(lambda: first.failure is None and first.lag() == 0)
    assert points(first) == expected(catalog)


def test_the_log_is_kept_for_what_may_be_lost(
    catalog: Catalog, generation: Generation, join: Callable[..., SharedFollower]
) -> None:
    """The log is cut below where following would begin after a loss, not below what is seen."""
    first = join("first", holdback_seconds=0.0)
    put(catalog, generation, "a", "some words")
    first.catch_up()
    first.close()
    surely = catalog.head_seq()
    second = join("second", holdback_seconds=3600.0)
    for number in range(5):
        put(catalog, generation, str(number), f"words of document {number}")
    second.catch_up()
    put(catalog, generation, "z", "what makes the catalog tidy up")
    second.catch_up()
    assert second.applied_seq == catalog.head_seq()
    assert catalog.log_horizon() <= surely == second._index.indexed_seq()
    second._settle = lambda _: None  # type: ignore[method-assign]  # nobody waits an hour


def test_a_command_that_ends_waits_until_its_place_is_sure(
    catalog: Catalog, generation: Generation, join: Callable[..., SharedFollower]
) -> None:
    first = join("first", holdback_seconds=0.3)
    put(catalog, generation, "a", "some words")
    first.catch_up()
    assert first._index.indexed_seq() == 0
    first.close(wait=True)
    second = join("second")
    assert second._index.indexed_seq() == catalog.head_seq()
    assert second.catch_up() == 0 and second.follows
    assert catalog.leases.holder(NAME) == "second"


def seen_at(catalog: Catalog) -> float:
    with catalog.database.reading() as connection:
        found = select(schema.followers.c.seen_at).where(schema.followers.c.name == NAME)
        return float(connection.execute(found).scalar_one())


def test_one_that_has_nothing_to_do_still_holds_the_log(
    catalog: Catalog,
    generation: Generation,
    join: Callable[..., SharedFollower],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared, "_POLL_SECONDS", 0.01)
    first = join("first")
    put(catalog, generation, "a", "some words")
    first.start()
    wait_for(lambda: first.lag() == 0 and first._shown_at > 0)
    with catalog.database.writing() as connection:
        connection.execute(update(schema.followers).values(seen_at=1.0))
    time.sleep(0.1)
    assert seen_at(catalog) == 1.0, "it writes more often than it has to"
    monkeypatch.setattr(shared, "SEEN_EVERY_SECONDS", 0.05)
    wait_for(lambda: seen_at(catalog) > 1.0)
    assert catalog.log_horizon() <= first._index.indexed_seq()
