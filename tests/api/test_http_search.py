"""POST and GET /v1/search over a real runtime."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.api.conftest import TEXTS, Client

from longleaf.api.http.search import answer_search
from longleaf.api.wire import Runtime
from longleaf.core.errors import InvalidRequest
from longleaf.core.types import Scope
from longleaf.reranker.instructions import PRESETS

PATENT = "which licence ends my patent grant if I sue?"


def _keys(answer: dict) -> list[str]:
    return [hit["key"] for hit in answer["hits"]]


def test_answer_carries_both_stages(client: Client) -> None:
    answer = client.search(PATENT)
    best = answer["hits"][0]
    assert best["key"] == "apache.md"
    assert best["rank"] == 1 and best["first_stage"]["rank"] >= 1
    assert best["url"].startswith(f"/documents/{best['document_id']}?start=")
    reading = best["reading"]
    assert 0 < reading["tokens_read"] <= reading["tokens_total"]
    passage = best["passages"][0]
    assert passage["headings"][0] == "Apache License"
    assert TEXTS["apache.md"][passage["start_char"] : passage["end_char"]] == passage["text"]
    words = {TEXTS["apache.md"][begin:end].lower() for begin, end in passage["highlights"]}
    assert "patent" in words
    assert passage["scores"]["dense_rank"] and passage["scores"]["reading"] is not None
    assert answer["reranker"] and answer["reranked_count"] == answer["found_count"]
    assert answer["degraded"] == []
    assert answer["timings_ms"]["total"] > 0 and "rerank" in answer["timings_ms"]
    assert answer["index"]["seen_seq"] == answer["index"]["head_seq"] > 0
    scores = [hit["score"] for hit in answer["hits"]]
    assert scores == sorted(scores, reverse=True)


def test_link_and_body_say_the_same(client: Client) -> None:
    tree = {"field": "year", "gte": 2020}
    posted = client.search("lease", collections=["law"], filter=tree, limit=3)
    params = {"q": "lease", "collection": "law", "filter": json.dumps(tree), "limit": "3"}
    linked = client.get("/v1/search", params=params).json()
    assert linked["hits"] == posted["hits"]
    assert _keys(linked) and "lease.txt" not in _keys(linked)
    assert linked["query"]["filter"] == tree


def test_command_line_gets_the_same_answer(client: Client, runtime: Runtime) -> None:
    body = {"query": PATENT, "limit": 2, "rerank": {"enabled": True, "deadline_ms": None}}
    assert answer_search(runtime, body)["hits"] == client.search(PATENT, limit=2)["hits"]
    with pytest.raises(InvalidRequest, match="limit"):
        answer_search(runtime, {"query": "x", "limit": 0})


def test_operators_reach_the_engine(client: Client) -> None:
    answer = client.search('tenant "force majeure" -residential')
    assert answer["query"]["phrases"] == ["force majeure"]
    assert answer["query"]["excluded"] == ["residential"]
    assert _keys(answer) == ["commercial.txt"]


def test_rerank_can_be_left_out(client: Client) -> None:
    for off in (False, {"enabled": False}):
        answer = client.search(PATENT, rerank=off)
        assert answer["reranker"] is None and answer["reranked_count"] == 0
        assert all(hit["reading"] is None for hit in answer["hits"])
    assert client.get("/v1/search?q=patent&rerank=off").json()["reranker"] is None


def test_collections_and_pages(client: Client) -> None:
    science = client.search("adults", collections=["science"])
    assert {hit["collection"] for hit in science["hits"]} == {"science"}
    whole = client.search("the tenant and the court", collections=["law"])
    first = client.search("the tenant and the court", collections=["law"], limit=2)
    rest = client.search("the tenant and the court", collections=["law"], limit=10, offset=2)
    assert _keys(first) + _keys(rest) == _keys(whole)
    assert next(hit["rank"] for hit in rest["hits"]) == 3
    assert client.search("tenant", offset=500)["hits"] == []


def test_a_window_that_is_too_small_says_so(client: Client) -> None:
    answer = client.search("license", candidates=1, collections=["law"])
    assert answer["found_count"] == 1 and not answer["exhausted"]
    assert any("raise candidates" in each for each in answer["warnings"])


def test_filter_alone_lists(client: Client) -> None:
    answer = client.search("", filter={"field": "year", "in": [2019, 2021]})
    assert sorted(_keys(answer)) == ["commercial.txt", "lease.txt"]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"query": "x", "limti": 3}, 422, "body.limti"),
        ({"query": "x", "rerank": {"depth": "deep"}}, 422, "body.rerank.depth"),
        ({"query": "x", "rerank": {"deptj": "auto"}}, 422, "body.rerank.deptj"),
        ({"query": "x", "rerank": {"max_tokens": 0}}, 422, "max_tokens"),
        ({"query": "x", "rerank": {"deadline_ms": -1}}, 422, "deadline_ms"),
        ({"query": "x", "limit": 0}, 422, "body.limit"),
        ({"query": "x", "collections": []}, 422, "collections"),
        ({"query": "x" * 20_001}, 422, "query"),
        ({"query": "  "}, 400, "empty"),
        ({"query": "x", "filter": {"field": "year"}}, 400, "filter"),
        ({"query": "x", "collections": ["nowhere"]}, 404, "nowhere"),
    ],
)
def test_what_cannot_be_asked(client: Client, body: dict, status: int, words: str) -> None:
    response = client.post("/v1/search", json=body)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert words in problem["detail"]
    assert problem["status"] == status and problem["type"] == f"/api#{problem['code']}"
    assert problem["request_id"] == response.headers["x-request-id"]


@pytest.mark.parametrize("link", ["q=x&colection=law", "q=x&filter=no", "q=x&filter=[]", "limit=a"])
def test_links_that_cannot_be_asked(client: Client, link: str) -> None:
    response = client.get(f"/v1/search?{link}")
    assert response.status_code in (400, 422)
    assert response.headers["content-type"] == "application/problem+json"


def test_a_broken_body_is_a_problem(client: Client) -> None:
    headers = {"content-type": "application/json"}
    deep = b'{"query": ' + b"[" * 100_000
    for body in (b"{", b"\xff\xfe", deep, b'{"query": 1}'):
        response = client.post("/v1/search", content=body, headers=headers)
        assert response.status_code in (400, 422), body[:20]
        assert response.headers["content-type"] == "application/problem+json"


def test_an_instruction_reaches_an_embedder_in_words(
    client: Client, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder, asked = runtime.engine.embedder, []
    real = embedder.embed_query

    def heard(text: str, instruction: str | None = None) -> Any:
        asked.append(instruction)
        return real(text)

    monkeypatch.setattr(embedder, "embed_query", heard, raising=False)
    monkeypatch.setattr(embedder, "takes_instruction", True, raising=False)
    client.search("rent", rerank={"instruction": "statutes"})
    client.search("rent", rerank={"instruction": "Find dissents"})
    client.get("/v1/search", params={"q": "rent", "instruction": "web"})
    runtime.catalog.describe_collection("scratch", Scope.all(), instruction="legal-cases")
    client.search("rent", collections=["scratch"])
    runtime.catalog.describe_collection("scratch", Scope.all(), instruction="")
    client.search("rent", collections=["scratch"])
    assert asked == [
        PRESETS["statutes"], "Find dissents", PRESETS["web"], PRESETS["legal-cases"], None
    ]  # fmt: skip
