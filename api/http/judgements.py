"""/v1/judgements: what people say of answers (a thumb is grade 1 or 0), kept, listed, taken back.

The page's thumbs come here as well, as a form where there is no script.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from urllib.parse import parse_qsl, urlencode

from fastapi import APIRouter, File, Form, Query, UploadFile
from fastapi.responses import RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from longleaf.api import judging
from longleaf.api.evaluate import feedback
from longleaf.api.evaluate.feedback import LEAST_QUERIES
from longleaf.api.http.errors import PROBLEM_RESPONSES
from longleaf.api.http.plain import PlainJSON
from longleaf.api.http.schemas import time_of
from longleaf.api.http.service import Served, Service
from longleaf.core.access import Role
from longleaf.core.catalog.judgements import (
    GRADES,
    LOCAL,
    MAX_JUDGE_CHARS,
    MAX_QUERY_CHARS,
    Judgement,
    JudgementWrite,
)
from longleaf.core.errors import InvalidRequest
from longleaf.retriever.query import readable

router = APIRouter(
    prefix="/v1",
    tags=["judgements"],
    responses=PROBLEM_RESPONSES,
    default_response_class=PlainJSON,
)
form_router = APIRouter(include_in_schema=False)

_MOST = 1000
_NAMED = 20
_MOST_CHARS = 1 << 40
_MOST_ID = (1 << 63) - 1
_Judge = Annotated[str, Field(min_length=1, max_length=MAX_JUDGE_CHARS)]


class JudgementBody(BaseModel):
    """How well a document answers a query."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"query": "who repairs the roof?", "document_id": "nmpvxe…", "grade": 1},
            ]
        },
    )

    query: str = Field(
        min_length=1, max_length=MAX_QUERY_CHARS, description="As it was asked, syntax and all."
    )
    document_id: str = Field(max_length=64)
    grade: int = Field(
        ge=GRADES[0],
        le=GRADES[-1],
        description="1 and more: it answers the query, the more the better (a thumb up is 1); 0 "
        "and less: it does not.",
    )
    start_char: int | None = Field(
        None,
        ge=0,
        le=_MOST_CHARS,
        description="Where the passage begins that was looked at.",
    )
    end_char: int | None = Field(None, ge=1, le=_MOST_CHARS)
    judge: _Judge = Field(LOCAL, description="Whose opinion it is: each has one of a pair.")


class JudgementView(BaseModel):
    """A judgement as kept."""

    id: int
    query: str
    document_id: str
    collection: str
    key: str
    title: str
    grade: int
    judge: str
    revision: int = Field(description="The document's, when it was judged.")
    start_char: int | None
    end_char: int | None
    judged_at: datetime

    @classmethod
    def of(cls, judgement: Judgement) -> JudgementView:
        values = {
            name: getattr(judgement, name) for name in cls.model_fields if name != "judged_at"
        }
        return cls(**values, judged_at=time_of(judgement.judged_at or 0.0))


class JudgementList(BaseModel):
    judgements: list[JudgementView]
    next_after: int | None = Field(description="Asks for the next ones as `after`; null: no more.")


class OneSided(BaseModel):
    """A query that could tell stages apart with one more judgement."""

    query: str
    needs: str = Field(description="good: an answer that is relevant; worse: one that is less so.")


class StandingView(BaseModel):
    """What was judged in a collection, and what is missing for a verdict."""

    collection: str
    judgements: int
    judges: int
    queries: int
    telling: int = Field(description="Queries that can tell stages apart.")
    needed: int = Field(LEAST_QUERIES, description="How many of them a verdict needs at least.")
    one_sided_count: int
    one_sided: list[OneSided] = Field(description="The first twenty.")
    missing: str = Field(description="What is missing, in words; empty: nothing.")

    @classmethod
    def of(cls, standing: feedback.Standing) -> StandingView:
        return cls(
            collection=standing.collection,
            judgements=standing.judgements,
            judges=standing.judges,
            queries=standing.queries,
            telling=standing.telling,
            one_sided_count=len(standing.one_sided),
            one_sided=[
                OneSided(query=query, needs="good" if needs_good else "worse")
                for query, needs_good in standing.one_sided[:_NAMED]
            ],
            missing=standing.missing,
        )


class StandingList(BaseModel):
    collections: list[StandingView] = Field(description="Those with judgements, by name.")


class TableKept(BaseModel):
    """What an import has kept."""

    judgements: int
    queries: int
    unknown_documents: list[str] = Field(
        description="Judged, not here and left out: the first 1,000."
    )


class JudgementKept(BaseModel):
    """What was kept, or taken back where `grade` is null."""

    query: str
    document_id: str
    judge: str
    grade: int | None


@router.post("/judgements", summary="Judge a document for a query")
async def put_judgement(body: JudgementBody, service: Served) -> JudgementKept:
    """Keep a judgement; a later one of the same judge replaces it. It goes with its document."""
    judge = judge_of(service, body.judge)
    write = JudgementWrite(**(body.model_dump() | {"judge": judge}))
    judgements = service.runtime.catalog.judgements
    await service.write(lambda: judgements.put([write], service.scope))
    return JudgementKept(
        query=body.query, document_id=body.document_id, judge=judge, grade=body.grade
    )


@router.delete("/judgements", summary="Take a judgement back")
async def delete_judgement(
    query: Annotated[str, Query(min_length=1, max_length=MAX_QUERY_CHARS)],
    document_id: Annotated[str, Query(max_length=64)],
    service: Served,
    judge: Annotated[_Judge, Query()] = LOCAL,
) -> JudgementKept:
    """Forget what one judge said of a document for a query."""
    judge = judge_of(service, judge)
    judgements = service.runtime.catalog.judgements
    await service.write(lambda: judgements.remove(query, document_id, service.scope, judge))
    return JudgementKept(query=query, document_id=document_id, judge=judge, grade=None)


@router.get("/judgements", summary="List judgements")
async def list_judgements(
    service: Served,
    collection: Annotated[
        list[str] | None, Query(max_length=1000, description="Only of these collections.")
    ] = None,
    query: Annotated[
        str | None, Query(max_length=MAX_QUERY_CHARS, description="Only of this query.")
    ] = None,
    after: Annotated[int, Query(ge=0, le=_MOST_ID, description="The last page's next_after.")] = 0,
    limit: Annotated[int, Query(ge=1, le=_MOST)] = 100,
) -> JudgementList:
    """Judgements of documents that you may see, oldest first."""
    judgements = service.runtime.catalog.judgements
    found = await service.read(
        lambda: judgements.found(service.scope, collection, query, after, limit + 1)
    )
    more = found[limit - 1].id if len(found) > limit else None
    return JudgementList(
        judgements=[JudgementView.of(each) for each in found[:limit]], next_after=more
    )


@router.get("/judgements/standing", summary="What is missing for a verdict")
async def get_standing(service: Served) -> StandingList:
    """For each collection with judgements: how many there are, and whether they can tell yet
    whether reading is worth it."""
    return await service.read(lambda: standing_of(service))


@router.get(
    "/judgements/table",
    summary="Export judgements",
    response_class=Response,
    responses={200: {"content": {"text/csv": {}}, "description": "The table."}},
)
async def export_table(
    service: Served,
    collection: Annotated[
        list[str] | None, Query(max_length=1000, description="Only of these collections.")
    ] = None,
) -> Response:
    """All that is kept of judgements, as a table (CSV) that the import takes."""
    judgements = service.runtime.catalog.judgements
    table = await service.read(
        lambda: judging.export_csv(judgements.found(service.scope, collection))
    )
    headers = {"content-disposition": 'attachment; filename="judgements.csv"'}
    return Response(table.encode("utf-8", "replace"), 200, headers, "text/csv; charset=utf-8")


@router.post("/judgements/table", summary="Import judgements")
async def import_table(
    service: Served,
    file: Annotated[UploadFile, File(description="A CSV or TSV table with its column names.")],
    collection: Annotated[
        str | None,
        Form(max_length=1000, description="Where documents are that are named by key alone."),
    ] = None,
    judge: Annotated[
        _Judge, Form(description="Whose judgements these are, where the table does not say.")
    ] = "import",
    skip_unknown: Annotated[
        bool, Form(description="Leave out documents that are not here, instead of refusing all.")
    ] = False,
) -> TableKept:
    """Keep the judgements of a table, all or none. The same again changes nothing."""
    data, name = await file.read(), readable(file.filename or "The table")[:200]
    catalog = service.runtime.catalog
    done = await service.write(
        lambda: judging.import_table(
            catalog,
            data,
            name,
            service.scope,
            collection=collection or None,
            judge=judge,
            skip_unknown=skip_unknown,
        )
    )
    return TableKept(
        judgements=done.judgements,
        queries=done.queries,
        unknown_documents=list(done.unknown[:_MOST]),
    )


def judge_of(service: Service, given: str) -> str:
    """Whose opinion it is: the caller's own, where nobody else is named. Raises InvalidRequest for
    a reader who names another."""
    caller = service.caller
    if given in (LOCAL, caller.name):
        return caller.name
    if not caller.role.includes(Role.WRITE):
        raise InvalidRequest(f"You judge as {caller.name!r}, for nobody else.", "Leave judge out.")
    return given


def standing_of(service: Service) -> StandingList:
    """What `get_standing` answers."""
    judgements, scope = service.runtime.catalog.judgements, service.scope
    found = [
        feedback.standing(name, judgements.found(scope, [name])) for name in judgements.count(scope)
    ]
    return StandingList(collections=[StandingView.of(each) for each in found])


@form_router.post("/judge")
async def judge_by_form(
    service: Served,
    q: Annotated[str, Form(min_length=1, max_length=MAX_QUERY_CHARS)],
    document_id: Annotated[str, Form(max_length=64)],
    rank: Annotated[int, Form(ge=1)],
    grade: Annotated[int | None, Form(ge=0, le=1)] = None,
    start: Annotated[int | None, Form(ge=0, le=_MOST_CHARS)] = None,
    end: Annotated[int | None, Form(ge=1, le=_MOST_CHARS)] = None,
    back: Annotated[str, Form(max_length=200_000)] = "",
) -> RedirectResponse:
    """A thumb of the search page; without a grade it is taken back. Goes back to that search."""
    judgements = service.runtime.catalog.judgements
    if grade is None:
        judge = service.caller.name
        await service.write(lambda: judgements.remove(q, document_id, service.scope, judge))
    else:
        write = JudgementWrite(q, document_id, grade, service.caller.name, start, end)
        await service.write(lambda: judgements.put([write], service.scope))
    # Only ever to the search page: `back` is read as its link's query and written anew.
    link = urlencode(parse_qsl(back, keep_blank_values=True))
    return RedirectResponse(f"/?{link}#hit-{rank}", status_code=303)
