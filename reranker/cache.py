"""Readings that were made before: the same passages for the same question cost nothing again.

For rerankers that run a model over text; `late` computes faster than a look-up would. What is kept
is numbers under a hash: no query, no text, no document's name. A key is all that a reading depends
on (the reranker's fingerprint, instruction, query, title, depth and the catalog's ids of the
passages, which are never given to others), and nothing of who asked: the passages of a search have
passed its scope before they come here. So a changed document has new keys, and what is left of the
old ones falls out at the end of the row. In memory, for one process.

Sound because a reranker gives equal inputs equal scores whatever stands beside them.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from longleaf.core.protocols import DistantReranker, QueuedReranker, ReaderQuery, Reranker

if TYPE_CHECKING:
    from longleaf.core.budget import Budget
    from longleaf.core.types import DocumentLimits, ReaderLoad, Reading, ReadingInput


def cached(reranker: Reranker, most: int) -> Reranker:
    """`reranker` with up to `most` readings kept; itself where there is nothing to gain."""
    if most == 0 or not reranker.reads_text:
        return reranker
    if isinstance(reranker, QueuedReranker):
        return _CachedQueue(reranker, most)
    if isinstance(reranker, DistantReranker):
        return _CachedDistant(reranker, most)
    return CachedReranker(reranker, most)


def uncached(reranker: Reranker) -> Reranker:
    """`reranker` as it reads, and not as it remembers."""
    return reranker.inner if isinstance(reranker, CachedReranker) else reranker


class CachedReranker:
    """`core.protocols.Reranker`. Thread-safe when the inner one is."""

    def __init__(self, inner: Reranker, most: int) -> None:
        self.inner = inner
        self.name = inner.name
        self.fingerprint = inner.fingerprint
        self.takes_instruction = inner.takes_instruction
        self.reads_text = inner.reads_text
        self.first_stage_weight = inner.first_stage_weight
        self.document_limits: DocumentLimits = inner.document_limits
        self.document_weight = inner.document_weight
        self.min_score = inner.min_score
        self.default_instruction = inner.default_instruction
        self._most = most
        self._kept: OrderedDict[bytes, Reading] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def kept_count(self) -> int:
        """How many readings are kept now."""
        return len(self._kept)

    def read(
        self, query: ReaderQuery, inputs: Sequence[ReadingInput], budget: Budget
    ) -> Iterator[Reading]:
        """See core.protocols.Reranker. What is known comes first and uses no tokens."""
        if budget.spent() is not None:
            return
        start = self._start(query)
        keys = {item.rank: _key(start, item) for item in inputs}
        missing = []
        for item in inputs:
            if (known := self._get(keys[item.rank])) is None:
                missing.append(item)
            else:
                yield _as_of(known, item)
        if not missing:
            return
        by_rank = {item.rank: item for item in missing}
        for reading in self.inner.read(query, missing, budget):
            if reading.rank in by_rank:  # whoever asked tells those that break the contract
                self._put(keys[reading.rank], reading, by_rank[reading.rank])
            yield reading

    def _start(self, query: ReaderQuery) -> bytes:
        parts = (self.fingerprint, query.instruction or "", query.text)
        return b"".join(_part(part.encode("utf-8", "surrogatepass")) for part in parts)

    def _get(self, key: bytes) -> Reading | None:
        with self._lock:
            if (found := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
            return found

    def _put(self, key: bytes, reading: Reading, item: ReadingInput) -> None:
        places = {passage.point_id: place for place, passage in enumerate(item.passages)}
        if any(point not in places for point, _ in reading.passage_scores):
            return  # of passages that nobody gave it
        by_place = tuple((places[point], score) for point, score in reading.passage_scores)
        with self._lock:
            self._kept[key] = replace(reading, passage_scores=by_place)
            self._kept.move_to_end(key)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)


class _CachedQueue(CachedReranker):
    """The same of a `QueuedReranker`."""

    inner: QueuedReranker

    @property
    def failure(self) -> str | None:
        return self.inner.failure

    def load(self) -> ReaderLoad:
        return self.inner.load()

    def close(self) -> None:
        self.inner.close()


class _CachedDistant(CachedReranker):
    """The same of a `DistantReranker`."""

    inner: DistantReranker

    @property
    def trouble(self) -> str | None:
        return self.inner.trouble

    def close(self) -> None:
        self.inner.close()


def _key(start: bytes, item: ReadingInput) -> bytes:
    """32 bytes of all that the item's reading depends on; no part can be taken for another."""
    hashed = hashlib.sha256(start)
    for part in (item.depth, item.title):
        hashed.update(_part(part.encode("utf-8", "surrogatepass")))
    ids = (item.document_tokens, item.first_passage_id, *(p.passage_id for p in item.passages))
    hashed.update(_part(" ".join(map(str, ids)).encode()))
    return hashed.digest()


def _part(data: bytes) -> bytes:
    return len(data).to_bytes(8, "big") + data


def _as_of(known: Reading, item: ReadingInput) -> Reading:
    """A kept reading as this search's: its rank and its own point ids."""
    scores = tuple((item.passages[place].point_id, score) for place, score in known.passage_scores)
    return replace(known, rank=item.rank, passage_scores=scores, from_cache=True)
