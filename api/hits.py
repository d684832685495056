"""A candidate as a hit: its passages, what decided among them, and what each stage said.

In two steps, with the catalog between them: `found_of` takes out of a search's results what one
place of the window needs, without text; `hit_of` joins it with what the catalog says today.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from longleaf.api.collapse import Member
from longleaf.api.highlight import Highlighter
from longleaf.api.searched import Found, FoundVersion, StageRun
from longleaf.core.catalog import DocumentHead
from longleaf.core.hits import FoundPassage, Hit, HitPassage, HitSentence, HitVersion
from longleaf.core.suspicion import of_warnings
from longleaf.core.types import PassageText

Suspect = Callable[[str], tuple[str, ...]]
"""A text to the reasons why it seems to be written for a machine."""

_NEWCOMER_MARGIN = 0.05
"""In the cosines of `late`, which alone scores the passages of a whole document one by one. Recall
of gold spans at 500, 2,000 and 5,000 returned characters against depth passage, with 0.05 and with
none: COVID-QA +0.005, +0.037, +0.017 (+0.012, +0.038, -0.003), PrivacyQA +0.008, +0.011, -0.004
(-0.004, -0.035, -0.064), chunking_eval -0.013, -0.008, -0.009 (-0.017, -0.030, -0.025)."""


def found_of(run: StageRun, index: int, rank: int, behind: Sequence[Member] = ()) -> Found:
    """The candidate `index` at `rank` of the window; `behind`: places of its versions."""
    candidate = run.retrieval.candidates[index]
    return Found(
        rank=rank,
        score=run.reading.scores[index],
        revision_id=candidate.revision_id,
        first_stage_rank=candidate.rank,
        first_stage_score=candidate.score,
        reading=run.reading.readings[index],
        earlier=run.reading.earlier[index] if run.reading.earlier else None,
        passages=_deciding(run, index),
        versions=tuple(
            FoundVersion(revision_of(run, each.place), each.place + 1, each.similarity)
            for each in behind
        ),
    )


def revision_of(run: StageRun, place: int) -> int:
    """The revision at a place of the final order."""
    return run.retrieval.candidates[run.reading.order[place]].revision_id


def _deciding(run: StageRun, index: int) -> tuple[FoundPassage, ...]:
    """A candidate's deciding passages: those that the reading scored best, then what the first
    stage found, as many as the first stage keeps of a document. Among them one that only reading
    the whole document has found, if it scores `_NEWCOMER_MARGIN` higher than what it displaces."""
    known = {each.point_id: each for each in run.retrieval.candidates[index].passages}
    reading = run.reading.readings[index]
    scores = dict(reading.passage_scores) if reading else {}
    points = list(known)
    if scores:
        order = {point: place for place, point in enumerate(points)}
        points += [point for point in scores if point not in order]

        def strength(point: int) -> tuple[float, int]:
            margin = _NEWCOMER_MARGIN if point in order else 0.0
            return -(scores.get(point, -math.inf) + margin), order.get(point, len(order))

        points.sort(key=strength)
        points = points[: len(known)]
        points.sort(key=lambda point: (-scores.get(point, -math.inf), order.get(point, len(order))))
    dense_z = run.retrieval.normalised.get("dense", {})
    bm25_z = run.retrieval.normalised.get("bm25", {})
    passages = []
    for point in points[: len(known)]:
        found = known.get(point)
        passages.append(
            FoundPassage(
                point_id=point,
                dense_score=found.dense_score if found else run.dense.get(point),
                bm25_score=found.bm25_score if found else None,
                dense_rank=found.dense_rank if found else None,
                bm25_rank=found.bm25_rank if found else None,
                fused_score=found.fused_score if found else None,
                reading_score=scores.get(point),
                dense_z=dense_z.get(point),
                bm25_z=bm25_z.get(point),
            )
        )
    return tuple(passages)


def hit_of(
    found: Found,
    heads: Mapping[int, DocumentHead],
    texts: Mapping[int, PassageText],
    highlighter: Highlighter,
    sentences: Mapping[int, tuple[HitSentence, ...]],
    suspect: Suspect,
) -> Hit:
    """A hit of what was found; `heads` by revision id (its own is there), `texts` and `sentences`
    by point id.

    Passages and versions that are gone are left out.
    """
    head = heads[found.revision_id]
    passages = tuple(
        HitPassage(
            texts[each.point_id],
            highlighter.spans(texts[each.point_id]),
            each,
            sentences.get(each.point_id),
            suspect(texts[each.point_id].text),
        )
        for each in found.passages
        if each.point_id in texts
    )
    reasons = [*of_warnings(head.warnings), *suspect(head.title)]
    reasons += [reason for each in passages for reason in each.suspicious]
    return Hit(
        rank=found.rank,
        score=found.score,
        document_id=head.public_id,
        collection=head.collection,
        key=head.key,
        title=head.title,
        revision=head.revision,
        metadata=head.metadata,
        source=head.source,
        first_stage_rank=found.first_stage_rank,
        first_stage_score=found.first_stage_score,
        reading=found.reading,
        passages=passages,
        versions=tuple(
            _hit_version(each, heads[each.revision_id])
            for each in found.versions
            if each.revision_id in heads
        ),
        earlier=found.earlier,
        suspicious=tuple(dict.fromkeys(reasons)),
    )


def _hit_version(found: FoundVersion, head: DocumentHead) -> HitVersion:
    return HitVersion(
        rank=found.rank,
        similarity=found.similarity,
        document_id=head.public_id,
        collection=head.collection,
        key=head.key,
        title=head.title,
        revision=head.revision,
        source=head.source,
    )
