"""Rerank services that lie, fail, are slow or answer nonsense, and what becomes of their key."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from typing import Any

import pytest
from tests.remote.rerankers import DIALECTS, RerankServer, Scored
from tests.remote.servers import Answer, free_port, served
from tests.reranker.services import INPUTS, QUERY, Open
from tests.reranker.tiny import (
    TickingClock,
    candidate,
    reading_input,
)

from longleaf.core.budget import Budget
from longleaf.core.errors import (
    ConfigError,
    LongleafError,
    ModelUnavailable,
    RemoteRefused,
    RemoteUnavailable,
)
from longleaf.reranker.read import read_candidates
from longleaf.reranker.services.batches import Pace, batches
from longleaf.reranker.services.dialects import SERVICES
from longleaf.reranker.services.reader import ServiceReranker
from longleaf.reranker.services.texts import items_of

KEY = "sk-canary-4711"


# --- lies and nonsense -------------------------------------------------------------------------


def _reversed(scored: Scored) -> Scored:
    return [(place, 1.0 - score) for place, score in scored]


def _constant(scored: Scored) -> Scored:
    return [(place, 0.5) for place, _ in scored]


def _by_place(scored: Scored) -> Scored:
    return [(place, 1.0 / (place + 1)) for place, _ in scored]


LIES = [
    (_reversed, "ranks nonsense above sense"),
    (_constant, "cannot tell sense from nonsense"),
    (_by_place, "ranks nonsense above sense"),
    (lambda scored: scored[:2], "no score for 2 of 4"),
]


@pytest.mark.parametrize(
    ("dialect", "lie", "told"),
    [*((name, *LIES[0]) for name in DIALECTS), *(("cohere", *each) for each in LIES[1:])],
)
def test_a_service_that_lies_is_refused_at_the_start(
    open_service: Open, dialect: str, lie: Callable[[Scored], Scored], told: str
) -> None:
    there = RerankServer(dialect)
    there.change = lie
    with pytest.raises((ModelUnavailable, RemoteRefused), match=told) as raised:
        open_service(dialect, there)
    assert raised.value.hint


def test_qwen3_without_its_template_is_refused_and_read_with_the_preset(
    open_service: Open,
) -> None:
    """vLLM applies no template that it was not given: the same server, asked in two dialects."""
    with pytest.raises(ModelUnavailable):
        open_service("vllm", RerankServer("vllm", has_template=False))
    assert open_service("vllm-qwen3").read().keys() == {item.rank for item in INPUTS}


def _first(value: Any) -> Callable[[Scored], Scored]:
    return lambda scored: [(scored[0][0], value), *scored[1:]]


NONSENSE: dict[str, Callable[[Scored], Scored]] = {
    "nan": _first(math.nan),
    "infinite": _first(math.inf),
    "null": _first(None),
    "text": _first("0.5"),
    "true": _first(True),
    "too large": _first(10**400),
    "result of nobody": lambda scored: [*scored, (99, 0.5)],
    "below zero": lambda scored: [*scored[1:], (-1, 0.5)],
    "twice": lambda scored: [*scored, scored[0]],
    "index is text": lambda scored: [("0", 0.5), *scored[1:]],  # type: ignore[list-item]
    "nothing": lambda scored: [],
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_nonsense_is_refused_whole(open_service: Open, dialect: str) -> None:
    opened = open_service(dialect)
    for kind, spoilt in NONSENSE.items():
        if dialect == "tei":  # whose logits are made of the scores
            opened.there.spoil = lambda answer, spoilt=spoilt: [  # type: ignore[misc]
                {"index": place, "score": score}
                for place, score in spoilt([(each["index"], each["score"]) for each in answer])
            ]
        else:
            opened.there.change = spoilt
        with pytest.raises(RemoteRefused) as raised:
            opened.read(INPUTS[:3])
        assert "patent" not in str(raised.value) and dialect in raised.value.hint, kind


def test_an_answer_of_another_form_is_refused(open_service: Open) -> None:
    opened = open_service("cohere")
    others: list[Any] = [[], {}, None, 7, "x", {"results": None}, {"results": [1]}]
    for answer in others:
        opened.there.spoil = lambda _, answer=answer: answer  # type: ignore[misc]
        with pytest.raises(RemoteRefused):
            opened.read(INPUTS[:3])


def test_a_result_that_is_missing_leaves_its_document_unread_visibly(open_service: Open) -> None:
    opened = open_service("cohere")
    opened.there.change = lambda scored: [each for each in scored if each[0] != 2]
    singles = [reading_input(rank, [f"patent {rank}"]) for rank in range(1, 6)]
    candidates = [candidate(item.rank, -float(item.rank)) for item in singles]
    result = read_candidates(QUERY, candidates, singles, opened.reranker, Budget())
    assert [reading is None for reading in result.readings] == [False, False, True, False, False]
    assert result.order[-1] == 2
    (degraded,) = result.degraded
    assert "read 4 of 5" in degraded.reason and "no score for 1 of 5 texts" in degraded.reason


def test_another_model_under_the_same_address_is_refused(open_service: Open) -> None:
    opened = open_service("jina")
    opened.there.model_named = "another"
    with pytest.raises(RemoteRefused, match="another model"):
        opened.read(INPUTS[:3])


# --- failures and time -------------------------------------------------------------------------


FAILURES = [
    (Answer({"message": "patent"}, 401), "status 401"),
    (Answer(b"{patent"), "not JSON"),
    (Answer({"message": "patent"}, 500), "status 500"),
    (Answer({"message": "patent"}, 503), "status 503"),
    (Answer({"results": [], "patent": 1}, cut_off=True), "no connection"),
    (Answer({"message": "patent"}, 429, {"Retry-After": "9999"}), "status 429"),
]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_service_that_fails_degrades_the_search_visibly(open_service: Open, dialect: str) -> None:
    opened = open_service(dialect)
    candidates = [candidate(item.rank, -float(item.rank)) for item in INPUTS[:3]]
    for says, told in FAILURES:
        opened.there.says = says
        result = read_candidates(QUERY, candidates, INPUTS[:3], opened.reranker, Budget())
        assert result.order == (0, 1, 2) and result.reranked_count == 0
        (degraded,) = result.degraded
        assert degraded.stage == "rerank" and told in degraded.reason
        assert "patent" not in degraded.reason
        if "429" not in told:  # an answer between two failures: they are not in a row
            opened.there.says = None
            assert opened.read(INPUTS[:1]).keys() == {1}


def test_what_was_read_before_an_error_is_kept(open_service: Open) -> None:
    opened = open_service("vllm", request_documents=10)

    def then_nothing(scored: Scored) -> Scored:
        opened.there.says = Answer(status=500)
        return scored

    opened.there.change = then_nothing
    candidates = [candidate(item.rank, -float(item.rank)) for item in INPUTS]
    result = read_candidates(QUERY, candidates, INPUTS, opened.reranker, Budget())
    assert 0 < result.reranked_count <= 10
    (degraded,) = result.degraded
    assert "status 500" in degraded.reason


def test_a_rate_limit_is_waited_for_within_the_budget(open_service: Open) -> None:
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        opened.there.says = None  # the window of the limit is over

    opened = open_service("cohere", sleep=sleep)
    opened.there.says = limited = Answer(status=429, headers={"Retry-After": "3"})
    assert opened.read(INPUTS[:3]).keys() == {1, 2, 3}
    assert waited == [3.0]
    opened.there.says = limited
    candidates = [candidate(item.rank, -float(item.rank)) for item in INPUTS[:3]]
    budget = Budget(deadline_ms=2_000.0)
    result = read_candidates(QUERY, candidates, INPUTS[:3], opened.reranker, budget)
    assert waited == [3.0] and result.reranked_count == 0
    assert "status 429" in result.degraded[0].reason


def test_a_slow_service_is_left_at_the_deadline(open_service: Open) -> None:
    opened = open_service("vllm", least_ms=1.0)
    released = threading.Event()

    def hang(scored: Scored) -> Scored:
        released.wait(30)
        return scored

    opened.there.change = hang
    try:
        with pytest.raises(RemoteUnavailable, match="no answer within"):
            opened.read(INPUTS[:3], Budget(deadline_ms=50.0))
    finally:
        released.set()
    assert opened.reranker.trouble is None  # a short deadline is nobody's failure
    assert len(opened.there.asked) == 1  # and nothing is sent a second time


def test_requests_become_smaller_when_texts_take_long() -> None:
    """64 texts of 40 ms would be more than half of 2 s."""
    pace = Pace()
    assert pace.texts_within(10.0, 64) == 64  # nothing is known yet
    pace.note(80.0, 4)
    pace.note(50.0, 4)
    pace.note(50.0 + 64 * 40.0, 64)
    assert pace.texts_within(None, 64) == 64
    assert pace.texts_within(2_000.0, 64) == 23  # (1000 - 50) / 40
    assert pace.texts_within(100.0, 64) == 8 and pace.texts_within(100.0, 5) == 5
    pace.note(50.0, 64)  # one quick request is not believed at once
    assert pace.texts_within(2_000.0, 64) == 26

    clock = TickingClock()
    budget = Budget(deadline_ms=2_000.0, clock=clock)
    items = [each for n, item in enumerate(INPUTS) for each in items_of(n, item, 1_000)]
    sizes = []
    for batch in batches(items, 2, SERVICES["vllm"].limits, pace, budget):
        sizes.append(len(batch))
        clock.now_ms += 700.0
    assert sizes[:3] == [26, 16, 8] and sum(sizes) == len(items)


def test_after_failures_in_a_row_nobody_is_asked(open_service: Open) -> None:
    opened = open_service("tei")
    opened.there.says = Answer(status=503)
    for _ in range(3):
        with pytest.raises(RemoteUnavailable):
            opened.read(INPUTS[:1])
    assert "6 times in a row" in (opened.reranker.trouble or "")
    asked = len(opened.server.asked)
    with pytest.raises(RemoteUnavailable, match="not asked just now"):
        opened.read(INPUTS[:1])
    assert len(opened.server.asked) == asked


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_start_without_an_answer_is_an_error(dialect: str) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(RemoteUnavailable, match=r"reranker\.url"):
        ServiceReranker(url, SERVICES[dialect], model="m", sleep=lambda _: None)
    with served(lambda path, body: Answer({}, 404)) as server, pytest.raises(LongleafError):
        ServiceReranker(server.url, SERVICES[dialect], model="m", sleep=lambda _: None)


@pytest.mark.parametrize("dialect", [name for name in DIALECTS if SERVICES[name].needs_model])
def test_a_service_of_many_models_needs_a_name(dialect: str) -> None:
    with pytest.raises(ConfigError, match=r"reranker\.model"):
        ServiceReranker("http://127.0.0.1:1", SERVICES[dialect])


# --- the key -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_key_is_in_no_error_and_no_log(
    open_service: Open, dialect: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a service that quotes its client in every field that an error may have."""
    opened = open_service(dialect, api_key=KEY)
    said = {"code": KEY, "type": KEY, "message": f"Bearer {KEY}", "error": {"code": KEY}}
    candidates = [candidate(item.rank, -float(item.rank)) for item in INPUTS[:3]]
    shown = [opened.reranker.where, repr(opened.reranker), opened.reranker.fingerprint]
    with caplog.at_level(logging.INFO), caplog.at_level(logging.DEBUG, "longleaf"):
        for status in (400, 401, 403, 404, 413, 422, 500, 429):
            opened.there.says = Answer(said, status, {"WWW-Authenticate": KEY, "Retry-After": "99"})
            result = read_candidates(QUERY, candidates, INPUTS[:3], opened.reranker, Budget())
            (degraded,) = result.degraded
            assert f"status {status}" in degraded.reason
            shown.append(degraded.reason)
    assert {each["authorization"] for each in opened.server.headers} == {f"Bearer {KEY}"}
    shown += [str(opened.reranker.trouble), caplog.text]
    assert "status 429" in shown[-2] and KEY not in "".join(shown)
