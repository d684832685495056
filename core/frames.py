"""What two processes of ours say to each other, as bytes on a socket pair.

A frame is two lengths, a JSON header and little-endian arrays one after another; the header says
the type and length of each. Nothing in it can carry code, and both ends are bounded. It knows what
a message is made of, not what it asks. Trade-off: JSON for everything that is small and has a
shape (a filter, a title), raw bytes for what is large and has none (a vector, a text): the smallest
exchange costs 0.1 ms beside a search's milliseconds.
"""

from __future__ import annotations

import io
import json
import socket
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from longleaf.core import errors

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LENGTHS = struct.Struct("<II")
_USUAL_BYTES = 64 * 1024
_MOST_BYTES = 1024 * 1024
_TYPES = ("<f4", "<u8", "<i4", "|u1")


@dataclass(frozen=True, slots=True)
class Bounds:
    """How large a frame may be. Both ends keep to the same ones."""

    header_bytes: int = 16 * 1024 * 1024
    array_bytes: int = 256 * 1024 * 1024


USUAL = Bounds()


@dataclass(frozen=True, slots=True)
class Frame:
    """A message: JSON values by name, and (n,) arrays of float32, uint64, int32 or uint8."""

    header: Mapping[str, Any]
    arrays: tuple[NDArray[Any], ...] = ()


def encode(frame: Frame, bounds: Bounds = USUAL) -> bytes:
    """The frame as bytes. Raises TooLarge for one that the other end would refuse."""
    return b"".join(pieces(frame, bounds))


def pieces(frame: Frame, bounds: Bounds = USUAL) -> list[bytes | memoryview]:
    """The frame as buffers to send one after another: large arrays are not copied for it."""
    arrays = [np.ascontiguousarray(array) for array in frame.arrays]
    assert all(array.dtype.str in _TYPES and array.ndim == 1 for array in arrays)
    shapes = [[array.dtype.str, array.size] for array in arrays]
    # ASCII escapes carry what UTF-8 cannot: a lone surrogate in a query or a file name.
    header = json.dumps({**frame.header, "arrays": shapes}).encode("ascii")
    array_bytes = sum(array.nbytes for array in arrays)
    if len(header) > bounds.header_bytes or array_bytes > bounds.array_bytes:
        raise errors.TooLarge(
            f"A message of {len(header) + array_bytes:,} bytes is too large for one process to "
            "tell another.",
            "Ask for less at once.",
        )
    start = _LENGTHS.pack(len(header), array_bytes) + header
    parts = [array.data for array in arrays]
    return [start, *parts] if array_bytes > _USUAL_BYTES else [b"".join((start, *parts))]


def receive(connection: socket.socket, bounds: Bounds = USUAL) -> Frame:
    """The next frame. Raises EOFError when the other end is gone, ValueError for nonsense.

    Nothing may follow it before it is answered: what comes with it is taken for a part of it.
    """
    # Almost every frame comes whole at the first call. Each further one waits for the interpreter
    # lock, which the follower holds most of the time.
    data = _more(connection, _USUAL_BYTES)
    while len(data) < _LENGTHS.size:
        data += _more(connection, _USUAL_BYTES)
    header_bytes, array_bytes = _lengths(data, bounds)
    end = _LENGTHS.size + header_bytes + array_bytes
    while len(data) < end:
        data += _more(connection, end - len(data))
    return _decode(memoryview(data)[_LENGTHS.size :], header_bytes)


class Incoming:
    """Frames, and bytes between them, that follow one another on a connection unasked.

    `may_wait` is asked before each wait, and says after how many seconds it wants to be asked again
    (None: never); 0 or less is a TimeoutError. So an end that sends a byte now and then gains
    nothing. Raises what `receive` raises as well.
    """

    def __init__(
        self, connection: socket.socket, may_wait: Callable[[], float | None] = lambda: None
    ) -> None:
        self._connection = connection
        self._may_wait = may_wait
        self._read = bytearray()
        self._taken_bytes = 0

    @property
    def has_more(self) -> bool:
        """Whether more has been received than was asked for so far."""
        return self._taken_bytes < len(self._read)

    def frame(self, bounds: Bounds = USUAL) -> Frame:
        """The next frame."""
        header_bytes, array_bytes = _lengths(self._exactly(_LENGTHS.size), bounds)
        return _decode(memoryview(self._exactly(header_bytes + array_bytes)), header_bytes)

    def raw(self, count_bytes: int) -> bytes:
        """The next `count_bytes` bytes, held once in memory while they come in."""
        held = io.BytesIO()
        while (missing := count_bytes - held.tell()) > 0:
            held.write(self._exactly(min(missing, _MOST_BYTES)))
        return held.getvalue()

    def _exactly(self, count_bytes: int) -> bytearray:
        while len(self._read) - self._taken_bytes < count_bytes:
            self._receive(count_bytes)
        end = self._taken_bytes + count_bytes
        if self._taken_bytes == 0 and count_bytes > _USUAL_BYTES:
            # Large: what is left over moves, and this stays where it is.
            data, self._read = self._read, self._read[end:]
            del data[end:]
            return data
        data = self._read[self._taken_bytes : end]
        self._taken_bytes = end
        return data

    def _receive(self, count_bytes: int) -> None:
        """Some more of the `count_bytes` that are wanted."""
        del self._read[: self._taken_bytes]
        self._taken_bytes = 0
        seconds = self._may_wait()
        if seconds is not None and seconds <= 0:
            raise TimeoutError("no time is left to wait for the other end")
        self._connection.settimeout(seconds)
        with suppress(TimeoutError):
            missing = count_bytes - len(self._read)
            self._read += _more(self._connection, max(_USUAL_BYTES, missing))


def _more(connection: socket.socket, at_most_bytes: int) -> bytearray:
    data = bytearray(connection.recv(min(at_most_bytes, _MOST_BYTES)))
    if not data:
        raise EOFError("the other end closed the connection")
    return data


def _lengths(data: bytearray, bounds: Bounds) -> tuple[int, int]:
    header_bytes, array_bytes = _LENGTHS.unpack_from(data)
    if header_bytes > bounds.header_bytes or array_bytes > bounds.array_bytes:
        raise ValueError(f"a frame of {header_bytes:,} + {array_bytes:,} bytes")
    return header_bytes, array_bytes


def _decode(data: memoryview, header_bytes: int) -> Frame:
    try:
        header = json.loads(str(data[:header_bytes], "utf-8"))
    except RecursionError:
        raise ValueError("a header nested too deep") from None
    shapes = header.pop("arrays", None) if isinstance(header, dict) else None
    if not isinstance(shapes, list):
        raise ValueError("a header that names no arrays")
    arrays, start = [], header_bytes
    for shape in shapes:
        match shape:
            case [str(kind), int(length)] if kind in _TYPES and 0 <= length <= len(data):
                array = np.frombuffer(data, np.dtype(kind), length, start)
            case _:
                raise ValueError(f"an array of {shape!r:.80}")
        arrays.append(array)
        start += array.nbytes
    if start != len(data):
        raise ValueError(f"{len(data) - start} bytes beyond the last array")
    return Frame(header, tuple(arrays))


def _classes() -> dict[str, type[errors.LongleafError]]:
    """code -> class, of all that are made of a message and a hint alone."""
    found: dict[str, type[errors.LongleafError]] = {}
    open_classes: list[type[errors.LongleafError]] = [errors.LongleafError]
    while open_classes:
        kind = open_classes.pop()
        open_classes += kind.__subclasses__()
        if kind is not errors.Rejected:
            found[kind.code] = kind
    return found


def error_to_json(error: Exception) -> dict[str, str]:
    """An error as the other end raises it again; what is no LongleafError has no code."""
    if isinstance(error, errors.Rejected):
        told = {"code": error.code, "message": error.message, "hint": error.hint}
        return {**told, "reason": error.reason.value}
    if isinstance(error, errors.LongleafError):
        return {"code": error.code, "message": error.message, "hint": error.hint}
    return {"code": "", "message": repr(error), "hint": ""}


def error_from_json(value: Mapping[str, str]) -> Exception:
    """The error that `error_to_json` was given. Raises ValueError for an unknown reason."""
    if not value["code"]:
        return RuntimeError(f"in the other process: {value['message']}")
    if value["code"] == errors.Rejected.code:
        reason = errors.RejectReason(value["reason"])
        return errors.Rejected(reason, value["message"], value["hint"])
    kind = _classes().get(value["code"], errors.LongleafError)
    return kind(value["message"], value["hint"])
