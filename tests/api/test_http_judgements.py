"""/v1/judgements and the page's thumbs: kept, listed, taken back, and gone with their document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.api.conftest import EVIL, Client

from longleaf.api.wire import Runtime
from longleaf.core import ids
from longleaf.core.catalog.judgements import JudgementWrite
from longleaf.core.errors import NotFound
from longleaf.core.types import Scope

EVERYONE = Scope.all()
RENT = "who pays the rent?"


@pytest.fixture(autouse=True)
def _nothing_judged(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "runtime" in request.fixturenames:
        runtime: Runtime = request.getfixturevalue("runtime")
        with runtime.catalog._database.writing() as connection:
            connection.exec_driver_sql("DELETE FROM judgements")


def put(client: Client, key: str, grade: int, query: str = RENT, **more: Any) -> dict[str, Any]:
    body = {"query": query, "document_id": ids.document_id("law", key), "grade": grade, **more}
    answer = client.post("/v1/judgements", json=body)
    assert answer.status_code == 200, answer.text
    kept: dict[str, Any] = answer.json()
    return kept


def listed(client: Client, **params: Any) -> list[dict[str, Any]]:
    answer = client.get("/v1/judgements", params=params)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["judgements"]
    return found


# --- the API -----------------------------------------------------------------------------------


def test_a_judgement_is_kept_changed_and_taken_back(client: Client) -> None:
    put(client, "lease.txt", 1, start_char=0, end_char=17)
    put(client, "mit.txt", 0)
    [lease, mit] = listed(client)
    assert (lease["grade"], lease["key"], lease["collection"]) == (1, "lease.txt", "law")
    assert (lease["start_char"], lease["end_char"], lease["revision"]) == (0, 17, 1)
    assert lease["title"] and lease["judge"] == "local" and mit["start_char"] is None
    # One judge has one opinion, however the query is spaced; another has one of his own.
    put(client, "lease.txt", 0, query="  who pays\tthe rent? ")
    put(client, "lease.txt", 3, judge="ann")
    grades = {(each["key"], each["judge"]): each["grade"] for each in listed(client)}
    assert grades == {("lease.txt", "local"): 0, ("mit.txt", "local"): 0, ("lease.txt", "ann"): 3}
    params = {"query": RENT, "document_id": ids.document_id("law", "lease.txt"), "judge": "ann"}
    assert client.delete("/v1/judgements", params=params).json()["grade"] is None
    gone = client.delete("/v1/judgements", params=params)
    assert gone.status_code == 404 and "ann" in gone.json()["detail"]
    assert len(listed(client, collection="law")) == 2
    assert listed(client, collection="science") == [] == listed(client, query="another")
    first = client.get("/v1/judgements", params={"limit": 1}).json()
    rest = client.get("/v1/judgements", params={"after": first["next_after"]}).json()
    assert [each["key"] for each in first["judgements"] + rest["judgements"]] == [
        "lease.txt", "mit.txt",
    ]  # fmt: skip
    assert rest["next_after"] is None


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"grade": 11}, 422, "grade"),
        ({"grade": None}, 422, "grade"),
        ({"query": ""}, 422, "query"),
        ({"query": " \n "}, 400, "query"),
        ({"query": "a\x00b"}, 400, "NUL"),
        ({"document_id": "nowhere"}, 404, "nowhere"),
        ({"start_char": 3}, 400, "both"),
        ({"start_char": 3, "end_char": 3}, 400, "start first"),
        ({"start_char": 3, "end_char": 10_000}, 400, "characters"),
        ({"start_char": 3, "end_char": 1 << 63}, 422, "end_char"),
        ({"judge": ""}, 422, "judge"),
        ({"thumb": "up"}, 422, "thumb"),
    ],
)
def test_what_cannot_be_judged(
    client: Client, body: dict[str, Any], status: int, words: str
) -> None:
    whole = {"query": RENT, "document_id": ids.document_id("law", "lease.txt"), "grade": 1} | body
    answer = client.post("/v1/judgements", json=whole)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["detail"]
    assert listed(client) == []


def test_judgements_go_with_their_document_and_follow_the_scope(
    client: Client, runtime: Runtime
) -> None:
    put(client, "lease.txt", 1)
    kept = runtime.catalog.judgements
    assert len(kept.found(Scope(collections=frozenset({"law"})))) == 1
    nobody = Scope(collections=frozenset({"science"}))
    assert kept.found(nobody) == [] and kept.count(nobody) == {}
    document_id = ids.document_id("law", "lease.txt")
    with pytest.raises(NotFound):
        kept.put([JudgementWrite(RENT, document_id, 1)], nobody)
    with pytest.raises(NotFound):
        kept.remove(RENT, document_id, nobody)
    text = b"A short-lived text."
    result = runtime.indexer.index_bytes("scratch", "english", text, "x.txt", key="x")
    [document] = result.document_ids
    kept.put([JudgementWrite("short?", document, 1)], EVERYONE)
    runtime.catalog.delete_document(document, EVERYONE)
    assert kept.count(EVERYONE) == {"law": 1}
    with pytest.raises(NotFound):  # all or none
        kept.put([JudgementWrite("a", document_id, 1), JudgementWrite("b", document, 1)], EVERYONE)
    assert kept.count(EVERYONE) == {"law": 1}


# --- the page ----------------------------------------------------------------------------------


def test_thumbs_work_without_script(client: Client) -> None:
    document_id = ids.document_id("law", "lease.txt")
    page = client.get("/", params={"q": RENT, "collection": "law"}).text
    assert page.count('action="/judge"') == 2 * page.count('<li class="hit"') > 0
    assert 'aria-pressed="true"' not in page
    form = {"q": RENT, "document_id": document_id, "rank": "1", "grade": "1", "start": "0",
            "end": "17", "back": "q=who+pays+the+rent%3F&collection=law"}  # fmt: skip
    answer = client.post("/judge", data=form)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/?q=who+pays+the+rent%3F&collection=law#hit-1"
    [kept] = listed(client)
    assert kept["grade"] == 1 and kept["end_char"] == 17
    page = client.get(answer.headers["location"].partition("#")[0]).text
    assert page.count('aria-pressed="true"') == 1
    # The pressed thumb sends no grade: it takes itself back.
    del form["grade"]
    assert client.post("/judge", data=form).status_code == 303
    assert listed(client) == []


@pytest.mark.parametrize("back", ["//elsewhere.example/", "x\r\nset-cookie: a=b", EVIL])
def test_a_thumb_leads_nowhere_else(client: Client, back: str) -> None:
    form = {"q": RENT, "document_id": ids.document_id("law", "lease.txt"), "rank": "1",
            "grade": "0", "back": back}  # fmt: skip
    answer = client.post("/judge", data=form)
    assert answer.status_code == 303
    location = answer.headers["location"]
    assert location.startswith("/?") and "\n" not in location and "set-cookie" not in answer.headers
    foreign = client.post("/judge", data=form, headers={"origin": "http://elsewhere.example"})
    assert foreign.status_code == 403
    bad = client.post("/judge", data=form | {"grade": "7"})
    assert bad.status_code == 422
