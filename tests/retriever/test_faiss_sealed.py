"""Inverted lists and GPUs under the FAISS index: what they answer, and when the CPU takes over."""

from __future__ import annotations

import sys
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from structlog.testing import capture_logs
from tests.contracts.indexes import without
from tests.retriever.clusters import ALL, DIM, both, clustered, document, opened, put_documents

from longleaf.core.errors import CatalogBroken, ConfigError
from longleaf.core.filters import Eq, Range
from longleaf.core.ids import point_id
from longleaf.core.protocols import IndexFilter
from longleaf.retriever.index import faiss_gpu, faiss_library, faiss_tidy
from longleaf.retriever.index.faiss import FaissIndex
from longleaf.retriever.index.faiss_gpu import Device, OnGpus
from longleaf.retriever.index.faiss_library import choose, load_faiss

if TYPE_CHECKING:
    from longleaf.core.types import FloatArray

pytestmark = pytest.mark.skipif(
    without("faiss", "faiss-cpu")() is not None, reason="faiss-cpu is not installed"
)


def test_lists_are_made_by_optimize_survive_and_follow_changes(tmp_path: Path) -> None:
    index = opened(tmp_path / "lists", lists=8, probes=8)
    exact = opened(tmp_path / "exact")
    for each in (index, exact):
        put_documents(each, range(1, 5))
    assert not index.optimize() or index._sealing.sealed is None, "too few for 8 lists"
    for each in (index, exact):
        put_documents(each, range(5, 41))
        each.flush(1)
    assert index._sealing.sealed is None
    assert index.optimize()
    assert not index.optimize()
    assert index._sealing.sealed is not None
    narrow = IndexFilter(("law",), where=Eq("number", 7))
    wide = IndexFilter(("law",), where=Range("number", gte=10))
    for where in (ALL, narrow, wide):
        assert both(index, exact, where) == 1.0, "all lists were looked into"
    index.close()
    index = opened(tmp_path / "lists", lists=8, probes=2)
    assert 0.5 < both(index, exact, ALL) < 1.0, "two of eight lists miss some and find most"
    index.close()
    index = opened(tmp_path / "lists", lists=8, probes=8)
    for each in (index, exact):
        put_documents(each, range(100, 103))
        each.delete([7, 8])
        each.put([document(9, clustered(5, seed=3), revision=500)])
    for where in (ALL, narrow, wide):
        assert {h.point_id for h in index.search_dense(clustered(1)[0], where, 9999)} == {
            h.point_id for h in exact.search_dense(clustered(1)[0], where, 9999)
        }
    assert both(index, exact, ALL) == 1.0
    index.flush(2)
    assert index.optimize()
    assert both(index, exact, ALL) == 1.0
    assert both(index, exact, wide) == 1.0
    index.close()
    files = [path for path in (tmp_path / "lists").iterdir() if path.name.startswith("lists-")]
    assert len(files) == 1
    whole = files[0].read_bytes()
    files[0].write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(CatalogBroken, match="longleaf rebuild"):
        opened(tmp_path / "lists", lists=8)
    files[0].write_bytes(whole)
    index = opened(tmp_path / "lists")  # exact: the lists are not asked for
    index.flush(3)
    assert not any(path.name.startswith("lists-") for path in (tmp_path / "lists").iterdir())
    assert both(index, exact, ALL) == 1.0
    index.close()
    exact.close()


def test_lists_go_when_too_little_is_left_for_them(tmp_path: Path) -> None:
    index = opened(tmp_path / "lists", lists=8, probes=1)
    exact = opened(tmp_path / "exact")
    for each in (index, exact):
        put_documents(each, range(1, 11))
        each.flush(1)
        each.optimize()
    assert index._sealing.sealed is not None and both(index, exact, ALL) < 1.0
    for each in (index, exact):
        each.delete([1, 2, 3, 4])
        each.flush(2)
    with capture_logs() as logs:
        assert index.optimize()
    assert "search is exact" in logs[0]["reason"]
    assert both(index, exact, ALL) == 1.0, "what the log says is true"
    assert not any(path.name.startswith("lists-") for path in (tmp_path / "lists").iterdir())
    assert not index.optimize()
    index.close()
    index = opened(tmp_path / "lists", lists=8, probes=1)
    assert both(index, exact, ALL) == 1.0
    index.close()
    exact.close()


class HalfPrecision:
    """As a GPU computes: 16-bit vectors and queries; `room` rows at most."""

    def __init__(self, room: int = 10**9) -> None:
        self.room, self.ntotal, self.asked = room, 0, 0
        self.rows = np.empty((0, DIM), np.float16)

    def add(self, vectors: FloatArray) -> None:
        if self.ntotal + len(vectors) > self.room:
            raise RuntimeError("out of memory")
        self.rows = np.concatenate([self.rows, vectors.astype(np.float16)])
        self.ntotal = len(self.rows)

    def reset(self) -> None:
        self.rows, self.ntotal = self.rows[:0], 0

    def search(self, queries: FloatArray, k: int) -> tuple[FloatArray, Any]:
        assert k <= faiss_gpu.MOST_ASKED
        self.asked += 1
        scores = (queries.astype(np.float16) @ self.rows.T).astype(np.float32)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        missing = ((0, 0), (0, k - order.shape[1]))
        best = np.take_along_axis(scores, order, axis=1)
        return (
            np.pad(best, missing, constant_values=-np.inf),
            np.pad(order, missing, constant_values=-1),
        )


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> list[HalfPrecision]:
    """Two of them, instead of what faiss-gpu has."""
    found = [HalfPrecision(), HalfPrecision()]
    made = OnGpus([Device(one) for one in found])
    monkeypatch.setattr("longleaf.retriever.index.faiss_sealed.on_gpus", lambda *_: made)
    monkeypatch.setattr(
        "longleaf.retriever.index.faiss.choose",
        lambda *_: faiss_library.Devices((0, 1), "GPU 0, 1: a test says so"),
    )
    monkeypatch.setattr(faiss_gpu, "LEAST_ROWS", 400)
    return found


def test_gpus_answer_as_the_cpu_does(gpus: list[HalfPrecision], tmp_path: Path) -> None:
    index = opened(tmp_path / "gpus")
    exact = FaissIndex.open(tmp_path / "exact", DIM, "test", devices="cpu")
    exact._sealing.sealed = exact._sealing._exact = None
    for each in (index, exact):
        put_documents(each, range(1, 81))
        each.flush(1)
    assert sum(one.ntotal for one in gpus) >= 1000
    narrow = IndexFilter(("law",), where=Eq("number", 7))
    wide = IndexFilter(("law",), where=Range("number", gte=20))
    for where in (ALL, wide, narrow):
        for depth in (3000, 1, 20):
            before = sum(one.asked for one in gpus)
            assert both(index, exact, where, depth) == 1.0
        assert (sum(one.asked for one in gpus) > before) == (where is not narrow)
    for each in (index, exact):
        each.delete(list(range(1, 60)))
        put_documents(each, range(100, 120))
    assert both(index, exact, ALL) == 1.0
    for each in (index, exact):
        each.flush(2)
        each.optimize()
    assert both(index, exact, ALL) == 1.0
    held = sum(one.ntotal for one in gpus)
    assert held <= 2 * index.passage_count(), "rows of segments that are gone stayed"
    index.close()
    exact.close()


def test_searches_that_wait_for_a_gpu_go_there_together(
    gpus: list[HalfPrecision], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = opened(tmp_path / "gpus")
    put_documents(index, range(1, 81))
    index.flush(1)
    queries, limits = clustered(100, seed=8), [1 + 3 * number for number in range(100)]
    alone = [index.search_dense(*asked) for asked in zip(queries, [ALL] * 100, limits, strict=True)]
    sealed = index._sealing.sealed
    assert isinstance(sealed, OnGpus)
    calls, ask, may_go = [], gpus[0].search, threading.Event()

    def search(queries: FloatArray, k: int) -> Any:
        calls.append((len(queries), k))
        may_go.wait()
        return ask(queries, k)

    monkeypatch.setattr(gpus[0], "search", search)
    with ThreadPoolExecutor(100) as threads:
        found = threads.map(index.search_dense, queries, [ALL] * 100, limits)
        while len(sealed._together._waiting) + sum(count for count, _ in calls) < 100:
            time.sleep(0.01)
        may_go.set()
        assert list(found) == alone
    assert sum(count for count, _ in calls) == 100
    assert len(calls) <= 3
    assert max(count for count, _ in calls) == faiss_gpu.MOST_TOGETHER
    assert max(k for _, k in calls) == 2 * max(limits) + 1
    index.close()


def test_searches_go_on_while_a_gpu_is_filled_anew(
    gpus: list[HalfPrecision], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One search before each block of vectors that goes to a GPU; it must not wait for the rest."""
    monkeypatch.setattr("longleaf.retriever.index.faiss_lists._ROWS_AT_ONCE", 200)
    monkeypatch.setattr(faiss_tidy, "MAX_ROWS", 500)
    index = opened(tmp_path / "gpus")
    exact = FaissIndex.open(tmp_path / "exact", DIM, "test", devices="cpu")
    exact._sealing.sealed = exact._sealing._exact = None
    for each in (index, exact):
        put_documents(each, range(1, 81))
        each.flush(1)
    sealed = index._sealing.sealed
    assert isinstance(sealed, OnGpus)
    assert [len(device.placed.names) for device in sealed._devices] == [4, 4]
    kept = {min(device.placed.names) for device in sealed._devices}
    changed = [
        int(segment.documents.ids[0]) for segment in _segments(index) if segment.name not in kept
    ]
    for each in (index, exact):
        each.delete(changed)
    query, blocks, asked = clustered(1)[0], faiss_gpu.blocks, []
    right = exact.search_dense(query, ALL, 100)

    def searched_meanwhile(segment: Any) -> Any:
        for block in blocks(segment):
            before = sum(one.asked for one in gpus)
            found = searcher.submit(index.search_dense, query, ALL, 100).result(timeout=20)
            assert found == right
            asked.append(sum(one.asked for one in gpus) - before)
            yield block

    with ThreadPoolExecutor(1) as searcher:
        monkeypatch.setattr(faiss_gpu, "blocks", searched_meanwhile)
        assert index.optimize()
    assert len(asked) == 2 * 3 + 6 * 2, "450 rows of what was kept, 400 of what lost a document"
    assert asked[:3] == [0] * 3, "until a segment is there again, it is the CPU's"
    assert all(map(sealed.covers, _segments(index)))
    before = sum(one.asked for one in gpus)
    assert index.search_dense(query, ALL, 100) == right
    assert sum(one.asked for one in gpus) > before
    index.close()
    exact.close()


def _segments(index: FaissIndex) -> list[Any]:
    return [live.segment for live in index._view.lives]


@pytest.mark.parametrize("lists", [0, 8])
def test_where_a_gpu_fails_to_compute_the_cpu_searches(
    gpus: list[HalfPrecision], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lists: int
) -> None:
    def search(queries: FloatArray, k: int) -> Any:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(gpus[0], "search", search)
    monkeypatch.setattr(
        "longleaf.retriever.index.faiss_sealed.lists_on_gpus",
        lambda _faiss, _gpus, lists: faiss_gpu.ListsOnGpus(lists, gpus[0]),
    )
    index = opened(tmp_path / "gpus", lists=lists, probes=8)
    exact = FaissIndex.open(tmp_path / "exact", DIM, "test", devices="cpu")
    exact._sealing.sealed = exact._sealing._exact = None
    for each in (index, exact):
        put_documents(each, range(1, 41))
        each.flush(1)
        each.optimize()
    with capture_logs() as logs:
        assert both(index, exact, ALL) == 1.0
    assert {log["event"] for log in logs} == {"index.gpu_failed"}
    assert "out of memory" in logs[0]["reason"]
    index.close()
    exact.close()


def test_a_gpu_without_room_is_told_and_the_cpu_scans_the_rest(
    gpus: list[HalfPrecision], tmp_path: Path
) -> None:
    gpus[0].room = gpus[1].room = 600
    index = opened(tmp_path / "gpus")
    put_documents(index, range(1, 81))
    index.flush(1)
    assert "out of memory" in index.device_reason and "CPU scans the rest" in index.device_reason
    assert len(index.search_dense(clustered(1)[0], ALL, 9999)) == index.passage_count() == 4000
    index.close()


class _OnlyItsOwn:
    """As faiss-gpu's objects: they take no attribute that they do not know."""

    def __init__(self, *made_of: Any) -> None:
        object.__setattr__(self, "made_of", made_of)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"no attribute {name!r}")


def test_indexes_on_gpus_are_made_as_faiss_lets_them() -> None:
    faiss = types.SimpleNamespace(
        GpuIndexFlatConfig=types.SimpleNamespace, GpuIndexFlat=_OnlyItsOwn,
        StandardGpuResources=object, METRIC_INNER_PRODUCT=0,
        GpuMultipleClonerOptions=types.SimpleNamespace, index_cpu_to_gpu_multiple_py=_OnlyItsOwn,
    )  # fmt: skip
    made = [device.index.made_of for device in faiss_gpu.on_gpus(faiss, [0, 2], DIM)._devices]
    assert [(dim, config.device, config.useFloat16) for _, dim, _, config in made] == [
        (DIM, 0, True), (DIM, 2, True),
    ]  # fmt: skip
    lists = types.SimpleNamespace(index="the lists")
    found = faiss_gpu.lists_on_gpus(faiss, [1, 2], lists)
    assert isinstance(found, faiss_gpu.ListsOnGpus)


def test_devices_are_what_was_asked_for_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu_only = types.SimpleNamespace()
    with_gpus = types.SimpleNamespace(StandardGpuResources=object, get_num_gpus=lambda: 2)
    without_any = types.SimpleNamespace(StandardGpuResources=object, get_num_gpus=lambda: 0)
    assert choose(with_gpus, "auto").gpus == (0,)
    assert choose(with_gpus, "all").gpus == (0, 1)
    assert choose(with_gpus, "1,1").gpus == (1,)
    assert choose(with_gpus, "cpu").gpus == ()
    assert "faiss-cpu" in choose(cpu_only, "auto").reason
    assert "no GPU" in choose(without_any, "auto").reason
    for faiss, devices, said in [
        (with_gpus, "2", "2 GPUs"), (with_gpus, "0,7", "2 GPUs"), (without_any, "all", "0 GPUs"),
        (cpu_only, "0", r"longleaf\[gpu\]"), (cpu_only, "all", "faiss-cpu"),
    ]:  # fmt: skip
        with pytest.raises(ConfigError, match=said):
            choose(faiss, devices)


def test_a_missing_library_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ConfigError, match=r'pip install "longleaf\[cpu\]"'):
        FaissIndex.open(tmp_path / "index", DIM, "test")
    assert not (tmp_path / "index").exists()
    (tmp_path / "faiss.py").write_text(
        "raise RuntimeError('faiss-gpu installed but nvidia-cuda-runtime-cu12 is missing')"
    )
    monkeypatch.delitem(sys.modules, "faiss")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"cuda-runtime-cu12 is missing.*pip install"):
        load_faiss()


def test_a_thread_count_is_left_as_it_was() -> None:
    faiss = load_faiss()
    faiss.omp_set_num_threads(2)
    with faiss_library.one_thread(faiss):
        assert faiss.omp_get_max_threads() == 1
    assert faiss.omp_get_max_threads() == 2


def test_equal_vectors_come_in_point_order_at_every_limit(tmp_path: Path) -> None:
    index = opened(tmp_path / "index")
    same = np.repeat(clustered(1), 40, axis=0)
    index.put([document(3, same), document(1, same)])
    index.put([document(2, same)])
    every = sorted(point_id(number, ordinal) for number in (1, 2, 3) for ordinal in range(40))
    for limit in (1, 5, 39, 41, 200):
        hits = index.search_dense(same[0], ALL, limit)
        assert [hit.point_id for hit in hits] == every[:limit]
        assert len({hit.score for hit in hits}) == 1
    index.close()


def test_search_and_given_points_have_equal_scores(tmp_path: Path) -> None:
    index = opened(tmp_path / "index")
    put_documents(index, range(1, 10))
    for query in clustered(5, seed=4):
        hits = {hit.point_id: hit.score for hit in index.search_dense(query * 3, ALL, 100)}
        assert index.score_dense(query * 3, list(hits)) == hits
    index.put([replace(document(50, clustered(1)), passages=())])
    assert index.passage_count() == 450
    index.close()
