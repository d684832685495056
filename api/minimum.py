"""`min_score`: which documents scored well enough, and what is said of the others."""

from __future__ import annotations

import math
from collections.abc import Sequence

from longleaf.api.searched import SearchRequest, StageRun
from longleaf.core.errors import InvalidRequest
from longleaf.core.protocols import Reranker


def least_score(reranker: Reranker | None, request: SearchRequest) -> float | None:
    """The score that is asked for. Raises InvalidRequest where there is none to ask for."""
    if request.min_score is None:
        return None
    if reranker is None or not request.rerank:
        raise InvalidRequest(
            "min_score is about the second stage's scores, and there is none here.",
            "Leave it out, or search with the second stage.",
        )
    if request.min_score != "calibrated":
        return request.min_score
    if reranker.min_score is None:
        raise InvalidRequest(f"No score of {reranker.name} has been calibrated.", "Give a number.")
    return reranker.min_score


def own_score(run: StageRun, index: int) -> float:
    """What the reranker said of a candidate's passages; lower than anything where it was not read.

    (Readings of whole documents have another scale.)
    """
    earlier = run.reading.earlier[index] if run.reading.earlier else None
    reading = earlier or run.reading.readings[index]
    return -math.inf if reading is None else reading.score


def minimum_warnings(
    run: StageRun,
    request: SearchRequest,
    least: float | None,
    whole: Sequence[int],
    good: Sequence[int],
) -> list[str]:
    if request.min_score is None or run.depth is None:
        return []
    if least is None:
        return ["min_score was not applied: nothing was read."] if whole else []
    if good or not whole:
        return []
    best = max(own_score(run, index) for index in whole)
    return [
        f"Nothing good was found: of {len(whole)} documents the best scored {best:.3f}, "
        f"and min_score is {least:.3f}."
    ]
