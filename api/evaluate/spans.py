"""How much of the right text comes back: recall and precision of returned characters.

The definition. A stage returns passages in rank order. They are taken until `budget` characters are
reached, the last one cut to fit. Then, for one query,

    recall    = gold characters returned / gold characters
    precision = gold characters returned / characters returned

Overlapping gold spans are merged, and a gold character counts once however often it is returned.
A character returned twice (overlapping passages) spends the budget twice and lowers precision,
because the reader reads it twice. A stage that returns nothing scores 0 on both; one that returns
less than the budget is measured on what it returned. Queries without gold are not measured here.
Figures are means over queries. Positions alone count; scores and texts are not looked at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from longleaf.core.errors import InvalidRequest

BUDGETS_CHARS = (500, 2_000, 5_000)


@dataclass(frozen=True, slots=True)
class RankedSpan:
    """A returned passage: characters `[start_char, end_char)` of `Document.text`."""

    document_key: str
    start_char: int
    end_char: int
    score: float


@dataclass(frozen=True, slots=True)
class SpanScore:
    """One query at one budget, in characters."""

    budget_chars: int
    gold_chars: int
    returned_chars: int
    found_chars: int

    @property
    def recall(self) -> float:
        return self.found_chars / self.gold_chars if self.gold_chars else 0.0

    @property
    def precision(self) -> float:
        return self.found_chars / self.returned_chars if self.returned_chars else 0.0


def merge(intervals: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Disjoint, sorted intervals that cover the same characters; touching ones are joined."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def cut_to_budget(ranked: Iterable[RankedSpan], budget_chars: int) -> list[tuple[str, int, int]]:
    """(document key, start, end) of the first `budget_chars` characters in rank order."""
    taken: list[tuple[str, int, int]] = []
    left = budget_chars
    for span in ranked:
        if not 0 <= span.start_char < span.end_char:
            raise InvalidRequest(f"A returned passage is no character span: {span}.")
        if left <= 0:
            break
        end = min(span.end_char, span.start_char + left)
        taken.append((span.document_key, span.start_char, end))
        left -= end - span.start_char
    return taken


def score_spans(
    gold: Iterable[tuple[str, int, int]],
    ranked: Sequence[RankedSpan],
    budgets_chars: Sequence[int] = BUDGETS_CHARS,
) -> tuple[SpanScore, ...]:
    """One `SpanScore` for each budget; `gold` is (document key, start, end), possibly overlapping.

    Raises `InvalidRequest` for an empty or backward returned span.
    """
    wanted = _by_document(gold)
    gold_chars = sum(end - start for spans in wanted.values() for start, end in spans)
    scores = []
    for budget_chars in budgets_chars:
        taken = cut_to_budget(ranked, budget_chars)
        returned = _by_document(taken)
        found = sum(_common_chars(spans, returned.get(key, [])) for key, spans in wanted.items())
        returned_chars = sum(end - start for _, start, end in taken)
        scores.append(SpanScore(budget_chars, gold_chars, returned_chars, found))
    return tuple(scores)


def span_measures(
    gold: Mapping[str, Sequence[tuple[str, int, int]]],
    passages: Mapping[str, Sequence[RankedSpan]],
    budgets_chars: Sequence[int] = BUDGETS_CHARS,
) -> dict[str, dict[str, float]]:
    """Name ("span_recall@500" and the like) to query id to value, for every query of `gold`."""
    values: dict[str, dict[str, float]] = defaultdict(dict)
    for query_id, spans in gold.items():
        for score in score_spans(spans, passages.get(query_id, ()), budgets_chars):
            values[f"span_recall@{score.budget_chars}"][query_id] = score.recall
            values[f"span_precision@{score.budget_chars}"][query_id] = score.precision
    return dict(values)


def _by_document(spans: Iterable[tuple[str, int, int]]) -> dict[str, list[tuple[int, int]]]:
    by_document: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for key, start, end in spans:
        by_document[key].append((start, end))
    return {key: merge(intervals) for key, intervals in by_document.items()}


def _common_chars(left: Sequence[tuple[int, int]], right: Sequence[tuple[int, int]]) -> int:
    """Characters in both of two sorted, disjoint lists; linear in their lengths."""
    common = i = j = 0
    while i < len(left) and j < len(right):
        common += max(0, min(left[i][1], right[j][1]) - max(left[i][0], right[j][0]))
        if left[i][1] <= right[j][1]:
            i += 1
        else:
            j += 1
    return common
