"""DOCX: the words of a Word document with the numbers Word shows, its headings as sections.

Read from the package's XML itself: python-docx, which opens the same files, knows nothing of list
numbers, notes, text boxes, tracked changes and fields, and expands every picture first (it is the
tests' second opinion). Sections are paragraphs whose style, or outline level, says that they are
headings; a document without any gets those that its lines look like. Footnotes and endnotes stand
behind the text. Word stores no pages, so there are none. Left out, and said in a warning where
there is any: comments, deleted and hidden text, embedded files, headers and footers with words that
the text lacks. Pictures are not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from longleaf.core.errors import NoTextFound, Rejected, RejectReason
from longleaf.core.protocols import NO_CONTEXT, ParseContext
from longleaf.core.types import Document, Region, Rejection, Role
from longleaf.indexer.parsers.conversion import as_docx, true_suffix
from longleaf.indexer.parsers.decode import clean, refuse_empty
from longleaf.indexer.parsers.docx_body import StoryReader
from longleaf.indexer.parsers.docx_notes import (
    ENDNOTE,
    FOOTNOTE,
    NoteStyle,
    style_in,
    with_marks,
    without_places,
)
from longleaf.indexer.parsers.docx_numbering import Numbering
from longleaf.indexer.parsers.docx_paragraph import Block, LeftOut
from longleaf.indexer.parsers.docx_parts import WORD, Parts, qualified
from longleaf.indexer.parsers.docx_properties import (
    TITLE_WITHIN_BLOCKS,
    core_properties,
    metadata_of,
    title_of,
)
from longleaf.indexer.parsers.docx_related import RelatedParts
from longleaf.indexer.parsers.docx_styles import Styles
from longleaf.indexer.parsers.headings import sections_of
from longleaf.indexer.parsers.sections import Mark, nest, shorten, title_from

_ALNUM = re.compile(r"[^\W_]")
_WORDS = re.compile(r"[^\W\d_]{2,}")
_FEW_CHARS = 200  # a document with pictures and less text than this is probably a pasted scan
_EARLY = 10  # in the first tenth of the text


class DocxParser:
    """A `core.protocols.Parser` for Word documents and templates since Word 2007."""

    media_type = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    suffixes: tuple[str, ...] = (".docx", ".docm", ".dotx", ".dotm")

    def parse(
        self, data: bytes, name: str, context: ParseContext = NO_CONTEXT
    ) -> Iterator[Document | Rejection]:
        """One document. Raises `Rejected`: EMPTY, ENCRYPTED, MALFORMED, EXPANDS; `NoTextFound`."""
        name = clean(name).text
        refuse_empty(data, name)
        if (suffix := true_suffix(data, "")) != "":
            data = as_docx(data, name, suffix, context)  # an older file under a newer name
        yield read_docx(data, name)


def read_docx(data: bytes, name: str) -> Document:
    """The document that the package `data` holds. Raises as `DocxParser.parse`."""
    return _Reader(data, name).document()


@dataclass(slots=True)
class _Text:
    """Blocks laid one after the other, with what is to be known of their places."""

    parts: list[str] = field(default_factory=list)
    chars: int = 0
    marks: list[Mark] = field(default_factory=list)
    regions: list[Region] = field(default_factory=list)
    _last: Block | None = None

    def add(self, block: Block, text: str) -> None:
        if (last := self._last) is not None:
            self._append(" " if last.runs_on else "\n" if last.tight and block.tight else "\n\n")
        if block.rank:
            title = shorten(without_places(block.text))
            self.marks.append(Mark(title, block.rank, self.chars))
        if block.role is not Role.BODY:
            self._mark_region(block.role, len(text))
        self._append(text)
        self._last = block

    def _mark_region(self, role: Role, chars: int) -> None:
        start = self.chars
        last = self.regions[-1] if self.regions else None
        # Neighbours of one role are one region; at most a paragraph's gap lies between them.
        if last is not None and last.role is role and last.end_char + 2 >= start:
            start = self.regions.pop().start_char
        self.regions.append(Region(role, start, self.chars + chars))

    def _append(self, text: str) -> None:
        self.parts.append(text)
        self.chars += len(text)


class _Reader:
    """One document's way from its package to a `Document`."""

    def __init__(self, data: bytes, name: str) -> None:
        self._name = name
        self._parts = Parts(data, name)
        self._warnings: list[str] = []
        self._styles = Styles()
        self._numbering = Numbering(self._styles)
        self._load_styles()
        self._story = StoryReader(self._styles, self._numbering, self._related)
        self._related_parts = RelatedParts(self._parts, self._story.left_out)

    def _load_styles(self) -> None:
        for kind in ("styles", "numbering"):
            part = self._parts.related(self._parts.main, kind)
            try:
                if kind == "styles":
                    self._styles = Styles(self._parts, part)
                self._numbering = Numbering(
                    self._styles, self._parts, part if kind == "numbering" else None
                )
            except Rejected as failure:
                self._survive(failure)

    def _survive(self, failure: Rejected) -> None:
        """Go on without a part that only says more about the text, unless it is an attack."""
        if failure.reason is not RejectReason.MALFORMED:
            raise failure
        self._warnings.append(f"read without a part: {failure.message}")

    def _related(self, rel_id: str) -> list[Block]:
        return self._related_parts.blocks(rel_id)

    def document(self) -> Document:
        story = self._story
        blocks = story.read(self._parts.events(self._parts.main, story.tags(), ("start", "end")))
        if not story.is_word:
            raise Rejected(
                RejectReason.MALFORMED,
                f"{self._name} is an Office file, but no Word document.",
            )
        notes, marks = self._notes()
        text = _Text()
        for block in blocks:
            text.add(block, with_marks(block.text, marks))
        body_chars = text.chars
        for block in notes:
            text.add(block, block.text)
        whole = "".join(text.parts)
        if _ALNUM.search(whole) is None:
            blocks = list(self._header_blocks())
            for block in blocks:
                text.add(block, without_places(block.text))
            whole = "".join(text.parts)
            body_chars = text.chars
            self._warnings.append("all of its words stand in headers and footers")
        if _ALNUM.search(whole) is None:
            raise self._no_text()
        sections = nest(text.marks, body_chars) or sections_of(whole[:body_chars])
        core: dict[str, str] = {}
        try:
            core = core_properties(self._parts)
        except Rejected as failure:
            self._survive(failure)
        return Document(
            text=whole,
            title=self._title(blocks, core.get("title", ""), text),
            sections=sections,
            metadata=metadata_of(core),
            regions=tuple(text.regions),
            warnings=(*self._warnings, *self._what_was_left_out(whole)),
        )

    def _title(self, blocks: Sequence[Block], stated: str, text: _Text) -> str:
        if shown := title_of(blocks, stated):
            return shown
        first = min(text.marks, key=lambda mark: mark.rank, default=None)
        if first is not None and first.start_char < text.chars // _EARLY:
            return first.title
        first_blocks = blocks[:TITLE_WITHIN_BLOCKS]
        lines = [block for block in first_blocks if not block.is_row] or first_blocks
        start = "\n".join(without_places(block.text) for block in lines)
        return title_from(start, self._name)

    # --- notes ---------------------------------------------------------------------------------

    def _notes(self) -> tuple[list[Block], Mapping[str, list[str]]]:
        """The notes that the text refers to, in its order, and what the references show."""
        blocks: list[Block] = []
        marks: dict[str, list[str]] = {}
        settings = self._note_settings()
        for kind, notes in self._story.notes.items():
            marks[kind] = notes.marks(settings[kind])
            if notes.restarts_on_pages(settings[kind]):
                self._warnings.append(
                    f"{kind} numbers restart on each page in Word; here they count on"
                )
            found = self._note_blocks(kind) if notes.references else {}
            if lost := {each.note_id for each in notes.references} - set(found):
                self._warnings.append(f"{kind}s that the file does not hold: {len(lost):,}")
            for reference, mark in zip(notes.references, marks[kind], strict=True):
                blocks += _note(found.pop(reference.note_id, []), mark)
        return blocks, marks

    def _note_blocks(self, kind: str) -> dict[str, list[Block]]:
        part = self._parts.related(self._parts.main, f"{kind}s")
        if part is None:
            return {}
        reader = StoryReader(self._styles, self._numbering, lambda _: [])
        try:
            found = reader.read_notes(self._parts.events(part, reader.tags(), ("start", "end")))
        except Rejected as failure:
            self._survive(failure)
            return {}
        self._story.left_out += reader.left_out
        self._story.unknown_signs += reader.unknown_signs
        return found

    def _note_settings(self) -> dict[str, NoteStyle]:
        part = self._parts.related(self._parts.main, "settings")
        kinds = (FOOTNOTE, ENDNOTE)
        found = dict.fromkeys(kinds, NoteStyle())
        if part is None or not any(notes.references for notes in self._story.notes.values()):
            return found
        try:
            for _, element in self._parts.events(part, qualified(WORD, ("settings",))):
                found = {kind: style_in(element, kind) for kind in kinds}
        except Rejected as failure:
            self._survive(failure)
        return found

    # --- what else is in the package -----------------------------------------------------------

    def _what_was_left_out(self, text: str) -> Iterator[str]:
        left_out = self._story.left_out
        for kind in LeftOut:
            if left_out[kind] and kind is not LeftOut.PICTURES:
                yield f"{kind.value} left out: {left_out[kind]:,}"
        if left_out[LeftOut.PICTURES] and len(text) < _FEW_CHARS:
            yield f"almost no text, and pictures: {left_out[LeftOut.PICTURES]:,}"
        if signs := self._story.unknown_signs:
            yield f"{signs:,} signs of symbol fonts have no Unicode value: replaced by U+FFFD"
        if unknown := sorted(self._numbering.unknown_formats):
            yield f"list numbers in formats unknown here are shown as digits: {', '.join(unknown)}"
        yield from self._related_parts.warnings
        header = self._header_words(text)
        if header:
            yield f"headers and footers left out, among them: {header!r}"

    def _header_words(self, text: str) -> str:
        """The first header or footer line with words that the text has not; "" if none."""
        lowered = ""
        for block in self._header_blocks():
            line = without_places(block.text)
            lowered = lowered or text.lower()
            if any(word not in lowered for word in _WORDS.findall(line.lower())):
                return shorten(line, 80)
        return ""

    def _header_blocks(self) -> Iterator[Block]:
        """The blocks of all headers and footers that sections show, each part once."""
        relations = self._parts.relations(self._parts.main)
        parts = (relations[each].target for each in self._story.header_ids if each in relations)
        for part in dict.fromkeys(parts):
            if part is None:
                continue
            reader = StoryReader(self._styles, Numbering(self._styles), lambda _: [])
            try:
                yield from reader.read(self._parts.events(part, reader.tags(), ("start", "end")))
            except Rejected as failure:
                self._survive(failure)

    def _no_text(self) -> NoTextFound:
        left_out = self._story.left_out
        held = ", ".join(f"{kind.value}: {left_out[kind]:,}" for kind in LeftOut if left_out[kind])
        hint = "If its pictures are a scan, save it as PDF and run OCR on that."
        return NoTextFound(
            f"{self._name} holds no text{f' ({held})' if held else ''}.",
            hint if left_out[LeftOut.PICTURES] else "",
        )


def _note(blocks: list[Block], mark: str) -> Iterator[Block]:
    """A note's blocks as they stand behind the text, its mark in front."""
    shown = f"[{mark}] " if mark else ""
    for at, block in enumerate(blocks or [Block("")]):
        text = without_places(block.text)
        if text.strip():
            yield Block(text if at else shown + text, role=Role.FOOTNOTE)
