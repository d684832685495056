"""The date of a document, as its metadata tell it, and an order by it.

`DATE_FIELDS` says which fields are looked at; the first one that holds a date counts. When a
document was indexed is no date of it. Pure, but for the names of the fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TypeVar

from longleaf.core.filters import as_text, parse_date
from longleaf.core.types import MetaValue

DATE_FIELDS = ("date", "published", "year", "created")
"""Of what parsers and people write: `created` is a file's own word (PDF, DOCX) and comes last."""

T = TypeVar("T")


def date_of(metadata: Mapping[str, MetaValue]) -> str | None:
    """The date as it was written, if it is ISO 8601 or a year: "2020", "2020-03", "2020-03-01"."""
    for name in DATE_FIELDS:
        value = metadata.get(name)
        if value is None or isinstance(value, tuple | bool):
            continue
        text = as_text(value).strip()
        if parse_date(text) is not None:
            return text
    return None


def year_of(metadata: Mapping[str, MetaValue]) -> int | None:
    """The year of that date."""
    text = date_of(metadata)
    found = None if text is None else parse_date(text)
    return None if found is None else found.year


def newest_first(items: Iterable[tuple[T, str | None]]) -> list[T]:
    """Those with a date, the newest first, then those without; equal dates keep their order."""

    def key(item: tuple[T, str | None]) -> tuple[bool, float]:
        found: datetime | None = parse_date(item[1]) if item[1] else None
        return found is None, 0.0 if found is None else -_days(found)

    return [item for item, _ in sorted(items, key=key)]


def _days(moment: datetime) -> float:
    """(`timestamp` fails on some platforms before 1970.)"""
    seconds = moment.hour * 3600 + moment.minute * 60 + moment.second
    return moment.toordinal() + seconds / 86_400.0
