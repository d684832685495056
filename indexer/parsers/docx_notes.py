"""Footnotes and endnotes: what their marks show, "[3]" or "[iv]", and where they are referred to.

The body holds a place for each mark while it is read, because how a section numbers its notes
stands at the section's end. A mark is written in brackets: glued to a word, as a reader sees it
small and raised, it would be part of that word. Numbers that restart on every page are not known
(Word stores no pages): they count on, and a warning says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from longleaf.indexer.parsers.docx_numerals import numeral
from longleaf.indexer.parsers.docx_parts import child, number, value_of

if TYPE_CHECKING:
    from lxml.etree import _Element

FOOTNOTE, ENDNOTE = "footnote", "endnote"
_LETTERS = {FOOTNOTE: "f", ENDNOTE: "e"}
_KINDS = {letter: kind for kind, letter in _LETTERS.items()}
# NUL is no character of XML, so no document can hold a place that we did not make.
PLACE = re.compile("\0([fe])(\\d+)\0")


@dataclass(frozen=True, slots=True)
class NoteStyle:
    """How notes count; None leaves it to the document, and there to Word's habit."""

    number_format: str | None = None
    start: int | None = None
    restart: str | None = None

    def over(self, general: NoteStyle) -> NoteStyle:
        """This, where it says something; `general` where it does not."""
        return NoteStyle(
            self.number_format or general.number_format,
            general.start if self.start is None else self.start,
            self.restart or general.restart,
        )


_HABIT = {
    FOOTNOTE: NoteStyle("decimal", 1, "continuous"),
    ENDNOTE: NoteStyle("lowerRoman", 1, "continuous"),
}


@dataclass(slots=True)
class Reference:
    """A place where a note is referred to; `own_mark` None where Word counts."""

    note_id: str
    own_mark: str | None = None


@dataclass(slots=True)
class Notes:
    """The references of one kind in reading order, and how its sections count them."""

    kind: str
    references: list[Reference] = field(default_factory=list)
    _sections: list[tuple[int, NoteStyle]] = field(default_factory=list)

    def refer(self, note_id: str) -> str:
        """Note a reference; returns the place that its mark takes in the text."""
        self.references.append(Reference(note_id))
        return f"\0{_LETTERS[self.kind]}{len(self.references) - 1}\0"

    def end_section(self, properties: _Element) -> None:
        """A section ends here and counts its notes as its `w:sectPr` says."""
        self._sections.append((len(self.references), style_in(properties, self.kind)))

    def marks(self, general: NoteStyle) -> list[str]:
        """What each reference shows; `general` is how the document's settings count."""
        general = general.over(_HABIT[self.kind])
        shown: list[str] = []
        value = None
        sections = [*self._sections, (len(self.references), NoteStyle())]
        for end, own in sections:
            style = own.over(general)
            start = 1 if style.start is None else style.start
            if value is None or style.restart == "eachSect":
                value = start
            for reference in self.references[len(shown) : end]:
                if reference.own_mark is not None:
                    shown.append(reference.own_mark)
                    continue
                shown.append(numeral(value, style.number_format or "") or str(value))
                value += 1
        return shown

    def restarts_on_pages(self, general: NoteStyle) -> bool:
        """Whether the numbers depend on pages, which are not known."""
        styles = [general, *(own for _, own in self._sections)]
        return bool(self.references) and any(style.restart == "eachPage" for style in styles)


def style_in(properties: _Element | None, kind: str) -> NoteStyle:
    """How `properties` (a section's, or the document's settings) say that notes count."""
    found = child(properties, f"{kind}Pr")
    return NoteStyle(
        value_of(found, "numFmt"),
        number(value_of(found, "numStart")),
        value_of(found, "numRestart"),
    )


def with_marks(text: str, marks: Mapping[str, list[str]]) -> str:
    """`text` with its places filled: "[3]"; where the author typed the mark, it stands there."""
    return PLACE.sub(lambda match: _bracketed(marks[_KINDS[match[1]]][int(match[2])]), text)


def without_places(text: str) -> str:
    """`text` as if it had no notes."""
    return PLACE.sub("", text)


def _bracketed(mark: str) -> str:
    return f"[{mark}]" if mark else ""
