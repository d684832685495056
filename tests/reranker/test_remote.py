"""Reading elsewhere: what another server may answer, how long it is waited for, when not at all."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from tests.remote.servers import Answer, Server, free_port, served
from tests.reranker.tiny import candidate, query_of, reading_input

from longleaf.core.budget import Budget
from longleaf.core.errors import (
    LongleafError,
    ModelUnavailable,
    RemoteRefused,
    RemoteUnavailable,
)
from longleaf.core.protocols import DistantReranker
from longleaf.core.types import DocumentLimits, Reading
from longleaf.reranker.cache import cached
from longleaf.reranker.qwen3.check import PROBES
from longleaf.reranker.read import read_candidates
from longleaf.reranker.remote import RemoteReranker

QUERY = query_of("patent licence")
INPUTS = [reading_input(rank, [f"word{rank} " * rank, "patent"], "title") for rank in range(1, 71)]
ABOUT: dict[str, Any] = {
    "model": "late",
    "fingerprint": "late/1 minilm",
    "takes_instruction": False,
    "default_instruction": None,
    "first_stage_weight": 2.0,
    "document_limits": {"documents": 20, "tokens": 6400, "beside": False},
    "document_weight": 0.5,
    "min_score": 0.603,
    "max_documents": 1000,
    "max_body_bytes": 8 * 1024 * 1024,
    "chosen": "late: as a test has it",
}
_BY_QUERY = {each.query: each for each in PROBES}


class Reader:
    """A Longleaf that scores a document by the length of its text, and can be told to misbehave."""

    def __init__(self) -> None:
        self.about: Any = dict(ABOUT)
        self.change: Callable[[dict[str, Any]], Any] = lambda answer: answer
        self.says: Answer | None = None
        self.unread: dict[int, str] = {}
        self.sleeps = 0.0
        self.bodies: list[dict[str, Any]] = []

    def __call__(self, path: str, body: Any) -> Answer:
        assert path == "/v1/rerank"
        if body is None:
            return Answer(self.about)
        if self.says is not None:
            return self.says
        time.sleep(self.sleeps)
        if body["query"] not in _BY_QUERY:
            self.bodies.append(body)
        results = [
            _result(place, body["query"], document)
            for place, document in enumerate(body["documents"])
            if place not in self.unread
        ]
        answer = {
            "id": "1",
            "model": self.about["model"],
            "fingerprint": self.about["fingerprint"],
            "results": results[::-1],
            "unread": [{"index": n, "reason": reason} for n, reason in self.unread.items()],
            "usage": {"total_tokens": 1},
            "elapsed_ms": 0.0,
        }
        return Answer(self.change(answer))


def _result(place: int, query: str, document: Any) -> dict[str, Any]:
    if isinstance(document, str):
        score, scores, tokens = float(document == _BY_QUERY[query].relevant), [[0, 0.5]], 1
    else:
        scores = [[n, len(p["text"]) / 100] for n, p in enumerate(document["passages"])]
        score, tokens = max(each for _, each in scores), document["token_count"]
    return {
        "index": place,
        "relevance_score": score,
        "score": score,
        "probability": None,
        "depth": "passage",
        "tokens_read": tokens,
        "tokens_total": tokens,
        "truncated_tokens": 0,
        "windows": 1,
        "passage_scores": scores,
        "document": None,
    }


@pytest.fixture
def there() -> Reader:
    return Reader()


@pytest.fixture
def server(there: Reader) -> Iterator[Server]:
    with served(there) as opened:
        yield opened


Make = Callable[..., RemoteReranker]


@pytest.fixture
def make(server: Server) -> Iterator[Make]:
    made: list[RemoteReranker] = []

    def open_one(**options: Any) -> RemoteReranker:
        made.append(RemoteReranker(server.url, sleep=lambda _: None, **options))
        return made[-1]

    yield open_one
    for each in made:
        each.close()


def read(reranker: Any, budget: Budget | None = None, inputs: Any = INPUTS) -> dict[int, Reading]:
    return {each.rank: each for each in reranker.read(QUERY, inputs, budget or Budget())}


def test_what_it_is_is_what_the_other_server_says(make: Make) -> None:
    remote = make()
    assert isinstance(remote, DistantReranker) and remote.reads_text
    assert (remote.name, remote.fingerprint) == ("remote:late", "remote/1 late/1 minilm")
    assert (remote.first_stage_weight, remote.document_weight) == (2.0, 0.5)
    assert remote.document_limits == DocumentLimits(20, 6400, False)
    assert (remote.min_score, remote.takes_instruction) == (0.603, False)
    assert "late: as a test has it" in remote.where and "127.0.0.1" in remote.where
    assert make(first_stage_weight=0.25).first_stage_weight == 0.25
    kept = cached(remote, 10)
    assert isinstance(kept, DistantReranker) and kept.trouble is None
    assert kept.fingerprint == remote.fingerprint


def test_passages_go_there_as_they_were_cut(make: Make, there: Reader) -> None:
    item = INPUTS[1]
    passage = replace(item.passages[0], headings=("A", "B"), overlap_chars=3)
    whole = replace(item, passages=(passage,), depth="document", document_tokens=77)
    (reading,) = read(make(), inputs=[whole]).values()
    assert there.bodies == [
        {
            "query": QUERY.text,
            "priority": "interactive",
            "deadline_ms": there.bodies[0]["deadline_ms"],
            "documents": [
                {
                    "title": "title",
                    "depth": "document",
                    "token_count": 77,
                    "passages": [
                        {
                            "text": "word2 word2 ",
                            "headings": ["A", "B"],
                            "start_char": 0,
                            "token_count": 2,
                            "overlap_chars": 3,
                        }
                    ],
                }
            ],
        }
    ]
    assert (reading.rank, reading.depth, reading.tokens_total) == (2, "document", 77)
    assert reading.passage_scores == ((passage.point_id, 0.12),)


def test_requests_hold_so_many_documents_over_one_connection(
    make: Make, there: Reader, server: Server
) -> None:
    remote = make()
    assert read(remote).keys() == {item.rank for item in INPUTS}
    assert [len(body["documents"]) for body in there.bodies] == [32, 32, 6]
    assert len(server.connections) == 1
    there.about = {**ABOUT, "max_documents": 5}
    there.bodies.clear()
    read(make(), inputs=INPUTS[:12])
    assert [len(body["documents"]) for body in there.bodies] == [5, 5, 2]


def test_requests_hold_so_many_bytes_and_what_is_too_large_stays_unread(
    make: Make, there: Reader
) -> None:
    there.about = {**ABOUT, "max_body_bytes": 128 * 1024}
    large = [reading_input(rank, ["ü" * 15_000]) for rank in (1, 2, 3, 4)]
    huge = reading_input(5, ["x" * 70_000])
    budget = Budget()
    found = read(make(), budget, [*large[:2], huge, *large[2:]])
    assert found.keys() == {1, 2, 3, 4}
    assert [len(body["documents"]) for body in there.bodies] == [2, 2]
    assert "larger than the 65,536 bytes" in (budget.stopped_because or "")


def test_an_instruction_goes_along_where_one_is_taken(make: Make, there: Reader) -> None:
    read(make(instruction="x"), inputs=INPUTS[:1])
    assert "instruction" not in there.bodies[-1]
    there.about = {**ABOUT, "takes_instruction": True, "default_instruction": "theirs"}
    for remote, told, expected in (
        (make(), None, "theirs"),
        (make(instruction="ours"), None, "ours"),
        (make(instruction="ours"), "the search's", "the search's"),
    ):
        list(remote.read(replace(QUERY, instruction=told, is_bulk=True), INPUTS[:1], Budget()))
        assert there.bodies[-1]["instruction"] == expected
        assert there.bodies[-1]["priority"] == "bulk"


def test_the_deadline_goes_along_less_the_way(make: Make, there: Reader) -> None:
    there.sleeps = 0.1  # of which the server, that says 0 ms, knows nothing: the way
    remote = make()
    budget = Budget(deadline_ms=5_000.0)
    read(remote, budget, INPUTS[:1])
    sent = there.bodies[-1]["deadline_ms"]
    assert 3_000 < sent < 5_000 - 100
    there.sleeps = 0.0
    read(remote, Budget(deadline_ms=110.0), INPUTS[:1])
    assert there.bodies[-1]["deadline_ms"] == 20.0


def test_a_server_that_hangs_is_not_waited_for(make: Make, there: Reader) -> None:
    remote = make()
    there.sleeps = 0.8
    started = time.perf_counter()
    with pytest.raises(RemoteUnavailable, match="no answer within"):
        read(remote, Budget(deadline_ms=100.0), INPUTS[:1])
    # 100 ms, as long again, and what a busy machine adds: far from the 800.
    assert time.perf_counter() - started < 0.7
    time.sleep(0.8)


def test_what_the_deadline_left_there_is_told(make: Make, there: Reader) -> None:
    remote = make()
    there.unread = dict.fromkeys(range(3, 32), "deadline reached")
    budget = Budget(deadline_ms=60_000.0)
    assert read(remote, budget).keys() == {1, 2, 3}
    assert budget.stopped_because == "the deadline would have passed"
    assert len(there.bodies) == 1


def test_without_a_deadline_what_was_read_in_time_comes_back(make: Make, there: Reader) -> None:
    remote = make(timeout_seconds=10.0)
    there.unread = dict.fromkeys(range(3, 32), "deadline reached")
    budget = Budget()
    assert read(remote, budget).keys() == {1, 2, 3}
    assert 9_000 < there.bodies[-1]["deadline_ms"] <= 9_500
    assert "reads no more in 10 s" in (budget.stopped_because or "")
    assert len(there.bodies) == 1


def test_short_deadlines_of_some_leave_the_server_to_others(make: Make, there: Reader) -> None:
    remote = make()
    there.sleeps = 0.3
    for _ in range(6):
        with pytest.raises(RemoteUnavailable):
            read(remote, Budget(deadline_ms=20.0), INPUTS[:1])
    there.sleeps = 0.0
    assert remote.trouble is None
    assert read(remote).keys() == {each.rank for each in INPUTS}


def test_a_server_that_does_not_read_the_first_question_says_why(make: Make, there: Reader) -> None:
    there.unread = {0: "deadline reached", 1: "deadline reached"}
    with pytest.raises(RemoteUnavailable, match="deadline reached"):
        make()


def test_requests_hold_so_many_passages(make: Make, there: Reader) -> None:
    there.about["max_passages"] = 3
    large = reading_input(3, ["a"] * 4)
    inputs = [reading_input(1, ["a", "b"]), reading_input(2, ["c", "d"]), large]
    budget = Budget()
    assert read(make(), budget, inputs).keys() == {1, 2}
    assert [len(body["documents"]) for body in there.bodies] == [1, 1]
    assert "more passages than the 3" in (budget.stopped_because or "")


def test_tokens_are_budgeted_there_and_here(make: Make, there: Reader) -> None:
    budget = Budget(max_tokens=600)
    found = read(make(), budget)
    # Of 70 documents of 2 to 71 tokens the first 32 have 560: the next request may read 40 more.
    assert [body["max_tokens"] for body in there.bodies] == [600, 40]
    assert budget.tokens_used == sum(each.tokens_read for each in found.values())


def test_what_was_read_before_an_error_is_kept_and_the_error_said(
    make: Make, there: Reader
) -> None:
    remote = make()
    candidates = [candidate(item.rank, -float(item.rank)) for item in INPUTS]

    def then_nothing(answer: dict[str, Any]) -> Any:
        there.says = Answer(status=500)
        return answer

    there.change = then_nothing
    result = read_candidates(QUERY, candidates, INPUTS, remote, Budget())
    assert result.reranked_count == 32
    (degraded,) = result.degraded
    assert "read 32 of 70 candidates" in degraded.reason and "status 500" in degraded.reason


@pytest.mark.parametrize(
    ("says", "told"),
    [
        (Answer({"detail": "x"}, 429, {"Retry-After": "9999"}), "status 429"),
        (Answer({"detail": "x"}, 429), "status 429"),
        (Answer(status=503), "status 503"),
        (Answer({"code": "validation"}, 422), "(validation)"),
        (Answer(b"<html>"), "not JSON"),
        (Answer({"x": 1}, cut_off=True), "no connection"),
        (Answer([]), "no sense"),
    ],
)
def test_a_server_that_does_not_read_degrades_the_search_visibly(
    make: Make, there: Reader, says: Answer, told: str
) -> None:
    remote = make()
    there.says = says
    candidates = [candidate(item.rank, -float(item.rank)) for item in INPUTS[:3]]
    result = read_candidates(QUERY, candidates, INPUTS[:3], remote, Budget())
    assert result.order == (0, 1, 2) and result.reranked_count == 0
    (degraded,) = result.degraded
    assert degraded.stage == "rerank" and told in degraded.reason
    assert "patent" not in degraded.reason and "word1" not in degraded.reason


def test_after_failures_in_a_row_nobody_is_asked(make: Make, there: Reader, server: Server) -> None:
    remote = make()
    there.says = Answer(status=500)
    for _ in range(3):
        with pytest.raises(RemoteUnavailable):
            read(remote)
    assert "6 times in a row" in (remote.trouble or "")
    asked = len(server.asked)
    with pytest.raises(RemoteUnavailable, match="not asked just now"):
        read(remote)
    assert len(server.asked) == asked


def _first(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    def change(answer: dict[str, Any]) -> Any:
        first, *others = answer["results"]
        return {**answer, "results": [{**first, **changes}, *others]}

    return change


def _without(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda answer: {key: value for key, value in answer.items() if key != name}


NONSENSE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another model": lambda answer: {**answer, "fingerprint": "late/2"},
    "no results": _without("results"),
    "no unread": _without("unread"),
    "no fingerprint": _without("fingerprint"),
    "results of nobody": _first(index=99),
    "results twice": _first(index=0),
    "index below zero": _first(index=-1),
    "index is text": _first(index="0"),
    "nan": _first(score=math.nan),
    "infinite": _first(score=math.inf),
    "null": _first(score=None),
    "text": _first(score="0.5"),
    "too large": _first(score=10**400),
    "tokens below zero": _first(tokens_read=-1),
    "windows": _first(windows=None),
    "passages of nobody": _first(passage_scores=[[7, 0.5]]),
    "passages without scores": _first(passage_scores=[0.5]),
    "results are numbers": lambda answer: {**answer, "results": [1, 2]},
    "results are null": lambda answer: {**answer, "results": None},
}


@pytest.mark.parametrize("kind", NONSENSE)
def test_nonsense_is_refused_whole(make: Make, there: Reader, kind: str) -> None:
    remote = make()
    there.change = NONSENSE[kind]
    with pytest.raises(RemoteRefused) as raised:
        read(remote, inputs=INPUTS[:3])
    assert "patent" not in str(raised.value)


@pytest.mark.parametrize(
    "about", [{}, [], None, 7, {**ABOUT, "model": ""}, {**ABOUT, "first_stage_weight": "2"},
              {**ABOUT, "document_limits": None}, {**ABOUT, "max_documents": 2.5}]
)  # fmt: skip
def test_what_is_no_longleaf_is_refused_at_the_start(make: Make, there: Reader, about: Any) -> None:
    there.about = about
    with pytest.raises(RemoteRefused) as raised:
        make()
    assert "reranker.url" in f"{raised.value.hint}"


@pytest.mark.parametrize("status", [401, 404, 500])
def test_a_start_without_an_answer_is_an_error(status: int) -> None:
    with served(lambda path, body: Answer({}, status)) as server, pytest.raises(LongleafError):
        RemoteReranker(server.url, sleep=lambda _: None)


def test_a_start_without_a_server_is_an_error() -> None:
    with pytest.raises(RemoteUnavailable, match="5 tries") as raised:
        RemoteReranker(f"http://127.0.0.1:{free_port()}", sleep=lambda _: None)
    assert "reranker.url" in raised.value.hint


@pytest.mark.parametrize("factor", [-1.0, 0.0])
def test_a_server_that_ranks_nonsense_above_sense_is_refused(
    make: Make, there: Reader, factor: float
) -> None:
    def lying(answer: dict[str, Any]) -> Any:
        results = [{**each, "score": factor * each["score"]} for each in answer["results"]]
        return {**answer, "results": results}

    there.change = lying
    with pytest.raises(ModelUnavailable, match="nonsense above sense"):
        make()
