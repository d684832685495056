"""How often which value of a metadata field occurs among the documents of a window.

The window and not everything that matches: counting that would read what nobody is shown. Values
are told apart as a filter does (`as_text`), so that one can be filtered by.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from longleaf.api.searched import Facet
from longleaf.core.catalog import Catalog, DocumentHead
from longleaf.core.filters import BUILT_IN_FIELDS, as_number, as_text
from longleaf.core.types import Scope
from longleaf.retriever.filters import entry_fields

VALUES_KEPT = 50


def facets_of(
    catalog: Catalog, fields: Sequence[str], revision_ids: Iterable[int], scope: Scope
) -> tuple[Facet, ...]:
    """Facets of these documents, in the order asked for; each document counts once."""
    if not fields:
        return ()
    heads = catalog.heads(list(dict.fromkeys(revision_ids)), scope).values()
    return tuple(_facet(field, list(heads)) for field in fields)


def facet_warnings(
    catalog: Catalog, fields: Sequence[str], collections: Sequence[str]
) -> list[str]:
    """What to say of fields that no document has."""
    known = {*BUILT_IN_FIELDS, *catalog.metadata_fields(collections)} if fields else set()
    return [
        f"facets: no document here has a field {field!r}." for field in fields if field not in known
    ]


def _facet(field: str, heads: Sequence[DocumentHead]) -> Facet:
    counts: Counter[str] = Counter()
    shown: dict[str, str | int | float | bool] = {}
    without_count = 0
    for head in heads:
        values = _values(field, head)
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
        document_count=len(heads),
    )


def _by_value(value: str | int | float | bool) -> float:
    number = as_number(value)
    return 0.0 if number is None else number


def _values(field: str, head: DocumentHead) -> tuple[str | int | float | bool, ...]:
    value = entry_fields(head).get(field)
    if value is None or value == "":
        return ()
    return value if isinstance(value, tuple) else (value,)
