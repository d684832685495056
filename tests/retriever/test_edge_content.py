"""What the comparison of stored points says where the engine gives less than was stored."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from longleaf.core.errors import CatalogBroken, NoSpace
from longleaf.retriever.index import edge_folder
from longleaf.retriever.index.stored import difference

SPARSE = SimpleNamespace(indices=[3, 5], values=[1.0, 0.5])
WANTED = {"dense": [0.6, 0.8], "bm25": SPARSE}


class Failing:
    """An engine whose every call fails with one message."""

    def __init__(self, message: str) -> None:
        self.message = message

    def retrieve(self) -> None:
        raise Exception(self.message)


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("Service runtime error: Failed to decompress LZ4 value", CatalogBroken),
        ("Service runtime error: write failed (os error 28)", NoSpace),
        ("Wrong input: Vector dimension error", Exception),
    ],
)
def test_what_the_engine_says_in_any_call_gets_a_name(
    message: str, kind: type[Exception], tmp_path: Path
) -> None:
    shard = edge_folder._GuardedShard(cast("Any", Failing(message)), tmp_path)
    with pytest.raises(Exception, match=r".") as raised:
        shard.retrieve()
    assert type(raised.value) is kind


def said(vector: Any) -> str | None:
    record: Any = SimpleNamespace(payload={"a": 1}, vector=vector)
    point: Any = SimpleNamespace(payload={"a": 1}, vector=WANTED)
    return difference(record, point)


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
