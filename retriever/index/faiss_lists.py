"""Inverted lists over sealed segments: a search looks into the nearest few instead of everywhere.

Centroids are trained on the index's own vectors when `optimize` finds enough of them (39 a list, as
FAISS asks). The lists hold the segments' 16-bit floats once more, in memory; the file holds
centroids and each row's list. What came in since is scanned beside them, and what was deleted is
masked. It knows segments and no points. Trade-off: faster, and not exact: what lies in lists that
were not looked into is missed (`longleaf doctor --recall` measures how much).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from longleaf.retriever.index.faiss_dense import best_with_equals
from longleaf.retriever.index.faiss_files import read_arrays, write_arrays
from longleaf.retriever.index.faiss_library import load_faiss, one_thread
from longleaf.retriever.index.faiss_segment import Segment

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from longleaf.core.types import FloatArray
    from longleaf.retriever.index.faiss_view import Live

    Found = list[tuple[int, NDArray[np.int64], FloatArray]]
    """(number of a segment among those asked, rows, their scores)."""

PREFIX = "lists-"
LEAST_PER_LIST = 39
_SAMPLED_PER_LIST = 64
_ROUNDS = 10
_ROWS_AT_ONCE = 16_384
_KIND = "lists"


class Placed:
    """The segments whose rows lie somewhere, one after the other: `names`, and where each begins,
    with the end of the last: `bounds`. Never changed."""

    def __init__(self, segments: Sequence[tuple[str, int]] = ()) -> None:
        self.segments = tuple(segments)
        self.names = frozenset(name for name, _ in segments)
        self.bounds = np.cumsum([0, *(rows for _, rows in segments)])

    def split(self, rows: NDArray[np.int64]) -> Iterator[tuple[str, NDArray[np.int64]]]:
        """(segment, its rows ascending) for each segment that these rows lie in."""
        ascending = np.sort(rows)
        ends = np.searchsorted(ascending, self.bounds)
        for place in np.flatnonzero(np.diff(ends)).tolist():
            here = ascending[ends[place] : ends[place + 1]]
            yield self.segments[place][0], here - self.bounds[place]


class InvertedLists:
    """`Sealed` on the CPU. Made by `trained` and `load`."""

    def __init__(
        self,
        name: str,
        segments: Sequence[Segment],
        centroids: FloatArray,
        assigned: Sequence[NDArray[np.int32]],
        trained_rows: int,
        probes: int,
    ) -> None:
        """`centroids` (n_lists, dim); `assigned`: for each segment the list of each row;
        `trained_rows`: how many there were when the centroids were made."""
        self._faiss: Any = load_faiss()
        faiss = self._faiss
        self.name = name
        self.list_count, dim = centroids.shape
        self.placed = Placed([(segment.name, len(segment)) for segment in segments])
        self._centroids, self._assigned = centroids, assigned
        self.trained_rows, self._probes = trained_rows, probes
        # Kept here: the index only borrows it.
        self._quantizer = faiss.IndexFlatIP(dim)
        self._quantizer.add(np.ascontiguousarray(centroids))
        self.index = faiss.IndexIVFScalarQuantizer(
            self._quantizer, dim, self.list_count, faiss.ScalarQuantizer.QT_fp16,
            faiss.METRIC_INNER_PRODUCT, False,
        )  # fmt: skip
        self.index.is_trained = True  # 16-bit floats have nothing to train
        self.index.nprobe = min(probes, self.list_count)
        first = 0
        for segment, lists in zip(segments, assigned, strict=True):
            for begin, block in blocks(segment):
                ids = np.arange(first + begin, first + begin + len(block), dtype=np.int64)
                where = lists[begin : begin + len(block)].astype(np.int64)
                self.index.add_core(
                    len(block), faiss.swig_ptr(block), faiss.swig_ptr(ids), faiss.swig_ptr(where)
                )
            first += len(segment)

    @classmethod
    def trained(cls, segments: Sequence[Segment], list_count: int, probes: int) -> InvertedLists:
        """New lists for these segments, which have at least LEAST_PER_LIST rows a list."""
        faiss: Any = load_faiss()
        dim = segments[0].dense.dim
        total = sum(map(len, segments))
        random = np.random.default_rng(1)
        wanted = min(total, list_count * _SAMPLED_PER_LIST)
        chosen = np.sort(random.choice(total, wanted, replace=False))
        sample = np.empty((wanted, dim), np.float32)
        filled = first = 0
        for segment in segments:
            here = chosen[(chosen >= first) & (chosen < first + len(segment))] - first
            sample[filled : filled + len(here)] = segment.dense.codes(here)
            filled, first = filled + len(here), first + len(segment)
        clusters = faiss.Kmeans(
            dim, list_count, niter=_ROUNDS, spherical=True, seed=1,
            max_points_per_centroid=_SAMPLED_PER_LIST,
        )  # fmt: skip
        clusters.train(sample)
        return cls._filled(segments, clusters.centroids, total, probes)

    def refilled(self, segments: Sequence[Segment]) -> InvertedLists:
        """The same lists with the rows of these segments."""
        return self._filled(segments, self._centroids, self.trained_rows, self._probes)

    @classmethod
    def _filled(
        cls, segments: Sequence[Segment], centroids: FloatArray, trained_rows: int, probes: int
    ) -> InvertedLists:
        faiss: Any = load_faiss()
        quantizer = faiss.IndexFlatIP(centroids.shape[1])
        quantizer.add(np.ascontiguousarray(centroids))
        assigned = []
        for segment in segments:
            lists = np.empty(len(segment), np.int32)
            for begin, block in blocks(segment):
                lists[begin : begin + len(block)] = quantizer.search(block, 1)[1][:, 0]
            assigned.append(lists)
        name = f"{PREFIX}{secrets.token_hex(8)}"
        return cls(name, segments, centroids, assigned, trained_rows, probes)

    @classmethod
    def load(cls, path: Path, segments: Sequence[Segment], probes: int) -> InvertedLists:
        """What `save` wrote, for those of its segments that are still there.

        Raises Unreadable and OSError.
        """
        facts, arrays = read_arrays(path, _KIND)
        there = {segment.name: segment for segment in segments}
        kept = [name for name in facts["segments"] if name in there]
        return cls(
            path.name,
            [there[name] for name in kept],
            arrays["centroids"],
            [arrays[name] for name in kept],
            facts["trained_rows"],
            probes,
        )

    def save(self, folder: Path) -> None:
        """Write it and have it on the disk. Raises NoSpace."""
        names = [name for name, _ in self.placed.segments]
        lists = dict(zip(names, self._assigned, strict=True))
        facts = {"segments": names, "trained_rows": self.trained_rows}
        write_arrays(folder / self.name, _KIND, facts, {"centroids": self._centroids, **lists})

    def covers(self, segment: Segment) -> bool:
        """Whether the segment's rows are in the lists."""
        return segment.name in self.placed.names

    def search(
        self,
        lives: Sequence[Live],
        masks: Sequence[NDArray[np.bool_]],
        query: FloatArray,
        limit: int,
    ) -> Found:
        """The nearest in the lists that are looked into."""
        numbers = {live.segment.name: number for number, live in enumerate(lives)}
        passing = np.concatenate(
            [
                masks[numbers[name]] if name in numbers else np.zeros(rows, np.bool_)
                for name, rows in self.placed.segments
            ]
        )
        return [
            (number, rows, lives[number].segment.dense.score(query, rows))
            for number, rows in self.split(lives, self._nearest(query, limit, passing))
        ]

    def split(
        self, lives: Sequence[Live], found: NDArray[np.int64]
    ) -> list[tuple[int, NDArray[np.int64]]]:
        """(number in `lives`, rows ascending) of what the lists call these rows."""
        numbers = {live.segment.name: number for number, live in enumerate(lives)}
        return [(numbers[name], rows) for name, rows in self.placed.split(found) if name in numbers]

    def _nearest(
        self, query: FloatArray, limit: int, passing: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        faiss = self._faiss
        bits = np.packbits(passing, bitorder="little")
        selector = faiss.IDSelectorBitmap(len(passing), faiss.swig_ptr(bits))
        parameters = faiss.SearchParametersIVF(sel=selector, nprobe=self.index.nprobe)

        def nearest(asked: int) -> tuple[NDArray[np.int64], FloatArray]:
            with one_thread(faiss):
                scores, rows = self.index.search(query[None], asked, params=parameters)
            there = rows[0] >= 0
            return rows[0][there], scores[0][there]

        return best_with_equals(nearest, limit, int(np.count_nonzero(passing)))


def blocks(segment: Segment) -> Iterator[tuple[int, FloatArray]]:
    """(first row, vectors (n, dim) float32) of all rows."""
    for begin in range(0, len(segment), _ROWS_AT_ONCE):
        yield begin, segment.dense.codes(slice(begin, begin + _ROWS_AT_ONCE)).astype(np.float32)
