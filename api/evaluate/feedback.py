"""Is reranking worth it here? The user's own judgements, asked of the user's own index.

Judgements from use are few and of what was shown: documents that nobody judged are therefore left
out of the rankings (`judged_only`), which favours no stage for having been looked at, and the
verdict counts on randomisation, which holds for few queries as well. Other than an evaluation of a
test collection it opens the live index, so no server may have it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from longleaf.api.evaluate.beir import GoldSpan
from longleaf.api.evaluate.metrics import differences, sign_flip_p
from longleaf.api.evaluate.report import EvalReport, Table
from longleaf.api.judging import judged
from longleaf.core.catalog.judgements import Judgement
from longleaf.core.errors import InvalidRequest

WORTH = ("final", "fused")
MEASURE = "ndcg@10"
LEAST_QUERIES = 6
"""With n queries that all point one way p is 2 / 2**n, which is below 0.05 from here on."""
FEW_QUERIES = 20
_SHOWN = 5
_CLEAR = 0.05
_QUERY_CHARS = 60


@dataclass(frozen=True, slots=True)
class FeedbackQueries:
    """Implements `run.JudgedQueries`. Documents are named by key: they are of one collection."""

    name: str
    queries: Mapping[str, str]
    qrels: Mapping[str, Mapping[str, int]]
    counts: Mapping[str, int]
    notes: tuple[str, ...]
    split: str = "feedback"
    gold: Mapping[str, tuple[GoldSpan, ...]] = field(default_factory=dict)


def feedback_queries(
    collection: str,
    judgements: Sequence[Judgement],
    relevant_from: int = 1,
    *,
    judged_only: bool = True,
) -> FeedbackQueries:
    """The queries that can tell stages apart: those with a relevant document, and with
    `judged_only` another one that is less so."""
    found = judged(judgements, by_key=True)
    telling = {
        query_id: grades
        for query_id, grades in found.qrels.items()
        if max(grades.values()) >= relevant_from
        and (not judged_only or len(set(grades.values())) > 1)
    }
    alike = len(found.qrels) - len(telling)
    if judged_only:
        notes = [
            "only judged documents were ranked: what nobody has looked at counts neither for nor "
            "against a stage"
        ]
    else:
        notes = [
            "what nobody has judged counts as not relevant: that favours the stage whose answers "
            "were judged"
        ]
    if alike:
        same = "all their documents have the same grade, or " if judged_only else ""
        notes.append(
            f"{alike} judged queries were not asked: {same}none of their documents has "
            f"{relevant_from} or more, so that every order of them is as good"
        )
    return FeedbackQueries(
        name=collection,
        queries={query_id: found.queries[query_id] for query_id in telling},
        qrels=telling,
        counts={
            "judgements": len(judgements),
            "judges": len({each.judge for each in judgements}),
            "queries": len(telling),
            "queries_all_alike": alike,
        },
        notes=tuple(notes),
    )


def nothing_tells(collection: str) -> InvalidRequest:
    """What is said where no judged query can tell stages apart."""
    return InvalidRequest(
        f"No judged query of {collection!r} tells stages apart: each needs a relevant document "
        "and one with another grade.",
        "Judge more of what a search shows, good and bad; or count what nobody judged as wrong "
        "(--unjudged wrong), where only what is relevant was judged.",
    )


@dataclass(frozen=True, slots=True)
class Standing:
    """What was judged in a collection, and what is missing for a verdict (as a sentence; "": no
    more). `telling`: queries that can tell stages apart. `one_sided`: queries that could, with one
    more judgement, and whether that would be a good answer."""

    collection: str
    judgements: int
    judges: int
    queries: int
    telling: int
    one_sided: tuple[tuple[str, bool], ...]
    missing: str


def standing(collection: str, judgements: Sequence[Judgement]) -> Standing:
    """How far the judgements of a collection are from a verdict."""
    found = judged(judgements, by_key=True)
    one_sided, telling = [], 0
    for query_id, grades in found.qrels.items():
        if max(grades.values()) < 1:
            one_sided.append((found.queries[query_id], True))
        elif len(set(grades.values())) == 1:
            one_sided.append((found.queries[query_id], False))
        else:
            telling += 1
    return Standing(
        collection=collection,
        judgements=len(judgements),
        judges=len({each.judge for each in judgements}),
        queries=len(found.queries),
        telling=telling,
        one_sided=tuple(one_sided),
        missing=_missing(len(found.queries), telling),
    )


def _missing(queries: int, telling: int) -> str:
    if not queries:
        return (
            "Nothing has been judged here yet: search, and press a thumb at answers, good ones and "
            "bad ones."
        )
    if telling < LEAST_QUERIES:
        return (
            f"{telling} of {queries:,} judged {'query has' if queries == 1 else 'queries have'} a "
            f"good answer and a worse one. A verdict needs {LEAST_QUERIES} such queries at least: "
            "with fewer, even a stage that wins all of them may have done so by chance."
        )
    if telling < FEW_QUERIES:
        return (
            f"{telling} queries can tell stages apart. That shows a large difference only: below "
            f"{FEW_QUERIES} the intervals are too narrow."
        )
    return ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the second stage wins over the first (nDCG@10) and costs (p50 of a search).

    `p`: how often as much comes about by chance. `words`: the same as a sentence.
    """

    difference: float
    p: float
    cost_ms: float
    is_clear: bool
    words: str


def verdict(report: EvalReport) -> Verdict | None:
    """Whether the second stage is worth it; None where there is none."""
    stage, over = WORTH
    if stage not in report.values or over not in report.values:
        return None
    unread = max((n for why, n in report.degraded.items() if why.startswith("rerank")), default=0)
    gaps = list(differences(report.values, stage, over, MEASURE).values())
    mean = sum(gaps) / len(gaps)
    p = sign_flip_p(gaps)
    times = [report.stages[name].p50_ms or 0.0 for name in WORTH]
    cost_ms = times[0] - times[1]
    won = sum(gap > 0 for gap in gaps)
    lost = sum(gap < 0 for gap in gaps)
    said = (
        f"nDCG@10 {mean:+.3f} over the first stage on {len(gaps)} queries ({won} won, {lost} lost, "
        f"p = {p:.3f}), for {cost_ms:.0f} ms more a search (p50)."
    )
    if unread:
        said += f" On {unread:,} of them reading failed or was cut short (see degraded)."
    if unread >= len(gaps):
        words = f"Whether reranking is worth it here cannot be told, it did not work: {said}"
        return Verdict(mean, p, cost_ms, False, words)
    if p > _CLEAR:
        needed = _queries_needed(gaps)
        more = f" About {needed:,} would tell a difference of this size." if needed else ""
        words = f"Whether reranking is worth it here cannot be told yet: {said}{more}"
    elif mean > 0:
        words = f"Reranking is worth it here: {said}"
    else:
        words = f"Reranking makes it worse here: {said} Turn it off with reranker.kind none."
    return Verdict(mean, p, cost_ms, p <= _CLEAR, words)


def _queries_needed(gaps: Sequence[float]) -> int | None:
    """For a power of 0.8 at 0.05, as a paired t-test counts (n = (1.96 + 0.84)² s² / d²)."""
    mean = sum(gaps) / len(gaps)
    if len(gaps) < 2 or not mean:
        return None
    variance = sum((gap - mean) ** 2 for gap in gaps) / (len(gaps) - 1)
    needed = math.ceil((1.96 + 0.84) ** 2 * variance / mean**2)
    return needed if len(gaps) < needed <= 100_000 else None


def query_table(report: EvalReport, most: int = _SHOWN) -> Table | None:
    """The queries that the second stage helped most and hurt most; None where it did neither."""
    stage, over = WORTH
    if stage not in report.values or over not in report.values:
        return None
    gaps = differences(report.values, stage, over, MEASURE)
    ordered = sorted(gaps, key=lambda query_id: -gaps[query_id])
    helped = [query_id for query_id in ordered[:most] if gaps[query_id] > 0]
    hurt = [query_id for query_id in ordered[-most:] if gaps[query_id] < 0]
    if not helped and not hurt:
        return None
    rows = tuple(
        (
            _short(report.texts[query_id]),
            f"{report.values[over][MEASURE][query_id]:.3f}",
            f"{report.values[stage][MEASURE][query_id]:.3f}",
            f"{gaps[query_id]:+.3f}",
        )
        for query_id in (*helped, *hurt)
    )
    columns = ("query", over, stage, "difference")
    return Table("Queries that reading helped most and hurt most (nDCG@10)", columns, rows)


def _short(text: str) -> str:
    return text if len(text) <= _QUERY_CHARS else text[: _QUERY_CHARS - 1] + "…"


def to_json(report: EvalReport) -> dict[str, Any]:
    """The verdict, and every query with its value at each stage."""
    told = verdict(report)
    return {
        "verdict": None
        if told is None
        else {
            "difference": told.difference,
            "p": told.p,
            "cost_ms": told.cost_ms,
            "is_clear": told.is_clear,
            "words": told.words,
        },
        "by_query": [
            {"query": text}
            | {stage: values[MEASURE][query_id] for stage, values in report.values.items()}
            for query_id, text in report.texts.items()
        ],
    }
