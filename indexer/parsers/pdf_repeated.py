"""What stands on page after page: running headers and footers, page numbers, court stamps, and the
line numbers in the margin of a pleading; pure.

A line is repeated when the same words stand at the same place of several pages, at an edge, and
each of its numbers is either always the same or counts the pages ("Page 3 of 20" does; a row of a
table does not). The first of them stays in the text, so that a docket number is never lost. Line
numbers say nothing and go everywhere, once two pages show the same ones. When in doubt a line
stays: a header left in a text costs little, a lost line everything.

What this does not see: headers whose words differ each time (a chapter of one page), and text that
OCR read in two ways.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from longleaf.indexer.parsers.pdf_lines import Line
from longleaf.indexer.parsers.pdf_page import SourcePage

if TYPE_CHECKING:
    from numpy.typing import NDArray

_EDGE_LINES = 6  # looked at from the top, and from the bottom
_MOST_LINES = 4  # of a header; a page that repeats more of them is a copy of another
_EDGE_SHARE = 0.3  # of the page's height
_SIDE_SHARE = 0.1  # of the page's width, for what is written up the margin
_SAME_PLACE = 4.0  # points
_PAGES = 3
_STAMP_PAGES = 2  # enough for what says of itself that it is a stamp
_KEY_CHARS = 300

_NUMBER = re.compile(r"\d+")
_STAMP = re.compile(
    r"\b(?:case|docket|document|doc|filed|page|pg|no|dkt ?entry|usca\d*|pageid|id|entered)\b", re.I
)
_ROMAN = re.compile(r"[-–—\s]*([ivxlc]{1,7})[-–—\s]*", re.I)
_ROMAN_DIGITS = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100}

_MARGIN_NUMBER = re.compile(r"^[ ]*(\d{1,2})(?=\s|\Z)", re.M)
_MARGIN_NUMBERS = 10  # lines numbered in sequence, at least
_ALIGNED = 4.0  # points
_MARGIN_PAGES = 2


class _EdgeLine(NamedTuple):
    """A line at an edge: its words without numbers, its numbers, how far from that edge it stands,
    and where those lines begin that stand beside it (cells of its row, if it is one of a table).
    """

    page: int
    start: int
    end: int
    edge: str
    key: str
    numbers: tuple[int, ...]
    place: float
    beside: tuple[int, ...]


class _MarginNumbers(NamedTuple):
    """Numbers down the left margin of a page, with the runs that they are."""

    page: int
    runs: tuple[int, ...]
    first_value: int
    top: float


class Repeated(NamedTuple):
    """By page number: `cuts`, the spans of lines to leave out; `firsts`, where those begin that are
    repeated later and stay."""

    cuts: Mapping[int, list[tuple[int, int]]]
    firsts: Mapping[int, frozenset[int]]


@dataclass(slots=True)
class RepeatedFinder:
    """Hears of each page once and keeps only what stands at its edges."""

    _lines: list[_EdgeLine] = field(default_factory=list)
    _margins: list[_MarginNumbers] = field(default_factory=list)

    def add(self, page: SourcePage, lines: Sequence[Line]) -> None:
        self._lines.extend(_edge_lines(page, lines))
        margin = _margin_numbers(page)
        if margin is not None:
            self._margins.append(margin)

    def lines(self) -> Repeated:
        """The repeated lines of all pages heard of."""
        repeated: defaultdict[int, set[int]] = defaultdict(set)
        others: defaultdict[tuple[int, str], list[_EdgeLine]] = defaultdict(list)
        firsts: defaultdict[int, set[int]] = defaultdict(set)
        groups: defaultdict[tuple[str, str, int], list[_EdgeLine]] = defaultdict(list)
        for line in self._lines:
            groups[line.edge, line.key, len(line.numbers)].append(line)
        for group in groups.values():
            for cluster in _clusters(group):
                for line, is_first in _repeated(cluster):
                    repeated[line.page].add(line.start)
                    if is_first:
                        firsts[line.page].add(line.start)
                    else:
                        others[line.page, line.edge].append(line)
        by_page: defaultdict[int, set[tuple[int, int]]] = defaultdict(set)
        for (page, _), lines in others.items():
            # A cell of a table's row repeats as well, but not with all that stands beside it.
            alone = [line for line in lines if repeated[page].issuperset(line.beside)]
            if len(alone) <= _MOST_LINES:
                by_page[page].update((line.start, line.end) for line in alone)
        return Repeated(
            {page: sorted(spans) for page, spans in by_page.items()},
            {page: frozenset(starts) for page, starts in firsts.items()},
        )

    def margin_runs(self) -> Mapping[int, tuple[int, ...]]:
        """The runs that are line numbers, by page number."""
        found: dict[int, tuple[int, ...]] = {}
        alike: list[_MarginNumbers] = []
        for margin in sorted(self._margins, key=lambda margin: (margin.first_value, margin.top)):
            if alike and not (
                margin.first_value == alike[-1].first_value
                and margin.top - alike[-1].top <= 2 * _SAME_PLACE
            ):
                alike = []
            alike.append(margin)
            if len(alike) >= _MARGIN_PAGES:
                found.update((each.page, each.runs) for each in alike[-_MARGIN_PAGES:])
        return found


def _edge_lines(page: SourcePage, lines: Sequence[Line]) -> Iterator[_EdgeLine]:
    upper, lower = _EDGE_SHARE * page.height, (1 - _EDGE_SHARE) * page.height
    left, right = _SIDE_SHARE * page.width, (1 - _SIDE_SHARE) * page.width
    by_top = sorted(lines, key=lambda line: line.top)
    for line in [line for line in by_top if line.bottom < upper][:_EDGE_LINES]:
        yield from _edge_line(page, line, "top", line.middle, _beside(line, lines))
    for line in [line for line in by_top if line.top > lower][-_EDGE_LINES:]:
        place = page.height - line.middle
        yield from _edge_line(page, line, "bottom", place, _beside(line, lines))
    for line in lines:
        upright = line.bottom - line.top > 2 * (line.right - line.left)
        if upright and (line.right < left or line.left > right):
            yield from _edge_line(page, line, "side", (line.left + line.right) / 2, ())


def _beside(line: Line, lines: Sequence[Line]) -> tuple[int, ...]:
    """Where those lines begin that overlap `line` by more than half, up and down."""
    reach = (line.bottom - line.top) / 2
    return tuple(
        other.start
        for other in lines
        if min(other.bottom, line.bottom) - max(other.top, line.top) > reach and other is not line
    )


def _edge_line(
    page: SourcePage, line: Line, edge: str, place: float, beside: tuple[int, ...]
) -> Iterator[_EdgeLine]:
    words = " ".join(page.characters[line.start : line.end].split())
    if len(words) > _KEY_CHARS:
        return
    roman = _ROMAN.fullmatch(words)
    if roman is not None:
        words = words.replace(roman.group(1), str(_roman(roman.group(1).lower())))
    numbers = _NUMBER.findall(words)
    if any(len(number) > 18 for number in numbers):
        return
    key = _NUMBER.sub("\0", words).lower()
    values = tuple(int(number) for number in numbers)
    if "\0" in key and not any(char.isalpha() for char in key):
        beside = ()  # a page number may stand beside a header that changes
    yield _EdgeLine(page.number, line.start, line.end, edge, key, values, place, beside)


def _clusters(lines: Sequence[_EdgeLine]) -> Iterator[list[_EdgeLine]]:
    """Lines of the same words, parted by place; each in page order."""
    cluster: list[_EdgeLine] = []
    for line in sorted(lines, key=lambda line: line.place):
        if cluster and line.place - cluster[-1].place > _SAME_PLACE:
            yield sorted(cluster)
            cluster = []
        cluster.append(line)
    if cluster:
        yield sorted(cluster)


def _repeated(cluster: Sequence[_EdgeLine]) -> list[tuple[_EdgeLine, bool]]:
    """Those whose every number stands still or counts the pages, on enough pages; and whether a
    line is the first with those numbers that stand still (two stamps may differ in nothing else).
    """
    key = cluster[0].key
    # Bare numbers have to count the pages, and so does a stamp that stands on two pages only.
    found = _agreeing(cluster, _PAGES, counting=not any(char.isalpha() for char in key))
    if not found and _STAMP.search(key) is not None:
        found = _agreeing(cluster, _STAMP_PAGES, counting=True)
    return found


def _agreeing(
    cluster: Sequence[_EdgeLine], enough: int, *, counting: bool
) -> list[tuple[_EdgeLine, bool]]:
    """The lines that agree in each number with `enough` others; `counting`: one counts pages."""
    if len(cluster) < enough:
        return []
    pages = np.array([line.page for line in cluster])
    agrees, counts_pages = np.ones(len(cluster), bool), np.zeros(len(cluster), bool)
    still: list[NDArray[np.int64]] = []
    for column in zip(*(line.numbers for line in cluster), strict=True):
        values = np.array(column, np.int64)
        is_still = _support(values) >= enough
        is_counting = _support(values - pages) >= enough
        agrees &= is_still | is_counting
        counts_pages |= is_counting
        still.append(np.where(is_still, values, -1))
    if counting:
        agrees &= counts_pages
    found: list[tuple[_EdgeLine, bool]] = []
    seen: set[tuple[int, ...]] = set()
    for at in np.flatnonzero(agrees).tolist():
        numbers = tuple(int(column[at]) for column in still)
        found.append((cluster[at], numbers not in seen))
        seen.add(numbers)
    return found if len({line.page for line, _ in found}) >= enough else []


def _support(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often each value stands among all."""
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    return counts[where]


def _margin_numbers(page: SourcePage) -> _MarginNumbers | None:
    matches = list(_MARGIN_NUMBER.finditer(page.characters))
    if len(matches) < _MARGIN_NUMBERS:
        return None
    runs = np.searchsorted(page.spans[:, 0], [match.start(1) for match in matches])
    candidates = sorted(
        (float(page.boxes[run, 1]), int(match.group(1)), run)
        for run, match in zip(runs.tolist(), matches, strict=True)
        if run < len(page.spans)
        and tuple(page.spans[run].tolist()) == match.span(1)
        and page.boxes[run, 2] > page.boxes[run, 0]
    )
    chain = max(_chains(page, candidates), key=len, default=[])
    if len(chain) < _MARGIN_NUMBERS or not _stands_alone(page, [run for _, _, run in chain]):
        return None
    return _MarginNumbers(
        page.number, tuple(sorted(run for _, _, run in chain)), chain[0][1], chain[0][0]
    )


def _chains(
    page: SourcePage, candidates: Iterable[tuple[float, int, int]]
) -> Iterator[list[tuple[float, int, int]]]:
    """(top, value, run) one below the other that count up by one and are aligned."""
    chain: list[tuple[float, int, int]] = []
    for each in candidates:
        if chain:
            before, here = page.boxes[chain[-1][2]], page.boxes[each[2]]
            aligned = min(abs(before[0] - here[0]), abs(before[2] - here[2])) <= _ALIGNED
            if each[1] != chain[-1][1] + 1 or not aligned:
                yield chain
                chain = []
        chain.append(each)
    yield chain


def _stands_alone(page: SourcePage, runs: Sequence[int]) -> bool:
    """Whether the numbers have their strip of the page for themselves, at its left edge."""
    boxes = page.boxes[list(runs)]
    left, top = boxes[:, 0].min(), boxes[:, 1].min()
    right, bottom = boxes[:, 2].max(), boxes[:, 3].max()
    others = np.ones(len(page.boxes), bool)
    others[list(runs)] = False
    others &= page.boxes[:, 2] > page.boxes[:, 0]
    others &= (page.boxes[:, 3] > top) & (page.boxes[:, 1] < bottom)
    in_the_way = others & (page.boxes[:, 0] < right + 1)
    return bool(in_the_way.sum() <= 2 and left < 0.25 * page.width)


def _roman(number: str) -> int:
    values = [_ROMAN_DIGITS[digit] for digit in number]
    return sum(
        -value if value < following else value
        for value, following in zip(values, [*values[1:], 0], strict=True)
    )
