"""A candidate as the texts that a service gets: one for each passage, or one for the document.

Title and passage, as every reranker here reads them. Lengths are estimates, because the service's
tokenizer is not here: the embedder's count, or a token for every four bytes where that is more, and
a fifth of every limit is left free. Against Qwen's tokenizer, in each of six collections 99 of 100
texts have at most 1.23 times the estimate, which the fifth covers; one in capital letters (CACM)
has up to 2.7 times, and there a service's refusal has the last word.

What does not fit is cut at the end, whole passages first, and counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from longleaf.core.lengths import first_part
from longleaf.core.scores import sigmoid
from longleaf.core.types import Reading
from longleaf.reranker.evidence import own_tokens
from longleaf.reranker.pieces import joined
from longleaf.reranker.qwen3.template import document_parts

if TYPE_CHECKING:
    from longleaf.core.types import PassageText, ReadingInput
    from longleaf.reranker.services.service import Meaning

_TOKEN_BYTES = 4
_USED_SHARE = 0.8
FEWEST_TOKENS = 32
"""A text is not cut below this: what refuses so little refuses something else."""


def estimated_tokens(text: str, counted: int = 0) -> int:
    """`counted`: the embedder's count, where there is one. A cautious guess, never 0."""
    return max(1, counted, math.ceil(len(text.encode("utf-8", "replace")) / _TOKEN_BYTES))


def usable(limit_tokens: int) -> int:
    """How many estimated tokens may go where `limit_tokens` of the model's fit."""
    return int(limit_tokens * _USED_SHARE)


@dataclass(frozen=True, slots=True)
class Item:
    """One text of a candidate. `owner`: the candidate's place among the inputs.

    `head` is the title's line, `body` what may be cut. `counted_tokens` are the embedder's of the
    body, `own_tokens` those of them that no other item of the candidate has; `read_tokens` are the
    own ones that are still in the body.
    """

    owner: int
    point_id: int
    head: str
    body: str
    counted_tokens: int
    own_tokens: int
    read_tokens: int

    @property
    def text(self) -> str:
        return self.head + self.body

    @property
    def tokens(self) -> int:
        """Estimated, of the whole text."""
        return estimated_tokens(self.head) + estimated_tokens(self.body, self.counted_tokens)

    def within(self, room_tokens: int) -> Item:
        """The item in at most so many estimated tokens, but with a word at least; a title that
        takes more than half of them is left out first."""
        item = self
        if item.tokens > room_tokens and estimated_tokens(item.head) > room_tokens // 2:
            item = replace(item, head="")
        # More than once where the text begins with longer characters than it ends with.
        while item.tokens > room_tokens and len(item.body) > 1:
            room = max(1, room_tokens - estimated_tokens(item.head))
            share = room / estimated_tokens(item.body, item.counted_tokens)
            length = len(item.body)
            body = first_part(item.body, max(1, min(length - 1, int(share * length))))
            item = replace(
                item,
                body=body,
                counted_tokens=math.floor(item.counted_tokens * len(body) / length),
                read_tokens=math.floor(item.read_tokens * len(body) / length),
            )
        return item


def items_of(owner: int, item: ReadingInput, room_tokens: int) -> list[Item]:
    """The texts of one candidate, each in at most `room_tokens`."""
    own = own_tokens(item.passages)
    if item.depth == "passage":
        made = [_item(owner, item, [each], own[n]) for n, each in enumerate(item.passages)]
        return [each.within(room_tokens) for each in made]
    passages = item.passages
    while len(passages) > 1 and _item(owner, item, passages, 0).tokens > room_tokens:
        passages = passages[:-1]
    whole = replace(_item(owner, item, passages, sum(own)), read_tokens=sum(own[: len(passages)]))
    return [whole.within(room_tokens)]


def _item(owner: int, item: ReadingInput, passages: Sequence[PassageText], own: int) -> Item:
    head, body = document_parts(item.title, joined(passages))
    counted = sum(each.token_count for each in passages)
    return Item(owner, passages[0].point_id, head.lstrip(), body.lstrip(), counted, own, own)


class Progress:
    """What is known of the candidates so far: a reading when all texts of one have a score."""

    def __init__(
        self, inputs: Sequence[ReadingInput], items: Sequence[Item], meaning: Meaning
    ) -> None:
        self._inputs = inputs
        self._meaning = meaning
        self._waiting = [0] * len(inputs)
        for item in items:
            self._waiting[item.owner] += 1
        self._scored: list[list[tuple[Item, float]]] = [[] for _ in inputs]

    def note(self, item: Item, score: float) -> Reading | None:
        """A text's score, and the text as it was read; the candidate's reading if that was its
        last."""
        scored = self._scored[item.owner]
        scored.append((item, score))
        if len(scored) < self._waiting[item.owner]:
            return None
        return _reading(self._inputs[item.owner], scored, self._meaning)


def _reading(item: ReadingInput, scored: Sequence[tuple[Item, float]], meaning: Meaning) -> Reading:
    best = max(score for _, score in scored)
    by_point = {each.point_id: score for each, score in scored}
    read = min(sum(each.read_tokens for each, _ in scored), item.document_tokens)
    own = sum(each.own_tokens for each, _ in scored)
    return Reading(
        rank=item.rank,
        score=best,
        depth=item.depth,
        tokens_read=read,
        tokens_total=item.document_tokens,
        passage_scores=tuple((p.point_id, by_point[p.point_id]) for p in item.passages)
        if item.depth == "passage"
        else (),
        truncated_tokens=max(0, min(own, item.document_tokens) - read),
        probability=_probability(best, meaning),
    )


def _probability(score: float, meaning: Meaning) -> float | None:
    """None for a number that is none, whatever the service's documents say of its scores."""
    if meaning == "logit":
        return sigmoid(score)
    return score if meaning == "probability" and 0.0 <= score <= 1.0 else None
