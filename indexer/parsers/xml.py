"""XML: which vocabulary a file is in, and its document.

JATS and NLM (papers), TEI (editions, GROBID's papers), Akoma Ntoso and its like (statutes,
judgments) are read by what their elements mean; any other XML gives the text of its elements with a
warning. XHTML is a web page: its parser reads it. The tree itself is `xml_tree`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, TypeAlias

from longleaf.core.errors import NoTextFound, Rejected, RejectReason
from longleaf.core.protocols import NO_CONTEXT, ParseContext
from longleaf.core.types import Document, MetaValue, Rejection
from longleaf.indexer.parsers.blocks import Blocks
from longleaf.indexer.parsers.decode import clean
from longleaf.indexer.parsers.html import HtmlParser
from longleaf.indexer.parsers.sections import title_from
from longleaf.indexer.parsers.xml_generic import read_generic
from longleaf.indexer.parsers.xml_jats import read_jats
from longleaf.indexer.parsers.xml_law import is_law, read_law
from longleaf.indexer.parsers.xml_tei import read_tei
from longleaf.indexer.parsers.xml_tree import Entities, local, read_tree

if TYPE_CHECKING:
    from lxml.etree import _Element

Reading: TypeAlias = tuple[str, Mapping[str, MetaValue], tuple[str, ...]]
"""Title, metadata and warnings of what was written into the blocks."""

_JATS_ROOTS = frozenset(("article", "book-part", "book-part-wrapper", "sub-article"))
_JATS_PARTS = ("front", "body", "book-part-meta", "front-stub")
_TEI_ROOTS = frozenset(("tei", "teicorpus", "tei.2"))
_XHTML = "http://www.w3.org/1999/xhtml"


class XmlParser:
    """A `core.protocols.Parser` for XML."""

    media_type = "application/xml"
    suffixes: tuple[str, ...] = (".xml", ".nxml", ".tei", ".akn")

    def parse(
        self, data: bytes, name: str, context: ParseContext = NO_CONTEXT
    ) -> Iterator[Document | Rejection]:
        """One document.

        Raises `Rejected` (EMPTY, MALFORMED, EXPANDS, TOO_LARGE, TOO_MUCH_MEMORY) and `NoTextFound`.
        """
        name = clean(name).text
        tree = read_tree(data, name)
        if tree.root.tag == f"{{{_XHTML}}}html":
            yield from HtmlParser().parse(data, name, context)
            return
        blocks = Blocks()
        title, metadata, notes = _reader_of(tree.root)(tree.root, tree.entities, blocks)
        built = blocks.finish()
        if not built.text:
            if tree.broken:
                raise Rejected(
                    RejectReason.MALFORMED, f"{name} is broken XML without text: {tree.broken}."
                )
            raise NoTextFound(f"{name} is XML without any text in its elements.")
        yield Document(
            text=built.text,
            title=title or title_from(built.text, name),
            sections=built.sections,
            metadata=metadata,
            regions=built.regions,
            warnings=(*tree.warnings, *tree.entities.warnings(), *notes),
        )


def _reader_of(root: _Element) -> Callable[[_Element, Entities, Blocks], Reading]:
    tag = local(root)
    if tag in _JATS_ROOTS and any(root.find(f"{{*}}{part}") is not None for part in _JATS_PARTS):
        return read_jats
    if tag in _TEI_ROOTS:
        return read_tei
    if is_law(root):
        return read_law
    return read_generic
