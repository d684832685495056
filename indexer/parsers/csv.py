"""CSV and TSV: each row as words, "Party: Acme; Fee: 10 EUR", so that a passage says what its
numbers mean.

The delimiter is the one of tab ; | , that parts the first rows most evenly; quotes are double ones,
doubled inside a field. `csv_header` tells whether the first row names the columns; where it does
not, and in a table of one column, the cells stand alone. Each row is a
paragraph: one line, or a line for each cell where there is much to read. Cells without a letter or
digit are left out. Names of columns are repeated in each row, which makes the text longer than the
file: both are bounded. Knows no types, no other quotes and no tables with two header rows.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain, islice

from longleaf.core.errors import Rejected, RejectReason
from longleaf.core.protocols import NO_CONTEXT, ParseContext
from longleaf.core.types import Document, Rejection
from longleaf.indexer.parsers.csv_header import Header, header_of
from longleaf.indexer.parsers.decode import clean, decode
from longleaf.indexer.parsers.sections import shorten
from longleaf.indexer.parsers.text import refuse_blank

MAX_FIELD_CHARS = 4 * 1024 * 1024
MAX_TEXT_CHARS = 256 * 1024 * 1024
_MAX_ROW_LINES = 2_000
"""A row over more lines than this has a quote that nobody closed."""
_MAX_NAME_CHARS = 80  # shown in a warning
_LONG_ROW_CHARS = 500
_SHOWN_NAMES = 5

_DELIMITERS = "\t;|,"
_SNIFFED_CHARS = 100_000
_SNIFFED_ROWS = 50
_EXCEL_HINT = re.compile(r"sep=([\t;|,:^~])\n", re.IGNORECASE)

_ALNUM = re.compile(r"[^\W_]")
_SPACES = re.compile(r"[^\S\n]+")
_BLANK_LINES = re.compile(r"\s*\n\s*")

_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")


class CsvParser:
    """A `core.protocols.Parser` for tables in text."""

    media_type = "text/csv"
    suffixes: tuple[str, ...] = (".csv", ".tsv")

    def parse(
        self, data: bytes, name: str, context: ParseContext = NO_CONTEXT
    ) -> Iterator[Document | Rejection]:
        """One document. Raises `Rejected`: EMPTY, MALFORMED (binary data), EXPANDS, TOO_LARGE."""
        name = clean(name).text
        if not data.startswith(_WIDE_MARKS) and 0 < data.count(b"\0") < len(data) // 8:
            raise Rejected(RejectReason.MALFORMED, f"{name} holds NUL bytes, not a table in text.")
        decoded = decode(data, name)
        refuse_blank(decoded.text, name)
        table = _Table(decoded.text, name)
        text = table.read()
        if not text:
            raise Rejected(RejectReason.EMPTY, f"{name} holds no words and no numbers.")
        yield Document(
            text=text,
            title=shorten(name),
            warnings=(*decoded.warnings, *table.warnings),
        )


class _Table:
    """Reads one table."""

    def __init__(self, text: str, name: str) -> None:
        self.warnings: list[str] = []
        self._name = name
        hint = _EXCEL_HINT.match(text)
        self._text = text
        self._start_char = 0 if hint is None else hint.end()
        self._delimiter = _sniff(text) if hint is None else hint[1]
        self._open_quote_line = 0
        self._ragged = 0
        self._first_ragged = 0
        self._names: Sequence[str] = ()
        self._filled: set[int] = set()

    def read(self) -> str:
        """The table's rows as paragraphs; "" if nothing is in them."""
        numbered = self._rows()
        first = list(islice(numbered, _SNIFFED_ROWS))
        header = header_of([row for _, row in first])
        if header is Header.NAMES:
            self._names = [_name(cell) for cell in first.pop(0)[1]]
        elif header is Header.DOUBTFUL:
            shown = shorten(", ".join(filter(None, map(_name, first[0][1]))), _MAX_NAME_CHARS)
            self.warnings.append(
                "its first row was not taken for names of columns, "
                f"as it looks like those below: {shown}"
            )
        paragraphs: list[str] = []
        chars = 0
        width = len(self._names) or max((len(row) for _, row in first), default=0)
        for number, row in chain(first, numbered):
            if len(row) != width:
                self._ragged += 1
                self._first_ragged = self._first_ragged or number
            paragraph = self._words(row)
            if not paragraph:
                continue
            paragraphs.append(paragraph)
            chars += len(paragraph) + 2
            if chars > MAX_TEXT_CHARS:
                raise Rejected(
                    RejectReason.EXPANDS,
                    f"{self._name} makes more than {MAX_TEXT_CHARS:,} characters of text.",
                    "Split it into several files.",
                )
        self._warn(width)
        return "\n\n".join(paragraphs)

    def _warn(self, width: int) -> None:
        if self._open_quote_line:
            self.warnings.append(
                f"line {self._open_quote_line:,}: a quote is never closed: "
                "from there on quotes are read as they are"
            )
        silent = [name for at, name in enumerate(self._names) if name and at not in self._filled]
        if silent:
            shown = ", ".join(silent[:_SHOWN_NAMES])
            self.warnings.append(f"columns without any value: {len(silent):,} ({shown})")
        if self._ragged:
            self.warnings.append(
                f"rows that have more or fewer cells than {width:,}: {self._ragged:,} "
                f"(the first on line {self._first_ragged:,})"
            )

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """(number of its last line, cells) of each row that is not blank."""
        csv.field_size_limit(MAX_FIELD_CHARS)
        lines = _Lines(self._text, self._start_char)
        quoted = csv.reader(lines, delimiter=self._delimiter)
        while True:
            at, line = lines.begin_row()
            try:
                row = next(quoted, None)
            except csv.Error:
                break  # a field over the limit: taken line by line below
            if lines.cut_short:
                break
            if row is None:
                return
            if row:
                yield lines.number, row
        self._open_quote_line = line + 1
        yield from self._unquoted(at, line)

    def _unquoted(self, start_char: int, lines_before: int) -> Iterator[tuple[int, list[str]]]:
        source = io.StringIO(self._text[start_char:])
        for number, line in enumerate(source, lines_before + 1):
            if len(line) > MAX_FIELD_CHARS:
                raise Rejected(
                    RejectReason.TOO_LARGE,
                    f"{self._name} has a line of more than {MAX_FIELD_CHARS:,} characters.",
                )
            if not line.isspace():
                yield number, line.rstrip("\n").split(self._delimiter)

    def _words(self, row: Sequence[str]) -> str:
        cells = []
        is_long = False
        for at, raw in enumerate(row):
            if _ALNUM.search(raw) is None:
                continue
            cell = _BLANK_LINES.sub("\n", _SPACES.sub(" ", raw)).strip()
            is_long = is_long or "\n" in cell
            self._filled.add(at)
            label = self._names[at] if at < len(self._names) else ""
            cells.append(f"{label}: {cell}" if label else cell)
        is_long = is_long or sum(map(len, cells)) > _LONG_ROW_CHARS
        return ("\n" if is_long else "; ").join(cells)


class _Lines:
    """Lines of a text, with how far they have been read; a row that never ends is cut short."""

    def __init__(self, text: str, start_char: int) -> None:
        self.number = text.count("\n", 0, start_char)
        self.cut_short = False
        self._chars = start_char
        self._in_row = 0
        self._source = io.StringIO(text)
        self._source.seek(start_char)

    def begin_row(self) -> tuple[int, int]:
        """(characters, lines) read so far; the next line begins a row."""
        self._in_row = 0
        return self._chars, self.number

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._in_row >= _MAX_ROW_LINES:
            self.cut_short = True
            raise StopIteration
        line = next(self._source)
        self._in_row += 1
        self.number += 1
        self._chars += len(line)
        return line


def _sniff(text: str) -> str:
    """The delimiter that parts the first rows, the header's included, into equally many cells."""
    whole_lines = text[: text.find("\n", _SNIFFED_CHARS) + 1 or len(text)]
    best, best_fit = ",", (False, 0.0)
    for delimiter in _DELIMITERS:
        widths = list(islice(_widths(whole_lines, delimiter), _SNIFFED_ROWS))
        if not widths:
            continue
        width, rows = Counter(widths).most_common(1)[0]
        fit = (widths[0] == width, round(rows / len(widths), 1))
        if width > 1 and fit > best_fit:
            best, best_fit = delimiter, fit
    return best


def _widths(text: str, delimiter: str) -> Iterator[int]:
    csv.field_size_limit(MAX_FIELD_CHARS)
    try:
        for row in csv.reader(io.StringIO(text), delimiter=delimiter):
            if row:
                yield len(row)
    except csv.Error:
        return


def _name(cell: str) -> str:
    return " ".join(cell.split()).rstrip(":")
