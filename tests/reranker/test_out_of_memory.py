"""Memory runs out in the model every k-th time, or for good: all scored or flagged."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import pytest
import torch
from tests.reranker.tiny import (
    StoredTokens,
    build_cross_encoder,
    candidate,
    library,
    one_torch_thread,
    query_of,
)

from longleaf.core.budget import Budget
from longleaf.reranker import crossencoder
from longleaf.reranker.crossencoder import CrossEncoderReranker
from longleaf.reranker.models import load_cross_encoder
from longleaf.reranker.read import ReadResult, read_candidates

QUERY = query_of("patent court")
INPUTS = library(100, StoredTokens())
CANDIDATES = [candidate(each.rank, -float(each.rank)) for each in INPUTS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with one_torch_thread():
        yield build_cross_encoder(tmp_path_factory.mktemp("model"))


class Failing:
    """A model whose every k-th pass, or every pass of more than `most_pairs`, raises."""

    def __init__(
        self, encoder: Any, error: Exception, *, every: int = 0, most_pairs: int = 10**6
    ) -> None:
        self._encoder, self._error = encoder, error
        self._every, self._most_pairs = every, most_pairs
        self.passes: list[int] = []

    def predict(self, pairs: list[tuple[str, str]], **more: Any) -> Any:
        self.passes.append(len(pairs))
        is_kth = self._every and len(self.passes) % self._every == 0
        if is_kth or len(pairs) > self._most_pairs:
            raise self._error
        return self._encoder.predict(pairs, **more)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)


def read(folder: str, batch_pairs: int, **how: Any) -> tuple[ReadResult, Failing]:
    reranker = CrossEncoderReranker(folder, device="cpu", batch_pairs=batch_pairs)
    failing = Failing(load_cross_encoder(folder, device="cpu", bf16=False), **how)
    with patch.object(crossencoder, "load_cross_encoder", lambda *_, **__: failing):
        return read_candidates(QUERY, CANDIDATES, INPUTS, reranker, Budget()), failing


def scored(result: ReadResult) -> dict[int, float]:
    return {each.rank: each.score for each in result.readings if each is not None}


def assert_whole(result: ReadResult) -> None:
    """Every candidate has its place and a number, and what is missing is said with how many."""
    assert sorted(result.order) == list(range(100))
    assert all(map(math.isfinite, result.scores))
    read_first = [result.readings[place] is not None for place in result.order]
    assert read_first == sorted(read_first, reverse=True)
    if result.reranked_count < 100:
        (flag,) = result.degraded
        assert flag.stage == "rerank" and f"read {result.reranked_count} of 100" in flag.reason
        assert "memory" in flag.reason
    else:
        assert result.degraded == ()


ERRORS = (torch.OutOfMemoryError("full"), torch.cuda.OutOfMemoryError("full"), MemoryError())


@pytest.mark.parametrize("batch_pairs", [1, 8])
@pytest.mark.parametrize(
    ("error", "every"), [(ERRORS[0], 2), (ERRORS[1], 3), (ERRORS[2], 3), (ERRORS[0], 7)]
)
def test_every_kth_pass_out_of_memory(
    folder: str, batch_pairs: int, error: Exception, every: int
) -> None:
    whole, _ = read(folder, batch_pairs, error=error)
    assert whole.reranked_count == 100
    result, failing = read(folder, batch_pairs, error=error, every=every)
    assert_whole(result)
    assert len(failing.passes) >= every
    expected = scored(whole)
    for rank, score in scored(result).items():
        assert score == pytest.approx(expected[rank], abs=1e-4), "padding's noise"
    assert result.reranked_count == 100, "a second try fits"


def test_batches_that_do_not_fit_are_halved_and_stay_so(folder: str) -> None:
    result, failing = read(folder, 8, error=ERRORS[0], most_pairs=3)
    assert_whole(result)
    assert result.reranked_count == 100
    assert max(failing.passes) == 8 and max(failing.passes[-20:]) <= 3


def test_memory_that_never_comes_back_is_the_first_stage_and_flagged(folder: str) -> None:
    result, _ = read(folder, 8, error=ERRORS[0], every=1)
    assert result.reranked_count == 0 and result.order == tuple(range(100))
    assert_whole(result)


def test_a_device_that_has_failed_is_the_first_stage_and_flagged(folder: str) -> None:
    broken = RuntimeError("CUDA error: an illegal memory access was encountered")
    result, failing = read(folder, 8, error=broken, every=1)
    assert result.reranked_count == 0 and result.order == tuple(range(100))
    assert result.scores == tuple(each.score for each in CANDIDATES)
    (flag,) = result.degraded
    assert flag.reason == "cross-encoder failed with RuntimeError (see the log)"
    assert failing.passes == [8], "no batch is tried again"
