"""`late` over given texts gives what it gives over the same stored ones, and minds the budget."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from tests.reranker.tiny import (
    DIM,
    StoredTokens,
    TickingClock,
    library,
    query_of,
    reading_input,
    word_codes,
)

from longleaf.core.budget import Budget
from longleaf.core.protocols import Reranker
from longleaf.core.types import EmbedInput, PassageVectors, QueryVectors, Reading, ReadingInput
from longleaf.reranker.late import LateInteraction
from longleaf.reranker.late_texts import LateOfTexts

STORE = StoredTokens()
INPUTS = library(40, STORE, seed=4)
QUERY = query_of("patent licence court")


class WordEmbedder:
    """A vector for each word; at most `most_words` of a text."""

    fingerprint = "words"
    name = "words"
    dim = token_dim = DIM
    languages: frozenset[str] | None = None
    takes_instruction = False

    def __init__(self) -> None:
        self.passages = 0
        self.most_words = 1_000

    def embed_passages(self, inputs: Iterable[EmbedInput]) -> Iterator[PassageVectors]:
        for item in inputs:
            self.passages += 1
            prefix = item.prefix if item.keep_prefix else ""
            words = item.text[item.overlap_chars :].split()
            kept = " ".join(words[: self.most_words])
            yield PassageVectors(
                np.zeros(DIM, np.float32),
                word_codes(f"{prefix} {kept}"),
                len(prefix.split()),
                max(0, len(words) - self.most_words),
            )

    def embed_query(self, text: str, instruction: str | None = None) -> QueryVectors:
        vectors = query_of(text).vectors
        assert vectors is not None
        return vectors


@pytest.fixture
def embedder() -> WordEmbedder:
    return WordEmbedder()


@pytest.fixture
def reader(embedder: WordEmbedder) -> LateOfTexts:
    return LateOfTexts(LateInteraction(STORE, min_score=0.5, first_stage_weight=1.5), embedder)


def read(
    reader: Reranker, inputs: list[ReadingInput], budget: Budget | None = None
) -> dict[int, Reading]:
    return {each.rank: each for each in reader.read(QUERY, inputs, budget or Budget())}


def test_it_is_late_in_all_but_where_vectors_come_from(reader: LateOfTexts) -> None:
    assert isinstance(reader, Reranker) and reader.reads_text
    assert reader.fingerprint == "late/1 title=1 words"
    assert (reader.name, reader.min_score, reader.first_stage_weight) == ("late", 0.5, 1.5)
    assert reader.document_limits == LateInteraction.document_limits


@pytest.mark.parametrize("depth", ["passage", "document"])
def test_readings_are_those_of_stored_vectors(reader: LateOfTexts, depth: str) -> None:
    inputs = [replace(item, depth=depth) for item in INPUTS]  # type: ignore[arg-type]
    stored = read(LateInteraction(STORE), inputs)
    assert read(reader, inputs) == stored
    assert len({each.score for each in stored.values()}) > 8


def test_a_query_without_vectors_is_embedded_here(reader: LateOfTexts) -> None:
    bare = replace(QUERY, vectors=None)
    found = {each.rank: each for each in reader.read(bare, INPUTS, Budget())}
    assert found == read(reader, INPUTS)


def test_a_deadline_ends_it_between_units(reader: LateOfTexts, embedder: WordEmbedder) -> None:
    long = [reading_input(rank, ["word " * 1_500]) for rank in range(1, 11)]
    found = read(reader, long, Budget(deadline_ms=3.5, clock=TickingClock(1.0)))
    assert 0 < len(found) < 10
    assert embedder.passages == len(found)
    before = embedder.passages
    assert read(reader, long, Budget(deadline_ms=0.0, clock=TickingClock(1.0))) == {}
    assert embedder.passages == before


def test_a_document_whose_end_comes_too_late_stays_unread(
    reader: LateOfTexts, embedder: WordEmbedder
) -> None:
    short, long = reading_input(1, ["patent"]), reading_input(2, ["word " * 90] * 1_000)
    found = read(reader, [short, long], Budget(deadline_ms=50.5, clock=TickingClock(1.0)))
    assert found.keys() == {1}
    assert embedder.passages < 60


def test_a_token_budget_embeds_no_more_than_it_pays_for(
    reader: LateOfTexts, embedder: WordEmbedder
) -> None:
    budget = Budget(max_tokens=30)
    found = read(reader, INPUTS, budget)
    largest = max(item.document_tokens for item in INPUTS)
    assert 30 <= budget.tokens_used < 30 + largest
    assert embedder.passages == sum(len(INPUTS[rank - 1].passages) for rank in found)


def test_what_the_embedder_cuts_is_told(reader: LateOfTexts, embedder: WordEmbedder) -> None:
    embedder.most_words = 5
    found = read(reader, [reading_input(1, ["patent " * 9, "court " * 3])])
    assert (found[1].tokens_read, found[1].truncated_tokens) == (8, 4)


def test_a_text_without_tokens_stays_unread(reader: LateOfTexts) -> None:
    inputs = [reading_input(1, ["  "], "A title"), reading_input(2, ["court"])]
    assert read(reader, inputs).keys() == {2}
    assert read(reader, inputs[:1]) == {}


def test_a_longer_overlap_is_not_embedded_twice(reader: LateOfTexts) -> None:
    item = reading_input(1, ["patent court", "court licence"])
    second = replace(item.passages[1], overlap_chars=6)
    found = read(reader, [replace(item, passages=(item.passages[0], second))])
    assert found[1].tokens_read == 3
