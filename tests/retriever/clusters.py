"""Documents with clustered vectors in a FAISS index, and how two indexes of them are compared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from longleaf.core.ids import point_id
from longleaf.core.protocols import IndexEntry, IndexFilter, IndexPassage
from longleaf.retriever.index.faiss import FaissIndex

if TYPE_CHECKING:
    from longleaf.core.types import FloatArray

DIM = 16
ALL = IndexFilter(("law",))


def document(number: int, vectors: FloatArray, revision: int | None = None) -> IndexEntry:
    revision = number if revision is None else revision
    passages = (
        IndexPassage(point_id(revision, ordinal), "word", "word", vector)
        for ordinal, vector in enumerate(vectors)
    )
    return IndexEntry(
        document_id=number, revision_id=revision, public_id=f"p{number}", collection="law",
        key=f"k{number}", title="t", source="s", media_type="text/plain", bm25_language="none",
        groups=(), passages=tuple(passages), metadata={"number": number},
    )  # fmt: skip


def clustered(count: int, seed: int = 1) -> FloatArray:
    """Unit vectors (count, DIM) around 20 centres."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(20, DIM))
    vectors = centres[random.integers(0, 20, count)] + 0.4 * random.normal(size=(count, DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def opened(folder: Path, **settings: Any) -> FaissIndex:
    return FaissIndex.open(folder, DIM, "test", **{"devices": "cpu", **settings})


def put_documents(index: FaissIndex, numbers: range, passages: int = 50) -> None:
    vectors = clustered(passages * len(numbers), seed=numbers[0])
    for place, number in enumerate(numbers):
        index.put([document(number, vectors[place * passages : (place + 1) * passages])])


def both(index: FaissIndex, exact: FaissIndex, asked: IndexFilter, depth: int = 20) -> float:
    """The share of the exact index's answers that the other gives; equal scores where it does."""
    found = wanted = 0
    for query in clustered(20, seed=99):
        right = {hit.point_id: hit.score for hit in exact.search_dense(query, asked, depth)}
        left = index.search_dense(query, asked, depth)
        assert [hit.score for hit in left] == sorted((hit.score for hit in left), reverse=True)
        for hit in left:
            if hit.point_id in right:
                assert hit.score == right[hit.point_id]
        found += len({hit.point_id for hit in left} & right.keys())
        wanted += len(right)
    return found / wanted
