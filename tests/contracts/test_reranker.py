"""What every Reranker promises, over all of them (core.protocols.Reranker)."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import pytest
from tests.remote.longleaf import reading_for_others, sensible_cross_encoder
from tests.remote.rerankers import RerankServer
from tests.remote.servers import served
from tests.reranker.qwen3.models import frozen_reranker
from tests.reranker.tiny import (
    StoredTokens,
    TickingClock,
    build_cross_encoder,
    library,
    one_torch_thread,
    query_of,
)

from longleaf.core.budget import Budget
from longleaf.core.errors import ModelUnavailable
from longleaf.core.protocols import DistantReranker, QueuedReranker, Reranker
from longleaf.core.types import Reading, ReadingInput
from longleaf.reranker.crossencoder import CrossEncoderReranker
from longleaf.reranker.late import LateInteraction
from longleaf.reranker.maxsim import Arithmetic
from longleaf.reranker.remote import RemoteReranker
from longleaf.reranker.services.dialects import SERVICES
from longleaf.reranker.services.reader import ServiceReranker

QUERY = query_of("patent licence court")
STORE = StoredTokens()
INPUTS = library(100, STORE)


def _late(tmp_path_factory: pytest.TempPathFactory) -> Reranker:
    return LateInteraction(STORE)


def _late_float(tmp_path_factory: pytest.TempPathFactory) -> Reranker:
    return LateInteraction(STORE, arithmetic=Arithmetic("float32", "test"), read_title=False)


def _cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Reranker:
    folder = tmp_path_factory.mktemp("cross-encoder")
    return CrossEncoderReranker(build_cross_encoder(folder), device="cpu")


def _qwen3(tmp_path_factory: pytest.TempPathFactory) -> Reranker:
    return frozen_reranker(tmp_path_factory.mktemp("qwen3"))


@contextmanager
def _remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reranker]:
    """A real server on loopback that reads with a CrossEncoder. Its clock is a real one, so a
    virtual deadline here must leave it time."""
    model = sensible_cross_encoder(tmp_path_factory.mktemp("cross-encoder"))
    there = CrossEncoderReranker(model, device="cpu")
    with reading_for_others(tmp_path_factory.mktemp("home"), there) as url:
        yield RemoteReranker(url, least_ms=60_000.0)


@contextmanager
def _service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reranker]:
    with served(RerankServer("vllm-qwen3")) as server:
        service = SERVICES["vllm-qwen3"]
        yield ServiceReranker(server.url, service, request_documents=16, least_ms=60_000.0)


@pytest.fixture(
    scope="module", params=[_late, _late_float, _cross_encoder, _qwen3, _remote, _service]
)
def reranker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Reranker]:
    make: Callable[[pytest.TempPathFactory], Any] = request.param
    with one_torch_thread(), ExitStack() as opened:
        made = make(tmp_path_factory)
        if not isinstance(made, Reranker):
            made = opened.enter_context(made)
        yield made
        if isinstance(made, QueuedReranker | DistantReranker):
            made.close()


def read(
    reranker: Reranker, inputs: list[ReadingInput], budget: Budget | None = None
) -> dict[int, Reading]:
    """Readings by rank; none twice."""
    readings = list(reranker.read(QUERY, inputs, budget or Budget()))
    by_rank = {reading.rank: reading for reading in readings}
    assert len(by_rank) == len(readings)
    return by_rank


@pytest.fixture(scope="module")
def whole(reranker: Reranker) -> dict[int, Reading]:
    """What an unlimited reading of all inputs gives."""
    return read(reranker, INPUTS)


def test_is_a_reranker(reranker: Reranker) -> None:
    assert isinstance(reranker, Reranker)
    assert reranker.name
    assert reranker.fingerprint


def test_nothing_gives_nothing(reranker: Reranker) -> None:
    assert read(reranker, []) == {}


def test_every_candidate_is_read_and_none_invented(whole: dict[int, Reading]) -> None:
    assert whole.keys() == {item.rank for item in INPUTS}
    # Scores that are all alike would make the other tests empty.
    assert len({reading.score for reading in whole.values()}) > 25


def test_a_score_is_its_best_passage(whole: dict[int, Reading]) -> None:
    for item in INPUTS:
        reading = whole[item.rank]
        assert [point for point, _ in reading.passage_scores] == [
            passage.point_id for passage in item.passages
        ]
        assert reading.score == max(score for _, score in reading.passage_scores)


def test_tokens_are_counted_honestly(reranker: Reranker) -> None:
    budget = Budget()
    readings = read(reranker, INPUTS, budget)
    for item in INPUTS:
        reading = readings[item.rank]
        assert 0 < reading.tokens_read <= reading.tokens_total == item.document_tokens
        assert reading.tokens_read + reading.truncated_tokens == item.document_tokens
    assert budget.tokens_used == sum(reading.tokens_read for reading in readings.values())


@pytest.mark.parametrize("beside", [0, 1, 20])
def test_a_score_does_not_depend_on_its_neighbours(
    reranker: Reranker, whole: dict[int, Reading], beside: int
) -> None:
    for item in INPUTS[:5]:
        others = [other for other in INPUTS if other is not item][:beside]
        assert read(reranker, [*others, item])[item.rank] == whole[item.rank]


def test_order_of_inputs_does_not_matter(reranker: Reranker, whole: dict[int, Reading]) -> None:
    shuffled = random.Random(3).sample(INPUTS, len(INPUTS))
    assert read(reranker, shuffled) == whole


def test_deadline_is_obeyed(reranker: Reranker, whole: dict[int, Reading]) -> None:
    counts = []
    for deadline_ms in (0.0, 2.5, 5.5, 40.5, None):
        budget = Budget(deadline_ms=deadline_ms, clock=TickingClock(tick_ms=1.0))
        readings = read(reranker, INPUTS, budget)
        assert readings.items() <= whole.items()
        counts.append(len(readings))
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert 0 < counts[2] < len(INPUTS)
    assert counts[-1] == len(INPUTS)


def test_token_budget_is_obeyed(reranker: Reranker) -> None:
    largest = max(item.document_tokens for item in INPUTS)
    for max_tokens in (0, 1, 100, 500):
        budget = Budget(max_tokens=max_tokens)
        readings = read(reranker, INPUTS, budget)
        assert bool(readings) or max_tokens < largest
        # One unit may go over, and a unit is small.
        assert budget.tokens_used < max_tokens + largest
        assert len(readings) < len(INPUTS)


def test_instruction_flag_says_the_truth(reranker: Reranker, whole: dict[int, Reading]) -> None:
    told = query_of(QUERY.text, instruction="find cases on leases")
    for reading in reranker.read(told, INPUTS[:5], Budget()):
        same = reading.score == whole[reading.rank].score
        assert same != reranker.takes_instruction
        assert same == (reading == whole[reading.rank])


def test_threads_get_the_same_readings(reranker: Reranker, whole: dict[int, Reading]) -> None:
    expected = {rank: whole[rank] for rank in range(1, 13)}
    with ThreadPoolExecutor(4) as pool:
        for readings in pool.map(lambda _: read(reranker, INPUTS[:12]), range(8)):
            assert readings == expected


def test_what_has_a_queue_counts_what_it_does_and_ends_when_closed(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    made = _qwen3(tmp_path_factory)
    assert isinstance(made, QueuedReranker) and made.failure is None
    readings = read(made, INPUTS[:9])
    load = made.load()
    assert load.documents == sum(len(item.passages) for item in INPUTS[:9]) == load.passes
    assert load.requests == 1 and load.waiting_requests == load.waiting_tokens == 0
    assert load.tokens > sum(reading.tokens_read for reading in readings.values())
    assert load.tokenize_seconds > 0
    made.close()
    made.close()
    assert made.failure is not None
    with pytest.raises(ModelUnavailable):
        read(made, INPUTS[:1])


def test_the_others_have_none(tmp_path_factory: pytest.TempPathFactory) -> None:
    for make in (_late, _cross_encoder):
        assert not isinstance(make(tmp_path_factory), QueuedReranker)


def whole_of(item: ReadingInput) -> ReadingInput:
    return replace(item, depth="document")


def test_whole_documents_are_read_and_told_so(
    reranker: Reranker, whole: dict[int, Reading]
) -> None:
    """The candidates here are their documents: the passages are all there is."""
    readings = read(reranker, [whole_of(item) for item in INPUTS[:40]])
    assert readings.keys() == {item.rank for item in INPUTS[:40]}
    for item in INPUTS[:40]:
        reading = readings[item.rank]
        assert reading.depth == "document"
        assert reading.tokens_read + reading.truncated_tokens == item.document_tokens
        if len(item.passages) == 1:
            # To the bit: the same words in the same form.
            assert reading.score == pytest.approx(whole[item.rank].score, abs=1e-6)
    several = [item.rank for item in INPUTS[:40] if len(item.passages) > 1]
    if "cross-encoder" not in reranker.name:  # whose whole is its best passage
        assert any(abs(readings[n].score - whole[n].score) > 1e-6 for n in several)


def test_a_whole_documents_score_does_not_depend_on_its_neighbours(reranker: Reranker) -> None:
    together = read(reranker, [whole_of(item) for item in INPUTS[:12]])
    for item in INPUTS[:12:5]:
        alone = read(reranker, [whole_of(item)])[item.rank]
        assert alone.score == pytest.approx(together[item.rank].score, abs=1e-5)


def test_how_documents_are_read_is_stated(reranker: Reranker) -> None:
    limits = reranker.document_limits
    assert limits.documents is None or limits.documents > 0
    assert limits.tokens is None or limits.tokens > 0
    assert reranker.document_weight >= 0
