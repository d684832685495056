"""Lengths where others went wrong: around 8,192 and at 32,768 tokens, against Hugging Face.

(vllm-project/vllm#48831: wrong scores beyond 8k tokens.) One layer at the smallest widths; both
with all rows, which runs the long kernel, and with the last row only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from tests.reranker.qwen3.models import build, random_ids
from tests.reranker.tiny import one_torch_thread

from longleaf.reranker.qwen3.attention import EagerAttention
from longleaf.reranker.qwen3.model import Qwen3Scorer, Switches
from longleaf.reranker.qwen3.packing import pack_rows
from longleaf.reranker.qwen3.weights import load_weights

YES, NO, PREFIX = 7, 9, 80


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_torch_thread():
        yield


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("qwen3")
    model = build(folder, heads=2, kv_heads=1, layers=1, hidden_size=16, intermediate_size=16,
                  head_dim=8)  # fmt: skip
    weights = load_weights(folder, YES, NO, dtype=torch.float32, device="cpu")
    return model, Qwen3Scorer(weights, EagerAttention())


@pytest.mark.parametrize("tokens", [8191, 8192, 8193, 32_768])
def test_long_pairs_score_as_the_library_scores_them(pair: Any, tokens: int) -> None:
    model, scorer = pair
    prefix, document = random_ids(tokens, PREFIX, tokens - PREFIX)
    ids = torch.tensor(np.concatenate([prefix, document]).astype(np.int64))[None]
    with torch.inference_mode():
        logits = model(input_ids=ids, use_cache=False, logits_to_keep=1).logits[0, -1].double()
        batch = scorer.batch(pack_rows([(prefix, [document])]))
        found = [
            float(scorer.score(batch, alone=True, switches=Switches(last_rows_only=last))[0])
            for last in (True, False)
        ]
    expected = float(logits[YES] - logits[NO])
    assert abs(expected) > 0.01, "the test would prove nothing"
    assert found == pytest.approx([expected] * 2, abs=1e-4)
