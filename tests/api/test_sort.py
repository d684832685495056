"""Sorting a window by date, and facets that name themselves."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from tests.api.conftest import Client

from longleaf.core.dates import date_of, newest_first
from longleaf.core.filters import parse_date


def test_a_window_is_sorted_by_date_and_keeps_its_ranks(client: Client) -> None:
    body = {"collections": ["law"], "rerank": False}
    best = client.search("the tenant and the court", limit=100, **body)["hits"]
    dated = client.search("the tenant and the court", limit=100, sort="date", **body)["hits"]
    assert [hit["date"] for hit in dated[:3]] == ["2021", "2020", "2019"]
    assert all(hit["date"] is None for hit in dated[3:]) and len(dated) > 4
    assert {hit["key"]: hit["rank"] for hit in dated} == {hit["key"]: hit["rank"] for hit in best}
    undated = [hit["rank"] for hit in dated[3:]]
    assert undated == sorted(undated)
    # Pages of it, by offset and by cursor, are its parts.
    by_link = {"q": "the tenant and the court", "collection": "law", "rerank": "off", "limit": 2}
    second = client.get("/v1/search", params={**by_link, "sort": "date", "offset": 2}).json()
    first = client.search("the tenant and the court", limit=2, sort="date", cursor="*", **body)
    following = client.post("/v1/search", json={"cursor": first["next_cursor"]}).json()
    wanted = [hit["key"] for hit in dated[2:4]]
    assert [hit["key"] for hit in second["hits"]] == wanted
    assert [hit["key"] for hit in following["hits"]] == wanted
    assert client.post("/v1/search", json={"query": "x", "sort": "size"}).status_code == 422


def test_dates_are_read_from_metadata() -> None:
    assert date_of({"created": "2001-02-03T04:05:06", "date": "March 2020", "year": 2020.0}) == (
        "2020"
    )
    assert date_of({"created": "2001-02", "year": True, "date": ("2020",)}) == "2001-02"
    assert date_of({"year": 12020, "date": "", "published": "soon"}) is None


_DATES = st.one_of(
    st.none(),
    st.dates().map(str),
    st.datetimes().map(lambda each: each.isoformat()),
    st.integers(1, 9999).map(lambda year: f"{year:04}"),
)


@given(st.lists(_DATES, max_size=12))
def test_newest_first_equals_the_slow_obvious_version(dates: list[str | None]) -> None:
    found = newest_first(enumerate(dates))
    known = [place for place in found if dates[place]]
    assert found[len(known) :] == [place for place, date in enumerate(dates) if not date]
    for one, other in pairwise(known):
        earlier, later = parse_date(dates[other] or ""), parse_date(dates[one] or "")
        assert earlier is not None and later is not None
        assert (later.replace(microsecond=0), -one) >= (earlier.replace(microsecond=0), -other)


def test_facets_can_name_themselves(client: Client) -> None:
    answer = client.search("tenant court adults", facets=["*"], collections=["law", "science"])
    assert [each["field"] for each in answer["facets"]] == [
        "collection",
        "type",
        "year",
        "language",
    ]
    named = client.search(
        "tenant court adults", facets=["year", "*"], collections=["law", "science"]
    )
    assert [each["field"] for each in named["facets"]] == ["year", "collection", "type", "language"]
    assert not any("facets" in each for each in answer["warnings"])
