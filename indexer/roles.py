"""Which parts of a text are a bibliography or a table of contents, where no parser has marked them.

A heading ("References", "Table of Authorities") makes a candidate, and the form of the lines below
it decides: entries with a year or DOI and a number, an author or a page range; titles with leaders,
page numbers or links, or titles that come again as headings. So "References" above the clauses of a
contract stays text. Where the form ends the region ends, whatever the next heading is. Dotted
leaders with rising page numbers are a table of contents without a heading as well. It reads lines,
a bounded part of each, and knows no file format. A missed list costs some noise in results; a false
one pushes text down in them, so in doubt it is text.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from longleaf.core.types import Document, Region, Role, Section

_FEWEST_ENTRIES = 3
_FEWEST_BARE_LEADERS = 4
_SHARE_OF_FORM = 0.5  # a case's name is often two lines, with the page on the second
_MISSES_IN_A_ROW = 3
_PROSE_CHARS = 700  # so much without form ends a list
_LINE_CHARS = 400  # no rule looks further into a line
_PART_CHARS = 250  # of a list in one line

_HEADING = re.compile(
    r"""^[ \t]* (?:\#{1,6}[ \t]*)? [*_]{0,3} (?:</?\w{1,8}>)?
        (?: (?: \d{1,2} | [IVX]{1,5} | [A-Z] ) (?:\.\d{1,2}){0,2} [.)]? [ \t]+ )?
        (?: (?P<references> references (?:[ ](?:and|&)[ ]notes|[ ]cited)? | reference[ ]list
                          | (?:selected[ ])? bibliography | literature (?:[ ]cited)? | works[ ]cited
                          | literatur (?:verzeichnis)? | bibliograph?[íi]a | bibliographie
                          | références (?:[ ]bibliographiques)? | referencias )
          | (?P<contents> (?:table[ ]of[ ])? contents | table[ ]of[ ](?:authorities|cases|statutes)
                        | index[ ]of[ ]authorities | list[ ]of[ ](?:figures|tables)
                        | inhalt (?:sverzeichnis)? | table[ ]des[ ]matières | índice ) )
        [ \t]* :? [*_]{0,3} [ \t]* $""",
    re.VERBOSE | re.IGNORECASE | re.MULTILINE,
)
_LINES = re.compile(r"[^\n\f]+")

# --- a bibliography's entries
_NUMBERED = re.compile(
    r"(?:<[^<>\n]{1,80}>\s?){0,3}\[[^\[\]\n]{1,24}\]"
    r"|\(?\d{1,3}[.)](?=\s|$)|\d{1,3}\s+(?=[A-Z])|[•*–-]\s"
)
_AUTHOR = re.compile(
    r"(?:(?:van|von|de|den|der|du|la|le|di|da|al|el|ten|ter)\s){0,2}"
    r"[A-ZÀ-Þ][\w'’-]{1,30}(?:\s[A-ZÀ-Þ][\w'’-]{1,30})?,?\s{1,3}"
    r"(?:[A-ZÀ-Þ]\.?[-\s]?){1,3}(?=[,.;:&( ]|and\b|$)"
    r"|(?:[A-Z]\.[-\s]?){1,3}[A-ZÀ-Þ][\w'’-]{1,30}(?=[,;]|\s(?:and|&)\s)"
)
_YEAR = re.compile(r"(?<![\d.,/-])(?:1[6-9]|20)\d\d[a-z]?(?![\d/]|\.\d)")
_LOCATOR = re.compile(r"\b(?:doi|arxiv|pmid|isbn)\b|\b10\.\d{4,9}/|https?://", re.IGNORECASE)
_PRINT = re.compile(
    r"\d\s?\(\d{1,4}(?:[-–]\d{1,4})?\)|\d\s?[:,]\s?[A-Za-z]?\d{1,6}\s?[-–—]\s?[A-Za-z]?\d"
    r"|\bpp?\.\s?\d"
    r"|\bvol\.|\bet al\b|\beds?\.|\bpress\b|\bproc(?:eedings|\.)|\bjournal\b|\bj\.\s|\bin:\s"
    r"|\buniversity\b|\bsupp\.|\bF\.[23]d\b|\bU\.S\.|\bavailable\b|\bretrieved\b|\baccessed\b"
    r"|\btechnical report\b|\bspecial publication\b|\bthesis\b|\bconference\b|\bpublish",
    re.IGNORECASE,
)

# --- a table of contents
_PAGES = r"(?:\d{1,4}(?:-\d{1,4})?|[ivxlc]{1,7}|passim)"
_PAGE_LIST = rf"{_PAGES}(?:,?\s{{0,3}}{_PAGES}){{0,12}}"
_LEADERS = re.compile(rf"(?:[.…·_]\s?){{4,}}\s*{_PAGE_LIST}\s*$", re.IGNORECASE)
_FAR_PAGE = re.compile(rf"\S(?:\t|\s{{2,}}){_PAGE_LIST}\s*$", re.IGNORECASE)
_NEAR_PAGE = re.compile(r"^.{3,110}[^\W\d_].{0,9}\s\d{1,4}$")
_LINK = re.compile(r"^[-*+\d.()\sA-Za-z]{0,12}\[.{1,200}?\]\(#")
_LAST_NUMBER = re.compile(r"(\d{1,4})\D{0,3}$")


class _Line(NamedTuple):
    start: int
    end: int
    head: str  # stripped, at most _LINE_CHARS of it
    tail: str
    after_blank: bool


def regions_of(document: Document) -> tuple[Region, ...]:
    """The parts of the text that are not body, in order, never overlapping.

    The parser's own, and what is found beside them of a role that the parser has marked nowhere.
    """
    marked: list[Region] = []
    for region in sorted(document.regions, key=lambda each: each.start_char):
        begin = max(region.start_char, marked[-1].end_char if marked else 0)
        end = min(region.end_char, len(document.text))
        if begin < end and region.role is not Role.BODY:
            marked.append(Region(region.role, begin, end))
    roles = {region.role for region in marked}
    found = [region for region in find_regions(document) if region.role not in roles]
    return tuple(_merged(marked, found))


def find_regions(document: Document) -> list[Region]:
    """Bibliographies and tables of contents by heading and form, in order."""
    text = document.text
    headings = list(_HEADING.finditer(text))
    sections = sorted(document.sections, key=lambda section: section.start_char)
    titles = {_bare_title(section.title): section.start_char for section in sections}
    found: list[Region] = []
    for number, heading in enumerate(headings):
        # Nothing is read twice: a list ends at the next heading of its kind at the latest.
        limit = headings[number + 1].start() if number + 1 < len(headings) else len(text)
        if heading["references"]:
            limit = min(limit, _section_end(sections, heading, limit))
            role, end = Role.REFERENCES, _bibliography_end(text, heading.end(), limit)
        else:
            role, end = Role.CONTENTS, _contents_end(text, heading.end(), limit, titles)
        if end is not None:
            found.append(Region(role, heading.start(), end))
    return _merged(found, _bare_contents(text))


def _merged(first: Sequence[Region], second: Sequence[Region]) -> list[Region]:
    """All of `first`, and what of `second` overlaps none of it; both in order."""
    starts = [region.start_char for region in first]
    merged = list(first)
    for region in second:
        place = bisect_left(starts, region.end_char)
        if place == 0 or first[place - 1].end_char <= region.start_char:
            merged.append(region)
    return sorted(merged, key=lambda region: region.start_char)


def _section_end(sections: Sequence[Section], heading: re.Match[str], limit: int) -> int:
    """Where the section of a heading ends, or else the next one begins."""
    place = bisect_left(sections, heading.start(), key=lambda section: section.start_char)
    if place == len(sections):
        return limit
    section = sections[place]
    return section.end_char if section.start_char < heading.end() else section.start_char


class _Form:
    """How well the items of a list have the form of one kind."""

    def __init__(self) -> None:
        self.good = 0
        self.end = 0
        self._seen = self._seen_at_end = self._misses = self._miss_chars = 0

    def note(self, fits: bool, start: int, end: int) -> bool:
        """Count an item; False where so much without form came in a row that the list is over."""
        self._seen += 1
        if fits:
            self.good += 1
            self.end, self._seen_at_end = end, self._seen
            self._misses = self._miss_chars = 0
            return True
        self._misses += 1
        self._miss_chars += end - start
        return self._misses <= _MISSES_IN_A_ROW and self._miss_chars <= _PROSE_CHARS

    def holds(self) -> bool:
        """Whether the items up to `end` are such a list."""
        return self.good >= max(_FEWEST_ENTRIES, _SHARE_OF_FORM * self._seen_at_end)


def _bibliography_end(text: str, begin: int, limit: int) -> int | None:
    """Where the entries below a heading end, None where they are no bibliography's."""
    form = _Form()
    named_count = 0
    for start, end, opened in _entries(text, begin, limit):
        words = text[start : min(end, start + 2 * _LINE_CHARS)]
        located = _YEAR.search(words) is not None or _LOCATOR.search(words) is not None
        named = opened or _AUTHOR.search(words[:160]) is not None
        fits = located and (named or _PRINT.search(words) is not None)
        named_count += fits and named
        if not form.note(fits, start, end):
            break
    return form.end if form.holds() and named_count >= form.good / 2 else None


def _entries(text: str, begin: int, limit: int) -> Iterator[tuple[int, int, bool]]:
    """(start, end, whether it begins with a number or an author) of the entries of a list."""
    start = end = -1
    opened = only_number = False
    for line in _lines(text, begin, limit):
        number = _NUMBERED.match(line.head)
        opens = number is not None or _AUTHOR.match(line.head) is not None
        if start >= 0 and (only_number or not (opens or line.after_blank)):
            end, only_number = line.end, False
            continue
        if start >= 0:
            yield from _in_parts(start, end, opened)
        start, end, opened = line.start, line.end, opens
        only_number = number is not None and number.end() == len(line.head)
    if start >= 0:
        yield from _in_parts(start, end, opened)


def _in_parts(start: int, end: int, opened: bool) -> Iterator[tuple[int, int, bool]]:
    """A list that lies in one line, in parts of an entry's size."""
    if end - start <= 4 * _PART_CHARS:
        yield start, end, opened
        return
    for part in range(start, end, _PART_CHARS):
        yield part, min(part + _PART_CHARS, end), False


def _contents_end(text: str, begin: int, limit: int, titles: Mapping[str, int]) -> int | None:
    """Where the lines of a table of contents end, None where they are something else.

    `titles`: bare titles of the document's sections, and where such a section begins.
    """
    form = _Form()
    for line in _lines(text, begin, limit):
        fits = (
            _LEADERS.search(line.tail) is not None
            or _FAR_PAGE.search(line.tail) is not None
            or _NEAR_PAGE.match(line.head) is not None
            or _LINK.match(line.head) is not None
            or titles.get(_bare_title(line.head), -1) > line.start
        )
        if not form.note(fits, line.start, line.end):
            break
    return form.end if form.holds() else None


def _bare_contents(text: str) -> list[Region]:
    """Runs of lines with dotted leaders whose page numbers rise."""
    found: list[Region] = []
    if "...." not in text and ". . ." not in text and "……" not in text:
        return found
    run: list[tuple[_Line, int]] = []
    gap = 0
    for line in _lines(text, 0, len(text)):
        number = _LAST_NUMBER.search(line.tail) if _LEADERS.search(line.tail) else None
        if number is not None:
            run.append((line, int(number[1])))
            gap = 0
        else:
            gap += 1
            if gap > 2:
                found += _rising(run)
                run = []
    return found + _rising(run)


def _rising(run: Sequence[tuple[_Line, int]]) -> list[Region]:
    if len(run) < _FEWEST_BARE_LEADERS:
        return []
    rises = sum(before <= after for (_, before), (_, after) in pairwise(run))
    if rises < 0.8 * (len(run) - 1) or run[0][1] == run[-1][1]:
        return []
    return [Region(Role.CONTENTS, run[0][0].start, run[-1][0].end)]


def _lines(text: str, begin: int, limit: int) -> Iterator[_Line]:
    """The lines that are not blank."""
    previous_end = begin
    after_blank = True
    for match in _LINES.finditer(text, begin, limit):
        start, end = match.span()
        head = text[start : min(end, start + _LINE_CHARS)].strip()
        if not head:
            after_blank = True
            previous_end = end
            continue
        blank = after_blank or start - previous_end > 1
        yield _Line(start, end, head, text[max(start, end - _LINE_CHARS) : end], blank)
        after_blank, previous_end = False, end


_AROUND_TITLE = re.compile(r"^[\W\d_]+|(?:[.…·_\s]\s?){3,}[ivxlc\d]{0,7}$|[\W_]+$", re.IGNORECASE)


def _bare_title(title: str) -> str:
    return " ".join(_AROUND_TITLE.sub("", title[:_LINE_CHARS].strip()).casefold().split())
