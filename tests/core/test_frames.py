"""Frames: what arrives is what was sent, and nothing that arrives can do more than be refused."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longleaf.core import errors, frames
from longleaf.core.frames import Bounds, Frame, Incoming

headers = st.dictionaries(st.text(), st.text() | st.integers() | st.none(), max_size=3).filter(
    lambda header: "arrays" not in header
)
arrays = st.lists(
    st.lists(st.floats(width=32, allow_nan=False), max_size=20).map(lambda v: np.array(v, "<f4"))
    | st.lists(st.integers(0, 2**64 - 1), max_size=20).map(lambda v: np.array(v, "<u8"))
    | st.lists(st.integers(-(2**31), 2**31 - 1), max_size=20).map(lambda v: np.array(v, "<i4"))
    | st.binary(max_size=20).map(lambda v: np.frombuffer(v, "|u1")),
    max_size=4,
).map(tuple)
sent_frames = st.builds(Frame, headers, arrays)


def sent(data: bytes, read: Callable[[socket.socket], None]) -> None:
    """`read` the connection while `data`, and then the end, come in from the other side."""
    left, right = socket.socketpair()
    with left, right:

        def send() -> None:
            left.sendall(data)
            left.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        read(right)
        sender.join()


def same(received: Frame, frame: Frame) -> bool:
    pairs = zip(received.arrays, frame.arrays, strict=True)
    return received.header == frame.header and all(
        one.dtype == other.dtype and np.array_equal(one, other) for one, other in pairs
    )


@given(sent_frames)
def test_a_frame_arrives_as_it_was_sent(frame: Frame) -> None:
    def read(connection: socket.socket) -> None:
        assert same(frames.receive(connection), frame)
        with pytest.raises(EOFError):
            frames.receive(connection)

    sent(frames.encode(frame), read)


@given(st.lists(sent_frames | st.binary(max_size=200_000), max_size=6))
def test_frames_and_bytes_follow_one_another(parts: list[Frame | bytes]) -> None:
    def read(connection: socket.socket) -> None:
        incoming = Incoming(connection, may_wait=lambda: 60.0)
        for part in parts:
            if isinstance(part, bytes):
                assert incoming.raw(len(part)) == part
            else:
                assert same(incoming.frame(), part)
        with pytest.raises(EOFError):
            incoming.frame()

    data = [part if isinstance(part, bytes) else frames.encode(part) for part in parts]
    sent(b"".join(data), read)


def test_pieces_are_the_frame_without_a_copy_of_its_arrays() -> None:
    large = np.arange(1_000_000, dtype="<u8")
    frame = Frame({"a": 1}, (large,))
    found = frames.pieces(frame)
    assert b"".join(found) == frames.encode(frame)
    assert np.shares_memory(np.asarray(found[1]), large)


def _framed(header: bytes, body: bytes = b"") -> bytes:
    return struct.pack("<II", len(header), len(body)) + header + body


@given(st.binary(max_size=200) | st.builds(_framed, st.binary(max_size=100), st.binary()))
def test_nonsense_is_refused(data: bytes) -> None:
    def read_all(connection: socket.socket) -> None:
        incoming = Incoming(connection)
        while True:
            incoming.frame()

    def read(connection: socket.socket) -> None:
        with pytest.raises((ValueError, EOFError)):
            read_all(connection)

    sent(data, read)


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 100_000,
        b"[]",
        b"{}",
        b"1",
        b"\xff",
        b'{"arrays": {}}',
        b'{"arrays": [["<u8", -1]]}',
        b'{"arrays": [["<u8", 1]]}',
        b'{"arrays": [["<u8", 1e0]]}',
        b'{"arrays": [["<u8", 4611686018427387904]]}',
        b'{"arrays": [["|O", 1]]}',
        b'{"arrays": [["<u8"]]}',
        b'{"arrays": [7]}',
        b'{"arrays": [], "n": ' + b"9" * 10_000 + b"}",
    ],
)
def test_a_header_that_lies_is_refused(header: bytes) -> None:
    def read(connection: socket.socket) -> None:
        with pytest.raises(ValueError):  # noqa: PT011 - json's own and ours
            Incoming(connection).frame()

    sent(_framed(header), read)


def test_bytes_beyond_the_arrays_are_refused() -> None:
    data = _framed(json.dumps({"arrays": [["|u1", 3]]}).encode(), b"abcd")
    for read_frame in (frames.receive, lambda connection: Incoming(connection).frame()):

        def read(connection: socket.socket, read_frame=read_frame) -> None:  # type: ignore[no-untyped-def]
            with pytest.raises(ValueError, match="beyond"):
                read_frame(connection)

        sent(data, read)


def test_frames_are_bounded() -> None:
    def read(connection: socket.socket) -> None:
        with pytest.raises(ValueError, match="4,294,967,295"):
            frames.receive(connection)

    sent(struct.pack("<II", 2**32 - 1, 0), read)
    with pytest.raises(errors.TooLarge, match="too large"):
        frames.encode(Frame({}, (np.arange(13, dtype="<u8"),)), Bounds(array_bytes=100))
    with pytest.raises(errors.TooLarge, match="too large"):
        frames.encode(Frame({"text": "x" * 100}), Bounds(header_bytes=100))


def test_an_end_that_says_little_gains_no_time() -> None:
    left, right = socket.socketpair()
    with left, right:
        asked = iter([60.0, 60.0, 60.0, 0.0])
        incoming = Incoming(right, may_wait=lambda: next(asked))
        stop = threading.Event()

        def drip() -> None:
            while not stop.wait(0.01):
                left.sendall(b"\0")

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            with pytest.raises(TimeoutError):
                incoming.raw(1_000_000)
        finally:
            stop.set()
            thread.join()
        asked = iter([0.01, 0.01, 0.01, -1.0])
        silent = Incoming(right, may_wait=lambda: next(asked))
        with pytest.raises(TimeoutError):
            silent.raw(1_000_000)


def test_errors_arrive_as_the_same_class() -> None:
    for kind in (errors.IndexLocked, errors.CatalogBroken, errors.NoTextFound):
        arrived = frames.error_from_json(frames.error_to_json(kind("What was wrong.", "Do this.")))
        assert type(arrived) is kind and str(arrived) == "What was wrong. Do this."
    for reason in errors.RejectReason:
        told = frames.error_to_json(errors.Rejected(reason, "What was wrong.", "Do this."))
        arrived = frames.error_from_json(told)
        assert isinstance(arrived, errors.Rejected) and arrived.reason is reason
        assert str(arrived) == "What was wrong. Do this."
    other = frames.error_from_json(frames.error_to_json(KeyError("x")))
    assert type(other) is RuntimeError and "KeyError('x')" in str(other)
