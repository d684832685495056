"""FAISS on a real GPU: what it answers is what the CPU answers, and its scores are as near as
`SCORE_ERROR` promises. A stand-in proves the rest without a GPU (test_faiss_sealed.py)."""

from __future__ import annotations

import importlib.util
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.retriever.clusters import ALL, both, clustered, document, opened, put_documents

from longleaf.core.filters import Eq, Range
from longleaf.core.protocols import IndexFilter
from longleaf.retriever.index import faiss_gpu
from longleaf.retriever.index.faiss_gpu import on_gpus


def gpu_count() -> int:
    """How many GPUs the FAISS that is installed can use."""
    if importlib.util.find_spec("faiss") is None:
        return 0
    import faiss

    return int(faiss.get_num_gpus()) if hasattr(faiss, "StandardGpuResources") else 0


pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not gpu_count(), reason="no faiss-gpu with a CUDA device"),
]

NARROW = IndexFilter(("law",), where=Eq("number", 7))
WIDE = IndexFilter(("law",), where=Range("number", gte=20))


class Counted:
    """FAISS's own index, and how often it was asked."""

    def __init__(self, index: Any) -> None:
        self.index, self.asked = index, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.index, name)

    def search(self, queries: Any, k: int) -> Any:
        self.asked += 1
        return self.index.search(queries, k)


def counted(sealed: Any) -> Counted:
    """From now on the first GPU's index counts."""
    sealed._devices[0].index = Counted(sealed._devices[0].index)
    return sealed._devices[0].index


def test_a_gpu_answers_as_the_cpu_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(faiss_gpu, "LEAST_ROWS", 400)
    index, exact = opened(tmp_path / "gpu", devices="auto"), opened(tmp_path / "cpu")
    assert index.device_reason.startswith("GPU 0: the first of")
    gpu = counted(index._sealing.sealed)
    for each in (index, exact):
        put_documents(each, range(1, 201))
        each.flush(1)
    assert gpu.ntotal >= 5000
    for where in (ALL, WIDE, NARROW):
        for depth in (3000, 1, 20):
            before = gpu.asked
            assert both(index, exact, where, depth) == 1.0
        assert (gpu.asked > before) == (where is not NARROW), "the CPU has only 50 to look at"
    for each in (index, exact):
        each.delete(list(range(1, 150)))
        put_documents(each, range(300, 350))
        each.put([document(160, clustered(5, seed=3), revision=5000)])
    assert both(index, exact, ALL) == 1.0
    for each in (index, exact):
        each.flush(2)
        each.optimize()
        assert each.passage_count() == 50 * (50 + 50) + 5
    assert both(index, exact, ALL) == 1.0
    assert gpu.ntotal <= 2 * index.passage_count(), "rows of segments that are gone stayed"
    index.close()
    index = opened(tmp_path / "gpu", devices="0")
    assert both(index, exact, ALL) == 1.0, "what was saved is taken up again"
    index.close()
    exact.close()


def test_searches_side_by_side_answer_as_each_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(faiss_gpu, "LEAST_ROWS", 400)
    index = opened(tmp_path / "gpu", devices="auto")
    put_documents(index, range(1, 201))
    index.flush(1)
    gpu = counted(index._sealing.sealed)
    queries, many = clustered(400, seed=8), 400
    alone = [index.search_dense(query, ALL, 50) for query in queries]
    before = gpu.asked
    with ThreadPoolExecutor(32) as threads:
        assert list(threads.map(index.search_dense, queries, [ALL] * many, [50] * many)) == alone
    print(f"{many} searches in {gpu.asked - before} calls")
    index.close()


def test_lists_on_a_gpu_find_what_lists_on_the_cpu_find(tmp_path: Path) -> None:
    settings = {"lists": 16, "probes": 16}
    index = opened(tmp_path / "gpu", devices="auto", **settings)
    exact = opened(tmp_path / "cpu")
    for each in (index, exact):
        put_documents(each, range(1, 201))
        each.flush(1)
        each.optimize()
    assert index.device_reason.startswith("GPU 0")
    assert "did not take" not in index.device_reason
    assert isinstance(index._sealing.sealed, faiss_gpu.ListsOnGpus)
    for where in (ALL, WIDE, NARROW):
        assert both(index, exact, where) == 1.0, "all lists were looked into"
    for each in (index, exact):
        each.delete(list(range(1, 60)))
        put_documents(each, range(300, 310))
        each.flush(2)
    for where in (ALL, WIDE):
        assert both(index, exact, where) == 1.0
    index.close()
    few = opened(tmp_path / "gpu", devices="auto", lists=16, probes=2)
    assert 0.4 < both(few, exact, ALL) < 1.0, "two of sixteen lists miss some and find most"
    few.close()
    exact.close()


@pytest.mark.parametrize("dim", [384, 1024, 4096])
def test_a_gpus_scores_are_as_near_as_promised(dim: int) -> None:
    import faiss

    random = np.random.default_rng(dim)
    vectors = random.normal(size=(20_000, dim)).astype(np.float32)
    vectors[:10_000] = vectors[0] + 0.3 * vectors[:10_000]  # near each other: cosines up to 1
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    stored = vectors.astype(np.float16)
    device = on_gpus(faiss, [0], dim)._devices[0].index
    device.add(stored.astype(np.float32))
    worst = 0.0
    for query in vectors[[0, 5, 9_999, 15_000]]:
        scores, rows = device.search(query[None], faiss_gpu.MOST_ASKED)
        right = stored[rows[0]].astype(np.float64) @ query.astype(np.float64)
        worst = max(worst, float(np.abs(scores[0] - right).max()))
    print(f"dim {dim}: off by {worst:.2e}")
    assert worst < faiss_gpu.SCORE_ERROR / 2
