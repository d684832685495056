"""One neutral filter tree, the same for every index.

Leaves name a metadata field, or one of the built-in fields of `BUILT_IN_FIELDS`. Each index
translates the tree into its own query; `matches` is the slow, obvious meaning that every
translation must equal (the contract tests compare the two). A field without a value matches no
leaf; a field with several values matches when one of them does.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

BUILT_IN_FIELDS = ("collection", "document", "title", "key", "source", "type")
"""Fields that every document has. `document` is the public id, `type` the media type."""


@dataclass(frozen=True, slots=True)
class Eq:
    """The field is `value`. Strings compare exactly; 2020 equals 2020.0 and the string "2020"."""

    field: str
    value: str | int | float | bool


@dataclass(frozen=True, slots=True)
class In:
    """The field is one of `values`."""

    field: str
    values: tuple[str | int | float | bool, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """The field lies between the bounds that are not None: numbers, or ISO 8601 dates.

    A bound that is a string is a date; a date without a time zone is UTC. A bound such as "2020"
    or "2020-03" means the start of that year or month for `gte`/`lt`, its end for `lte`/`gt`.
    """

    field: str
    gte: float | str | None = None
    gt: float | str | None = None
    lte: float | str | None = None
    lt: float | str | None = None


@dataclass(frozen=True, slots=True)
class Prefix:
    """The field is a string that starts with `prefix` (case-sensitive)."""

    field: str
    prefix: str


@dataclass(frozen=True, slots=True)
class And:
    """All of them; the empty And is true."""

    filters: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """At least one of them; the empty Or is false."""

    filters: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite."""

    filter: Filter


Filter: TypeAlias = Eq | In | Range | Prefix | And | Or | Not


def parse_date(text: str, *, end: bool = False) -> datetime | None:
    """An ISO 8601 date, date-time, "2020" or "2020-03" as an aware datetime; None if it is none.

    `end` asks for the last microsecond of a year, month or day that was given without a time.
    """
    text = text.strip()
    parts = text.split("-")
    try:
        if len(parts) == 1 and len(text) == 4 and text.isascii() and text.isdigit():
            year = int(text)
            return (
                datetime(year, 12, 31, 23, 59, 59, 999999, UTC)
                if end
                else datetime(year, 1, 1, tzinfo=UTC)
            )
        if len(parts) == 2 and len(text) == 7:
            year, month = int(parts[0]), int(parts[1])
            if not end:
                return datetime(year, month, 1, tzinfo=UTC)
            following = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
            return datetime.fromtimestamp(following.timestamp() - 1e-6, UTC)
        value = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        return None
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    if end and len(text) == 10:
        value = value.replace(hour=23, minute=59, second=59, microsecond=999999)
    return value
