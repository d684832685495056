"""Which segments become one, so that there are few of them and each passage is copied seldom.

Segments fall into tiers by their passages. A tier that has too many, or enough for a full segment,
becomes one segment of a higher tier; a full one is left alone until half of it is gone. It makes
plans and touches no file. Trade-off: a passage is copied two to four times until it lies in a full
segment, and a merge holds the sources and the result in memory (docs/faiss.md has what that takes).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

MAX_ROWS = 32_768
"""Passages of a full segment; a document that has more stands alone in a larger one."""

_TIERS = (128, 1024, 8192)
_MOST_IN_TIER = (8, 8, 16)


@dataclass(frozen=True, slots=True)
class Extent:
    """How many passages a segment has, and how many of them are alive."""

    rows: int
    alive_rows: int


def next_merge(extents: Sequence[Extent]) -> list[int]:
    """The segments (by number) to merge next; empty when there is nothing to do.

    One alone is to be made anew without what is gone from it.
    """
    tiers: list[list[int]] = [[] for _ in range(len(_TIERS) + 1)]
    for number, extent in enumerate(extents):
        if extent.rows and extent.alive_rows * 2 <= extent.rows:
            return [number]
        tiers[bisect_right(_TIERS, extent.alive_rows)].append(number)
    for tier, most in zip(tiers, _MOST_IN_TIER, strict=False):
        total = sum(extents[number].alive_rows for number in tier)
        if len(tier) > most or total >= MAX_ROWS:
            chosen = _that_fit(tier, extents)
            if len(chosen) > 1:
                return chosen
    return []


def full_merges(extents: Sequence[Extent], documents_gone: Sequence[bool]) -> list[list[int]]:
    """Every merge that it takes until nothing is gone and small segments stand together."""
    merges: list[list[int]] = []
    waiting = [
        number
        for number, extent in enumerate(extents)
        if documents_gone[number] or extent.alive_rows < MAX_ROWS // 2
    ]
    while waiting:
        chosen = _that_fit(waiting, extents) or waiting[:1]
        waiting = [number for number in waiting if number not in chosen]
        if len(chosen) > 1 or documents_gone[chosen[0]]:
            merges.append(chosen)
    return merges


def _that_fit(numbers: Sequence[int], extents: Sequence[Extent]) -> list[int]:
    chosen, total = [], 0
    for number in numbers:
        if total + extents[number].alive_rows <= MAX_ROWS:
            chosen.append(number)
            total += extents[number].alive_rows
    return chosen
