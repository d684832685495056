"""One paragraph while it is read: its words, its fields, what is hidden in it, what its mark says.

Fields show their result, never their code. A field whose code is not over when its paragraph ends
is taken as broken there, so a lost end costs one paragraph and not the rest of the document. A few
fields have no result, because Word computes what they show when it draws them: they are counted.
"""

from __future__ import annotations

import enum
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from longleaf.core.types import Role
from longleaf.indexer.parsers.docx_parts import (
    WORD,
    attribute,
    child,
    is_on,
    local_name,
    number,
    qualified,
    value_of,
)
from longleaf.indexer.parsers.docx_styles import MAX_LEVEL, ListPlace, Style, Styles
from longleaf.indexer.parsers.docx_symbols import UNKNOWN, as_unicode, is_symbol_font, sign

if TYPE_CHECKING:
    from lxml.etree import _Element

_BODY_TEXT = 9
_PROPERTIES = qualified(WORD, ("pStyle", "numPr", "outlineLvl", "framePr", "rPr"))
_RUN_PROPERTIES = qualified(WORD, ("vanish", "rFonts", "rStyle"))
_MAX_CODE_CHARS = 1_000
_COMPUTED_FIELDS = frozenset(("LISTNUM", "AUTONUM", "AUTONUMLGL", "AUTONUMOUT", "EQ"))
_INVISIBLE = re.compile("[\u00ad\u200b\ufeff]")
_LINE_BREAKS = re.compile(r"[\r\n]+")  # of the XML file, not of the document
_CHECKED, _UNCHECKED = "☒", "☐"


@dataclass(frozen=True, slots=True)
class Block:
    """A finished paragraph, or a row of a table.

    `tight`: only a line end parts it from another one that is. `runs_on`: the next block continues
    its line. Places of note marks are still in the text.
    """

    text: str
    rank: int = 0
    role: Role = Role.BODY
    is_title: bool = False
    is_row: bool = False
    tight: bool = False
    runs_on: bool = False


class LeftOut(enum.StrEnum):
    """What is not in the text, in the words of the warning."""

    DELETIONS = "tracked deletions"
    COMMENTS = "comments"
    HIDDEN = "characters of hidden text"
    RUBY = "readings above words (ruby)"
    COMPUTED = "numbers or formulas that only Word's fields compute"
    OBJECTS = "embedded files and objects"
    LINKED = "linked parts of other files"
    PICTURES = "pictures"


@dataclass(slots=True)
class _Field:
    code: str = ""
    shows_result: bool = False
    choice: str = ""  # of a form's field that stores what it shows as a number


@dataclass(slots=True)
class Fields:
    """The fields that are open in one flow of text; they may begin and end in other paragraphs."""

    _open: list[_Field] = field(default_factory=list)

    @property
    def in_code(self) -> bool:
        """Whether text here is code, not result."""
        return bool(self._open) and any(not each.shows_result for each in self._open)

    def mark(self, element: _Element) -> _Field | None:
        """Take a `w:fldChar`; returns the field that it ends."""
        kind = attribute(element, "fldCharType")
        if kind == "begin":
            self._open.append(_Field(choice=_form_choice(child(element, "ffData"))))
        elif kind == "separate" and self._open:
            self._open[-1].shows_result = True
        elif kind == "end" and self._open:
            return self._open.pop()
        return None

    def add_code(self, code: str) -> None:
        """More of the innermost field's code."""
        if self._open and len(self._open[-1].code) < _MAX_CODE_CHARS:
            self._open[-1].code += code[:_MAX_CODE_CHARS]

    def end_paragraph(self) -> None:
        """Forget fields whose code does not end in the paragraph that it began in."""
        if self._open:
            self._open = [each for each in self._open if each.shows_result]


class Paragraph:
    """Collects what is between `<w:p>` and `</w:p>`, in order."""

    def __init__(
        self,
        element: _Element | None,
        styles: Styles,
        fields: Fields,
        left_out: Counter[LeftOut],
    ) -> None:
        self.style: Style = styles.of(None)
        self.after: list[Block] = []  # what stands in it and is no part of its line: text boxes
        self.list_place: ListPlace | None = self.style.list_place
        self.joins_next = False  # its mark is deleted, or it is a dropped initial
        self.runs_on = False  # its mark is hidden, so that a heading runs into the text
        self.mark_hidden = False
        self.unknown_signs = 0
        self._styles = styles
        self._fields = fields
        self._left_out = left_out
        self._parts: list[str] = []
        self._outline_level: int | None = None
        self._unsettled = element
        self._hidden = self.style.hidden
        self._font: str | None = None
        self._own_mark_from: int | None = None

    def settle(self) -> None:
        """Take the paragraph's `w:pPr`, which comes before its words; once."""
        properties = child(self._unsettled, "pPr")
        self._unsettled = None
        if properties is not None:
            self._set_properties(properties)

    def _set_properties(self, element: _Element) -> None:
        said = {_PROPERTIES[each.tag]: each for each in element if each.tag in _PROPERTIES}
        if (style := said.get("pStyle")) is not None:
            self.style = self._styles.of(attribute(style, "val"))
        self.list_place = self.style.list_place
        if (numbering := said.get("numPr")) is not None:
            self._set_list(value_of(numbering, "numId"), value_of(numbering, "ilvl"))
        if (outline := said.get("outlineLvl")) is not None:
            self._outline_level = number(attribute(outline, "val"), high=_BODY_TEXT)
        if (frame := said.get("framePr")) is not None:
            self.joins_next = attribute(frame, "dropCap") in ("drop", "margin")
        if (mark := said.get("rPr")) is not None:
            self._set_mark(mark)
        self._hidden = self.style.hidden

    def _set_mark(self, element: _Element) -> None:
        removed = (child(element, "del"), child(element, "moveFrom"))
        self.joins_next = self.joins_next or any(each is not None for each in removed)
        self.mark_hidden = is_on(child(element, "vanish"))
        self.runs_on = self.mark_hidden and is_on(child(element, "specVanish"))

    def _set_list(self, num_id: str | None, level: str | None) -> None:
        at = number(level, high=MAX_LEVEL)
        if num_id is not None:
            self.list_place = ListPlace(num_id.strip(), at)
        elif self.list_place is not None and at is not None:
            self.list_place = ListPlace(self.list_place.num_id, at)

    @property
    def rank(self) -> int:
        """1 to 9 for a heading, 0 for none."""
        if self._outline_level is None:
            return self.style.rank
        return 0 if self._outline_level == _BODY_TEXT else self._outline_level + 1

    def begin_run(self) -> None:
        """What follows has the paragraph style's look until `set_run`."""
        self._hidden = self.style.hidden
        self._font = None

    def set_run(self, element: _Element) -> None:
        """Take a run's `w:rPr`."""
        for each in element:
            name = _RUN_PROPERTIES.get(each.tag)
            if name == "vanish":
                self._hidden = is_on(each)
            elif name == "rFonts":
                font = attribute(each, "ascii") or attribute(each, "hAnsi")
                self._font = font if is_symbol_font(font) else None
            elif name == "rStyle" and not self._hidden:
                self._hidden = self._styles.of(attribute(each, "val") or "").hidden

    def end_run(self) -> str | None:
        """Returns the mark that its author gave the note that this run refers to, if it does."""
        self._hidden = self.style.hidden
        self._font = None
        if self._own_mark_from is None:
            return None
        mark = "".join(self._parts[self._own_mark_from :])
        self._own_mark_from = None
        return mark

    def expect_own_mark(self) -> None:
        """What the rest of this run says is a note's mark."""
        self._own_mark_from = len(self._parts)

    def add_text(self, raw: str) -> None:
        """Words of a run, as the file has them."""
        text = _LINE_BREAKS.sub(" ", raw) if "\n" in raw or "\r" in raw else raw
        if text.isascii() and self._font is None:
            self.add(text)
            return
        text = _INVISIBLE.sub("", text).replace("\u00a0", " ")
        shown = as_unicode(text, self._font)
        self._count_unknown(shown, text)
        self.add(shown)

    def add_sign(self, element: _Element) -> None:
        """A `w:sym`, or the newer `w16se:symEx`: a place in a font."""
        said = {str(name).rpartition("}")[2]: str(value) for name, value in element.items()}
        code = said.get("char", "")
        known = re.fullmatch(r"[0-9A-Fa-f]{1,6}", code) is not None
        shown = sign(int(code, 16), said.get("font")) if known else UNKNOWN
        self._count_unknown(shown, "")
        self.add(shown)

    def add(self, text: str) -> None:
        """`text` as it is, unless it is hidden or a field's code."""
        if self._fields.in_code:
            return
        if self._hidden:
            self._left_out[LeftOut.HIDDEN] += len(text)
        else:
            self._parts.append(text.replace("\r", " "))

    def _count_unknown(self, shown: str, source: str) -> None:
        if UNKNOWN in shown and not self._hidden:
            self.unknown_signs += shown.count(UNKNOWN) - source.count(UNKNOWN)

    def mark_field(self, element: _Element) -> None:
        """Take a `w:fldChar`."""
        ended = self._fields.mark(element)
        if ended is None or ended.shows_result:
            return
        words = ended.code.split(None, 2)
        name = words[0].upper() if words else ""
        if name in _COMPUTED_FIELDS:
            self._left_out[LeftOut.COMPUTED] += 1
        elif name == "MACROBUTTON" and len(words) == 3:
            self.add(words[2].strip())  # what one can click on stands in the code
        elif ended.choice:
            self.add(ended.choice)

    def add_code(self, code: str) -> None:
        """Part of a field's code."""
        self._fields.add_code(code)

    def take_text(self) -> str:
        """All words so far; the paragraph is over."""
        self._fields.end_paragraph()
        return "".join(self._parts)


def _form_choice(form: _Element | None) -> str:
    """What a field of an old form shows: the chosen entry of a list, a ticked box or an empty."""
    box, entries = child(form, "checkBox"), child(form, "ddList")
    if box is not None:
        ticked = child(box, "checked")
        return (
            _CHECKED if is_on(child(box, "default") if ticked is None else ticked) else _UNCHECKED
        )
    if entries is None:
        return ""
    chosen = number(value_of(entries, "result") or value_of(entries, "default") or "0")
    return _nth((attribute(each, "val") or "" for each in entries
                 if local_name(each) == "listEntry"), chosen)  # fmt: skip


def _nth(values: Iterable[str], at: int | None) -> str:
    return next((value for place, value in enumerate(values) if place == at), "")
