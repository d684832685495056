"""What a Qdrant engine stores of a document for filters, and filters over that.

What `Eq`, `In` and `Prefix` compare of all fields stands in one list of "field=text" strings with
one index: a payload index costs the embedded engine 50-250 ms of fsync when it is made and makes
every flush dearer, so one per field would stall a put. Only numbers and dates have keys of their
own (`n_`, `d_`), for ranges. Access is one more key, holding "open" or the groups.

The embedded shard and a server have their own classes for conditions; `Spelling` is what differs,
so that both mean the same. It opens no shard and reads no document. Trade-off: every passage
repeats its document's fields, because the engine cannot join.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from longleaf.core.filters import (
    And,
    Eq,
    Filter,
    In,
    Not,
    Or,
    Prefix,
    Range,
    as_date,
    as_number,
    as_text,
    date_bound,
)
from longleaf.core.protocols import IndexEntry, IndexFilter
from longleaf.retriever.filters import entry_fields
from longleaf.retriever.words import words

DOCUMENT = "doc"
ACCESS = "access"
TEXT = "text"
COLLECTION = "collection"
FIELDS = "fields"
FENCE = "fence"
"""Of the one point that says how an index on a server stands, and of no passage."""

_OPEN = "open"
_UNUSUAL = re.compile(r"[^a-zA-Z0-9]")
_NUMBER, _DATE = "n", "d"


class Spelling(Protocol):
    """How one engine spells conditions. What `all_of` and `any_of` make is a condition, too.

    `values` passes where a key holds one of the texts, `begins` where it holds one that begins so,
    `phrase` and `word` where the text of a key has these words side by side, or this one word;
    `numbers` and `dates` (ISO 8601) where it holds one within bounds (gte, gt, lte, lt); `ids`
    points of these ids. `any_of` nothing passes nothing.
    """

    def all_of(self, must: Iterable[Any], must_not: Iterable[Any] = ()) -> Any: ...

    def any_of(self, should: Iterable[Any]) -> Any: ...

    def values(self, key: str, texts: Iterable[str]) -> Any: ...

    def begins(self, key: str, prefix: str) -> Any: ...

    def phrase(self, key: str, text: str) -> Any: ...

    def word(self, key: str, word: str) -> Any: ...

    def numbers(self, key: str, bounds: Mapping[str, float]) -> Any: ...

    def dates(self, key: str, bounds: Mapping[str, str]) -> Any: ...

    def ids(self, point_ids: Iterable[int]) -> Any: ...


def payload(entry: IndexEntry) -> dict[str, Any]:
    """The payload that all passages of a document share."""
    fields: list[str] = []
    stored: dict[str, Any] = {
        DOCUMENT: entry.document_id,
        COLLECTION: _storable(entry.collection),
        ACCESS: [_group(name) for name in entry.groups] or [_OPEN],
        FIELDS: fields,
    }
    for field, value in entry_fields(entry).items():
        values = value if isinstance(value, tuple) else (value,)
        fields += [_pair(field, as_text(item)) for item in values]
        if numbers := [number for item in values if (number := as_number(item)) is not None]:
            stored[_key(_NUMBER, field)] = numbers
        if dates := [moment.isoformat() for item in values if (moment := as_date(item))]:
            stored[_key(_DATE, field)] = dates
    return stored


def range_kind(key: str) -> str | None:
    """Either "numbers" or "dates" for a payload key that holds a field's; None for other keys."""
    return {f"{_NUMBER}_": "numbers", f"{_DATE}_": "dates"}.get(key[:2])


def phrase_text(text: str) -> str:
    """A text as the phrase index holds it: its words, so that every index means the same."""
    return " ".join(words(text))


def in_collections(spelling: Spelling, names: Iterable[str]) -> Any:
    """Everything in these collections."""
    return spelling.values(COLLECTION, [_storable(name) for name in names])


def passing(
    spelling: Spelling,
    index_filter: IndexFilter,
    point_ids: Iterable[int] | None = None,
    *,
    any_collection: bool = False,
) -> Any:
    """What a search may return, and of that only `point_ids` when they are given.

    `any_collection` leaves the collections out: a condition that everything passes makes the
    embedded scan 2-3 times slower (20,000 passages: 5.8 against 2.2 ms, after optimize 2.2 against
    0.9 ms).
    """
    must: list[Any] = []
    if not any_collection:
        must.append(in_collections(spelling, index_filter.collections))
    if point_ids is not None:
        must.append(spelling.ids(point_ids))
    if index_filter.groups is not None:
        groups = [_group(name) for name in index_filter.groups]
        must.append(spelling.values(ACCESS, [_OPEN, *groups]))
    if index_filter.where is not None:
        must.append(condition(spelling, index_filter.where))
    if phrases := _phrases(spelling, index_filter.phrases):
        must.append(spelling.any_of(phrases))
    return spelling.all_of(must, _phrases(spelling, index_filter.excluded))


def condition(spelling: Spelling, tree: Filter) -> Any:
    """The neutral tree as an engine's filter; equal to `core.filters.matches` on every payload."""
    match tree:
        case And(filters):
            return spelling.all_of(condition(spelling, part) for part in filters)
        case Or(filters):
            return spelling.any_of(condition(spelling, part) for part in filters)
        case Not(negated):
            return spelling.all_of((), [condition(spelling, negated)])
        case Eq(field, value):
            return spelling.values(FIELDS, [_pair(field, as_text(value))])
        case In(field, values):
            return spelling.values(FIELDS, [_pair(field, as_text(value)) for value in values])
        case Prefix(field, prefix):
            return spelling.begins(FIELDS, _pair(field, prefix))
        case Range():
            return _range(spelling, tree)


def range_keys(tree: Filter | None) -> set[str]:
    """The payload keys whose numbers or dates a filter compares."""
    match tree:
        case And(filters) | Or(filters):
            return set().union(*map(range_keys, filters))
        case Not(negated):
            return range_keys(negated)
        case Range(field):
            return {_key(_NUMBER, field), _key(_DATE, field)}
    return set()


def _range(spelling: Spelling, leaf: Range) -> Any:
    bounds = {"gte": leaf.gte, "gt": leaf.gt, "lte": leaf.lte, "lt": leaf.lt}
    given = {operator: bound for operator, bound in bounds.items() if bound is not None}
    if not given:
        return spelling.begins(FIELDS, _pair(leaf.field, ""))
    numbers: dict[str, float] = {}
    dates: dict[str, str] = {}
    for operator, bound in given.items():
        if isinstance(bound, str):
            moment = date_bound(bound, operator)
            if moment is None:
                return spelling.any_of(())
            dates[operator] = moment.isoformat()
        else:
            number = as_number(bound)
            if number is None:
                return spelling.any_of(())
            numbers[operator] = number
    if numbers and dates:
        return spelling.any_of(())
    if numbers:
        return spelling.numbers(_key(_NUMBER, leaf.field), numbers)
    return spelling.dates(_key(_DATE, leaf.field), dates)


def _phrases(spelling: Spelling, phrases: Iterable[str]) -> list[Any]:
    """Conditions, one per phrase; a phrase without a word is ignored."""
    # One word needs no positions: 35 against 65 ms to exclude it from 100,000 passages.
    texts = filter(None, map(phrase_text, phrases))
    return [
        spelling.phrase(TEXT, text) if " " in text else spelling.word(TEXT, text) for text in texts
    ]


def _key(kind: str, field: str) -> str:
    """A payload key: the engine reads dots and brackets in a key as a path."""
    return f"{kind}_{_plain(field)}"


def _pair(field: str, text: str) -> str:
    return f"{_plain(field)}={_storable(text)}"


def _plain(field: str) -> str:
    return _UNUSUAL.sub(lambda character: f"_{ord(character[0]):x}_", field)


def _group(name: str) -> str:
    return "group:" + _storable(name)


def _storable(text: str) -> str:
    """A lone surrogate cannot be stored; it becomes "?" on both sides."""
    return text.encode("utf-8", "replace").decode("utf-8")
