"""Lanes: three bounds of a line, and a place that is free as soon as its client has left."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import httpx
import pytest
from fastapi import HTTPException, Request
from tests.api.conftest import Client
from tests.remote.longleaf import served_app

from longleaf.api.app import create_app
from longleaf.api.http.lanes import Bounds, GivenUp, Lane
from longleaf.api.search import InTurn
from longleaf.api.wire import Runtime
from longleaf.core.budget import Budget
from longleaf.core.errors import Overloaded, StageStalled
from longleaf.core.protocols import ReaderQuery, Reranker
from longleaf.core.types import DocumentLimits, Reading, ReadingInput
from longleaf.core.waiting import stage

WIDE = Bounds(requests=100, tokens=10_000, seconds=1e6)


class Caller:
    """A request as a lane sees it."""

    def __init__(self) -> None:
        self.has_left = False

    async def is_disconnected(self) -> bool:
        return self.has_left


def there() -> Request:
    return cast(Request, Caller())


class Held:
    """Calls that work until they are let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.begun = 0

    def __call__(self, given_up: GivenUp) -> str:
        self.begun += 1
        while not self.let_go.wait(0.01):
            if given_up():
                return "given up"
        return "done"


async def until(what: Callable[[], object]) -> None:
    while not what():
        await asyncio.sleep(0.005)


def in_loop(test: Callable[[Held], Awaitable[None]]) -> None:
    async def whole() -> None:
        held = Held()
        try:
            await test(held)
        finally:
            held.let_go.set()

    asyncio.run(whole())


async def fill(lane: Lane, held: Held, *tokens: int) -> list[asyncio.Task[str]]:
    """One call under way and one in line for each further of `tokens`."""
    tasks = [asyncio.create_task(lane.run(there(), held, each)) for each in tokens]
    await until(lambda: lane.running == 1 and lane.waiting == len(tokens) - 1)
    return tasks


def test_a_line_is_bounded_by_requests() -> None:
    async def test(held: Held) -> None:
        lane = Lane("searches", 1, Bounds(2, 10_000, 1e6))
        tasks = await fill(lane, held, 0, 0, 0)
        with pytest.raises(Overloaded, match="2 searches wait already") as refused:
            await lane.run(there(), held)
        assert refused.value.retry_after_seconds >= 1.0 and lane.refused == 1
        held.let_go.set()
        assert await asyncio.gather(*tasks) == ["done"] * 3
        assert (lane.running, lane.waiting, held.begun) == (0, 0, 3)

    in_loop(test)


def test_a_line_is_bounded_by_tokens_but_takes_whoever_finds_nobody_waiting() -> None:
    async def test(held: Held) -> None:
        lane = Lane("searches", 1, Bounds(100, 150, 1e6))
        tasks = await fill(lane, held, 9_999, 100)
        with pytest.raises(Overloaded, match="100 tokens wait"):
            await lane.run(there(), held, 51)
        tasks += [asyncio.create_task(lane.run(there(), held, 50))]
        await until(lambda: lane.waiting_tokens == 150)
        held.let_go.set()
        await asyncio.gather(*tasks)
        assert lane.waiting_tokens == 0
        assert await lane.run(there(), held, 9_999) == "done"

    in_loop(test)


def test_a_line_is_bounded_by_how_long_the_last_ones_took() -> None:
    async def test(held: Held) -> None:
        ticks = iter([0.0, 10.0, 10.0, 20.0, 20.0, 30.0])
        lane = Lane("searches", 1, Bounds(100, 10_000, 5.0), clock=lambda: next(ticks))
        held.let_go.set()
        assert lane.wait_seconds() == 0.0
        await lane.run(there(), held)
        held.let_go.clear()
        tasks = await fill(lane, held, 0, 0)
        assert lane.wait_seconds() == 20.0
        with pytest.raises(Overloaded, match="about 20 s") as refused:
            await lane.run(there(), held)
        assert refused.value.retry_after_seconds == 20.0
        held.let_go.set()
        await asyncio.gather(*tasks)

    in_loop(test)


def test_who_leaves_the_line_frees_the_place_at_once() -> None:
    async def test(held: Held) -> None:
        lane = Lane("searches", 1, WIDE)
        tasks = await fill(lane, held, 0)
        caller = Caller()
        leaves = asyncio.create_task(lane.run(cast(Request, caller), held, 70))
        await until(lambda: lane.waiting == 1)
        caller.has_left = True
        with pytest.raises(HTTPException, match="The client has left"):
            await leaves
        assert (lane.running, lane.waiting, lane.waiting_tokens) == (1, 0, 0)
        held.let_go.set()
        assert await asyncio.gather(*tasks) == ["done"] and held.begun == 1

    in_loop(test)


def test_who_leaves_while_it_is_served_is_told_to_the_thread() -> None:
    async def test(held: Held) -> None:
        lane = Lane("searches", 1, WIDE)
        caller = Caller()
        leaves = asyncio.create_task(lane.run(cast(Request, caller), held))
        await until(lambda: held.begun == 1)
        caller.has_left = True
        assert await leaves == "given up" and lane.running == 0
        assert lane.wait_seconds() == 0.0, "who left says nothing of how long reading takes"

    in_loop(test)


def test_an_error_of_a_call_comes_as_itself_and_frees_the_place() -> None:
    async def test(_held: Held) -> None:
        lane = Lane("searches", 1, WIDE)

        def broken(_given_up: GivenUp) -> str:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await lane.run(there(), broken)
        assert lane.running == 0

    in_loop(test)


def standing(held: Held, name: str) -> Callable[[GivenUp], str]:
    """A call that stands in stage `name` until it is let go, whoever asks."""

    def call(_given_up: GivenUp) -> str:
        with stage(name):
            held.begun += 1
            held.let_go.wait()
        return "late"

    return call


def test_a_thread_that_stands_is_left_and_its_place_is_free() -> None:
    async def test(held: Held) -> None:
        lane = Lane("searches", 2, replace(WIDE, stage_seconds=0.1))
        with pytest.raises(StageStalled, match=r"Nothing came from the index for 0\.\d+ s\."):
            await lane.run(there(), standing(held, "the index"))
        assert (lane.running, lane.left, lane.wait_seconds()) == (0, 1, 0.0)
        assert await lane.run(there(), lambda _given_up: "done") == "done"
        held.let_go.set()
        await until(lambda: lane.left == 0)

    in_loop(test)


def test_nobody_is_let_in_while_as_many_stand_as_may_run() -> None:
    async def test(held: Held) -> None:
        lane = Lane("searches", 1, replace(WIDE, stage_seconds=0.1))
        stands = asyncio.create_task(lane.run(there(), standing(held, "the catalog")))
        await until(lambda: lane.running == 1)
        waits = asyncio.create_task(lane.run(there(), lambda _given_up: "done"))
        for each, why in ((stands, "from the catalog"), (waits, "1 searches stand")):
            with pytest.raises(StageStalled, match=why):
                await each
        with pytest.raises(StageStalled, match="1 searches stand"):
            await lane.run(there(), lambda _given_up: "done")
        held.let_go.set()
        await until(lambda: lane.left == 0)
        assert await lane.run(there(), lambda _given_up: "done") == "done"
        assert held.begun == 1

    in_loop(test)


def test_a_long_call_that_goes_from_stage_to_stage_is_not_left() -> None:
    async def test(_held: Held) -> None:
        lane = Lane("searches", 1, replace(WIDE, stage_seconds=2.0))

        def call(_given_up: GivenUp) -> str:
            for name in ("the catalog", "the index") * 5:
                with stage(name):
                    time.sleep(0.25)
            time.sleep(0.5)  # reading, which has limits of its own
            return "done"

        assert await lane.run(there(), call) == "done" and lane.left == 0

    in_loop(test)


class Counting:
    """Reads one candidate after the other while `open`, and counts them."""

    name, fingerprint, takes_instruction = "counting", "counting", False
    reads_text, first_stage_weight = True, 0.0
    document_limits, document_weight = DocumentLimits(2, None, beside=False), 0.5
    min_score: float | None = None
    default_instruction: str | None = None

    def __init__(self) -> None:
        self.units = 0
        self.begun, self.ended = threading.Semaphore(0), threading.Semaphore(0)
        self.go_on = threading.Event()

    def read(
        self, query: ReaderQuery, inputs: Sequence[ReadingInput], budget: Budget
    ) -> Iterator[Reading]:
        try:
            for each in inputs:
                if budget.begin_unit() is not None:
                    return
                self.units += 1
                self.begun.release()
                while not self.go_on.wait(0.01) and budget.spent() is None:
                    pass
                yield Reading(each.rank, -float(each.rank), "passage", 1, 1)
        finally:
            self.ended.release()


ASKED: dict[str, dict[str, Any]] = {
    "/v1/search": {"query": "rent"},
    "/v1/rerank": {"query": "rent", "documents": [{"text": "Rent is due."}] * 20},
    "/v1/answer": {"query": "rent"},
}


def raw(url: str, path: str, body: dict[str, Any], accept: str = "application/json") -> Any:
    """A connection that has asked and does not wait for the answer."""
    host, port = url.removeprefix("http://").split(":")
    data = json.dumps(body).encode()
    asked = socket.create_connection((host, int(port)))
    asked.sendall(
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAccept: {accept}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode()
        + data
    )
    return asked


@pytest.mark.parametrize(
    ("path", "accept"),
    [
        ("/v1/search", "application/json"),
        ("/v1/search", "text/event-stream"),
        ("/v1/rerank", "application/json"),
        ("/v1/answer", "application/json"),
        ("/v1/answer", "text/event-stream"),
    ],
)
def test_no_further_unit_is_read_for_a_client_that_has_left(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, path: str, accept: str
) -> None:
    counting = Counting()
    monkeypatch.setattr(runtime.engine, "reranker", cast(Reranker, counting))
    if path == "/v1/answer":
        monkeypatch.setattr(runtime, "chat", object())
    with served_app(create_app(runtime)) as url:
        asked = raw(url, path, ASKED[path], accept)
        assert counting.begun.acquire(timeout=60)
        asked.close()
        assert counting.ended.acquire(timeout=60)
        assert counting.units == 1
        counting.go_on.set()
        assert httpx.post(f"{url}/v1/search", json={"query": "rent"}).status_code == 200


def test_a_full_line_is_429_with_a_time_for_programs_and_people(
    runtime: Runtime, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = runtime.settings.model_copy(
        update={
            "server": runtime.settings.server.model_copy(update={"workers": 1}),
            "serving": runtime.settings.serving.model_copy(update={"queue_requests": 0}),
        }
    )
    monkeypatch.setattr(runtime, "settings", settings)
    counting = Counting()
    monkeypatch.setattr(runtime.engine, "reranker", cast(Reranker, counting))
    with served_app(create_app(runtime)) as url:
        asked = raw(url, "/v1/search", {"query": "rent"})
        assert counting.begun.acquire(timeout=60)
        for path in ("/v1/search", "/v1/rerank"):
            refused = httpx.post(url + path, json=ASKED[path])
            assert refused.status_code == 429 and int(refused.headers["Retry-After"]) >= 1
            assert "overloaded" in refused.text or "wait already" in refused.text
        page = httpx.get(f"{url}/", params={"q": "rent"}, headers={"accept": "text/html"})
        assert page.status_code == 429
        assert httpx.get(f"{url}/").status_code == httpx.get(f"{url}/readyz").status_code == 200
        bulk = {"query": "rent", "rerank": {"priority": "bulk"}}
        in_its_own_line = raw(url, "/v1/search", bulk)
        assert counting.begun.acquire(timeout=60), "a bulk search stood in the searches' line"
        metrics = httpx.get(f"{url}/metrics").text
        assert 'longleaf_lane_refused_total{lane="searches"} 3.0' in metrics
        searches = 'longleaf_http_requests_total{method="POST",route="/v1/search",status='
        assert f'{searches}"429"}} 1.0' in metrics
        assert 'longleaf_lane_running{lane="searches"} 1.0' in metrics
        counting.go_on.set()
        for each in (asked, in_its_own_line):
            assert each.recv(12) == b"HTTP/1.1 200"
            each.close()


@contextmanager
def stands_still(stood: Any, call: str) -> Iterator[None]:
    """`stood.call` waits until the block ends."""
    let_go = threading.Event()
    real = getattr(stood, call)

    def stands(*given: Any, **more: Any) -> Any:
        let_go.wait()
        return real(*given, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stood, call, stands)
        try:
            yield
        finally:
            let_go.set()


def limit_stages(runtime: Runtime, monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    settings = runtime.settings.model_copy(
        update={
            "server": runtime.settings.server.model_copy(update={"workers": workers}),
            "serving": runtime.settings.serving.model_copy(update={"stage_seconds": 3.0}),
        }
    )
    monkeypatch.setattr(runtime, "settings", settings)


@pytest.mark.parametrize(
    ("part", "call", "named"),
    [("index", "search_bm25", "the index"), ("catalog", "hydrate", "the catalog")],
)
def test_a_part_that_stands_still_is_503_by_name_and_searches_go_on_behind_it(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, part: str, call: str, named: str
) -> None:
    limit_stages(runtime, monkeypatch, 2)
    with served_app(create_app(runtime)) as url:
        with stands_still(getattr(runtime.engine, part), call):
            refused = httpx.post(f"{url}/v1/search", json={"query": "rent"}, timeout=60)
        assert refused.status_code == 503 and refused.headers["Retry-After"] == "10"
        problem = refused.json()
        assert problem["code"] == "stage_stalled"
        assert problem["detail"].startswith(f"Nothing came from {named} for 3")
        answer = httpx.post(f"{url}/v1/search", json={"query": "rent"})
        assert answer.status_code == 200 and not answer.json()["degraded"]
        assert httpx.get(f"{url}/metrics").status_code == 200


def test_searches_behind_one_that_stands_still_are_not_waited_for_either(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a reranker that has a queue: more searches at once than slots to compute in."""
    limit_stages(runtime, monkeypatch, 8)
    monkeypatch.setattr(runtime.engine, "slots", InTurn(threading.BoundedSemaphore(1)))
    monkeypatch.setattr(runtime.engine, "embedding", runtime.engine.slots)
    with served_app(create_app(runtime)) as url:
        with stands_still(runtime.engine.index, "search_bm25"):
            for named in ("the index", "the searches before it"):
                refused = httpx.post(f"{url}/v1/search", json={"query": "rent"}, timeout=60)
                assert refused.status_code == 503
                assert refused.json()["detail"].startswith(f"Nothing came from {named} for 3")
        answer = httpx.post(f"{url}/v1/search", json={"query": "rent"})
        assert answer.status_code == 200 and not answer.json()["degraded"]


@pytest.mark.parametrize("input_type", ["query", "passage"])
def test_embedding_takes_a_slot_and_is_left_where_the_model_stands(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, input_type: str
) -> None:
    limit_stages(runtime, monkeypatch, 8)
    slot = threading.BoundedSemaphore(1)
    monkeypatch.setattr(runtime.engine, "slots", InTurn(slot))
    monkeypatch.setattr(runtime.engine, "embedding", runtime.engine.slots)
    body = {"model": "any", "input": ["rent"], "input_type": input_type}
    call = "embed_query" if input_type == "query" else "embed_passages"
    with served_app(create_app(runtime)) as url:

        def refused() -> str:
            answer = httpx.post(f"{url}/v1/embeddings", json=body, timeout=60)
            assert answer.status_code == 503, answer.text
            return answer.text

        with stands_still(runtime.engine.embedder, call):
            assert "Nothing came from the embedding model for 3" in refused()
            assert "Nothing came from the searches before it for 3" in refused()
        assert httpx.post(f"{url}/v1/embeddings", json=body, timeout=60).status_code == 200
        with slot:
            assert "the searches before it" in refused()
