"""A service that answers in pieces: ended when nobody waits, and `Distant`'s rules otherwise."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.remote.chat import Turn, chatting
from tests.remote.servers import Answer, free_port, served

from longleaf.core.distant import Lost
from longleaf.core.distant_stream import DistantStream, NobodyWaits
from longleaf.core.errors import RemoteRefused, RemoteUnavailable

PATH = "/chat/completions"
BODY = {"model": "m", "messages": [], "stream": True}


@contextmanager
def asking(url: str, **options: Any) -> Iterator[DistantStream]:
    options.setdefault("sleep", lambda _: None)
    service = DistantStream(url, "answer", "k-123", **options)
    try:
        yield service
    finally:
        service.close()


def heard(service: DistantStream, within_seconds: float = 60.0, **options: Any) -> bytes:
    return b"".join(service.listen(PATH, BODY, within_seconds=within_seconds, **options))


def test_pieces_come_as_they_are_sent() -> None:
    turn = Turn()
    with chatting("one", turn, "two") as chat, asking(chat.url) as service:
        pieces = service.listen(PATH, BODY, within_seconds=60)
        assert b'"one"' in next(pieces)
        assert turn.reached.wait(30)
        turn.go.set()
        assert b'"two"' in b"".join(pieces)
        assert b"[DONE]" in heard(service)
    assert chat.headers[0]["authorization"] == "Bearer k-123"
    assert chat.headers[0]["accept-encoding"] == "identity" and len(chat.connections) == 1


def test_who_stops_reading_ends_the_request() -> None:
    turn = Turn()
    with chatting("one", turn) as chat, asking(chat.url) as service:
        pieces = service.listen(PATH, BODY, within_seconds=60)
        next(pieces)
        pieces.close()
        assert turn.left.wait(30)
        chat.script("two")
        assert b'"two"' in heard(service)


def test_nobody_waits_in_the_middle() -> None:
    turn, left = Turn(), threading.Event()
    with chatting(turn) as chat, asking(chat.url) as service:

        def given_up() -> bool:
            if turn.reached.is_set():
                left.set()
            return left.is_set()

        with pytest.raises(NobodyWaits):
            heard(service, given_up=given_up)
        assert turn.left.wait(30)
        assert service.trouble is None


def test_nobody_waits_for_the_head_of_an_answer() -> None:
    reached, go = threading.Event(), threading.Event()

    def say(_path: str, _body: Any) -> Answer:
        reached.set()
        go.wait(60)
        return Answer({})

    with served(say) as server, asking(server.url) as service:
        with pytest.raises(NobodyWaits):
            heard(service, given_up=reached.is_set)
        go.set()


def test_time_that_is_up_is_nobodys_failure() -> None:
    for pieces in ((Turn(),), ("one", Turn())):
        with chatting(*pieces) as chat, asking(chat.url) as service:
            for _ in range(6):
                with pytest.raises(RemoteUnavailable, match="no whole answer") as raised:
                    heard(service, within_seconds=0.2)
                assert isinstance(raised.value.__cause__, Lost) and raised.value.__cause__.is_late
            assert service.trouble is None and len(chat.asked) == 6, "asked once each time"


def test_what_was_lost_before_the_first_piece_is_asked_again() -> None:
    answers = [Answer({"error": "busy"}, 503), Answer(b"fine")]
    with served(lambda *_: answers.pop(0)) as server, asking(server.url) as service:
        assert heard(service) == b"fine" and len(server.asked) == 2
    with chatting("one", cuts_off=True) as chat, asking(chat.url) as service:
        pieces = service.listen(PATH, BODY, within_seconds=60)
        next(pieces)
        with pytest.raises(RemoteUnavailable, match="no connection"):
            list(pieces)
        assert len(chat.asked) == 1


def test_nobody_waits_between_two_tries() -> None:
    slept: list[float] = []
    busy = Answer({"error": "busy"}, 429, {"retry-after": "30"})
    with (
        served(lambda *_: busy) as server,
        asking(server.url, sleep=slept.append) as service,
        pytest.raises(NobodyWaits),
    ):
        heard(service, given_up=lambda: len(slept) > 2)
    assert len(server.asked) == 1 and sum(slept) < 1.0


def test_no_time_at_all() -> None:
    with asking("http://127.0.0.1:9") as service:
        with pytest.raises(RemoteUnavailable, match="before"):
            heard(service, within_seconds=-1.0)
        assert service.trouble is None


def test_a_dead_service_is_left_alone_and_tried_again() -> None:
    now = [0.0]
    with asking(f"http://127.0.0.1:{free_port()}", clock=lambda: now[0]) as service:
        for _ in range(3):
            with pytest.raises(RemoteUnavailable):
                heard(service)
        assert service.trouble is not None
        with pytest.raises(RemoteUnavailable, match="not asked just now"):
            heard(service)
        now[0] += 11.0
        with pytest.raises(RemoteUnavailable, match="no connection"):
            heard(service)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (Answer({"error": {"message": "secret", "code": "bad_key"}}, 401), r"401 \(bad_key\)"),
        (Answer(b"", 307, {"location": "http://127.0.0.1:9/"}), "status 307"),
        (Answer(b"x" * 3000), "larger than 2,000 bytes"),
        (Answer(b"x", headers={"content-encoding": "gzip"}), "compressed"),
    ],
)
def test_what_is_refused(answer: Answer, told: str) -> None:
    with (
        served(lambda *_: answer) as server,
        asking(server.url, most_reply_bytes=2000) as service,
    ):
        with pytest.raises(RemoteRefused, match=told) as raised:
            heard(service)
        assert "secret" not in str(raised.value) and len(server.asked) == 1
        assert service.trouble is None


def test_it_may_be_closed_at_any_time() -> None:
    turn = Turn()
    with chatting(turn) as chat, asking(chat.url) as service:
        service.close()
        pieces = service.listen(PATH, BODY, within_seconds=60)
        ended: list[BaseException] = []

        def listen() -> None:
            try:
                list(pieces)
            except RemoteUnavailable as error:
                ended.append(error)

        listening = threading.Thread(target=listen)
        listening.start()
        assert turn.reached.wait(30)
        service.close()
        listening.join(30)
        assert len(ended) == 1, "who listens is told"
        assert turn.left.wait(30)
