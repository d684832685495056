"""Blocks and running text told from a tree's structure, for vocabularies known little or not.

An element whose own text is only white space holds blocks, one with words and elements side by side
holds running text; names that mean a block everywhere (p, list, table, ...) are one inside a
sentence too. Where nothing more is known, a title-like child that comes first and is short heads
what follows, and attributes are not read; the warning says so, since a machine's data file reads
badly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from longleaf.core.types import MetaValue
from longleaf.indexer.parsers.blocks import LINE, PARAGRAPH, Blocks
from longleaf.indexer.parsers.sections import shorten
from longleaf.indexer.parsers.xml_tables import table_row
from longleaf.indexer.parsers.xml_tree import Entities, TreeReader, entity_name, local, words

if TYPE_CHECKING:
    from lxml.etree import _Element

_RUNNING = frozenset(
    ("p", "para", "head", "heading", "title", "num", "h1", "h2", "h3", "h4", "h5", "h6", "td", "th")
)
BLOCKS = frozenset(
    (
        *("p", "para", "list", "item", "li", "ul", "ol", "dl", "dt", "dd", "table", "tr", "row"),
        *("blocklist", "lg", "l", "figure", "div", "sec", "section", "blockquote", "pre", "br"),
        *("lb", "eol", "quotedstructure", "embeddedstructure", "quotedcontent", "itemizedlist"),
        *("orderedlist", "listitem", "head", "heading", "paragraph", "title", "content", "caption"),
    )
)
_TITLES = frozenset(("title", "head", "heading", "header", "h1", "h2", "h3", "h4", "h5", "h6"))
_ROWS = frozenset(("tr", "row"))
_HEADING_CHARS = 300
_TITLES_LOOKED_AT = 50


class BlockReader(TreeReader):
    """Writes any tree into `out`; subclasses say more of the elements they know.

    `begin` and `end` stand for `enter` and `leave`, which keep account of blocks here. `blocks` are
    the names that part lines inside a sentence as well.
    """

    blocks = BLOCKS

    def __init__(self, out: Blocks, entities: Entities) -> None:
        super().__init__(out, entities)
        self.in_row = False
        self._running = False
        self._open: list[tuple[int, bool]] = []  # of open elements: gap around, running outside

    def begin(self, element: _Element, tag: str) -> bool:
        """See `TreeReader.enter`."""
        return True

    def end(self, element: _Element, tag: str) -> None:
        """See `TreeReader.leave`."""

    def enter(self, element: _Element, tag: str) -> bool:
        """See `TreeReader`."""
        is_block = not self._running or tag in self.blocks
        gap = LINE if is_block else 0
        if is_block and tag not in _ROWS and (len(element) or tag in _RUNNING):
            gap = PARAGRAPH
        self._open.append((gap, self._running))
        self.out.gap(gap)
        self._running = not is_block or tag in _RUNNING or _is_running(element)
        if tag in _ROWS and not self.in_row:
            self.out.text(table_row(element, self.cell))
            return False
        return self.begin(element, tag)

    def leave(self, element: _Element, tag: str) -> None:
        """See `TreeReader`."""
        self.end(element, tag)
        gap, self._running = self._open.pop()
        self.out.gap(gap)

    def cell(self, cell: _Element) -> str:
        """A table cell on one line, read as this vocabulary reads.

        A row inside it is no row of its own: reading would nest as deep as the tables do.
        """
        reader = type(self)(Blocks(), self.entities)
        reader.in_row = True
        reader.read(cell)
        return " ".join(reader.out.finish().text.split())

    def note(self, element: _Element, marker: str = "") -> bool:
        """Write `element` as a footnote, called by `marker` here.

        Returns whether its content is still to be read, because it stands inside another footnote.
        """
        if marker:
            self.out.text(f"[{marker}]")
        if not self.out.open_note():
            return True
        running, self._running = self._running, _is_running(element)
        if marker:
            self.out.text(f"[{marker}]")
            self.out.glue()
        self.read_inside(element)
        self._running = running
        self.out.close_note()
        return False

    def read_inside(self, element: _Element) -> None:
        """An element's content without the element itself."""
        self.out.text(element.text)
        for child in element:
            if (name := entity_name(child)) is not None:
                self.out.text(self.entities.text(name))
            else:
                self.read(child)
            self.out.text(child.tail)


def _is_running(element: _Element) -> bool:
    """Whether words stand beside its elements."""
    if not len(element):
        return False
    return any(text and not text.isspace() for text in (element.text, *(c.tail for c in element)))


class _GenericReader(BlockReader):
    """A tree of which nothing is known."""

    def __init__(self, out: Blocks, entities: Entities) -> None:
        super().__init__(out, entities)
        self._heading: _Element | None = None

    def begin(self, element: _Element, tag: str) -> bool:
        """See `BlockReader`."""
        if tag in _TITLES and self._heading is None and _heads(element):
            self._heading = element
            self.out.open_heading(len(self._open))
        return True

    def end(self, element: _Element, tag: str) -> None:
        """See `BlockReader`."""
        if self._heading is element:
            self._heading = None
            self.out.close_heading()


def _heads(element: _Element) -> bool:
    """Whether it is short and the first of several siblings, or the second behind a number."""
    before = element.getprevious()
    if before is not None and (before.getprevious() is not None or len(before)):
        return False
    if element.getnext() is None or element.getparent() is None:
        return False
    chars = 0
    for text in element.itertext():
        chars += len(text)
        if chars > _HEADING_CHARS:
            return False
    return True


def read_generic(
    root: _Element, entities: Entities, out: Blocks
) -> tuple[str, dict[str, MetaValue], tuple[str, ...]]:
    """(title, metadata, warnings) of any XML file, its text written into `out`."""
    _GenericReader(out, entities).read(root)
    title = ""
    for number, each in enumerate(root.iter("{*}title")):
        if title or number >= _TITLES_LOOKED_AT:
            break
        title = words(each, entities) if not len(each) else ""
    note = (
        f"XML of an unknown vocabulary ({local(root)[:40]}): read as the text of its elements, "
        "without attributes"
    )
    return shorten(title), {}, (note,)
