"""What a serving process and its index process say to each other, as bytes on a socket pair.

A frame is two lengths, a JSON header and little-endian arrays one after another; the header says
the type and length of each. Nothing in it can carry code, and both ends are bounded. It knows what
a message is made of, not what it asks. Trade-off: JSON for everything that is small and has a
shape (a filter), raw bytes for what is large and has none (a vector, 1,000 scores): the smallest
exchange costs 0.1 ms beside a search's milliseconds.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from longleaf.core import errors
from longleaf.core.filters import And, Eq, Filter, In, Not, Or, Prefix, Range
from longleaf.core.protocols import IndexFilter
from longleaf.retriever.filters import filter_to_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_HEADER_BYTES = 16 * 1024 * 1024
MAX_ARRAY_BYTES = 256 * 1024 * 1024
_LENGTHS = struct.Struct("<II")
_USUAL_BYTES = 64 * 1024
_MOST_BYTES = 1024 * 1024
_TYPES = ("<f4", "<u8")


@dataclass(frozen=True, slots=True)
class Frame:
    """A message: JSON values by name, and (n,) arrays of float32 or uint64."""

    header: Mapping[str, Any]
    arrays: tuple[NDArray[Any], ...] = ()


def encode(frame: Frame) -> bytes:
    """The frame as bytes. Raises TooLarge for one that the other end would refuse."""
    arrays = [np.ascontiguousarray(array) for array in frame.arrays]
    assert all(array.dtype.str in _TYPES and array.ndim == 1 for array in arrays)
    shapes = [[array.dtype.str, array.size] for array in arrays]
    # ASCII escapes carry what UTF-8 cannot: a lone surrogate in a query or a file name.
    header = json.dumps({**frame.header, "arrays": shapes}).encode("ascii")
    array_bytes = sum(array.nbytes for array in arrays)
    if len(header) > MAX_HEADER_BYTES or array_bytes > MAX_ARRAY_BYTES:
        raise errors.TooLarge(
            f"A message of {len(header) + array_bytes:,} bytes is too large for the index process.",
            "Ask for fewer passages, or with a smaller filter.",
        )
    lengths = _LENGTHS.pack(len(header), array_bytes)
    return b"".join((lengths, header, *(array.tobytes() for array in arrays)))


def receive(connection: socket.socket) -> Frame:
    """The next frame. Raises EOFError when the other end is gone, ValueError for nonsense.

    Nothing may follow it before it is answered: what comes with it is taken for a part of it.
    """
    # Almost every frame comes whole at the first call. Each further one waits for the interpreter
    # lock, which the follower holds most of the time.
    data = _more(connection, _USUAL_BYTES)
    while len(data) < _LENGTHS.size:
        data += _more(connection, _USUAL_BYTES)
    header_bytes, array_bytes = _LENGTHS.unpack_from(data)
    if header_bytes > MAX_HEADER_BYTES or array_bytes > MAX_ARRAY_BYTES:
        raise ValueError(f"a frame of {header_bytes:,} + {array_bytes:,} bytes")
    body_start = _LENGTHS.size + header_bytes
    end = body_start + array_bytes
    while len(data) < end:
        data += _more(connection, end - len(data))
    header = json.loads(data[_LENGTHS.size : body_start])
    arrays, start = [], body_start
    for kind, length in header.pop("arrays"):
        if kind not in _TYPES:
            raise ValueError(f"an array of {kind}")
        array = np.frombuffer(data, np.dtype(kind), length, start)
        arrays.append(array)
        start += array.nbytes
    if start != len(data):
        raise ValueError(f"{len(data) - start} bytes beyond the last array")
    return Frame(header, tuple(arrays))


def _more(connection: socket.socket, at_most_bytes: int) -> bytearray:
    data = bytearray(connection.recv(min(at_most_bytes, _MOST_BYTES)))
    if not data:
        raise EOFError("the other end closed the connection")
    return data


def ids_array(point_ids: Sequence[int]) -> NDArray[np.uint64]:
    return np.array(point_ids, "<u8")


def scores_array(scores: Sequence[float]) -> NDArray[np.float32]:
    """The engine computes in float32, so this loses nothing."""
    return np.array(scores, "<f4")


def index_filter_to_json(index_filter: IndexFilter) -> dict[str, Any]:
    where = index_filter.where
    return {
        "collections": index_filter.collections,
        "groups": index_filter.groups,
        "where": None if where is None else filter_to_json(where),
        "phrases": index_filter.phrases,
        "excluded": index_filter.excluded,
    }


def index_filter_from_json(value: Mapping[str, Any]) -> IndexFilter:
    groups, where = value["groups"], value["where"]
    return IndexFilter(
        collections=tuple(value["collections"]),
        groups=None if groups is None else tuple(groups),
        where=None if where is None else _tree(where),
        phrases=tuple(value["phrases"]),
        excluded=tuple(value["excluded"]),
    )


def _tree(value: Mapping[str, Any]) -> Filter:
    """What `filter_to_json` was given.

    `filter_from_json` holds requests to limits; this tree has passed them, and has since grown by
    the documents that the retriever wants no more of.
    """
    match value:
        case {"and": parts}:
            return And(tuple(map(_tree, parts)))
        case {"or": parts}:
            return Or(tuple(map(_tree, parts)))
        case {"not": part}:
            return Not(_tree(part))
        case {"field": field, "eq": scalar}:
            return Eq(field, scalar)
        case {"field": field, "in": choices}:
            return In(field, tuple(choices))
        case {"field": field, "prefix": prefix}:
            return Prefix(field, prefix)
        case {"field": field, **bounds}:
            return Range(field, **bounds)
    raise ValueError("a filter of no known form")


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
    if isinstance(error, errors.LongleafError):
        return {"code": error.code, "message": error.message, "hint": error.hint}
    return {"code": "", "message": repr(error), "hint": ""}


def error_from_json(value: Mapping[str, str]) -> Exception:
    if not value["code"]:
        return RuntimeError(f"in the index process: {value['message']}")
    kind = _classes().get(value["code"], errors.LongleafError)
    return kind(value["message"], value["hint"])
