"""A segment: some documents with all their passages, made once and never changed.

Rows are passages in the order of their point ids; vectors, BM25 postings, words and word postings
stand beside each other by row, documents in a table of their own. New documents make a new segment;
several become one by `merged`, without the documents that are gone. So a search needs no lock, and
a file is written once. It knows no index and no query. Trade-off: deleted documents keep their room
until their segment is merged, and a merge needs the room of both.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from longleaf.core.protocols import IndexEntry
from longleaf.retriever.index import faiss_postings
from longleaf.retriever.index.faiss_dense import DenseRows
from longleaf.retriever.index.faiss_documents import Documents
from longleaf.retriever.index.faiss_files import read_arrays, write_arrays
from longleaf.retriever.index.faiss_postings import Postings, word_key
from longleaf.retriever.index.sparse import encoder
from longleaf.retriever.words import words

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from longleaf.core.types import FloatArray

    Mask = NDArray[np.bool_]

PREFIX = "segment-"
_KIND = "segment"


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """`point_ids` (n_rows,) int64 ascending, `row_documents` (n_rows,) int32 places in `documents`;
    `texts` (n_bytes,) uint8 holds each row's words, " as one two ", `text_ends` (n_rows,) int64."""

    name: str
    point_ids: NDArray[np.int64]
    row_documents: NDArray[np.int32]
    documents: Documents
    dense: DenseRows
    bm25: Postings
    words: Postings
    texts: NDArray[np.uint8]
    text_ends: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.point_ids)

    def text(self, row: int) -> bytes:
        """The words of a row, each with a space on both sides."""
        begin = self.text_ends[row - 1] if row else 0
        return self.texts[begin : self.text_ends[row]].tobytes()

    def rows_of(self, point_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where these points stand; -1 for one that is not here."""
        if not len(self):
            return np.full(len(point_ids), -1, np.int64)
        at = np.searchsorted(self.point_ids, point_ids).clip(max=len(self) - 1)
        return np.where(self.point_ids[at] == point_ids, at, -1)

    def holding_phrase(self, phrase: str) -> Mask:
        """The rows that have the phrase's words side by side; `phrase` has at least one."""
        parts = words(phrase)
        keys = np.array(sorted({word_key(part) for part in parts}), np.uint64)
        lists = sorted((self.words.rows[place] for place in self.words.places(keys)), key=len)
        rows = lists[0]
        for more in lists[1:]:
            rows = np.intersect1d(rows, more, assume_unique=True)
        if len(parts) > 1:
            wanted, texts = _written(parts), self.texts.data
            ends = self.text_ends[rows].tolist()
            begins = np.where(rows > 0, self.text_ends[rows - 1], 0).tolist()
            holds = [wanted in bytes(texts[a:z]) for a, z in zip(begins, ends, strict=True)]
            rows = rows[np.array(holds, np.bool_)]
        found = np.zeros(len(self), np.bool_)
        found[rows] = True
        return found

    def save(self, path: Path) -> None:
        """Write it and have it on the disk. Raises NoSpace."""
        documents, bm25, holders = self.documents, self.bm25, self.words
        assert bm25.weights is not None
        arrays: dict[str, NDArray[Any]] = {
            "point_ids": self.point_ids,
            "row_documents": self.row_documents,
            "ids": documents.ids,
            "revisions": documents.revisions,
            "labelled": documents.labelled,
            "fields": documents.fields,
            "field_ends": documents.field_ends,
            "dense": self.dense.written,
            "bm25_keys": bm25.keys,
            "bm25_starts": bm25.starts,
            "bm25_rows": bm25.rows,
            "bm25_weights": bm25.weights,
            "word_keys": holders.keys,
            "word_starts": holders.starts,
            "word_rows": holders.rows,
            "texts": self.texts,
            "text_ends": self.text_ends,
        }
        write_arrays(path, _KIND, {"labels": documents.labels}, arrays)

    @classmethod
    def load(cls, path: Path) -> Segment:
        """What `save` wrote, mapped into memory. Raises Unreadable and OSError."""
        facts, of = read_arrays(path, _KIND)
        return cls(
            path.name,
            of["point_ids"],
            of["row_documents"],
            Documents(
                of["ids"], of["revisions"], facts["labels"], of["labelled"], of["fields"],
                of["field_ends"],
            ),
            DenseRows(of["dense"]),
            Postings(of["bm25_keys"], of["bm25_starts"], of["bm25_rows"], of["bm25_weights"]),
            Postings(of["word_keys"], of["word_starts"], of["word_rows"], None),
            of["texts"],
            of["text_ends"],
        )  # fmt: skip


def from_entries(entries: Iterable[IndexEntry], dim: int) -> Segment:
    """A segment of these documents, of which no two are the same."""
    ordered = sorted(entries, key=lambda entry: entry.revision_id)
    passages = [
        (passage, place, entry)
        for place, entry in enumerate(ordered)
        for passage in sorted(entry.passages, key=lambda passage: passage.point_id)
    ]
    codes = np.empty((len(passages), dim), np.float16)
    terms, weights, keys, texts = [], [], [], []
    for row, (passage, _, entry) in enumerate(passages):
        codes[row] = unit(passage.dense)
        bm25 = encoder(entry.bm25_language).document(passage.text)
        terms.append(bm25.indices)
        weights.append(bm25.weights)
        parts = words(passage.phrase_text)
        keys.append([word_key(part) for part in set(parts)])
        texts.append(_written(parts))
    return Segment(
        new_name(),
        np.array([passage.point_id for passage, _, _ in passages], np.int64),
        np.array([place for _, place, _ in passages], np.int32),
        Documents.of(ordered),
        DenseRows.of(codes),
        faiss_postings.from_rows(terms, weights),
        faiss_postings.from_rows(keys, None),
        np.frombuffer(b"".join(texts), np.uint8),
        np.cumsum([len(text) for text in texts], dtype=np.int64),
    )


def merged(parts: Sequence[tuple[Segment, Mask]], dim: int) -> Segment:
    """One segment for all: of each its documents that are alive, by the mask beside it."""
    kept = [np.flatnonzero(alive) for _, alive in parts]
    alive_rows = [np.flatnonzero(alive[segment.row_documents]) for segment, alive in parts]
    of_part = np.repeat(np.arange(len(parts)), [len(rows) for rows in alive_rows])
    rows = np.concatenate(alive_rows)
    point_ids = np.concatenate(
        [segment.point_ids[some] for (segment, _), some in zip(parts, alive_rows, strict=True)]
    )
    order = np.argsort(point_ids, kind="stable")
    of_part, rows, point_ids = of_part[order], rows[order], point_ids[order]
    codes = np.empty((len(rows), dim), np.float16)
    lengths = np.empty(len(rows), np.int64)
    row_documents = np.empty(len(rows), np.int32)
    new_rows, first_document = [], 0
    for number, (segment, alive) in enumerate(parts):
        here = np.flatnonzero(of_part == number)
        old = rows[here]
        renamed = np.full(len(segment), -1, np.int32)
        renamed[old] = here
        new_rows.append(renamed)
        codes[here] = segment.dense.codes(old)
        lengths[here] = np.diff(segment.text_ends, prepend=0)[old]
        places = first_document + np.cumsum(alive) - 1
        row_documents[here] = places[segment.row_documents[old]]
        first_document += len(kept[number])
    text_ends = np.cumsum(lengths, dtype=np.int64)
    texts = np.empty(int(lengths.sum()), np.uint8)
    begin = 0
    for part, row, end in zip(of_part.tolist(), rows.tolist(), text_ends.tolist(), strict=True):
        segment = parts[part][0]
        texts[begin:end] = segment.texts[
            segment.text_ends[row] - (end - begin) : segment.text_ends[row]
        ]
        begin = end
    return Segment(
        new_name(),
        point_ids,
        row_documents,
        Documents.merged([segment.documents for segment, _ in parts], kept),
        DenseRows.of(codes),
        faiss_postings.merged([segment.bm25 for segment, _ in parts], new_rows),
        faiss_postings.merged([segment.words for segment, _ in parts], new_rows),
        texts,
        text_ends,
    )


def unit(vector: FloatArray) -> FloatArray:
    """The vector at length 1, so that a product is a cosine; one of length 0 stays."""
    length = float(np.linalg.norm(vector))
    return (vector / length).astype(np.float32) if length > 0 else vector.astype(np.float32)


def new_name() -> str:
    """A file name that no segment has had."""
    return f"{PREFIX}{secrets.token_hex(8)}"


def _written(parts: Sequence[str]) -> bytes:
    return f" {' '.join(parts)} ".encode("utf-8", "surrogatepass")
