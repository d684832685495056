"""Builds a document's text block by block: white space collapsed, headings and roles at offsets.

For parsers of formats that say what is a paragraph, a heading, a footnote or a bibliography (XML,
LaTeX). Footnotes stand where they are called from in the source and would tear the sentence; they
are held back and follow as paragraphs of their own before the next heading, so they keep the
heading path of what they explain. Knows no format. Linear in what it is given, whatever the
nesting.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from longleaf.core.types import Region, Role, Section
from longleaf.indexer.parsers.sections import Mark, nest, shorten

SPACE, LINE, PARAGRAPH = 1, 2, 3
_GAPS = ("", " ", "\n", "\n\n")
_INVISIBLE = re.compile("[\u00ad\u200b\u2060\ufeff]")  # soft hyphen, zero-width space, stray BOM
_WHITE = re.compile("[ \t\n\f\r\v\u0085\u00a0\u2028\u2029]+")


def one_line(raw: str) -> str:
    """`raw` with its white space collapsed, as `Blocks.text` does it."""
    return _WHITE.sub(" ", _INVISIBLE.sub("", raw)).strip(" ")


@dataclass(frozen=True, slots=True)
class Built:
    """A finished text, and what its parts are."""

    text: str
    sections: tuple[Section, ...]
    regions: tuple[Region, ...]


class Blocks:
    """Takes words and gaps in reading order; `finish` gives the text."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._chars = 0
        self._gap = 0  # into _GAPS: what must stand before the next word
        self._glued: int | None = None
        self._marks: list[Mark] = []
        self._pending: list[tuple[str, int]] = []  # titles that begin at the next word
        self._heading: tuple[int, int, int] | None = None  # rank, first part, start
        self._regions: list[Region] = []
        self._role: Role | None = None
        self._role_depth = 0
        self._role_start = -1
        self._notes: list[str] = []
        self._outer: tuple[list[str], int, int | None] | None = None  # what a note interrupts

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been written yet."""
        return not self._parts

    @property
    def in_note(self) -> bool:
        """Whether a footnote is open."""
        return self._outer is not None

    @property
    def ends_in_digit(self) -> bool:
        """Whether what comes next stands right behind a digit."""
        return bool(self._parts) and self._gap == 0 and self._parts[-1][-1].isdigit()

    def text(self, raw: str | None) -> None:
        """Running text: any white space is one space, or what `gap` asked for."""
        if not raw:
            return
        words = _WHITE.sub(" ", _INVISIBLE.sub("", raw))
        if words.startswith(" "):
            self._gap = max(self._gap, SPACE)
        stripped = words.strip(" ")
        if stripped:
            self._append(stripped)
            self._gap = SPACE if words.endswith(" ") else 0

    def verbatim(self, raw: str) -> None:
        """A block whose white space counts, such as program text."""
        raw = raw.strip("\n")
        if raw and not raw.isspace():
            self.gap(PARAGRAPH)
            self._append(raw.rstrip())
            self.gap(PARAGRAPH)

    def gap(self, kind: int) -> None:
        """At least SPACE, LINE or PARAGRAPH before the next word."""
        self._gap = max(self._gap, kind)

    def glue(self, kind: int = SPACE) -> None:
        """This gap (0: none) before the next word, whatever is asked for until then."""
        self._glued = kind

    def unglue(self) -> None:
        """What was to be glued to has ended without a word."""
        self._glued = None

    def mark(self, title: str, rank: int) -> None:
        """The next word begins a section called `title` without being its heading."""
        if self._outer is None:
            self._flush_notes()
            self._pending.append((title, rank))

    @contextmanager
    def heading(self, rank: int) -> Iterator[None]:
        """What is written inside is a heading; `rank` is lower further out."""
        self.open_heading(rank)
        yield
        self.close_heading()

    def open_heading(self, rank: int) -> None:
        """See `heading`. A heading inside a footnote or another heading is plain text."""
        self.unglue()
        self.gap(PARAGRAPH)
        if self._heading is None and self._outer is None:
            self._flush_notes()
            self._heading = (rank, len(self._parts), -1)

    def close_heading(self) -> None:
        """See `heading`."""
        self.gap(PARAGRAPH)
        if self._heading is None or self._outer is not None:
            return
        rank, first, start = self._heading
        self._heading = None
        if start >= 0:
            title = shorten("".join(self._parts[first:]))
            self._marks.append(Mark(title, rank, start))

    def open_region(self, role: Role) -> None:
        """What follows has `role`, until `close_region`; a region inside another is part of it."""
        self.unglue()
        self.gap(PARAGRAPH)
        if self._outer is not None:
            return
        self._role_depth += 1
        if self._role_depth == 1:
            self._flush_notes()
            self._role, self._role_start = role, -1

    def close_region(self) -> None:
        """See `open_region`."""
        self.gap(PARAGRAPH)
        if self._outer is not None or self._role_depth == 0:
            return
        self._role_depth -= 1
        if self._role_depth == 0:
            if self._role is not None and self._role_start >= 0:
                self._regions.append(Region(self._role, self._role_start, self._chars))
            self._role = None

    def open_note(self) -> bool:
        """What follows is a footnote, until `close_note`; False inside one already."""
        if self._outer is not None:
            return False
        self._outer = self._parts, self._gap, self._glued
        self._parts, self._gap, self._glued = [], 0, None
        return True

    def close_note(self) -> None:
        """See `open_note`."""
        assert self._outer is not None
        note = "".join(self._parts).strip()
        self._parts, self._gap, self._glued = self._outer
        self._outer = None
        if note:
            self._notes.append(note)

    def finish(self) -> Built:
        """The whole text. Nothing can be added afterwards."""
        assert self._outer is None
        if self._role_depth:
            self._role_depth = 1
            self.close_region()
        self._flush_notes()
        text = "".join(self._parts)
        return Built(text, nest(self._marks, len(text)), tuple(self._regions))

    def _flush_notes(self) -> None:
        """Write the footnotes that wait; inside a region they are part of it."""
        if not self._notes:
            return
        notes, self._notes = self._notes, []
        pending, self._pending = self._pending, []
        gap = max(self._gap, PARAGRAPH)
        start = -1
        for note in notes:
            self._gap, self._glued = PARAGRAPH, None
            self._append(note)
            start = self._chars - len(note) if start < 0 else start
        if self._role is None:
            self._regions.append(Region(Role.FOOTNOTE, start, self._chars))
        self._gap, self._pending = gap, pending

    def _append(self, words: str) -> None:
        if self._parts:
            gap = _GAPS[self._gap if self._glued is None else self._glued]
            self._parts.append(gap)
            if self._outer is None:
                self._chars += len(gap)
        self._gap, self._glued = 0, None
        if self._outer is None:
            if self._pending:
                self._marks += [Mark(shorten(t), rank, self._chars) for t, rank in self._pending]
                self._pending = []
            if self._heading is not None and self._heading[2] < 0:
                self._heading = (self._heading[0], len(self._parts), self._chars)
            if self._role is not None and self._role_start < 0:
                self._role_start = self._chars
            self._chars += len(words)
        self._parts.append(words)
