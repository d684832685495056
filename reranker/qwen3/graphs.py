"""CUDA graphs for short batches: a forward pass of 300 launches becomes one.

A short batch is bound by the processor that launches its kernels, not by the GPU that runs them. A
graph replays all launches at once, but everything that is a number or an address at capture is
baked into it: the sizes of all tensors and the longest sequence that attention is launched for. So
batches are padded up to a few sizes (`Bucket`), which is all that a graph depends on, and a graph's
inputs lie at fixed addresses, filled by one copy from pinned memory. Replaying with a longest
sequence that was too short, or starts that were left over, is how others lost accuracy silently
(huggingface/transformers#45323, pytorch/torchtitan#4158): here both come with every batch.

Padding is harmless because every step works row by row: what a row beyond the end holds (its
attention is never computed, so it may be anything) reaches no other row, no key and no result.

What it costs: padded rows are computed (up to a third of a small batch, which is bound by launches
anyway), a graph holds memory, and its capture takes as long as several batches. So a size is
captured only when it comes a second time, the least recently used graph goes first, and all share
one pool. Long batches run unpadded, as they came. It knows no text and no queue.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from longleaf.reranker.qwen3.attention import Sequences
from longleaf.reranker.qwen3.attention_rows import Tiles
from longleaf.reranker.qwen3.model import DeviceBatch, Qwen3Scorer, Switches
from longleaf.reranker.qwen3.packing import Packed

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from longleaf.reranker.qwen3.weights import ModelWeights

_ALIGNMENT_BYTES = 16
_TABLES, _TABLE_WIDTH = ("tiles", "last_tiles"), 5
_CUMULATED = ("query_starts", "key_starts", "last_key_starts")
_USUAL = Switches()


class Bucket(NamedTuple):
    """All that a graph has baked in, besides its scorer's weights.

    `sequences` bounds documents and queries together; `longest` bounds queries as well as keys of
    a sequence, because a sequence never has more queries than keys. Attention that reads keys where
    they lie (attention_rows.py) needs neither copies of keys nor a bound, both are 0 with it; it
    has tiles of `tile_tokens`, which are 0 without it.
    """

    rows: int
    sequences: int
    keys: int
    longest: int
    tile_tokens: int = 0

    @property
    def tiles(self) -> int:
        """At most so many, however the rows are shared out among the sequences."""
        return self.rows // self.tile_tokens + self.sequences if self.tile_tokens else 0


@dataclass(frozen=True, slots=True)
class Buckets:
    """The sizes that batches are padded to.

    Beyond the last of `rows` launches hide behind the GPU's work, and padding would cost more than
    it saves. `keys_per_row`: how many keys there may be for each row, which grows with the prefix.
    """

    rows: tuple[int, ...] = (
        256, 512, 1024, 1536, 2048, 2560, 3072, 3584, 4096, 5120, 6144, 7168, 8192,
    )  # fmt: skip
    sequences: tuple[int, ...] = (8, 32, 128, 512)
    keys_per_row: tuple[float, ...] = (1.5, 2.0, 3.0, 5.0, 9.0)
    longest: tuple[int, ...] = (256, 1024, 8192)
    deterministic_rows: int | None = None

    @property
    def fixed_rows(self) -> int:
        """What every batch is padded to where scores must not depend on company."""
        return self.deterministic_rows or self.rows[-1]

    def of(self, packed: Packed, *, largest: bool = False, tile_tokens: int = 0) -> Bucket | None:
        """The bucket of a batch, or None where it is too long for any.

        `tile_tokens`: the attention reads keys where they lie, in tiles of so many tokens.

        `largest`: whatever the batch, the same rows and sequences, so that every matrix product has
        the same shape. (Keys and the longest sequence change no product; attention computes a
        sequence by itself, and with so many sequences never splits its keys.)
        """
        sequences = len(packed.query_starts) - 1
        rows = _first((self.fixed_rows,) if largest else self.rows, len(packed.ids))
        padded = _first(self.sequences[-1:] if largest else self.sequences, sequences)
        if rows is not None and padded is not None and tile_tokens:
            return Bucket(rows, padded, 0, 0, tile_tokens)
        longest = _first(self.longest, packed.max_keys)
        if rows is None or padded is None or longest is None:
            return None
        keys = _first([int(rows * ratio) for ratio in self.keys_per_row], len(packed.keys))
        if keys is None and largest:
            keys = len(packed.keys)  # many short documents behind a long prefix
        return None if keys is None else Bucket(rows, padded, keys, longest)


ROW_BUCKETS = Buckets(
    rows=(*range(256, 2_048, 256), *range(2_048, 16_385, 512)), deterministic_rows=8_192
)
"""With the row attention rows and sequences are all that a graph depends on, so that steps can be
fine and reach as far as a full batch: 7 ms of launching that no processor has to do."""


def _first(sizes: tuple[int, ...] | list[int], needed: int) -> int | None:
    return next((size for size in sizes if size >= needed), None)


class _Array(NamedTuple):
    """One array of a padded batch: where its bytes begin in the buffer."""

    name: str
    dtype: type[np.generic]
    length: int
    start_byte: int


def layout(bucket: Bucket) -> tuple[list[_Array], int]:
    """The arrays of a padded batch in one buffer, and the buffer's bytes."""
    rows, sequences, keys, *_ = bucket
    arrays: list[_Array] = []
    at = 0
    for name, dtype, count in (
        ("ids", np.int64, rows),
        ("positions", np.int64, rows),
        ("keys", np.int64, keys),
        ("last", np.int64, sequences),
        ("last_keys", np.int64, keys),
        ("query_starts", np.int32, sequences + 1),
        ("key_starts", np.int32, sequences + 1),
        ("last_key_starts", np.int32, sequences + 1),
        ("prefix_starts", np.int32, sequences),
        ("prefix_lengths", np.int32, sequences),
        ("last_sequences", np.int32, sequences),
        ("tiles", np.int32, _TABLE_WIDTH * bucket.tiles),
        ("last_tiles", np.int32, _TABLE_WIDTH * sequences),
    ):
        arrays.append(_Array(name, dtype, count, at))
        at += -(-np.dtype(dtype).itemsize * count // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
    return arrays, at


def fill(buffer: NDArray[np.uint8], packed: Packed, bucket: Bucket, pad_id: int = 0) -> None:
    """Write a batch into a bucket's buffer, and padding over everything that it does not reach.

    Padded rows are tokens of their own that no sequence has; padded sequences have no queries and
    no keys; a padded document's last row, and what padded keys point to, is the last row of all;
    padded tiles have no tokens.
    """
    padding = {"ids": pad_id, "keys": bucket.rows - 1, "last": bucket.rows - 1}
    padding |= {"last_keys": bucket.rows - 1}
    for name, dtype, count, start in layout(bucket)[0]:
        if not count:
            continue  # the bucket's attention does not use them
        given = _given(packed, bucket, name)
        assert len(given) <= count, f"{name} has {len(given)}, the bucket {count}"
        target = buffer[start : start + count * np.dtype(dtype).itemsize].view(dtype)
        target[: len(given)] = given
        target[len(given) :] = given[-1] if name in _CUMULATED else padding.get(name, 0)


def _given(packed: Packed, bucket: Bucket, name: str) -> NDArray[np.generic]:
    if name == "tiles":
        return packed.tiles(bucket.tile_tokens).ravel()
    if name == "last_tiles":
        return packed.last_tiles().ravel()
    found: NDArray[np.generic] = getattr(packed, name)
    return found


def padded(packed: Packed, bucket: Bucket, pad_id: int = 0) -> Packed:
    """The batch as a graph of this bucket sees it."""
    arrays, size_bytes = layout(bucket)
    buffer = np.zeros(size_bytes, np.uint8)
    fill(buffer, packed, bucket, pad_id)
    views: dict[str, Any] = {
        name: buffer[start : start + count * np.dtype(dtype).itemsize].view(dtype)
        for name, dtype, count, start in arrays
        if name not in _TABLES
    }
    return Packed(**views, max_queries=bucket.longest, max_keys=bucket.longest)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch on the processor and the bucket it fits, if any."""

    packed: Packed
    bucket: Bucket | None


@dataclass(slots=True)
class GraphStats:
    """What happened to the batches so far. `failures`: buckets that could not be captured."""

    replayed: int = 0
    eager: int = 0
    captured: int = 0
    evicted: int = 0
    failures: dict[Bucket, str] = field(default_factory=dict)


class GraphedScorer:
    """A `Qwen3Scorer` with the same two calls, whose short batches are replayed. Not thread-safe.

    `deterministic`: every batch that is not a long document alone is padded to the largest bucket,
    so a document's score does not depend on the number or the lengths of those beside it; one
    document then costs as much as a full batch of `Buckets.rows[-1]` tokens. On the CPU nothing is
    captured or padded, and `reason` says so.
    """

    def __init__(
        self,
        scorer: Qwen3Scorer,
        buckets: Buckets | None = None,
        *,
        deterministic: bool = False,
        most_graphs: int = 48,
    ) -> None:
        self.scorer = scorer
        self.buckets = buckets or (Buckets() if scorer.rows is None else ROW_BUCKETS)
        self.deterministic = deterministic
        self.enabled = scorer.device.type == "cuda"
        self.reason = (
            f"batches up to {self.buckets.rows[-1]:,} tokens are replayed"
            if self.enabled
            else f"CUDA graphs need CUDA, the device is {scorer.device}"
        )
        self.stats = GraphStats()
        self._most_graphs = most_graphs
        self._graphs: OrderedDict[Bucket, _Graph] = OrderedDict()
        self._seen: set[Bucket] = set()
        self._pool: Any = None

    @property
    def weights(self) -> ModelWeights:
        return self.scorer.weights

    @property
    def device(self) -> torch.device:
        return self.scorer.device

    def batch(self, packed: Packed) -> Prepared:
        """What `score` takes."""
        usable = self.enabled
        if not usable:
            return Prepared(packed, None)
        tokens = self.scorer.tile_tokens if self.scorer.rows is not None else 0
        bucket = self.buckets.of(packed, largest=self.deterministic, tile_tokens=tokens)
        return Prepared(packed, bucket)

    def score(self, batch: Prepared, *, alone: bool, switches: Switches = _USUAL) -> torch.Tensor:
        """See `Qwen3Scorer.score`. Out of memory, graphs go before a batch does."""
        import torch

        with torch.inference_mode():
            graph = None
            if batch.bucket is not None and not alone and switches == _USUAL:
                graph = self._graph(batch.bucket, batch.packed)
            if graph is not None:
                self.stats.replayed += 1
                return graph.replay(batch.packed)
            self.stats.eager += 1
            try:
                return self._eager(batch, alone, switches)
            except torch.OutOfMemoryError:
                if not self._graphs:
                    raise
            # Out here nothing holds the failed pass's tensors any more.
            self.release()
            return self._eager(batch, alone, switches)

    def warm(self, packed: Packed) -> None:
        """Capture this batch's graph now, so that no request waits for it."""
        if (bucket := self.batch(packed).bucket) is not None:
            self._seen.add(bucket)
            self.score(Prepared(packed, bucket), alone=False)

    def release(self) -> None:
        """Give all graphs' memory back; they are captured again when they are needed."""
        import torch

        torch.cuda.synchronize(self.device)
        self._graphs.clear()
        self._pool = None
        torch.cuda.empty_cache()

    def _eager(self, batch: Prepared, alone: bool, switches: Switches) -> torch.Tensor:
        packed = batch.packed
        count = packed.document_count
        if self.deterministic and batch.bucket is not None and not alone:
            packed = padded(packed, batch.bucket)
        return self.scorer.score(self.scorer.batch(packed), alone=alone, switches=switches)[:count]

    def _graph(self, bucket: Bucket, packed: Packed) -> _Graph | None:
        """The bucket's graph, captured at its second batch."""
        if bucket in self._graphs:
            self._graphs.move_to_end(bucket)
            return self._graphs[bucket]
        if bucket not in self._seen or bucket in self.stats.failures:
            self._seen.add(bucket)
            return None
        while len(self._graphs) >= self._most_graphs:
            self._graphs.popitem(last=False)
            self.stats.evicted += 1
        try:
            graph = self._capture(bucket, packed)
        except RuntimeError as error:  # out of memory is one
            self.stats.failures[bucket] = str(error).strip().partition("\n")[0]
            return None
        self._graphs[bucket] = graph
        self.stats.captured += 1
        return graph

    def _capture(self, bucket: Bucket, packed: Packed) -> _Graph:
        import torch

        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        return _Graph(self.scorer, bucket, packed, self._pool)


class _Graph:
    """One captured forward pass, its inputs at fixed addresses and its output."""

    def __init__(self, scorer: Qwen3Scorer, bucket: Bucket, packed: Packed, pool: Any) -> None:
        import torch

        cuda: Any = torch.cuda
        size_bytes = layout(bucket)[1]
        self._bucket = bucket
        self._staged = torch.empty(size_bytes, dtype=torch.uint8, pin_memory=True)
        self._inputs = torch.empty(size_bytes, dtype=torch.uint8, device=scorer.device)
        self._copied = cuda.Event()
        batch = device_batch(bucket, self._inputs)
        self._write(packed)
        # Outside of the capture once: kernels are compiled and libraries make their handles.
        side = cuda.Stream(scorer.device)
        side.wait_stream(cuda.current_stream(scorer.device))
        with cuda.stream(side):
            scorer.score(batch, alone=False)
        cuda.current_stream(scorer.device).wait_stream(side)
        self._graph = cuda.CUDAGraph()
        # Only this thread must keep off memory calls: another one may be running the embedder.
        with cuda.graph(self._graph, pool=pool, capture_error_mode="thread_local"):
            self._output = scorer.score(batch, alone=False)

    def replay(self, packed: Packed) -> torch.Tensor:
        """(N,) float32. Copied: the next replay of any graph of the pool may overwrite it."""
        self._write(packed)
        self._graph.replay()
        return self._output[: packed.document_count].clone()

    def _write(self, packed: Packed) -> None:
        self._copied.synchronize()  # the copy before may still read what is written now
        fill(self._staged.numpy(), packed, self._bucket)
        self._inputs.copy_(self._staged, non_blocking=True)
        self._copied.record()


def device_batch(bucket: Bucket, inputs: torch.Tensor) -> DeviceBatch:
    """Views of a bucket's buffer on the device, as the forward pass takes them."""
    import torch

    kinds = {np.int64: torch.int64, np.int32: torch.int32}
    views = {
        name: inputs[start : start + count * np.dtype(dtype).itemsize].view(kinds[dtype])
        for name, dtype, count, start in layout(bucket)[0]
    }
    every = torch.arange(bucket.sequences + 1, dtype=torch.int32, device=inputs.device)
    longest = bucket.longest
    return DeviceBatch(
        ids=views["ids"],
        positions=views["positions"],
        keys=views["keys"],
        last=views["last"],
        last_keys=views["last_keys"],
        sequences=Sequences(views["query_starts"], views["key_starts"], (), (), longest, longest),
        last_sequences=Sequences(every, views["last_key_starts"], (), (), 1, longest),
        tiles=Tiles(
            views["tiles"].view(-1, _TABLE_WIDTH), views["last_tiles"].view(-1, _TABLE_WIDTH)
        ),
    )  # fmt: skip
