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
from longleaf.retriever.retrieve import retrieve


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


QUESTION = "the tenant, the court and adults"
EVERYWHERE = ["law", "science"]


def counted(answer: dict[str, Any]) -> dict[str, dict[Any, int]]:
    """Field -> value -> documents."""
    return {
        facet["field"]: {each["value"]: each["count"] for each in facet["values"]}
        for facet in answer["facets"]
    }


@pytest.mark.parametrize("options", [{}, {"collapse": True}, {"rerank": False}, {"limit": 1}])
def test_a_filtered_field_is_counted_without_its_own_filter(
    client: Client, options: dict[str, Any]
) -> None:
    facets = ["year", "type", "collection"]
    all_of_it = {"facets": facets, "collections": EVERYWHERE, **options}
    of_2020 = {"field": "year", "eq": 2020}
    plain_text = {"field": "type", "in": ["text/plain"]}
    everything = counted(client.search(QUESTION, **all_of_it))
    by_year = client.search(QUESTION, filter=of_2020, **all_of_it)
    by_type = client.search(QUESTION, filter=plain_text, **all_of_it)
    both = client.search(QUESTION, filter={"and": [of_2020, plain_text]}, **all_of_it)
    assert by_year["found_count"] == 1 and by_type["found_count"] < 8
    # As many as a search without that filter counts, and others under all filters.
    assert counted(by_year)["year"] == everything["year"]
    assert counted(by_year)["type"] == {"text/plain": 1}
    assert counted(by_type)["type"] == everything["type"]
    assert counted(both)["year"] == counted(by_type)["year"]
    assert counted(both)["type"] == counted(by_year)["type"]
    told = {facet["field"]: facet for facet in by_year["facets"]}
    assert told["year"]["without_own_filter"] and told["year"]["document_count"] == 8
    assert not told["type"]["without_own_filter"] and told["type"]["document_count"] == 1
    # And going from one value to another, or to both, finds what was counted.
    for values in ([2019], [2019, 2020]):
        tree = {"field": "year", "in": values}
        found = client.search(QUESTION, filter=tree, **all_of_it)["found_count"]
        assert found == sum(everything["year"][value] for value in values)


def test_collections_are_counted_beside_those_that_were_chosen(client: Client) -> None:
    answer = client.search(QUESTION, facets=["*"], collections=["science"])
    assert answer["found_count"] == 2
    assert counted(answer)["collection"] == {"law": 6, "science": 2}
    tree = {"field": "collection", "in": ["science"]}
    filtered = client.search(QUESTION, facets=["*"], filter=tree)
    assert counted(filtered)["collection"] == {"law": 6, "science": 2}
    years = {"field": "year", "gte": 2020}
    # A filter of a field that most would not offer is counted all the same.
    answer = client.search(QUESTION, facets=["*"], collections=["science"], filter=years)
    assert answer["found_count"] == 0 and counted(answer)["year"] == {}
    assert counted(answer)["collection"] == {"law": 2}


def test_what_the_query_itself_says_stays(client: Client) -> None:
    answer = client.search("tenant court year:2019..2020", facets=["year"])
    assert counted(answer)["year"] == {2019: 1, 2020: 1}
    assert not answer["facets"][0]["without_own_filter"]
    tree = {"field": "year", "in": [2020]}
    answer = client.search("tenant court year:2019..2020", facets=["year"], filter=tree)
    assert answer["found_count"] == 1 and counted(answer)["year"] == {2019: 1, 2020: 1}
    # A part that tests two fields is no field's own.
    either = {"or": [tree, {"field": "type", "eq": "text/markdown"}]}
    answer = client.search(QUESTION, facets=["year", "type"], filter=either, collections=EVERYWHERE)
    assert counted(answer)["year"] == {2020: 1}
    # Without words too: all that is there.
    answer = client.search("", facets=["year"], filter=tree)
    assert counted(answer)["year"] == {2019: 1, 2020: 1, 2021: 1}


def test_what_scored_low_is_not_counted_either(client: Client) -> None:
    body: dict[str, Any] = {"collections": ["law"], "facets": ["year"], "limit": 100}
    question = "is the tenant obliged to pay the rent"
    scores = {
        hit["metadata"].get("year"): hit["reading"]["score"]
        for hit in client.search(question, **body)["hits"]
    }
    least = (scores[2019] + scores[2020]) / 2
    assert scores[2019] > least > scores[2020]
    tree = {"field": "year", "in": [2019]}
    good = client.search(question, min_score=least, filter=tree, **body)
    everything = client.search(question, min_score=least, **body)
    assert counted(good)["year"] == counted(everything)["year"]
    assert 2020 not in counted(good)["year"]
    assert 2020 in counted(client.search(question, **body))["year"]


def test_a_chosen_value_counts_what_is_found_with_it(client: Client) -> None:
    # The best of all is of 2021 and the window holds one: the one of 2019 is counted nevertheless.
    question = "force majeure suspends the obligation of the tenant to pay the rent"
    body = {"candidates": 1, "facets": ["year"], "collections": ["law"]}
    assert counted(client.search(question, **body))["year"] == {2021: 1}
    answer = client.search(question, filter={"field": "year", "eq": 2019}, **body)
    assert answer["found_count"] == 1
    assert counted(answer)["year"] == {2019: 1, 2021: 1}


def test_only_what_is_chosen_costs_another_first_stage(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []

    def counting(query: Any, *rest: Any) -> Any:
        calls.append(query)
        return retrieve(query, *rest)

    monkeypatch.setattr("longleaf.api.search.retrieve", counting)
    tree = {"and": [{"field": "year", "gte": 2019}, {"field": "type", "prefix": "text/"}]}

    def stages(**options: Any) -> int:
        calls.clear()
        client.search(QUESTION, **options)
        return len(calls)

    assert stages(facets=["*"]) == 1
    assert stages(filter=tree) == 1
    assert stages(facets=["collection"], filter=tree) == 1
    every = [each["name"] for each in client.get("/v1/collections").json()["collections"]]
    assert stages(facets=["*"], collections=every) == 1
    assert stages(facets=["year"], filter=tree) == 2
    assert stages(facets=["*"], filter=tree) == 3
    assert stages(facets=["*"], filter=tree, collections=["law"]) == 4
    assert all(query.vector is calls[0].vector for query in calls)


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


@pytest.mark.parametrize(
    ("values", "is_offered"),
    [
        (["a", "a", "b"], True),
        (["a", "a", "a"], True),
        (["a", "a", "b", "c"], True),
        (["19-cv-1", "19-cv-2", "19-cv-3"], False),
        (["19-cv-1", "19-cv-2", "19-cv-3", "19-cv-3", "19-cv-4"], False),
        (["a"], False),
        (["a", None, None], False),
        ([("a", "b"), ("a", "c"), ("a", "b")], True),
        ([("a", "b"), ("c", "d"), ("e", "f", "a")], False),
        (["2020-01-02"] * 4, False),
        ([f"v{number % 13}" for number in range(27)], True),
        ([f"v{number % 14}" for number in range(27)], False),
    ],
)
def test_fields_are_offered_whose_values_are_kinds(values: list[Any], is_offered: bool) -> None:
    catalog: Any = _Catalog(values)
    found = facets_of(catalog, [facets.ALL], range(len(values)), Scope.all())
    assert ("field" in [each.field for each in found]) is is_offered
    # What was chosen stays, to be taken away; what names one document is never offered.
    wider = {"field": [0], "key": [0]}
    assert facets.is_counted("field", ["*"]) and not facets.is_counted("key", ["*"])
    found = facets_of(catalog, [facets.ALL], range(len(values)), Scope.all(), wider)
    assert [each.field for each in found if each.without_own_filter] == ["field"]


def test_long_lists_are_cut_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facets, "VALUES_KEPT", 2)
    catalog: Any = _Catalog(["c", "b", "a", "b"])
    assert facets_of(catalog, ["field"], range(4), Scope.all()) == (
        Facet("field", (("b", 2), ("a", 1)), 1, 0, 4),
    )
    assert facets_of(catalog, [], range(4), Scope.all()) == ()
