"""Where a text has a table of contents or a bibliography; pure.

A table of contents is a stretch of lines that end in a page number behind leaders ("Facts .... 3"),
or behind a wide gap if a heading says what it is; a table of authorities has the same form. A
bibliography has a heading, and most of its entries a year or a number in front. Both are marked,
not removed: a wrong mark makes a passage harder to find, so each rule asks for heading and form.
"""

from __future__ import annotations

import enum
import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from longleaf.core.types import Region, Role, Section

_LINE = re.compile(r"[^\n]+")
_LOOKED_AT_CHARS = 200  # at either end of a line
_HEADING_CHARS = 60
_LEADERS = re.compile(
    r"(?:\.[ \t]?){4,}[ \t]*(?:\d{1,4}|[ivxlc]{1,7})(?:,[ \d,]*)?$|(?:\.[ ]?){6,}$"
)
_GAP_AND_NUMBER = re.compile(r"\t(?:\d{1,4}|[ivxlc]{1,7})$")
_CONTENTS_HEADING = re.compile(
    r"(?:table\s+of\s+)?(?:contents|authorities|cases)|index(?:\s+of\s+authorities)?", re.I
)
_CONTENTS_LINES = 4  # with a page number, at least
_LINES_BETWEEN = 6  # wrapped lines and headings inside a table of contents
_HEADING_LINES = 4  # between the heading and the first entry

_REFERENCES_HEADING = re.compile(
    r"(?:[\dIVX]+\.?\s+)?(?:references?(?:\s+cited)?|bibliography|works\s+cited|literature(?:\s+cited)?)"
    r":?",
    re.I,
)
_YEAR = re.compile(r"\b(?:1[89]|20)\d\d[a-z]?\b")
_ENTRY = re.compile(r"\[\d{1,4}\]|\d{1,4}\.\s")
_MOST_BIBLIOGRAPHIES = 100  # one for each paper of a volume; each costs a look at what follows
_ENTRIES = 3
_ENTRY_SHARE = 0.2  # of the lines


class _Is(enum.IntEnum):
    """What a line looks like: one bit each."""

    CONTENTS_HEADING = 1
    LEADERS = 2
    GAP_AND_NUMBER = 4
    REFERENCES_HEADING = 8
    ENTRY = 16


@dataclass(slots=True)
class _Lines:
    """Where the lines that are not blank begin and end, and what each looks like: 17 bytes a line,
    because a document may have a million."""

    starts: array[int]
    ends: array[int]
    looks: bytearray


def asides_of(text: str, sections: Sequence[Section], end_char: int) -> tuple[Region, ...]:
    """CONTENTS and REFERENCES in `text[:end_char]`, in order, without overlap."""
    lines = _lines(text, end_char)
    regions = [*_contents(lines), *_references(lines, sections, end_char)]
    kept: list[Region] = []
    for region in sorted(regions, key=lambda region: region.start_char):
        if not kept or region.start_char >= kept[-1].end_char:
            kept.append(region)
    return tuple(kept)


def _lines(text: str, end_char: int) -> _Lines:
    lines = _Lines(array("q"), array("q"), bytearray())
    for match in _LINE.finditer(text, 0, end_char):
        line = match.group()
        head, tail = line[:_LOOKED_AT_CHARS].strip(), line[-_LOOKED_AT_CHARS:].rstrip()
        if not head and not tail:
            continue
        is_short = len(line) <= _HEADING_CHARS
        looks = 0
        if is_short and _CONTENTS_HEADING.fullmatch(head.strip(" :.")):
            looks |= _Is.CONTENTS_HEADING
        if ("..." in tail or ". ." in tail) and _LEADERS.search(tail):
            looks |= _Is.LEADERS
        if "\t" in tail and _GAP_AND_NUMBER.search(tail):
            looks |= _Is.GAP_AND_NUMBER
        if is_short and _REFERENCES_HEADING.fullmatch(head):
            looks |= _Is.REFERENCES_HEADING
        if _ENTRY.match(head) or _YEAR.search(head) or _YEAR.search(tail):
            looks |= _Is.ENTRY
        lines.starts.append(match.start() + len(line) - len(line.lstrip()))
        lines.ends.append(match.end())
        lines.looks.append(looks)
    return lines


def _contents(lines: _Lines) -> Iterator[Region]:
    entries: list[int] = []
    heading = -1
    for number, looks in enumerate(lines.looks):
        if entries and number - entries[-1] > _LINES_BETWEEN:
            yield from _table(lines, entries, heading)
            entries = []
            heading = -1
        if looks & _Is.CONTENTS_HEADING and not entries:
            heading = number
        is_headed = heading >= 0 and (bool(entries) or number - heading <= _HEADING_LINES)
        if looks & _Is.LEADERS or (is_headed and looks & _Is.GAP_AND_NUMBER):
            entries.append(number)
    yield from _table(lines, entries, heading)


def _table(lines: _Lines, entries: Sequence[int], heading: int) -> Iterator[Region]:
    if len(entries) < _CONTENTS_LINES:
        return
    is_headed = heading >= 0 and entries[0] - heading <= _LINES_BETWEEN
    first = heading if is_headed else entries[0]
    yield Region(Role.CONTENTS, lines.starts[first], lines.ends[entries[-1]])


def _references(lines: _Lines, sections: Sequence[Section], end_char: int) -> Iterator[Region]:
    headed = {section.start_char: section.end_char for section in sections}
    borders = [*sorted(headed), end_char]
    headings = (
        number for number, looks in enumerate(lines.looks) if looks & _Is.REFERENCES_HEADING
    )
    for number in islice(headings, _MOST_BIBLIOGRAPHIES):
        start = lines.starts[number]
        end = min(headed.get(start) or borders[bisect_right(borders[:-1], start)], end_char)
        after = bisect_left(lines.starts, end)
        entries = sum(bool(looks & _Is.ENTRY) for looks in lines.looks[number + 1 : after])
        if entries >= _ENTRIES and entries >= _ENTRY_SHARE * (after - number - 1):
            yield Region(Role.REFERENCES, start, lines.ends[after - 1])
