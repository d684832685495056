"""GET /v1/documents/{id}/similar over a real runtime."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.api.conftest import TEXTS, Client

from longleaf.api.search import MAX_QUERY_CHARS
from longleaf.api.similar import question_of
from longleaf.api.wire import Runtime
from longleaf.core.ids import document_id
from longleaf.core.types import Scope


def ask(client: Client, key: str, collection: str = "law", **params: object) -> dict:
    response = client.get(f"/v1/documents/{document_id(collection, key)}/similar", params=params)
    assert response.status_code == 200, response.text
    return response.json()


def keys(answer: dict) -> list[str]:
    return [hit["key"] for hit in answer["hits"]]


def test_the_nearest_by_meaning_comes_first_and_the_document_is_left_out(client: Client) -> None:
    lease = ask(client, "lease.txt")
    assert keys(lease)[0] == "commercial.txt" and "lease.txt" not in keys(lease)
    licence = ask(client, "mit.txt")
    assert keys(licence)[0] == "apache.md" and "mit.txt" not in keys(licence)
    assert all(hit["collection"] == "law" for hit in licence["hits"])
    assert licence["reranker"] and licence["reranked_count"] == licence["found_count"]


def test_the_answer_says_what_was_asked(client: Client) -> None:
    answer = ask(client, "lease.txt")
    assert answer["query"]["text"].startswith("Residential lease")
    assert "tenant shall pay the rent" in answer["query"]["text"]


def test_collections_filters_and_depth(client: Client) -> None:
    url = f"/v1/documents/{document_id('law', 'lease.txt')}/similar"
    both = client.get(url, params={"collection": ["law", "science"], "limit": "20"}).json()
    assert {hit["collection"] for hit in both["hits"]} == {"law", "science"}
    science = client.get(url, params={"collection": "science"}).json()
    assert {hit["collection"] for hit in science["hits"]} == {"science"}
    only = '{"field": "year", "gte": 2021}'
    assert keys(client.get(url, params={"filter": only}).json()) == ["commercial.txt"]
    deep = client.get(url, params={"depth": "document", "explain": "true", "limit": "2"}).json()
    assert len(deep["hits"]) == 2 and deep["whole_count"] == deep["found_count"]
    assert deep["explain"]["depth"] == "document"
    first = client.get(url, params={"limit": "1"}).json()
    second = client.get(url, params={"limit": "1", "offset": "1"}).json()
    assert keys(first) + keys(second) == keys(client.get(url, params={"limit": "2"}).json())
    assert client.get(url, params={"rerank": "off"}).json()["reranker"] is None


@pytest.mark.parametrize(
    ("path", "status"),
    [("nobody/similar", 404), (f"{document_id('law', 'lease.txt')}/similar?limti=3", 422)],
)
def test_what_cannot_be_asked(client: Client, path: str, status: int) -> None:
    assert client.get(f"/v1/documents/{path}").status_code == status


def test_operators_in_a_document_are_words(client: Client) -> None:
    answer = ask(client, "evil.md")
    assert answer["query"]["phrases"] == [] and answer["query"]["excluded"] == []
    assert "evil.md" not in keys(answer)


def test_the_passage_nearest_to_the_title_asks(client: Client, runtime: Runtime) -> None:
    head = runtime.catalog.document(document_id("law", "apache.md"), Scope.all())
    question = question_of(runtime.engine, head)
    title, _, passage = question.partition("\n")
    assert title == "Apache License" and passage in TEXTS["apache.md"]


def test_a_passage_longer_than_a_query_is_cut_to_one(client: Client, runtime: Runtime) -> None:
    head = runtime.catalog.document(document_id("law", "mit.txt"), Scope.all())
    long = replace(head, title="word " * 6_000)
    assert len(question_of(runtime.engine, long)) == MAX_QUERY_CHARS


def test_without_an_embedder_the_first_passage_asks(
    client: Client, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no model")

    monkeypatch.setattr(runtime.engine.embedder, "embed_query", broken)
    answer = ask(client, "lease.txt")
    assert keys(answer) and any(each["stage"] == "dense" for each in answer["degraded"])
