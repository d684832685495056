"""Which rows hold which term: sorted keys, and for each the rows with their weights.

One structure serves BM25 (keys are term numbers) and phrases (keys are `word_key`s, no weights). It
is made once and never changed; several become one by `merged`. It knows no text and no scores.
Trade-off: 8 bytes a posting (4 without weights), uncompressed, for numpy to add up at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from longleaf.core.types import FloatArray

_REMEMBERED_WORDS = 200_000
_known: dict[str, int] = {}


@dataclass(frozen=True, slots=True, eq=False)
class Postings:
    """`keys` (n_keys,) uint64 ascending; those of keys[i] are rows[starts[i]:starts[i + 1]].

    `starts` (n_keys + 1,) int64, `rows` (n_postings,) int32, no row twice under a key, `weights`
    (n_postings,) float32 or None.
    """

    keys: NDArray[np.uint64]
    starts: NDArray[np.int64]
    rows: NDArray[np.int32]
    weights: FloatArray | None

    def places(self, keys: NDArray[np.uint64]) -> list[slice]:
        """Where the rows (and weights) of each of `keys` stand; an empty slice where it is not."""
        at = np.searchsorted(self.keys, keys)
        return [
            slice(int(self.starts[place]), int(self.starts[place + 1]))
            if place < len(self.keys) and self.keys[place] == key
            else slice(0, 0)
            for place, key in zip(at.tolist(), keys, strict=True)
        ]


def from_rows(
    keys_of_rows: Sequence[Sequence[int]], weights_of_rows: Sequence[Sequence[float]] | None
) -> Postings:
    """The postings of rows 0, 1, ... that hold these keys, each key once a row."""
    counts = np.fromiter(map(len, keys_of_rows), np.int64, len(keys_of_rows))
    total = int(counts.sum())
    keys = np.fromiter((key for one in keys_of_rows for key in one), np.uint64, total)
    rows = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    weights = None
    if weights_of_rows is not None:
        weights = np.fromiter((w for one in weights_of_rows for w in one), np.float32, total)
    return _grouped(keys, rows, weights)


def merged(parts: Sequence[Postings], new_rows: Sequence[NDArray[np.int32]]) -> Postings:
    """One for all: row r of parts[i] becomes new_rows[i][r], or goes where that is negative."""
    keys, rows, weights = [], [], []
    for part, renamed in zip(parts, new_rows, strict=True):
        named = renamed[part.rows]
        kept = named >= 0
        keys.append(np.repeat(part.keys, np.diff(part.starts))[kept])
        rows.append(named[kept])
        if part.weights is not None:
            weights.append(part.weights[kept])
    return _grouped(
        np.concatenate(keys),
        np.concatenate(rows),
        np.concatenate(weights) if weights else None,
    )


def word_key(word: str) -> int:
    """A word's number: 64 bits of BLAKE2b. That any two of ten million words share one has a
    probability of 3 in a million."""
    known = _known.get(word)
    if known is None:
        if len(_known) >= _REMEMBERED_WORDS:
            _known.clear()
        written = word.encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(written, digest_size=8).digest()
        known = _known[word] = int.from_bytes(digest, "little")
    return known


def _grouped(
    keys: NDArray[np.uint64], rows: NDArray[np.int32], weights: FloatArray | None
) -> Postings:
    order = np.argsort(keys, kind="stable")  # quick on parts that are in order
    keys = keys[order]
    changes = np.flatnonzero(keys[1:] != keys[:-1]) + 1
    first = [0] if len(keys) else []
    starts = np.concatenate([first, changes, [len(keys)]]).astype(np.int64)
    distinct = keys[starts[:-1]]
    return Postings(distinct, starts, rows[order], None if weights is None else weights[order])
