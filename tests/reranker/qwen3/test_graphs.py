"""Which graph a batch gets, what padding it gets, and that neither changes a score.

Capture and replay themselves need CUDA (test_gpu.py). Everything that decides about them is tested
here, replay included: a stand-in keeps a batch's inputs in one buffer as a graph does, overwrites
them for the next batch, and computes with an attention that gives NaN for all that the kernel
leaves undefined.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reranker.qwen3.models import random_ids
from tests.reranker.qwen3.tensors import (
    TINY,
    KernelLikeAttention,
    RowsLikeTheKernel,
    random_weights,
)
from tests.reranker.tiny import one_torch_thread

from longleaf.reranker.qwen3 import graphs
from longleaf.reranker.qwen3.attention import EagerAttention
from longleaf.reranker.qwen3.attention_rows import tile_tokens
from longleaf.reranker.qwen3.graphs import Bucket, Buckets, GraphedScorer, padded
from longleaf.reranker.qwen3.model import Qwen3Scorer, Switches
from longleaf.reranker.qwen3.packing import Group, Packed, pack_rows

SMALL = Buckets(rows=(32, 64, 128), sequences=(4, 16), keys_per_row=(1.5, 4.0), longest=(24, 96))
TOKENS = tile_tokens(TINY.heads, TINY.kv_heads)
POISON = TINY.vocabulary - 1
ARRAYS = ("ids", "positions", "query_starts", "key_starts", "keys", "last", "last_keys",
          "last_key_starts", "prefix_starts", "prefix_lengths", "last_sequences")  # fmt: skip

lengths = st.lists(
    st.tuples(st.integers(0, 12), st.lists(st.integers(1, 30), min_size=1, max_size=6)),
    min_size=1, max_size=3,
)  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with one_torch_thread():
        yield


def packed_of(groups: Sequence[tuple[int, Sequence[int]]], seed: int = 0) -> Packed:
    ids = iter(random_ids(seed, *(n for prefix, docs in groups for n in (prefix, *docs))))
    made: list[Group] = []
    for _, documents in groups:
        prefix = next(ids) % POISON
        made.append((prefix, [next(ids) % POISON for _ in documents]))
    return pack_rows(made)


@pytest.fixture(scope="module")
def scorer() -> Qwen3Scorer:
    weights = random_weights(TINY, dtype=torch.float32)
    weights.embedding[POISON] = torch.nan
    return Qwen3Scorer(weights, EagerAttention())


def plain_scores(scorer: Qwen3Scorer, packed: Packed) -> torch.Tensor:
    with torch.inference_mode():
        return scorer.score(scorer.batch(packed), alone=False)


# --- buckets -------------------------------------------------------------------------------------


@settings(deadline=None)
@given(groups=lengths)
def test_a_bucket_holds_its_batch(groups: list[tuple[int, list[int]]]) -> None:
    packed = packed_of(groups)
    bucket = SMALL.of(packed)
    fits = len(packed.ids) <= 128 and packed.max_keys <= 96 and len(packed.query_starts) <= 17
    if bucket is None:
        assert not fits or len(packed.keys) > 4 * 32
        return
    assert bucket.rows >= len(packed.ids)
    assert bucket.sequences >= len(packed.query_starts) - 1 > packed.document_count - 1
    assert bucket.keys >= len(packed.keys)
    assert bucket.longest >= packed.max_keys >= packed.max_queries
    tighter = [size for size in SMALL.rows if size < bucket.rows]
    assert all(size < len(packed.ids) for size in tighter), "no smaller one would do"


@settings(deadline=None)
@given(groups=lengths)
def test_a_padded_batch_has_the_sizes_of_its_bucket_and_nothing_else(
    groups: list[tuple[int, list[int]]],
) -> None:
    """Everything that a graph bakes in is a function of the bucket alone."""
    packed = packed_of(groups)
    bucket = SMALL.of(packed)
    if bucket is None:
        return
    full = padded(packed, bucket, POISON)
    rows, sequences, keys, longest, _ = bucket
    sizes = {name: len(getattr(full, name)) for name in ARRAYS}
    assert sizes == {
        "ids": rows, "positions": rows, "keys": keys, "last": sequences, "last_keys": keys,
        "query_starts": sequences + 1, "key_starts": sequences + 1,
        "last_key_starts": sequences + 1, "prefix_starts": sequences, "prefix_lengths": sequences,
        "last_sequences": sequences,
    }  # fmt: skip
    assert full.max_queries == full.max_keys == longest
    for name in ARRAYS:
        real, whole = getattr(packed, name), getattr(full, name)
        assert whole.dtype == real.dtype
        assert (whole[: len(real)] == real).all()
        rest = whole[len(real) :]
        if name.endswith(("query_starts", "key_starts")):
            assert (rest == real[-1]).all(), "a padded sequence is empty"
        elif name in ("keys", "last", "last_keys"):
            assert (rest == rows - 1).all()
        else:
            assert (rest == {"ids": POISON}.get(name, 0)).all()


def test_no_two_arrays_share_bytes_and_all_are_aligned() -> None:
    for bucket in (Bucket(32, 4, 48, 24), Bucket(8192, 512, 12_288, 8192), Bucket(7, 3, 5, 1)):
        arrays, size_bytes = graphs.layout(bucket)
        ends = [a.start_byte + a.length * np.dtype(a.dtype).itemsize for a in arrays]
        assert all(a.start_byte % 16 == 0 for a in arrays)
        following = [*(a.start_byte for a in arrays[1:]), size_bytes]
        assert all(end <= start for end, start in zip(ends, following, strict=True))


@settings(deadline=None, max_examples=30)
@given(groups=lengths)
def test_without_copies_of_keys_rows_and_sequences_are_all_there_is(
    groups: list[tuple[int, list[int]]],
) -> None:
    packed = packed_of(groups)
    bucket = SMALL.of(packed, tile_tokens=TOKENS)
    if bucket is None:
        assert len(packed.ids) > 128 or len(packed.query_starts) > 17
        return
    assert bucket[2:] == (0, 0, TOKENS)
    assert bucket.tiles >= len(packed.tiles(TOKENS))
    full = padded(packed, bucket, POISON)
    assert len(full.keys) == len(full.last_keys) == 0 and full.max_keys == 0
    assert np.array_equal(full.tiles(TOKENS), packed.tiles(TOKENS))


@settings(deadline=None, max_examples=50)
@given(groups=lengths, tokens=st.sampled_from([1, 4, 16, 64]))
def test_tiles_have_every_token_once_and_padded_ones_none(
    groups: list[tuple[int, list[int]]], tokens: int
) -> None:
    packed = packed_of(groups)
    reached = np.zeros(len(packed.ids), int)
    for own, length, first, prefix, prefix_length in packed.tiles(tokens).tolist():
        assert 0 <= first < length and first % tokens == 0
        reached[own + first : own + min(first + tokens, length)] += 1
        shared = packed.keys.tolist()
        sequence = packed.query_starts.tolist().index(own, int(length == 0))
        seen = shared[packed.key_starts[sequence] : packed.key_starts[sequence + 1]]
        if own == packed.query_starts[sequence + 1]:
            continue  # an empty prefix begins where its first document does
        assert seen == [*range(prefix, prefix + prefix_length), *range(own, own + length)]
    assert (reached == 1).all()
    last = packed.last_tiles()
    assert (last[:, 0] + last[:, 2] == packed.last).all()


def test_deterministic_batches_all_have_one_size() -> None:
    batches = [[(5, [3])], [(5, [20, 30, 9])], [(2, [1] * 10)]]
    found = [SMALL.of(packed_of(groups), largest=True) for groups in batches]
    assert {(b.rows, b.sequences) for b in found if b} == {(128, 16)} and None not in found


def test_deterministic_batches_keep_their_size_behind_any_prefix() -> None:
    """More keys for each row than any graph has: the products still have one shape."""
    packed = packed_of([(20, [1] * 15)])
    assert len(packed.keys) > 128 * SMALL.keys_per_row[0] and SMALL.of(packed) is None
    bucket = SMALL.of(packed, largest=True)
    assert bucket is not None and (bucket.rows, bucket.sequences) == (128, 16)
    long_prefix = packed_of([(60, [1] * 13)])
    bucket = SMALL.of(long_prefix, largest=True)
    assert bucket is not None and bucket.keys == len(long_prefix.keys) > 128 * 4


@pytest.mark.parametrize(
    "groups", [[(5, [130])], [(1, [1] * 17)], [(2, [97])], [(60, [1] * 8)]], ids=str
)
def test_what_fits_no_bucket_gets_none(groups: list[tuple[int, list[int]]]) -> None:
    assert SMALL.of(packed_of(groups)) is None


def test_the_usual_batches_have_buckets_and_full_ones_run_as_they_come() -> None:
    usual = Buckets()
    assert usual.of(packed_of([(80, [137] * 10)])) == Bucket(1536, 32, 2304, 256)
    assert usual.of(packed_of([(80, [137] * 50)])) == Bucket(7168, 128, 14_336, 256)
    assert usual.of(packed_of([(80, [137] * 100)])) is None


# --- padding changes nothing ---------------------------------------------------------------------


@settings(deadline=None, max_examples=20)
@given(groups=lengths)
def test_poisoned_padding_reaches_no_score(
    scorer: Qwen3Scorer, groups: list[tuple[int, list[int]]]
) -> None:
    packed = packed_of(groups)
    bucket = SMALL.of(packed)
    if bucket is None:
        return
    strict = Qwen3Scorer(scorer.weights, KernelLikeAttention())
    full = padded(packed, bucket, POISON)
    found = plain_scores(strict, full)[: packed.document_count]
    torch.testing.assert_close(found, plain_scores(scorer, packed), rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=20)
@given(groups=lengths)
def test_poisoned_padding_reaches_no_score_of_the_row_attention(
    scorer: Qwen3Scorer, groups: list[tuple[int, list[int]]]
) -> None:
    packed = packed_of(groups)
    bucket = SMALL.of(packed, tile_tokens=TOKENS)
    if bucket is None:
        return
    strict = Qwen3Scorer(scorer.weights, KernelLikeAttention(), rows=RowsLikeTheKernel())
    full = padded(packed, bucket, POISON)
    found = plain_scores(strict, full)[: packed.document_count]
    torch.testing.assert_close(found, plain_scores(scorer, packed), rtol=1e-5, atol=1e-5)


def test_the_poison_would_show(scorer: Qwen3Scorer) -> None:
    packed = packed_of([(4, [9, 8])])
    full = padded(packed, Bucket(32, 4, 48, 24), POISON)
    strict = Qwen3Scorer(scorer.weights, KernelLikeAttention())
    too_short = Packed(**{n: getattr(full, n) for n in ARRAYS}, max_queries=8, max_keys=24)
    assert plain_scores(strict, too_short)[:2].isnan().any(), "a stale longest sequence"
    full.key_starts[1:] += 10
    assert plain_scores(strict, full)[:2].isnan().any(), "stale starts reach padded keys"


# --- a graph's life ------------------------------------------------------------------------------


class Replayed:
    """A graph without CUDA: inputs at one place, overwritten by each batch."""

    def __init__(self, scorer: Qwen3Scorer, bucket: Bucket) -> None:
        rows = scorer.rows and RowsLikeTheKernel()
        self._scorer = Qwen3Scorer(scorer.weights, KernelLikeAttention(), rows=rows)
        self._bucket = bucket
        self._buffer = torch.full((graphs.layout(bucket)[1],), 0x7F, dtype=torch.uint8)
        self._batch = graphs.device_batch(bucket, self._buffer)

    def replay(self, packed: Packed) -> torch.Tensor:
        graphs.fill(self._buffer.numpy(), packed, self._bucket, POISON)
        return self._scorer.score(self._batch, alone=False)[: packed.document_count].clone()


class WithoutCuda(GraphedScorer):
    """Captures into `Replayed`."""

    def __init__(self, scorer: Qwen3Scorer, buckets: Buckets, **options: Any) -> None:
        super().__init__(scorer, buckets, **options)
        self.enabled = True

    def _capture(self, bucket: Bucket, packed: Packed) -> Any:
        return Replayed(self.scorer, bucket)


def score(of: GraphedScorer, packed: Packed, *, alone: bool = False) -> torch.Tensor:
    return of.score(of.batch(packed), alone=alone)


@pytest.mark.parametrize("reads", ["copies of keys", "keys where they lie"])
def test_a_replay_with_other_lengths_leaves_nothing_of_the_batch_before(
    scorer: Qwen3Scorer, reads: str
) -> None:
    rows = RowsLikeTheKernel() if reads == "keys where they lie" else None
    within = Qwen3Scorer(scorer.weights, EagerAttention(), rows=rows)
    graphed = WithoutCuda(within, SMALL)
    batches = [[(9, [20, 20, 11])], [(1, [2])], [(12, [3, 12, 1]), (0, [7])], [(9, [20, 20, 11])]]
    for number, groups in enumerate(batches * 2):
        packed = packed_of(groups, seed=number)
        expected = plain_scores(scorer, packed)
        torch.testing.assert_close(score(graphed, packed), expected, rtol=1e-5, atol=1e-5)
    assert graphed.stats.replayed > 3


def test_a_size_is_captured_at_its_second_batch_and_replayed_from_then_on(
    scorer: Qwen3Scorer,
) -> None:
    graphed = WithoutCuda(scorer, SMALL)
    packed = packed_of([(5, [9, 9])])
    for expected in ((0, 1, 0), (1, 1, 1), (2, 1, 1)):
        score(graphed, packed)
        stats = graphed.stats
        assert (stats.replayed, stats.eager, stats.captured) == expected
    graphed.warm(packed_of([(9, [20, 20, 11])]))
    assert graphed.stats.captured == 2, "warming waits for no second batch"


def test_the_least_recently_used_graph_goes_first(scorer: Qwen3Scorer) -> None:
    graphed = WithoutCuda(scorer, SMALL, most_graphs=2)
    short, middle, long = (packed_of([(2, [n])]) for n in (9, 40, 80))
    for packed in (short, middle):
        graphed.warm(packed)
    score(graphed, short)
    graphed.warm(long)
    assert list(graphed._graphs) == [SMALL.of(short), SMALL.of(long)]
    assert graphed.stats.evicted == 1
    score(graphed, middle)
    assert graphed.stats.captured == 4, "it had been seen: no second batch is waited for"


def test_long_documents_and_switched_off_shortcuts_run_as_they_came(scorer: Qwen3Scorer) -> None:
    graphed = WithoutCuda(scorer, SMALL)
    packed = packed_of([(5, [30])])
    graphed.warm(packed)
    before = graphed.stats.replayed
    alone = score(graphed, packed, alone=True)
    everything = graphed.score(
        graphed.batch(packed), alone=False, switches=Switches(last_rows_only=False)
    )
    assert graphed.stats.replayed == before and graphed.stats.eager == 2
    torch.testing.assert_close(alone, everything, rtol=1e-5, atol=1e-5)


def test_a_bucket_that_cannot_be_captured_is_not_tried_again(scorer: Qwen3Scorer) -> None:
    class Full(WithoutCuda):
        tries = 0

        def _capture(self, bucket: Bucket, packed: Packed) -> Any:
            self.tries += 1
            raise torch.OutOfMemoryError("CUDA out of memory.\nmore")

    graphed = Full(scorer, SMALL)
    packed = packed_of([(5, [9])])
    for _ in range(4):
        torch.testing.assert_close(score(graphed, packed), plain_scores(scorer, packed))
    assert graphed.tries == 1
    assert graphed.stats.failures == {SMALL.of(packed): "CUDA out of memory."}


def test_out_of_memory_costs_graphs_before_it_costs_a_batch(
    scorer: Qwen3Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphed = WithoutCuda(scorer, SMALL)
    graphed.warm(packed_of([(5, [9])]))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    long, failing = packed_of([(5, [200])]), [True, False]
    held: list[weakref.ref[torch.Tensor]] = []

    def once(*given: Any, **options: Any) -> torch.Tensor:
        if failing.pop(0):
            activations = torch.zeros(3)
            held.append(weakref.ref(activations))
            raise torch.OutOfMemoryError("full")
        assert held[0]() is None, "what did not fit is still there"
        return Qwen3Scorer.score(scorer, *given, **options)

    monkeypatch.setattr(scorer, "score", once)
    found = score(graphed, long)
    monkeypatch.undo()
    assert not graphed._graphs and not failing
    torch.testing.assert_close(found, plain_scores(scorer, long))
    monkeypatch.setattr(scorer, "score", lambda *_, **__: once())
    failing.append(True)
    with pytest.raises(torch.OutOfMemoryError):
        score(graphed, long)


def test_on_the_cpu_nothing_is_padded_and_the_reason_is_said(scorer: Qwen3Scorer) -> None:
    for deterministic in (False, True):
        graphed = GraphedScorer(scorer, SMALL, deterministic=deterministic)
        packed = packed_of([(5, [9, 4])])
        for _ in range(3):
            assert torch.equal(score(graphed, packed), plain_scores(scorer, packed))
        assert graphed.reason == "CUDA graphs need CUDA, the device is cpu"
        assert graphed.stats.eager == 3 and not graphed.stats.captured
        assert graphed.weights is scorer.weights and graphed.device.type == "cpu"
