"""`metadata.csv`: a table that describes the files beside it, one a row; pure.

The first row names the fields, the first column holds file names relative to the table's folder. A
table whose first column is called neither "file" nor anything like it describes nothing, and is a
document like any other. Cells are text; empty ones say nothing. What is wrong with a row is said to
the file it names; what is wrong with the table, to every file.
"""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field

from longleaf.core.errors import Rejected
from longleaf.indexer.parsers.decode import decode

NAME = "metadata.csv"
MAX_BYTES = 32 * 1024 * 1024
_MAX_ROWS = 500_000
_MAX_FIELDS = 200
_FILE_COLUMNS = frozenset(("file", "filename", "file_name", "file name", "path", "document"))
_DELIMITERS = ",;\t|"


@dataclass(frozen=True, slots=True)
class Row:
    """What a table says of one file."""

    fields: Mapping[str, str]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """Rows by file name ("sub/a.pdf"), and what every file should know."""

    rows: Mapping[str, Row] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


NO_TABLE = Table()


def describes_files(data: bytes) -> bool:
    """Whether a table's first column is said to hold file names."""
    try:
        head = decode(data[:65_536], NAME).text.partition("\n")[0]
    except Rejected:
        return False
    cells = _split(head, _delimiter(head))
    return len(cells) > 1 and cells[0].strip().lower() in _FILE_COLUMNS


def read_table(data: bytes) -> Table:
    """A table that `describes_files`."""
    try:
        text = decode(data, NAME).text
    except Rejected as failure:
        return Table({}, (f"{NAME} was not used: {failure.message}",))
    delimiter = _delimiter(text.partition("\n")[0])
    reader = csv.reader(io.StringIO(text), delimiter=delimiter)
    rows: dict[str, Row] = {}
    warnings: list[str] = []
    try:
        _, *names = (cell.strip() for cell in next(reader))
        if len(names) > _MAX_FIELDS:
            warnings.append(f"{NAME}: only its first {_MAX_FIELDS} fields were read")
            names = names[:_MAX_FIELDS]
        for number, cells in enumerate(reader, 2):
            if number > _MAX_ROWS:
                warnings.append(f"{NAME}: only its first {_MAX_ROWS:,} rows were read")
                break
            if cells and cells[0].strip():
                _add(rows, cells, names, number)
    except csv.Error as failure:
        warnings.append(f"{NAME} was read to line {reader.line_num} only: {failure}")
    return Table(rows, tuple(warnings))


def _add(rows: dict[str, Row], cells: list[str], names: list[str], number: int) -> None:
    file, *values = cells
    notes = []
    if len(values) > len(names):
        notes.append(
            f"{NAME}, row {number}: more cells than there are fields; the last were left out"
        )
    fields = {
        name: value.strip()
        for name, value in zip(names, values, strict=False)
        if name and value.strip()
    }
    key = file_key(file)
    if key in rows:
        notes.append(f"{NAME} names this file again in row {number}: that row counts")
    rows[key] = Row(fields, tuple(notes))


def file_key(file: str) -> str:
    """A file name as tables are searched by: "/" between folders, one form of each letter."""
    parts = file.strip().replace("\\", "/").split("/")
    return unicodedata.normalize("NFC", "/".join(part for part in parts if part not in ("", ".")))


def _delimiter(head: str) -> str:
    return max(_DELIMITERS, key=head.count)


def _split(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return []
