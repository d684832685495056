"""Stage 1: a query to at most `candidates` distinct documents, each with its best passages.

Dense and BM25 each give the best passages of their first `candidates` documents (gather.py); every
passage of the union is scored exactly on both sides (sides.py) and fused (fusion.py). The catalog
has the last word on every document (scope, newest revision, phrases), so an index that lags or
lies cannot leak. This module knows no engine and no model: an index is a `PassageIndex`, the
catalog a `DocumentLookup`, the query's vector is given.

Trade-off: a passage that is in neither side's best `passages_per_document` of its document is
never fused, even where its sum would be the best. In return one huge document costs no more than a
small one, and does not bend the z-scores of the others.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from longleaf.core.ids import split_point_id
from longleaf.core.protocols import PassageIndex, ScoredPoint
from longleaf.core.spans import span
from longleaf.core.types import Candidate, CandidatePassage, Degradation
from longleaf.retriever.fusion import (
    normalised,
    reciprocal_rank_fusion,
    weigh_down,
    z_score_fusion,
)
from longleaf.retriever.gather import Admission, DocumentLookup, Gathered, Search, gather
from longleaf.retriever.phrases import PhraseRule
from longleaf.retriever.retrieval import Retrieval, RetrievalQuery, RetrievalSettings, StageRank
from longleaf.retriever.sides import Sides

__all__ = [
    "DocumentLookup",
    "Retrieval",
    "RetrievalQuery",
    "RetrievalSettings",
    "StageRank",
    "retrieve",
]

_NO_VECTOR = "The query could not be embedded, so documents were found by their words (BM25) only."


def retrieve(
    query: RetrievalQuery,
    index: PassageIndex,
    documents: DocumentLookup,
    settings: RetrievalSettings,
) -> Retrieval:
    """The best documents for `query`, deterministic; equal scores are ordered by point id.

    A query without words lists documents by point id, all with score 0. Raises whatever the
    index or the catalog raises.
    """
    assert query.collections, "the caller narrows the collections and answers an empty choice"
    started = time.perf_counter()
    sides = Sides(query, index)
    admission = Admission(
        documents,
        query.scope.narrowed(query.collections),
        PhraseRule(query.phrases, query.excluded),
    )
    dense, bm25, listed = Gathered(exhausted=True), Gathered(exhausted=True), Gathered()
    degraded: tuple[Degradation, ...] = ()
    if not query.text.strip():
        listed = _gather(sides.browse, admission, settings)
    else:
        listed.exhausted = True
        if query.vector is None:
            degraded = (Degradation("dense", _NO_VECTOR),)
        else:
            with span("index.dense") as note:
                dense = _gather(sides.search_dense, admission, settings)
                note("passages", len(dense.kept))
        with span("index.bm25") as note:
            bm25 = _gather(sides.search_bm25, admission, settings)
            note("passages", len(bm25.kept))
    document_of = _keep_newest((dense, bm25, listed), admission)
    gathered_ms = (time.perf_counter() - started) * 1000.0
    check_ms = gathered_ms - sum(sides.timings_ms.values())

    dense_scores, bm25_scores = sides.score_union(dense.kept, bm25.kept)
    started = time.perf_counter()
    fused = _fuse(dense.kept, bm25.kept, dense_scores, bm25_scores, settings)
    fused |= {point.point_id: point.score for point in listed.kept}
    dense_ranks, bm25_ranks = _ranks(dense.kept), _ranks(bm25.kept)
    passages = [
        CandidatePassage(
            point_id,
            dense_scores.get(point_id, 0.0),
            bm25_scores.get(point_id, 0.0),
            dense_ranks.get(point_id),
            bm25_ranks.get(point_id),
            score,
        )
        for point_id, score in fused.items()
    ]
    candidates, left_over = _group(passages, document_of, settings)
    return Retrieval(
        candidates=candidates,
        dense_ranking=_stage_ranking(dense.kept, document_of),
        bm25_ranking=_stage_ranking(bm25.kept, document_of),
        exhausted=all(side.exhausted for side in (dense, bm25, listed)) and not left_over,
        counts={
            "dense_passages": len(dense.kept),
            "bm25_passages": len(bm25.kept),
            "union_passages": len(passages),
            "hidden_documents": admission.hidden,
            "phrase_misses": admission.phrase_misses,
        },
        degraded=degraded,
        timings_ms={
            **sides.timings_ms,
            "check": check_ms,
            "fuse": (time.perf_counter() - started) * 1000.0,
        },
        normalised=_normalised(dense_scores, bm25_scores, settings),
    )


def _normalised(
    dense: Mapping[int, float], bm25: Mapping[int, float], settings: RetrievalSettings
) -> dict[str, dict[int, float]]:
    if not settings.explain or settings.fusion == "rrf":
        return {}
    return {"dense": normalised(dense), "bm25": normalised(bm25)}


def _gather(search: Search, admission: Admission, settings: RetrievalSettings) -> Gathered:
    return gather(
        search,
        admission,
        wanted=settings.candidates,
        per_document=settings.passages_per_document if settings.group == "document" else None,
        first_batch_passages=settings.first_batch_passages or 2 * settings.candidates,
    )


def _keep_newest(sides: Sequence[Gathered], admission: Admission) -> dict[int, int]:
    """Drop passages of a document's older revisions; revision id -> document id of the others."""
    newest: dict[int, int] = {}
    for point in (point for side in sides for point in side.kept):
        revision, _ = split_point_id(point.point_id)
        document_id = admission.document_of(revision)
        assert document_id is not None
        newest[document_id] = max(revision, newest.get(document_id, revision))
    document_of = {revision: document_id for document_id, revision in newest.items()}
    for side in sides:
        side.kept = [p for p in side.kept if split_point_id(p.point_id)[0] in document_of]
    return document_of


def _fuse(
    dense: Sequence[ScoredPoint],
    bm25: Sequence[ScoredPoint],
    dense_scores: Mapping[int, float],
    bm25_scores: Mapping[int, float],
    settings: RetrievalSettings,
) -> dict[int, float]:
    if settings.fusion == "zscore":
        fused = z_score_fusion(dense_scores, bm25_scores, settings.weight_bm25)
        return weigh_down(fused, settings.aside_penalty)
    fused = reciprocal_rank_fusion(
        [point.point_id for point in dense if point.point_id in bm25_scores],
        [point.point_id for point in bm25 if point.point_id in bm25_scores],
        settings.rrf_k,
    )
    return weigh_down(fused, settings.aside_penalty, ranks=True)


def _group(
    passages: Sequence[CandidatePassage],
    document_of: Mapping[int, int],
    settings: RetrievalSettings,
) -> tuple[tuple[Candidate, ...], bool]:
    """Candidates from passages that are best first, and whether some did not fit."""
    groups: dict[int, list[CandidatePassage]] = {}
    for passage in passages:
        revision, _ = split_point_id(passage.point_id)
        key = document_of[revision] if settings.group == "document" else passage.point_id
        group = groups.setdefault(key, [])
        if len(group) < settings.passages_per_document:
            group.append(passage)
    candidates = []
    for rank, group in enumerate(list(groups.values())[: settings.candidates], start=1):
        revision, _ = split_point_id(group[0].point_id)
        candidates.append(
            Candidate(document_of[revision], revision, rank, group[0].fused_score, tuple(group))
        )
    return tuple(candidates), len(groups) > len(candidates)


def _stage_ranking(
    kept: Sequence[ScoredPoint], document_of: Mapping[int, int]
) -> tuple[StageRank, ...]:
    best: dict[int, StageRank] = {}
    for point in kept:
        revision, _ = split_point_id(point.point_id)
        document_id = document_of[revision]
        best.setdefault(document_id, StageRank(document_id, revision, point.score))
    return tuple(best.values())


def _ranks(kept: Sequence[ScoredPoint]) -> dict[int, int]:
    return {point.point_id: rank for rank, point in enumerate(kept, start=1)}
