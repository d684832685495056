"""GET /v1/suggest: titles of documents that hold what was typed so far.

From the catalog's words of titles, bounded in time; no model is asked and no query is kept. What
somebody searched before is known to that person's browser alone.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from longleaf.api.http.errors import PROBLEM_RESPONSES
from longleaf.api.http.plain import PlainJSON, check_plain
from longleaf.api.http.service import Served
from longleaf.retriever.query import readable

router = APIRouter(
    prefix="/v1", tags=["search"], responses=PROBLEM_RESPONSES, default_response_class=PlainJSON
)

_MOST_SECONDS = 0.05
_MOST_CHARS = 200


class Suggestion(BaseModel):
    """A document whose title was found."""

    document_id: str
    collection: str
    title: str
    url: str = Field(description="Its page on this server.")


class SuggestionList(BaseModel):
    """Titles that begin with what was typed first, then the shorter ones."""

    suggestions: list[Suggestion]
    complete: bool = Field(
        description="There are no more: false where the limit, or the time to look in, ended it."
    )


@router.get("/suggest", summary="Find titles that are being typed")
async def get_suggestions(
    service: Served,
    q: Annotated[str, Query(max_length=_MOST_CHARS, description="What was typed so far.")],
    collection: Annotated[
        list[str] | None,
        Query(max_length=1000, description="Where to look; repeat it for more."),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=50, description="Titles in the answer.")] = 8,
) -> SuggestionList:
    """Titles that hold each typed word, the last one as it begins; equal titles come once."""
    catalog = service.runtime.catalog
    check_plain(collection, "collection")

    def work() -> SuggestionList:
        scope = service.scope
        if collection:
            scope = scope.narrowed(catalog.collection_languages(scope, collection))
        matches = catalog.titles(readable(q), scope, limit, _MOST_SECONDS)
        return SuggestionList(
            suggestions=[
                Suggestion(**each._asdict(), url=f"/documents/{each.document_id}")
                for each in matches.found
            ],
            complete=matches.complete,
        )

    return await service.read(work)
