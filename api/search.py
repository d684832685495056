"""The two stages in one function, timed: a request in, ranked documents and their reasons out.

`SearchEngine` is built by `wire.py` and is thread-safe; it never blocks on anything but its own
work, and whoever serves it keeps it off the event loop. Stage failures degrade visibly; only a
request that makes no sense raises.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import structlog

from longleaf.api.answer import answer_of, lap_ms
from longleaf.api.minimum import least_score
from longleaf.api.searched import (
    MAX_QUERY_CHARS,
    Explanation,
    SearchAnswer,
    SearchRequest,
    SecondStage,
    StageRun,
    Watch,
)
from longleaf.api.whole import WholeDocuments
from longleaf.core.budget import Budget
from longleaf.core.catalog import CandidateHead, Catalog, Generation
from longleaf.core.errors import InvalidRequest
from longleaf.core.filters import BUILT_IN_FIELDS, DERIVED_FIELDS, And
from longleaf.core.language import detect, mismatch_warning
from longleaf.core.logs import reason_of
from longleaf.core.protocols import DistantEmbedder, Embedder, PassageIndex, ReaderQuery, Reranker
from longleaf.core.spans import span
from longleaf.core.types import (
    Candidate,
    DepthChoice,
    PassageText,
    QueryVectors,
    ReadingInput,
    Scope,
)
from longleaf.core.waiting import CATALOG, EMBEDDER, INDEX, Patience, stage
from longleaf.reranker.instructions import instruction_text
from longleaf.reranker.read import ReadResult, read_candidates
from longleaf.retriever.query import ParsedQuery, parse_query
from longleaf.retriever.retrieve import Retrieval, RetrievalQuery, RetrievalSettings, retrieve

__all__ = [
    "MAX_QUERY_CHARS",
    "Explanation",
    "SearchAnswer",
    "SearchEngine",
    "SearchRequest",
    "SecondStage",
    "StageRun",
    "Watch",
]

_log = structlog.get_logger(__name__)

_READING_DEFAULTS = (
    ("depth", "depth", "what is read of a candidate"),
    ("read_candidates", "candidates", "how many candidates are read"),
    ("deadline_ms", "deadline_ms", "how long may be read"),
    ("max_tokens", "max_tokens", "how many tokens may be read"),
)
"""Of a request, of a collection, and in words."""
_LOOK_MS = 150.0
"""Between two looks at a reading under way: each costs a sort and the catalog's texts."""


@dataclass(frozen=True, slots=True)
class StageLimits:
    """How long what neither answers nor fails is waited for; None: as long as it takes.

    `stage_seconds`: the embedding model. `reading_seconds`: the reranker, from one reading to the
    next. The index and the catalog are watched by whoever waits for the search (`waiting.stage`).
    """

    stage_seconds: float | None = None
    reading_seconds: float | None = None


class InTurn:
    """Slots whose wait is a stage: searches that stand still keep theirs."""

    def __init__(self, slots: AbstractContextManager[Any]) -> None:
        self._slots = slots

    def __enter__(self) -> None:
        with stage("the searches before it"):
            self._slots.__enter__()

    def __exit__(self, *error: Any) -> bool | None:
        return self._slots.__exit__(*error)


class _LookedUp:
    """The catalog as the first stage asks it, keeping the heads for the second stage.

    One query with titles costs less than two without: documents deleted between the stages are
    found out when the answer is put together.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self.heads: dict[int, CandidateHead] = {}
        self.texts = catalog.texts
        self.public_ids = catalog.public_ids

    def visible(self, revision_ids: Sequence[int], scope: Scope) -> Mapping[int, int]:
        with stage(CATALOG):
            found = self._catalog.candidate_heads(revision_ids, scope)
        self.heads |= found
        return {revision_id: head.document_id for revision_id, head in found.items()}


class SearchEngine:
    """One catalog, one index, one embedder, at most one reranker."""

    def __init__(
        self,
        catalog: Catalog,
        generation: Generation,
        index: PassageIndex,
        embedder: Embedder,
        reranker: Reranker | None,
        settings: RetrievalSettings,
        deadline_ms: float | None = None,
        depth: DepthChoice = "passage",
        seen_seq: Callable[[], int] = lambda: 0,
        slots: AbstractContextManager[Any] | None = None,
        marks_suspicious: bool = True,
        limits: StageLimits | None = None,
    ) -> None:
        """`slots` is held while the query is embedded (here, and not elsewhere) and candidates are
        found, not while they are read: more may wait than should compute at once. `limits`: how
        long parts that stand still are waited for; None: as long as it takes."""
        self.catalog = catalog
        self.generation = generation
        self.index = index
        self.embedder = embedder
        self.reranker = reranker
        self.settings = settings
        self.deadline_ms = deadline_ms
        self.depth: DepthChoice = depth
        self.limits = limits or StageLimits()
        self._embedder_calls = Patience(EMBEDDER)
        self.embed_failure: str | None = None
        """Why the last query could not be embedded; None where it could."""
        self._seen_seq = seen_seq
        self.marks_suspicious = marks_suspicious
        self.slots = nullcontext() if slots is None else InTurn(slots)
        waits = isinstance(embedder, DistantEmbedder)
        self.embedding: AbstractContextManager[Any] = nullcontext() if waits else self.slots
        self._embed_seconds = None if waits else self.limits.stage_seconds

    def search(self, request: SearchRequest, watch: Watch | None = None) -> SearchAnswer:
        """Answer a request. Raises InvalidRequest and NotFound for what the caller got wrong.

        `watch` is given answers on the way: the first stage's hits at once, then what reading has
        made of them, at most every `_LOOK_MS`. `degraded` of those says nothing about reading yet.
        """
        started = time.perf_counter()
        seen_seq = self._seen_seq()

        def put_together(run: StageRun) -> SearchAnswer:
            with stage(CATALOG):
                return answer_of(self, run, request, started, seen_seq)

        if watch is None:
            return put_together(self.run(request))

        def tell(run: StageRun) -> None:
            watch(put_together(replace(run, is_final=False)))

        return put_together(self.run(request, tell))

    def nearest(self, text: str, passages: Sequence[PassageText]) -> PassageText:
        """The passage that is nearest to `text`; the first where that cannot be told."""
        with self.embedding:
            vectors = self.embed(text, None)
        if vectors is None:
            return passages[0]
        with stage(INDEX), self.slots:
            points = [passage.point_id for passage in passages]
            scores = self.index.score_dense(vectors.dense, points)
        return max(passages, key=lambda passage: scores.get(passage.point_id, -2.0))

    def _check_reranker(self, request: SearchRequest) -> None:
        """Raises InvalidRequest where another reranker was asked for than there is."""
        name = self.reranker.name if self.reranker else "none"
        if request.reranker not in (None, name):
            raise InvalidRequest(
                f"The second stage here is {name}, not {request.reranker}.",
                "Leave rerank.model out, or set reranker.kind.",
            )

    def run(
        self,
        request: SearchRequest,
        tell: Callable[[StageRun], None] | None = None,
        asked: StageRun | None = None,
    ) -> StageRun:
        """Both stages, without cutting out the answer. `tell`: see `search`.

        `asked`: a run of the same question, whose vectors are taken; it may then be without words
        and without a filter.
        """
        timings: dict[str, float] = {}
        started = time.perf_counter()
        _check(request)
        self._check_reranker(request)
        least_score(self.reranker, request)
        with stage(CATALOG):
            languages = self.catalog.collection_languages(request.scope, request.collections)
            parsed = self._parse(request, list(languages))
        if request.where is not None:
            where = And((parsed.where, request.where)) if parsed.where else request.where
            parsed = replace(parsed, where=where)
        if (
            asked is None
            and not parsed.text.strip()
            and parsed.where is None
            and not parsed.phrases
            and not parsed.excluded
        ):
            raise InvalidRequest("The query is empty.", "Ask with words, a phrase or a filter.")
        with stage(CATALOG):
            request, differently = self._with_defaults(request, languages)
        timings["parse"] = lap_ms(started)
        if not languages:
            return _nothing(parsed, timings)

        looked_up = _LookedUp(self.catalog)
        with self.embedding:
            started = time.perf_counter()
            vectors = asked.vectors if asked else self.embed(parsed.text, request.instruction)
            timings["embed"] = lap_ms(started)
        first_stage = span("first_stage", collections=len(languages))
        with stage(INDEX), self.slots, first_stage as note:
            retrieval = retrieve(
                RetrievalQuery(
                    text=parsed.text,
                    vector=vectors.dense if vectors else None,
                    phrases=parsed.phrases,
                    excluded=parsed.excluded,
                    where=parsed.where,
                    scope=request.scope,
                    collections=languages,
                ),
                self.index,
                looked_up,
                self.settings_for(request),
            )
            note("candidates", len(retrieval.candidates))
            for name, count in retrieval.counts.items():
                note(name, count)
        timings |= retrieval.timings_ms

        detected = detect(parsed.text)
        warnings = [
            warning
            for language in sorted(set(languages.values()))
            if (
                warning := mismatch_warning(
                    detected, language, "The query", self.embedder.languages
                )
            )
        ]
        warnings += differently
        if request.depth not in (None, "passage") and request.group == "none":
            warnings.append("group none ranks passages for themselves: no document was read whole.")
        if vectors is not None and vectors.truncated_tokens:
            warnings.append(
                f"The query is longer than the embedding model reads: its last "
                f"{vectors.truncated_tokens} tokens were used by the word search (BM25) only."
            )

        def staged(read: SecondStage) -> StageRun:
            return StageRun(
                parsed,
                replace(retrieval, candidates=read.candidates),
                read.result,
                read.heads,
                read.passages,
                tuple(warnings),
                {**timings, **read.timings_ms},
                read.dense,
                request.instruction,
                read.depth,
                vectors,
            )

        query = ReaderQuery(parsed.text, request.instruction, vectors, request.is_bulk)
        on_stage = None if tell is None else lambda read: tell(staged(read))
        return staged(self.read(retrieval.candidates, query, request, looked_up.heads, on_stage))

    def read(
        self,
        found: Sequence[Candidate],
        query: ReaderQuery,
        request: SearchRequest,
        known_heads: Mapping[int, CandidateHead] | None = None,
        tell: Callable[[SecondStage], None] | None = None,
    ) -> SecondStage:
        """The second stage over first-stage candidates.

        `known_heads`: what the catalog has just said of them. `tell`: see `search`.
        """
        revision_ids = [candidate.revision_id for candidate in found]
        if known_heads is None:
            known_heads = self.catalog.candidate_heads(revision_ids, request.scope)
        heads = {each: known_heads[each] for each in revision_ids if each in known_heads}
        candidates = tuple(c for c in found if c.revision_id in heads)
        if tell is not None:
            # Before anything is fetched to be read: whoever waits sees the first stage's hits.
            bare = [ReadingInput(each.rank, "", 0, 0, ()) for each in candidates]
            first = read_candidates(query, candidates, bare, None, Budget())
            tell(SecondStage(candidates, heads, {}, first, {}, {}, None))
        started = time.perf_counter()
        points = [passage.point_id for c in candidates for passage in c.passages]
        reranker = self.reranker if request.rerank and query.text.strip() else None
        with_text = reranker is not None and reranker.reads_text
        with stage(CATALOG):
            passages, sizes = self.catalog.hydrate(
                heads, points, self.generation, with_text=with_text
            )
        inputs = [
            ReadingInput(
                rank=candidate.rank,
                title=heads[candidate.revision_id].title,
                document_tokens=sizes[candidate.revision_id].token_count,
                first_passage_id=sizes[candidate.revision_id].first_passage_id or 0,
                passages=tuple(
                    passages[each.point_id]
                    for each in candidate.passages
                    if each.point_id in passages
                ),
            )
            for candidate in candidates
        ]
        depth = (request.depth or self.depth) if request.group == "document" else "passage"
        whole = None
        if reranker is not None and depth != "passage":
            whole = WholeDocuments(
                self.catalog, self.index, self.generation, reranker, candidates, heads, sizes,
                query.vectors,
            )  # fmt: skip
        hydrated = time.perf_counter()

        def staged(result: ReadResult, read_as: DepthChoice | None) -> SecondStage:
            timings = {"hydrate": (hydrated - started) * 1000.0, "rerank": lap_ms(hydrated)}
            dense = whole.dense if whole else {}
            return SecondStage(candidates, heads, passages, result, timings, dense, read_as)

        looked = time.perf_counter()

        def progress(make: Callable[[], ReadResult]) -> None:
            nonlocal looked
            if tell is not None and lap_ms(looked) >= _LOOK_MS:
                tell(staged(make(), depth))
                looked = time.perf_counter()

        budget = Budget(
            deadline_ms=request.deadline_ms or self.deadline_ms,
            max_tokens=request.max_tokens,
            given_up=request.given_up,
            stall_seconds=self.limits.reading_seconds,
        )
        with span("read", reranker=reranker.name if reranker else "none", depth=depth) as note:
            result = read_candidates(
                query,
                candidates,
                inputs,
                reranker,
                budget,
                depth=depth if whole else "passage",
                documents=whole,
                most=request.read_candidates,
                on_progress=progress,
            )
            note("candidates", len(candidates))
            note("read_count", result.reranked_count)
            note("degraded", len(result.degraded))
        return staged(result, depth if reranker is not None else None)

    def _parse(self, request: SearchRequest, collections: list[str]) -> ParsedQuery:
        if request.plain:
            return ParsedQuery(request.query, (), (), None, request.query)
        metadata_fields = self.catalog.metadata_fields(collections)
        known_fields = {*BUILT_IN_FIELDS, *DERIVED_FIELDS, *metadata_fields}
        return parse_query(request.query, known_fields)

    def _with_defaults(
        self, request: SearchRequest, collections: Mapping[str, str]
    ) -> tuple[SearchRequest, list[str]]:
        """The request with what its collections say of reading where it says nothing, and what to
        tell: collections that say differently are not followed."""
        reranker = self.reranker if request.rerank else None
        said = self.catalog.collection_defaults(collections)
        warnings = []
        for name, default, words in _READING_DEFAULTS if reranker else ():
            values = {getattr(reading, default) for _, reading in said.values()}
            if getattr(request, name) is not None or values <= {None}:
                continue
            if len(values) > 1:
                warnings.append(
                    f"The collections that were searched say differently {words}, so it was as "
                    "configured: search one of them, or say it in the search."
                )
            else:
                request = replace(request, **{name: values.pop()})
        request, more = self._instructed(request, {text for text, _ in said.values()})
        return request, [*warnings, *more]

    def _instructed(
        self, request: SearchRequest, said: set[str]
    ) -> tuple[SearchRequest, list[str]]:
        """`said`: what the collections say counts as an answer."""
        reranker = self.reranker if request.rerank else None
        taken = self.embedder.takes_instruction or (
            reranker is not None and reranker.takes_instruction
        )
        if request.instruction is not None and reranker and not reranker.takes_instruction:
            only = ", only the embedder does" if self.embedder.takes_instruction else ""
            return request, [f"{reranker.name} takes no instruction{only}: it read without one."]
        if request.instruction is not None or not taken or not said:
            return request, []
        if len(said) > 1:
            return request, [
                "The collections that were searched say differently what counts as an answer, so "
                "none of it was used: search one of them, or give an instruction."
            ]
        return replace(request, instruction=said.pop() or None), []

    def embed(self, text: str, instruction: str | None) -> QueryVectors | None:
        """The query's vectors; None when the model fails: BM25 still answers, and says so."""
        if not text.strip():
            return None
        try:
            words = instruction_text(instruction) if instruction else None
            with span("embed", model=self.embedder.name):
                vectors = self._embedder_calls.call(
                    lambda: self.embedder.embed_query(text, words), self._embed_seconds
                )
        except Exception as error:
            _log.exception("search.embed_failed")
            self.embed_failure = reason_of(error)
            return None
        self.embed_failure = None
        return vectors

    def settings_for(self, request: SearchRequest) -> RetrievalSettings:
        """The first stage's settings with what the request says otherwise."""
        changes: dict[str, object] = {"group": request.group, "explain": request.explain}
        if request.candidates is not None:
            changes["candidates"] = request.candidates
        if request.passages_per_document is not None:
            changes["passages_per_document"] = request.passages_per_document
        if request.fusion is not None:
            changes["fusion"] = request.fusion
        return replace(self.settings, **changes)  # type: ignore[arg-type]


def _check(request: SearchRequest) -> None:
    if len(request.query) > MAX_QUERY_CHARS:
        raise InvalidRequest(
            f"The query has {len(request.query):,} characters; {MAX_QUERY_CHARS:,} are taken.",
            "Search for the part that matters.",
        )
    if request.limit < 1 or request.offset < 0:
        raise InvalidRequest("limit must be at least 1 and offset at least 0.")
    if request.collapse and request.group == "none":
        raise InvalidRequest(
            "collapse joins documents, and group none ranks passages.", "Leave one of them out."
        )


def _nothing(parsed: ParsedQuery, timings: Mapping[str, float]) -> StageRun:
    empty = ReadResult((), (), (), (), 0, 0.0)
    warning = "There is no collection to search yet: index some documents first."
    return StageRun(parsed, Retrieval(()), empty, {}, {}, (warning,), timings)
