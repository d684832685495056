"""A list as a file: every hit, and nothing that a spreadsheet would run."""

from __future__ import annotations

import csv
import io
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.api.conftest import Client, wait_until_followed

from longleaf.api.http.export import COLUMNS
from longleaf.api.spreadsheet import as_meant, harmless
from longleaf.api.wire import Runtime


def test_files_hold_what_the_search_says(client: Client) -> None:
    params = {"q": "the tenant pays rent", "collection": "law"}
    answer = client.get("/v1/search", params={**params, "limit": 100}).json()
    as_csv = client.get("/v1/search/export", params=params)
    assert as_csv.headers["content-disposition"] == 'attachment; filename="longleaf.csv"'
    rows = list(csv.DictReader(io.StringIO(as_csv.text.removeprefix("\ufeff"))))
    assert tuple(rows[0]) == COLUMNS and as_csv.text.startswith("\ufeff")
    assert [row["document_id"] for row in rows] == [hit["document_id"] for hit in answer["hits"]]
    assert rows[0]["title"] == answer["hits"][0]["title"] and rows[0]["passage"]
    as_json = client.get("/v1/search/export", params={**params, "format": "json"}).json()
    assert [hit["document_id"] for hit in as_json["hits"]] == [row["document_id"] for row in rows]
    run = client.get(
        "/v1/search/export", params={**params, "format": "trec", "topic": "q7", "sort": "date"}
    ).text
    lines = [line.split() for line in run.splitlines()]
    assert [line[2] for line in lines] == [row["document_id"] for row in rows]
    assert {(line[0], line[1], line[5]) for line in lines} == {("q7", "Q0", "longleaf")}
    scores = [float(line[4]) for line in lines]
    assert all(one > other for one, other in pairwise(scores))
    assert client.get("/v1/search/export", params={**params, "topic": "a b"}).status_code == 422
    assert client.get("/v1/search/export", params={**params, "format": "x"}).status_code == 422


@pytest.mark.parametrize(
    "text", ["=1+1", "+cmd", "-2", "@SUM(A1)", " =1", "\t=1", "\r=1", "＝1", '=HYPERLINK("x")']
)
def test_formulas_become_text(text: str) -> None:
    assert harmless(text) == f"'{text}"
    assert harmless(f"a{text}") == f"a{text}"


@given(st.text("'= +-@＝\ta"))
def test_what_was_meant_can_be_read_again(text: str) -> None:
    assert as_meant(harmless(text)) == text


def test_a_hostile_document_stays_text(client: Client, runtime: Runtime) -> None:
    text = "=cmd|'/c calc'!A1\n\nA pergola, \"quoted\", with a comma.\n"
    client.post("/v1/collections", json={"name": "formulas"})  # others leave texts in scratch
    client.upload("=evil.txt", text.encode(), collection="formulas")
    wait_until_followed(runtime)
    answer = client.get("/v1/search/export", params={"q": "pergola", "collection": "formulas"})
    rows = list(csv.DictReader(io.StringIO(answer.text.removeprefix("\ufeff"))))
    assert len(rows) == 1 and rows[0]["title"].startswith("'=cmd")
    assert rows[0]["source"] == "'=evil.txt" and rows[0]["passage"].startswith("'=cmd")
    client.delete("/v1/collections/formulas")
