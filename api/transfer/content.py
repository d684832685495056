"""Lines of an export to what the catalog stores, every offset and number checked.

Types and sizes have been checked by `form`; here is what only makes sense together: offsets within
the text, the digest, a layout that fits, vectors of unit length with their checksum. Nothing
of an export is believed; what does not check out is refused with the reason, and the rest goes on.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np

from longleaf.api.transfer import form
from longleaf.core.catalog import content_digest
from longleaf.core.ids import MAX_PASSAGES_PER_DOCUMENT
from longleaf.core.layout import Layout
from longleaf.core.types import Document, Page, Passage, PassageVectors, Region, Role, Section

if TYPE_CHECKING:
    from longleaf.core.types import FloatArray, Int8Array

_LAYOUT_HEADER = struct.Struct("<4sII")
_MOST_PAGES = 1_000_000
_UNIT_TOLERANCE = 0.01
_FARTHEST_POINT = 1e6


class Refused(ValueError):
    """A line that does not make sense: the message says what of it."""


def document_of(line: form.ContentLine) -> Document:
    """The text with everything that lies in it. Raises Refused."""
    _require(bool(line.text.strip()), "no text")
    length = len(line.text)
    _ordered([span[1:] for span in line.pages], length, "pages", apart=False)
    _within([span[2:] for span in line.sections], length, "sections")
    _ordered([span[1:] for span in line.regions], length, "regions", apart=True)
    document = Document(
        text=line.text,
        title=line.title,
        pages=tuple(Page(*page) for page in line.pages),
        sections=tuple(Section(*section) for section in line.sections),
        regions=tuple(Region(_role(role), *span) for role, *span in line.regions),
        layout=None if line.layout is None else _layout(line.layout, length),
    )
    _require(content_digest(document) == line.digest, "a digest that is not its own")
    return document


def passages_of(line: form.ContentLine) -> tuple[Passage, ...]:
    """The passages that came with vectors. Raises Refused."""
    lines = line.passages or []
    length = len(line.text)
    _require(len(lines) < MAX_PASSAGES_PER_DOCUMENT, "too many passages")
    _ordered([(each.start_char, each.end_char) for each in lines], length, "passages", apart=False)
    for each in lines:
        _require(each.start_char < each.end_char, "an empty passage")
        _require(each.overlap_chars <= each.end_char - each.start_char, "too much overlap")
        _require((each.first_page is None) == (each.last_page is None), "half of a page range")
    return tuple(
        Passage(
            ordinal=ordinal,
            start_char=each.start_char,
            end_char=each.end_char,
            token_count=each.token_count,
            first_page=each.first_page,
            last_page=each.last_page,
            headings=tuple(each.headings),
            overlap_chars=each.overlap_chars,
            role=_role(each.role),
        )
        for ordinal, each in enumerate(lines)
    )


def vector_bytes(line: form.PassageLine, made_by: form.MadeBy) -> int:
    """How many bytes of `vectors.bin` are this passage's: half floats, then token codes."""
    return 2 * made_by.dim + (line.tokens or 0) * made_by.token_dim


def vectors_of(line: form.PassageLine, data: bytes, made_by: form.MadeBy) -> PassageVectors:
    """A passage's vectors from its bytes. Raises Refused."""
    _require(zlib.crc32(data) == line.vector_crc32, "vectors that fail their checksum")
    dense: FloatArray = np.frombuffer(data, "<f2", made_by.dim).astype(np.float32)
    # NaN is never near.
    _require(
        abs(float(np.linalg.norm(dense)) - 1) <= _UNIT_TOLERANCE, "a vector not of unit length"
    )
    _require(line.prefix_tokens <= (line.tokens or 0), "more title than tokens")
    codes: Int8Array = np.zeros((0, 0), np.int8)
    if made_by.token_dim:
        codes = np.frombuffer(data, np.int8, offset=2 * made_by.dim).reshape(-1, made_by.token_dim)
    return PassageVectors(dense, codes, line.prefix_tokens, line.truncated_tokens)


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise Refused(what)


def _within(spans: list[tuple[int, int]], length: int, what: str) -> None:
    for start, end in spans:
        _require(start <= end <= length, f"{what} outside the text")


def _ordered(spans: list[tuple[int, int]], length: int, what: str, *, apart: bool) -> None:
    _within(spans, length, what)
    for (start, end), (next_start, _) in itertools.pairwise(spans):
        _require(start <= next_start, f"{what} in no order")
        _require(not apart or end <= next_start, f"{what} that overlap")


def _role(name: str) -> Role:
    try:
        return Role(name)
    except ValueError:
        raise Refused(f"a role {name[:50]!r} that there is not") from None


def _layout(encoded: str, length: int) -> Layout:
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise Refused("a layout that is no base64") from None
    _require(len(data) >= _LAYOUT_HEADER.size, "a layout without its header")
    _, runs, pages = _LAYOUT_HEADER.unpack_from(data)
    # Known before it is unpacked: a run has a character at least.
    _require(runs <= length and pages <= _MOST_PAGES, "a layout of more runs than characters")
    try:
        layout = Layout.from_bytes(data)
    except ValueError as error:
        raise Refused(str(error)) from None
    starts, ends, numbers = layout.spans.T.astype(np.int64)
    fits = (starts >= 0) & (starts < ends) & (ends <= length) & (numbers >= 1) & (numbers <= pages)
    _require(bool(fits.all()) and bool((ends[:-1] <= starts[1:]).all()), "a layout beside the text")
    numbers_ok = np.isfinite(layout.boxes).all() and np.isfinite(layout.pages).all()
    small = bool(numbers_ok) and bool((np.abs(layout.boxes) < _FARTHEST_POINT).all())
    _require(
        small and bool((np.abs(layout.pages) < _FARTHEST_POINT).all()), "a layout off the page"
    )
    return layout
