"""How often which value of a metadata field occurs among the documents of a window.

The window and not everything that matches: counting that would read what nobody is shown. A field
that is filtered by is counted in the window that there would be without its own filter as well
(disjunctive.py), so that its other values are there to be chosen. Values are told apart as a filter
does (`as_text`), so that one can be filtered by. `ALL` asks for whatever tells the window's
documents apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from typing import TypeAlias

from longleaf.api.searched import Facet
from longleaf.core.catalog import Catalog
from longleaf.core.filters import (
    BUILT_IN_FIELDS,
    DERIVED_FIELDS,
    as_number,
    as_text,
    parse_date,
)
from longleaf.core.types import MetaValue, Scope
from longleaf.retriever.filters import entry_fields

VALUES_KEPT = 50
ALL = "*"
_MOST_FIELDS = 20
_FEW_VALUES = 12
_MOST_DIFFERENT = 0.75
"""Values in all for each time that one occurs: with more, they are names and no kinds."""
_LONGEST_VALUE_CHARS = 80
_DAY_CHARS = 8
_NAMES = {"document", "title", "key", "source"}
"""Built-in fields that tell one document from all others."""

_Fields: TypeAlias = Mapping[str, MetaValue]
"""What filters see of one document."""


def is_counted(field: str, fields: Sequence[str]) -> bool:
    """Whether `fields`, as asked for, count the values of `field`, that is filtered by."""
    return field in fields or (ALL in fields and field not in _NAMES)


def facets_of(
    catalog: Catalog,
    fields: Sequence[str],
    revision_ids: Iterable[int],
    scope: Scope,
    wider: Mapping[str, Sequence[int]] | None = None,
) -> tuple[Facet, ...]:
    """Facets of these documents, in the order asked for; each document counts once.

    `wider`: field -> revisions of the window without that field's own filter; it is counted in
    these and the others together, so that a chosen value counts no less than is found with it.
    """
    if not fields:
        return ()
    wider = wider or {}
    window = list(dict.fromkeys(revision_ids))
    heads = catalog.heads(list(dict.fromkeys([*window, *chain(*wider.values())])), scope)

    def seen_of(revisions: Iterable[int]) -> list[_Fields]:
        found = [heads[each] for each in revisions if each in heads]
        return [entry_fields(each) for each in {each.document_id: each for each in found}.values()]

    seen = seen_of(window)
    named: dict[str, None] = {}
    for field in fields:
        named |= dict.fromkeys(_telling(seen, wider.keys()) if field == ALL else [field])
    return tuple(
        _facet(field, seen_of([*wider[field], *window]), without_own_filter=True)
        if field in wider
        else _facet(field, seen)
        for field in named
    )


def _telling(seen: Sequence[_Fields], chosen: Collection[str]) -> list[str]:
    """`collection`, `type`, `year`, `language`, and metadata fields, what most documents have
    first: without those whose values are no kinds (long, days of a calendar, or nearly each of them
    another), unless something of them was `chosen`."""
    having = Counter(name for fields in seen for name in fields)
    derived = [name for name in DERIVED_FIELDS if having[name] or name in chosen]
    shown = {*BUILT_IN_FIELDS, *DERIVED_FIELDS}
    names = sorted({*having, *chosen} - shown, key=lambda name: (-having[name], name))
    custom = [name for name in names if name in chosen or _is_kind(name, seen)]
    return ["collection", "type", *derived, *custom][:_MOST_FIELDS]


def _is_kind(field: str, seen: Sequence[_Fields]) -> bool:
    texts = [{as_text(value) for value in _values(field, fields)} for fields in seen]
    counts = Counter(text for each in texts for text in each)
    if not counts or max(map(len, counts)) > _LONGEST_VALUE_CHARS or any(map(_is_day, counts)):
        return False
    if len(counts) > _MOST_DIFFERENT * counts.total():
        return False
    return len(counts) <= max(_FEW_VALUES, sum(map(bool, texts)) // 2)


def facet_warnings(
    catalog: Catalog, fields: Sequence[str], collections: Sequence[str]
) -> list[str]:
    """What to say of fields that no document has."""
    if not fields:
        return []
    known = {ALL, *BUILT_IN_FIELDS, *DERIVED_FIELDS, *catalog.metadata_fields(collections)}
    return [
        f"facets: no document here has a field {field!r}." for field in fields if field not in known
    ]


def _facet(field: str, seen: Sequence[_Fields], *, without_own_filter: bool = False) -> Facet:
    counts: Counter[str] = Counter()
    shown: dict[str, str | int | float | bool] = {}
    without_count = 0
    for fields in seen:
        values = _values(field, fields)
        texts = {as_text(value): value for value in values}
        without_count += not texts
        counts.update(texts.keys())
        for text, value in texts.items():
            shown.setdefault(text, value)
    order = sorted(counts, key=lambda text: (-counts[text], _by_value(shown[text]), text))
    return Facet(
        field=field,
        values=tuple((shown[text], counts[text]) for text in order[:VALUES_KEPT]),
        more_values=max(0, len(order) - VALUES_KEPT),
        without_count=without_count,
        document_count=len(seen),
        without_own_filter=without_own_filter,
    )


def _is_day(text: str) -> bool:
    return len(text) >= _DAY_CHARS and parse_date(text) is not None


def _by_value(value: str | int | float | bool) -> float:
    number = as_number(value)
    return 0.0 if number is None else number


def _values(field: str, fields: _Fields) -> tuple[str | int | float | bool, ...]:
    value = fields.get(field)
    if value is None or value == "":
        return ()
    return value if isinstance(value, tuple) else (value,)
