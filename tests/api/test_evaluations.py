"""/v1/evaluations: asked in the background, told while they run, stopped, seen by whom they are of;
and how far the judgements are from a verdict."""

from __future__ import annotations

import asyncio
import copy
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.api.conftest import Client

from longleaf.api.app import create_app
from longleaf.api.evaluate import background
from longleaf.api.wire import Runtime
from longleaf.core import ids
from longleaf.core.errors import NotFound
from longleaf.core.types import Scope

QUERIES = {
    "who pays the rent?": ("lease.txt", "mit.txt"),
    "sublet with consent of the landlord": ("commercial.txt", "case.txt"),
    "patent litigation": ("apache.md", "lease.txt"),
    "motion to dismiss": ("case.txt", "mit.txt"),
    "permission free of charge": ("mit.txt", "apache.md"),
    "security deposit": ("lease.txt", "commercial.txt"),
    "trade names": ("apache.md", "commercial.txt"),
}


@pytest.fixture
def client(runtime: Runtime) -> Client:
    """An app of its own: it remembers evaluations, and one ends it."""
    return Client(create_app(runtime))


@pytest.fixture(autouse=True)
def _nothing_judged(runtime: Runtime) -> Iterator[None]:
    yield
    with runtime.catalog._database.writing() as connection:
        connection.exec_driver_sql("DELETE FROM judgements")


@pytest.fixture(autouse=True)
def _no_evaluation_left(client: Client) -> Iterator[None]:
    yield
    client.app.state.service.evaluations.close()


def judge(client: Client, query: str, key: str, grade: int, **more: Any) -> None:
    body = {"query": query, "document_id": ids.document_id("law", key), "grade": grade, **more}
    assert client.post("/v1/judgements", json=body).status_code == 200


def judge_all(client: Client) -> None:
    for query, (good, bad) in QUERIES.items():
        judge(client, query, good, 1)
        judge(client, query, bad, 0)


def start(client: Client, **more: Any) -> dict[str, Any]:
    answer = client.post("/v1/evaluations", json={"collection": "law", **more})
    assert answer.status_code == 202, answer.text
    told: dict[str, Any] = answer.json()
    return told


def ended(client: Client, url: str) -> dict[str, Any]:
    end = time.monotonic() + 120.0
    while True:
        told: dict[str, Any] = client.get(url).json()
        if told["state"] != "running":
            return told
        assert time.monotonic() < end, "the evaluation does not end"
        time.sleep(0.02)


class Gate:
    """Lets an evaluation's searches through when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = threading.Event()
        self.reached = threading.Event()
        self.error: Exception | None = None
        search = background._Held.search

        def gated(held: Any, query_text: str) -> Any:
            self.reached.set()
            assert self.open.wait(60)
            if self.error:
                raise self.error
            return search(held, query_text)

        monkeypatch.setattr(background._Held, "search", gated)


def test_stages_are_evaluated_beside_searches(client: Client) -> None:
    judge_all(client)
    begun = start(client)
    assert begun["queries_total"] == len(QUERIES) and begun["state"] == "running"
    assert begun["unjudged"] == "left-out" and begun["reranker"] == "late"
    told = ended(client, begun["url"])
    assert told["state"] == "done" and told["queries_done"] == len(QUERIES)
    assert told["finished_at"] >= told["started_at"] and told["error"] == ""
    result = told["result"]
    stages = {each["stage"]: each for each in result["stages"]}
    assert list(stages) == ["bm25", "dense", "fused", "final"]
    for stage in stages.values():
        for figure in stage["measures"].values():
            assert 0.0 <= figure["low"] <= figure["mean"] <= figure["high"] <= 1.0
        assert 0.0 < stage["judged_share"] <= 1.0 and stage["p50_ms"] > 0
    [pair] = [
        each
        for each in result["comparisons"]
        if (each["stage"], each["over"], each["measure"]) == ("final", "fused", "ndcg@10")
    ]
    values = {each["query"]: each["ndcg"] for each in result["by_query"]}
    assert set(values) == set(QUERIES)
    assert pair["won"] == sum(each["final"] > each["fused"] for each in values.values())
    mean = sum(each["final"] for each in values.values()) / len(values)
    assert stages["final"]["measures"]["ndcg@10"]["mean"] == pytest.approx(mean)
    assert "reranking" in result["verdict"]["words"].lower()
    assert any("only judged documents" in note for note in result["notes"])
    [head] = client.get("/v1/evaluations").json()["evaluations"]
    assert head["id"] == begun["id"] and "result" not in head
    wrong = ended(client, start(client, unjudged="wrong", relevant_from=1)["url"])
    assert wrong["result"]["stages"][0]["judged_share"] is None
    assert [each["id"] for each in client.get("/v1/evaluations").json()["evaluations"]] == [
        wrong["id"], begun["id"],
    ]  # fmt: skip


def test_one_at_a_time_told_on_the_way_and_stopped(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    judge_all(client)
    begun = start(client)
    assert gate.reached.wait(60)
    assert client.get(begun["url"]).json()["queries_done"] == 0
    refused = client.post("/v1/evaluations", json={"collection": "law"})
    assert refused.status_code == 409 and "cancel" in refused.json()["hint"]
    # Nobody who searches waits for it.
    assert client.search("tenant rent")["hits"]
    stopping = client.post(f"{begun['url']}/cancel").json()
    assert stopping["cancelling"] and stopping["state"] == "running"
    gate.open.set()
    told = ended(client, begun["url"])
    assert told["state"] == "cancelled" and not told["cancelling"] and told["result"] is None
    assert client.post(f"{begun['url']}/cancel").json()["state"] == "cancelled"
    assert ended(client, start(client)["url"])["state"] == "done"


def test_it_fails_with_what_to_do(
    client: Client, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    judge_all(client)
    begun = start(client)
    gate.error = NotFound("There is no such thing.", "Look elsewhere.")
    gate.open.set()
    told = ended(client, begun["url"])
    assert (told["state"], told["error"]) == ("failed", "There is no such thing.")
    assert told["hint"] == "Look elsewhere." and told["result"] is None
    gate.error = RuntimeError("inner words")
    told = ended(client, start(client)["url"])
    assert told["state"] == "failed" and "inner words" not in str(told)
    # Another generation takes over while it runs: one report is of one model.
    gate.error = None
    gate.open.clear()
    gate.reached.clear()
    begun = start(client)
    assert gate.reached.wait(60)
    another = copy.copy(runtime.side)
    another.engine = copy.copy(another.engine)
    with monkeypatch.context() as patch:
        patch.setattr(runtime, "side", another)
        gate.open.set()
        told = ended(client, begun["url"])
    assert told["state"] == "failed" and "embedded anew" in told["error"]


def test_what_cannot_be_evaluated(client: Client) -> None:
    refused = client.post("/v1/evaluations", json={"collection": "law"})
    assert refused.status_code == 400 and "good and bad" in refused.json()["hint"]
    judge(client, "who pays the rent?", "lease.txt", 1)
    assert client.post("/v1/evaluations", json={"collection": "law"}).status_code == 400
    for body, status in (
        ({"collection": "nowhere"}, 404),
        ({"collection": "law", "folder": "/etc"}, 422),
        ({"collection": "law", "relevant_from": 0}, 422),
        ({"collection": "law", "unjudged": "maybe"}, 422),
        ({}, 422),
    ):
        assert client.post("/v1/evaluations", json=body).status_code == status, body
    lost = client.get("/v1/evaluations/nothing")
    assert lost.status_code == 404 and "Start another" in lost.json()["hint"]
    assert client.post("/v1/evaluations/nothing/cancel").status_code == 404
    assert client.get("/v1/evaluations").json() == {"evaluations": []}


def test_an_evaluation_is_seen_by_whom_it_is_of(client: Client) -> None:
    judge_all(client)
    service = client.app.state.service
    law, science = (Scope(collections=frozenset({name})) for name in ("law", "science"))
    everyone = ended(client, start(client)["url"])
    service.scope = law
    assert client.get(everyone["url"]).status_code == 404
    own = ended(client, start(client)["url"])
    assert own["state"] == "done" and own["queries_total"] == len(QUERIES)
    service.scope = science
    assert client.get("/v1/evaluations").json() == {"evaluations": []}
    assert client.post(f"{own['url']}/cancel").status_code == 404
    assert client.post("/v1/evaluations", json={"collection": "law"}).status_code == 404
    assert client.get("/v1/judgements/standing").json() == {"collections": []}
    assert client.get("/v1/judgements/table").text.count("\n") == 1
    service.scope = Scope.all()
    listed = client.get("/v1/evaluations").json()["evaluations"]
    assert [each["id"] for each in listed] == [own["id"], everyone["id"]]


def test_a_server_that_stops_ends_it_and_forgets(
    client: Client, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    judge_all(client)
    begun = start(client)
    assert gate.reached.wait(60)
    gate.open.set()

    async def served() -> None:
        async with client.app.router.lifespan_context(client.app):
            pass

    asyncio.run(served())
    assert client.get(begun["url"]).json()["state"] in ("cancelled", "done")
    again = Client(create_app(runtime))
    lost = again.get(begun["url"])
    assert lost.status_code == 404 and "forgets" in lost.json()["detail"]


def test_how_far_from_a_verdict(client: Client) -> None:
    assert client.get("/v1/judgements/standing").json() == {"collections": []}
    judge(client, "only good?", "lease.txt", 1)
    judge(client, "only bad?", "lease.txt", 0)
    judge(client, "only bad?", "mit.txt", -1, judge="ann")
    [law] = client.get("/v1/judgements/standing").json()["collections"]
    assert (law["collection"], law["judgements"], law["judges"]) == ("law", 3, 2)
    assert (law["queries"], law["telling"], law["needed"]) == (2, 0, 6)
    assert law["one_sided"] == [
        {"query": "only good?", "needs": "worse"},
        {"query": "only bad?", "needs": "good"},
    ]
    assert law["missing"].startswith("0 of 2 judged queries")
    judge_all(client)
    [law] = client.get("/v1/judgements/standing").json()["collections"]
    assert law["telling"] == len(QUERIES) and "large difference only" in law["missing"]
    for number in range(20):
        judge(client, f"more {number}", "lease.txt", 1)
        judge(client, f"more {number}", "mit.txt", 0)
    [law] = client.get("/v1/judgements/standing").json()["collections"]
    assert law["missing"] == "" and law["telling"] == len(QUERIES) + 20


def test_judgements_leave_and_come_back_as_a_table(client: Client) -> None:
    judge_all(client)
    judge(client, 'a "quoted", query', "lease.txt", 2, start_char=0, end_char=17, judge="ann")
    exported = client.get("/v1/judgements/table")
    assert exported.headers["content-type"] == "text/csv; charset=utf-8"
    assert "attachment" in exported.headers["content-disposition"]
    before = client.get("/v1/judgements").json()["judgements"]
    for each in before:
        params = {name: each[name] for name in ("query", "document_id", "judge")}
        assert client.delete("/v1/judgements", params=params).status_code == 200

    def bring(table: bytes, **fields: str) -> httpx.Response:
        files = {"file": ("mine.csv", table)}
        return client.post("/v1/judgements/table", files=files, data=fields)

    kept = bring(exported.content)
    assert kept.json() == {
        "judgements": len(before), "queries": len(QUERIES) + 1, "unknown_documents": [],
    }  # fmt: skip
    after = client.get("/v1/judgements").json()["judgements"]
    assert [each | {"id": 0} for each in after] == [each | {"id": 0} for each in before]
    foreign = b"query,key,grade\nx,lease.txt,1\nx,gone.txt,0\n"
    refused = bring(foreign, collection="law")
    assert refused.status_code == 400 and "gone.txt" in refused.json()["detail"]
    some = bring(foreign, collection="law", skip_unknown="true", judge="bob").json()
    assert some == {"judgements": 1, "queries": 1, "unknown_documents": ["gone.txt"]}
    assert "mine.csv, line 2" in bring(foreign).json()["detail"]
    assert bring(b"\xff\xfe").status_code == 400
    assert bring(b"").status_code == 400
    only = client.get("/v1/judgements/table", params={"collection": "science"}).text
    assert only.startswith("query,collection,key") and only.count("\n") == 1
