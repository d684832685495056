"""The lean forward pass gives what the model library gives, for every length that a query has."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from longleaf.indexer.query_forward import QueryForward  # noqa: E402


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("length", [1, 2, 17, 64, 256])
def test_it_equals_the_library(minilm: Any, length: int, dtype: Any) -> None:
    import copy

    model = copy.deepcopy(minilm._model).to(dtype).eval()
    ids = torch.randint(1000, 30_000, (length,), generator=torch.Generator().manual_seed(length))
    with torch.inference_mode():
        expected = model(input_ids=ids[None]).last_hidden_state[0].float()
        found = QueryForward(model).hidden(ids.tolist()).float()
    # bfloat16 keeps 8 bits; both ways round in other places, six layers deep.
    tolerance = 1e-4 if dtype is torch.float32 else 0.15
    assert (found - expected).abs().max() < tolerance
    cosine = torch.nn.functional.cosine_similarity(found.mean(0), expected.mean(0), dim=0)
    assert cosine > (1 - 1e-6 if dtype is torch.float32 else 0.999)
