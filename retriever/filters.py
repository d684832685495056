"""The filter tree as JSON, for requests and saved searches, and what of a document it sees.

    {"field": "year", "gte": 2019, "lt": 2022}      {"field": "court", "prefix": "ca"}
    {"field": "type", "in": ["text/html"]}          {"field": "year", "eq": 2020}
    {"and": [...]}   {"or": [...]}   {"not": {...}}

A leaf has "field" and exactly one kind of test; the bounds of a range may stand together. A bad
part raises InvalidRequest naming its path ("filter.and[1].gte: ..."). Limits: 16 levels, 1,000
tests (each value of an "in" counts), so that a request cannot exhaust the stack or an index. It
knows no index. Trade-off: small and closed; what it cannot say, several requests can.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn, Protocol

from longleaf.core.dates import year_of
from longleaf.core.errors import InvalidRequest
from longleaf.core.filters import And, Eq, Filter, In, Not, Or, Prefix, Range, parse_date
from longleaf.core.types import MetaValue

MAX_DEPTH = 16
MAX_TESTS = 1_000
_BOUNDS = ("gte", "gt", "lte", "lt")
_KINDS = ("and", "or", "not", "field")


class Described(Protocol):
    """A document as far as filters see it: `IndexEntry` and the catalog's `DocumentHead` are."""

    @property
    def metadata(self) -> Mapping[str, MetaValue]: ...
    @property
    def collection(self) -> str: ...
    @property
    def public_id(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def media_type(self) -> str: ...
    @property
    def language(self) -> str | None: ...


def entry_fields(entry: Described) -> dict[str, MetaValue]:
    """Everything that filters see of a document: built-in fields hide metadata of their name, and
    metadata hide derived fields."""
    derived: dict[str, MetaValue] = {}
    if "year" not in entry.metadata and (year := year_of(entry.metadata)) is not None:
        derived["year"] = year
    if entry.language is not None:
        derived["language"] = entry.language
    return {
        **derived,
        **entry.metadata,
        "collection": entry.collection,
        "document": entry.public_id,
        "title": entry.title,
        "key": entry.key,
        "source": entry.source,
        "type": entry.media_type,
    }


def filter_from_json(value: Any, path: str = "filter") -> Filter:
    """The tree that parsed JSON means. Raises InvalidRequest, which names the bad part's path."""
    tests = 0
    for tests, _ in enumerate(_tests(value, path, 1), start=1):
        if tests > MAX_TESTS:
            raise InvalidRequest(
                f"{path}: more than {MAX_TESTS:,} tests.", "Use a prefix or a range, or split it."
            )
    return _read(value, path)


def filter_from_stored(value: Any) -> Filter:
    """The same of what `filter_to_json` made here: a query's filters and a request's together may
    have more tests, and be deeper, than one request's may."""
    return _read(value, "filter")


def filter_to_json(tree: Filter) -> dict[str, Any]:
    """The JSON form; `filter_from_json` reads it back to an equal tree."""
    match tree:
        case And(filters):
            return {"and": [filter_to_json(part) for part in filters]}
        case Or(filters):
            return {"or": [filter_to_json(part) for part in filters]}
        case Not(negated):
            return {"not": filter_to_json(negated)}
        case Eq(field, value):
            return {"field": field, "eq": value}
        case In(field, values):
            return {"field": field, "in": list(values)}
        case Prefix(field, prefix):
            return {"field": field, "prefix": prefix}
        case Range(field):
            bounds = {name: getattr(tree, name) for name in _BOUNDS}
            given = {name: bound for name, bound in bounds.items() if bound is not None}
            return {"field": field, **given} if given else {"field": field, "prefix": ""}


def _tests(value: Any, path: str, depth: int) -> Iterator[None]:
    """One item per test, and the check of the depth, before anything is built."""
    if depth > MAX_DEPTH:
        raise InvalidRequest(f"{path}: deeper than {MAX_DEPTH} levels.", "Flatten the filter.")
    if not isinstance(value, Mapping):
        return
    parts = [
        (f"{path}.{kind}[{number}]", part)
        for kind in ("and", "or")
        for number, part in enumerate(_listed(value.get(kind)))
    ]
    if "not" in value:
        parts.append((f"{path}.not", value["not"]))
    for inner_path, part in parts:
        yield from _tests(part, inner_path, depth + 1)
    if not parts:
        yield from (None for _ in range(max(1, len(_listed(value.get("in"))))))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _read(value: Any, path: str) -> Filter:
    if not isinstance(value, Mapping):
        _refuse(path, "expected an object such as", '{"field": "year", "gte": 2020}')
    kinds = [kind for kind in _KINDS if kind in value]
    if len(kinds) != 1:
        _refuse(path, "expected exactly one of", "and, or, not, field")
    kind = kinds[0]
    if kind == "field":
        return _leaf(value, path)
    _only(value, (kind,), path)
    if kind == "not":
        return Not(_read(value["not"], f"{path}.not"))
    if not isinstance(value[kind], list):
        _refuse(f"{path}.{kind}", "expected", "a list of filters")
    parts = tuple(_read(part, f"{path}.{kind}[{n}]") for n, part in enumerate(value[kind]))
    return And(parts) if kind == "and" else Or(parts)


def _leaf(value: Mapping[str, Any], path: str) -> Filter:
    field = value["field"]
    if not isinstance(field, str) or not field:
        _refuse(f"{path}.field", "expected", "the name of a field")
    _only(value, ("field", "eq", "in", "prefix", *_BOUNDS), path)
    bounds = {name: value[name] for name in _BOUNDS if name in value}
    tests = [name for name in ("eq", "in", "prefix") if name in value] + ["range"] * bool(bounds)
    if len(tests) != 1:
        _refuse(path, "expected one test:", "eq, in, prefix, or bounds (gte, gt, lte, lt)")
    match tests[0]:
        case "eq":
            return Eq(field, _scalar(value["eq"], f"{path}.eq"))
        case "in":
            if not isinstance(value["in"], list):
                _refuse(f"{path}.in", "expected", "a list of values")
            choices = enumerate(value["in"])
            return In(field, tuple(_scalar(choice, f"{path}.in[{n}]") for n, choice in choices))
        case "prefix":
            if not isinstance(value["prefix"], str):
                _refuse(f"{path}.prefix", "expected", "a string")
            return Prefix(field, value["prefix"])
    read = {name: _bound(bound, f"{path}.{name}") for name, bound in bounds.items()}
    if len({isinstance(bound, str) for bound in read.values()}) > 1:
        _refuse(path, "bounds must be", "all numbers or all dates")
    return Range(field, **read)


def _scalar(value: Any, path: str) -> str | int | float | bool:
    if not isinstance(value, str | int | float) or _not_finite(value):
        _refuse(path, "expected", "a string, a number or a boolean")
    return value


def _bound(value: Any, path: str) -> float | str:
    if isinstance(value, str):
        if parse_date(value) is None:
            _refuse(path, "expected", 'a number or an ISO 8601 date such as "2020-03-01"')
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or _not_finite(value):
        _refuse(path, "expected", "a finite number or a date")
    return value


def _not_finite(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _only(value: Mapping[str, Any], allowed: tuple[str, ...], path: str) -> None:
    for name in value:
        if name not in allowed:
            _refuse(f"{path}.{name}", "unknown here; allowed:", ", ".join(allowed))


def _refuse(path: str, problem: str, expected: str) -> NoReturn:
    raise InvalidRequest(f"{path}: {problem} {expected}.")
