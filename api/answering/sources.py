"""Which passages an answer may be written from: numbered, whole sentences, within a token budget.

Pure: hits in, numbered sources out, and what was left out with the reason. The best passage of
every hit comes before the second of any, so that no long document fills the prompt alone; one that
says nearly the same as an earlier one is left out. A passage that does not fit whole is cut to
sentences around those that carry its score. Trade-off: passages stand without their neighbours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal

from longleaf.core.hits import Hit, HitPassage, HitSentence
from longleaf.core.suspicion import of_warnings
from longleaf.core.types import MetaValue
from longleaf.indexer.sentences import sentence_spans

Why = Literal["same", "no room", "enough"]
"""Left out: an earlier source says nearly the same; it does not fit into the token budget; there
are as many sources as may be."""

_SAME_SHARE = 0.8
"""Of the word triples of both together: from here on two passages say the same."""
_TRIPLE = 3
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Source:
    """A passage, or whole sentences of it: `text` is the document's from start_char to end_char.

    `rank` is its document's among the hits. `sentences`: those that carry the score. `is_cut`: the
    passage goes on. `tokens` are the embedding model's. `suspicious`: the passage's reasons, and
    what the parser saw in its file.
    """

    number: int
    document_id: str
    revision: int
    collection: str
    key: str
    title: str
    metadata: Mapping[str, MetaValue]
    rank: int
    start_char: int
    end_char: int
    first_page: int | None
    last_page: int | None
    headings: tuple[str, ...]
    text: str
    tokens: int
    sentences: tuple[HitSentence, ...] = ()
    is_cut: bool = False
    suspicious: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A deciding passage that was not sent. `like`: the number of the source that says the same."""

    document_id: str
    start_char: int
    end_char: int
    reason: Why
    like: int | None = None


@dataclass(frozen=True, slots=True)
class Chosen:
    """What is sent, and what of the hits is not."""

    sources: tuple[Source, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def tokens(self) -> int:
        """Of all sources together."""
        return sum(each.tokens for each in self.sources)


def choose(
    hits: Sequence[Hit], most_sources: int, most_tokens: int, count: Callable[[str], int]
) -> Chosen:
    """Sources of `hits`, numbered from 1 in the order in which they were taken.

    `count`: tokens of a text. A source has at least one whole sentence; one that is longer than the
    budget is left out and never cut inside.
    """
    sources: list[Source] = []
    left_out: list[LeftOut] = []
    taken: list[frozenset[tuple[str, ...]]] = []
    left_tokens = most_tokens
    for hit, shown in _in_turn(hits):
        passage = shown.passage
        triples = _triples(passage.text)
        like = next((n for n, each in enumerate(taken, 1) if _is_same(triples, each)), None)
        reason: Why | None = None
        part: tuple[int, int, int] | None = None
        if like is not None:
            reason = "same"
        elif len(sources) == most_sources:
            reason = "enough"
        else:
            part = _fitting(shown, left_tokens, count)
            reason = "no room" if part is None else None
        if part is None or reason is not None:
            left_out.append(
                LeftOut(
                    hit.document_id, passage.start_char, passage.end_char, reason or "no room", like
                )
            )
            continue
        start, end, tokens = part
        left_tokens -= tokens
        taken.append(triples)
        sources.append(_source(len(sources) + 1, hit, shown, start, end, tokens))
    return Chosen(tuple(sources), tuple(left_out))


def _in_turn(hits: Sequence[Hit]) -> Iterator[tuple[Hit, HitPassage]]:
    """The best passage of each hit, then the second of each, and so on."""
    for row in zip_longest(*(hit.passages for hit in hits)):
        for hit, shown in zip(hits, row, strict=True):
            if shown is not None and shown.passage.text.strip():
                yield hit, shown


def _source(number: int, hit: Hit, shown: HitPassage, start: int, end: int, tokens: int) -> Source:
    passage = shown.passage
    first = passage.start_char
    is_cut = (start, end) != (first, passage.end_char)
    return Source(
        number=number,
        document_id=hit.document_id,
        revision=hit.revision,
        collection=hit.collection,
        key=hit.key,
        title=hit.title,
        metadata=hit.metadata,
        rank=hit.rank,
        start_char=start,
        end_char=end,
        first_page=passage.first_page,
        last_page=passage.last_page,
        headings=passage.headings,
        text=passage.text[start - first : end - first],
        tokens=tokens,
        sentences=tuple(
            each
            for each in shown.sentences or ()
            if start <= each.start_char and each.end_char <= end
        ),
        is_cut=is_cut,
        suspicious=tuple(dict.fromkeys((*shown.suspicious, *of_warnings(hit.suspicious)))),
    )


def _fitting(
    shown: HitPassage, most_tokens: int, count: Callable[[str], int]
) -> tuple[int, int, int] | None:
    """(start_char, end_char, tokens) of the passage, or of its sentences that fit; None: none."""
    text, first = shown.passage.text, shown.passage.start_char
    whole = count(text)
    if whole <= most_tokens:
        return first, first + len(text), whole
    spans = sentence_spans(text, 0, len(text))
    if not spans:
        return None
    best = max(shown.sentences or (), key=lambda each: each.score, default=None)
    middle = 0 if best is None else (best.start_char + best.end_char) // 2 - first
    low = max((n for n, (start, _) in enumerate(spans) if start <= middle), default=0)
    high = low + 1

    def tokens_of(low: int, high: int) -> int:
        return count(text[spans[low][0] : spans[high - 1][1]])

    if (tokens := tokens_of(low, high)) > most_tokens:
        return None
    # What follows explains a sentence more often than what stands before it.
    while high < len(spans) and (more := tokens_of(low, high + 1)) <= most_tokens:
        high, tokens = high + 1, more
    while low > 0 and (more := tokens_of(low - 1, high)) <= most_tokens:
        low, tokens = low - 1, more
    return first + spans[low][0], first + spans[high - 1][1], tokens


def _triples(text: str) -> frozenset[tuple[str, ...]]:
    words = _WORD.findall(text.lower())
    if len(words) < _TRIPLE:
        return frozenset({tuple(words)})
    return frozenset(zip(*(words[n:] for n in range(_TRIPLE)), strict=False))


def _is_same(one: frozenset[tuple[str, ...]], other: frozenset[tuple[str, ...]]) -> bool:
    return len(one & other) >= _SAME_SHARE * len(one | other)
