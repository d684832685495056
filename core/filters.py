"""One neutral filter tree, the same for every index.

Leaves name a metadata field, or one of `BUILT_IN_FIELDS` and `DERIVED_FIELDS`. Each index
translates the tree into its own query; `matches` is the slow, obvious meaning that every
translation must equal (the contract tests compare the two). A field without a value matches no
leaf; a field with several values matches when one of them does. `Eq`, `In` and `Prefix` compare
`as_text`, `Range` compares `as_number` or `as_date`: an index stores what these three make of a
value, and so cannot mean anything else.
"""

from __future__ import annotations

import calendar
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from longleaf.core.types import MetaValue

    Scalar: TypeAlias = str | int | float | bool

BUILT_IN_FIELDS = ("collection", "document", "title", "key", "source", "type")
"""Fields that every document has. `document` is the public id, `type` the media type."""

DERIVED_FIELDS = ("year", "language")
"""Fields that a document has where its metadata hold none of that name: the year of its date
(`core.dates`), and the language that its text was found to be in (ISO 639-1)."""


@dataclass(frozen=True, slots=True)
class Eq:
    """The field is `value`, both read by `as_text`: 2020 equals 2020.0 and the string "2020"."""

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
    or "2020-03" means the start of that year or month for `gte`/`lt`, its end for `lte`/`gt`; a
    value such as "2020" is its start. A string bound that is no date matches nothing, nor do bounds
    of both kinds together; without any bound, every field that has a value matches.
    """

    field: str
    gte: float | str | None = None
    gt: float | str | None = None
    lte: float | str | None = None
    lt: float | str | None = None


@dataclass(frozen=True, slots=True)
class Prefix:
    """The field's text (`as_text`) starts with `prefix`, case-sensitive; "" asks for any value."""

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


_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?", re.ASCII)
_LONGEST_DATE_WITHOUT_TIME_CHARS = 10


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
            last_day = calendar.monthrange(year, month)[1]
            return datetime(year, month, last_day, 23, 59, 59, 999999, UTC)
        value = datetime.fromisoformat(text)
        if value.tzinfo is None:
            value = value.replace(tzinfo=UTC)
        value = value.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    if end and len(text) <= _LONGEST_DATE_WITHOUT_TIME_CHARS:
        value = value.replace(hour=23, minute=59, second=59, microsecond=999999)
    return value


def as_text(value: Scalar) -> str:
    """What `Eq`, `In` and `Prefix` compare: 2020.0 reads "2020", True reads "true"."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def as_number(value: Scalar) -> float | None:
    """What a `Range` with numbers compares: a finite number, or a string that spells one."""
    if isinstance(value, bool) or (isinstance(value, str) and not _NUMBER.fullmatch(value)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def as_date(value: Scalar) -> datetime | None:
    """What a `Range` with dates compares: the moment in UTC at which a date string begins."""
    return parse_date(value) if isinstance(value, str) else None


def date_bound(bound: str, operator: str) -> datetime | None:
    """The moment that a date means as a bound ("gte", "gt", "lte", "lt"); None if it is no date."""
    return parse_date(bound, end=operator in ("gt", "lte"))


def matches(filter_: Filter, fields: Mapping[str, MetaValue]) -> bool:
    """Whether a document with these `fields` (metadata and built-in ones) passes: the oracle."""
    match filter_:
        case And(filters):
            return all(matches(part, fields) for part in filters)
        case Or(filters):
            return any(matches(part, fields) for part in filters)
        case Not(negated):
            return not matches(negated, fields)
    stored = fields.get(filter_.field, ())
    values = stored if isinstance(stored, tuple) else (stored,)
    return any(_leaf_matches(filter_, value) for value in values)


def _leaf_matches(leaf: Eq | In | Range | Prefix, value: Scalar) -> bool:
    match leaf:
        case Eq(_, wanted):
            return as_text(value) == as_text(wanted)
        case In(_, choices):
            return as_text(value) in {as_text(choice) for choice in choices}
        case Prefix(_, prefix):
            return as_text(value).startswith(prefix)
        case Range():
            bounds = {"gte": leaf.gte, "gt": leaf.gt, "lte": leaf.lte, "lt": leaf.lt}
            given = {name: bound for name, bound in bounds.items() if bound is not None}
            one_kind = len({isinstance(bound, str) for bound in given.values()}) < 2
            return one_kind and all(
                _inside(value, operator, bound) for operator, bound in given.items()
            )


def _inside(value: Scalar, operator: str, bound: float | str) -> bool:
    left: float | datetime | None
    right: float | datetime | None
    if isinstance(bound, str):
        left, right = as_date(value), date_bound(bound, operator)
    else:
        left, right = as_number(value), as_number(bound)
    if left is None or right is None:
        return False
    order = (left > right) - (left < right)  # type: ignore[operator]
    return {"gte": order >= 0, "gt": order > 0, "lte": order <= 0, "lt": order < 0}[operator]
