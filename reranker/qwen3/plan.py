"""Which documents go through the model together, and how far a deadline reaches; no torch.

Documents are packed without padding, so a batch is only bounded by its tokens. Long ones run alone,
on another attention kernel. Without a deadline all are packed in order of length, which fills
batches best; with one they are packed in first-stage order, in small batches, and a batch begins
only when the cost model says that it ends in time: what was not begun is told, never dropped.

The cost of a batch is a + b * tokens + c * pairs (arXiv 2506.05176's model is a plain transformer:
its products grow with tokens, its attention with token pairs), fitted to three measured batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

_BATCHES_BEFORE_DEADLINE = 4


class Item(NamedTuple):
    """A document to be read: its place in the caller's list, and its tokens with the suffix."""

    place: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Documents of one forward pass. `alone`: one document on the kernel for long ones."""

    items: tuple[Item, ...]
    alone: bool = False

    @property
    def tokens(self) -> int:
        return sum(item.tokens for item in self.items)


@dataclass(frozen=True, slots=True)
class Limits:
    """`batch_tokens`: most tokens of a batch, the prefix included. `alone_tokens`: a document of so
    many tokens runs by itself, and so does each behind a prefix of `alone_prefix_tokens` (None:
    never). `batch_items`: most documents of a batch."""

    batch_tokens: int = 16_384
    alone_tokens: int = 4_096
    batch_items: int = 512
    alone_prefix_tokens: int | None = None

    def halved(self, failed_tokens: int | None = None) -> Limits:
        """After running out of memory: half of what did not fit, never less than one document.

        A batch that was packed under an older, larger limit does not lower this one again.
        """
        half = (self.batch_tokens if failed_tokens is None else failed_tokens) // 2
        return replace(self, batch_tokens=max(min(self.batch_tokens, half), 1))

    def is_alone(self, item: Item, prefix_tokens: int) -> bool:
        """Whether a document runs by itself."""
        most = self.alone_prefix_tokens
        return item.tokens >= self.alone_tokens or (most is not None and prefix_tokens >= most)


def pack(items: Sequence[Item], prefix_tokens: int, limits: Limits) -> list[Batch]:
    """All items, each once: long ones alone first, then the others in order of falling length.

    A batch holds at most `limits.batch_tokens`, unless a single document has more.
    """
    alone = sorted((i for i in items if limits.is_alone(i, prefix_tokens)), key=_longest_first)
    others = sorted((i for i in items if not limits.is_alone(i, prefix_tokens)), key=_longest_first)
    return [Batch((item,), alone=True) for item in alone] + list(
        _fill(others, prefix_tokens, limits)
    )


def pack_in_order(items: Sequence[Item], prefix_tokens: int, limits: Limits) -> Iterator[Batch]:
    """The same for a deadline: nothing is read before what stands before it."""
    run: list[Item] = []
    for item in items:
        if limits.is_alone(item, prefix_tokens):
            yield from _fill(run, prefix_tokens, limits)
            run = []
            yield Batch((item,), alone=True)
        else:
            run.append(item)
    yield from _fill(run, prefix_tokens, limits)


def _longest_first(item: Item) -> tuple[int, int]:
    return (-item.tokens, item.place)


def _fill(items: Sequence[Item], prefix_tokens: int, limits: Limits) -> Iterator[Batch]:
    batch: list[Item] = []
    tokens = prefix_tokens
    for item in items:
        full = tokens + item.tokens > limits.batch_tokens or len(batch) >= limits.batch_items
        if batch and full:
            yield Batch(tuple(batch))
            batch, tokens = [], prefix_tokens
        batch.append(item)
        tokens += item.tokens
    if batch:
        yield Batch(tuple(batch))


def work_of(batch: Batch, prefix_tokens: int) -> tuple[int, int]:
    """(tokens, token pairs) that the model computes for a batch, the prefix once."""
    tokens = prefix_tokens + batch.tokens
    pairs = prefix_tokens * (prefix_tokens + 1) // 2
    pairs += sum(
        item.tokens * prefix_tokens + item.tokens * (item.tokens + 1) // 2 for item in batch.items
    )
    return tokens, pairs


@dataclass(frozen=True, slots=True)
class CostModel:
    """Milliseconds of a batch: `fixed + per_token * tokens + per_pair * pairs`."""

    fixed_ms: float
    per_token_ms: float
    per_pair_ms: float

    def estimate_ms(self, batch: Batch, prefix_tokens: int) -> float:
        return self.estimate_pass_ms([(batch, prefix_tokens)])

    def estimate_pass_ms(self, parts: Sequence[tuple[Batch, int]]) -> float:
        """Of one forward pass over several requests' batches, each with its prefix's tokens."""
        total = self.fixed_ms
        for batch, prefix_tokens in parts:
            tokens, pairs = work_of(batch, prefix_tokens)
            total += self.per_token_ms * tokens + self.per_pair_ms * pairs
        return total

    @classmethod
    def fit(cls, measured: Sequence[tuple[int, int, float]]) -> CostModel:
        """From (tokens, pairs, milliseconds) of at least three batches; no coefficient below 0.

        Least squares of the relative error, so that a long batch does not drown the short ones.
        """
        assert len(measured) >= 3
        rows = np.array([(1.0, tokens, pairs) for tokens, pairs, _ in measured])
        times = np.array([ms for *_, ms in measured])
        scaled = rows / times[:, None]
        kept = [0, 1, 2]
        while True:
            solved = np.linalg.lstsq(scaled[:, kept], np.ones(len(times)), rcond=None)[0]
            if (solved >= 0).all() or len(kept) == 1:
                break
            kept.pop(int(np.argmin(solved)))
        found = dict(zip(kept, np.maximum(solved, 0.0), strict=True))
        return cls(*(float(found.get(n, 0.0)) for n in range(3)))


def pack_for_deadline(
    items: Sequence[Item], prefix_tokens: int, limits: Limits, cost: CostModel, left_ms: float
) -> list[Batch]:
    """Full batches where all of them end in time; else batches of a quarter of the time.

    A batch is read whole or not at all: with full ones, a deadline shorter than one would read
    nothing, and a little longer one would waste what is left behind the last.
    """
    batches = list(pack_in_order(items, prefix_tokens, limits))
    if sum(cost.estimate_ms(batch, prefix_tokens) for batch in batches) <= left_ms:
        return batches
    share_ms = left_ms / _BATCHES_BEFORE_DEADLINE - cost.fixed_ms
    if cost.per_token_ms <= 0:
        return batches
    tokens = min(limits.batch_tokens, max(1, int(share_ms / cost.per_token_ms)))
    return list(pack_in_order(items, prefix_tokens, replace(limits, batch_tokens=tokens)))
