"""What the comparison of stored points says where the engine gives less than was stored."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from longleaf.retriever.index import edge_content

SPARSE = SimpleNamespace(indices=[3, 5], values=[1.0, 0.5])
WANTED = {"dense": [0.6, 0.8], "bm25": SPARSE}


def said(vector: Any) -> str | None:
    record: Any = SimpleNamespace(payload={"a": 1}, vector=vector)
    point: Any = SimpleNamespace(payload={"a": 1}, vector=WANTED)
    return edge_content._difference(record, point)


@pytest.mark.parametrize(
    ("vector", "what"),
    [
        ({"dense": np.float32([0.6, 0.8]), "bm25": SPARSE}, None),
        ({"bm25": SPARSE}, "has no dense vector"),
        (None, "has no dense vector"),
        ({"dense": [0.6, 0.8]}, "has other BM25 terms"),
        ({"dense": [0.6, float("nan")], "bm25": SPARSE}, "has another dense vector"),
    ],
)
def test_a_vector_that_is_gone_is_a_difference_and_no_error(vector: Any, what: str | None) -> None:
    assert said(vector) == what
