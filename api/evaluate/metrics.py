"""Document metrics by query, and intervals by paired bootstrap.

Scores a *ranking*: positions count, scores do not. trec_eval orders by score and breaks ties by
document id downwards, which is not the order that the user saw; so it is given scores that fall by
one with each position. Knows no files; a stage is only a name here.

nDCG@10 takes the graded judgements with gain = grade (trec_eval's, the one that TREC DL reports);
R@100 and MRR@10 need a bar: grade >= `relevant_from`, 1 by default. TREC DL's convention is 2. A
query with judgements but none at the bar counts as 0 there, as trec_eval has it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from longleaf.core.errors import InvalidRequest

Ranking: TypeAlias = Sequence[tuple[str, float]]
"""(document key, score), best first."""

MEASURES = ("ndcg@10", "r@100", "mrr@10")

_RESAMPLES_AT_ONCE = 500
_ALL_SIGNS_UP_TO = 13
"""Queries: 8,192 ways to give them signs, of which all are looked at."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over queries and its interval; `low <= high`."""

    mean: float
    low: float
    high: float

    @property
    def holds_zero(self) -> bool:
        """For a difference: the two systems are not distinguishable on these queries."""
        return self.low <= 0.0 <= self.high


def check_ranking(ranking: Ranking, whose: str) -> None:
    """Raise `InvalidRequest` for a document that is there twice, or a score that is not finite."""
    seen: set[str] = set()
    for key, score in ranking:
        if key in seen:
            raise InvalidRequest(f"{whose} holds document {key!r} twice.", "Each may appear once.")
        if not math.isfinite(score):
            raise InvalidRequest(f"{whose} gives document {key!r} the score {score}.")
        seen.add(key)


def score_rankings(
    qrels: Mapping[str, Mapping[str, int]],
    rankings: Mapping[str, Ranking],
    relevant_from: int = 1,
) -> dict[str, dict[str, float]]:
    """Measure to query id to value, for every query of `qrels`, in its order.

    A query without a ranking scores 0. Raises `InvalidRequest` for a ranking with duplicates.
    """
    import ir_measures

    if relevant_from < 1:
        raise InvalidRequest(f"relevant-from is {relevant_from}; it must be 1 or more.")
    judgements = [
        ir_measures.Qrel(query_id, key, grade)
        for query_id, grades in qrels.items()
        for key, grade in grades.items()
    ]
    scored = []
    for query_id in qrels:
        ranking = rankings.get(query_id, ())
        check_ranking(ranking, f"The ranking of query {query_id}")
        scored += [
            ir_measures.ScoredDoc(query_id, key, float(len(ranking) - position))
            for position, (key, _) in enumerate(ranking)
        ]
    measures = {
        ir_measures.nDCG @ 10: "ndcg@10",
        ir_measures.R(rel=relevant_from) @ 100: "r@100",
        ir_measures.RR(rel=relevant_from) @ 10: "mrr@10",
    }
    values = {name: dict.fromkeys(qrels, 0.0) for name in MEASURES}
    if scored:
        for metric in ir_measures.iter_calc(list(measures), judgements, scored):
            values[measures[metric.measure]][metric.query_id] = float(metric.value)
    return values


def condensed(
    rankings: Mapping[str, Ranking], qrels: Mapping[str, Mapping[str, int]]
) -> dict[str, Ranking]:
    """Rankings by query id without documents that nobody judged (condensed lists: Sakai 2007,
    "Alternatives to Bpref"), so that what was never looked at counts neither for nor against."""
    return {
        query_id: [each for each in ranking if each[0] in qrels.get(query_id, {})]
        for query_id, ranking in rankings.items()
    }


def judged_share(
    rankings: Mapping[str, Ranking], qrels: Mapping[str, Mapping[str, int]], depth: int = 10
) -> float:
    """Which part of the best `depth` of all rankings was judged; 0 where there is none."""
    best = [(query_id, key) for query_id, all_ in rankings.items() for key, _ in all_[:depth]]
    return sum(key in qrels.get(query_id, {}) for query_id, key in best) / max(1, len(best))


def sign_flip_p(differences: Sequence[float], *, resamples: int = 10_000, seed: int = 20) -> float:
    """Two-sided p of a mean difference under Fisher's randomisation (Smucker, Allan and Carterette
    2007): how often as large a mean comes about when each query's sign is a coin's. Right for few
    queries as well, where percentile intervals are too narrow."""
    import numpy as np

    values = np.asarray(differences, dtype=np.float64)
    if not len(values):
        return 1.0
    least = abs(values.sum()) - 1e-12
    if len(values) <= _ALL_SIGNS_UP_TO:
        every = np.arange(1 << len(values))[:, None] >> np.arange(len(values)) & 1
        return float(np.mean(np.abs((2.0 * every - 1.0) @ values) >= least))
    generator = np.random.default_rng(seed)
    reached = 0
    for start in range(0, resamples, _RESAMPLES_AT_ONCE):
        rows = min(_RESAMPLES_AT_ONCE, resamples - start)
        signs = 2.0 * generator.integers(0, 2, size=(rows, len(values)), dtype=np.int8) - 1.0
        reached += int(np.count_nonzero(np.abs(signs @ values) >= least))
    return (reached + 1) / (resamples + 1)


def bootstrap(
    series: Mapping[str, Sequence[float]],
    *,
    resamples: int = 10_000,
    seed: int = 20,
    confidence: float = 0.95,
) -> dict[str, Interval]:
    """Name to percentile interval of the mean, queries drawn with replacement.

    Each series is (n_queries,) in the same query order; all share the same draws, so a series of
    differences is the paired bootstrap (Sakai 2006, "Evaluating evaluation metrics based on the
    bootstrap", section 4), and adding a series changes no other one's interval. Below some 20
    queries percentile intervals are too narrow.
    """
    import numpy as np

    if not series:
        return {}
    columns = np.array(list(series.values()), dtype=np.float64).T  # (n_queries, n_series)
    n_queries = columns.shape[0]
    if n_queries == 0 or resamples < 1 or not 0.0 < confidence < 1.0:
        raise InvalidRequest("An interval needs queries, resamples and a confidence in (0, 1).")
    if not np.isfinite(columns).all():
        raise InvalidRequest("A value that is not finite cannot be averaged.")
    generator = np.random.default_rng(seed)
    means = np.empty((resamples, columns.shape[1]))
    for start in range(0, resamples, _RESAMPLES_AT_ONCE):
        rows = min(_RESAMPLES_AT_ONCE, resamples - start)
        drawn = generator.integers(0, n_queries, size=(rows, n_queries))
        drawn += np.arange(rows)[:, None] * n_queries
        times = np.bincount(drawn.ravel(), minlength=rows * n_queries).reshape(rows, n_queries)
        means[start : start + rows] = times @ columns / n_queries  # (rows, n_series)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail], axis=0)
    centre = columns.mean(axis=0)
    return {
        name: Interval(float(centre[i]), float(low[i]), float(high[i]))
        for i, name in enumerate(series)
    }


def paired_intervals(
    values: Mapping[str, Mapping[str, Mapping[str, float]]],
    pairs: Sequence[tuple[str, str]],
    *,
    resamples: int = 10_000,
    seed: int = 20,
    confidence: float = 0.95,
) -> tuple[dict[tuple[str, str], Interval], dict[tuple[str, str, str], Interval]]:
    """`values` is stage to measure to query id to value, the same queries throughout.

    Gives the interval of each (stage, measure), and of each (stage, over, measure): the difference
    by query, for those `pairs` whose stages are both there. All from the same draws.
    """
    series: dict[tuple[str, ...], list[float]] = {}
    for stage, by_measure in values.items():
        for name, by_query in by_measure.items():
            series[stage, name] = list(by_query.values())
    for stage, over in pairs:
        for name in values.get(stage, ()) if over in values else ():
            both = values[stage][name], values[over][name]
            assert list(both[0]) == list(both[1]), "paired values must be of the same queries"
            series[stage, over, name] = [
                left - right for left, right in zip(*(v.values() for v in both), strict=True)
            ]
    found = bootstrap(
        {str(number): column for number, column in enumerate(series.values())},
        resamples=resamples,
        seed=seed,
        confidence=confidence,
    )
    singles: dict[tuple[str, str], Interval] = {}
    gaps: dict[tuple[str, str, str], Interval] = {}
    for key, interval in zip(series, found.values(), strict=True):
        if len(key) == 2:
            singles[key[0], key[1]] = interval
        else:
            gaps[key[0], key[1], key[2]] = interval
    return singles, gaps


def differences(
    values: Mapping[str, Mapping[str, Mapping[str, float]]], stage: str, over: str, measure: str
) -> dict[str, float]:
    """Query id to `stage` minus `over`, of `values` as `paired_intervals` takes them."""
    of_over = values[over][measure]
    return {
        query_id: value - of_over[query_id] for query_id, value in values[stage][measure].items()
    }


def percentile_ms(timings_ms: Sequence[float], percent: float) -> float:
    """The `percent`-th percentile, linear between neighbours; 0.0 for none."""
    import numpy as np

    return float(np.percentile(timings_ms, percent)) if timings_ms else 0.0
