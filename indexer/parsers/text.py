"""Plain text: any encoding that `decode` knows, headings by their look, form feeds as page breaks.

The text is the file's own, with "\\n" line ends; nothing is re-wrapped, so offsets are those of
the file in an editor.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from longleaf.core.errors import Rejected, RejectReason
from longleaf.core.protocols import NO_CONTEXT, ParseContext
from longleaf.core.types import Document, Page, Rejection
from longleaf.indexer.parsers.decode import clean, decode
from longleaf.indexer.parsers.headings import sections_of
from longleaf.indexer.parsers.sections import title_from


class TextParser:
    """A `core.protocols.Parser` for plain text."""

    media_type = "text/plain"
    suffixes: tuple[str, ...] = (".txt", ".text", ".log", ".rst")

    def parse(
        self, data: bytes, name: str, context: ParseContext = NO_CONTEXT
    ) -> Iterator[Document | Rejection]:
        """One document. Raises `Rejected`: EMPTY, MALFORMED (binary data)."""
        name = clean(name).text
        decoded = decode(data, name)
        refuse_blank(decoded.text, name)
        yield Document(
            text=decoded.text,
            title=title_from(decoded.text, name),
            pages=pages_by_form_feed(decoded.text),
            sections=sections_of(decoded.text),
            warnings=decoded.warnings,
        )


def refuse_blank(text: str, name: str) -> None:
    """Raise `Rejected(EMPTY)` for text without anything but white space."""
    if not text or text.isspace():
        raise Rejected(RejectReason.EMPTY, f"{name} holds only white space.")


def pages_by_form_feed(text: str) -> tuple[Page, ...]:
    """Pages that a form feed ends (it belongs to the page it ends); none without a form feed."""
    starts = [0] + [at + 1 for at, char in enumerate(text) if char == "\f"]
    if len(starts) == 1:
        return ()
    if starts[-1] < len(text):
        starts.append(len(text))
    return tuple(Page(number, *span) for number, span in enumerate(pairwise(starts), 1))
