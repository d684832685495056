"""Flows of blocks inside a Word part, and what a table's row of them reads like; pure.

A flow is text that runs on by itself while others stand around or inside it. Knows no XML.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from longleaf.indexer.parsers.docx_paragraph import Block, Fields, Paragraph

_LAYOUT_CHARS = 1_000
"""A cell of several paragraphs and more text than this is a column of a page, not of a table."""


@dataclass(slots=True)
class Flow:
    """Text that runs on by itself: the body, a cell, a text box, a note."""

    blocks: list[Block] = field(default_factory=list)
    open: list[Paragraph] = field(default_factory=list)
    fields: Fields = field(default_factory=Fields)
    carried: str = ""  # of paragraphs whose marks are deleted
    carried_after: list[Block] = field(default_factory=list)

    def emit(self, blocks: Iterable[Block]) -> None:
        """Lay finished blocks behind those before; inside a paragraph, behind its own line."""
        (self.open[-1].after if self.open else self.blocks).extend(blocks)


def row_blocks(cells: list[list[Block]]) -> Iterator[Block]:
    """A row from its cells that hold something: one line, or paragraphs where it is layout."""
    own = [[block for block in cell if not block.is_row] for cell in cells]
    filled = [cell for cell in own if cell]
    if _is_layout(filled):
        for cell in cells:
            yield from cell
        return
    if filled:
        words = (" ".join(" ".join(block.text.split()) for block in cell) for cell in filled)
        yield Block(" | ".join(words), is_row=True)
    for cell in cells:
        yield from (block for block in cell if block.is_row)


def _is_layout(cells: list[list[Block]]) -> bool:
    if len(cells) == 1:
        (only,) = cells
        return len(only) > 1 or only[0].rank > 0 or len(only[0].text) > _LAYOUT_CHARS
    return any(
        len(cell) > 1 and sum(len(block.text) for block in cell) > _LAYOUT_CHARS for cell in cells
    )
