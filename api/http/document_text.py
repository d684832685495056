"""Part of a document's text: by characters, or by pages.

For who reads a long document in pieces. A page whose footnotes stand behind the text has several
runs, so an answer has parts; each is exactly the text between its offsets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response
from pydantic import BaseModel, Field

from longleaf.api.http.errors import PROBLEM_RESPONSES
from longleaf.api.http.plain import PlainJSON
from longleaf.api.http.service import Served
from longleaf.core.catalog import DocumentHead, DocumentText
from longleaf.core.errors import InvalidRequest, NotFound
from longleaf.core.types import Page

router = APIRouter(
    prefix="/v1",
    tags=["documents"],
    responses=PROBLEM_RESPONSES,
    default_response_class=PlainJSON,
)

MAX_TEXT_CHARS = 1_000_000
Span = tuple[int, int]


class TextPart(BaseModel):
    """A run of a document's text."""

    start_char: int
    end_char: int
    first_page: int | None = Field(description="Null: the document has no pages.")
    last_page: int | None
    headings: list[str] = Field(description="Titles of the sections that it begins in.")
    text: str


class TextParts(BaseModel):
    """What was asked for of a document's text, as far as `limit` goes."""

    document_id: str
    collection: str
    title: str
    revision: int
    text_chars: int = Field(description="Of the whole document.")
    page_count: int = Field(description="0: it has no pages.")
    parts: list[TextPart] = Field(description="In text order; their characters together: `limit`.")
    next: int | None = Field(description="Give it as `start` for more; null: that was all.")


@router.get(
    "/documents/{document_id}/text",
    response_model=TextParts,
    summary="Read part of a document's text",
)
async def get_text(
    service: Served,
    document_id: Annotated[str, Path(description="The document's id.", max_length=64)],
    start: Annotated[int, Query(ge=0, le=1 << 40, description="The first character.")] = 0,
    end: Annotated[
        int | None, Query(ge=1, le=1 << 40, description="Behind the last one; left out: the end.")
    ] = None,
    page: Annotated[
        int | None, Query(ge=1, le=1 << 31, description="Only this page (to `last_page`).")
    ] = None,
    last_page: Annotated[int | None, Query(ge=1, le=1 << 31)] = None,
    limit: Annotated[
        int, Query(ge=1, le=MAX_TEXT_CHARS, description="Characters in the answer.")
    ] = 20_000,
) -> Response:
    """Characters `start` to `end`, or those of some pages, with where they stand."""
    catalog = service.runtime.catalog

    def work() -> Response:
        head = catalog.document(document_id, service.scope)
        body = catalog.text(head)
        begin, until = _checked(head, start, end)
        asked = [(begin, until)]
        if page is not None:
            asked = _clipped(_runs(body.pages, page, last_page or page), begin, until)
        elif last_page is not None:
            raise InvalidRequest("last_page: goes with page.")
        spans, following = _limited(asked, limit)
        return PlainJSON(
            TextParts(
                document_id=head.public_id,
                collection=head.collection,
                title=head.title,
                revision=head.revision,
                text_chars=head.text_chars,
                page_count=body.page_count,
                parts=[_part(body, *span) for span in spans],
                next=following,
            )
        )

    return await service.read(work)


def _checked(head: DocumentHead, start: int, end: int | None) -> Span:
    until = head.text_chars if end is None else min(end, head.text_chars)
    if start < until or (start == until == 0):  # a document without text has nothing to read
        return start, until
    raise InvalidRequest(
        f"start={start}, end={until}: the text has {head.text_chars:,} characters.",
        "start comes before end and before the text's last character.",
    )


def _runs(pages: Sequence[Page], first: int, last: int) -> list[Span]:
    """Where pages `first` to `last` stand; runs that follow each other are one."""
    count = max((each.number for each in pages), default=0)
    if not first <= last <= count:
        what = f"It has {count}." if count else "It has none: read it by characters."
        raise NotFound(f"This document has no pages {first} to {last}.", what)
    runs: list[Span] = []
    joins = False
    for each in pages:
        is_wanted = first <= each.number <= last
        if is_wanted:
            begin = runs.pop()[0] if joins else each.start_char
            runs.append((begin, each.end_char))
        joins = is_wanted
    return runs


def _clipped(runs: Sequence[Span], start: int, end: int) -> list[Span]:
    clipped = [(max(begin, start), min(until, end)) for begin, until in runs]
    return [(begin, until) for begin, until in clipped if begin < until]


def _limited(spans: Sequence[Span], limit_chars: int) -> tuple[list[Span], int | None]:
    """The first `limit_chars` characters of the spans, and where the rest begins (None: none)."""
    kept: list[Span] = []
    for begin, end in spans:
        if limit_chars <= 0:
            return kept, begin
        kept.append((begin, min(end, begin + limit_chars)))
        if end > begin + limit_chars:
            return kept, begin + limit_chars
        limit_chars -= end - begin
    return kept, None


def _part(body: DocumentText, start: int, end: int) -> TextPart:
    numbers = [
        each.number for each in body.pages if each.start_char < end and each.end_char > start
    ]
    around = [each for each in body.sections if each.start_char <= start < each.end_char]
    return TextPart(
        start_char=start,
        end_char=end,
        first_page=min(numbers, default=None),
        last_page=max(numbers, default=None),
        headings=[each.title for each in sorted(around, key=lambda each: each.level)],
        text=body.text[start:end],
    )
