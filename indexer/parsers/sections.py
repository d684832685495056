"""Headings to nested sections, and titles short enough to show; pure, and the same for all formats.

Knows nothing of how a format marks its headings: that is each parser's, or `headings` for text
that marks none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from longleaf.core.types import Section

TITLE_CHARS = 120
_LINES_FOR_A_TITLE = 30
_LINE_CHARS = 4 * TITLE_CHARS
_ALNUM = re.compile(r"[^\W_]")
_IN_WORDS = re.compile(r"[^\W\d_]{3}")
_PAGE_STAMP = re.compile(r"\b(?:Page|Pg)[:.]?\s?\d+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Mark:
    """A heading before nesting: its words, its rank (lower is outer) and where it begins."""

    title: str
    rank: int
    start_char: int


def nest(marks: Sequence[Mark], text_chars: int) -> tuple[Section, ...]:
    """Headings in text order to sections: levels are dense from 1, each inside those above it."""
    ends = [text_chars] * len(marks)
    levels: list[int] = []
    open_marks: list[int] = []
    for number, mark in enumerate(marks):
        while open_marks and marks[open_marks[-1]].rank >= mark.rank:
            ends[open_marks.pop()] = mark.start_char
        open_marks.append(number)
        levels.append(len(open_marks))
    return tuple(
        Section(mark.title, level, mark.start_char, end)
        for mark, level, end in zip(marks, levels, ends, strict=True)
    )


def shorten(text: str, limit_chars: int = TITLE_CHARS) -> str:
    """`text` on one line, cut at a word with "…" where it is longer than `limit_chars`."""
    words = " ".join(text[: 4 * limit_chars].split())
    if len(words) <= limit_chars:
        return words
    cut = words[: limit_chars - 1]
    at_word = cut.rfind(" ")
    return (cut[:at_word] if at_word > limit_chars // 2 else cut).rstrip() + "…"


def title_from(text: str, name: str) -> str:
    """The first line in words that is no page stamp, shortened; else the file's `name`."""
    fallback = ""
    seen = 0
    for match in re.finditer(r"[^\n\f]+", text):
        line = match.group()[:_LINE_CHARS]
        if _ALNUM.search(line) is None:
            continue
        if _IN_WORDS.search(line) is not None and _PAGE_STAMP.search(line) is None:
            return shorten(line)
        fallback = fallback or shorten(line)
        seen += 1
        if seen >= _LINES_FOR_A_TITLE:
            break
    return fallback or name
