"""DOC, RTF, ODT and their kin: turned into DOCX by LibreOffice, then read as one.

The bytes decide over the suffix, because for twenty years programs have saved RTF, HTML, DOCX and
plain text under ".doc": what needs no conversion is read as what it is. What LibreOffice loses on
the way is lost here; numbered lists, notes, tracked changes and text boxes it keeps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePath

from longleaf.core.protocols import NO_CONTEXT, ParseContext
from longleaf.core.types import Document, Rejection
from longleaf.indexer.parsers.conversion import ZIP_MARK, as_docx, true_suffix
from longleaf.indexer.parsers.decode import clean, looks_binary, refuse_empty
from longleaf.indexer.parsers.docx import read_docx
from longleaf.indexer.parsers.html import HtmlParser
from longleaf.indexer.parsers.text import TextParser
from longleaf.indexer.parsers.zipped import Kind, kind_of

_HEAD_BYTES = 1_024
_HTML = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE)
_BINARY_OR_MARKED = re.compile(rb"\s*(?:<\?xml|<w:|\{\\rtf|\xffWPC|WordPro)")


class OfficeParser:
    """A `core.protocols.Parser` for one kind of office file; the first suffix is the usual one."""

    def __init__(self, media_type: str, suffixes: tuple[str, ...]) -> None:
        self.media_type = media_type
        self.suffixes = suffixes

    def parse(
        self, data: bytes, name: str, context: ParseContext = NO_CONTEXT
    ) -> Iterator[Document | Rejection]:
        """One document. Raises `Rejected` (EMPTY, NEEDS_PROGRAM, ENCRYPTED, MALFORMED, EXPANDS, and
        what the converter raises) and `NoTextFound`.
        """
        name = clean(name).text
        refuse_empty(data, name)
        suffix = PurePath(name).suffix.lower()
        suffix = true_suffix(data, suffix if suffix in self.suffixes else self.suffixes[0])
        if data.startswith(ZIP_MARK) and kind_of(data, name) is Kind.WORD:
            yield read_docx(data, name)
        elif _HTML.match(data[:_HEAD_BYTES]):
            yield from HtmlParser().parse(data, name, context)
        elif self._is_plain_text(data):
            yield from TextParser().parse(data, name, context)
        else:
            yield read_docx(as_docx(data, name, suffix, context), name)

    def _is_plain_text(self, data: bytes) -> bool:
        return _BINARY_OR_MARKED.match(data[:_HEAD_BYTES]) is None and not looks_binary(data)


OFFICE_PARSERS = (
    OfficeParser("application/msword", (".doc", ".dot")),
    OfficeParser("application/rtf", (".rtf",)),
    OfficeParser("application/vnd.oasis.opendocument.text", (".odt", ".ott", ".fodt")),
    OfficeParser("application/vnd.sun.xml.writer", (".sxw", ".stw")),
    OfficeParser("application/vnd.wordperfect", (".wpd",)),
    OfficeParser("application/vnd.ms-works", (".wps",)),
)
