r"""LaTeX sources: a paper's own text, without setting it.

Title, author, abstract, sections, lists, tables as rows, captions, footnotes, formulas as readable
text and the bibliography come from `latex_reader`. Other files that it draws in (`\input`,
`\bibliography`) are named in a warning and never opened. Numbers that LaTeX would count (of
sections, figures, references) are not known here; keys stand in their place.

pylatexenc 2.11 takes 3.4 s for a paper of 200 kB and ends in RecursionError at 5,000 braces; this
reader takes 0.2 s and any nesting.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from longleaf.core.errors import NoTextFound
from longleaf.core.protocols import NO_CONTEXT, ParseContext
from longleaf.core.types import Document, MetaValue, Rejection
from longleaf.indexer.parsers.blocks import Blocks
from longleaf.indexer.parsers.decode import clean, decode
from longleaf.indexer.parsers.encodings import codec_named
from longleaf.indexer.parsers.latex_pieces import Macros
from longleaf.indexer.parsers.latex_reader import AND, LatexReader
from longleaf.indexer.parsers.sections import shorten, title_from
from longleaf.indexer.parsers.text import refuse_blank

_PREAMBLE_BYTES = 20_000
_INPUTENC = re.compile(rb"^[^%\n]*\\usepackage\[([\w-]{2,12})\]\{inputenc\}", re.MULTILINE)
_INPUTENC_NAMES = {
    "latin2": "iso-8859-2", "latin3": "iso-8859-3", "latin4": "iso-8859-4", "latin9": "iso-8859-15",
    "latin10": "iso-8859-16", "ansinew": "cp1252", "applemac": "macintosh",
}  # fmt: skip
_MAX_AUTHORS = 200
_NAME_WORDS = (2, 5)
_NO_NAME = re.compile(
    r"[@\d]|\b(?:University|Universit\w+|Institut\w*|Department|School|College)\b"
)
_MARKS = re.compile(r"[\d*†‡§¶∗^,]+$|\$.*$")


class LatexParser:
    """A `core.protocols.Parser` for LaTeX."""

    media_type = "application/x-tex"
    suffixes: tuple[str, ...] = (".tex", ".latex", ".ltx")

    def parse(
        self, data: bytes, name: str, context: ParseContext = NO_CONTEXT
    ) -> Iterator[Document | Rejection]:
        """One document. Raises `Rejected` (EMPTY, MALFORMED, EXPANDS) and `NoTextFound`."""
        name = clean(name).text
        decoded = decode(data, name, _declared(data))
        refuse_blank(decoded.text, name)
        blocks = Blocks()
        reader = LatexReader(decoded.text, Macros.of(name, decoded.text), blocks)
        reader.read()
        built = blocks.finish()
        notes = _notes(reader)
        if not built.text:
            raise NoTextFound(f"{name} is LaTeX without any text of its own.", "; ".join(notes))
        yield Document(
            text=built.text,
            title=shorten(reader.title, 300) or title_from(built.text, name),
            sections=built.sections,
            metadata=_metadata(reader),
            regions=built.regions,
            warnings=(*decoded.warnings, *notes),
        )


def _declared(data: bytes) -> str | None:
    match = _INPUTENC.search(data[:_PREAMBLE_BYTES])
    if match is None:
        return None
    label = match.group(1).decode("ascii", "replace").lower()
    return codec_named(_INPUTENC_NAMES.get(label, label))


def _notes(reader: LatexReader) -> list[str]:
    notes = []
    for what, found in (
        ("other files that it draws in were not read", [*reader.inputs]),
        ("macros with arguments are not expanded", [*reader.unknown_macros]),
    ):
        if found:
            more = f" and {len(found) - 5} more" if len(found) > 5 else ""
            notes.append(f"{what}: {', '.join(found[:5])}{more}")
    if reader.drawings:
        notes.append(f"{reader.drawings} drawings have no text")
    return notes


def _metadata(reader: LatexReader) -> dict[str, MetaValue]:
    metadata: dict[str, MetaValue] = {}
    authors = tuple(dict.fromkeys(_authors(reader)))[:_MAX_AUTHORS]
    if authors:
        metadata["authors"] = authors
    if reader.date:
        metadata["date"] = shorten(reader.date, 100)
    return metadata


def _authors(reader: LatexReader) -> Iterator[str]:
    """Names out of `\\author`: each part's first line, or one line of names with commas between."""
    for part in AND.split(reader.authors_source):
        first = re.split(r"\\\\|\\(?:inst|thanks|affil|address|email)\b", part)[0]
        for name in re.split(r",|\band\b|&", reader.flat(first)):
            name = _MARKS.sub("", name.strip()).strip()
            words = name.split()
            if _NAME_WORDS[0] <= len(words) <= _NAME_WORDS[1] and not _NO_NAME.search(name):
                yield name
