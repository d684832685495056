"""A Word part's XML events to blocks of text in reading order.

Tracked changes read as accepted: what was deleted or moved away is gone, and where a paragraph's
mark was deleted, it joins the next. Of alternative drawings the first counts, so a text box is read
once; it stands behind the paragraph that holds it. A table's row is one line, cells parted by
" | ", and a paragraph of its own, so that no passage ends inside it where it fits into one; a row
that has long text in a cell is layout and reads as paragraphs; the rows of a table inside a cell
follow its row. Formulas read from left to right.
Containers are met as events, and only a run is looked into: nesting costs nothing, time is linear.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from longleaf.core.types import Role
from longleaf.indexer.parsers.docx_flow import Flow, row_blocks
from longleaf.indexer.parsers.docx_notes import ENDNOTE, FOOTNOTE, Notes, Reference, without_places
from longleaf.indexer.parsers.docx_numbering import NO_LIST, Numbering
from longleaf.indexer.parsers.docx_paragraph import Block, LeftOut, Paragraph
from longleaf.indexer.parsers.docx_parts import (
    RELATIONS,
    WORD,
    attribute,
    child,
    forget,
    is_on_value,
    local_name,
    qualified,
    word_tags,
)
from longleaf.indexer.parsers.docx_styles import Styles

if TYPE_CHECKING:
    from lxml.etree import _Element

_Handler: TypeAlias = "Callable[[_Element], object]"
_RunHandler: TypeAlias = "Callable[[Paragraph, _Element], object]"

_T = TypeVar("_T")

_HEADING_CHARS = 200
"""A longer paragraph in a heading's style is a clause that borrows its numbering."""

_COMPATIBILITY = ("http://schemas.openxmlformats.org/markup-compatibility/2006",)
_MATH = (
    "http://schemas.openxmlformats.org/officeDocument/2006/math",
    "http://purl.oclc.org/ooxml/officeDocument/math",
)
_PICTURE = (
    "http://schemas.openxmlformats.org/drawingml/2006/picture",
    "http://purl.oclc.org/ooxml/drawingml/picture",
)
_VML = ("urn:schemas-microsoft-com:vml",)
_DIAGRAM = (
    "http://schemas.openxmlformats.org/drawingml/2006/diagram",
    "http://purl.oclc.org/ooxml/drawingml/diagram",
)
_CHART = (
    "http://schemas.openxmlformats.org/drawingml/2006/chart",
    "http://purl.oclc.org/ooxml/drawingml/chart",
)
_EMPTY_LINES = re.compile("\n{3,}")
_EXTENDED_SIGNS = ("http://schemas.microsoft.com/office/word/2015/wordml/symex",)
_ROW_TAGS = word_tags("tr")
_ALTERNATIVES = qualified(_COMPATIBILITY, ("Choice", "Fallback"))
_MATH_SIGNS = {"den": "/", "sup": "^", "sub": "_", "rad": "√"}


class StoryReader:
    """Reads the main part, notes and headers of one document, which count lists together.

    `related(rel_id)` gives the blocks of another part that stands here: a chart, a diagram, an
    imported file.
    """

    def __init__(
        self, styles: Styles, numbering: Numbering, related: Callable[[str], list[Block]]
    ) -> None:
        self.left_out: Counter[LeftOut] = Counter()
        self.unknown_signs = 0
        self.notes = {kind: Notes(kind) for kind in (FOOTNOTE, ENDNOTE)}
        self.header_ids: list[str] = []
        self._styles = styles
        self._numbering = numbering
        self._related = related
        self._flows: list[Flow] = []
        self._rows: list[list[list[Block]]] = []
        self._choices: list[bool] = []
        self._math_sign = ""
        self._leaving_out: _Element | None = None
        self._marked: Reference | None = None  # the last one whose mark its author typed
        self._finished_notes: dict[str, list[Block]] = {}
        self.is_word = False
        self._starts, self._ends = self._handlers()
        self._of_runs = self._in_run()

    def tags(self) -> list[str]:
        """Of the elements whose starts and ends `read` needs."""
        return sorted({*self._starts, *self._ends})

    def read(self, events: Iterable[tuple[str, _Element]]) -> list[Block]:
        """The blocks of one part, in reading order."""
        self._flows.append(Flow())
        for event, element in events:
            if self._leaving_out is not None:
                if event == "end" and element is self._leaving_out:
                    self._leaving_out = None
                    self._discard(element)
                continue
            handle = (self._starts if event == "start" else self._ends).get(element.tag)
            if handle is not None:
                handle(element)
        return self._end_flow()

    def read_notes(self, events: Iterable[tuple[str, _Element]]) -> dict[str, list[Block]]:
        """The blocks of each note of a notes part, by its id."""
        self._finished_notes = {}
        self.read(events)
        return self._finished_notes

    def _handlers(self) -> tuple[dict[str, _Handler], dict[str, _Handler]]:
        left_out = {
            "del": LeftOut.DELETIONS,
            "rt": LeftOut.RUBY,
            "object": LeftOut.OBJECTS,
            "subDoc": LeftOut.LINKED,
        }
        starts: dict[str, _Handler] = {
            "document": self._start_document,
            "p": self._start_paragraph,
            "txbxContent": self._start_flow,
            "tc": self._start_flow,
            "footnote": self._start_flow,
            "endnote": self._start_flow,
            "tr": lambda _: self._rows.append([]),
            "moveFrom": self._leave_out,
            "altChunk": self._insert_related,
            **dict.fromkeys(left_out, lambda each: self._count_out(each, left_out)),
        }
        ends: dict[str, _Handler] = {
            "r": self._end_run,
            "p": self._end_paragraph,
            "sectPr": self._end_section,
            "txbxContent": self._end_text_box,
            "tc": self._end_cell,
            "trPr": self._end_row_properties,
            "tr": self._end_row,
            "tbl": forget,
            "footnote": self._end_note,
            "endnote": self._end_note,
        }
        return (
            _by_tag(WORD, starts)
            | _by_tag(_MATH, dict.fromkeys(_MATH_SIGNS, self._start_math_part))
            | _by_tag(_COMPATIBILITY, {
                "AlternateContent": lambda _: self._choices.append(False),
                "Choice": self._start_alternative,
                "Fallback": self._start_alternative,
            }),
            _by_tag(WORD, ends)
            | _by_tag(_MATH, {"t": self._end_math_text})
            | _by_tag(_COMPATIBILITY, {"AlternateContent": lambda _: self._choices.pop()})
            | _by_tag(_PICTURE, {"pic": lambda _: self.left_out.update((LeftOut.PICTURES,))})
            | _by_tag(_VML, {
                "imagedata": lambda _: self.left_out.update((LeftOut.PICTURES,)),
                "textpath": lambda each: self._paragraph().add(each.get("string", "")),
            })
            | _by_tag(_DIAGRAM, {"relIds": self._insert_related})
            | _by_tag(_CHART, {"chart": self._insert_related}),
        )  # fmt: skip

    def _in_run(self) -> dict[str, _RunHandler]:
        in_word: dict[str, _RunHandler] = {
            "rPr": Paragraph.set_run,
            "t": lambda paragraph, each: paragraph.add_text(each.text or ""),
            "instrText": lambda paragraph, each: paragraph.add_code(each.text or ""),
            "fldChar": Paragraph.mark_field,
            "sym": Paragraph.add_sign,
            "tab": lambda paragraph, _: paragraph.add("\t"),
            "ptab": lambda paragraph, _: paragraph.add("\t"),
            "br": lambda paragraph, _: paragraph.add("\n"),
            "cr": lambda paragraph, _: paragraph.add("\n"),
            "noBreakHyphen": lambda paragraph, _: paragraph.add("-"),
            "footnoteReference": lambda paragraph, each: self._refer(paragraph, each, FOOTNOTE),
            "endnoteReference": lambda paragraph, each: self._refer(paragraph, each, ENDNOTE),
            "commentReference": lambda _, __: self.left_out.update((LeftOut.COMMENTS,)),
        }
        return (
            _by_tag(WORD, in_word)
            | _by_tag(_EXTENDED_SIGNS, {"symEx": Paragraph.add_sign})
            | _by_tag(_COMPATIBILITY, {"AlternateContent": self._read_alternative})
        )

    def _start_document(self, _: _Element) -> None:
        self.is_word = True

    # --- leaving out ---------------------------------------------------------------------------

    def _leave_out(self, element: _Element) -> None:
        # In properties these are empty and say what became of a mark or a row.
        if local_name(_parent(element)) not in ("rPr", "trPr"):
            self._leaving_out = element

    def _count_out(self, element: _Element, kinds: dict[str, LeftOut]) -> None:
        self._leave_out(element)
        if self._leaving_out is not None:
            self.left_out[kinds[local_name(element)]] += 1

    def _start_alternative(self, element: _Element) -> None:
        if self._choices and not self._choices[-1]:
            self._choices[-1] = True
        elif self._choices:
            self._leaving_out = element

    def _discard(self, element: _Element) -> None:
        if element.tag in _ROW_TAGS:
            self._rows.pop()

    # --- paragraphs ----------------------------------------------------------------------------

    def _paragraph(self) -> Paragraph:
        """The one that is open; a new one for words that stand outside of any."""
        flow = self._flows[-1]
        if not flow.open:
            flow.open.append(Paragraph(None, self._styles, flow.fields, self.left_out))
        paragraph = flow.open[-1]
        paragraph.settle()
        return paragraph

    def _start_paragraph(self, element: _Element) -> None:
        flow = self._flows[-1]
        flow.open.append(Paragraph(element, self._styles, flow.fields, self.left_out))

    def _end_run(self, element: _Element) -> None:
        paragraph = self._paragraph()
        paragraph.begin_run()
        self._read_run(paragraph, element)
        own_mark = paragraph.end_run()
        if own_mark is not None and self._marked is not None:
            self._marked.own_mark = without_places(own_mark).strip() or "*"

    def _read_run(self, paragraph: Paragraph, element: _Element) -> None:
        for each in element:
            handle = self._of_runs.get(each.tag)
            if handle is not None:
                handle(paragraph, each)

    def _read_alternative(self, paragraph: Paragraph, element: _Element) -> None:
        chosen = next(element.iterchildren(*_ALTERNATIVES), None)
        if chosen is not None:
            self._read_run(paragraph, chosen)

    def _end_paragraph(self, element: _Element) -> None:
        self._close_paragraph()
        forget(element)

    def _close_paragraph(self) -> None:
        flow = self._flows[-1]
        paragraph = flow.open.pop()
        paragraph.settle()
        text = flow.carried + paragraph.take_text()
        after = [*flow.carried_after, *paragraph.after]
        self.unknown_signs += paragraph.unknown_signs
        if paragraph.joins_next:
            flow.carried, flow.carried_after = text, after
            return
        flow.carried, flow.carried_after = "", []
        block = self._finished(paragraph, text)
        flow.emit([block, *after] if block is not None else after)

    def _finished(self, paragraph: Paragraph, raw: str) -> Block | None:
        text = raw.strip()
        if "\n" in text:
            text = "\n".join(line.strip() for line in text.split("\n"))
            text = _EMPTY_LINES.sub("\n\n", text)
        place = paragraph.list_place
        label = ""
        if place is not None and place.num_id != NO_LIST and (text or not paragraph.mark_hidden):
            label = self._numbering.label(place)
        if not text:
            return None
        style = paragraph.style
        rank = paragraph.rank if len(text) <= _HEADING_CHARS else 0
        return Block(
            text=label + text,
            rank=rank if without_places(text).strip() else 0,
            role=style.role,
            is_title=style.is_title,
            tight=style.role is Role.CONTENTS,
            runs_on=paragraph.runs_on,
        )

    # --- flows, tables, notes ------------------------------------------------------------------

    def _start_flow(self, _: _Element) -> None:
        self._flows.append(Flow())

    def _end_flow(self) -> list[Block]:
        flow = self._flows[-1]
        while flow.open:
            self._close_paragraph()
        self._flows.pop()
        if flow.carried.strip():
            flow.blocks.append(Block(flow.carried.strip()))
        return [*flow.blocks, *flow.carried_after]

    def _end_text_box(self, element: _Element) -> None:
        blocks = self._end_flow()
        self._flows[-1].emit(blocks)
        forget(element)

    def _end_cell(self, element: _Element) -> None:
        blocks = self._end_flow()
        if child(element, "tcPr", "cellDel") is not None:
            return
        if self._rows:
            self._rows[-1].append(blocks)
        else:
            self._flows[-1].emit(blocks)

    def _end_row_properties(self, element: _Element) -> None:
        if child(element, "del") is not None and _parent(element).tag in _ROW_TAGS:
            self._leaving_out = _parent(element)

    def _end_row(self, element: _Element) -> None:
        cells = [cell for cell in self._rows.pop() if cell]
        self._flows[-1].emit(row_blocks(cells))
        forget(element)

    def _refer(self, paragraph: Paragraph, element: _Element, kind: str) -> None:
        note_id = attribute(element, "id")
        if note_id is None:
            return
        place = self.notes[kind].refer(note_id)
        if is_on_value(attribute(element, "customMarkFollows")):
            self._marked = self.notes[kind].references[-1]
            self._marked.own_mark = "*"
            paragraph.expect_own_mark()
        else:
            paragraph.add(place)

    def _end_note(self, element: _Element) -> None:
        blocks = self._end_flow()
        self._finished_notes[attribute(element, "id") or ""] = blocks
        forget(element)

    def _end_section(self, element: _Element) -> None:
        if local_name(_parent(element)) == "sectPrChange":
            return
        for notes in self.notes.values():
            notes.end_section(element)
        for each in element:
            if local_name(each) in ("headerReference", "footerReference"):
                self.header_ids.append(attribute(each, "id", RELATIONS) or "")

    # --- drawings and formulas -----------------------------------------------------------------

    def _insert_related(self, element: _Element) -> None:
        names = ("dm", "id")  # a diagram's own data, else the part itself
        rel_id = next(
            (found for name in names if (found := attribute(element, name, RELATIONS))), ""
        )
        self._flows[-1].emit(self._related(rel_id))

    def _start_math_part(self, element: _Element) -> None:
        self._math_sign = _MATH_SIGNS[local_name(element)]

    def _end_math_text(self, element: _Element) -> None:
        self._paragraph().add_text(self._math_sign + (element.text or ""))
        self._math_sign = ""


def _by_tag(namespaces: Collection[str], handlers: dict[str, _T]) -> dict[str, _T]:
    return {tag: handlers[name] for tag, name in qualified(namespaces, handlers).items()}


def _parent(element: _Element) -> _Element:
    parent = element.getparent()
    return element if parent is None else parent
