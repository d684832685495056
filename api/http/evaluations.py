"""/v1/evaluations: judged queries asked of this server's own index, stage by stage.

One at a time, in the background; `api/evaluate/background.py` says what is kept and for how long.
Test collections are for the command line: a path on the server's disk is never taken from a
request.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from fastapi import APIRouter, Path, status
from pydantic import BaseModel, ConfigDict, Field

from longleaf.api.evaluate import feedback
from longleaf.api.evaluate.background import Evaluation, EvaluationState
from longleaf.api.evaluate.metrics import Interval
from longleaf.api.evaluate.report import EvalReport
from longleaf.api.http.errors import PROBLEM_RESPONSES
from longleaf.api.http.plain import PlainJSON
from longleaf.api.http.schemas import time_of
from longleaf.api.http.service import Served
from longleaf.core.catalog.judgements import GRADES

router = APIRouter(
    prefix="/v1/evaluations",
    tags=["evaluations"],
    responses=PROBLEM_RESPONSES,
    default_response_class=PlainJSON,
)

_ID = Path(description="The evaluation's id.", max_length=64)
Unjudged = Literal["left-out", "wrong"]


class EvaluationBody(BaseModel):
    """What to evaluate."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"collection": "contracts"}]}
    )

    collection: str = Field(max_length=1000, description="Whose judgements are asked, and where.")
    relevant_from: int = Field(
        1, ge=1, le=GRADES[-1], description="The lowest grade that counts as relevant."
    )
    unjudged: Unjudged = Field(
        "left-out",
        description="Documents that nobody judged: left out of the rankings, or counted as wrong.",
    )


class Figure(BaseModel):
    """A mean over queries and its 95 % interval."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, interval: Interval) -> Figure:
        return cls(mean=interval.mean, low=interval.low, high=interval.high)


class StageView(BaseModel):
    """One stage over all queries."""

    stage: str = Field(description="bm25, dense, fused (the first stage) or final (after reading).")
    measures: dict[str, Figure] = Field(description="ndcg@10, r@100 and mrr@10.")
    p50_ms: float | None = Field(description="Of a search that ends with this stage.")
    p95_ms: float | None
    judged_share: float | None = Field(
        description="Which part of the best ten was judged; null where unjudged counts as wrong."
    )


class ComparisonView(BaseModel):
    """`stage` minus `over`, paired by query."""

    stage: str
    over: str
    measure: str
    difference: Figure
    is_clear: bool = Field(description="0 lies outside the interval.")
    won: int | None = Field(description="Queries on which `stage` was better.")
    lost: int | None


class VerdictView(BaseModel):
    """Whether reading is worth it here (nDCG@10 of final over fused)."""

    difference: float
    p: float = Field(description="How often as much comes about by chance.")
    cost_ms: float = Field(description="What a search takes longer (p50).")
    is_clear: bool = Field(description="False: it cannot be told yet.")
    words: str


class QueryValues(BaseModel):
    """A judged query and its nDCG@10 at each stage."""

    query: str
    ndcg: dict[str, float]


class ResultView(BaseModel):
    """What an evaluation found."""

    stages: list[StageView]
    comparisons: list[ComparisonView]
    verdict: VerdictView | None = Field(description="Null where there is no second stage.")
    by_query: list[QueryValues]
    degraded: dict[str, int] = Field(description="What was missing -> in how many queries.")
    counts: dict[str, int]
    notes: list[str]

    @classmethod
    def of(cls, report: EvalReport) -> ResultView:
        told = feedback.to_json(report)
        verdict = feedback.verdict(report)
        return cls(
            stages=[
                StageView(
                    stage=stage,
                    measures={name: Figure.of(each) for name, each in figures.measures.items()},
                    p50_ms=figures.p50_ms,
                    p95_ms=figures.p95_ms,
                    judged_share=figures.judged_share,
                )
                for stage, figures in report.stages.items()
            ],
            comparisons=[
                ComparisonView(
                    stage=each.stage,
                    over=each.over,
                    measure=each.measure,
                    difference=Figure.of(each.difference),
                    is_clear=each.distinguishable,
                    won=each.won,
                    lost=each.lost,
                )
                for each in report.comparisons
            ],
            verdict=verdict and VerdictView.model_validate(told["verdict"]),
            by_query=[QueryValues(query=each.pop("query"), ndcg=each) for each in told["by_query"]],
            degraded=dict(report.degraded),
            counts=dict(report.counts),
            notes=list(report.notes),
        )


class EvaluationHead(BaseModel):
    """An evaluation without what it found."""

    id: str
    collection: str
    state: EvaluationState = Field(description="running, done, failed or cancelled.")
    cancelling: bool = Field(description="It was asked to stop and is in its last query.")
    queries_done: int
    queries_total: int
    relevant_from: int
    unjudged: Unjudged
    embedder: str
    reranker: str | None = Field(description="What read; null: there is no second stage.")
    depth: str = Field(description="What is read of a candidate, unless the collection says.")
    error: str = Field(description="Why it failed.")
    hint: str = Field(description="What to do about that.")
    started_at: datetime
    finished_at: datetime | None
    url: str

    @classmethod
    def of(cls, each: Evaluation) -> EvaluationHead:
        return cls(**cls.fields_of(each))

    @staticmethod
    def fields_of(each: Evaluation) -> dict[str, object]:
        finished = each.finished_at
        return {
            "id": each.id,
            "collection": each.collection,
            "state": each.state,
            "cancelling": each.cancelling,
            "queries_done": each.queries_done,
            "queries_total": each.queries_total,
            "relevant_from": each.relevant_from,
            "unjudged": "left-out" if each.judged_only else "wrong",
            "embedder": each.embedder,
            "reranker": each.read_by,
            "depth": each.depth,
            "error": each.error,
            "hint": each.hint,
            "started_at": time_of(each.started_at),
            "finished_at": None if finished is None else time_of(finished),
            "url": f"/v1/evaluations/{each.id}",
        }


class EvaluationView(EvaluationHead):
    """An evaluation, and what it found once it is done."""

    result: ResultView | None

    @classmethod
    def of(cls, each: Evaluation) -> EvaluationView:
        result = None if each.report is None else ResultView.of(each.report)
        return cls(**cls.fields_of(each), result=result)


class EvaluationList(BaseModel):
    evaluations: list[EvaluationHead] = Field(description="Newest first; the last ten are kept.")


@router.post("", summary="Evaluate the stages", status_code=status.HTTP_202_ACCEPTED)
async def start_evaluation(body: EvaluationBody, service: Served) -> EvaluationHead:
    """Ask the index every judged query of a collection, in the background, one evaluation at a
    time."""
    return EvaluationHead.of(await start(service, body))


@router.get("", summary="List evaluations")
async def list_evaluations(service: Served) -> EvaluationList:
    """What this server remembers, without results."""
    found = service.evaluations.newest(service.scope)
    return EvaluationList(evaluations=[EvaluationHead.of(each) for each in found])


@router.get("/{evaluation_id}", summary="Read an evaluation")
async def get_evaluation(service: Served, evaluation_id: str = _ID) -> EvaluationView:
    """How far it is, and what it found."""
    found = service.evaluations.get(evaluation_id, service.scope)
    return await service.read(lambda: EvaluationView.of(found))


@router.post("/{evaluation_id}/cancel", summary="Stop an evaluation")
async def cancel_evaluation(service: Served, evaluation_id: str = _ID) -> EvaluationHead:
    """It ends before its next query, and nothing of it is kept but that it was."""
    return EvaluationHead.of(service.evaluations.cancel(evaluation_id, service.scope))


async def start(service: Served, body: EvaluationBody) -> Evaluation:
    """Begin what `body` asks for."""
    return await service.read(
        lambda: service.evaluations.start(
            service.scope,
            body.collection,
            body.relevant_from,
            judged_only=body.unjudged == "left-out",
        )
    )
