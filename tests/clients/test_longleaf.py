"""Our clients of other services' dialects against our own servers of them: the same order."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from tests.remote.longleaf import reading_for_others
from tests.reranker.tiny import StoredTokens, library, query_of

from longleaf.core.budget import Budget
from longleaf.reranker.services.dialects import SERVICES
from longleaf.reranker.services.reader import ServiceReranker

QUERY = query_of("patent licence court")
INPUTS = library(12, StoredTokens())
NAMES = {"vllm-score": "vllm", "dashscope-flat": "dashscope"}
NOT_SERVED = {"llama.cpp", "vllm-qwen3"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[int, float]]]:
    """A Longleaf that reads with `late`, and the best score of each candidate's texts when it is
    asked in its own form."""
    owners = [item.rank for item in INPUTS for _ in item.passages]
    words = [f"{item.title}\n{each.text}" for item in INPUTS for each in item.passages]
    with reading_for_others(tmp_path_factory.mktemp("home")) as url:
        body = {"query": QUERY.text, "documents": words}
        answer = httpx.post(f"{url}/v1/rerank", json=body, timeout=60, trust_env=False).json()
        direct: dict[int, float] = {}
        for each in answer["results"]:
            rank = owners[each["index"]]
            direct[rank] = max(direct.get(rank, -1.0), each["score"])
        yield url, direct


@pytest.mark.parametrize("dialect", sorted(SERVICES.keys() - NOT_SERVED))
def test_each_dialect_gives_what_reading_directly_does(
    served: tuple[str, dict[int, float]], dialect: str
) -> None:
    url, direct = served
    address = f"{url}/as/{NAMES.get(dialect, dialect)}"
    reranker = ServiceReranker(address, SERVICES[dialect], model="m", item_tokens=200)
    try:
        assert not reranker.takes_instruction  # the model there takes none, and says so
        budget = Budget()
        found = {each.rank: each for each in reranker.read(QUERY, INPUTS, budget)}
    finally:
        reranker.close()
    assert found.keys() == direct.keys() and budget.stopped_because is None
    order = sorted(direct, key=direct.__getitem__)
    assert sorted(found, key=lambda rank: found[rank].score) == order
    for rank, reading in found.items():
        assert reading.score == pytest.approx(direct[rank], abs=1e-5)
