"""An answer as JSON says it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from urllib.parse import urlencode

from longleaf.api.http.answer_schemas import (
    AnswerView,
    DegradedView,
    ExplainView,
    FacetValue,
    FacetView,
    FirstStage,
    HitView,
    IndexView,
    OrderHit,
    OrderView,
    PassageHit,
    PassageNormal,
    PassageScores,
    QueryView,
    ReadingView,
    SentenceView,
    VersionHit,
    rectangle_views,
)
from longleaf.api.searched import Facet, SearchAnswer
from longleaf.core.dates import date_of
from longleaf.core.hits import Hit, HitPassage, HitSentence
from longleaf.core.types import Reading
from longleaf.retriever.filters import filter_to_json


def view(answer: SearchAnswer, head_seq: int) -> AnswerView:
    """An answer as JSON says it."""
    warnings = list(answer.warnings)
    window = answer.found_count + answer.below_min_count
    if answer.reaches_end and not answer.exhausted:
        warnings.append(
            f"Only the best {window} were looked at and there are more: raise candidates to go on."
        )
    where = answer.query.where
    return AnswerView(
        hits=[_hit(hit, explain=answer.explanation is not None) for hit in answer.hits],
        query=QueryView(
            text=answer.query.text,
            phrases=list(answer.query.phrases),
            excluded=list(answer.query.excluded),
            filter=filter_to_json(where) if where is not None else None,
        ),
        found_count=answer.found_count,
        exhausted=answer.exhausted,
        min_score=answer.min_score,
        below_min_count=answer.below_min_count,
        left_out_count=answer.left_out_count,
        next_cursor=answer.next_cursor,
        facets=[_facet(each) for each in answer.facets],
        reranker=answer.reranker,
        reranked_count=answer.reranked_count,
        whole_count=answer.whole_count,
        degraded=[DegradedView(**asdict(each)) for each in answer.degraded],
        warnings=warnings,
        timings_ms={name: round(value, 3) for name, value in answer.timings_ms.items()},
        index=IndexView(seen_seq=answer.seen_seq, head_seq=head_seq),
        explain=ExplainView(**asdict(answer.explanation)) if answer.explanation else None,
    )


def _facet(facet: Facet) -> FacetView:
    return FacetView(
        field=facet.field,
        values=[FacetValue(value=value, count=count) for value, count in facet.values],
        more_values=facet.more_values,
        without_count=facet.without_count,
        document_count=facet.document_count,
        without_own_filter=facet.without_own_filter,
    )


def order_view(answer: SearchAnswer) -> OrderView:
    """Where the hits stand while they are still being read."""
    return OrderView(
        hits=[
            OrderHit(
                document_id=hit.document_id,
                rank=hit.rank,
                score=hit.score,
                reading=_reading(hit.reading),
            )
            for hit in answer.hits
        ],
        reranked_count=answer.reranked_count,
        whole_count=answer.whole_count,
    )


def document_url(
    document_id: str,
    start_char: int,
    end_char: int,
    query: str = "",
    sentences: Iterable[SentenceView | HitSentence] = (),
    back: str = "",
) -> str:
    """The page of a document with a passage marked, and the sentences that carry its score.

    `back`: the query of the search page's address to go back to, when it says more than `query`.
    """
    parts = [("start", str(start_char)), ("end", str(end_char))]
    parts += [("s", f"{each.start_char}-{each.end_char}") for each in sentences]
    parts += [("q", query)] if query else []
    parts += [("back", back)] if back and back != urlencode({"q": query}) else []
    return f"/documents/{document_id}?{urlencode(parts)}#hit"


def _hit(hit: Hit, *, explain: bool) -> HitView:
    best = hit.passages[0].passage if hit.passages else None
    return HitView(
        rank=hit.rank,
        score=hit.score,
        document_id=hit.document_id,
        collection=hit.collection,
        key=hit.key,
        title=hit.title,
        revision=hit.revision,
        metadata=dict(hit.metadata),
        date=date_of(hit.metadata),
        source=hit.source,
        url=document_url(hit.document_id, best.start_char, best.end_char)
        if best
        else f"/documents/{hit.document_id}",
        first_stage=FirstStage(rank=hit.first_stage_rank, score=hit.first_stage_score),
        reading=_reading(hit.reading),
        suspicious=list(hit.suspicious),
        passages=[_passage(each, explain=explain) for each in hit.passages],
        versions=[
            VersionHit(**asdict(each), url=f"/documents/{each.document_id}")
            for each in hit.versions
        ],
        earlier=_reading(hit.earlier) if explain else None,
    )


def _reading(reading: Reading | None) -> ReadingView | None:
    if reading is None:
        return None
    return ReadingView(
        score=reading.score,
        depth=reading.depth,
        tokens_read=reading.tokens_read,
        tokens_total=reading.tokens_total,
        truncated_tokens=reading.truncated_tokens,
        probability=reading.probability,
        windows=reading.windows,
        from_cache=reading.from_cache,
    )


def _sentence(sentence: HitSentence) -> SentenceView:
    return SentenceView(
        start_char=sentence.start_char,
        end_char=sentence.end_char,
        score=sentence.score,
        rectangles=rectangle_views(sentence.rectangles),
    )


def _passage(shown: HitPassage, *, explain: bool) -> PassageHit:
    passage, found = shown.passage, shown.found
    return PassageHit(
        start_char=passage.start_char,
        end_char=passage.end_char,
        first_page=passage.first_page,
        last_page=passage.last_page,
        headings=list(passage.headings),
        role=passage.role.value,
        suspicious=list(shown.suspicious),
        text=passage.text,
        highlights=list(shown.highlights),
        sentences=None
        if shown.sentences is None
        else [_sentence(each) for each in shown.sentences],
        scores=PassageScores(
            dense=found.dense_score,
            bm25=found.bm25_score,
            fused=found.fused_score,
            reading=found.reading_score,
            dense_rank=found.dense_rank,
            bm25_rank=found.bm25_rank,
        ),
        normalised=PassageNormal(dense=found.dense_z, bm25=found.bm25_z) if explain else None,
    )
