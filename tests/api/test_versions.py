"""Versions of a text: collapsed in search, listed for a document, by API, page and command line."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from tests.api.conftest import EVIL, Client, wait_until_followed

from longleaf.api.cli.searching import print_answer
from longleaf.api.http.search import answer_search
from longleaf.api.wire import Runtime

CLAUSES = [
    f"{n}. The charterer of vessel {n} gives notice of readiness at berth {n} within {n} hours."
    for n in range(2, 22)
]
DRAFT = "\n\n".join(["Charter party, draft", *CLAUSES])
FINAL = DRAFT.replace("Charter party, draft", "Charter party").replace("berth 7", "anchorage 7")
OTHER = "Charter of a vessel: demurrage is 10 dollars. Notice of readiness is given in writing."
QUERY = "notice of readiness of the charterer's vessel"


@pytest.fixture
def charters(client: Client, runtime: Runtime) -> Iterator[dict[str, str]]:
    """key -> document id of a collection with three versions of a text and another one."""
    runtime.catalog.create_collection("charters")
    texts = {"final.txt": FINAL, "draft.txt": DRAFT, "other.txt": OTHER, "copy.txt": FINAL}
    ids = {}
    for key, text in texts.items():
        answer = client.upload(key, text.encode(), collection="charters", key=key)
        [ids[key]] = answer.json()["document_ids"]
    wait_until_followed(runtime)
    yield ids
    client.delete("/v1/collections/charters")
    wait_until_followed(runtime)


def test_versions_stand_behind_the_best(client: Client, charters: dict[str, str]) -> None:
    each = client.search(QUERY, collections=["charters"])
    assert len(each["hits"]) == each["found_count"] == 4
    assert all(hit["versions"] == [] for hit in each["hits"])
    joined = client.search(QUERY, collections=["charters"], collapse=True)
    assert joined["found_count"] == len(joined["hits"]) == 2
    assert [hit["rank"] for hit in joined["hits"]] == [1, 2]
    assert "collapse" in joined["timings_ms"]
    ranks = {hit["key"]: hit["rank"] for hit in each["hits"]}
    [leader] = [hit for hit in joined["hits"] if hit["key"] != "other.txt"]
    assert ranks[leader["key"]] == min(ranks[key] for key in charters if key != "other.txt")
    behind = {version["key"]: version for version in leader["versions"]}
    assert behind.keys() | {leader["key"]} == {"final.txt", "draft.txt", "copy.txt"}
    for key, version in behind.items():
        assert version["rank"] == ranks[key] and version["document_id"] == charters[key]
        assert version["url"] == f"/documents/{charters[key]}"
        same = {key, leader["key"]} == {"final.txt", "copy.txt"}
        assert version["similarity"] == 1.0 if same else 0.8 <= version["similarity"] < 1.0


def test_paging_counts_what_is_shown(client: Client, charters: dict[str, str]) -> None:
    whole = client.search(QUERY, collections=["charters"], collapse=True)
    second = client.search(QUERY, collections=["charters"], collapse=True, limit=1, offset=1)
    assert second["hits"] == whole["hits"][1:]


def test_passages_are_not_collapsed(client: Client) -> None:
    body = {"query": QUERY, "collapse": True, "group": "none"}
    refused = client.post("/v1/search", json=body)
    assert refused.status_code == 400 and "group none" in refused.json()["detail"]


def words(page: str) -> str:
    """A page without its tags."""
    return re.sub(r"<[^>]*>", "", page)


def test_a_link_collapses_when_asked_and_the_page_by_default(
    client: Client, charters: dict[str, str]
) -> None:
    params = {"q": QUERY, "collection": "charters"}
    assert len(client.get("/v1/search", params=params).json()["hits"]) == 4
    assert len(client.get("/v1/search", params=params | {"collapse": "on"}).json()["hits"]) == 2
    page = client.get("/", params=params).text
    assert "2 more documents of nearly the same text" in words(page)
    assert all(f'href="/documents/{document_id}' in page for document_id in charters.values())
    every = client.get("/", params=params | {"collapse": "off", "limit": "3"}).text
    assert "of nearly the same text" not in every
    assert "collapse=off" in every  # the next page's link keeps it


def test_versions_of_a_document(client: Client, charters: dict[str, str]) -> None:
    answer = client.get(f"/v1/documents/{charters['draft.txt']}/versions").json()
    assert answer["compared"] and not answer["more"]
    assert {each["document"]["key"] for each in answer["versions"]} == {"final.txt", "copy.txt"}
    assert all(0.8 <= each["similarity"] < 1.0 for each in answer["versions"])
    one = client.get(f"/v1/documents/{charters['draft.txt']}/versions", params={"limit": "1"})
    assert len(one.json()["versions"]) == 1 and one.json()["more"]
    equal = client.get(f"/v1/documents/{charters['copy.txt']}/versions").json()["versions"][0]
    assert equal["similarity"] == 1.0 and equal["document"]["key"] == "final.txt"
    short = client.get(f"/v1/documents/{charters['other.txt']}/versions").json()
    assert short["versions"] == [] and not short["compared"]


@pytest.mark.parametrize("params", [{"min_similarity": "0.5"}, {"limit": "0"}])
def test_bounds_of_the_list(client: Client, charters: dict[str, str], params: dict) -> None:
    path = f"/v1/documents/{charters['draft.txt']}/versions"
    assert client.get(path, params=params).status_code == 422


def test_no_such_document(client: Client) -> None:
    assert client.get("/v1/documents/nosuchdocument/versions").status_code == 404


@pytest.mark.usefixtures("charters")
def test_a_hostile_title_is_text(client: Client, runtime: Runtime) -> None:
    evil = f"# {EVIL}\n\n{DRAFT}".encode()
    client.upload("evil.md", evil, collection="charters", key=EVIL)
    wait_until_followed(runtime)
    page = client.get("/", params={"q": QUERY, "collection": "charters"}).text
    assert "3 more documents of nearly the same text" in words(page)
    assert "<script>alert" not in page and "<img src=x" not in page


def test_the_command_line_names_them(
    runtime: Runtime, charters: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    body = {"query": QUERY, "collections": ["charters"], "collapse": True, "limit": 2}
    answer = answer_search(runtime, body)
    print_answer(answer)
    printed = capsys.readouterr().out
    assert "+ 2 of nearly the same text:" in printed
    assert all(key in printed for key in charters)
    answer["hits"][0]["versions"] *= 20
    print_answer(answer)
    printed = " ".join(capsys.readouterr().out.split())
    assert "+ 40 of nearly the same text:" in printed and " and 37 more " in printed
