"""A candidate as a hit: its passages, what decided among them, and what each stage said."""

from __future__ import annotations

import math
from collections.abc import Mapping

from longleaf.api.highlight import Highlighter
from longleaf.api.searched import StageRun
from longleaf.core.catalog import DocumentHead
from longleaf.core.types import CandidatePassage, Hit, HitPassage, PassageText


def shown_points(run: StageRun, index: int) -> list[int]:
    """Point ids of a candidate's deciding passages: those that the reading scored best, then
    what the first stage found, as many as the first stage keeps of a document."""
    found = [passage.point_id for passage in run.retrieval.candidates[index].passages]
    reading = run.reading.readings[index]
    if reading is None or not reading.passage_scores:
        return found
    scores = dict(reading.passage_scores)
    order = {point: place for place, point in enumerate(found)}
    known = [*found, *(point for point in scores if point not in order)]
    known.sort(key=lambda point: (-scores.get(point, -math.inf), order.get(point, len(order))))
    return known[: len(found)]


def hit_of(
    run: StageRun,
    index: int,
    rank: int,
    head: DocumentHead,
    texts: Mapping[int, PassageText],
    highlighter: Highlighter,
) -> Hit:
    """The candidate `index` at `rank`; `texts`: its passages with their words, by point id."""
    candidate = run.retrieval.candidates[index]
    reading = run.reading.readings[index]
    scores = dict(reading.passage_scores) if reading else {}
    known = {each.point_id: each for each in candidate.passages}
    points = [point for point in shown_points(run, index) if point in texts]
    return Hit(
        rank=rank,
        score=run.reading.scores[index],
        document_id=head.public_id,
        collection=head.collection,
        key=head.key,
        title=head.title,
        revision=head.revision,
        metadata=head.metadata,
        source=head.source,
        first_stage_rank=candidate.rank,
        first_stage_score=candidate.score,
        reading=reading,
        passages=tuple(
            _hit_passage(
                texts[point],
                known.get(point),
                run.dense.get(point),
                highlighter.spans(texts[point]),
                scores.get(point),
                run.retrieval.normalised,
            )
            for point in points
        ),
        earlier=run.reading.earlier[index] if run.reading.earlier else None,
    )


def _hit_passage(
    text: PassageText,
    found: CandidatePassage | None,
    dense_score: float | None,
    highlights: tuple[tuple[int, int], ...],
    reading_score: float | None,
    normalised: Mapping[str, Mapping[int, float]],
) -> HitPassage:
    """`found`: what the first stage said of it, None where it had not found it."""
    return HitPassage(
        dense_z=normalised.get("dense", {}).get(text.point_id),
        bm25_z=normalised.get("bm25", {}).get(text.point_id),
        passage=text,
        highlights=highlights,
        dense_score=found.dense_score if found else dense_score,
        bm25_score=found.bm25_score if found else None,
        dense_rank=found.dense_rank if found else None,
        bm25_rank=found.bm25_rank if found else None,
        fused_score=found.fused_score if found else None,
        reading_score=reading_score,
    )
