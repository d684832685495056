"""What the results' templates show of an answer, beside the answer itself: facets as links, bars,
excerpts, words for media types.

The answer is the API's; this only lays it out. It asks nobody anything.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from longleaf.api.http import textview
from longleaf.api.http.answer_schemas import AnswerView, FacetView, HitView, PassageHit
from longleaf.api.http.excerpt import excerpt
from longleaf.api.http.narrowing import Tree, Value, as_link, chosen, toggled
from longleaf.core.filters import as_text
from longleaf.core.language import LANGUAGE_NAMES

_VALUES_SHOWN = 6
_FIRST_CHARS, _NEXT_CHARS = 560, 240

_TYPES = {
    "application/epub+zip": "EPUB",
    "application/json": "JSON",
    "application/pdf": "PDF",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "Word",
    "application/xhtml+xml": "HTML",
    "application/xml": "XML",
    "application/x-tex": "LaTeX",
    "message/rfc822": "Mail",
    "text/html": "HTML",
    "text/markdown": "Markdown",
    "text/plain": "Plain text",
    "text/x-tex": "LaTeX",
    "text/xml": "XML",
}


class Choice(NamedTuple):
    """A value of a facet. `name` is the link's in the page, the same in every answer; `documents`
    None: it was chosen, and is not among those that were counted."""

    name: str
    shown: str
    documents: int | None
    href: str
    is_on: bool


class Narrowing(NamedTuple):
    """A facet as links: those at once, and those on demand."""

    title: str
    first: Sequence[Choice]
    more: Sequence[Choice]


class Bar(NamedTuple):
    """A stage's word of a document, and its place among the answer's."""

    stage: str
    what: str
    score: float | None
    least: float
    most: float
    place: int | None


class Said(NamedTuple):
    """A passage's text by paragraphs, or a part of it."""

    paragraphs: list[list[textview.Piece]]
    before: bool
    after: bool

    @property
    def is_cut(self) -> bool:
        """Whether there is more of it."""
        return self.before or self.after


def narrowings(
    facets: Iterable[FacetView],
    tree: Tree | None,
    collections: Sequence[str],
    to: Callable[..., str],
) -> list[Narrowing]:
    """Facets with more than one value, or with one that was chosen."""
    on = chosen(tree) | ({"collection": list(collections)} if collections else {})
    found = []
    for facet in facets:
        picked = on.get(facet.field, [])
        known = {as_text(each) for each in picked}
        values: list[tuple[Value, int | None]] = [(each.value, each.count) for each in facet.values]
        counted = {as_text(value) for value, _ in values}
        values += [(each, None) for each in picked if as_text(each) not in counted]
        if not picked and (len(values) < 2 and not (values and facet.without_count)):
            continue
        choices = [
            Choice(
                f"choice-{zlib.crc32(f'{facet.field}={as_text(value)}'.encode()):08x}",
                _shown(facet.field, value),
                count,
                _link(facet.field, value, tree, collections, to),
                as_text(value) in known,
            )
            for value, count in values
        ]
        choices.sort(key=lambda choice: not choice.is_on)
        found.append(
            Narrowing(_title(facet.field), choices[:_VALUES_SHOWN], choices[_VALUES_SHOWN:])
        )
    return found


def _link(
    field: str, value: Value, tree: Tree | None, collections: Sequence[str], to: Callable[..., str]
) -> str:
    if field == "collection":
        name = str(value)
        others = [each for each in collections if each != name]
        return to(collection=others if name in collections else [*collections, name])
    return to(filter=as_link(toggled(tree, field, value)))


def _title(field: str) -> str:
    return field.replace("_", " ").capitalize()


def _shown(field: str, value: Value) -> str:
    text = as_text(value)
    words = {"type": _TYPES, "language": LANGUAGE_NAMES}.get(field, {})
    return words.get(text, text)


def said(passage: PassageHit, place: int, *, whole: bool = False) -> Said:
    """A passage's text with its marks; all of it, or what is read first. `place`: 0 is the best."""
    pieces: Sequence[textview.Piece] = textview.marked(
        passage.text, passage.start_char, passage.highlights
    )
    sentences = [(each.start_char, each.end_char) for each in passage.sentences or ()]
    pieces = textview.carrying(pieces, passage.start_char, sentences)
    if whole:
        return Said(textview.paragraphs(pieces), before=False, after=False)
    part = excerpt(pieces, _FIRST_CHARS if place == 0 else _NEXT_CHARS)
    return Said(textview.paragraphs(part.pieces), part.before, part.after)


def bars(hit: HitView, answer: AnswerView) -> list[Bar]:
    """What each stage said of a hit's best passage and of the hit, each in the answer's range."""
    best = [each.passages[0].scores for each in answer.hits if each.passages]
    mine = hit.passages[0].scores if hit.passages else None
    rows: list[tuple[str, str, float | None, list[float | None], int | None]] = [
        (
            "Meaning",
            "cosine of query and best passage",
            mine.dense if mine else None,
            [each.dense for each in best],
            mine.dense_rank if mine else None,
        ),
        (
            "Words",
            "BM25 of the best passage",
            mine.bm25 if mine else None,
            [each.bm25 for each in best],
            mine.bm25_rank if mine else None,
        ),
        (
            "Found",
            "both together: the first stage",
            hit.first_stage.score,
            [each.first_stage.score for each in answer.hits],
            hit.first_stage.rank,
        ),
        (
            "Read",
            "what the reranker said",
            hit.reading.score if hit.reading else None,
            [each.reading.score for each in answer.hits if each.reading],
            None,
        ),
        ("In the end", "", hit.score, [each.score for each in answer.hits], hit.rank),
    ]
    return [_bar(*row) for row in rows]


def _bar(
    stage: str, what: str, score: float | None, among: Sequence[float | None], place: int | None
) -> Bar:
    known = [each for each in among if each is not None]
    least, most = min([0.0, *known]), max([0.0, *known])
    return Bar(stage, what, score, least, most if most > least else least + 1.0, place)
