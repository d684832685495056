"""Streams that expand to more than a page can mean, found before pdfium decodes them; pure.

pdfium inflates a stream whole, up to a gigabyte. What would become more than `MAX_STREAM_BYTES` is
refused by inflating it here in small bites, which costs what it takes to see that: nothing for
streams too short to get there (deflate makes at most 1,032 bytes of one), nothing for images, which
are decoded only when drawn and counted in pixels then. Sees zlib data, also inside zlib data. Other
filters (LZW, ASCII85 around zlib), encrypted streams and a content stream disguised as an image end
at the memory limit of the process.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain

from longleaf.core.errors import Rejected, RejectReason

MAX_STREAM_BYTES = 64 * 1024 * 1024

_MOST_EXPANSION = 1_032
_MOST_LAYERS = 4
_BITE_BYTES = 1 << 20
_FIRST_BYTES = 512
_DICTIONARY_BYTES = 1_024
_STREAM = re.compile(rb"stream\r?\n(?=[\x08\x18\x28\x38\x48\x58\x68\x78])")
_IMAGE = re.compile(rb"/Subtype\s*/Image\b")


def refuse_bombs(data: bytes, name: str) -> None:
    """Raise `Rejected` (EXPANDS) if a stream of the file inflates beyond `MAX_STREAM_BYTES`."""
    view = memoryview(data)
    for match in _STREAM.finditer(data):
        begin = match.end()
        if not _is_zlib(data[begin : begin + 2]):
            continue
        opened = data.rfind(b"obj", max(0, begin - _DICTIONARY_BYTES), begin)
        if _IMAGE.search(data, max(opened, 0), begin) is not None:
            continue
        end = data.find(b"endstream", begin)
        stream = view[begin : end if end >= 0 else len(data)]
        if _expands(stream):
            raise Rejected(
                RejectReason.EXPANDS,
                f"{name}: a stream of {len(stream):,} bytes expands to more than"
                f" {MAX_STREAM_BYTES >> 20} MiB.",
                "If the file is sound, print it to a new PDF and index that.",
            )


def _is_zlib(head: bytes) -> bool:
    """Whether two bytes are a zlib header (RFC 1950, section 2.2)."""
    return len(head) == 2 and head[0] & 0x0F == 8 and (head[0] << 8 | head[1]) % 31 == 0


def _expands(stream: memoryview) -> bool:
    """Whether one of the layers of zlib data in `stream` is longer than allowed."""
    is_short = len(stream) * _MOST_EXPANSION <= MAX_STREAM_BYTES
    if is_short and not _is_zlib(_first_bytes(stream)):
        return False
    bites: Iterator[bytes] = (
        bytes(stream[at : at + _BITE_BYTES]) for at in range(0, len(stream), _BITE_BYTES)
    )
    try:
        for _ in range(_MOST_LAYERS):
            bites = _limited(_inflated(bites))
            first = next(bites, b"")
            bites = chain((first,), bites)
            if not _is_zlib(first[:2]):
                break
        for _ in bites:
            pass
    except _TooMuchError:
        return True
    return False


class _TooMuchError(Exception):
    """A layer is longer than allowed."""


def _first_bytes(stream: memoryview) -> bytes:
    try:
        return zlib.decompressobj().decompress(stream[:_FIRST_BYTES], 2)
    except zlib.error:
        return b""


def _inflated(bites: Iterable[bytes]) -> Iterator[bytes]:
    """What `bites` of a zlib stream inflate to, in bites; ends where the stream is damaged."""
    inflater = zlib.decompressobj()
    for bite in bites:
        while bite:
            try:
                found = inflater.decompress(bite, _BITE_BYTES)
            except zlib.error:
                return
            if found:
                yield found
            if inflater.eof:
                return
            bite = inflater.unconsumed_tail


def _limited(bites: Iterable[bytes]) -> Iterator[bytes]:
    total_bytes = 0
    for bite in bites:
        total_bytes += len(bite)
        if total_bytes > MAX_STREAM_BYTES:
            raise _TooMuchError
        yield bite
