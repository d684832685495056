"""The arithmetic of late interaction: for each passage and query token, the best stored token.

Arrays only: it knows neither candidates nor titles nor where the codes come from. Stored tokens are
int8 already; the query's tokens are rounded to int8 too, so every product is an integer and the
result is exact. Hence batch, order, thread count and the two ways below cannot change a bit of it:

- "int8": torch._int_mm, int8 x int8 -> int32 (oneDNN; needs VNNI to be right and fast),
- "float32": an ordinary matrix product of the same integers, exact because sums stay below 2**24.

Measured on 100,000 tokens x 128 by 16 query tokens, one thread of a VNNI CPU: 2.3 ms against
7.6 ms or more. Without VNNI (56,000 tokens, AVX2): 6 ms in torch, blocks of 4,096 tokens that stay
in the cache; 14 ms in blocks of 16,384; 38 ms in numpy. The price is the query's
rounding: at most half a step of max|q| / 127 per number.
Results lie query token by query token, (q, n), because the maximum over a passage then runs over
neighbours in memory: 0.13 ms against 1.2 ms for (n, q).

Products run on threads of their own that use one core each, a block to each: on a busy machine
(load 9 on 2 cores) oneDNN's two threads waited for each other for 44 ms where one thread took
1.2 ms. Blocks wait for nobody. The hand-over costs 0.2 ms.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from longleaf.core.onecore import one_core_threads

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from numpy.typing import NDArray

    from longleaf.core.types import FloatArray, Int8Array

NOTHING = np.iinfo(np.int32).min
"""The maximum over no tokens: below every product."""

_BLOCK_TOKENS = {"int8": 16_384, "float32": 4_096}
"""Bounds what one product holds (1 MiB at 16 query tokens); larger blocks are not faster."""
_MOST_THREADS = 4
_QUERY_MULTIPLE = 16
"""Query tokens are padded to this: 7 of them take oneDNN 2.2 ms, 16 take it 0.8 ms (60k tokens)."""
_EXACT_FLOAT32_DIM = 1 << 10
"""Up to this many dimensions a sum of int8 products stays below 2**24, exact in float32."""


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """Which way of multiplying this machine uses, and why (logged at start)."""

    name: str
    reason: str


@functools.cache
def best_arithmetic() -> Arithmetic:
    """The fastest way that is exact on this machine; tried once per process."""
    import torch

    if getattr(torch, "_int_mm", None) is None:
        return Arithmetic("float32", "this torch has no integer matrix product")
    vnni = getattr(torch.cpu, "_is_vnni_supported", lambda: False)
    if not vnni():
        return Arithmetic("float32", "this CPU has no VNNI instructions")
    # Without VNNI some kernels add pairs of products in 16 bits, which saturates; extreme values
    # find that out.
    generator = np.random.default_rng(0)
    stored = generator.choice(np.array([-128, -127, 127], np.int8), (97, 128))
    query = generator.choice(np.array([-127, 127], np.int8), (_QUERY_MULTIPLE, 128))
    try:
        product = _int8_product(stored, query)
    except RuntimeError as error:
        return Arithmetic("float32", f"torch's integer matrix product fails here: {error}")
    if not np.array_equal(product, query.astype(np.int32) @ stored.astype(np.int32).T):
        return Arithmetic("float32", "torch's integer matrix product is not exact here")
    return Arithmetic("int8", "the CPU multiplies 8-bit integers (VNNI), checked exact")


def quantize_query(tokens: FloatArray) -> tuple[Int8Array, NDArray[np.float64]]:
    """(q, dim) float32 -> codes (q, dim) int8 and steps (q,) with tokens ~ codes * steps[:, None].

    The rounding error is at most half a step in each number. A row of zeros has step 0.
    """
    steps = np.abs(tokens).max(axis=1).astype(np.float64) / 127.0
    codes = np.rint(tokens / np.where(steps > 0.0, steps, 1.0)[:, None])
    return codes.astype(np.int8), steps


def segment_maxima(
    codes: Int8Array, bounds: NDArray[np.int64], query_codes: Int8Array, arithmetic: Arithmetic
) -> NDArray[np.int32]:
    """For each segment of stored tokens, the largest product with each query token.

    codes (n, dim); bounds (s + 1,) ascending, from 0 to n: segment i is codes[bounds[i]:
    bounds[i + 1]]; query_codes (q, dim). Returns (s, q) int32, NOTHING for an empty segment.
    """
    # With one dimension the transposed view's strides are ambiguous and _int_mm returns garbage.
    whole = arithmetic.name == "int8" and codes.shape[1] > 1
    multiply = _int8_product if whole else _float_product
    q_tokens = len(query_codes)
    padded = np.zeros((-(-q_tokens // _QUERY_MULTIPLE) * _QUERY_MULTIPLE, codes.shape[1]), np.int8)
    padded[:q_tokens] = query_codes
    maxima = np.full((len(bounds) - 1, q_tokens), NOTHING, np.int32)
    # reduceat takes the element itself for an empty segment, so those stay out.
    filled = np.flatnonzero(np.diff(bounds))
    starts, ends = bounds[filled], bounds[filled + 1]

    def work(first: int, last: int) -> None:
        low = starts[first]
        products = multiply(codes[low : ends[last - 1]], padded)[:q_tokens]  # (q, block)
        best = np.maximum.reduceat(products, starts[first:last] - low, axis=1)  # (q, segments)
        maxima[filled[first:last]] = best.T  # whole numbers in either type

    blocks = _blocks(ends, _BLOCK_TOKENS[arithmetic.name])
    for running in [one_core().submit(work, first, last) for first, last in blocks]:
        running.result()
    return maxima


def mean_similarity(maxima: NDArray[np.int32], steps: NDArray[np.float64]) -> NDArray[np.float32]:
    """The mean over query tokens of the best cosine: (s, q) int32 and (q,) -> (s,) float32.

    Token after token, because numpy's sum groups its terms by the array's shape, and equal
    passages must get equal scores whatever stands beside them.
    """
    total = np.zeros(len(maxima), np.float64)
    for token, step in enumerate(steps):
        total += maxima[:, token] * step
    return (total / len(steps)).astype(np.float32)


def maxsim(codes: Int8Array, tokens: FloatArray) -> float:
    """The oracle: one passage, no rounding of the query (Khattab & Zaharia 2020, eq. 3, averaged).

    codes (n, dim) int8, n > 0; tokens (q, dim) float32, q > 0.
    """
    cosines = codes.astype(np.float64) @ tokens.astype(np.float64).T  # (n, q)
    return float(cosines.max(axis=0).mean())


def _blocks(ends: NDArray[np.int64], block_tokens: int) -> Iterator[tuple[int, int]]:
    """Ranges of segments of at most `block_tokens` together (or of one longer segment)."""
    first = 0
    start = 0
    while first < len(ends):
        last = int(np.searchsorted(ends, start + block_tokens, side="right"))
        last = max(last, first + 1)
        yield first, last
        first, start = last, int(ends[last - 1])


@functools.cache
def one_core() -> ThreadPoolExecutor:
    """Threads whose torch uses one core each; everybody else's keeps what it has.

    They begin with the first call, which is to be made before others begin theirs (core.onecore).
    """
    import torch

    workers = min(_MOST_THREADS, os.cpu_count() or 1)
    return one_core_threads("maxsim", torch.get_num_threads, torch.set_num_threads, workers)


def _int8_product(stored: Int8Array, query: Int8Array) -> NDArray[np.int32]:
    """query @ stored.T, (q, n) int32. torch refuses to wrap read-only memory, so that is copied."""
    import torch

    wrapped = torch.from_numpy(np.require(stored, np.int8, ["C", "W"]))
    product: NDArray[np.int32] = torch._int_mm(torch.from_numpy(query), wrapped.t()).numpy()
    return product


def _float_product(stored: Int8Array, query: Int8Array) -> NDArray[np.floating]:
    """The same numbers without integer instructions, (q, n) float32 (float64 from 1,025 dims)."""
    import torch

    exact = torch.float32 if stored.shape[1] <= _EXACT_FLOAT32_DIM else torch.float64
    wrapped = torch.from_numpy(np.require(stored, np.int8, ["C", "W"])).to(exact)
    product: NDArray[np.floating] = (torch.from_numpy(query).to(exact) @ wrapped.t()).numpy()
    return product
