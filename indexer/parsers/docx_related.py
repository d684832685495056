"""Parts that stand in a document's text without being Word's: charts, diagrams, imported pages.

Of a chart its title, labels and categories are read, not its numbers; of a diagram its words;
of an imported part (`altChunk`, which report generators write) HTML, MHTML and plain text. Other
imported files are counted and left out; packages inside the package are never opened.
"""

from __future__ import annotations

import email
import email.policy
from collections import Counter
from typing import TYPE_CHECKING

from longleaf.core.errors import Rejected, RejectReason
from longleaf.indexer.parsers.decode import decode
from longleaf.indexer.parsers.docx_paragraph import Block, LeftOut
from longleaf.indexer.parsers.docx_parts import Parts, forget
from longleaf.indexer.parsers.html import read_page

if TYPE_CHECKING:
    from longleaf.indexer.parsers.sections import Mark

_DRAWING = (
    "http://schemas.openxmlformats.org/drawingml/2006/main",
    "http://purl.oclc.org/ooxml/drawingml/main",
)
_CHART = (
    "http://schemas.openxmlformats.org/drawingml/2006/chart",
    "http://purl.oclc.org/ooxml/drawingml/chart",
)
_PARAGRAPHS = [f"{{{space}}}p" for space in _DRAWING]
_TEXTS = [f"{{{space}}}t" for space in _DRAWING]
_LABELS = [f"{{{space}}}strCache" for space in _CHART]
_LABEL_VALUES = [f"{{{space}}}v" for space in _CHART]

_PAGE_SUFFIXES = (".html", ".htm", ".xhtml")
_TEXT_SUFFIXES = (".txt",)
_ARCHIVE_SUFFIXES = (".mht", ".mhtml")


class RelatedParts:
    """The blocks of parts that the main part refers to by relationship ids."""

    def __init__(self, parts: Parts, left_out: Counter[LeftOut]) -> None:
        self.warnings: list[str] = []
        self._parts = parts
        self._left_out = left_out

    def blocks(self, rel_id: str) -> list[Block]:
        """What stands at the reference, in reading order; a part that cannot be read is counted."""
        relation = self._parts.relations(self._parts.main).get(rel_id)
        if relation is None or relation.target is None:
            self._left_out[LeftOut.LINKED] += 1
            return []
        try:
            if relation.kind == "aFChunk":
                return self._imported(relation.target)
            return self._drawn(relation.target)
        except Rejected as failure:
            if failure.reason is RejectReason.EXPANDS:
                raise
            self.warnings.append(f"left out: {failure.message}")
            return []

    def _drawn(self, part: str) -> list[Block]:
        """A chart's or a diagram's words, a line for each of its paragraphs or lists of labels."""
        lines: list[str] = []
        for _, element in self._parts.events(part, [*_PARAGRAPHS, *_LABELS]):
            if element.tag in _LABELS:
                values = [each.text or "" for each in element.iter(*_LABEL_VALUES)]
                lines.append("; ".join(" ".join(value.split()) for value in values))
            else:
                said = "".join(each.text or "" for each in element.iter(*_TEXTS))
                lines.append(" ".join(said.split()))
            forget(element)
        return [Block(line, tight=True) for line in lines if line]

    def _imported(self, part: str) -> list[Block]:
        name = part.lower()
        data, is_page = b"", False
        if name.endswith((*_PAGE_SUFFIXES, *_TEXT_SUFFIXES, *_ARCHIVE_SUFFIXES)):
            data, is_page = self._parts.package.read(part), name.endswith(_PAGE_SUFFIXES)
        if name.endswith(_ARCHIVE_SUFFIXES):
            data, is_page = _page_in_mhtml(data)
        if not data:
            self._left_out[LeftOut.OBJECTS] += 1
            return []
        if is_page:
            page = read_page(data, part)
            self.warnings += page.warnings
            return _blocks_of(page.text, {mark.start_char: mark for mark in page.marks})
        decoded = decode(data, part)
        self.warnings += decoded.warnings
        return _blocks_of(decoded.text, {})


def _page_in_mhtml(data: bytes) -> tuple[bytes, bool]:
    """(the first page or text of a web archive, whether it is a page); b"" where there is none."""
    try:
        parts = email.message_from_bytes(data, policy=email.policy.compat32).walk()
        for part in parts:
            kind = part.get_content_type()
            payload = part.get_payload(decode=True)
            if kind in ("text/html", "text/plain") and isinstance(payload, bytes):
                return payload, kind == "text/html"
    except (ValueError, LookupError, RecursionError):
        pass  # no mail format that Python can take apart; the caller counts it
    return b"", False


def _blocks_of(text: str, headings: dict[int, Mark]) -> list[Block]:
    blocks = []
    at = 0
    for paragraph in text.split("\n\n"):
        words = paragraph.strip()
        if words:
            mark = headings.get(at + paragraph.index(words))
            blocks.append(Block(words, rank=0 if mark is None else mark.rank))
        at += len(paragraph) + 2
    return blocks
