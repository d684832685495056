"""The page at /evaluate: is reading worth it here? Asked, drawn, and query by query.

It shows what /v1/evaluations and /v1/judgements answer, so page and API cannot say different
things. Charts are laid out here in per cent and drawn by the template as SVG with real text; every
number of them stands in a table as well. Forms and links only: it works without script.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlencode

from fastapi import APIRouter, File, Form, Query, UploadFile
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from pydantic import BaseModel, Field

from longleaf.api.evaluate.metrics import MEASURES
from longleaf.api.evaluate.report import TITLES
from longleaf.api.http.evaluations import (
    EvaluationBody,
    EvaluationHead,
    EvaluationView,
    Figure,
    ResultView,
    Unjudged,
    start,
)
from longleaf.api.http.html import render
from longleaf.api.http.judgements import JudgementView, import_table, standing_of
from longleaf.api.http.service import Served, Service
from longleaf.core.catalog.judgements import GRADES, LOCAL, MAX_JUDGE_CHARS, MAX_QUERY_CHARS

router = APIRouter(include_in_schema=False)

_ROWS = 25
_MOST_ID = (1 << 63) - 1
_LEAST_SPAN = 0.05
"""Differences are drawn to this scale at least, so that noise does not fill the chart."""
_LABELS = {
    "bm25": "Words (BM25)",
    "dense": "Meaning (dense)",
    "fused": "First stage (fused)",
    "final": "After reading (final)",
}
_EXPLAINED = {
    "ndcg@10": "how well the best ten are ordered",
    "r@100": "how much of what is relevant is among the first hundred",
    "mrr@10": "how high the first relevant answer stands",
}
Show = Literal["lost", "won", "same"]


class EvaluateLink(BaseModel):
    """What the page shows, as the query part of its link."""

    evaluation: str = Field("", max_length=64)
    measure: Literal["ndcg@10", "r@100", "mrr@10"] = "ndcg@10"
    over: Literal["", "fused", "bm25", "dense"] = ""
    show: Literal["", "lost", "won", "same"] = ""
    offset: int = Field(0, ge=0, le=_MOST_ID)
    after: int = Field(0, ge=0, le=_MOST_ID)
    kept: int | None = Field(None, ge=0)
    unknown: int = Field(0, ge=0)


class Bar(NamedTuple):
    """A stage in the chart: where mean and interval stand, in per cent of the width."""

    label: str
    figure: Figure
    mean: float
    low: float
    high: float


class Gap(NamedTuple):
    """A paired difference in the chart, zero in the middle."""

    stage: str
    over: str
    figure: Figure
    is_clear: bool
    won: int
    lost: int
    mean: float
    low: float
    high: float


class Row(NamedTuple):
    """A query: nDCG@10 of what it is compared with, of the last stage, and between them."""

    query: str
    before: float
    after: float
    difference: float
    url: str


@router.get("/evaluate")
async def show_evaluate(link: Annotated[EvaluateLink, Query()], service: Served) -> Response:
    """The page."""
    return await service.read(lambda: _page(service, link))


@router.post("/evaluate")
async def start_by_form(
    service: Served,
    collection: Annotated[str, Form(max_length=1000)],
    relevant_from: Annotated[int, Form(ge=1, le=GRADES[-1])] = 1,
    unjudged: Annotated[Unjudged, Form()] = "left-out",
) -> RedirectResponse:
    """Start an evaluation and go to where it is told."""
    body = EvaluationBody(collection=collection, relevant_from=relevant_from, unjudged=unjudged)
    begun = await start(service, body)
    return _to(evaluation=begun.id)


@router.post("/evaluate/cancel")
async def cancel_by_form(
    service: Served, evaluation: Annotated[str, Form(max_length=64)]
) -> RedirectResponse:
    """Stop an evaluation."""
    service.evaluations.cancel(evaluation, service.scope)
    return _to(evaluation=evaluation)


@router.post("/evaluate/take-back")
async def take_back_by_form(
    service: Served,
    query: Annotated[str, Form(min_length=1, max_length=MAX_QUERY_CHARS)],
    document_id: Annotated[str, Form(max_length=64)],
    judge: Annotated[str, Form(min_length=1, max_length=MAX_JUDGE_CHARS)] = LOCAL,
    after: Annotated[int, Form(ge=0, le=_MOST_ID)] = 0,
) -> RedirectResponse:
    """Take a judgement back."""
    judgements = service.runtime.catalog.judgements
    await service.write(lambda: judgements.remove(query, document_id, service.scope, judge))
    return _to("judgements", after=after)


@router.post("/evaluate/import")
async def import_by_form(
    service: Served,
    file: Annotated[UploadFile, File()],
    collection: Annotated[str, Form(max_length=1000)] = "",
    skip_unknown: Annotated[bool, Form()] = False,
) -> RedirectResponse:
    """Keep the judgements of a table."""
    done = await import_table(service, file, collection or None, "import", skip_unknown)
    return _to("judgements", kept=done.judgements, unknown=len(done.unknown_documents))


def _to(part: str = "result", **values: Any) -> RedirectResponse:
    shown = {name: value for name, value in values.items() if value}
    return RedirectResponse(f"/evaluate?{urlencode(shown)}#{part}", status_code=303)


def _page(service: Service, link: EvaluateLink) -> Response:
    known = service.evaluations.newest(service.scope)
    shown = next((each for each in known if each.id == link.evaluation), None)
    is_lost = bool(link.evaluation) and shown is None
    if shown is None and known and not is_lost:
        shown = known[0]
    view = None if shown is None else EvaluationView.of(shown)
    judgements = service.runtime.catalog.judgements
    listed = judgements.found(service.scope, after=link.after, limit=_ROWS + 1)
    result = view.result if view else None
    page = render(
        "evaluate.html",
        link=link,
        standing=standing_of(service).collections,
        collections=[each.name for each in service.runtime.catalog.collections(service.scope)],
        running=any(each.state == "running" for each in known),
        shown=view,
        is_lost=is_lost,
        result=result,
        charts=None if result is None else _charts(result, link.measure),
        by_query=None if view is None else _by_query(view, link),
        measures=[(name, TITLES[name], _EXPLAINED[name]) for name in MEASURES],
        labels=_LABELS,
        earlier=[EvaluationHead.of(each) for each in known if each is not shown],
        judgements=[JudgementView.of(each) for each in listed[:_ROWS]],
        more=listed[_ROWS - 1].id if len(listed) > _ROWS else None,
        search_url=_search_url,
        to=lambda **changes: _url(link, **changes),
    )
    return HTMLResponse(page, 404 if is_lost else 200)


def _url(link: EvaluateLink, **changes: Any) -> str:
    """The page's address for `link` with `changes`."""
    kept = {"offset": 0, "kept": None, "unknown": 0} | changes
    values = link.model_copy(update=kept).model_dump(exclude_defaults=True, exclude_none=True)
    return f"/evaluate?{urlencode(values)}"


def _search_url(query: str, collection: str) -> str:
    return f"/?{urlencode({'q': query, 'collection': collection})}"


def _charts(result: ResultView, measure: str) -> tuple[list[Bar], list[Gap], float]:
    """Stages, paired differences, and how far the scale of these reaches to both sides."""
    bars = [
        Bar(_LABELS[each.stage], figure, *(100 * value for value in _values(figure)))
        for each in result.stages
        for figure in (each.measures[measure],)
    ]
    pairs = [each for each in result.comparisons if each.measure == measure]
    reached = [abs(edge) for each in pairs for edge in _values(each.difference)]
    span = max(reached, default=0.0)
    span = max(span * 1.05, _LEAST_SPAN)
    gaps = [
        Gap(
            each.stage,
            each.over,
            each.difference,
            each.is_clear,
            each.won or 0,
            each.lost or 0,
            *(50 + 50 * value / span for value in _values(each.difference)),
        )
        for each in pairs
    ]
    return bars, gaps, span


def _values(figure: Figure) -> tuple[float, float, float]:
    return figure.mean, figure.low, figure.high


class ByQuery(NamedTuple):
    """The queries where the last stage differs from an earlier one."""

    top: str
    over: str
    overs: Sequence[str]
    show: Show
    counts: dict[Show, int]
    rows: list[Row]


def _by_query(view: EvaluationView, link: EvaluateLink) -> ByQuery | None:
    if view.result is None:
        return None
    stages = [each.stage for each in view.result.stages]
    top = "final" if "final" in stages else "fused"
    overs = [each for each in ("fused", "bm25", "dense") if each in stages and each != top]
    over = link.over if link.over in overs else overs[0]
    sorted_: dict[Show, list[Row]] = {"lost": [], "won": [], "same": []}
    for each in view.result.by_query:
        before, after = each.ndcg[over], each.ndcg[top]
        row = Row(
            each.query, before, after, after - before, _search_url(each.query, view.collection)
        )
        sorted_["won" if after > before else "lost" if after < before else "same"].append(row)
    sorted_["lost"].sort(key=lambda row: row.difference)
    sorted_["won"].sort(key=lambda row: -row.difference)
    most_telling: Show = next((name for name in sorted_ if sorted_[name]), "lost")
    show: Show = link.show or most_telling
    counts = {name: len(rows) for name, rows in sorted_.items()}
    return ByQuery(top, over, overs, show, counts, _cut(sorted_[show], link.offset))


def _cut(rows: Sequence[Row], offset: int) -> list[Row]:
    return list(rows[offset : offset + _ROWS])
