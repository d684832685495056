"""Pieces of pages to one text, and where its characters stand; pure.

A piece is a slice of a page's characters; pieces come in the order to read. What is changed on the
way, with places following:
- Where a line ends in a hyphen, pdfium leaves one mark and no line break. The words of the document
  itself decide whether it was a hyphen ("vendor-plaintiffs") or a word cut in two ("Okla-homa");
  see `is_hyphen`. A hyphen at the end of a column or page is treated alike.
- Soft hyphens (U+00AD) go, control characters become spaces, unmapped ones U+FFFD.
- White space between cells of a table row becomes a tab, and what the caller asks for.
Knows nothing of pdfium itself.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from longleaf.core.layout import Layout
from longleaf.core.types import Page
from longleaf.indexer.parsers.pdf_page import SourcePage
from longleaf.indexer.parsers.pdf_runs import LINE_HYPHENS

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CHANGED = re.compile("[\0-\x08\x0b-\x1f\x7f\u00ad\ufffe\uffff\ud800-\udfff]")
_WORD = re.compile(r"[^\W_]+(?:-[^\W_]+)*")
_WORD_CHARS = 60  # longer runs are no words
_MARK = re.compile(f"[{LINE_HYPHENS}]")
_LINE_END = re.compile(r"(?<=[^\W\d_])-(?:[ \t]*\n\s*|[ \t]+|[ \t]*\Z)")
_WORD_BEFORE = re.compile(r"[^\W_]+(?:-[^\W_]+)*\Z")
_BEFORE, _AFTER = re.compile(r"[^\W_]+\Z"), re.compile(r"[^\W_]+")
_CUT_WORD = re.compile(rf"[^\W\d_](?:[{LINE_HYPHENS}]|-)\s*\Z")


class Flow(NamedTuple):
    """What is taken of a page: slices of its characters in the order to read.

    `edits` maps a place in the characters to (characters replaced, text instead).
    """

    page: SourcePage
    pieces: Sequence[tuple[int, int]]
    edits: Mapping[int, tuple[int, str]]

    def opening(self) -> str:
        """Its first characters that are no white space, enough for a word."""
        for start, end in self.pieces:
            words = self.page.characters[start : min(end, start + 4 * _WORD_CHARS)].lstrip()
            if words:
                return words[:_WORD_CHARS]
        return ""


@dataclass(frozen=True, slots=True)
class Usage:
    """How a document writes words: each one's count, and whether its line ends cut words in two.

    `counts` holds words and hyphenated compounds that stand whole inside a line, in lower case.
    """

    counts: Counter[str]
    cuts_words: bool

    @classmethod
    def of(cls, pages: Iterable[str]) -> Usage:
        counts: Counter[str] = Counter()
        halves: list[tuple[str, str]] = []
        for source in pages:
            counts.update(_with_parts(_WORD.findall(source.lower())))
            marks = [match.span() for match in _MARK.finditer(source)]
            halves += (pair for at, _ in marks if (pair := _halves(source, at)) is not None)
            ends = (match.span() for match in _LINE_END.finditer(source))
            counts.subtract(_with_parts(_words_beside(source, [*marks, *ends])))
        joined = sum(counts[(left + right).lower()] > 0 for left, right in halves)
        compound = sum(counts[f"{left}-{right}".lower()] > 0 for left, right in halves)
        return cls(counts, cuts_words=joined > compound or not compound)


@dataclass(slots=True)
class TextBuilder:
    """Joins flows into one text; `pages` and the layout say where each character came from."""

    usage: Usage
    pages: list[Page] = field(default_factory=list)
    chars: int = 0
    unmapped: int = 0
    _parts: list[str] = field(default_factory=list)
    _spans: list[NDArray[np.int32]] = field(default_factory=list)
    _boxes: list[NDArray[np.float32]] = field(default_factory=list)

    def text(self) -> str:
        return "".join(self._parts)

    def layout(self, sizes: Sequence[tuple[float, float]]) -> Layout | None:
        """Where the text stands on pages of these sizes; None where no run has a place."""
        spans = np.concatenate(self._spans) if self._spans else np.zeros((0, 3), np.int32)
        if not len(spans):
            return None
        boxes = np.concatenate(self._boxes)
        return Layout(spans, boxes, np.array(sizes, np.float32).reshape(-1, 2))

    def add(self, flow: Flow, following: str) -> None:
        """Append a flow; the line break that ends it belongs to it.

        `following` is the beginning of what will be added next, to see whether a word goes on.
        """
        start = self.chars
        copied: list[_Copy] = []
        for number, (begin, finish) in enumerate(flow.pieces):
            rest = Flow(flow.page, flow.pieces[number + 1 :], {}).opening() or following
            self._add_piece(flow, begin, finish, rest, copied)
        if self.chars == start:
            self._put("\n")
        self.pages.append(Page(flow.page.number, start, self.chars))
        self._place(flow.page, copied)

    def _add_piece(
        self,
        flow: Flow,
        begin: int,
        finish: int,
        following: str,
        copied: list[_Copy],
    ) -> None:
        source = flow.page.characters
        cut = _CUT_WORD.search(source, max(begin, finish - _WORD_CHARS), finish)
        hyphen_at = -1 if cut is None else cut.start() + 1
        goes_on = cut is not None and (
            following[:1].islower() or (source[hyphen_at] != "-" and following[:1].isalnum())
        )
        done = begin
        end = hyphen_at if goes_on else finish
        for at, taken, instead in self._changes(flow, begin, end):
            if at < done:
                continue  # the second half of a surrogate pair, or inside an edit
            self._copy(source, done, at, copied)
            if instead:
                copied.append(_Copy(at, at + taken, self.chars, len(instead)))
                self._put(instead)
            done = at + taken
        self._copy(source, done, end, copied)
        if goes_on:
            joined = source[max(begin, end - _WORD_CHARS) : end] + LINE_HYPHENS[0] + following
            if is_hyphen(joined, min(end - begin, _WORD_CHARS), self.usage):
                copied.append(_Copy(end, end + 1, self.chars, 1))
                self._put("-")
        elif finish > begin and not source.endswith("\n", begin, finish):
            self._put("\n")

    def _changes(self, flow: Flow, begin: int, end: int) -> list[tuple[int, int, str]]:
        """(place, characters replaced, text instead), ascending."""
        source = flow.page.characters
        changes = [
            (at, *self._replacement(source, at))
            for at in (match.start() for match in _CHANGED.finditer(source, begin, end))
        ]
        if flow.edits:
            changes += [
                (at, taken, instead)
                for at, (taken, instead) in flow.edits.items()
                if begin <= at and at + taken <= end
            ]
            changes.sort()
        return changes

    def _replacement(self, source: str, at: int) -> tuple[int, str]:
        """How many characters `source[at]` takes there, and what stands in the text for it."""
        char = source[at]
        if char in LINE_HYPHENS:
            return 1, "-" if is_hyphen(source, at, self.usage) else ""
        if char == "\u00ad":
            return 1, ""
        if "\ud800" <= char <= "\udbff" and "\udc00" <= source[at + 1 : at + 2] <= "\udfff":
            pair = source[at : at + 2].encode("utf-16-le", "surrogatepass")
            return 2, pair.decode("utf-16-le")
        if char in "\0\uffff" or "\ud800" <= char <= "\udfff":
            self.unmapped += 1
            return 1, "\ufffd"
        return 1, "\n" if char in "\r\f\v" else " "

    def _copy(self, source: str, begin: int, end: int, copied: list[_Copy]) -> None:
        if begin < end:
            copied.append(_Copy(begin, end, self.chars, end - begin))
            self._put(source[begin:end])

    def _put(self, text: str) -> None:
        self._parts.append(text)
        self.chars += len(text)

    def _place(self, page: SourcePage, copied: Sequence[_Copy]) -> None:
        """Note where the page's runs stand in the text; what was left out stands nowhere."""
        placed = page.boxes[:, 2] > page.boxes[:, 0]
        table = np.array(sorted(each for each in copied if each.end > each.start), np.int64)
        if not len(table) or not placed.any():
            return
        begins, finishes, places, lengths = table.T
        starts, ends = page.spans[placed, 0], page.spans[placed, 1]
        first = np.searchsorted(finishes, starts, side="right")
        last = np.searchsorted(begins, ends, side="left") - 1
        is_here = first <= last
        first, last = first[is_here], last[is_here]
        starts, ends = starts[is_here], ends[is_here]
        # A copy may be shorter than its source: a surrogate pair is one character of the text.
        text_starts = places[first] + np.clip(starts - begins[first], 0, lengths[first])
        text_ends = places[last] + np.minimum(ends - begins[last], lengths[last])
        order = np.argsort(text_starts, kind="stable")
        numbers = np.full(len(order), page.number)
        spans = np.stack((text_starts[order], text_ends[order], numbers), axis=1)
        self._spans.append(spans.astype(np.int32))
        self._boxes.append(page.boxes[placed][is_here][order])


class _Copy(NamedTuple):
    """`source[start:end]` became the `length` characters of the text from `place` on."""

    start: int
    end: int
    place: int
    length: int


def _with_parts(words: list[str]) -> list[str]:
    """Words and, of those with hyphens, also their parts."""
    return words + [part for word in words if "-" in word for part in word.split("-")]


def _words_beside(source: str, cuts: Sequence[tuple[int, int]]) -> list[str]:
    """The words that end where a cut begins or begin where it ends, each once."""
    spans: set[tuple[int, int]] = set()
    for begin, finish in cuts:
        before = _WORD_BEFORE.search(source, max(begin - _WORD_CHARS, 0), begin)
        behind = _WORD.match(source, finish)
        spans.update(match.span() for match in (before, behind) if match is not None)
    return [source[start:end].lower() for start, end in spans]


def is_hyphen(source: str, at: int, usage: Usage) -> bool:
    """Whether the line-end hyphen at `at` belongs to the words, not to the line.

    The document's own usage decides: the form it uses elsewhere; else a document that never cuts
    words keeps it, and in one that does, both halves being words of it make a compound. A digit
    or a capital beside the hyphen keeps it ("COVID-19"). Of 160 line-end hyphens in court filings,
    read by eye, 1 came out wrong; joining them all gets 20 wrong.
    """
    halves = _halves(source, at)
    if halves is None:
        return True
    left, right = halves
    joined = usage.counts[(left + right).lower()]
    compound = usage.counts[f"{left}-{right}".lower()]
    if joined != compound:
        return compound > joined
    if not (left + right).isalpha() or not right[0].islower() or not usage.cuts_words:
        return True
    return usage.counts[left.lower()] > 0 and usage.counts[right.lower()] > 0


def _halves(source: str, at: int) -> tuple[str, str] | None:
    """The letters and digits right before and right after `at`; None where there are none."""
    before = _BEFORE.search(source[max(at - _WORD_CHARS, 0) : at])
    after = _AFTER.match(source[at + 1 : at + 1 + _WORD_CHARS])
    return None if before is None or after is None else (before.group(), after.group())
