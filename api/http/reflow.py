"""Which line ends of a PDF's text only the width of its page made: shown as a space, they let a
paragraph flow to the reader's width.

The text stays as it is, to the character: only how a line end looks is decided here, so offsets,
marks and what is found do not change. In doubt a line end stays: a line joined wrongly (a table, a
list, an address) reads worse than one that ends early. Pure.
"""

from __future__ import annotations

import re
from itertools import pairwise

_FULL = 0.75
"""Of the usual width: what a line has at least that went on in the next one."""
_LEAST_LINES, _LEAST_WIDTH_CHARS = 3, 30
_USUAL = 0.8
"""The width is that of the line which so many are not longer than."""
_BEGINS = re.compile(r"[ \t]|(?:\(\w{1,5}\)|§+|\d+(?:\.\d+)*[.)]|[-*•–—])\s")
"""How a line begins that does not go on from the one before: indented, numbered, a bullet."""
_COLUMNS = re.compile(r"\S(?:\t| {2,})\S|\.{4}")
"""Cells of a table, or dots that lead to a page."""


def soft_ends(text: str) -> list[int]:
    """Positions of the line ends in `text` that may be shown as a space, in order."""
    lines = text.split("\n")
    lengths = sorted(len(line.strip()) for line in lines if line.strip())
    if len(lengths) < _LEAST_LINES:
        return []
    width = lengths[int(_USUAL * (len(lengths) - 1))]
    if width < _LEAST_WIDTH_CHARS:
        return []
    found = []
    place = 0
    for line, following in pairwise(lines):
        place += len(line) + 1
        if _goes_on(line, following, width):
            found.append(place - 1)
    return found


def _goes_on(line: str, following: str, width: int) -> bool:
    said = line.rstrip()
    return (
        len(said.strip()) >= _FULL * width
        and following.strip() != ""
        and said[-1] not in "-:"
        and not _BEGINS.match(following)
        and not _COLUMNS.search(said)
        and not _COLUMNS.search(following)
    )
