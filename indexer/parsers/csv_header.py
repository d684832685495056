"""Whether the first row of a table names its columns; pure.

It may when its cells are filled, different, short, no numbers, and none stands again below. Then
it does if a cell is a usual name ("First name", "court_id"), or if one looks unlike nearly all
below it (words above numbers, small letters above capitals, a length of its own). A row that looks
like the others in every column ("Smith, John" above "Doe, Jane") is taken for one of them: a name
too few costs less than a false one in every row.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence

_MAX_NAME_CHARS = 80
_FEW = 0.2  # of the cells of a column
_TIMES_LONGER = 2  # than all below, or shorter: a length of its own

_NUMBER = re.compile(r"\W*\d[\d\s.,:/%+-]*\W*")
_WORD = re.compile(r"[^\W\d_]+")
_IDENTIFIER = re.compile(r"[^\W\d_]+(?:_[^\W_]+)+|[a-z]+(?:[A-Z][a-z]+)+")
_USUAL = frozenset(
    (
        *("id", "no", "nr", "number", "name", "names", "first", "last", "given", "family", "full"),
        *("surname", "title", "date", "day", "month", "year", "time", "type", "kind", "class"),
        *("status", "city", "town", "state", "zip", "postcode", "country", "region", "address"),
        *("street", "email", "e", "mail", "phone", "fax", "amount", "price", "fee", "cost"),
        *("total", "sum", "value", "rate", "currency", "description", "text", "note", "notes"),
        *("comment", "comments", "remarks", "category", "group", "tags", "code", "party"),
        *("parties", "client", "court", "docket", "case", "judge", "author", "authors", "journal"),
        *("doi", "url", "link", "file", "filename", "path", "question", "answer", "label"),
        *("language", "key", "source", "from", "to", "subject", "company", "role", "position"),
        *("department", "start", "end", "created", "updated"),
        *("plaintiff", "defendant", "appellant", "respondent", "petitioner", "seller", "buyer"),
        *("lender", "borrower", "landlord", "tenant", "lessor", "lessee", "patient", "sample"),
        *("gene", "drug", "species", "method", "result"),
        *("datum", "nummer", "ort", "betrag", "titel", "stadt", "nom", "ville", "fecha"),
    )
)
"""Words of which names of columns are made. A cell counts when it holds no other."""


class Header(enum.Enum):
    """What the first row is. DOUBTFUL: it could name the columns, and looks like a row."""

    NAMES = "names"
    ROW = "row"
    DOUBTFUL = "doubtful"


def header_of(rows: Sequence[Sequence[str]]) -> Header:
    """What the first of a table's first rows is."""
    if len(rows) < 2 or len(rows[0]) < 2:
        return Header.ROW
    names = {at: cell.strip() for at, cell in enumerate(rows[0]) if cell.strip()}
    may_be = (
        2 * len(names) >= len(rows[0])
        and len({name.lower() for name in names.values()}) == len(names)
        and all(len(name) <= _MAX_NAME_CHARS for name in names.values())
        and not any(_NUMBER.fullmatch(name) for name in names.values())
        and not any(name in _column(rows[1:], at) for at, name in names.items())
    )
    if not may_be:
        return Header.ROW
    well_made = [row for row in rows[1:] if len(row) == len(rows[0])] or rows[1:]
    columns = [(name, _column(well_made, at)) for at, name in names.items()]
    if not any(cells for _, cells in columns):
        return Header.NAMES
    is_one = any(_is_usual(name, cells) or _is_unlike(name, cells) for name, cells in columns)
    return Header.NAMES if is_one else Header.DOUBTFUL


def _column(rows: Sequence[Sequence[str]], at: int) -> list[str]:
    """What is filled in of a column."""
    cells = (row[at].strip() for row in rows if at < len(row))
    return [cell for cell in cells if cell]


def _is_usual(name: str, cells: Sequence[str]) -> bool:
    words = _WORD.findall(name.lower())
    if words and _USUAL.issuperset(words):
        return True
    return bool(_IDENTIFIER.fullmatch(name)) and not any(map(_IDENTIFIER.fullmatch, cells))


def _is_unlike(name: str, cells: Sequence[str]) -> bool:
    """Whether a cell looks like few of those below it."""
    if not cells:
        return False
    lengths = [len(cell) for cell in cells]
    looks = [_look(cell) for cell in cells]
    return (
        looks.count(_look(name)) < _FEW * len(looks)
        or _TIMES_LONGER * len(name) < min(lengths)
        or len(name) > _TIMES_LONGER * max(lengths)
    )


def _look(cell: str) -> str:
    if _NUMBER.fullmatch(cell):
        return "number"
    if any(char.isdigit() for char in cell):
        return "digits"
    if _WORD.search(cell) is None:
        return "marks"
    return "small" if cell.islower() else "capitals" if cell.isupper() else "words"
