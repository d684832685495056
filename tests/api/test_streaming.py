"""Searches as events: order, contents, and what goes wrong before and behind the first event."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest
from tests.api.conftest import Client

from longleaf.api import search
from longleaf.api import search as searching
from longleaf.api.wire import Runtime
from longleaf.core.budget import Budget
from longleaf.core.errors import Overloaded
from longleaf.core.protocols import ReaderQuery, Reranker
from longleaf.core.types import DocumentLimits, Reading, ReadingInput

PATENT = "which licence ends my patent grant if I sue?"
WANTED = {"accept": "text/event-stream"}


class Slow:
    """The real reranker, one candidate after the other with time between them."""

    name, fingerprint, takes_instruction = "slow", "slow", False
    document_limits, document_weight = DocumentLimits(2, None, beside=False), 0.5
    min_score: float | None = None
    default_instruction: str | None = None

    def __init__(self, inner: Reranker, pause_ms: float, error: Exception | None = None) -> None:
        self._inner, self._pause_ms, self._error = inner, pause_ms, error
        self.reads_text, self.first_stage_weight = inner.reads_text, inner.first_stage_weight

    def read(
        self, query: ReaderQuery, inputs: Sequence[ReadingInput], budget: Budget
    ) -> Iterator[Reading]:
        for each in inputs:
            if budget.spent() is not None:
                return
            time.sleep(self._pause_ms / 1000.0)
            yield from self._inner.read(query, [each], Budget())
        if self._error is not None:
            raise self._error


@pytest.fixture
def slow(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> Slow:
    """At every candidate a look, so that each gives an event."""
    assert runtime.engine.reranker is not None
    made = Slow(runtime.engine.reranker, 2.0)
    monkeypatch.setattr(runtime.engine, "reranker", made)
    monkeypatch.setattr(searching, "_LOOK_MS", 0.0)
    return made


def events_of(response: httpx.Response) -> list[tuple[str, dict[str, Any]]]:
    assert response.headers["content-type"].startswith("text/event-stream"), response.text
    found = []
    for block in response.text.strip().split("\n\n"):
        name, data = block.split("\n")
        assert name.startswith("event: ") and data.startswith("data: ")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def ask(client: Client, body: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return events_of(client.post("/v1/search", json=body, headers=WANTED))


def without_times(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "timings_ms"}


def test_first_hits_then_orders_then_the_same_answer(client: Client, slow: Slow) -> None:
    body = {"query": PATENT, "rerank": {"depth": "auto"}, "limit": 5}
    events = ask(client, body)
    names = [name for name, _ in events]
    assert names[0] == "first" and names[-1] == "answer"
    assert set(names[1:-1]) == {"order"} and len(names) > 5
    first, answer = events[0][1], events[-1][1]
    plain = client.post("/v1/search", json=body).json()
    assert without_times(answer) == without_times(plain)
    unread = client.post("/v1/search", json=body | {"rerank": False}).json()
    assert [hit["document_id"] for hit in first["hits"]] == [
        hit["document_id"] for hit in unread["hits"]
    ]
    assert first["reranked_count"] == 0 and all(hit["reading"] is None for hit in first["hits"])
    counts = [data["reranked_count"] for name, data in events if name == "order"]
    assert counts == sorted(counts) and counts[0] < counts[-1] == answer["reranked_count"]
    assert [data["whole_count"] for name, data in events if name == "order"][-1] == 2
    for _, order in events[1:-1]:
        assert [hit["rank"] for hit in order["hits"]] == list(range(1, len(order["hits"]) + 1))
        scores = [hit["score"] for hit in order["hits"]]
        assert scores == sorted(scores, reverse=True)


def test_no_second_stage_is_first_and_answer(client: Client) -> None:
    events = ask(client, {"query": PATENT, "rerank": False})
    assert [name for name, _ in events] == ["first", "answer"]
    assert events[0][1]["hits"] == events[1][1]["hits"]


def test_a_link_streams_too_and_json_stays_the_default(client: Client) -> None:
    linked = client.get("/v1/search", params={"q": PATENT}, headers=WANTED)
    assert events_of(linked)[-1][0] == "answer"
    assert linked.headers["cache-control"] == "no-store" and linked.headers["x-request-id"]
    for accepted in ("application/json", "*/*", "application/json, text/event-stream"):
        answer = client.get("/v1/search", params={"q": PATENT}, headers={"accept": accepted})
        assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("body", "status"),
    [({"query": " "}, 400), ({"query": "x", "limti": 3}, 422),
     ({"query": "x", "collections": ["nowhere"]}, 404)],
)  # fmt: skip
def test_what_cannot_be_asked_has_its_status(
    client: Client, body: dict[str, Any], status: int
) -> None:
    response = client.post("/v1/search", json=body, headers=WANTED)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"


def test_an_error_behind_the_first_event_is_one(
    client: Client, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert runtime.engine.reranker is not None
    full = Slow(runtime.engine.reranker, 0.0, Overloaded("Too much waits.", "Come again."))
    monkeypatch.setattr(runtime.engine, "reranker", full)
    events = ask(client, {"query": PATENT})
    assert events[0][0] == "first" and events[-1][0] == "error"
    assert events[-1][1]["status"] == 429 and events[-1][1]["code"] == "overloaded"

    real, calls = search.answer_of, []

    def broken(*given: Any) -> Any:
        calls.append(given)
        if len(calls) > 1:
            raise ZeroDivisionError("secret")
        return real(*given)

    monkeypatch.setattr(runtime.engine, "reranker", None)
    monkeypatch.setattr(search, "answer_of", broken)
    response = client.post("/v1/search", json={"query": PATENT}, headers=WANTED)
    names = [name for name, _ in events_of(response)]
    assert names == ["first", "error"] and "secret" not in response.text
    assert events_of(response)[-1][1]["status"] == 500
    response = client.post("/v1/search", json={"query": PATENT}, headers=WANTED)
    assert response.status_code == 500 and "secret" not in response.text, "before any event"


def test_a_failing_reader_is_a_degraded_answer(
    client: Client, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert runtime.engine.reranker is not None
    failing = Slow(runtime.engine.reranker, 0.0, RuntimeError("secret"))
    monkeypatch.setattr(runtime.engine, "reranker", failing)
    name, answer = ask(client, {"query": PATENT})[-1]
    assert name == "answer" and answer["degraded"][0]["stage"] == "rerank"
    assert "secret" not in json.dumps(answer)
