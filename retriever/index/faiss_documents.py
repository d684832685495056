"""The documents of a segment, and which of them a scope and a filter let through.

Filters are answered by columns: for each field the distinct texts, numbers and dates in order, as
`core.filters` reads them, with the documents that have them; a leaf is one or two binary searches.
A field's column is made of the stored JSON when the first filter on it comes. It knows no passages.
Trade-off: columns live in memory as Python objects (4,587 documents, 6 fields: 4.4 MB).
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

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

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]

_COLUMNS_KEPT = 64
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, eq=False)
class Documents:
    """`ids`, `revisions` (n_documents,) int64; `labels` names what `labelled` (n_documents,) int32
    points at: [collection, groups] of each; `fields` (n_bytes,) uint8 holds the JSON of what
    filters see of each, `field_ends` (n_documents,) int64 where each ends."""

    ids: NDArray[np.int64]
    revisions: NDArray[np.int64]
    labels: list[Any]
    labelled: NDArray[np.int32]
    fields: NDArray[np.uint8]
    field_ends: NDArray[np.int64]

    @classmethod
    def of(cls, entries: Sequence[IndexEntry]) -> Documents:
        """The documents in this order."""
        labels: dict[str, int] = {}
        labelled = [
            labels.setdefault(json.dumps([entry.collection, entry.groups]), len(labels))
            for entry in entries
        ]
        written = [json.dumps(entry_fields(entry)).encode("ascii") for entry in entries]
        return cls(
            np.array([entry.document_id for entry in entries], np.int64),
            np.array([entry.revision_id for entry in entries], np.int64),
            [json.loads(label) for label in labels],
            np.array(labelled, np.int32),
            np.frombuffer(b"".join(written), np.uint8),
            np.cumsum([len(one) for one in written], dtype=np.int64),
        )

    @classmethod
    def merged(cls, parts: Sequence[Documents], kept: Sequence[NDArray[np.int64]]) -> Documents:
        """One for all: of parts[i] the documents kept[i], one after the other."""
        labels: dict[str, int] = {}
        labelled, fields, lengths = [], [], []
        for part, places in zip(parts, kept, strict=True):
            known = [labels.setdefault(json.dumps(each), len(labels)) for each in part.labels]
            labelled.append(np.array(known, np.int32)[part.labelled[places]])
            fields += [part.field_bytes(place) for place in places.tolist()]
            lengths.append(np.diff(part.field_ends, prepend=0)[places])
        return cls(
            np.concatenate([part.ids[k] for part, k in zip(parts, kept, strict=True)]),
            np.concatenate([part.revisions[k] for part, k in zip(parts, kept, strict=True)]),
            [json.loads(label) for label in labels],
            np.concatenate(labelled),
            np.concatenate([*fields, np.empty(0, np.uint8)]),
            np.cumsum(np.concatenate(lengths), dtype=np.int64),
        )

    def __len__(self) -> int:
        return len(self.ids)

    def field_bytes(self, place: int) -> NDArray[np.uint8]:
        """The JSON of one document's fields, as it is stored."""
        return self.fields[self.field_ends[place - 1] if place else 0 : self.field_ends[place]]

    @cached_property
    def _by_id(self) -> NDArray[np.int64]:
        return np.argsort(self.ids, kind="stable")

    def places(self, document_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where each of these stands; -1 for one that is not here."""
        if not len(self):
            return np.full(len(document_ids), -1, np.int64)
        order = self._by_id
        at = np.searchsorted(self.ids, document_ids, sorter=order).clip(max=len(self) - 1)
        places = order[at]
        return np.where(self.ids[places] == document_ids, places, -1)

    def in_collections(self, collections: Iterable[str]) -> Mask:
        """The documents of these collections."""
        wanted = set(collections)
        return self._with_label([label[0] in wanted for label in self.labels])

    def in_scope(self, index_filter: IndexFilter) -> Mask:
        """The documents that collections, groups and `where` let through."""
        wanted = set(index_filter.collections)
        groups = None if index_filter.groups is None else set(index_filter.groups)
        allowed = self._with_label(
            [
                collection in wanted
                and (groups is None or not given or not groups.isdisjoint(given))
                for collection, given in self.labels
            ]
        )
        if index_filter.where is None or not allowed.any():
            return allowed
        return allowed & self._passing(index_filter.where)

    def _with_label(self, good: list[bool]) -> Mask:
        chosen: Mask = np.array(good, np.bool_)[self.labelled]
        return chosen

    def _passing(self, tree: Filter) -> Mask:
        """The documents that `core.filters.matches` says yes to."""
        match tree:
            case And(filters):
                every = np.ones(len(self), np.bool_)
                for part in filters:
                    every &= self._passing(part)
                return every
            case Or(filters):
                some = np.zeros(len(self), np.bool_)
                for part in filters:
                    some |= self._passing(part)
                return some
            case Not(negated):
                return ~self._passing(negated)
        found = np.zeros(len(self), np.bool_)
        for places in self._column(tree.field).holding(tree):
            found[places] = True
        return found

    @cached_property
    def _columns(self) -> dict[str, _Column]:
        return {}

    def _column(self, field: str) -> _Column:
        column = self._columns.get(field)
        if column is None:
            found = []
            for place in range(len(self)):
                value = json.loads(bytes(self.field_bytes(place))).get(field, ())
                values = value if isinstance(value, list | tuple) else [value]
                found += [(item, place) for item in values]
            column = _Column(found)
            if len(self._columns) >= _COLUMNS_KEPT:  # whoever asks chooses the names
                self._columns.clear()
            self._columns[field] = column
        return column


class _Column:
    """A field's values in order, as texts and, once a range asks, as numbers and dates, each beside
    the place of the document that has it."""

    def __init__(self, values: list[tuple[str | int | float | bool, int]]) -> None:
        self._values = values
        self._texts, self._with_text = _ordered([(as_text(value), p) for value, p in values])

    def holding(self, leaf: Eq | In | Range | Prefix) -> list[NDArray[np.int64]]:
        """Places of the documents that have a value which the leaf matches."""
        match leaf:
            case Eq(_, value):
                return [self._equal(as_text(value))]
            case In(_, values):
                return [self._equal(text) for text in {as_text(value) for value in values}]
            case Prefix(_, prefix):
                begin = bisect_left(self._texts, prefix)
                end = bisect_right(self._texts, prefix, key=lambda text: text[: len(prefix)])
                return [self._with_text[begin:end]]
        bounds = {"gte": leaf.gte, "gt": leaf.gt, "lte": leaf.lte, "lt": leaf.lt}
        given = {operator: bound for operator, bound in bounds.items() if bound is not None}
        if not given:
            return [self._with_text]
        dates = {op: date_bound(bound, op) for op, bound in given.items() if isinstance(bound, str)}
        if not dates:
            wanted = {op: as_number(bound) for op, bound in given.items()}
            numbers, places = self._numbers
            return [places[_between(numbers, wanted)]]
        if len(dates) < len(given):  # bounds of both kinds match nothing
            return []
        limits = {op: moment and _microseconds(moment) for op, moment in dates.items()}
        moments, places = self._dates
        return [places[_between(moments, limits)]]

    def _equal(self, text: str) -> NDArray[np.int64]:
        return self._with_text[bisect_left(self._texts, text) : bisect_right(self._texts, text)]

    @cached_property
    def _numbers(self) -> tuple[list[float], NDArray[np.int64]]:
        read = ((as_number(value), place) for value, place in self._values)
        return _ordered([(number, place) for number, place in read if number is not None])

    @cached_property
    def _dates(self) -> tuple[list[int], NDArray[np.int64]]:
        read = ((as_date(value), place) for value, place in self._values)
        return _ordered([(_microseconds(moment), place) for moment, place in read if moment])


def _ordered(pairs: list[tuple[Any, int]]) -> tuple[list[Any], NDArray[np.int64]]:
    pairs.sort()
    return [value for value, _ in pairs], np.array([place for _, place in pairs], np.int64)


def _between(values: Sequence[Any], bounds: dict[str, Any]) -> slice:
    """Where the values stand that are inside all bounds; nothing is inside one that is None."""
    begin, end = 0, len(values)
    for operator, bound in bounds.items():
        if bound is None:
            return slice(0, 0)
        match operator:
            case "gte":
                begin = max(begin, bisect_left(values, bound))
            case "gt":
                begin = max(begin, bisect_right(values, bound))
            case "lte":
                end = min(end, bisect_right(values, bound))
            case "lt":
                end = min(end, bisect_left(values, bound))
    return slice(begin, max(begin, end))


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)
