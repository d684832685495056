"""An answer in words as the page shows it: paragraphs of pieces, each text, citation or doubt.

Pure: the API's answer in, pieces out; nothing of it is markup.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from longleaf.api.answering.splitting import UNKNOWN
from longleaf.api.http.written_schemas import SourceView, WrittenAnswer

_CITATION = re.compile(r"\[(\d{1,3})\]|" + re.escape(UNKNOWN))


class Piece(NamedTuple):
    """`source`: what a citation leads to. `mark`: "unknown", "misquoted" or "uncited"; "": none."""

    text: str
    source: SourceView | None = None
    mark: str = ""


def paragraphs(written: WrittenAnswer) -> list[list[Piece]]:
    """The text by lines that are not blank, each from citation to citation and mark to mark."""
    sources = {each.number: each for each in written.citations}
    lines = re.finditer(r"[^\n]*\S[^\n]*", written.text)
    return [list(_pieces(written, sources, *line.span())) for line in lines]


def _pieces(
    written: WrittenAnswer, sources: dict[int, SourceView], start: int, end: int
) -> Iterator[Piece]:
    text = written.text
    spans = [
        (each.start_char, each.end_char, mark)
        for mark, some in (
            ("misquoted", written.quotes_not_found),
            ("uncited", written.uncited_sentences),
        )
        for each in some
    ]
    at = start
    for match in _CITATION.finditer(text, start, end):
        source = sources.get(int(match[1])) if match[1] else None
        if match[1] and source is None:
            continue  # brackets that are no citation of ours
        yield from _marked(text, spans, at, match.start())
        yield Piece(match[0], source, "" if source else "unknown")
        at = match.end()
    yield from _marked(text, spans, at, end)


def _marked(text: str, spans: list[tuple[int, int, str]], start: int, end: int) -> Iterator[Piece]:
    borders = {start, end, *(edge for low, high, _ in spans for edge in (low, high))}
    inside = sorted(each for each in borders if start <= each <= end)
    for low, high in pairwise(inside):
        marks = (mark for first, last, mark in spans if first <= low and high <= last)
        yield Piece(text[low:high], None, next(marks, ""))
