"""Two lists of scored passages to one.

Pure arithmetic: it knows no index, no document and no query. The caller scores every member of
the union of both lists exactly on both sides, because a passage that only one side listed would
otherwise look worthless to the other. z-scores keep how far a passage stands out, which ranks
throw away (prototype with MiniLM on SciFact test, nDCG@10: z-scores 0.740, RRF 0.712), and pay
for it by being comparable within one query only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from longleaf.core.ids import is_aside
from longleaf.core.scores import z_scores

RRF_K = 60
"""The constant of the paper; its authors found the result hardly sensitive to it."""


def z_score_fusion(
    dense: Mapping[int, float], bm25: Mapping[int, float], weight_bm25: float = 1.0
) -> dict[int, float]:
    """Point id -> z(dense) + weight_bm25 · z(bm25), best first, ties by point id.

    Both mappings hold the same point ids, or one is empty (that side could not be asked) and the
    other decides alone, unweighted. A side whose scores are all equal contributes 0. Raises what
    `core.scores.z_scores` raises for NaN.
    """
    assert not dense or not bm25 or dense.keys() == bm25.keys(), "score the union on both sides"
    fused = dict.fromkeys(sorted(dense or bm25), 0.0)
    weight = weight_bm25 if dense else 1.0
    for scores, side_weight in ((dense, 1.0), (bm25, weight)):
        for point_id, value in normalised(scores).items():
            fused[point_id] += side_weight * value
    return _best_first(fused)


def normalised(scores: Mapping[int, float]) -> dict[int, float]:
    """Point id -> z-score over all of them, by point id."""
    # Sorted, so that the last digit of a sum does not depend on the order of the caller's lists.
    point_ids = sorted(scores)
    side = z_scores([scores[point_id] for point_id in point_ids])
    return dict(zip(point_ids, side, strict=True))


def reciprocal_rank_fusion(
    dense_ids: Sequence[int], bm25_ids: Sequence[int], k: int = RRF_K
) -> dict[int, float]:
    """Point id -> sum of 1 / (k + rank) over the lists that hold it, best first, ties by point id.

    Both lists are best first; ranks count from 1. Cormack, Clarke and Büttcher, SIGIR 2009.
    """
    fused: dict[int, float] = {}
    for ranked in (dense_ids, bm25_ids):
        for rank, point_id in enumerate(ranked, start=1):
            fused[point_id] = fused.get(point_id, 0.0) + 1.0 / (k + rank)
    return _best_first(fused)


def weigh_down(fused: Mapping[int, float], penalty: float, ranks: bool = False) -> dict[int, float]:
    """The same with passages that are aside (`core.ids.is_aside`) scored lower, best first.

    A z-score loses `penalty`; a sum of reciprocal `ranks` is divided by 1 + `penalty`.
    """
    return _best_first(
        {
            point_id: (score / (1.0 + penalty) if ranks else score - penalty)
            if is_aside(point_id)
            else score
            for point_id, score in fused.items()
        }
    )


def _best_first(scores: Mapping[int, float]) -> dict[int, float]:
    return dict(sorted(scores.items(), key=lambda item: (-item[1], item[0])))
