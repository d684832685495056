"""Tiny models compute faster on one thread than two threads agree who computes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.reranker.tiny import one_torch_thread


@pytest.fixture(autouse=True, scope="module")
def _one_thread_for_each_model() -> Iterator[None]:
    with one_torch_thread():
        yield
