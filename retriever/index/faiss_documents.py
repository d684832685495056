"""The documents of a segment, and which of them a scope and a filter let through.

Filters are answered by columns: a field's texts, numbers or dates in order, as `core.filters` reads
them, with the documents that have them; a leaf is one or two binary searches. A column is made of
the stored JSON when a filter asks for it, and the least recently asked goes when there are too many
(whoever asks chooses the fields). It knows no passages. Trade-off: columns live in memory as Python
objects, 18 (a few values, numbers) to 80 bytes (a text of its own each) a document.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache, partial
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
    Column = tuple[list[Any], NDArray[np.int32]]
    """A field's values in order, each beside the place of the document that has it."""

_COLUMNS_KEPT = 8
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
        for places in self._holding(tree):
            found[places] = True
        return found

    def _holding(self, leaf: Eq | In | Range | Prefix) -> list[NDArray[np.int32]]:
        """Places of the documents that have a value which the leaf matches."""
        if not isinstance(leaf, Range):
            texts, places = self._column(leaf.field, as_text)
            match leaf:
                case Eq(_, value):
                    return [places[_equal(texts, as_text(value))]]
                case In(_, values):
                    return [places[_equal(texts, text)] for text in set(map(as_text, values))]
                case Prefix(_, prefix):
                    begin = bisect_left(texts, prefix)
                    end = bisect_right(texts, prefix, key=lambda text: text[: len(prefix)])
                    return [places[begin:end]]
        bounds = {"gte": leaf.gte, "gt": leaf.gt, "lte": leaf.lte, "lt": leaf.lt}
        given = {operator: bound for operator, bound in bounds.items() if bound is not None}
        if not given:
            return [self._column(leaf.field, as_text)[1]]
        dates = {op: date_bound(bound, op) for op, bound in given.items() if isinstance(bound, str)}
        if not dates:
            wanted = {op: as_number(bound) for op, bound in given.items()}
            numbers, places = self._column(leaf.field, as_number)
            return [places[_between(numbers, wanted)]]
        if len(dates) < len(given):  # bounds of both kinds match nothing
            return []
        limits = {op: moment and _microseconds(moment) for op, moment in dates.items()}
        moments, places = self._column(leaf.field, _as_moment)
        return [places[_between(moments, limits)]]

    @cached_property
    def _column(self) -> Callable[[str, Callable[[Any], Any]], Column]:
        return lru_cache(_COLUMNS_KEPT)(partial(_column_of, self.fields, self.field_ends))


def _column_of(
    fields: NDArray[np.uint8],
    field_ends: NDArray[np.int64],
    field: str,
    read: Callable[[Any], Any],
) -> Column:
    """The values of a field that `read` makes something of."""
    found: list[tuple[Any, int]] = []
    known: dict[Any, Any] = {}  # equal values are one object
    begin = 0
    for place, end in enumerate(field_ends.tolist()):
        value = json.loads(bytes(fields[begin:end])).get(field, [])
        values = map(read, value if isinstance(value, list) else [value])
        found += [(known.setdefault(one, one), place) for one in values if one is not None]
        begin = end
    found.sort()
    return [value for value, _ in found], np.array([place for _, place in found], np.int32)


def _equal(texts: Sequence[str], text: str) -> slice:
    return slice(bisect_left(texts, text), bisect_right(texts, text))


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


def _as_moment(value: Any) -> int | None:
    moment = as_date(value)
    return None if moment is None else _microseconds(moment)


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)
