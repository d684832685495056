"""A batch as the tensors of one forward pass see it: one row a token, nothing padded; no torch.

Rows: a query's prefix, then each of its documents with the suffix, then the next query's prefix
(Krell et al. 2021, arXiv 2107.02027, calls it packing). Positions start again behind the prefix for
every document, so each pair is computed as if it were alone, whoever shares the batch. `keys` says
which rows a sequence attends to, one sequence after the other: a prefix alone, then prefix +
document for each document; so a kernel for sequences of different lengths needs no mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from longleaf.reranker.qwen3.template import TokenIds


Group = tuple["TokenIds", Sequence["TokenIds"]]
"""A query's prefix, and its documents, each ending with the suffix."""


@dataclass(frozen=True, slots=True)
class Packed:
    """N documents of G queries: T rows, K keys; S = N + G sequences in the order of the rows.

    `ids`, `positions`: (T,) int64. `query_starts`, `key_starts`: (S + 1,) int32, where a sequence
    begins among queries and among keys. `keys`: (K,) int64, rows. `last`: (N,) int64, the row of
    each document's last token; `last_keys`, `last_key_starts` (N + 1,): what those rows attend to.
    `max_queries`, `max_keys`: the longest sequence's.

    For attention that reads keys where they lie: `prefix_starts`, `prefix_lengths` (S,) int32, the
    rows that a sequence sees before its own; `last_sequences` (N,) int32, each document's sequence.
    """

    ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    query_starts: NDArray[np.int32]
    key_starts: NDArray[np.int32]
    keys: NDArray[np.int64]
    last: NDArray[np.int64]
    last_keys: NDArray[np.int64]
    last_key_starts: NDArray[np.int32]
    prefix_starts: NDArray[np.int32]
    prefix_lengths: NDArray[np.int32]
    last_sequences: NDArray[np.int32]
    max_queries: int
    max_keys: int

    @property
    def document_count(self) -> int:
        return len(self.last)

    def tiles(self, tokens: int) -> NDArray[np.int32]:
        """(tiles, 5): own_start, length, first, prefix_start, prefix_length of each piece of
        `tokens` tokens. Those of the longest sequences come first: they take longest."""
        lengths = np.diff(self.query_starts)
        pieces = -(-lengths // tokens)
        order = np.argsort(-pieces, kind="stable")
        sequences = np.repeat(order, pieces[order])
        begins = np.repeat(np.cumsum(pieces[order]) - pieces[order], pieces[order])
        return self._table(sequences, (np.arange(len(sequences)) - begins) * tokens)

    def last_tiles(self) -> NDArray[np.int32]:
        """(N, 5): the same for each document's last token."""
        lengths = np.diff(self.query_starts)
        return self._table(self.last_sequences, lengths[self.last_sequences] - 1)

    def _table(
        self, sequences: NDArray[np.integer], firsts: NDArray[np.integer]
    ) -> NDArray[np.int32]:
        starts = self.query_starts[sequences]
        lengths = self.query_starts[sequences + 1] - starts
        prefixes = self.prefix_starts[sequences], self.prefix_lengths[sequences]
        return np.stack([starts, lengths, firsts, *prefixes], axis=1).astype(np.int32)


def pack_rows(groups: Sequence[Group]) -> Packed:
    """Every group has a document, and no document is empty; a prefix may be."""
    ids: list[NDArray[np.generic]] = []
    positions: list[NDArray[np.int64]] = []
    keys: list[NDArray[np.int64]] = []
    last_keys: list[NDArray[np.int64]] = []
    query_lengths: list[int] = []
    key_lengths: list[int] = []
    last_lengths: list[int] = []
    last: list[int] = []
    prefixes: list[tuple[int, int]] = []
    last_sequences: list[int] = []
    row = 0
    for prefix, documents in groups:
        assert len(documents), "a query without documents has nothing to compute"
        shared = np.arange(row, row + len(prefix))
        ids.append(prefix)
        positions.append(np.arange(len(prefix)))
        keys.append(shared)
        query_lengths.append(len(prefix))
        key_lengths.append(len(prefix))
        prefixes.append((row, 0))
        prefix_row = row
        row += len(prefix)
        for document in documents:
            length = len(document)
            assert length, "a document has at least its suffix"
            own = [shared, np.arange(row, row + length)]
            ids.append(document)
            positions.append(np.arange(len(prefix), len(prefix) + length))
            keys += own
            last_keys += own
            query_lengths.append(length)
            key_lengths.append(len(prefix) + length)
            last_lengths.append(len(prefix) + length)
            last_sequences.append(len(prefixes))
            prefixes.append((prefix_row, len(prefix)))
            row += length
            last.append(row - 1)
    prefix_starts, prefix_lengths = np.array(prefixes, np.int32).T.copy()
    return Packed(
        ids=np.concatenate(ids).astype(np.int64),
        positions=np.concatenate(positions).astype(np.int64),
        query_starts=_starts(query_lengths),
        key_starts=_starts(key_lengths),
        keys=np.concatenate(keys).astype(np.int64),
        last=np.array(last, np.int64),
        last_keys=np.concatenate(last_keys).astype(np.int64),
        last_key_starts=_starts(last_lengths),
        prefix_starts=prefix_starts,
        prefix_lengths=prefix_lengths,
        last_sequences=np.array(last_sequences, np.int32),
        max_queries=max(query_lengths),
        max_keys=max(key_lengths),
    )


def _starts(lengths: Sequence[int]) -> NDArray[np.int32]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
