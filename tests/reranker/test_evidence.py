"""Which passages of a long document are read."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from longleaf.core.types import PassageText
from longleaf.reranker.evidence import choose, own_tokens


@st.composite
def documents(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    counts = draw(st.lists(st.integers(0, 300), min_size=1, max_size=40))
    ranked = draw(st.lists(st.integers(0, len(counts) - 1), unique=True))
    return counts, ranked


@given(documents(), st.integers(1, 3_000), st.booleans())
def test_what_is_chosen_fits_is_in_order_and_begins_with_the_best(
    document: tuple[list[int], list[int]], limit: int, beside: bool
) -> None:
    counts, ranked = document
    chosen = choose(counts, ranked, limit, beside=beside)
    assert chosen == sorted(set(chosen)) and chosen
    assert sum(counts[place] for place in chosen) <= limit or len(chosen) == 1
    if sum(counts) <= limit:
        assert chosen == list(range(len(counts)))
    elif ranked and counts[ranked[0]] <= limit:
        assert ranked[0] in chosen
    left = limit - sum(counts[place] for place in chosen)
    assert all(counts[n] > left for n in range(len(counts)) if n not in chosen), "room was left"


def test_without_a_limit_everything_is_read() -> None:
    assert choose([5, 5, 5], [2], None, beside=False) == [0, 1, 2]


def test_neighbours_go_before_the_next_best() -> None:
    counts = [10] * 10
    assert choose(counts, [6, 1, 3], 30, beside=False) == [1, 3, 6]
    assert choose(counts, [6, 1, 3], 30, beside=True) == [5, 6, 7]
    assert choose(counts, [0, 9], 30, beside=True) == [0, 1, 9]


def test_one_passage_that_is_too_long_is_read_nevertheless() -> None:
    assert choose([500, 400, 600], [1], 100, beside=True) == [1]


def test_what_passages_share_counts_once() -> None:
    passages = [
        PassageText(0, 0, start, end, None, None, (), tokens, "")
        for start, end, tokens in ((10, 30, 10), (0, 20, 10), (25, 30, 4))
    ]
    assert own_tokens(passages) == [5, 10, 0]
