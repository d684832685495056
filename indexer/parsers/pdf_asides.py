"""Where a text has a table of contents or a bibliography; pure.

A table of contents is a stretch of lines that end in a page number behind leaders ("Facts .... 3"),
or behind a wide gap if a heading says what it is; a table of authorities has the same form. A
bibliography has a heading, and most of its entries a year or a number in front. Both are marked,
not removed: a wrong mark makes a passage harder to find, so each rule asks for heading and form.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from longleaf.core.types import Region, Role, Section

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
_ENTRIES = 3
_ENTRY_SHARE = 0.2  # of the lines


class _Line(NamedTuple):
    start: int
    end: int
    words: str


def asides_of(text: str, sections: Sequence[Section], end_char: int) -> tuple[Region, ...]:
    """CONTENTS and REFERENCES in `text[:end_char]`, in order, without overlap."""
    lines = list(_lines(text, end_char))
    regions = [*_contents(lines), *_references(lines, sections, end_char)]
    kept: list[Region] = []
    for region in sorted(regions, key=lambda region: region.start_char):
        if not kept or region.start_char >= kept[-1].end_char:
            kept.append(region)
    return tuple(kept)


def _lines(text: str, end_char: int) -> Iterator[_Line]:
    for match in re.compile(r"[^\n]+").finditer(text, 0, end_char):
        words = match.group().strip()
        if words:
            yield _Line(match.start(), match.end(), words)


def _contents(lines: Sequence[_Line]) -> Iterator[Region]:
    entries: list[int] = []
    heading = -1
    for number, line in enumerate(lines):
        if len(line.words) <= 60 and _CONTENTS_HEADING.fullmatch(line.words.strip(" :.")):
            if entries and number - entries[-1] > _LINES_BETWEEN:
                yield from _table(lines, entries, heading)
                entries = []
            if not entries:
                heading = number
        has_heading = heading >= 0 and (bool(entries) or number - heading <= _HEADING_LINES)
        if _LEADERS.search(line.words) is None and not (
            has_heading and _GAP_AND_NUMBER.search(line.words)
        ):
            continue
        if entries and number - entries[-1] > _LINES_BETWEEN:
            yield from _table(lines, entries, heading)
            entries = []
            heading = -1
        entries.append(number)
    yield from _table(lines, entries, heading)


def _table(lines: Sequence[_Line], entries: Sequence[int], heading: int) -> Iterator[Region]:
    if len(entries) < _CONTENTS_LINES:
        return
    first = heading if 0 <= entries[0] - heading <= _LINES_BETWEEN and heading >= 0 else entries[0]
    yield Region(Role.CONTENTS, lines[first].start, lines[entries[-1]].end)


def _references(
    lines: Sequence[_Line], sections: Sequence[Section], end_char: int
) -> Iterator[Region]:
    headed = {section.start_char: section.end_char for section in sections}
    starts = sorted(headed)
    for number, line in enumerate(lines):
        if len(line.words) > 40 or _REFERENCES_HEADING.fullmatch(line.words) is None:
            continue
        end = headed.get(line.start) or next((at for at in starts if at > line.start), end_char)
        inside = [other for other in lines[number + 1 :] if other.end <= end]
        entries = [
            at
            for at, other in enumerate(inside)
            if _ENTRY.match(other.words) or _YEAR.search(other.words)
        ]
        if len(entries) >= _ENTRIES and len(entries) >= _ENTRY_SHARE * len(inside):
            yield Region(Role.REFERENCES, line.start, inside[-1].end)
