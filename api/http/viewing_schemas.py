"""What the routes of the viewer answer: deciding passages, matches, pages and words on them."""

from __future__ import annotations

from pydantic import BaseModel, Field

from longleaf.api.http.answer_schemas import DegradedView, PageSize, PassageHit, RectangleView
from longleaf.api.http.search_schemas import Collections, Instruction, ReadLink
from longleaf.api.searched import MAX_QUERY_CHARS


class PassagesLink(ReadLink):
    """The search that led to a document. What only chooses among documents is no part of it."""

    q: str = Field(
        min_length=1, max_length=MAX_QUERY_CHARS, description="The query, as a search takes it."
    )
    collection: Collections = Field([])
    instruction: Instruction = None
    limit: int | None = Field(
        None, ge=1, le=32, description="At most so many; left out: as many as a hit has."
    )


class DecidingPassage(PassageHit):
    """A passage that decided, and where it stands on the pages."""

    rectangles: list[RectangleView] | None = Field(
        description="One for each line of each page; null where no places are known."
    )


class DecidingPassages(BaseModel):
    """The passages of one document that decide for a query."""

    document_id: str
    revision: int
    query: str
    reranker: str | None = Field(description="Who read them; null: nobody.")
    passages: list[DecidingPassage] = Field(description="Best first.")
    degraded: list[DegradedView]
    warnings: list[str]


class MatchView(BaseModel):
    """A place where the text stands."""

    start_char: int
    end_char: int
    rectangles: list[RectangleView] | None = Field(
        description="With `rectangles`, for documents that know places; else null."
    )


class MatchList(BaseModel):
    """Where a text stands in a document."""

    document_id: str
    revision: int
    text: str
    count: int = Field(description="How many there are in the whole document.")
    first: int = Field(description="The number of the first one listed; counts from 0.")
    matches: list[MatchView]


class PageList(BaseModel):
    """A document's pages."""

    document_id: str
    revision: int
    images: bool = Field(description="Whether pages can be had as pictures.")
    why_no_images: str = Field(description="Why not; empty where they can.")
    pages: list[PageSize] | None = Field(
        description="Width and height of each page in points, page 1 first; null: not known."
    )


class WordView(BaseModel):
    """Characters without white space, and where they stand on the page, in points."""

    start_char: int
    end_char: int
    text: str
    left: float
    top: float
    right: float
    bottom: float


class PageWords(BaseModel):
    """The words of one page."""

    document_id: str
    revision: int
    page: int
    width: float
    height: float
    words: list[WordView] = Field(description="In the order of the text.")
