"""A part of a window as hits: heads, words and marks, as the catalog has them now.

What is no longer there, or no longer the caller's to see, is left out and counted; the next ones
take its place where there are more.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

import structlog

from longleaf.api.highlight import Highlighter
from longleaf.api.hits import Suspect, hit_of
from longleaf.api.searched import Found, StageRun
from longleaf.api.sentences import SentenceMarker
from longleaf.core.catalog import Catalog, DocumentHead, Generation
from longleaf.core.errors import LongleafError, NotFound
from longleaf.core.hits import Hit, HitSentence
from longleaf.core.layout import Layout
from longleaf.core.types import Degradation, PassageText, Scope

Span = tuple[int, int]
"""start_char and end_char in a document."""

Heads = Mapping[int, DocumentHead]
Texts = Callable[[Sequence[Found], Heads], Mapping[int, PassageText]]
"""The passages of what was found with their words, by point id; `Heads` by revision id."""

_ALL = 1 << 30

_log = structlog.get_logger(__name__)


class Shown(NamedTuple):
    """`degraded`: what could not be marked, and why; the hits are whole without it."""

    hits: tuple[Hit, ...]
    left_out_count: int
    degraded: tuple[Degradation, ...] = ()


def show(
    catalog: Catalog,
    scope: Scope,
    found: Iterator[Found],
    limit: int,
    texts: Texts,
    highlighter: Highlighter,
    marker: SentenceMarker | None = None,
    suspect: Suspect = lambda _: (),
    *,
    only_current: bool = False,
) -> Shown:
    """The next `limit` hits of `found`, which is left standing behind the last of them.

    `only_current`: a document that was replaced is gone, even while an index still has it.
    """
    hits: list[Hit] = []
    left_out_count = 0
    degraded: tuple[Degradation, ...] = ()
    while some := list(islice(found, limit - len(hits))):
        others = [version.revision_id for each in some for version in each.versions]
        wanted = [*(each.revision_id for each in some), *others]
        heads = catalog.heads(wanted, scope, only_current=only_current)
        there = [each for each in some if each.revision_id in heads]
        words = texts(there, heads)
        sentences: dict[int, tuple[HitSentence, ...]] = {}
        if marker and not degraded:
            try:
                sentences = marker.mark(words.values())
                if marker.with_rectangles:
                    sentences = _placed(catalog, there, heads, sentences)
            except Exception as error:
                degraded = (_unmarked(error),)
        hits += [hit_of(each, heads, words, highlighter, sentences, suspect) for each in there]
        left_out_count += len(some) - len(there)
    return Shown(tuple(hits), left_out_count, degraded)


def _unmarked(error: Exception) -> Degradation:
    """Marks are worth no search: what fails there is told, and the log has the rest."""
    if isinstance(error, LongleafError):
        _log.warning("search.not_marked", reason=error.message)
        return Degradation("highlight", f"No sentence was marked: {error.message}")
    _log.exception("search.not_marked")
    return Degradation("highlight", "No sentence was marked: it failed (see the log).")


def _placed(
    catalog: Catalog,
    found: Sequence[Found],
    heads: Heads,
    sentences: Mapping[int, tuple[HitSentence, ...]],
) -> dict[int, tuple[HitSentence, ...]]:
    """The same sentences with where they stand on the pages, of documents that know it."""
    placed = dict(sentences)
    layouts: dict[int, Layout | None] = {}
    for each in found:
        head = heads[each.revision_id]
        if head.content_id not in layouts:
            layouts[head.content_id] = catalog.layout(head)
        layout = layouts[head.content_id]
        if layout is None:
            continue
        for passage in each.passages:
            if passage.point_id not in sentences:
                continue
            placed[passage.point_id] = tuple(
                replace(
                    sentence,
                    rectangles=tuple(layout.rectangles(sentence.start_char, sentence.end_char)),
                )
                for sentence in sentences[passage.point_id]
            )
    return placed


def places_of(
    catalog: Catalog, generation: Generation, run: StageRun, found: Sequence[Found]
) -> dict[int, PassageText]:
    """Where the passages of what `run` found lie, by point id, of those that are still there; the
    catalog is asked only for what the run has not looked up. Without text."""
    points = [passage.point_id for each in found for passage in each.passages]
    unknown = [point for point in points if point not in run.passages]
    known = dict(run.passages)
    if unknown:
        known |= catalog.hydrate(run.heads, unknown, generation, with_text=False)[0]
    return {point: known[point] for point in points if point in known}


def texts_by_point(catalog: Catalog, generation: Generation) -> Texts:
    """Passages looked up by the generation that found them."""

    def look_up(found: Sequence[Found], heads: Heads) -> Mapping[int, PassageText]:
        points = [passage.point_id for each in found for passage in each.passages]
        return catalog.hydrate(heads, points, generation)[0]

    return look_up


def texts_by_span(catalog: Catalog, generation: Generation, spans: Mapping[int, Span]) -> Texts:
    """Passages looked up by their characters, for a generation that does not have them.

    `spans` by point id. Headings, pages and role are those of the passages that `generation` has
    there; the words are exactly the ones that were found.
    """

    def look_up(found: Sequence[Found], heads: Heads) -> Mapping[int, PassageText]:
        texts: dict[int, PassageText] = {}
        for each in found:
            head = heads[each.revision_id]
            try:
                text = catalog.text(head).text
            except NotFound:  # deleted since its head was read
                continue
            passages = catalog.passages(head, generation, 0, _ALL)
            if not passages:
                continue
            starts = [passage.start_char for passage in passages]
            for passage in each.passages:
                start, end = spans[passage.point_id]
                first = passages[max(bisect_right(starts, start) - 1, 0)]
                last = passages[max(bisect_right(starts, end - 1) - 1, 0)]
                texts[passage.point_id] = PassageText(
                    point_id=passage.point_id,
                    passage_id=first.passage_id,
                    start_char=start,
                    end_char=end,
                    first_page=first.first_page,
                    last_page=last.last_page,
                    headings=first.headings,
                    token_count=first.token_count,
                    text=text[start:end],
                    role=first.role,
                )
        return texts

    return look_up
