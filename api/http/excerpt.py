"""The part of a passage that is read first: its sentences that carry the score, and what follows.

Pure: pieces in, fewer pieces out. A passage has a thousand characters, of which two sentences
decided; a list of ten whole passages is a wall of text. Nothing is lost: the page shows the rest on
demand.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from longleaf.api.http.textview import Piece

_BEFORE_CHARS = 160
_SNAP_CHARS = 40
_SENTENCE_END = re.compile(r"[.!?。！？]\s|\n")


class Excerpt(NamedTuple):
    """`before`, `after`: whether text was left out there."""

    pieces: tuple[Piece, ...]
    before: bool
    after: bool


def excerpt(pieces: Sequence[Piece], most_chars: int) -> Excerpt:
    """At most `most_chars` of the pieces' text, from the first sentence that carries or mark on."""
    text = "".join(piece.text for piece in pieces)
    if len(text) <= most_chars:
        return Excerpt(tuple(pieces), before=False, after=False)
    begin = _begin(pieces, text)
    if len(text) - begin < most_chars:
        begin = _after_space(text, len(text) - most_chars)
    end = min(len(text), begin + most_chars)
    if end < len(text):
        space = text.rfind(" ", end - _SNAP_CHARS, end)
        end = space if space > begin else end
    return Excerpt(_cut(pieces, begin, end), before=begin > 0, after=end < len(text))


def _begin(pieces: Sequence[Piece], text: str) -> int:
    """Where the first carrying piece begins, else the sentence of the first marked one."""
    position, first_mark = 0, -1
    for piece in pieces:
        if piece.carries:
            return position
        if piece.marked and first_mark < 0:
            first_mark = position
        position += len(piece.text)
    if first_mark < 0:
        return 0
    from_char = max(0, first_mark - _BEFORE_CHARS)
    ends = [found.end() for found in _SENTENCE_END.finditer(text, from_char, first_mark)]
    return ends[-1] if ends else _after_space(text, from_char)


def _after_space(text: str, position: int) -> int:
    if position <= 0:
        return 0
    space = text.find(" ", position, position + _SNAP_CHARS)
    return space + 1 if space >= 0 else position


def _cut(pieces: Sequence[Piece], begin: int, end: int) -> tuple[Piece, ...]:
    kept, position = [], 0
    for piece in pieces:
        inside = piece.text[max(begin - position, 0) : max(end - position, 0)]
        if inside:
            kept.append(replace(piece, text=inside))
        position += len(piece.text)
    return tuple(kept)
