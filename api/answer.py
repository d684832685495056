"""What two stages gave, as an answer: the window, the part of it that is shown, and what is said.

The window is what a search found in its final order, after `min_score` and `collapse`; an answer
shows a part of it. `answer_of` makes the first answer, `more` goes on where a cursor says: without
searching again, so its pages are those of the window as it was, less what is gone by now.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

from longleaf.api.collapse import Member
from longleaf.api.cursor import Rest, seal, unseal
from longleaf.api.disjunctive import filtered_fields, revisions_without
from longleaf.api.explain import explanation
from longleaf.api.facets import facet_warnings, facets_of, is_counted
from longleaf.api.highlight import Highlighter
from longleaf.api.hits import Suspect, found_of
from longleaf.api.minimum import least_score, minimum_warnings, only_good
from longleaf.api.searched import Found, Highlight, SearchAnswer, SearchRequest, StageRun
from longleaf.api.sentences import SentenceMarker
from longleaf.api.showing import Span, places_of, show, texts_by_point, texts_by_span
from longleaf.api.versions import collapsed
from longleaf.core.dates import date_of, newest_first
from longleaf.core.suspicion import suspicions
from longleaf.core.types import QueryVectors, Scope

if TYPE_CHECKING:
    from longleaf.api.search import SearchEngine


def answer_of(
    engine: SearchEngine, run: StageRun, request: SearchRequest, started: float, seen_seq: int
) -> SearchAnswer:
    """The answer to `request`; `started` (time.perf_counter) is when it came in."""
    timings = dict(run.timings_ms)
    began = time.perf_counter()
    least = least_score(engine.reranker, request)
    window = len(run.reading.order)
    run = only_good(run, least)
    below_min_count = window - len(run.reading.order)
    order: Sequence[int] = run.reading.order
    behind: Mapping[int, Sequence[Member]] = {}
    if request.collapse:
        behind = collapsed(engine.catalog, run)
        order = list(behind)
        timings["collapse"] = lap_ms(began)
        began = time.perf_counter()
    ranked = list(enumerate(order, start=1))
    if request.sort == "date":
        ranked = _by_date(engine, run, ranked, request.scope)
    places = ranked[request.offset :]
    found = (found_of(run, index, rank, behind.get(index, ())) for rank, index in places)
    shown = show(
        engine.catalog,
        request.scope,
        found if request.cursor else islice(found, request.limit),
        request.limit,
        texts_by_point(engine.catalog, engine.generation),
        Highlighter(run.parsed.text, run.parsed.phrases),
        _marker(engine, request.highlight, run.vectors, request.given_up) if run.is_final else None,
        _suspect(engine, run.parsed.text),
    )
    rest = tuple(found) if request.cursor else ()
    timings["show"] = lap_ms(began)
    warnings = [*run.warnings, *minimum_warnings(run, least, below_min_count)]
    reranker = engine.reranker if request.rerank else None
    answer = SearchAnswer(
        hits=shown.hits,
        query=run.parsed,
        found_count=len(order),
        exhausted=run.retrieval.exhausted,
        reranker=reranker.name if reranker else None,
        reranked_count=run.reading.reranked_count,
        whole_count=run.reading.whole_count,
        degraded=(*run.retrieval.degraded, *run.reading.degraded),
        warnings=tuple(warnings),
        query_truncated_tokens=run.vectors.truncated_tokens if run.vectors else 0,
        timings_ms=timings,
        seen_seq=seen_seq,
        explanation=explanation(engine, run, request) if request.explain else None,
        min_score=least,
        below_min_count=below_min_count,
        reaches_end=not rest
        if request.cursor
        else request.offset + request.limit > len(order) + below_min_count,
        left_out_count=shown.left_out_count,
    )
    if run.is_final and request.facets:
        answer = _with_facets(engine, answer, run, order, request, least)
    if run.is_final and rest:
        kept = Rest(
            answer,
            rest,
            _spans(engine, run, rest),
            request.limit,
            request.scope,
            engine.generation.fingerprint,
            request.highlight,
            run.instruction,
        )
        answer = replace(answer, next_cursor=seal(kept, engine.catalog.signing_key()))
    return replace(
        answer,
        degraded=(*answer.degraded, *shown.degraded),
        timings_ms={**answer.timings_ms, "total": lap_ms(started)},
    )


def more(
    engine: SearchEngine,
    cursor: str,
    limit: int | None,
    scope: Scope,
    given_up: Callable[[], bool] = lambda: False,
) -> SearchAnswer:
    """The next page of a window. Raises InvalidRequest for a cursor that is none.

    What it shows, both the caller who asked for the window and the one who asks now may see.
    `limit` None: as many as on the page before.
    """
    started = time.perf_counter()
    key = engine.catalog.signing_key()
    kept = unseal(cursor, key)
    limit = limit or kept.limit
    scope = scope.shared_with(kept.scope)
    query = kept.answer.query
    marker = None
    if kept.generation == engine.generation.fingerprint:
        texts = texts_by_point(engine.catalog, engine.generation)
        if kept.highlight != "words":
            with engine.embedding:
                vectors = engine.embed(query.text, kept.instruction)
            marker = _marker(engine, kept.highlight, vectors, given_up)
    else:
        texts = texts_by_span(engine.catalog, engine.generation, kept.spans)
    found = iter(kept.found)
    highlighter = Highlighter(query.text, query.phrases)
    suspect = _suspect(engine, query.text)
    shown = show(
        engine.catalog,
        scope,
        found,
        limit,
        texts,
        highlighter,
        marker,
        suspect,
        only_current=True,
    )
    kept = replace(kept, found=tuple(found), limit=limit)
    return replace(
        kept.answer,
        hits=shown.hits,
        degraded=(*kept.answer.degraded, *shown.degraded),
        left_out_count=shown.left_out_count,
        reaches_end=not kept.found,
        next_cursor=seal(kept, key) if kept.found else None,
        timings_ms={"show": lap_ms(started), "total": lap_ms(started)},
    )


def _suspect(engine: SearchEngine, query_text: str) -> Suspect:
    if not engine.marks_suspicious:
        return lambda _: ()
    return lambda text: suspicions(text, query_text)


def _by_date(
    engine: SearchEngine, run: StageRun, ranked: Sequence[tuple[int, int]], scope: Scope
) -> list[tuple[int, int]]:
    """(rank, candidate) of a window, newest document first."""
    revisions = [run.retrieval.candidates[index].revision_id for _, index in ranked]
    heads = engine.catalog.heads(revisions, scope)
    dates = [date_of(heads[each].metadata) if each in heads else None for each in revisions]
    return newest_first(zip(ranked, dates, strict=True))


def _marker(
    engine: SearchEngine,
    highlight: Highlight,
    vectors: QueryVectors | None,
    given_up: Callable[[], bool],
) -> SentenceMarker | None:
    if highlight == "words":
        return None
    return SentenceMarker(
        engine.catalog,
        engine.generation,
        engine.embedder,
        vectors,
        with_rectangles=highlight == "rectangles",
        slots=engine.slots,
        given_up=given_up,
    )


def _with_facets(
    engine: SearchEngine,
    answer: SearchAnswer,
    run: StageRun,
    order: Iterable[int],
    request: SearchRequest,
    least: float | None,
) -> SearchAnswer:
    began = time.perf_counter()
    revision_ids = [run.retrieval.candidates[index].revision_id for index in order]
    collections = engine.catalog.collection_languages(request.scope, request.collections)
    warnings = facet_warnings(engine.catalog, request.facets, list(collections))
    wider = {
        field: revisions_without(engine, run, request, field, least)
        for field in filtered_fields(engine, request)
        if is_counted(field, request.facets)
    }
    return replace(
        answer,
        facets=facets_of(engine.catalog, request.facets, revision_ids, request.scope, wider),
        warnings=(*answer.warnings, *warnings),
        timings_ms={**answer.timings_ms, "facets": lap_ms(began)},
    )


def _spans(engine: SearchEngine, run: StageRun, found: Sequence[Found]) -> dict[int, Span]:
    """Where the passages of what was found lie, by point id, of those that are still there."""
    places = places_of(engine.catalog, engine.generation, run, found)
    return {point: (each.start_char, each.end_char) for point, each in places.items()}


def lap_ms(started: float) -> float:
    """Milliseconds since `started` (time.perf_counter)."""
    return (time.perf_counter() - started) * 1000.0
