"""The filter tree in JSON, and its slow, obvious meaning."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longleaf.core.errors import InvalidRequest
from longleaf.core.filters import And, Eq, Filter, In, Not, Or, Prefix, Range, matches
from longleaf.core.types import MetaValue
from longleaf.retriever.filters import filter_from_json, filter_to_json

scalars = st.one_of(
    st.text(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False)
)
names = st.text(min_size=1)
bounds = st.sampled_from(["2020", "2020-03", "2020-03-01", "2020-03-01T10:00:00+02:00"])
numbers = st.one_of(st.integers(-(10**9), 10**9), st.floats(allow_nan=False, allow_infinity=False))
leaves: st.SearchStrategy[Filter] = st.one_of(
    st.builds(Eq, names, scalars),
    st.builds(In, names, st.lists(scalars, max_size=4).map(tuple)),
    st.builds(Prefix, names, st.text()),
    st.builds(Range, names, gte=bounds, lt=bounds),
    st.builds(Range, names, gt=numbers, lte=numbers),
    st.builds(Range, names, lte=numbers),
)
trees: st.SearchStrategy[Filter] = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(And, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Not, inner),
    ),
    max_leaves=8,
)


@given(trees)
def test_round_trip(tree: Filter) -> None:
    assert filter_from_json(json.loads(json.dumps(filter_to_json(tree)))) == tree


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (None, "filter:"),
        ([], "filter:"),
        ({}, "filter:"),
        ({"and": {}}, "filter.and:"),
        ({"and": [], "or": []}, "filter:"),
        ({"and": [{"field": "a", "eq": 1}, 3]}, "filter.and[1]:"),
        ({"not": {"or": [{"field": "a", "eq": None}]}}, "filter.not.or[0].eq:"),
        ({"not": {}, "extra": 1}, "filter.extra:"),
        ({"field": "", "eq": 1}, "filter.field:"),
        ({"field": 3, "eq": 1}, "filter.field:"),
        ({"field": "a"}, "filter:"),
        ({"field": "a", "eq": 1, "in": [2]}, "filter:"),
        ({"field": "a", "eq": 1, "gte": 2}, "filter:"),
        ({"field": "a", "equals": 1}, "filter.equals:"),
        ({"field": "a", "eq": [1]}, "filter.eq:"),
        ({"field": "a", "eq": float("nan")}, "filter.eq:"),
        ({"field": "a", "in": "abc"}, "filter.in:"),
        ({"field": "a", "in": [1, {}]}, "filter.in[1]:"),
        ({"field": "a", "prefix": 2}, "filter.prefix:"),
        ({"field": "a", "gte": "soon"}, "filter.gte:"),
        ({"field": "a", "gte": True}, "filter.gte:"),
        ({"field": "a", "gte": 1, "lt": "2020"}, "filter:"),
    ],
)
def test_a_bad_part_is_named(value: Any, path: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        filter_from_json(value)
    assert str(caught.value).startswith(path)


def test_limits() -> None:
    leaf: dict[str, Any] = {"field": "a", "eq": 1}
    nested = leaf
    for _ in range(15):
        nested = {"not": nested}
    filter_from_json(nested)
    with pytest.raises(InvalidRequest, match="16 levels"):
        filter_from_json({"not": nested})
    for _ in range(100_000):
        nested = {"and": [nested]}
    with pytest.raises(InvalidRequest, match="16 levels"):
        filter_from_json(nested)
    filter_from_json({"or": [leaf] * 1000})
    for many in (
        {"or": [leaf] * 1001},
        {"field": "a", "in": [1] * 1001},
        {"or": [{"and": []}] * 1001},
    ):
        with pytest.raises(InvalidRequest, match="1,000"):
            filter_from_json(many)


@pytest.mark.parametrize(
    ("tree", "value", "expected"),
    [
        (Eq("f", 2020), 2020.0, True),
        (Eq("f", 2020), "2020", True),
        (Eq("f", "2020"), 2020, True),
        (Eq("f", 2020), "02020", False),
        (Eq("f", 1), True, False),
        (Eq("f", "true"), True, True),
        (Eq("f", "CA9"), "ca9", False),
        (Eq("f", "b"), ("a", "b"), True),
        (Not(Eq("f", "b")), ("a", "b"), False),
        (In("f", (1, "b")), "b", True),
        (In("f", ()), "b", False),
        (Range("f", gte=2019, lt=2020), 2019.5, True),
        (Range("f", gte=2019), "2020", True),
        (Range("f", gte=2019), "2020-01-01", False),
        (Range("f", gte=0), True, False),
        (Range("f", gte="2020", lte="2020"), "2020-12-31T23:59:59", True),
        (Range("f", gt="2020"), "2020-12-31", False),
        (Range("f", gt="2020"), "2021", True),
        (Range("f", lt="2020-03"), "2020-02-29", True),
        (Range("f", lte="2020-02"), "2020-02-29T22:00:00-01:00", True),
        (Range("f", lte="9999-12"), "9999-12-31", True),
        (Range("f", gte="2020"), 2021, False),
        (Range("f", gte="soon"), "2021", False),
        (Range("f", gte=2019, lte="2022"), "2020", False),
        (Range("f"), "anything", True),
        (Prefix("f", "20"), 2020, True),
        (Prefix("f", ""), (), False),
        (And(()), (), True),
        (Or(()), 1, False),
    ],
)
def test_meaning(tree: Filter, value: MetaValue, expected: bool) -> None:
    assert matches(tree, {"f": value}) is expected


def test_a_field_without_a_value_matches_no_leaf() -> None:
    for leaf in (Eq("f", ""), In("f", ("",)), Range("f"), Prefix("f", "")):
        assert not matches(leaf, {"g": 1})
        assert matches(Not(leaf), {})
