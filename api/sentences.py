"""The sentences of a passage that carry its score: late interaction, asked sentence by sentence.

A passage's score is, for each token of the query, its best match among the passage's stored token
vectors; a sentence's is the same with that sentence's tokens alone. Marked is the best sentence and
whatever comes within 5 % of it: that touches a gold span more often than the sentence with the most
words of the query (85 to 76 % on COVID-QA, a random one 22 %; `benchmarks/sentences.py` and
docs/quality.md have four collections). It needs token vectors and no second stage: a passage that a
text reranker has read is marked just so. 30 passages take 26 ms on a busy core, half of it to find
out where their tokens stand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any

import numpy as np

from longleaf.core.catalog import Catalog, Generation
from longleaf.core.hits import HitSentence
from longleaf.core.protocols import Embedder, TokenPlaces
from longleaf.core.types import EmbedInput, PassageText, QueryVectors
from longleaf.indexer.sentences import sentence_spans

_NEAR_BEST = 0.95


_PASSAGES_AT_ONCE = 100


class SentenceMarker:
    """Marks passages of one generation for one query."""

    def __init__(
        self,
        catalog: Catalog,
        generation: Generation,
        embedder: Embedder,
        vectors: QueryVectors | None,
        *,
        with_rectangles: bool = False,
        slots: AbstractContextManager[Any] | None = None,
        given_up: Callable[[], bool] = lambda: False,
    ) -> None:
        """`vectors` None: the query has none, and nothing is marked. `slots` is held while some are
        marked; `given_up` is asked between."""
        self._catalog = catalog
        self._generation = generation
        self._embedder = embedder
        self._tokens = None if vectors is None or not len(vectors.tokens) else vectors.tokens
        self._slots = slots or nullcontext()
        self._given_up = given_up
        self.with_rectangles = with_rectangles

    def mark(self, passages: Iterable[PassageText]) -> dict[int, tuple[HitSentence, ...]]:
        """Point id -> sentences in text order, of those passages that have stored tokens.

        Raises LongleafError where stored tokens cannot be read.
        """
        # Documents of equal text share passages: one look at each, told at every point.
        points: dict[int, list[int]] = {}
        different: dict[int, PassageText] = {}
        for passage in passages:
            points.setdefault(passage.passage_id, []).append(passage.point_id)
            different[passage.passage_id] = passage
        found: dict[int, tuple[HitSentence, ...]] = {}
        remaining = iter(different.values())
        while some := list(islice(remaining, _PASSAGES_AT_ONCE)):
            if self._given_up():
                break
            with self._slots:
                for passage_id, sentences in self._marked(some):
                    found |= dict.fromkeys(points[passage_id], sentences)
        return found

    def _marked(
        self, passages: Sequence[PassageText]
    ) -> Iterator[tuple[int, tuple[HitSentence, ...]]]:
        """Passage ids with their sentences; passages of different ids are given."""
        embedder = self._embedder
        if self._tokens is None or not isinstance(embedder, TokenPlaces):
            return
        codes, starts, prefix_tokens = self._catalog.token_vectors(
            [passage.passage_id for passage in passages], self._generation
        )
        inputs = [EmbedInput("", each.text, each.overlap_chars) for each in passages]
        for row, (passage, places) in enumerate(
            zip(passages, embedder.token_places(inputs), strict=True)
        ):
            own = codes[starts[row] + prefix_tokens[row] : starts[row + 1]]
            # Another number of tokens: the text is joined to its title otherwise than by itself.
            if len(own) != len(places):
                continue
            # A model's own marks stand in no sentence.
            inside = [n for n, (start, end) in enumerate(places) if start < end]
            if len(inside) < len(places):
                own, places = own[inside], [places[n] for n in inside]
            if len(own):
                similar = own.astype(np.float32) @ self._tokens.T  # (tokens, query tokens)
                yield passage.passage_id, _carrying(passage, places, similar)


def _carrying(
    passage: PassageText, places: Sequence[tuple[int, int]], similar: np.ndarray
) -> tuple[HitSentence, ...]:
    """The sentences that score best; `similar`: (tokens, query tokens) cosines."""
    spans = sentence_spans(passage.text, 0, len(passage.text))
    begins = np.array([start for start, _ in spans])
    middles = [(start + end) // 2 for start, end in places]
    of_token = np.maximum(np.searchsorted(begins, middles, side="right") - 1, 0)
    there, firsts = np.unique(of_token, return_index=True)
    scores = np.maximum.reduceat(similar, firsts, axis=0).mean(axis=1)
    least = _NEAR_BEST * scores.max() if scores.max() > 0 else scores.max()
    return tuple(
        HitSentence(
            passage.start_char + spans[number][0],
            passage.start_char + spans[number][1],
            float(score),
        )
        for number, score in zip(there, scores, strict=True)
        if score >= least
    )
