"""Which lines at the foot of a page are footnotes; pure.

A footnote stands below the text in smaller type and begins with a number or symbol that the text
above refers to, or that follows the number of the last note. What follows it to the foot belongs to
it. Lines in small type without a mark continue the previous page's note if that one broke off in
the middle of a sentence. Everything else stays where it is: a missed footnote interrupts a sentence
at a page break, an invented one moves text away from its place.

What this does not see: notes in the body's own size, and notes at the end of a chapter (which need
no moving).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from longleaf.indexer.parsers.pdf_columns import Part
from longleaf.indexer.parsers.pdf_lines import Line
from longleaf.indexer.parsers.pdf_page import SourcePage

_SMALLER = 0.93  # of the body's type
_RAISED = 0.85  # of its line's type
_MOST_NOTES = 40  # more in a row are a list
_GAP = 1.3  # of the usual distance between lines

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")
_MARK = re.compile(
    r"(\d{1,3}|[⁰¹²³⁴-⁹]{1,3}|[*†‡§¶]{1,3})(?=[.):]?\s*[^\W\d_]|[.):]?\s*[“\"‘'(\[§])"
)
_SYMBOLS = "*†‡§¶"
_SIGN = re.compile("[*†‡⁰¹²³⁴-⁹]")
_RULE = re.compile(r"[-–—―_=\s]{3,}")
_PAGE_NUMBER = re.compile(r"(?:page\s*)?[-–—\s]*(?:\d{1,5}|[ivxlc]{1,6})[-–—\s]*", re.I)
_ENDS_A_NOTE = re.compile(r"[.!?][\"'”’)\]]*$")
_HEADS_A_LIST = re.compile(r"references?|bibliography|notes|works cited|literature cited", re.I)


class Footnotes(NamedTuple):
    """Which parts of a page are footnotes, by their place among them; the marks that they begin
    with; and the lines of dashes that part them from the text."""

    parts: frozenset[int]
    marks: frozenset[str]
    rules: tuple[Line, ...]


@dataclass(slots=True)
class FootnoteFinder:
    """Reads pages in order; remembers the last note's number and whether it broke off."""

    body_height: float
    _last_number: int = 0
    _broke_off: bool = False

    def notes(
        self, page: SourcePage, parts: Sequence[Part], headers: frozenset[int] = frozenset()
    ) -> Footnotes:
        """The footnotes among the page's `parts`; lines that begin at `headers` are none."""
        found: set[int] = set()
        marks: set[str] = set()
        broke_off, self._broke_off = self._broke_off, False
        for column in sorted({part.column for part in parts if part.column >= 0}):
            foot = self._foot(page, parts, column, headers)
            if not foot:
                continue
            begin, seen = self._first_note(page, parts, foot)
            if broke_off:
                above = foot if begin is None else foot[:begin]
                found.update(_behind_the_gap(parts, above))
            if begin is not None:
                found.update(foot[begin:])
                found.update(
                    at for at in foot[max(begin - 1, 0) : begin] if _is_rule(page, parts[at].line)
                )
                marks |= seen
        rules = [at for at in found if _is_rule(page, parts[at].line)]
        found.difference_update(rules)
        if found:
            last = parts[max(found, key=lambda at: (parts[at].column, parts[at].line.top))].line
            words = page.characters[last.start : last.end].rstrip()
            self._broke_off = _ENDS_A_NOTE.search(words) is None
        lines = tuple(parts[at].line for at in rules)
        return Footnotes(frozenset(found), frozenset(marks), lines)

    def _foot(
        self, page: SourcePage, parts: Sequence[Part], column: int, headers: frozenset[int]
    ) -> list[int]:
        """The small lines below the last line of body type in a column, downwards."""
        inside = [
            at
            for at, part in enumerate(parts)
            if part.column in (column, -1)
            and part.line.start not in headers
            and not _is_page_number(page, part.line)
        ]
        inside.sort(key=lambda at: parts[at].line.top)
        small = self.body_height * _SMALLER
        first = len(inside)
        while first and 0 < parts[inside[first - 1]].line.height <= small:
            first -= 1
        if first == 0:  # small from top to foot: an appendix or a bibliography
            return []
        above = page.characters[slice(*_span(parts[inside[first - 1]].line))]
        if len(above.split()) < 4 and _HEADS_A_LIST.search(above) is not None:
            return []
        return [at for at in inside[first:] if parts[at].column == column]

    def _first_note(
        self, page: SourcePage, parts: Sequence[Part], foot: Sequence[int]
    ) -> tuple[int | None, set[str]]:
        """Where in `foot` the first note begins, and the marks of all that begin there."""
        referred = _references(page, parts, foot)
        begin: int | None = None
        marks: set[str] = set()
        number = self._last_number
        for place, at in enumerate(foot):
            mark = _mark(page, parts[at].line)
            if mark is None:
                continue
            follows = mark.isdecimal() and int(mark) == number + 1 and number > 0
            if mark not in referred and not follows:
                continue
            if mark in marks:  # a list, or a comment of a program
                return None, set()
            begin = place if begin is None else begin
            marks.add(mark)
            if mark.isdecimal():
                number = int(mark)
        if begin is None or len(marks) > _MOST_NOTES:
            return None, set()
        self._last_number = number
        return begin, marks


def _is_rule(page: SourcePage, line: Line) -> bool:
    return _RULE.fullmatch(page.characters, line.start, line.end) is not None


def _is_page_number(page: SourcePage, line: Line) -> bool:
    return _PAGE_NUMBER.fullmatch(page.characters, line.start, line.end) is not None


def _span(line: Line) -> tuple[int, int]:
    return line.start, line.end


def _mark(page: SourcePage, line: Line) -> str | None:
    match = _MARK.match(page.characters, line.start, line.end)
    return None if match is None else match.group(1).translate(_SUPERSCRIPTS)


def _references(page: SourcePage, parts: Sequence[Part], foot: Sequence[int]) -> frozenset[str]:
    """Marks that the text above refers to: raised numbers, and symbols."""
    notes = set(foot)
    return frozenset(text for at, _, text in raised_marks(page, parts) if at not in notes)


def raised_marks(page: SourcePage, parts: Sequence[Part]) -> list[tuple[int, int, str]]:
    """Numbers and symbols set small: (which of the parts, place in the characters, mark)."""
    lines = [part.line for part in parts]
    lengths = page.spans[:, 1] - page.spans[:, 0]
    heights = np.zeros(len(lengths), np.float32)
    part_of_run = np.full(len(lengths), -1)
    for at, line in enumerate(lines):
        heights[line.first_run : line.end_run] = line.height
        part_of_run[line.first_run : line.end_run] = at
    is_small = (page.heights > 0) & (page.heights <= _RAISED * heights)
    starts = page.spans[:, 0]
    signs = [match.start() for match in _SIGN.finditer(page.characters)]
    is_sign = np.isin(starts, signs) if signs else np.zeros(len(starts), bool)
    found: list[tuple[int, int, str]] = []
    for run in np.flatnonzero((lengths <= 3) & (is_small | is_sign) & (part_of_run >= 0)).tolist():
        start, end = page.spans[run].tolist()
        text = page.characters[start:end].translate(_SUPERSCRIPTS)
        if text.isdecimal() or not set(text) - set(_SYMBOLS):
            found.append((int(part_of_run[run]), start, text))
    return found


def _behind_the_gap(parts: Sequence[Part], foot: Sequence[int]) -> Sequence[int]:
    """The lines of `foot` below its widest gap, if one is wider than between its other lines."""
    gaps = [parts[below].line.top - parts[above].line.top for above, below in pairwise(foot)]
    if not gaps or max(gaps) <= _GAP * sorted(gaps)[len(gaps) // 2]:
        return foot
    return foot[gaps.index(max(gaps)) + 1 :]
