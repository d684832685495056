"""Asks an engine every judged query and makes an `EvalReport` of the answers.

Knows the engine only as a `StagedSearch`, so the scoring is tested without a model. Queries run one
after another, in the order of queries.jsonl, after a warm-up that is not counted; a second client
would change the times and nothing else.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Protocol, get_args

from longleaf.api.evaluate.beir import GoldSpan
from longleaf.api.evaluate.metrics import (
    MEASURES,
    Interval,
    Ranking,
    check_ranking,
    condensed,
    differences,
    judged_share,
    paired_intervals,
    percentile_ms,
    score_rankings,
)
from longleaf.api.evaluate.report import Comparison, EvalReport, StageFigures
from longleaf.api.evaluate.spans import BUDGETS_CHARS, RankedSpan, span_measures
from longleaf.api.evaluate.trec import GivenRun
from longleaf.core.errors import InvalidRequest
from longleaf.core.types import DepthChoice

DEPTHS: tuple[DepthChoice, ...] = get_args(DepthChoice)
STAGES = ("given", "bm25", "dense", "fused", "final", *(f"final:{depth}" for depth in DEPTHS))
"""`given` is the first stage of --given-run, whatever made it; the others are the engine's own.
`final` is the whole search as it is set, `final:auto` and so on at that depth (--depth)."""

PAIRS = (
    ("final", "fused"),
    ("final", "bm25"),
    ("final", "dense"),
    ("final", "given"),
    ("fused", "bm25"),
    ("fused", "dense"),
    *((f"final:{depth}", "final:passage") for depth in DEPTHS if depth != "passage"),
    *((f"final:{depth}", "fused") for depth in DEPTHS),
)


def check_depths(asked: str | None) -> tuple[DepthChoice, ...]:
    """What --depth means. Raises InvalidRequest for anything else."""
    if asked is None:
        return ()
    found = tuple(depth for depth in DEPTHS if asked in ("all", depth))
    if not found:
        raise InvalidRequest(f"{asked!r} is no depth.", f"Use all, {', '.join(DEPTHS)}.")
    return found


Progress = Callable[[int, int], None]
"""Called with (queries done, queries in all)."""


@dataclass(frozen=True, slots=True)
class StagedResult:
    """One query's answer at every stage; a stage that did not run is left out.

    `rankings`: stage to (document key, score), best first, each key once; order counts, so scores
    of different models need not be comparable. `passages`: stage to ranked passages, best first.
    `timings_ms`: for a stage, what a search that ends there takes, from the query text on (so
    `final` is the whole search); other names are reported apart. `degraded`: what was missing and
    why; the same words each time, because they are counted.
    """

    rankings: Mapping[str, tuple[tuple[str, float], ...]]
    passages: Mapping[str, tuple[RankedSpan, ...]] = field(default_factory=dict)
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    degraded: tuple[str, ...] = ()


class JudgedQueries(Protocol):
    """What an evaluation asks, and what counts as right.

    `queries`: id to text. `qrels`: query id to document key to grade, the same queries in the same
    order. `gold`: query id to spans that answer it, if any are known. `counts` and `notes` say what
    was read and what was odd.
    """

    @property
    def name(self) -> str: ...
    @property
    def split(self) -> str: ...
    @property
    def queries(self) -> Mapping[str, str]: ...
    @property
    def qrels(self) -> Mapping[str, Mapping[str, int]]: ...
    @property
    def gold(self) -> Mapping[str, tuple[GoldSpan, ...]]: ...
    @property
    def counts(self) -> Mapping[str, int]: ...
    @property
    def notes(self) -> tuple[str, ...]: ...


class StagedSearch(Protocol):
    """The two stages over one collection, with every stage's own ranking.

    Both are deterministic and raise `core.errors` classes. Rankings reach at least 100 documents
    deep where the stage has them (R@100).
    """

    def search(self, query_text: str) -> StagedResult:
        """The full search in the scratch collection."""
        ...

    def rerank_given(self, query_text: str, given: Sequence[tuple[str, float]]) -> StagedResult:
        """The second stage over `given` (document key, score; best first, never empty).

        `rankings["final"]` holds what could be read; keys that the collection lacks are left out.
        """
        ...


@dataclass(frozen=True, slots=True)
class EvalOptions:
    """`relevant_from`: the lowest grade that R@100 and MRR@10 count (TREC DL: 2).

    `settings` is copied into the report: what the engine was. `warm_up_queries` run first,
    uncounted. `judged_only` leaves documents that nobody judged out of the rankings before they are
    scored.
    """

    relevant_from: int = 1
    budgets_chars: tuple[int, ...] = BUDGETS_CHARS
    resamples: int = 10_000
    seed: int = 20
    confidence: float = 0.95
    warm_up_queries: int = 1
    given_run: GivenRun | None = None
    judged_only: bool = False
    settings: Mapping[str, object] = field(default_factory=dict)


@dataclass(slots=True)
class _Answers:
    """Everything the engine said, by stage and then by query id."""

    rankings: dict[str, dict[str, Ranking]]
    passages: dict[str, dict[str, Sequence[RankedSpan]]]
    timings_ms: dict[str, list[float]]
    degraded: Counter[str]
    without_given: int = 0


def evaluate(
    collection: JudgedQueries,
    engine: StagedSearch,
    options: EvalOptions | None = None,
    progress: Progress | None = None,
) -> EvalReport:
    """Run all queries of `collection` and score every stage that answered at least one.

    Raises `InvalidRequest` for a ranking with a document twice or a score that is no number, and
    whatever the engine raises.
    """
    options = options or EvalOptions()
    if any(budget <= 0 for budget in options.budgets_chars):
        raise InvalidRequest("A span budget must be 1 character or more.")
    answers = _ask(collection, engine, options, progress)
    stages = [stage for stage in STAGES if stage in answers.rankings]
    scored: Mapping[str, Mapping[str, Ranking]] = answers.rankings
    if options.judged_only:
        scored = {stage: condensed(answers.rankings[stage], collection.qrels) for stage in stages}
    values = {
        stage: score_rankings(collection.qrels, scored[stage], options.relevant_from)
        for stage in stages
    }
    gold = {
        query_id: [(span.document_key, span.start_char, span.end_char) for span in spans]
        for query_id, spans in collection.gold.items()
    }
    span_values = {
        stage: span_measures(gold, answers.passages[stage], options.budgets_chars)
        for stage in stages
        if gold and stage in answers.passages
    }
    draw = partial(
        paired_intervals,
        pairs=PAIRS,
        resamples=options.resamples,
        seed=options.seed,
        confidence=options.confidence,
    )
    intervals, gaps = draw(values)
    span_intervals, span_gaps = draw(span_values)
    n_queries = len(collection.queries)
    figures = {}
    for stage in stages:
        times = answers.timings_ms.get(stage, [])
        figures[stage] = StageFigures(
            measures={name: intervals[stage, name] for name in MEASURES},
            p50_ms=percentile_ms(times, 50) if times else None,
            p95_ms=percentile_ms(times, 95) if times else None,
            missing_queries=n_queries - len(answers.rankings[stage]),
            judged_share=judged_share(answers.rankings[stage], collection.qrels)
            if options.judged_only
            else None,
            spans={
                budget: {
                    what: span_intervals[stage, f"span_{what}@{budget}"]
                    for what in ("recall", "precision")
                }
                for budget in options.budgets_chars
                if stage in span_values
            },
        )
    comparisons = tuple(
        Comparison(*names, gap, *_won_and_lost(values, *names))
        for names, gap in (gaps | span_gaps).items()
    )
    return EvalReport(
        collection=collection.name,
        split=collection.split,
        queries=n_queries,
        span_queries=len(collection.gold) if span_values else 0,
        stages=figures,
        comparisons=comparisons,
        other_timings={
            name: (percentile_ms(times, 50), percentile_ms(times, 95))
            for name, times in answers.timings_ms.items()
            if name not in STAGES
        },
        degraded=dict(answers.degraded.most_common()),
        counts=collection.counts,
        notes=(
            *collection.notes,
            *_given_notes(options.given_run, answers.without_given),
            *_figure_notes(collection, figures, options.relevant_from),
            *_where_final_is_not_best(intervals | span_intervals, comparisons),
        ),
        settings=_settings(options),
        rankings={stage: answers.rankings[stage] for stage in stages},
        values=values,
        texts=dict(collection.queries),
    )


def _won_and_lost(
    values: Mapping[str, Mapping[str, Mapping[str, float]]], stage: str, over: str, measure: str
) -> tuple[int, int] | tuple[()]:
    """On how many queries `stage` is better, and worse; nothing for measures of spans."""
    if measure not in MEASURES:
        return ()
    gaps = differences(values, stage, over, measure).values()
    return sum(gap > 0 for gap in gaps), sum(gap < 0 for gap in gaps)


def _ask(
    collection: JudgedQueries,
    engine: StagedSearch,
    options: EvalOptions,
    progress: Progress | None,
) -> _Answers:
    given = None if options.given_run is None else options.given_run.rankings
    answers = _Answers(defaultdict(dict), defaultdict(dict), defaultdict(list), Counter())

    def ask(query_id: str, text: str) -> StagedResult | None:
        if given is None:
            return engine.search(text)
        return engine.rerank_given(text, given[query_id]) if given.get(query_id) else None

    for query_id, text in islice(collection.queries.items(), options.warm_up_queries):
        ask(query_id, text)
    for done, (query_id, text) in enumerate(collection.queries.items(), start=1):
        result = ask(query_id, text)
        if given is not None and query_id in given:
            answers.rankings["given"][query_id] = given[query_id]
        if result is None:
            answers.without_given += 1
        else:
            _keep(answers, query_id, result)
        if progress is not None:
            progress(done, len(collection.queries))
    return answers


def _keep(answers: _Answers, query_id: str, result: StagedResult) -> None:
    for stage, ranking in result.rankings.items():
        if stage not in STAGES:
            raise InvalidRequest(f"{stage!r} is no stage.", f"Stages: {', '.join(STAGES)}.")
        check_ranking(ranking, f"The {stage} ranking of query {query_id}")
        answers.rankings[stage][query_id] = ranking
    for stage, passages in result.passages.items():
        if stage not in result.rankings:
            raise InvalidRequest(f"Query {query_id} has {stage} passages but no {stage} ranking.")
        answers.passages[stage][query_id] = passages
    for name, milliseconds in result.timings_ms.items():
        answers.timings_ms[name].append(milliseconds)
    answers.degraded.update(list(dict.fromkeys(result.degraded)))


def _given_notes(given: GivenRun | None, without_given: int) -> Iterable[str]:
    if given is None:
        return
    yield from given.notes
    if without_given:
        yield f"given run: {without_given} evaluated queries are not in it: counted as 0"


def _figure_notes(
    collection: JudgedQueries, figures: Mapping[str, StageFigures], relevant_from: int
) -> Iterable[str]:
    bare = sum(
        all(grade < relevant_from for grade in grades.values())
        for grades in collection.qrels.values()
    )
    if bare:
        yield f"{bare} queries have no judgement >= {relevant_from}: 0 in R@100 and MRR@10"
    if len(collection.queries) < 20:
        yield f"only {len(collection.queries)} queries: the intervals are too narrow"
    for stage, figure in figures.items():
        if figure.missing_queries:
            yield f"{stage}: no ranking for {figure.missing_queries} queries: counted as 0"


def _where_final_is_not_best(
    intervals: Mapping[tuple[str, str], Interval], comparisons: Iterable[Comparison]
) -> Iterable[str]:
    gaps = {(c.over, c.measure): c for c in comparisons if c.stage == "final"}
    for (stage, measure), interval in intervals.items():
        if stage != "final":
            continue
        # Other depths are the same search differently asked: they have comparisons of their own.
        rivals = {
            s: i.mean
            for (s, m), i in intervals.items()
            if m == measure and not s.startswith("final")
        }
        best = max(rivals, key=lambda name: rivals[name], default=None)
        if best is None or rivals[best] <= interval.mean:
            continue
        seen = "" if gaps[best, measure].distinguishable else " (not distinguishable)"
        yield (
            f"final is not best at {measure}: {best} {rivals[best]:.3f}, "
            f"final {interval.mean:.3f}{seen}"
        )


def _settings(options: EvalOptions) -> dict[str, object]:
    mine: dict[str, object] = {
        "relevant_from": options.relevant_from,
        "budgets_chars": list(options.budgets_chars),
        "resamples": options.resamples,
        "seed": options.seed,
        "confidence": options.confidence,
        "warm_up_queries": options.warm_up_queries,
        "judged_only": options.judged_only,
    }
    if options.given_run is not None:
        mine["given_run"] = options.given_run.source
    return {**options.settings, **mine}
