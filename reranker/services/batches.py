"""How many texts go in one request: by the service's limits, and by the time that is left.

Pure. With a deadline, a request holds only as many texts as are expected to take half of what is
left, by what requests took before: one slow request then leaves time for another, and what was read
until then counts. Not fewer than `_FEWEST`, since the way costs the same for one text as for many.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from longleaf.reranker.services.texts import Item, usable

if TYPE_CHECKING:
    from longleaf.core.budget import Budget
    from longleaf.reranker.services.service import Limits

_FEWEST = 8
_FEW = 4
_FADING = 0.9
_BODY_EXTRA_BYTES = 64 * 1024
"""For all of a request but its texts; a query has at most some thousand characters."""


@dataclass(slots=True)
class Pace:
    """What requests took: the way, which each pays, and a text more. Milliseconds.

    Several threads may note at once; what is lost then is an estimate."""

    way_ms: float = 0.0
    text_ms: float = 0.0

    def note(self, took_ms: float, texts: int) -> None:
        """Requests of a few texts tell the way, the longest of the last others a text."""
        if texts <= _FEW:
            self.way_ms = min(self.way_ms or took_ms, took_ms)
        else:
            each_ms = max(0.0, took_ms - self.way_ms) / texts
            self.text_ms = max(each_ms, _FADING * self.text_ms)

    def texts_within(self, left_ms: float | None, most: int) -> int:
        """How many texts a request should hold, `most` at most."""
        if left_ms is None or self.text_ms <= 0.0:
            return most
        expected = (left_ms / 2 - self.way_ms) / self.text_ms
        return max(min(_FEWEST, most), min(most, int(expected)))


def batches(
    items: Sequence[Item], query_tokens: int, limits: Limits, pace: Pace, budget: Budget
) -> Iterator[list[Item]]:
    """The items in order, each batch small enough for `limits`; a batch is made when it is asked
    for, with the time that is left then."""
    room_bytes = limits.body_bytes - _BODY_EXTRA_BYTES
    room_tokens = None if limits.request_tokens is None else usable(limits.request_tokens)
    start = 0
    while start < len(items):
        most = pace.texts_within(budget.left_ms(), limits.request_documents)
        batch_bytes = batch_tokens = 0
        end = start
        while end < len(items) and end - start < most:
            batch_bytes += len(
                json.dumps(items[end].text, ensure_ascii=False).encode("utf-8", "replace")
            )
            batch_tokens += items[end].tokens + query_tokens
            too_much = batch_bytes > room_bytes or (
                room_tokens is not None and batch_tokens > room_tokens
            )
            if too_much and end > start:
                break
            end += 1
        yield list(items[start:end])
        start = end
