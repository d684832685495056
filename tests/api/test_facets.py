"""Counts of metadata values in the window: exactly those of its documents."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.api.conftest import YEARS, Client, wait_until_followed
from typer.testing import CliRunner

from longleaf.api import facets
from longleaf.api.cli.main import app as cli
from longleaf.api.facets import facets_of
from longleaf.api.searched import Facet
from longleaf.api.wire import Runtime
from longleaf.core.catalog import DocumentHead
from longleaf.core.filters import as_text
from longleaf.core.types import Scope


def test_a_window_is_counted(client: Client) -> None:
    body = {"facets": ["year", "collection", "type"], "collections": ["law", "science"]}
    answer = client.search("the tenant, the court and adults", limit=2, **body)
    year, collection, media = answer["facets"]
    assert year["field"] == "year" and year["document_count"] == answer["found_count"] == 8
    assert year["values"] == [{"value": each, "count": 1} for each in sorted(YEARS.values())]
    assert year["without_count"] == 8 - len(YEARS) and year["more_values"] == 0
    assert collection["values"] == [
        {"value": "law", "count": 6},
        {"value": "science", "count": 2},
    ]
    assert sum(each["count"] for each in media["values"]) == 8
    assert "facets" in answer["timings_ms"]
    # A value can be filtered by, and then there are as many.
    for value in (*year["values"], *media["values"]):
        field = "year" if value in year["values"] else "type"
        tree = {"field": field, "eq": value["value"]}
        found = client.search("", filter=tree, limit=100, collections=["law", "science"])
        assert found["found_count"] == value["count"]
    # The window and not all that matches.
    small = client.search("tenant", candidates=1, facets=["collection"])
    assert small["facets"][0]["document_count"] == 1 == small["found_count"]


def test_year_and_language_are_told_of_what_says_neither(client: Client, runtime: Runtime) -> None:
    text = "Der Mieter zahlt jeden Monat Miete an den Vermieter, und der Vermieter dankt. " * 4
    english = (
        "The tenant of the mill pays the miller, and the miller thanks the tenant for it. " * 4
    )
    client.post("/v1/collections", json={"name": "dated"})
    dated = {"metadata": json.dumps({"date": "2022-05-17"})}
    client.upload("miete.txt", text.encode(), collection="dated", key="miete", **dated)
    client.upload("mill.txt", english.encode(), collection="dated", key="mill")
    wait_until_followed(runtime)
    answer = client.search("Mieter tenant", facets=["*"], collections=["dated"])
    counted = {each["field"]: each for each in answer["facets"]}
    assert list(counted)[:4] == ["collection", "type", "year", "language"]
    assert counted["year"]["values"] == [{"value": 2022, "count": 1}]
    assert counted["year"]["without_count"] == 1
    assert {"value": "de", "count": 1} in counted["language"]["values"]
    for query in ("language:de", "year:2022", "year:2021..2023 language:de,fr"):
        found = client.search(query, collections=["dated"])
        assert [hit["key"] for hit in found["hits"]] == ["miete"], query
        assert found["warnings"] == []
    client.delete("/v1/collections/dated")


def test_passages_of_one_document_count_once(client: Client) -> None:
    answer = client.search("license", group="none", facets=["title"], collections=["law"])
    titles = {hit["title"] for hit in answer["hits"]}
    assert len(answer["hits"]) > len(titles)
    [facet] = answer["facets"]
    assert all(each["count"] == 1 for each in facet["values"])
    assert facet["document_count"] == len(facet["values"])


def test_links_pages_and_what_nobody_has(client: Client) -> None:
    params: dict[str, Any] = {"q": "tenant", "facet": ["year", "color"], "limit": 1, "cursor": "*"}
    answer = client.get("/v1/search", params=params).json()
    year, color = answer["facets"]
    assert color["values"] == [] and color["without_count"] == color["document_count"]
    assert "facets: no document here has a field 'color'." in answer["warnings"]
    assert not any("year" in each for each in answer["warnings"])
    second = client.post("/v1/search", json={"cursor": answer["next_cursor"]}).json()
    assert second["facets"] == [] and second["hits"]
    nothing = client.search('"no such phrase anywhere"', facets=["year"])
    assert nothing["facets"][0]["document_count"] == 0 == nothing["found_count"]
    assert client.post("/v1/search", json={"query": "x", "facets": [""]}).status_code == 422
    body = {"query": "x", "facets": [str(n) for n in range(21)]}
    assert client.post("/v1/search", json=body).status_code == 422
    twice = client.search("tenant", facets=["year", "year"])
    assert len(twice["facets"]) == 1 and year == twice["facets"][0]


def test_the_command_prints_them(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"field": "court", "values": [{"value": "ca9", "count": 3}], "more_values": 4,
            "without_count": 2, "document_count": 9}  # fmt: skip
    answer = {"hits": [], "timings_ms": {}, "found_count": 9, "reranked_count": 0, "degraded": [],
              "reranker": None, "whole_count": 0, "warnings": [], "facets": [told]}  # fmt: skip
    asked: list[dict[str, Any]] = []

    def ask(_settings: Any, body: dict[str, Any]) -> dict[str, Any]:
        asked.append(body)
        return answer

    monkeypatch.setattr("longleaf.api.cli.searching.ask", ask)
    printed = CliRunner().invoke(cli, ["search", "x", "--facet", "court", "--facet", "year"])
    assert printed.exit_code == 0, printed.output
    assert asked[0]["facets"] == ["court", "year"]
    assert "court: ca9 (3) and 4 more values; 2 of 9 documents have none" in printed.output


class _Catalog:
    """`heads` of what it was given."""

    def __init__(self, values: list[Any]) -> None:
        self._values = values

    def heads(self, revision_ids: list[int], _scope: Scope) -> dict[int, DocumentHead]:
        return {each: _head(each, self._values[each]) for each in revision_ids}


def _head(number: int, value: Any) -> DocumentHead:
    metadata = {} if value is None else {"field": value}
    return DocumentHead(
        number, number, number, str(number), "law", str(number), "", 1, metadata, (), "", "",
        None, None, (), 0, 0.0, 0.0,
    )  # fmt: skip


_VALUES = st.one_of(
    st.none(),
    st.integers(-3, 3),
    st.sampled_from([1.0, 2.5, True, False, "1", "true", "a", "b", ""]),
    st.lists(st.sampled_from(["a", "b", "1"]), max_size=3).map(tuple),
)


@given(st.lists(_VALUES, max_size=30))
def test_equals_the_slow_obvious_version(values: list[Any]) -> None:
    catalog: Any = _Catalog(values)
    [facet] = facets_of(catalog, ["field"], [*range(len(values)), *range(len(values))], Scope.all())
    slow: Counter[str] = Counter()
    without = 0
    for value in values:
        several = value if isinstance(value, tuple) else () if value in (None, "") else (value,)
        without += not several
        for text in {as_text(each) for each in several}:
            slow[text] += 1
    assert {as_text(value): count for value, count in facet.values} == slow
    assert facet.without_count == without and facet.document_count == len(values)
    counts = [count for _, count in facet.values]
    assert counts == sorted(counts, reverse=True)


def test_long_lists_are_cut_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facets, "VALUES_KEPT", 2)
    catalog: Any = _Catalog(["c", "b", "a", "b"])
    assert facets_of(catalog, ["field"], range(4), Scope.all()) == (
        Facet("field", (("b", 2), ("a", 1)), 1, 0, 4),
    )
    assert facets_of(catalog, [], range(4), Scope.all()) == ()
