"""How often which value of a metadata field occurs among the documents of a window.

The window and not everything that matches: counting that would read what nobody is shown. Values
are told apart as a filter does (`as_text`), so that one can be filtered by. `ALL` asks for whatever
tells the window's documents apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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
_LONGEST_VALUE_CHARS = 80
_DAY_CHARS = 8

_Fields: TypeAlias = Mapping[str, MetaValue]
"""What filters see of one document."""


def facets_of(
    catalog: Catalog, fields: Sequence[str], revision_ids: Iterable[int], scope: Scope
) -> tuple[Facet, ...]:
    """Facets of these documents, in the order asked for; each document counts once."""
    if not fields:
        return ()
    heads = catalog.heads(list(dict.fromkeys(revision_ids)), scope).values()
    seen = [entry_fields(head) for head in heads]
    named: dict[str, None] = {}
    for field in fields:
        named |= dict.fromkeys(_telling(seen) if field == ALL else [field])
    return tuple(_facet(field, seen) for field in named)


def _telling(seen: Sequence[_Fields]) -> list[str]:
    """`collection`, `type`, `year`, `language`, and metadata fields, what most documents have
    first: without those whose values are no kinds (long, days of a calendar, or hardly one of them
    twice)."""
    having = Counter(name for fields in seen for name in fields)
    derived = [name for name in DERIVED_FIELDS if having[name]]
    shown = {*BUILT_IN_FIELDS, *DERIVED_FIELDS}
    names = sorted(having.keys() - shown, key=lambda name: (-having[name], name))
    custom = [name for name in names if _is_kind(name, seen)]
    return ["collection", "type", *derived, *custom][:_MOST_FIELDS]


def _is_kind(field: str, seen: Sequence[_Fields]) -> bool:
    texts = [{as_text(value) for value in _values(field, fields)} for fields in seen]
    counts = Counter(text for each in texts for text in each)
    if not counts or max(map(len, counts)) > _LONGEST_VALUE_CHARS or any(map(_is_day, counts)):
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


def _facet(field: str, seen: Sequence[_Fields]) -> Facet:
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
