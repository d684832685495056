"""`late`: what it reads, what it leaves, and what it says when it cannot."""

from __future__ import annotations

import logging
from collections.abc import Sequence

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
from longleaf.core.errors import GenerationMismatch, LongleafError
from longleaf.core.protocols import ReaderQuery
from longleaf.core.types import QueryVectors
from longleaf.reranker import maxsim
from longleaf.reranker.late import LateInteraction

QUERY = query_of("patent licence court")


def test_equals_the_obvious_maxsim() -> None:
    store = StoredTokens()
    inputs = library(20, store)
    assert QUERY.vectors is not None
    for reading in LateInteraction(store).read(QUERY, inputs, Budget()):
        item = inputs[reading.rank - 1]
        expected = [
            maxsim.maxsim(word_codes(f"{item.title} {passage.text}"), QUERY.vectors.tokens)
            for passage in item.passages
        ]
        assert [score for _, score in reading.passage_scores] == pytest.approx(expected, abs=5e-3)
        assert reading.score == pytest.approx(max(expected), abs=5e-3)
        assert reading.depth == "passage"


def test_title_lifts_a_passage_that_does_not_hold_it() -> None:
    store = StoredTokens()
    item = reading_input(1, ["gene cell", "protein tenant"], title="patent", store=store)
    later_only = reading_input(1, ["gene cell", "protein tenant"], title="patent")
    later_only = type(item)(
        rank=1,
        title=item.title,
        document_tokens=4,
        first_passage_id=item.first_passage_id,
        passages=item.passages[1:],  # the first passage, which stores the title, is no candidate
    )
    query = query_of("patent")
    (read_title,) = LateInteraction(store).read(query, [later_only], Budget())
    (without,) = LateInteraction(store, read_title=False).read(query, [later_only], Budget())
    assert read_title.score == pytest.approx(1.0, abs=0.02)
    assert without.score < 0.7
    assert read_title.tokens_read == without.tokens_read == 2  # title tokens are not the document's
    (first,) = LateInteraction(store, read_title=False).read(query, [item], Budget())
    assert first.score < 0.7


def test_passages_without_vectors_get_no_score(caplog: pytest.LogCaptureFixture) -> None:
    store = StoredTokens()
    half = reading_input(1, ["court lease", "patent gene"], store=store)
    none = reading_input(2, ["court court"])
    del store.codes[100]
    with caplog.at_level(logging.WARNING):
        (reading,) = LateInteraction(store).read(QUERY, [half, none], Budget())
    assert reading.rank == 1
    assert [point for point, _ in reading.passage_scores] == [half.passages[1].point_id]
    assert reading.tokens_read == 2
    assert "1 of 2 candidates have no stored token vectors" in caplog.text


def test_no_vectors_at_all_is_an_error() -> None:
    inputs = [reading_input(1, ["court"]), reading_input(2, [])]
    with pytest.raises(LongleafError, match="No token vectors are stored"):
        list(LateInteraction(StoredTokens()).read(QUERY, inputs, Budget()))


def test_documents_of_equal_content_share_passages() -> None:
    store = StoredTokens()
    one = reading_input(1, ["court lease"], store=store)
    two = type(one)(2, one.title, one.document_tokens, one.first_passage_id, one.passages)
    first, second = LateInteraction(store).read(QUERY, [one, two], Budget())
    assert (first.rank, second.rank) == (1, 2)
    assert first.score == second.score


@pytest.mark.parametrize(
    ("query", "says"),
    [
        (ReaderQuery("court", None, None), "reranker.kind"),
        (
            ReaderQuery(
                "court",
                None,
                QueryVectors(np.ones(3, np.float32), np.zeros((0, 0), np.float32)),
            ),
            "reranker.kind",
        ),
        (
            ReaderQuery(
                "court",
                None,
                QueryVectors(np.ones(3, np.float32), np.full((2, DIM), np.nan, np.float32)),
            ),
            "not numbers",
        ),
    ],
)
def test_a_query_without_usable_vectors_says_what_to_do(query: ReaderQuery, says: str) -> None:
    store = StoredTokens()
    inputs = library(2, store)
    with pytest.raises(LongleafError) as caught:
        list(LateInteraction(store).read(query, inputs, Budget()))
    assert says in str(caught.value)


def test_another_embedders_vectors_are_refused() -> None:
    store = StoredTokens()
    inputs = library(2, store)
    wide = QueryVectors(np.ones(3, np.float32), np.ones((2, DIM * 2), np.float32))
    with pytest.raises(GenerationMismatch, match="another embedder"):
        list(LateInteraction(store).read(ReaderQuery("court", None, wide), inputs, Budget()))


def test_deadline_exactly() -> None:
    clock = TickingClock()

    class SlowStore(StoredTokens):
        def token_vectors(
            self, passage_ids: Sequence[int]
        ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            clock.now_ms += 10.0
            return super().token_vectors(passage_ids)

    store = SlowStore()
    inputs = library(100, store)
    late = LateInteraction(store)
    # Units of 16 begin at 0, 10 and 20 ms; at 30 ms the deadline has passed.
    ranks = [r.rank for r in late.read(QUERY, inputs, Budget(deadline_ms=25.0, clock=clock))]
    assert ranks == list(range(1, 49))
    # A deadline that falls on the end of a unit is reached.
    ranks = [r.rank for r in late.read(QUERY, inputs, Budget(deadline_ms=20.0, clock=clock))]
    assert ranks == list(range(1, 33))


def test_without_limits_everything_is_fetched_at_once() -> None:
    store = StoredTokens()
    inputs = library(100, store)
    assert len(list(LateInteraction(store).read(QUERY, inputs, Budget()))) == 100
    assert store.calls == 1
