"""/v1/vector_stores: collections as OpenAI's clients look at and search them.

A search runs both stages as /v1/search does. Its score is what the reranker says of a document (0
to 1 where its model has such a thing), or the best passage's cosine where nobody read it; the order
is that of /v1/search, which also weighs the first stage, so scores need not fall along it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from longleaf.api.http.collections import collection_named
from longleaf.api.http.dialects.forms import (
    MODEL_HEADER,
    Lenient,
    cut_header,
    header_text,
    relevance,
)
from longleaf.api.http.dialects.routes import body_schema, json_object, validated
from longleaf.api.http.errors import FOREIGN_PROBLEMS
from longleaf.api.http.plain import PlainJSON, check_plain
from longleaf.api.http.rerank_schemas import Text
from longleaf.api.http.service import GivenUp, Served
from longleaf.api.search import SearchAnswer, SearchRequest
from longleaf.api.searched import MAX_QUERY_CHARS
from longleaf.core.catalog import Collection
from longleaf.core.errors import InvalidRequest
from longleaf.core.filters import Filter
from longleaf.core.hits import Hit
from longleaf.core.protocols import Reranker
from longleaf.reranker.cache import uncached
from longleaf.retriever.filters import MAX_DEPTH, filter_from_json

router = APIRouter(prefix="/v1/vector_stores", tags=["openai"], responses=FOREIGN_PROBLEMS)

_WINDOW = 100
"""Documents that a threshold looks through."""
_ID = Path(description="The collection's name.", max_length=200)


class RankingOptions(Lenient):
    """How results are ranked."""

    ranker: str = Field("auto", max_length=200, description="none: stop after the first stage.")
    score_threshold: float | None = Field(None, description="Leave out results that score lower.")


class StoreSearchBody(Lenient):
    """A search in a vector store."""

    query: Text | list[Text] = Field(description="Words; several texts are one question.")
    filters: dict[str, Any] | None = Field(None, description="A comparison, or and/or of some.")
    max_num_results: int = Field(10, ge=1, le=50)
    ranking_options: RankingOptions | None = None
    rewrite_query: bool = Field(False, description="Queries are never rewritten here.")

    def words(self) -> str:
        """The question. Raises InvalidRequest where there is none, or it is too long."""
        words = self.query if isinstance(self.query, str) else "\n".join(self.query)
        if not words.strip() or len(words) > MAX_QUERY_CHARS:
            raise InvalidRequest(
                f"query: expected 1 to {MAX_QUERY_CHARS:,} characters.", "Ask with words."
            )
        return words


@router.post(
    "/{vector_store_id}/search",
    summary="Search a collection (OpenAI)",
    openapi_extra=body_schema(StoreSearchBody),
)
async def search_store(request: Request, service: Served, vector_store_id: str = _ID) -> Response:
    """Documents of the collection with their deciding passages, by both stages."""
    body = validated(StoreSearchBody, await json_object(request))
    check_plain(vector_store_id, "vector_store_id")
    options = body.ranking_options or RankingOptions()
    asked = SearchRequest(
        query=body.words(),
        scope=service.scope,
        collections=(vector_store_id,),
        where=_filter(body.filters),
        limit=body.max_num_results if options.score_threshold is None else _WINDOW,
        rerank=options.ranker != "none",
        plain=True,
    )

    def work(given_up: GivenUp) -> Response:
        with service.runtime.answering() as engine:
            answer = engine.search(replace(asked, given_up=given_up))
            reranker = uncached(engine.reranker) if engine.reranker else None
        service.metrics.note_answer(answer)
        return _answer(body, options, answer, reranker)

    return await service.search(request, work)


def _answer(
    body: StoreSearchBody, options: RankingOptions, answer: SearchAnswer, reranker: Reranker | None
) -> Response:
    scored = [(each, _score(each, reranker)) for each in answer.hits]
    least = options.score_threshold
    kept = [(hit, score) for hit, score in scored if least is None or score >= least]
    shown = kept[: body.max_num_results]
    headers = {MODEL_HEADER: header_text(answer.reranker or "none")}
    if body.rewrite_query:
        headers["X-Longleaf-Ignored"] = "rewrite_query"
    if answer.degraded:
        why = "; ".join(f"{each.stage}: {each.reason}" for each in answer.degraded)
        headers["X-Longleaf-Degraded"] = header_text(why[:2000])
    headers |= _cut(answer, [hit for hit, _ in shown])
    if answer.warnings:
        headers["X-Longleaf-Warnings"] = header_text("; ".join(answer.warnings)[:2000])
    page = {
        "object": "vector_store.search_results.page",
        "search_query": [body.words()],
        "data": [_result(hit, score) for hit, score in shown],
        "has_more": False,
        "next_page": None,
    }
    return PlainJSON(page, headers=headers)


def _cut(answer: SearchAnswer, shown: Sequence[Hit]) -> dict[str, str]:
    """The header that the rerank dialects have too: what was not read, by places in `data`."""
    cut = {
        place: hit.reading.truncated_tokens
        for place, hit in enumerate(shown)
        if hit.reading is not None
    }
    return cut_header(cut, answer.query_truncated_tokens)


def _score(hit: Hit, reranker: Reranker | None) -> float:
    if hit.reading is not None and reranker is not None:
        return relevance(reranker, hit.reading)
    cosines = [each.found.dense_score for each in hit.passages]
    return max((each for each in cosines if each is not None), default=0.0)


def _result(hit: Hit, score: float) -> dict[str, Any]:
    return {
        "file_id": hit.document_id,
        "filename": hit.source or hit.title,
        "score": score,
        "attributes": {
            name: ", ".join(value) if isinstance(value, tuple) else value
            for name, value in hit.metadata.items()
        },
        "content": [{"type": "text", "text": each.passage.text} for each in hit.passages],
    }


_BOUNDS = ("gt", "gte", "lt", "lte")


def _filter(given: Mapping[str, Any] | None) -> Filter | None:
    """OpenAI's filter as ours. Raises InvalidRequest, naming what is wrong."""
    if given is None:
        return None
    tree = filter_from_json(_tree(given, "filters", 1), "filters")
    check_plain(given, "filters")  # after the reading, which has a limit on the depth
    return tree


def _tree(given: Any, path: str, depth: int) -> dict[str, Any]:
    if not isinstance(given, Mapping) or depth > MAX_DEPTH:
        raise InvalidRequest(
            f"{path[:200]}: expected a comparison or and/or, at most {MAX_DEPTH} levels deep.",
            '{"type": "eq", "key": "year", "value": 2020}',
        )
    kind, parts = given.get("type"), given.get("filters")
    if kind in ("and", "or") and isinstance(parts, list):
        inner = [_tree(each, f"{path}.filters[{n}]", depth + 1) for n, each in enumerate(parts)]
        return {str(kind): inner}
    key, value = given.get("key"), given.get("value")
    if kind in (*_BOUNDS, "eq", "in"):
        return {"field": key, str(kind): value}
    if kind == "ne":
        return {"not": {"field": key, "eq": value}}
    if kind == "nin":
        return {"not": {"field": key, "in": value}}
    raise InvalidRequest(
        f"{path[:200]}.type: expected eq, ne, gt, gte, lt, lte, in, nin, and, or.",
        '{"type": "eq", "key": "year", "value": 2020}',
    )


class StoreLink(BaseModel):
    """A part of the list."""

    limit: int = Field(20, ge=1, le=100)
    order: Literal["asc", "desc"] = Field("desc", description="By when they were made.")
    after: str | None = Field(None, max_length=200, description="The id before the first.")
    before: str | None = Field(None, max_length=200, description="The id behind the last.")


@router.get("", summary="List collections (OpenAI)")
async def list_stores(link: Annotated[StoreLink, Query()], service: Served) -> Response:
    """Collections, newest first.

    Raises InvalidRequest where `after` or `before` is none of them: a client that goes from page to
    page would begin again.
    """
    found = await service.read(lambda: service.runtime.catalog.collections(service.scope))
    found = sorted(found, key=lambda each: (each.created_at, each.name))
    if link.order == "desc":
        found.reverse()
    ids = [each.name for each in found]
    for name, place in (("after", link.after), ("before", link.before)):
        if place and place not in ids:
            raise InvalidRequest(
                f"{name}: there is no vector store {place!r}.", "List them from the beginning."
            )
    first = ids.index(link.after) + 1 if link.after else 0
    end = ids.index(link.before) if link.before else len(ids)
    shown = found[first:end][: link.limit]
    return PlainJSON(
        {
            "object": "list",
            "data": [_store(each) for each in shown],
            "first_id": shown[0].name if shown else None,
            "last_id": shown[-1].name if shown else None,
            "has_more": first + len(shown) < end,
        }
    )


@router.get("/{vector_store_id}", summary="Look at a collection (OpenAI)")
async def get_store(service: Served, vector_store_id: str = _ID) -> Response:
    """One collection. `usage_bytes` is 0: it is not counted by collection."""
    return PlainJSON(_store(await service.read(lambda: collection_named(service, vector_store_id))))


def _store(collection: Collection) -> dict[str, Any]:
    count = collection.document_count
    made = int(collection.created_at)
    return {
        "id": collection.name,
        "object": "vector_store",
        "created_at": made,
        "name": collection.name,
        "description": collection.description,
        "usage_bytes": 0,
        "file_counts": {
            "in_progress": 0, "completed": count, "failed": 0, "cancelled": 0, "total": count,
        },
        "status": "completed",
        "expires_after": None,
        "expires_at": None,
        "last_active_at": None,
        "metadata": {},
    }  # fmt: skip
