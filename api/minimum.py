"""`min_score`: which documents scored well enough, and what is said of the others."""

from __future__ import annotations

import math
from dataclasses import replace

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


def only_good(run: StageRun, least: float | None) -> StageRun:
    """`run` with the good ones in its order; as it is where there is no minimum or nothing read."""
    if least is None or not run.reading.reranked_count:
        return run
    order = tuple(index for index in run.reading.order if _own_score(run, index) >= least)
    return replace(run, reading=replace(run.reading, order=order))


def _own_score(run: StageRun, index: int) -> float:
    """What the reranker said of a candidate's passages; lower than anything where it was not read.

    (Readings of whole documents may have another scale: they stand in only where there is no other,
    and the answer says so.)
    """
    earlier = run.reading.earlier[index] if run.reading.earlier else None
    reading = earlier or run.reading.readings[index]
    return -math.inf if reading is None else reading.score


def minimum_warnings(run: StageRun, least: float | None, below_min_count: int) -> list[str]:
    """What an answer should say of its minimum; nothing on the way to it."""
    if least is None or not run.is_final:
        return []
    if not run.reading.reranked_count:
        return ["min_score was not applied: nothing was read."]
    readings = [reading for reading in run.reading.readings if reading]
    told = []
    if any(r.depth == "document" and not r.passage_scores for r in readings):
        told.append("min_score was compared with scores of whole documents: no passages were read.")
    if below_min_count and not run.reading.order:
        scores = [_own_score(run, index) for index in range(len(run.reading.readings))]
        told.append(
            f"Nothing good was found: of {below_min_count} documents the best scored "
            f"{max(scores):.3f}, and min_score is {least:.3f}."
        )
    return told
