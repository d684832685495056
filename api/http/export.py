"""GET /v1/search/export: a search's hits as a file: CSV for a spreadsheet, JSON, a TREC run.

The search is the same as by link. Trade-off: it is done anew, so the file holds what is found when
it is asked for.
"""

from __future__ import annotations

import csv
import io
import math
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import Field

from longleaf.api.http.answer_schemas import AnswerView
from longleaf.api.http.errors import PROBLEM_RESPONSES
from longleaf.api.http.plain import PlainJSON
from longleaf.api.http.search import body_of, search
from longleaf.api.http.search_schemas import MAX_HITS, SearchLink
from longleaf.api.http.search_view import view
from longleaf.api.http.service import GivenUp, Served
from longleaf.api.spreadsheet import harmless
from longleaf.retriever.query import readable

router = APIRouter(prefix="/v1", tags=["search"], responses=PROBLEM_RESPONSES)

COLUMNS = (
    "rank", "title", "collection", "date", "source", "key", "page", "passage", "score",
    "document_id", "url",
)  # fmt: skip


class ExportLink(SearchLink):
    """A search by link, as a file."""

    limit: int = Field(100, ge=1, le=MAX_HITS, description="Documents in the file.")
    format: Literal["csv", "json", "trec"] = Field("csv", description="What file to write.")
    topic: str = Field(
        "1",
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="With trec: the name of the query in the file.",
    )


@router.get(
    "/search/export",
    summary="Save a search's hits as a file",
    response_class=Response,
    responses={
        200: {
            "description": "The file.",
            "content": {"text/csv": {}, "application/json": {}, "text/plain": {}},
        }
    },
)
async def get_export(
    link: Annotated[ExportLink, Query()], request: Request, service: Served
) -> Response:
    """The hits of a search by link, always as a download."""

    def work(given_up: GivenUp) -> Response:
        return _file(view(*search(service, body_of(link), given_up)), link)

    return await service.search(request, work)


def _file(answer: AnswerView, link: ExportLink) -> Response:
    if link.format == "json":
        response: Response = PlainJSON(answer)
    elif link.format == "trec":
        response = Response(readable(as_run(answer, link.topic)), media_type="text/plain")
    else:
        # With a byte order mark, without which Excel reads no UTF-8.
        response = Response("\ufeff" + readable(as_csv(answer)), media_type="text/csv")
    ending = {"trec": "run"}.get(link.format, link.format)
    response.headers["content-disposition"] = f'attachment; filename="longleaf.{ending}"'
    return response


def as_csv(answer: AnswerView) -> str:
    """A line for each hit, with its best passage (RFC 4180)."""
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    for hit in answer.hits:
        best = hit.passages[0] if hit.passages else None
        page = best.first_page if best else None
        words = (hit.title, hit.collection, hit.date or "", hit.source, hit.key)
        writer.writerow(
            [
                hit.rank,
                *map(harmless, words),
                "" if page is None else page,
                harmless(" ".join(best.text.split()) if best else ""),
                hit.score,
                harmless(hit.document_id),
                hit.url,
            ]
        )
    return file.getvalue()


def as_run(answer: AnswerView, topic: str) -> str:
    """TREC's six columns, best first. Scores fall, because trec_eval sorts by them and not by
    rank; equal ones would change places."""
    lines: list[str] = []
    least = math.inf
    for hit in sorted(answer.hits, key=lambda each: each.rank):
        score = min(hit.score, least)
        least = score - 1e-6 * max(1.0, abs(score))
        lines.append(f"{topic} Q0 {hit.document_id} {hit.rank} {score:.9g} longleaf\n")
    return "".join(lines)
