"""A table's row as one line, its cells parted by " | "; pure, and the same for all vocabularies.

Spans over columns and rows are not drawn out: a cell stands once, where it begins.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from longleaf.indexer.parsers.xml_tree import children

if TYPE_CHECKING:
    from lxml.etree import _Element

CELL_BORDER = " | "
_CELLS = ("td", "th", "entry", "cell")


def table_row(row: _Element, cell_text: Callable[[_Element], str]) -> str:
    """The row's cells, each as `cell_text` says it; "" for a row without any words."""
    cells = [cell_text(cell) for cell in children(row, *_CELLS)]
    return CELL_BORDER.join(cells).strip() if any(cells) else ""
