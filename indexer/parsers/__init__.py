"""Which parser reads a file: by its suffix, and by its first bytes where the suffix says nothing.

A parser's library loads when it first parses, not here.
"""

from __future__ import annotations

import re
from pathlib import PurePath

from longleaf.core.errors import Rejected, RejectReason
from longleaf.core.protocols import Parser
from longleaf.indexer.parsers.conversion import OLE_MARK, RTF_MARK, ZIP_MARK, is_old_word
from longleaf.indexer.parsers.csv import CsvParser
from longleaf.indexer.parsers.decode import clean, looks_binary, refuse_empty
from longleaf.indexer.parsers.docx import DocxParser
from longleaf.indexer.parsers.epub import EpubParser
from longleaf.indexer.parsers.html import HtmlParser
from longleaf.indexer.parsers.image import JPEG, PNG, TIFF
from longleaf.indexer.parsers.jsonl import JsonlParser
from longleaf.indexer.parsers.latex import LatexParser
from longleaf.indexer.parsers.mail import EmlParser, MsgParser
from longleaf.indexer.parsers.mail_box import MboxParser
from longleaf.indexer.parsers.mail_kind import looks_like_mail, looks_like_msg
from longleaf.indexer.parsers.markdown import MarkdownParser
from longleaf.indexer.parsers.office import OFFICE_PARSERS
from longleaf.indexer.parsers.pdf import PdfParser
from longleaf.indexer.parsers.text import TextParser
from longleaf.indexer.parsers.xml import XmlParser
from longleaf.indexer.parsers.zipped import Kind, kind_of

_PDF, _HTML, _TEXT = PdfParser(), HtmlParser(), TextParser()
_DOCX, _EPUB = DocxParser(), EpubParser()
_XML, _LATEX, _EML, _MSG, _MBOX = XmlParser(), LatexParser(), EmlParser(), MsgParser(), MboxParser()
_DOC, _RTF, _ODT, *_OTHER_OFFICE = OFFICE_PARSERS
PARSERS: tuple[Parser, ...] = (
    *(_PDF, _HTML, MarkdownParser(), JsonlParser(), _TEXT, _DOCX, _EPUB, CsvParser()),
    *(_XML, _LATEX, _EML, _MSG, _MBOX),
    *OFFICE_PARSERS,
    *(PNG, JPEG, TIFF),
)

_BY_SUFFIX = {suffix: parser for parser in PARSERS for suffix in parser.suffixes}
_PDF_MAGIC_BYTES = 1_024  # the header may stand anywhere in the first kilobyte
_HTML_START = re.compile(
    rb"\s*(?:<!--.*?-->\s*|<\?xml[^>]*>\s*)*<(?:!doctype\s+html|html)\b", re.I | re.S
)
_IN_ZIP: dict[Kind, Parser] = {Kind.WORD: _DOCX, Kind.EPUB: _EPUB, Kind.WRITER: _ODT}
_LATEX_START = re.compile(rb"^[ \t]*\\document(?:class|style)\b", re.MULTILINE)
_PICTURES: tuple[tuple[bytes, Parser], ...] = (
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"\xff\xd8\xff", JPEG),
    (b"II*\0", TIFF),
    (b"MM\0*", TIFF),
)
_REFUSED_STARTS = (
    (OLE_MARK, "an old Office document, but none of Word's"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"%!PS", "PostScript"),
)


def parser_for(name: str, data: bytes) -> Parser:
    """The parser for a file called `name`. Raises `Rejected` (UNSUPPORTED, EMPTY).

    A known suffix decides, whatever the bytes are; its parser then says what is wrong with them.
    """
    known = _BY_SUFFIX.get(PurePath(name).suffix.lower())
    head = data[:8_192].removeprefix(b"\xef\xbb\xbf")
    if known is not None:
        return _HTML if known is _XML and _HTML_START.match(head) is not None else known
    name = clean(name).text
    refuse_empty(data, name)
    if b"%PDF-" in data[:_PDF_MAGIC_BYTES]:
        return _PDF
    if _HTML_START.match(head) is not None:
        return _HTML
    if head.startswith(RTF_MARK):
        return _RTF
    if head.startswith(OLE_MARK) and looks_like_msg(data):
        return _MSG  # before Word, which may be attached
    if is_old_word(data):
        return _DOC
    for magic, parser in _PICTURES:
        if data.startswith(magic):
            return parser
    if head.lstrip().startswith(b"<?xml"):
        return _XML
    if looks_like_mail(head):
        return _MBOX if head.startswith(b"From ") else _EML
    if _LATEX_START.search(head) is not None:
        return _LATEX
    seen = next((what for magic, what in _REFUSED_STARTS if head.startswith(magic)), "")
    if data.startswith(ZIP_MARK):
        kind = kind_of(data, name)
        if (inside := _IN_ZIP.get(kind)) is not None:
            return inside
        seen = kind.value
    if not seen and not looks_binary(data):
        return _TEXT
    raise Rejected(
        RejectReason.UNSUPPORTED,
        f"{name} is {seen or 'binary data of an unknown type'}, which cannot be read yet.",
        f"Supported: {', '.join(sorted(_BY_SUFFIX))}, and plain text with any suffix.",
    )
