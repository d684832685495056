"""On a GPU: attention by its definition, kernels, graphs and whole models against float32.

Written without a GPU at hand; the padding, the calls and the kernels' source are proved on the CPU
(test_graphs.py, test_attention.py, test_kernels.py). What only a device can show is here: that the
kernels do what they promise, that a replay equals its eager pass, and which bits depend on what.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.reranker.qwen3.models import build, random_ids, reference
from tests.reranker.qwen3.tensors import TINY, exact_attention, random_weights, sequences_of

from longleaf.reranker.qwen3.attention import EagerAttention, FlashAttention, choose_attention
from longleaf.reranker.qwen3.attention_rows import (
    RowAttention,
    Tiles,
    choose_row_attention,
    tile_tokens,
)
from longleaf.reranker.qwen3.fit import fit
from longleaf.reranker.qwen3.graphs import Buckets, GraphedScorer
from longleaf.reranker.qwen3.kernels import TritonOperations, choose_operations, disagreement
from longleaf.reranker.qwen3.model import PlainOperations, Qwen3Scorer
from longleaf.reranker.qwen3.packing import Packed, pack_rows
from longleaf.reranker.qwen3.plan import Limits
from longleaf.reranker.qwen3.weights import load_weights

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

GPU = "cuda"
HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}
HEADS = {"GQA 2": (16, 8), "GQA 4": (32, 8), "no GQA": (4, 4)}
SMALL = Buckets(rows=(128, 512), sequences=(8, 32), keys_per_row=(2.0, 6.0), longest=(64, 256))
# The flash kernel wants head dimensions in eights and the matrix products sizes in eights.
MODEL = replace(TINY, hidden=128, inner=192, heads=8, kv_heads=2, head_dim=64)
POISON = MODEL.vocabulary - 1


def heads_of(rows: int, keys: int, heads: tuple[int, int], dtype: torch.dtype, dim: int) -> Any:
    random = torch.Generator().manual_seed(rows + keys)
    q = torch.randn(rows, heads[0], dim, generator=random)
    k, v = torch.randn(2, keys, heads[1], dim, generator=random)
    return tuple(each.to(GPU, dtype) for each in (q, k, v))


def near(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Within what rounding the inputs' products to 16 bits explains."""
    assert found.isfinite().all()
    difference = (found.double() - expected).abs().max()
    assert difference < 8 * torch.finfo(found.dtype).eps * max(1.0, float(expected.abs().max()))


# --- attention -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("dim", [64, 128])
@pytest.mark.parametrize("empty", [0, 5])
def test_packed_sequences_with_more_keys_than_queries(
    dtype: str, heads: str, dim: int, empty: int
) -> None:
    ways = choose_attention(GPU)
    assert isinstance(ways, FlashAttention), ways.reason
    queries, keys = [80, 137, 9, 300, 130, 1], [80, 217, 89, 380, 130, 81]
    sequences = sequences_of(queries, keys, device=GPU, empty=empty)
    q, k, v = heads_of(sum(queries), sum(keys), HEADS[heads], HALF[dtype], dim)
    bounds = list(sequences.query_bounds), list(sequences.key_bounds)
    near(ways.packed(q, k, v, sequences), exact_attention(q, k, v, *bounds))


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("keys", [[217] * 40, [5000], [33, 1, 8000, 200]], ids=str)
def test_last_rows_also_where_the_kernel_splits_their_keys(
    dtype: str, heads: str, keys: list[int]
) -> None:
    ways = choose_attention(GPU)
    sequences = sequences_of([1] * len(keys), keys, device=GPU)
    q, k, v = heads_of(len(keys), sum(keys), HEADS[heads], HALF[dtype], 128)
    bounds = list(range(len(keys) + 1)), list(sequences.key_bounds)
    near(ways.last_only(q, k, v, sequences), exact_attention(q, k, v, *bounds))


def test_last_rows_of_padded_documents_are_zero_and_harm_nobody() -> None:
    ways = choose_attention(GPU)
    sequences = sequences_of([1] * 3 + [1] * 5, [50, 80, 7] + [0] * 5, device=GPU)
    q, k, v = heads_of(8, 200, HEADS["GQA 2"], torch.bfloat16, 128)
    k[137:], v[137:] = torch.nan, torch.nan
    found = ways.last_only(q, k, v, sequences)
    near(found, exact_attention(q, k, v, list(range(9)), list(sequences.key_bounds)))


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("tokens", [4097, 8191, 8192, 8193])
def test_a_long_document_alone_equals_itself_packed(heads: str, tokens: int) -> None:
    ways = choose_attention(GPU)
    q, k, v = heads_of(tokens, tokens, HEADS[heads], torch.bfloat16, 128)
    sequences = sequences_of([tokens], [tokens], device=GPU)
    alone, packed = ways.alone(q, k, v), ways.packed(q, k, v, sequences)
    near(alone, packed.double())
    few = slice(tokens - 64, tokens)
    near(alone[few], exact_attention(q[few], k, v, [0, 64], [0, tokens]))


def test_the_row_attention_works_here() -> None:
    found, reason = choose_row_attention(GPU)
    assert found is not None, reason


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("dim", [64, 128])
@pytest.mark.parametrize(
    "groups", [[(80, [137, 300, 9, 1])], [(80, [137] * 20), (0, [64, 65]), (300, [63])]], ids=str
)
def test_rows_that_read_keys_where_they_lie(
    dtype: str, heads: str, dim: int, groups: list[tuple[int, list[int]]]
) -> None:
    (query_heads, kv_heads), kind = HEADS[heads], HALF[dtype]
    packed = pack_rows([(np.zeros(p), [np.zeros(n) for n in docs]) for p, docs in groups])
    random = torch.Generator().manual_seed(len(packed.ids))

    def made(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=random).to(GPU, kind)

    qkv = made(len(packed.ids), (query_heads + 2 * kv_heads) * dim)
    layer = random_weights(replace(TINY, head_dim=dim), dtype=kind, device=GPU).layers[0]
    turn = torch.randn(len(qkv), dim // 2, generator=random).to(GPU)
    angles, plain = (turn.cos(), turn.sin()), PlainOperations()
    q, k, v = plain.split_rotate(qkv, layer, *angles, (query_heads, kv_heads, dim), 1e-6)
    keys = torch.as_tensor(packed.keys, device=GPU)
    bounds = packed.query_starts.tolist(), packed.key_starts.tolist()
    expected = exact_attention(q, k[keys], v[keys], *bounds)
    tokens = tile_tokens(query_heads, kv_heads)
    tiles = Tiles(*(torch.as_tensor(table, device=GPU)
                    for table in (packed.tiles(tokens), packed.last_tiles())))  # fmt: skip
    rest = (k.contiguous(), v, layer.q_norm)
    near(RowAttention().mixed(qkv, *rest, angles, 1e-6, query_heads, tiles), expected)
    last = torch.as_tensor(packed.last, device=GPU)
    turned = angles[0][last], angles[1][last]
    found = RowAttention().mixed(qkv[last], *rest, turned, 1e-6, query_heads, tiles, last_only=True)
    near(found, expected[last])


# --- kernels -------------------------------------------------------------------------------------


def test_triton_works_here() -> None:
    chosen = choose_operations(GPU)
    assert isinstance(chosen, TritonOperations), chosen.name
    assert disagreement(chosen, GPU) == ""


@pytest.mark.parametrize("dtype", [*HALF.values(), torch.float32], ids=str)
def test_kernels_equal_plain_torch_at_true_widths(dtype: torch.dtype) -> None:
    ours, plain = TritonOperations(), PlainOperations()
    random = torch.Generator().manual_seed(1)

    def made(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=random).to(GPU, dtype)

    step = 4 * torch.finfo(dtype).eps
    for hidden, inner, heads in ((1024, 3072, 16), (2560, 9728, 32), (4096, 12_288, 32)):
        x, weight, gate_up = made(70, hidden), made(hidden), made(70, 2 * inner)
        qkv = made(70, (heads + 16) * 128)
        layer = random_weights(replace(TINY, head_dim=128), dtype=dtype, device=GPU).layers[0]
        angles = torch.randn(70, 64, generator=random).to(GPU)
        keys = torch.randint(0, 70, (200,), generator=random).to(GPU)
        turn = (qkv, layer, angles.cos(), angles.sin(), (heads, 8, 128), 1e-6)
        for found, expected in zip(
            (ours.norm(x, weight, 1e-6), ours.swiglu(gate_up), *ours.split_rotate(*turn),
             *ours.split_rotate(*turn, keys), *ours.turn_keys(*turn)),
            (plain.norm(x, weight, 1e-6), plain.swiglu(gate_up), *plain.split_rotate(*turn),
             *plain.split_rotate(*turn, keys), *plain.turn_keys(*turn)),
            strict=True,
        ):  # fmt: skip
            torch.testing.assert_close(found, expected, rtol=step, atol=step)


# --- graphs --------------------------------------------------------------------------------------


def packed_of(groups: list[tuple[int, list[int]]], seed: int = 0) -> Packed:
    ids = iter(random_ids(seed, *(n for prefix, docs in groups for n in (prefix, *docs))))
    return pack_rows(
        [(next(ids) % POISON, [next(ids) % POISON for _ in docs]) for _, docs in groups]
    )


@pytest.fixture(scope="module", params=["row attention", "torch's"])
def scorer(request: pytest.FixtureRequest) -> Qwen3Scorer:
    weights = random_weights(MODEL, dtype=torch.bfloat16, device=GPU)
    rows = choose_row_attention(GPU)[0] if request.param == "row attention" else None
    return Qwen3Scorer(weights, choose_attention(GPU), choose_operations(GPU), rows)


def eager(scorer: Qwen3Scorer, packed: Packed) -> torch.Tensor:
    with torch.inference_mode():
        return scorer.score(scorer.batch(packed), alone=False).clone()


def score(graphed: GraphedScorer, packed: Packed) -> torch.Tensor:
    return graphed.score(graphed.batch(packed), alone=False)


BATCHES = [
    [(9, [20, 20, 11])], [(1, [2])], [(12, [30, 12, 1]), (0, [7])], [(40, [90, 100, 100])],
    [(9, [20, 20, 11])], [(3, [60] * 7)], [(5, [50])],
]  # fmt: skip


def test_replays_equal_eager_passes_whatever_came_before(scorer: Qwen3Scorer) -> None:
    """Buckets in turns on one shared pool, other lengths and other longest sequences in each."""
    graphed = GraphedScorer(scorer, SMALL)
    for number, groups in enumerate(BATCHES * 3):
        packed = packed_of(groups, seed=number)
        expected = eager(scorer, packed)
        found = score(graphed, packed)
        assert found.shape == expected.shape
        spread = float(expected.abs().max())
        assert (found - expected).abs().max() < 0.03 * max(spread, 1.0)
    assert graphed.stats.captured >= 2 and graphed.stats.replayed > len(BATCHES)
    assert graphed.stats.failures == {}


def test_poisoned_rows_reach_no_replayed_score() -> None:
    weights = random_weights(MODEL, dtype=torch.bfloat16, device=GPU)
    weights.embedding[0] = torch.nan  # what padded rows read
    rows = choose_row_attention(GPU)[0]
    for way in (Qwen3Scorer(weights, choose_attention(GPU), None, each) for each in (None, rows)):
        _poisoned_replays_are_clean(GraphedScorer(way, SMALL))


def _poisoned_replays_are_clean(graphed: GraphedScorer) -> None:
    for seed in range(3):
        ids = [each % (POISON - 1) + 1 for each in random_ids(seed, 9, 20, 31, 5)]
        packed = pack_rows([(ids[0], ids[1:])])
        graphed.warm(packed)
        assert score(graphed, packed).isfinite().all()
    assert graphed.stats.replayed == 6


def test_graphs_come_back_after_eviction_and_release(scorer: Qwen3Scorer) -> None:
    graphed = GraphedScorer(scorer, SMALL, most_graphs=1)
    first, second = packed_of(BATCHES[0]), packed_of(BATCHES[3])
    graphed.warm(first)
    kept = score(graphed, first)
    graphed.warm(second)
    assert graphed.stats.evicted == 1
    assert torch.equal(score(graphed, first), kept)
    graphed.release()
    assert torch.equal(score(graphed, first), kept)


def test_another_thread_may_use_the_device_during_a_capture(scorer: Qwen3Scorer) -> None:
    import threading

    stop, failed = threading.Event(), []

    def busy() -> None:
        try:
            while not stop.is_set():
                sizes = np.random.default_rng(0).integers(1, 1 << 20, 8)
                sum(torch.ones(int(n), device=GPU).sum().item() for n in sizes)
        except RuntimeError as error:
            failed.append(error)

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        graphed = GraphedScorer(scorer, SMALL)
        for groups in BATCHES:
            graphed.warm(packed_of(groups))
    finally:
        stop.set()
        thread.join()
    assert failed == [] and graphed.stats.failures == {}


def test_deterministic_scores_do_not_depend_on_company(scorer: Qwen3Scorer) -> None:
    buckets = replace(SMALL, rows=(1024,), sequences=(64,))
    graphed = GraphedScorer(scorer, buckets, deterministic=True)
    prefix, *documents = (each % POISON for each in random_ids(5, 12, *([30, 7, 55] * 8)))
    together = score(graphed, pack_rows([(prefix, documents)]))
    order = np.random.default_rng(6).permutation(len(documents))
    shuffled = score(graphed, pack_rows([(prefix, [documents[n] for n in order])]))
    assert torch.equal(shuffled, together[torch.as_tensor(order, device=GPU)])
    for number in (0, 5, 11):
        alone = score(graphed, pack_rows([(prefix, [documents[number]])]))
        assert torch.equal(alone[0], together[number])


def test_an_equal_length_change_leaves_the_others_bit_for_bit(scorer: Qwen3Scorer) -> None:
    prefix, *documents = (each % POISON for each in random_ids(7, 12, 30, 41, 30, 22))
    before = eager(scorer, pack_rows([(prefix, documents)]))
    documents[2] = random_ids(8, 30)[0] % POISON
    after = eager(scorer, pack_rows([(prefix, documents)]))
    assert torch.equal(before[[0, 1, 3]], after[[0, 1, 3]]) and before[2] != after[2]


# --- whole models --------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 2, True), (8, 2, False)], ids=["GQA 2", "GQA 4, untied"])
def test_bfloat16_errs_no_more_than_the_library_does(
    shape: tuple[int, int, bool], tmp_path: Path
) -> None:
    """Against the library in float32: at most 1.5 times the error of the library in bfloat16."""
    heads, kv_heads, tied = shape
    model = build(tmp_path, heads=heads, kv_heads=kv_heads, tied=tied)
    prefix, *documents = random_ids(3, 23, *range(5, 405, 25))
    exact = reference(model, prefix, documents, 7, 9)
    model = model.to(GPU, torch.bfloat16)
    theirs = []
    with torch.inference_mode():
        for document in documents:
            ids = torch.tensor(np.concatenate([prefix, document]).astype(np.int64), device=GPU)
            state = model.model(input_ids=ids[None], use_cache=False).last_hidden_state[0, -1]
            rows = model.lm_head.weight[[7, 9]].float()
            theirs.append(float(state.float() @ (rows[0] - rows[1])))
    weights = load_weights(tmp_path, 7, 9, dtype=torch.bfloat16, device=GPU)
    rows = choose_row_attention(GPU)[0] if heads // kv_heads == 2 else None
    scorer = Qwen3Scorer(weights, choose_attention(GPU), choose_operations(GPU), rows)
    ours = eager(scorer, pack_rows([(prefix, documents)])).double().cpu().numpy()
    error = np.sqrt(np.mean((ours - exact) ** 2))
    allowed = np.sqrt(np.mean((np.array(theirs) - exact) ** 2))
    assert error <= 1.5 * allowed


def test_float32_runs_without_the_flash_kernel_and_equals_the_cpu() -> None:
    weights = random_weights(MODEL, dtype=torch.float32)
    packed = packed_of([(12, [30, 41, 9])])
    expected = eager(Qwen3Scorer(weights, EagerAttention()), packed)
    there = random_weights(MODEL, dtype=torch.float32, device=GPU)
    found = eager(Qwen3Scorer(there, EagerAttention(), choose_operations(GPU)), packed).cpu()
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_the_device_is_measured(scorer: Qwen3Scorer) -> None:
    found = fit(scorer, Limits(batch_tokens=4096))
    assert found.matmul_flops_per_second > 1e12
    assert all(ms > 0 for *_, ms in found.measured)
    assert found.cost.fixed_ms > 0
