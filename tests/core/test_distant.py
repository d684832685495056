"""A service elsewhere: what is asked again, when nobody is asked, and what errors never tell."""

from __future__ import annotations

import gzip
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from email.utils import formatdate
from typing import Any

import pytest
from tests.remote.servers import Answer, Server, free_port, served

from longleaf.core.distant import Distant
from longleaf.core.errors import ConfigError, LongleafError, RemoteRefused, RemoteUnavailable

KEY = "sk-very-secret"
TEXT = "words of a confidential document"


class Clock:
    """Seconds that pass while somebody sleeps, and as they do."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def __call__(self) -> float:
        return time.monotonic() + sum(self.slept)


class Said:
    """Says the given answers one after the other, and the last one from then on."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)

    def __call__(self, path: str, body: Any) -> Answer:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def asking(clock: Clock) -> Iterator[Callable[..., Distant]]:
    made: list[Distant] = []

    def make(url: str, **options: Any) -> Distant:
        distant = Distant(url, "embedder", KEY, clock=clock, sleep=clock.sleep, **options)
        made.append(distant)
        return distant

    yield make
    for each in made:
        each.close()


def ask(distant: Distant, **options: Any) -> Any:
    return distant.ask("POST", "/x", {"input": TEXT}, **options)


def refused(distant: Distant, kind: type[LongleafError], **options: Any) -> LongleafError:
    with pytest.raises(kind) as raised:
        ask(distant, **options)
    told = f"{raised.value.message} {raised.value.hint}"
    assert distant.url in told
    assert KEY not in told and TEXT not in told
    return raised.value


def test_an_answer_comes_with_the_key_over_one_connection(asking: Callable[..., Distant]) -> None:
    with served(Said(Answer({"a": [1]}))) as server:
        distant = asking(server.url + "/v1/")
        for _ in range(5):
            assert ask(distant) == {"a": [1]}
        assert len(server.connections) == 1
        assert server.asked == [("/v1/x", {"input": TEXT})] * 5
        assert server.headers[0]["authorization"] == f"Bearer {KEY}"
        distant.close()


def test_what_is_lost_on_the_way_is_asked_again(
    asking: Callable[..., Distant], clock: Clock
) -> None:
    say = Said(
        Answer(status=503), Answer({"half": "an answer"}, cut_off=True), Answer(status=500),
        Answer({"ok": True}),
    )  # fmt: skip
    with served(say) as server:
        assert ask(asking(server.url), tries=4) == {"ok": True}
        assert len(server.asked) == 4
    for number, seconds in enumerate(clock.slept):
        assert 0.25 * 2**number <= seconds <= 0.5 * 2**number


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_it_waits_as_long_as_the_service_says(
    asking: Callable[..., Distant], clock: Clock, form: str
) -> None:
    after = "7" if form == "seconds" else formatdate(time.time() + 7, usegmt=True)
    say = Said(Answer(status=429, headers={"Retry-After": after}), Answer(1))
    with served(say) as server:
        assert ask(asking(server.url)) == 1
    assert clock.slept == [pytest.approx(7, abs=1.1)]


def test_no_more_is_waited_than_there_is_time(asking: Callable[..., Distant], clock: Clock) -> None:
    say = Said(Answer(status=429, headers={"Retry-After": "7"}))
    with served(say) as server:
        distant = asking(server.url)
        error = refused(distant, RemoteUnavailable, within_seconds=3.0)
        assert "429" in error.message and clock.slept == []
        # It asked for seven seconds: others are not sent there meanwhile.
        assert "status 429" in (distant.trouble or "")
        refused(distant, RemoteUnavailable)
        assert len(server.asked) == 1
        clock.sleep(7.1)
        assert distant.trouble is None
        refused(distant, RemoteUnavailable, tries=1)
        assert len(server.asked) == 2


def test_a_slow_service_is_not_waited_for(asking: Callable[..., Distant]) -> None:
    def slow(path: str, body: Any) -> Answer:
        time.sleep(0.6)
        return Answer(1)

    with served(slow) as server:
        error = refused(asking(server.url, timeout_seconds=0.1), RemoteUnavailable, tries=1)
        assert "no answer within 0.1 s" in error.message
        error = refused(asking(server.url), RemoteUnavailable, within_seconds=0.2, tries=2)
        assert "no answer within 0.2 s" in error.message
        time.sleep(0.6)  # so that no handler writes into a server that is gone


def test_after_failures_in_a_row_it_fails_fast_and_comes_back(
    asking: Callable[..., Distant], clock: Clock
) -> None:
    say = Said(*[Answer(status=500)] * 6, Answer("well"))
    with served(say) as server:
        distant = asking(server.url)
        for _ in range(5):
            assert distant.trouble is None
            refused(distant, RemoteUnavailable, tries=1)
        assert "status 500, 5 times in a row" in (distant.trouble or "")
        error = refused(distant, RemoteUnavailable)
        assert "is not asked just now" in error.message and len(server.asked) == 5
        refused(distant, RemoteUnavailable, tries=1, patient=True)
        assert len(server.asked) == 6
        clock.sleep(10.1)
        assert distant.trouble is None
        assert ask(distant) == "well"
        assert distant.trouble is None


def test_after_a_pause_one_asks_for_all(asking: Callable[..., Distant], clock: Clock) -> None:
    asked, may_answer = threading.Event(), threading.Event()
    failing = [True] * 5

    def say(path: str, body: Any) -> Answer:
        if failing:
            failing.pop()
            return Answer(status=500)
        asked.set()
        may_answer.wait()
        return Answer("well")

    with served(say) as server, ThreadPoolExecutor(1) as threads:
        distant = asking(server.url)
        for _ in range(5):
            refused(distant, RemoteUnavailable, tries=1)
        clock.sleep(10.1)
        first = threads.submit(ask, distant)
        asked.wait()
        error = refused(distant, RemoteUnavailable)
        assert "Another search is trying it" in error.message and len(server.asked) == 6
        may_answer.set()
        assert first.result() == "well"
        assert ask(distant) == "well"


def test_a_service_that_refuses_is_there(asking: Callable[..., Distant], clock: Clock) -> None:
    say = Said(*[Answer(status=500)] * 5, Answer(status=400))
    asked, may_answer = threading.Event(), threading.Event()

    def one_at_a_time(path: str, body: Any) -> Answer:
        answer = say(path, body)
        if answer.status == 400 and not asked.is_set():
            asked.set()
        elif answer.status == 400:
            may_answer.wait()
        return answer

    with served(one_at_a_time) as server, ThreadPoolExecutor(1) as threads:
        distant = asking(server.url)
        for _ in range(5):
            refused(distant, RemoteUnavailable, tries=1)
        clock.sleep(10.1)
        refused(distant, RemoteRefused)
        # From here on it is asked by as many as want to.
        waiting = threads.submit(refused, distant, RemoteRefused)
        while len(server.asked) < 7:
            time.sleep(0.01)
        may_answer.set()
        refused(distant, RemoteRefused)
        waiting.result()


@pytest.mark.parametrize(
    ("said", "over"),
    [
        (b"HTTP/1.1 102 Processing\r\n\r\n", b""),  # and another one, without end
        (b"x: y\r\n", b"HTTP/1.1 200 OK\r\n"),
        (b" ", b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n"),
    ],
)
def test_an_answer_that_drips_is_not_waited_for(
    asking: Callable[..., Distant], said: bytes, over: bytes
) -> None:
    def drip(listening: socket.socket) -> None:
        listening.settimeout(60)
        with suppress(OSError), listening.accept()[0] as connection:
            connection.sendall(over or said)
            for _ in range(500):  # ten seconds, which are another error to who waits for them
                if select.select([connection], [], [], 0.02)[0] and not connection.recv(65536):
                    break
                connection.sendall(said)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=drip, args=[listening])
        thread.start()
        distant = asking(f"http://127.0.0.1:{listening.getsockname()[1]}")
        error = refused(distant, RemoteUnavailable, within_seconds=1.0, tries=1)
        assert "no answer within 1 s" in error.message and distant.trouble is None
        thread.join()


def test_who_has_less_time_than_it_takes_says_nothing_about_it(
    asking: Callable[..., Distant],
) -> None:
    patient = threading.Event()

    def slow(path: str, body: Any) -> Answer:
        patient.wait()
        return Answer("well")

    with served(slow) as server:
        distant = asking(server.url)
        for _ in range(6):
            refused(distant, RemoteUnavailable, within_seconds=0.05, tries=1)
        assert distant.trouble is None
        for _ in range(5):
            refused(distant, RemoteUnavailable, within_seconds=0.05, tries=1, enough_seconds=0.04)
        assert "5 times in a row" in (distant.trouble or "")
        patient.set()


def test_what_is_late_is_not_asked_again_where_that_would_repeat_the_work(
    asking: Callable[..., Distant],
) -> None:
    patient = threading.Event()

    def slow(path: str, body: Any) -> Answer:
        patient.wait()
        return Answer("well")

    with served(slow) as server:
        distant = asking(server.url, timeout_seconds=0.05)
        refused(distant, RemoteUnavailable, tries=3, again_when_late=False)
        assert len(server.asked) == 1
        refused(distant, RemoteUnavailable, tries=3)
        assert len(server.asked) == 4
        patient.set()


def test_nobody_there_is_told(asking: Callable[..., Distant], clock: Clock) -> None:
    error = refused(asking(f"http://127.0.0.1:{free_port()}"), RemoteUnavailable)
    assert "ConnectError" in error.message and "3 tries" in error.message
    assert "embedder.url" in error.hint and len(clock.slept) == 2


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (Answer(b"<html>" + TEXT.encode()), "not JSON"),
        (Answer(b"[" * 4_000), "not JSON"),
        (Answer(b"\xff\xfe{}"), "not JSON"),
        (Answer("x" * 5000), "larger than 4,096 bytes"),
        (Answer(gzip.compress(b"1"), headers={"Content-Encoding": "gzip, gzip"}), "is compressed"),
        (Answer(status=302, headers={"Location": "http://127.0.0.1:1/"}), "status 302"),
        (Answer({"error": {"message": TEXT, "code": "model_not_found"}}, 404), "(model_not_found)"),
        (Answer({"error": {"message": TEXT, "code": TEXT}}, 400), "status 400."),
        (Answer({"detail": TEXT, "code": "validation"}, 422), "(validation)"),
    ],
)
def test_what_would_not_change_is_not_asked_again(
    asking: Callable[..., Distant], answer: Answer, told: str
) -> None:
    with served(Said(answer)) as server:
        distant = asking(server.url, most_reply_bytes=4096)
        error = refused(distant, RemoteRefused)
        assert told in error.message
        assert len(server.asked) == 1 and distant.trouble is None
        distant.close()


def test_a_refused_key_names_the_variable(asking: Callable[..., Distant]) -> None:
    with served(Said(Answer({}, 401))) as server:
        error = refused(asking(server.url), RemoteRefused)
        assert "LONGLEAF_EMBEDDER__API_KEY" in error.hint
        assert isinstance(error, RemoteRefused) and error.status == 401


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:80",
        "ftp://h/",
        "http://",
        "http://h:99999",
        "http://h/?u:p",
        "http://u:p@h/",
        "http://[::1",
    ],
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"embedder\.url") as raised:
        Distant(url, "embedder")
    assert "u:p" not in str(raised.value)


def test_a_key_is_one_line_of_ascii(asking: Callable[..., Distant]) -> None:
    with served(Said(Answer(1))) as server:
        distant = Distant(server.url, "embedder", f" {KEY}\n")
        assert ask(distant) == 1
        assert server.headers[-1]["authorization"] == f"Bearer {KEY}"
        distant.close()
    for key in ("schl\u00fcssel", "two\nlines"):
        with pytest.raises(ConfigError, match="LONGLEAF_EMBEDDER__API_KEY") as raised:
            Distant("http://h", "embedder", key)
        assert key not in str(raised.value)


def test_connections_end_with_their_owner() -> None:
    with served(Said(Answer(1))) as server:
        assert isinstance(server, Server)
        distant = Distant(server.url, "embedder")
        ask(distant)
        client = distant._opened()
        del distant
        assert client.is_closed


def test_a_500_that_says_too_long_is_a_refusal_and_other_ones_are_asked_again() -> None:
    said = {"error": {"code": 500, "message": "input (518 tokens) is too large to process."}}
    answers = [Answer(said, 500), Answer({"error": "deadline exceeded"}, 500), Answer({"ok": 1})]
    with served(lambda path, body: answers.pop(0)) as server:
        distant = Distant(server.url, "reranker", sleep=lambda _: None)
        with pytest.raises(RemoteRefused) as raised:
            distant.ask("POST", "/x", {})
        assert raised.value.status == 500 and "518" not in str(raised.value)
        assert distant.ask("POST", "/x", {}) == {"ok": 1}
        distant.close()


def test_a_service_that_quotes_its_key_as_a_code_word_is_not_quoted() -> None:
    with served(lambda path, body: Answer({"code": "sk-1234"}, 400)) as server:
        distant = Distant(server.url, "reranker", "sk-1234")
        with pytest.raises(RemoteRefused) as raised:
            distant.ask("POST", "/x", {})
        assert "sk-1234" not in str(raised.value)
        distant.close()
