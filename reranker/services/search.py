"""One reading by a service: texts in requests that fit, halved and shortened where refused.

It is told how to ask, and knows neither HTTP nor a dialect.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from longleaf.core.errors import RemoteRefused
from longleaf.core.lengths import says_too_long
from longleaf.reranker.requests import read_in_requests
from longleaf.reranker.services.batches import Pace, batches
from longleaf.reranker.services.texts import (
    FEWEST_TOKENS,
    Item,
    Progress,
    estimated_tokens,
    items_of,
    usable,
)

if TYPE_CHECKING:
    from longleaf.core.budget import Budget
    from longleaf.core.types import Reading, ReadingInput
    from longleaf.reranker.services.service import Limits, Meaning, Question

_log = logging.getLogger(__name__)

_SHRINKING = 0.7


class Search:
    """One reading: what is still to be read, and how long a text may be by now."""

    def __init__(
        self,
        question: Question,
        inputs: Sequence[ReadingInput],
        limits: Limits,
        meaning: Meaning,
        ask: Callable[[Sequence[str]], Mapping[int, float]],
        budget: Budget,
    ) -> None:
        self._ask = ask
        self._budget = budget
        self._limits = limits
        self._query_tokens = estimated_tokens(question.text)
        self._room_tokens = usable(limits.item_tokens)
        if limits.counts_query:
            self._room_tokens -= self._query_tokens
            if question.instruction:
                self._room_tokens -= estimated_tokens(question.instruction)
        takes = usable(limits.query_tokens or limits.item_tokens)
        if self._room_tokens < FEWEST_TOKENS or self._query_tokens > takes:
            raise RemoteRefused(
                f"A query of about {self._query_tokens:,} tokens is too long: about {takes:,} fit.",
                "Ask with fewer words.",
            )
        self._items = [
            each for n, item in enumerate(inputs) for each in items_of(n, item, self._room_tokens)
        ]
        self._progress = Progress(inputs, self._items, meaning)

    def readings(self, pace: Pace) -> Iterator[Reading]:
        """In requests of what the service and the time that is left allow."""
        in_turn = batches(self._items, self._query_tokens, self._limits, pace, self._budget)
        return read_in_requests(in_turn, self._read, self._budget)

    def _read(self, batch: Sequence[Item]) -> Iterator[Reading]:
        """Of one batch: halved while it is refused as too long, and a text alone shortened."""
        batch = [item.within(self._room_tokens) for item in batch]
        try:
            scores = self._ask([item.text for item in batch])
        except RemoteRefused as error:
            if not says_too_long(error.status, error.said):
                raise
            half = len(batch) // 2
            parts = [batch[:half], batch[half:]] if half else [batch]
            if not half:
                self._shorten(batch[0], error)
        else:
            yield from self._noted(batch, scores)
            return
        for part in parts:
            if self._budget.spent() is None:
                yield from self._read(part)

    def _shorten(self, item: Item, refusal: RemoteRefused) -> None:
        """For this search only: one text of rare characters shall not shorten everybody's."""
        self._room_tokens = int(_SHRINKING * item.tokens)
        if self._room_tokens < FEWEST_TOKENS:
            raise refusal
        _log.warning(
            "reranker: a text of about %d tokens was refused as too long; it is tried with %d. "
            "A lower reranker.item_tokens spares such tries.",
            item.tokens,
            self._room_tokens,
        )

    def _noted(self, batch: Sequence[Item], scores: Mapping[int, float]) -> Iterator[Reading]:
        for place, item in enumerate(batch):
            if place in scores and (reading := self._progress.note(item, scores[place])):
                yield reading
        if len(scores) < len(batch):
            missing = len(batch) - len(scores)
            self._budget.stop(f"it gave no score for {missing} of {len(batch)} texts in a request")
