"""The product as an evaluation sees it: a scratch catalog of one test collection, stage by stage.

A scratch data folder is named by what is in it (corpus, chunker, embedder, language), so a second
evaluation with other settings of the first or second stage indexes nothing. Topics are searched
as plain text: they were not written in our query syntax.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from longleaf.api import wire
from longleaf.api.evaluate.beir import BeirCollection
from longleaf.api.evaluate.run import StagedResult
from longleaf.api.evaluate.spans import RankedSpan
from longleaf.api.hits import found_of
from longleaf.api.search import SearchEngine, SearchRequest, StageRun
from longleaf.api.showing import places_of
from longleaf.core import ids
from longleaf.core.catalog import CandidateHead, DocumentHead
from longleaf.core.config import Settings
from longleaf.core.errors import CatalogBroken, NotFound
from longleaf.core.protocols import ReaderQuery
from longleaf.core.store_settings import CatalogSettings
from longleaf.core.types import (
    Candidate,
    CandidatePassage,
    Degradation,
    DepthChoice,
    Outcome,
    QueryVectors,
    Scope,
)
from longleaf.reranker.read import ReadResult
from longleaf.retriever.fusion import z_score_fusion

COLLECTION = "eval"
_BM25 = ("parse", "bm25", "check")
_DENSE = ("parse", "embed", "dense", "check")
_FUSED = ("parse", "embed", "dense", "bm25", "check", "fuse")
_ALL = Scope.all()
_RETURNED = 20
"""Documents whose passages are taken as returned: more than any budget of characters holds."""


def open_scratch(
    settings: Settings,
    collection: BeirCollection,
    language: str,
    on_passages: Callable[[int], None] = lambda _count: None,
    on_index: Callable[[int, int], None] = lambda _done, _total: None,
) -> wire.Runtime:
    """A runtime over a scratch catalog that holds exactly the collection's corpus."""
    embedder, chunker = wire.open_models(settings, {})
    parts = (collection.corpus_sha256, chunker.fingerprint, embedder.fingerprint, language)
    name = hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]
    scratch = settings.model_copy(
        update={
            "home": settings.home / "eval" / name,
            # A judged collection belongs into no catalog and no index that others share.
            "catalog": CatalogSettings(),
            "qdrant": settings.qdrant.model_copy(
                update={"prefix": f"{settings.qdrant.prefix[:40]}-eval-{name}"}
            ),
            "indexer": settings.indexer.model_copy(update={"keep_originals": False}),
            # The same queries are asked at several depths: each is to be read.
            "reranker": settings.reranker.model_copy(update={"cached_readings": 0}),
        }
    )
    write_side = wire.open_write_side(scratch)
    try:
        if COLLECTION not in write_side.catalog.collection_languages(_ALL, None):
            write_side.catalog.create_collection(COLLECTION, language)
        counts = write_side.indexer.index_paths(
            COLLECTION, language, [collection.corpus_path.resolve()], on_passages=on_passages
        )
    finally:
        write_side.close()
    if counts[Outcome.REJECTED]:
        raise CatalogBroken(
            f"{collection.corpus_path} could not be indexed.",
            "longleaf index names the reason: try it on that file.",
        )
    runtime = wire.open_runtime(scratch, follow=False)
    runtime.follower.catch_up(on_index)
    return runtime


class EngineUnderTest:
    """Implements `run.StagedSearch` over one collection of a runtime."""

    def __init__(
        self,
        runtime: wire.Runtime,
        *,
        spans: bool,
        depths: Sequence[DepthChoice] = (),
        collection: str = COLLECTION,
        plain: bool = True,
        engine: SearchEngine | None = None,
        scope: Scope = _ALL,
        given_up: Callable[[], bool] | None = None,
    ) -> None:
        """`depths`: depths of the second stage that have stages of their own, as "final:auto"; with
        `spans`, these return the deciding passages of their hits, the best document's first.

        `plain`: queries are words only; else they are in our query syntax. `engine`: another than
        the runtime's own. With `given_up` others wait for answers beside this: they come first.
        """
        self.engine = engine or runtime.engine
        self.catalog = runtime.catalog
        self._scope = scope
        self._asked = SearchRequest("", scope, (collection,), plain=plain)
        if given_up is not None:
            self._asked = replace(self._asked, given_up=given_up, is_bulk=True)
        self._collection = collection
        self._spans = spans
        self._depths = depths
        self._passages_per_document = runtime.settings.retriever.passages_per_document

    def search(self, query_text: str) -> StagedResult:
        """Both stages; for span measures a second search that ranks single passages."""
        request = replace(self._asked, query=query_text)
        run = self.engine.run(request)
        timings = run.timings_ms
        deeper, returned, deeper_ms, missing = self._deeper(request)
        if self._spans and not self._depths:
            returned = self._ranked_spans(query_text)
        return StagedResult(
            rankings=self._rankings(run) | deeper,
            passages=returned,
            timings_ms={
                "bm25": sum(timings.get(name, 0.0) for name in _BM25),
                "dense": sum(timings.get(name, 0.0) for name in _DENSE),
                "fused": sum(timings.get(name, 0.0) for name in _FUSED),
                **({"final": sum(timings.values())} if self.engine.reranker is not None else {}),
                "embed": timings.get("embed", 0.0),
                "rerank": timings.get("rerank", 0.0) + timings.get("hydrate", 0.0),
                **deeper_ms,
            },
            degraded=(*_told(_missing(run)), *missing),
        )

    def _deeper(
        self, request: SearchRequest
    ) -> tuple[
        dict[str, tuple[tuple[str, float], ...]],
        dict[str, tuple[RankedSpan, ...]],
        dict[str, float],
        list[str],
    ]:
        """Rankings, returned passages and searches' milliseconds at each depth, by stage, and what
        was missing."""
        rankings, returned, timings, missing = {}, {}, {}, []
        for depth in self._depths:
            run = self.engine.run(replace(request, depth=depth))
            stage = f"final:{depth}"
            rankings[stage] = _final(run.heads, run.retrieval.candidates, run.reading)
            timings[stage] = sum(run.timings_ms.values())
            missing += [f"{stage}: {each}" for each in _told(_missing(run))]
            if self._spans:
                returned[stage] = self._deciding_spans(run)
        return rankings, returned, timings, missing

    def _deciding_spans(self, run: StageRun) -> tuple[RankedSpan, ...]:
        """What a reader of the hits gets, from the top: each document's deciding passages."""
        found = [
            found_of(run, index, rank)
            for rank, index in enumerate(run.reading.order[:_RETURNED], start=1)
        ]
        places = places_of(self.catalog, self.engine.generation, run, found)
        spans = [
            (run.heads[each.revision_id].key, places[passage.point_id])
            for each in found
            for passage in each.passages
            if passage.point_id in places
        ]
        return tuple(
            RankedSpan(key, place.start_char, place.end_char, float(len(spans) - number))
            for number, (key, place) in enumerate(spans)
        )

    def _rankings(self, run: StageRun) -> dict[str, tuple[tuple[str, float], ...]]:
        retrieval = run.retrieval
        sides = {"bm25": retrieval.bm25_ranking, "dense": retrieval.dense_ranking}
        heads = self.catalog.candidate_heads(
            [ranked.revision_id for side in sides.values() for ranked in side], self._scope
        )
        rankings = {
            stage: tuple(
                (heads[ranked.revision_id].key, ranked.score)
                for ranked in side
                if ranked.revision_id in heads  # a live index may lose a document meanwhile
            )
            for stage, side in sides.items()
        }
        rankings["fused"] = tuple(
            (run.heads[each.revision_id].key, each.score)
            for each in retrieval.candidates
            if each.revision_id in run.heads
        )
        if self.engine.reranker is not None:
            rankings["final"] = _final(run.heads, retrieval.candidates, run.reading)
        return rankings

    def _ranked_spans(self, query_text: str) -> dict[str, tuple[RankedSpan, ...]]:
        run = self.engine.run(replace(self._asked, query=query_text, group="none"))

        def spans(
            chosen: Sequence[tuple[Candidate, CandidatePassage, float]],
        ) -> tuple[RankedSpan, ...]:
            return tuple(
                RankedSpan(
                    run.heads[candidate.revision_id].key,
                    run.passages[passage.point_id].start_char,
                    run.passages[passage.point_id].end_char,
                    score,
                )
                for candidate, passage, score in chosen
            )

        flat = [(c, c.passages[0]) for c in run.retrieval.candidates]
        by_bm25 = sorted(
            ((c, p) for c, p in flat if p.bm25_rank is not None),
            key=lambda cp: cp[1].bm25_rank or 0,
        )
        by_dense = sorted(
            ((c, p) for c, p in flat if p.dense_rank is not None),
            key=lambda cp: cp[1].dense_rank or 0,
        )
        final = [(*flat[index], run.reading.scores[index]) for index in run.reading.order]
        return {
            "bm25": spans([(c, p, p.bm25_score) for c, p in by_bm25]),
            "dense": spans([(c, p, p.dense_score) for c, p in by_dense]),
            "fused": spans([(c, p, p.fused_score) for c, p in flat]),
            "final": spans(final),
        }

    def rerank_given(self, query_text: str, given: Sequence[tuple[str, float]]) -> StagedResult:
        """Dense, fused and final over the given documents: the given score stands in for BM25's.

        Each document's densest few passages are scored and read, exactly as for candidates of our
        own. `dense` orders the given documents, it finds none; `fused` adds the z-scores.
        """
        started = time.perf_counter()
        vectors = self.engine.embedder.embed_query(query_text)
        embedded = time.perf_counter()
        found: list[tuple[DocumentHead, float, list[tuple[int, float]]]] = []
        for key, score in given:
            head = self._head(key)
            if head is not None:
                found.append((head, score, self._densest(head, vectors)))
        dense_scores = {head.document_id: dense[0][1] for head, _, dense in found if dense}
        fused = z_score_fusion(
            dense_scores,
            {
                head.document_id: score
                for head, score, _ in found
                if head.document_id in dense_scores
            },
            self.engine.settings.weight_bm25,
        )
        by_document = {head.document_id: (head, dense) for head, _, dense in found}
        candidates = [
            Candidate(
                document_id,
                by_document[document_id][0].revision_id,
                rank,
                score,
                tuple(
                    CandidatePassage(point, dense, 0.0, None, None, score)
                    for point, dense in by_document[document_id][1]
                ),
            )
            for rank, (document_id, score) in enumerate(fused.items(), start=1)
        ]
        fused_ms = (time.perf_counter() - started) * 1000.0
        query = ReaderQuery(query_text, None, vectors)
        request = SearchRequest(query_text, plain=True)
        read = self.engine.read(candidates, query, request)
        timings = read.timings_ms
        keys = {document_id: head.key for document_id, (head, _) in by_document.items()}
        densest = sorted(dense_scores.items(), key=lambda item: (-item[1], item[0]))
        return StagedResult(
            rankings={
                "dense": tuple((keys[document_id], score) for document_id, score in densest),
                "fused": tuple((keys[document_id], score) for document_id, score in fused.items()),
                "final": _final(read.heads, read.candidates, read.result),
            },
            timings_ms={
                "fused": fused_ms,
                "final": fused_ms + sum(timings.values()),
                "embed": (embedded - started) * 1000.0,
                "rerank": sum(timings.values()),
            },
            degraded=_told(read.result.degraded),
        )

    def _densest(self, head: DocumentHead, vectors: QueryVectors) -> list[tuple[int, float]]:
        """A document's best passages by dense score: (point id, score), best first."""
        stored = self.catalog.passages(head, self.engine.generation, 0, 100_000)
        points = [passage.point_id for passage in stored]
        scores = self.engine.index.score_dense(vectors.dense, points)
        best = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
        return best[: self._passages_per_document]

    def _head(self, key: str) -> DocumentHead | None:
        try:
            return self.catalog.document(ids.document_id(self._collection, key), _ALL)
        except NotFound:
            return None


def _missing(run: StageRun) -> tuple[Degradation, ...]:
    """What a search had to do without."""
    return (*run.retrieval.degraded, *run.reading.degraded)


def _told(degraded: Sequence[Degradation]) -> tuple[str, ...]:
    return tuple(f"{each.stage}: {each.reason}" for each in degraded)


def _final(
    heads: Mapping[int, CandidateHead], candidates: Sequence[Candidate], reading: ReadResult
) -> tuple[tuple[str, float], ...]:
    return tuple(
        (heads[candidates[index].revision_id].key, reading.scores[index]) for index in reading.order
    )
