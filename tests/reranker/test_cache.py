"""What is kept of readings, for whom, and that nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reranker.qwen3.models import frozen_reranker
from tests.reranker.tiny import StoredTokens, build_cross_encoder, library, query_of, reading_input

from longleaf.core.budget import Budget
from longleaf.core.protocols import QueuedReranker, ReaderQuery, Reranker
from longleaf.core.types import DocumentLimits, Reading, ReadingInput
from longleaf.reranker.cache import CachedReranker, cached
from longleaf.reranker.crossencoder import CrossEncoderReranker
from longleaf.reranker.late import LateInteraction

QUERY = query_of("patent licence court")


class Counting:
    """A score of all that a reading may depend on; `read_ranks` is what it was asked for."""

    name, fingerprint, takes_instruction, reads_text = "counting", "counting/1", True, True
    first_stage_weight, document_weight = 0.0, 1.0
    min_score: float | None = None
    default_instruction: str | None = None
    document_limits = DocumentLimits(None, None, beside=False)

    def __init__(self) -> None:
        self.read_ranks: list[int] = []

    def read(
        self, query: ReaderQuery, inputs: Sequence[ReadingInput], budget: Budget
    ) -> Iterator[Reading]:
        for item in inputs:
            if budget.spent() is not None:
                return
            self.read_ranks.append(item.rank)
            tokens = sum(passage.token_count for passage in item.passages)
            budget.use(tokens)
            what = (query.text, query.instruction, item.title, item.depth)
            said = [hash((*what, p.text)) % 997 / 7 for p in item.passages]
            points = [passage.point_id for passage in item.passages]
            yield Reading(
                item.rank, max(said), item.depth, tokens, item.document_tokens,
                tuple(zip(points, said, strict=True)),
            )  # fmt: skip


def read(reranker: Reranker, inputs: Sequence[ReadingInput], **options: Any) -> dict[int, Reading]:
    query = options.pop("query", QUERY)
    return {r.rank: r for r in reranker.read(query, inputs, options.pop("budget", Budget()))}


def fresh(readings: dict[int, Reading]) -> dict[int, Reading]:
    return {rank: replace(reading, from_cache=False) for rank, reading in readings.items()}


def test_the_second_time_nothing_is_read_and_the_readings_are_the_same() -> None:
    inner, inputs = Counting(), library(30, StoredTokens())
    kept = CachedReranker(inner, 100)
    first = read(kept, inputs)
    budget = Budget()
    again = read(kept, inputs, budget=budget)
    assert inner.read_ranks == [item.rank for item in inputs]
    assert fresh(again) == first and all(reading.from_cache for reading in again.values())
    assert budget.tokens_used == 0


def test_the_same_passages_at_another_rank_of_another_document_are_known() -> None:
    """Documents of equal content share passages; point ids are the document's own."""
    kept = CachedReranker(Counting(), 100)
    item = reading_input(1, ["court of appeal", "patent"], title="Case")
    other = replace(
        item,
        rank=9,
        passages=tuple(replace(p, point_id=p.point_id + 5_000) for p in item.passages),
    )
    first, second = read(kept, [item])[1], read(kept, [other])[9]
    assert second.from_cache and second.score == first.score
    assert [point for point, _ in second.passage_scores] == [p.point_id for p in other.passages]
    assert [s for _, s in second.passage_scores] == [s for _, s in first.passage_scores]


@pytest.mark.parametrize(
    "change",
    [
        {"title": "Another"}, {"depth": "document"}, {"document_tokens": 99},
        {"query": query_of("lease")}, {"query": query_of(QUERY.text, "find cases")},
        {"passages": 1}, {"passage_id": 777},
    ],
    ids=str,
)  # fmt: skip
def test_whatever_a_reading_depends_on_makes_another(change: dict[str, Any]) -> None:
    inner = Counting()
    kept = CachedReranker(inner, 100)
    item = reading_input(1, ["court of appeal", "patent"], title="Case")
    read(kept, [item])
    query = change.pop("query", QUERY)
    if "passages" in change:
        change = {"passages": item.passages[:1]}
    if "passage_id" in change:
        moved = replace(item.passages[0], passage_id=777)
        change = {"passages": (moved, *item.passages[1:])}
    assert not read(kept, [replace(item, **change)], query=query)[1].from_cache
    assert inner.read_ranks == [1, 1]


def test_it_is_bounded_and_the_least_used_goes_first() -> None:
    kept = CachedReranker(Counting(), 3)
    items = [reading_input(rank, [f"text {rank}"]) for rank in range(1, 5)]
    read(kept, items[:3])
    read(kept, items[:1])
    read(kept, items[3:])
    assert kept.kept_count == 3
    found = read(kept, [items[0], items[2], items[3]])
    assert all(reading.from_cache for reading in found.values())
    assert not read(kept, [items[1]])[2].from_cache


def test_a_budget_that_is_gone_gives_nothing_and_what_is_known_comes_before_what_is_not() -> None:
    inner = Counting()
    kept = CachedReranker(inner, 100)
    items = [reading_input(rank, [f"text {rank}"]) for rank in range(1, 5)]
    read(kept, items[2:])
    assert read(kept, items, budget=Budget(deadline_ms=0.0)) == {}
    found = read(kept, items, budget=Budget(max_tokens=1))
    assert set(found) == {3, 4, 1}, "one unit of what had to be read"


def test_a_reader_that_breaks_the_contract_is_seen_and_not_kept() -> None:
    class Broken(Counting):
        def read(
            self, query: ReaderQuery, inputs: Sequence[ReadingInput], budget: Budget
        ) -> Iterator[Reading]:
            yield Reading(1, 1.0, "passage", 1, 1, ((424242, 1.0),))
            yield Reading(77, 1.0, "passage", 1, 1)

    kept = CachedReranker(Broken(), 100)
    assert set(read(kept, [reading_input(1, ["x"])])) == {1, 77}
    assert kept.kept_count == 0


@settings(deadline=None, max_examples=30)
@given(
    asked=st.lists(
        st.tuples(st.sampled_from(["court", "lease"]), st.lists(st.integers(1, 8), unique=True)),
        max_size=6,
    ),
    most=st.integers(1, 6),
)
def test_no_reading_differs_from_the_readers_own(
    asked: list[tuple[str, list[int]]], most: int
) -> None:
    items = {rank: reading_input(rank, [f"text {rank}", "more"]) for rank in range(1, 9)}
    kept = CachedReranker(Counting(), most)
    for words, ranks in asked:
        inputs = [items[rank] for rank in ranks]
        found = read(kept, inputs, query=query_of(words))
        assert fresh(found) == read(Counting(), inputs, query=query_of(words))
        assert kept.kept_count <= most


def test_real_rerankers_are_wrapped_where_it_pays(tmp_path: Path) -> None:
    late = LateInteraction(StoredTokens())
    assert cached(late, 100) is late
    cross = CrossEncoderReranker(build_cross_encoder(tmp_path / "c"), device="cpu")
    assert cached(cross, 0) is cross
    kept, inputs = cached(cross, 100), library(6, StoredTokens())
    assert isinstance(kept, Reranker) and not isinstance(kept, QueuedReranker)
    assert kept, "an empty one is a reranker too"
    first = read(kept, inputs)
    assert fresh(read(kept, inputs)) == first == read(cross, inputs)


def test_a_reranker_with_a_queue_keeps_it(tmp_path: Path) -> None:
    inner = frozen_reranker(tmp_path)
    kept = cached(inner, 100)
    assert isinstance(kept, QueuedReranker) and kept.failure is None
    inputs = library(4, StoredTokens())
    first = read(kept, inputs)
    assert fresh(read(kept, inputs)) == first
    assert kept.load().documents == sum(len(item.passages) for item in inputs), "read once"
    kept.close()
    assert kept.failure is not None
