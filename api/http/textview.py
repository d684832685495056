"""A window of a document's text, cut where pages and headings begin and where marks lie.

Pure: text and offsets in, blocks out, and the template only prints them. A document of a million
characters is shown 20,000 at a time, because a browser that lays out all of it stands still.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from longleaf.api.http.reflow import soft_ends
from longleaf.core.catalog import DocumentText

WINDOW_CHARS = 20_000
CONTEXT_CHARS = 1_500
_LONGEST_HEADING_CHARS = 300
_SNAP_CHARS = 1_000
# A blank line, or a line that begins with a clause number or a bullet.
_PARAGRAPH = re.compile(r"\n\s*\n\s*|\n(?=[ \t]*(?:\(\w{1,5}\)|\d+(?:\.\d+)*[.)]|[-*•–])\s)")

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that is marked or not; `carries`: in a sentence that carries the score; `soft`: where
    line ends stand in it that may be shown as a space (reflow.py)."""

    text: str
    marked: bool
    carries: bool = False
    soft: tuple[int, ...] = ()

    @property
    def parts(self) -> list[tuple[str, bool]]:
        """The text in parts, the line ends that are soft (True) by themselves."""
        parts: list[tuple[str, bool]] = []
        done = 0
        for place in self.soft:
            parts += [(self.text[done:place], False), (self.text[place : place + 1], True)]
            done = place + 1
        parts.append((self.text[done:], False))
        return [part for part in parts if part[0]]


@dataclass(frozen=True, slots=True)
class Block:
    """A page's beginning (`number`), a heading (`number` of the section, `level`) or text.

    `start_char`: where its first character stands in the document.
    """

    kind: Literal["page", "heading", "text"]
    start_char: int = 0
    number: int = 0
    level: int = 0
    pieces: tuple[Piece, ...] = ()


@dataclass(frozen=True, slots=True)
class Window:
    """`text[start_char:end_char]` as blocks; `previous` and `following` are where to go on."""

    start_char: int
    end_char: int
    total_chars: int
    previous: int | None
    following: int | None
    blocks: tuple[Block, ...]

    @property
    def whole(self) -> bool:
        return self.previous is None and self.following is None


def marked(text: str, start_char: int, spans: Sequence[Span]) -> tuple[Piece, ...]:
    """`text`, which begins at `start_char`, cut at ordered, disjoint `spans` of the document."""
    pieces: list[Piece] = []
    done = 0
    for begin, end in spans:
        begin = min(max(begin - start_char, done), len(text))
        end = min(max(end - start_char, begin), len(text))
        if begin > done:
            pieces.append(Piece(text[done:begin], False))
        if end > begin:
            pieces.append(Piece(text[begin:end], True))
        done = end
    if done < len(text):
        pieces.append(Piece(text[done:], False))
    return tuple(pieces)


def carrying(
    pieces: Sequence[Piece], start_char: int, sentences: Sequence[Span]
) -> tuple[Piece, ...]:
    """The same text, which begins at `start_char`, cut at ordered, disjoint `sentences` as well."""
    cut: list[Piece] = []
    begin = start_char
    for piece in pieces:
        within = [(max(s, begin) - begin, e - begin) for s, e in sentences if e > begin]
        cut += [
            Piece(part.text, piece.marked, part.marked) for part in marked(piece.text, 0, within)
        ]
        begin += len(piece.text)
    return tuple(cut)


def flowing(pieces: Sequence[Piece]) -> tuple[Piece, ...]:
    """The same pieces of one text with their soft line ends."""
    ends = soft_ends("".join(piece.text for piece in pieces))
    found: list[Piece] = []
    begin = 0
    for piece in pieces:
        end = begin + len(piece.text)
        here = ends[bisect_left(ends, begin) : bisect_left(ends, end)]
        found.append(replace(piece, soft=tuple(each - begin for each in here)))
        begin = end
    return tuple(found)


def paragraphs(pieces: Sequence[Piece]) -> list[list[Piece]]:
    """Pieces by paragraph, for a column narrower than the lines that the source was cut into."""
    found: list[list[Piece]] = [[]]
    for piece in pieces:
        for number, part in enumerate(_PARAGRAPH.split(piece.text)):
            if number:
                found.append([])
            if part:
                found[-1].append(Piece(part, piece.marked, piece.carries))
    return [each for each in found if any(piece.text.strip() for piece in each)]


def window(
    document: DocumentText,
    begin_char: int | None,
    mark: Span | None,
    window_chars: int = WINDOW_CHARS,
    *,
    until_char: int | None = None,
    sentences: Sequence[Span] = (),
    flows: bool = False,
) -> Window:
    """The part of `document` from `begin_char` on, or up to `until_char`, or around `mark`, or its
    beginning. `sentences`, ordered and disjoint, carry the score. `flows`: the text's lines are as
    long as a page was wide (a PDF's)."""
    text = document.text
    total = len(text)
    if until_char is not None:
        end = min(max(until_char, 0), total)
        start = max(0, end - window_chars)
        start = _after_break(text, start, min(start + _SNAP_CHARS, end)) if start else 0
    elif total <= window_chars + _SNAP_CHARS:
        start, end = 0, total
    else:
        if begin_char is not None:
            start = min(max(begin_char, 0), total - 1)
        elif mark is not None:
            start = max(0, min(mark[0], total - 1) - CONTEXT_CHARS)
            start = text.rfind("\n", max(0, start - _SNAP_CHARS), start) + 1 or start
        else:
            start = 0
        end = min(start + window_chars, total)
        if end < total:
            end = _after_last_break(text, end - min(_SNAP_CHARS, window_chars // 2), end)
    return Window(
        start_char=start,
        end_char=end,
        total_chars=total,
        previous=max(0, start - window_chars) if start > 0 else None,
        following=end if end < total else None,
        blocks=tuple(_blocks(document, start, end, mark, sentences, flows=flows)),
    )


def _after_break(text: str, begin: int, end: int) -> int:
    """Behind the first line end in `text[begin:end]`, or space; `begin` where there is neither."""
    for each in "\n ":
        found = text.find(each, begin, end)
        if found >= 0:
            return found + 1
    return begin


def _after_last_break(text: str, begin: int, end: int) -> int:
    """Behind the last line end in `text[begin:end]`, or space; `end` where there is neither."""
    for each in "\n ":
        found = text.rfind(each, begin, end)
        if found >= 0:
            return found + 1
    return end


def _blocks(
    document: DocumentText,
    start: int,
    end: int,
    mark: Span | None,
    sentences: Sequence[Span],
    *,
    flows: bool,
) -> list[Block]:
    text = document.text
    spans = [mark] if mark is not None and mark[0] < mark[1] else []
    blocks: list[Block] = []
    done = start

    def print_until(position: int) -> None:
        nonlocal done
        shown = text[done:position].rstrip()
        if shown:
            # Blank lines around a block are the style sheet's to make; indentation stays.
            first = done + shown.rfind("\n", 0, len(shown) - len(shown.lstrip())) + 1
            shown = text[first : done + len(shown)]
            pieces = carrying(marked(shown, first, spans), first, sentences)
            blocks.append(Block("text", first, pieces=flowing(pieces) if flows else pieces))
        done = max(done, position)

    for position, kind, number in _cuts(document, start, end):
        if position < done:
            # Two headings on one line: the first has printed it.
            continue
        print_until(position)
        if kind == 0:
            blocks.append(Block("page", position, document.pages[number].number))
            continue
        section = document.sections[number]
        line_end = text.find("\n", position, min(section.end_char, end))
        line_end = min(section.end_char, end) if line_end < 0 else line_end
        line_end = min(line_end, position + _LONGEST_HEADING_CHARS)
        pieces = marked(text[position:line_end], position, spans)
        pieces = carrying(pieces, position, sentences)
        blocks.append(Block("heading", position, number, section.level, pieces))
        done = line_end
    print_until(end)
    return blocks


def _cuts(document: DocumentText, start: int, end: int) -> list[tuple[int, int, int]]:
    """(position, 0 for a page or 1 for a section, its number) inside the window, in order."""
    starts = [page.start_char for page in document.pages]
    pages = range(bisect_left(starts, start), bisect_left(starts, end))
    sections = [
        (section.start_char, 1, number)
        for number, section in enumerate(document.sections)
        if start <= section.start_char < min(end, section.end_char)
    ]
    return sorted([(starts[number], 0, number) for number in pages] + sections)
