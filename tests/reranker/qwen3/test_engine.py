"""The queue: all scores right whoever shares a batch, turns, deadlines, memory, and its end."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.reranker.qwen3.models import build, random_ids, reference  # noqa: E402

from longleaf.core.errors import ModelUnavailable, Overloaded  # noqa: E402
from longleaf.reranker.qwen3.attention import EagerAttention  # noqa: E402
from longleaf.reranker.qwen3.engine import Engine  # noqa: E402
from longleaf.reranker.qwen3.model import Qwen3Scorer  # noqa: E402
from longleaf.reranker.qwen3.plan import CostModel, Limits  # noqa: E402
from longleaf.reranker.qwen3.tickets import DEADLINE, OUT_OF_MEMORY, Priority  # noqa: E402
from longleaf.reranker.qwen3.weights import load_weights  # noqa: E402

YES, NO = 7, 9
FREE = CostModel(0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("qwen3")
    model = build(folder)
    return model, load_weights(folder, YES, NO, dtype=torch.float32, device="cpu")


class Watched(Qwen3Scorer):
    """The real scorer; `before` is called with the lengths of each batch's sequences."""

    def __init__(self, weights: Any, before: Callable[[list[int]], None]) -> None:
        super().__init__(weights, EagerAttention())
        self._before = before
        self.batches: list[list[int]] = []

    def batch(self, packed: Any) -> Any:
        lengths = np.diff(packed.query_starts).tolist()
        self.batches.append(lengths)
        self._before(lengths)
        return super().batch(packed)


class Gate:
    """Holds the model's thread in its first batch until opened."""

    def __init__(self) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()

    def __call__(self, _lengths: list[int]) -> None:
        self.entered.set()
        self.opened.wait()


def held(pair: Any, engines: list[Engine], limits: Limits, **more: Any) -> tuple[Any, Gate, Any]:
    """(engine, gate, ticket): its thread is in the first pass, of this ticket, until it opens."""
    gate = Gate()
    engine = Engine(Watched(pair[1], gate), limits, FREE, **more)
    engines.append(engine)
    first = engine.submit(*_request(1, 10, 20))
    gate.entered.wait()
    return engine, gate, first


@pytest.fixture
def engines() -> Iterator[list[Engine]]:
    made: list[Engine] = []
    yield made
    for engine in made:
        engine.close()


def test_many_callers_get_their_own_scores(pair: Any, engines: list[Engine]) -> None:
    model, weights = pair
    engine = Engine(Watched(weights, lambda _: None), Limits(200, 90), FREE)
    engines.append(engine)

    def ask(seed: int) -> bool:
        prefix, *documents = random_ids(seed, 10 + seed, 40, 5, 120, 17, 60, 33)
        found = dict(engine.submit(prefix, documents))
        expected = reference(model, prefix, documents, YES, NO)
        return all(abs(found[place] - expected[place]) < 1e-4 for place in range(6))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(16)))
    assert engine.stats.documents == 16 * 6 and engine.stats.flops > 0


def test_requests_share_batches_and_long_documents_run_alone(
    pair: Any, engines: list[Engine]
) -> None:
    engine, gate, first = held(pair, engines, Limits(300, 100))
    scorer = engine.scorer
    others = [engine.submit(*_request(n, 10, 20, 30)) for n in (2, 3)]
    long = engine.submit(*_request(4, 10, 150, 25))
    gate.opened.set()
    for ticket in (first, *others, long):
        assert len(list(ticket)) == len(ticket.documents)
    assert scorer.batches[0] == [10, 20]
    assert [10, 150] in scorer.batches, "a long document has no company"
    assert any(batch.count(10) >= 2 for batch in scorer.batches), "queries share a batch"


def _request(seed: int, prefix: int, *lengths: int) -> tuple[Any, list[Any]]:
    first, *documents = random_ids(seed, prefix, *lengths)
    return first, documents


def test_people_go_before_bulk_and_nobody_waits_for_a_long_list(
    pair: Any, engines: list[Engine]
) -> None:
    gate = Gate()
    engine = Engine(Watched(pair[1], gate), Limits(60, 1_000), FREE)
    engines.append(engine)
    finished: list[str] = []

    def follow(name: str, ticket: Any) -> threading.Thread:
        def run() -> None:
            list(ticket)
            finished.append(name)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    threads = [follow("first", engine.submit(*_request(1, 10, 20)))]
    gate.entered.wait()
    bulk = engine.submit(*_request(2, 10, *[40] * 12), priority=Priority.BULK)
    long_list = engine.submit(*_request(3, 10, *[40] * 12))
    short = engine.submit(*_request(4, 10, 40))
    threads += [follow("bulk", bulk), follow("long", long_list), follow("short", short)]
    gate.opened.set()
    for thread in threads:
        thread.join()
    assert finished.index("short") < finished.index("long") < finished.index("bulk")


def test_whoever_leaves_while_waiting_gets_no_more_and_costs_no_more(
    pair: Any, engines: list[Engine]
) -> None:
    engine, gate, first = held(pair, engines, Limits(60, 1_000))
    scorer = engine.scorer
    left = threading.Event()
    ticket = engine.submit(*_request(2, 10, *[41] * 12), given_up=left.is_set)
    taken: list[Any] = []
    thread = threading.Thread(target=lambda: taken.extend(ticket))
    thread.start()
    left.set()
    thread.join()  # although the pass before it still runs
    assert taken == []
    ticket.cancel()
    last = engine.submit(*_request(3, 10, 20))
    gate.opened.set()
    assert len(list(first)) == len(list(last)) == 1
    assert not any(41 in batch for batch in scorer.batches)
    assert engine.waiting() == (0, 0)


class VirtualTime:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_deadline_is_kept_exactly_and_what_is_left_is_told(
    pair: Any, engines: list[Engine]
) -> None:
    time = VirtualTime()

    def takes_a_second(lengths: list[int]) -> None:
        time.now += 1.0

    engine = Engine(
        Watched(pair[1], takes_a_second), Limits(60, 1_000), CostModel(1_000.0, 0.0, 0.0),
        clock=time,
    )  # fmt: skip
    engines.append(engine)
    ticket = engine.submit(*_request(1, 10, *[40] * 9), within_seconds=4.5)
    read = [score.place for score in ticket]
    assert read == [0, 1, 2, 3], "four batches of a second, in first-stage order"
    assert ticket.unscored == dict.fromkeys(range(4, 9), DEADLINE)
    assert time.now == 4.0
    never = engine.submit(*_request(1, 10, 40), within_seconds=0.5)
    assert list(never) == [] and never.unscored == {0: DEADLINE}


def test_a_cancelled_request_leaves_before_the_next_batch(pair: Any, engines: list[Engine]) -> None:
    gate = Gate()
    scorer = Watched(pair[1], gate)
    engine = Engine(scorer, Limits(60, 1_000), FREE)
    engines.append(engine)
    ticket = engine.submit(*_request(1, 10, *[40] * 9))
    gate.entered.wait()
    ticket.cancel()
    gate.opened.set()
    assert len(list(ticket)) == 1
    assert len(scorer.batches) == 1


def test_too_much_waiting_is_refused_with_a_time(pair: Any, engines: list[Engine]) -> None:
    gate = Gate()
    cost = CostModel(0.0, 10.0, 0.0)
    engine = Engine(Watched(pair[1], gate), Limits(60, 1_000), cost, waiting_tokens=1_000)
    engines.append(engine)
    tickets = [engine.submit(*_request(1, 10, 40))]
    gate.entered.wait()
    tickets.append(engine.submit(*_request(1, 10, *[40] * 20)))
    with pytest.raises(Overloaded) as refused:
        engine.submit(*_request(1, 10, *[40] * 20))
    assert refused.value.retry_after_seconds == pytest.approx(8.0)
    gate.opened.set()
    assert [len(list(ticket)) for ticket in tickets] == [1, 20]


def test_out_of_memory_halves_the_batches_and_goes_on(pair: Any, engines: list[Engine]) -> None:
    model, weights = pair

    def little_memory(lengths: list[int]) -> None:
        if sum(lengths) > 100:
            raise torch.OutOfMemoryError("CUDA out of memory")

    engine = Engine(Watched(weights, little_memory), Limits(800, 5_000), FREE)
    engines.append(engine)
    prefix, documents = _request(2, 10, *[40] * 10, 300)
    ticket = engine.submit(prefix, documents)
    found = dict(ticket)
    assert ticket.unscored == {10: OUT_OF_MEMORY}, "one document alone is too long"
    expected = reference(model, prefix, documents, YES, NO)
    assert all(abs(found[place] - expected[place]) < 1e-4 for place in range(10))
    assert engine.failure is None and engine.stats.out_of_memory >= 1


def test_batches_that_wait_do_not_halve_the_batches_again(pair: Any, engines: list[Engine]) -> None:
    gate = Gate()

    def fits_half(lengths: list[int]) -> None:
        gate(lengths)
        if sum(lengths) > 450:
            raise torch.OutOfMemoryError("CUDA out of memory")

    engine = Engine(Watched(pair[1], fits_half), Limits(800, 5_000), FREE)
    engines.append(engine)
    first = engine.submit(*_request(1, 10, 20))
    gate.entered.wait()
    tickets = [engine.submit(*_request(seed, 10, *[40] * 60)) for seed in (2, 3, 4)]
    gate.opened.set()
    assert [len(list(ticket)) for ticket in (first, *tickets)] == [1, 60, 60, 60]
    # What is packed as 800 or less does not fit above 450: halved once, and not for each batch.
    assert 350 <= engine.limits.batch_tokens <= 400
    assert engine.stats.out_of_memory == 1


def test_the_failed_pass_is_let_go_of_before_anything_is_tried_again(
    pair: Any, engines: list[Engine]
) -> None:
    class Large:
        pass

    held: list[weakref.ref[Large]] = []

    def once(lengths: list[int]) -> None:
        assert not any(each() for each in held), "the failed pass is still in memory"
        if not held:
            large = Large()
            held.append(weakref.ref(large))
            raise torch.OutOfMemoryError("CUDA out of memory")

    engine = Engine(Watched(pair[1], once), Limits(800, 5_000), FREE)
    engines.append(engine)
    ticket = engine.submit(*_request(2, 10, *[40] * 4))
    assert len(list(ticket)) == 4 and engine.failure is None


def test_bulk_that_waits_keeps_no_one_out(pair: Any, engines: list[Engine]) -> None:
    engine, gate, first = held(pair, engines, Limits(60, 1_000), waiting_tokens=300)
    tickets = [first]
    tickets.append(engine.submit(*_request(2, 10, *[40] * 7), priority=Priority.BULK))
    with pytest.raises(Overloaded):
        engine.submit(*_request(3, 10, 40), priority=Priority.BULK)
    tickets.append(engine.submit(*_request(4, 10, *[40] * 7)))
    with pytest.raises(Overloaded):
        engine.submit(*_request(5, 10, 40))
    assert engine.stats.refused == 2
    gate.opened.set()
    assert [len(list(ticket)) for ticket in tickets] == [1, 7, 7]


def test_a_dead_device_ends_the_engine_and_everybody_hears_it(
    pair: Any, engines: list[Engine]
) -> None:
    gate = Gate()

    def dies(lengths: list[int]) -> None:
        gate(lengths)
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    engine = Engine(Watched(pair[1], dies), Limits(60, 1_000), FREE)
    engines.append(engine)
    under_way = engine.submit(*_request(1, 10, 40))
    gate.entered.wait()
    waiting = engine.submit(*_request(1, 10, 40))
    gate.opened.set()
    for ticket in (under_way, waiting):
        with pytest.raises(ModelUnavailable, match="illegal memory access"):
            list(ticket)
    with pytest.raises(ModelUnavailable):
        engine.submit(*_request(1, 10, 40))
    assert engine.failure is not None


def test_closing_tells_who_waits(pair: Any) -> None:
    gate = Gate()
    engine = Engine(Watched(pair[1], gate), Limits(60, 1_000), FREE)
    ticket = engine.submit(*_request(1, 10, *[40] * 3))
    gate.entered.wait()
    closing = threading.Thread(target=engine.close)
    closing.start()
    gate.opened.set()
    closing.join()
    with pytest.raises(ModelUnavailable, match="closed"):
        list(ticket)


def test_nothing_to_read_is_nothing_to_wait_for(pair: Any, engines: list[Engine]) -> None:
    engine = Engine(Watched(pair[1], lambda _: None), Limits(), FREE)
    engines.append(engine)
    assert list(engine.submit(*_request(1, 10))) == []


def test_company_never_makes_anybody_late(pair: Any, engines: list[Engine]) -> None:
    """A pass ends for all its parts at once: who has time must not fill up who has none."""
    time, gate = VirtualTime(), Gate()
    cost = CostModel(0.0, 10.0, 0.0)  # a token takes 10 ms

    def passes_time(lengths: list[int]) -> None:
        gate(lengths)
        time.now += sum(lengths) / 100.0

    scorer = Watched(pair[1], passes_time)
    engine = Engine(scorer, Limits(800, 1_000), cost, clock=time)
    engines.append(engine)
    first = engine.submit(*_request(1, 10, 40))
    gate.entered.wait()
    hurried = engine.submit(*_request(2, 10, 40), within_seconds=1.2)
    leisurely = engine.submit(*_request(3, 10, *[40] * 9))
    gate.opened.set()
    assert [len(list(each)) for each in (first, hurried, leisurely)] == [1, 1, 9]
    assert scorer.batches[1] == [10, 40], "half a second of its own, and 0.7 to spare"


def test_who_waits_behind_others_is_told_when_the_deadline_passes(
    pair: Any, engines: list[Engine]
) -> None:
    gate = Gate()
    scorer = Watched(pair[1], gate)
    engine = Engine(scorer, Limits(60, 1_000), FREE)
    engines.append(engine)
    first = engine.submit(*_request(1, 10, 40))
    gate.entered.wait()
    behind = engine.submit(*_request(2, 10, 40, 40), within_seconds=0.01)
    assert list(behind) == [], "the pass before is still under way"
    assert behind.unscored == {0: DEADLINE, 1: DEADLINE}
    assert engine.waiting()[0] == 1
    gate.opened.set()
    assert len(list(first)) == 1 and len(scorer.batches) == 1


def test_a_pass_that_is_under_way_is_waited_for(pair: Any, engines: list[Engine]) -> None:
    gate = Gate()
    engine = Engine(Watched(pair[1], gate), Limits(60, 1_000), FREE)
    engines.append(engine)
    ticket = engine.submit(*_request(1, 10, 40, 40), within_seconds=0.2)
    gate.entered.wait()
    opening = threading.Timer(0.4, gate.opened.set)
    opening.start()
    assert [score.place for score in ticket] == [0]
    assert ticket.unscored == {1: DEADLINE}


def test_a_short_deadline_gets_small_batches(pair: Any, engines: list[Engine]) -> None:
    time = VirtualTime()

    def passes_time(lengths: list[int]) -> None:
        time.now += sum(lengths) / 1_000.0

    engine = Engine(
        Watched(pair[1], passes_time), Limits(10_000, 9_000), CostModel(0.0, 1.0, 0.0), clock=time
    )
    engines.append(engine)
    ticket = engine.submit(*_request(1, 10, *[40] * 30), within_seconds=0.6)
    read = [score.place for score in ticket]
    assert read == list(range(12)), "four batches of three; one full batch would take 1.2 s"
    assert set(ticket.unscored) == set(range(12, 30))


def test_no_pass_has_more_documents_than_allowed(pair: Any, engines: list[Engine]) -> None:
    gate = Gate()
    scorer = Watched(pair[1], gate)
    engine = Engine(scorer, Limits(10_000, 9_000, batch_items=2), FREE)
    engines.append(engine)
    tickets = [engine.submit(*_request(1, 10, 40))]
    gate.entered.wait()
    tickets += [engine.submit(*_request(n, 10, *[20] * n)) for n in (1, 3, 1)]
    assert engine.waiting() == (4, 100)
    gate.opened.set()
    assert [len(list(each)) for each in tickets] == [1, 1, 3, 1]
    documents = [sum(length != 10 for length in batch) for batch in scorer.batches]
    assert max(documents) == 2 and sum(documents) == 6
    assert engine.stats.requests == 4 and engine.waiting() == (0, 0)
