"""Documents to frames and back, where the end that sends may be in a stranger's hands.

A parser that was taken over can send anything, so `received` checks every type, length, offset and
number before a value exists that the rest of the program would trust; what it lets through is a
document that an honest parser could have made. The child checks its own documents in the same way,
so that a parser's bug is told with its reason. Text and everything that there is much of are
arrays; the header stays small, because parsing JSON takes up to 40 times its size in memory.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from longleaf.core.errors import LongleafError, NoTextFound, Rejected, RejectReason
from longleaf.core.frames import Bounds, Frame, error_from_json
from longleaf.core.layout import Layout
from longleaf.core.types import (
    Document,
    MetaValue,
    OcrWord,
    Page,
    Region,
    Rejection,
    Role,
    Section,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEADER_BYTES = 4 * 1024 * 1024
PAGES = 1_000_000
WORDS_ON_A_PAGE = 20_000

_PHASE = re.compile(r"[a-z]{1,20}")
_ROLES = tuple(Role)
_TITLE_CHARS = 10_000
_KEY_CHARS = 10_000
_TYPE_CHARS = 200
_DETAIL_CHARS = 20_000
_FIELDS = 1_000
_WARNINGS = 10_000
_LEVELS = 100
_POINTS = 1_000_000.0  # a page's width or height: 350 metres
_LARGEST_INTEGER = 2**63 - 1  # SQLite's


def bounds(document_bytes: int) -> Bounds:
    """How large a frame from a child may be, where one document may weigh `document_bytes`."""
    return Bounds(HEADER_BYTES, min(document_bytes, 2**32 - 1))


# --- documents ---------------------------------------------------------------------------------


def document_frame(document: Document) -> Frame:
    """A document as a frame. Raises ValueError for one that the other end would refuse."""
    check_document(document)
    arrays: list[NDArray[Any]] = [_bytes(document.text.encode())]
    if document.pages or document.sections or document.regions or document.layout is not None:
        arrays += _maps(document)
    header = {
        "say": "document",
        "title": document.title,
        "metadata": document.metadata,
        "key": document.key,
        "part": document.part,
        "media_type": document.media_type,
        "warnings": document.warnings,
    }
    return Frame(header, tuple(arrays))


def _maps(document: Document) -> list[NDArray[Any]]:
    """Pages, sections and their titles, regions; then the layout, if there is one."""
    titles = [section.title.encode() for section in document.sections]
    pages = [(page.number, page.start_char, page.end_char) for page in document.pages]
    sections = [(each.level, each.start_char, each.end_char) for each in document.sections]
    regions = [(_ROLES.index(e.role), e.start_char, e.end_char) for e in document.regions]
    arrays: list[NDArray[Any]] = [
        _rows(pages),
        _rows(sections),
        np.array([len(title) for title in titles], "<i4"),
        _bytes(b"".join(titles)),
        _rows(regions),
    ]
    if document.layout is not None:
        layout = document.layout
        arrays += [
            layout.spans.astype("<i4", copy=False).ravel(),
            layout.boxes.astype("<f4", copy=False).ravel(),
            layout.pages.astype("<f4", copy=False).ravel(),
        ]
    return arrays


def document_from(frame: Frame) -> Document:
    """The document that `document_frame` was given. Raises ValueError for anything else."""
    header, arrays = frame.header, frame.arrays
    if len(arrays) not in (1, 6, 9):
        raise ValueError(f"a document of {len(arrays)} arrays")
    title: Any = header.get("title")  # checked below, with everything else
    media_type: Any = header.get("media_type")
    metadata, warnings = header.get("metadata"), header.get("warnings")
    if not isinstance(metadata, dict) or not isinstance(warnings, list):
        raise ValueError("metadata or warnings of another type")
    document = Document(
        text=_decoded(arrays[0]),
        title=title,
        metadata={name: _meta_value(value) for name, value in metadata.items()},
        key=header.get("key"),
        part=header.get("part"),
        media_type=media_type,
        warnings=tuple(warnings),
    )
    if len(arrays) > 1:
        document = _with_maps(document, *arrays[1:])
    check_document(document)
    return document


def _with_maps(
    document: Document,
    pages: NDArray[Any],
    sections: NDArray[Any],
    title_bytes: NDArray[Any],
    titles: NDArray[Any],
    regions: NDArray[Any],
    *layout: NDArray[Any],
) -> Document:
    names = _split(titles, title_bytes)
    roles = _table(regions, 3, "<i4").tolist()
    if not all(0 <= role < len(_ROLES) for role, _, _ in roles):
        raise ValueError("a region of no known role")
    return replace(
        document,
        pages=tuple(Page(*row) for row in _table(pages, 3, "<i4").tolist()),
        sections=tuple(
            Section(title, *row)
            for title, row in zip(names, _table(sections, 3, "<i4").tolist(), strict=True)
        ),
        regions=tuple(Region(_ROLES[role], start, end) for role, start, end in roles),
        layout=_layout(*layout) if layout else None,
    )


def _layout(spans: NDArray[Any], boxes: NDArray[Any], sizes: NDArray[Any]) -> Layout:
    return Layout(
        _table(spans, 3, "<i4").astype(np.int32, copy=False),
        _table(boxes, 4, "<f4").astype(np.float32, copy=False),
        _table(sizes, 2, "<f4").astype(np.float32, copy=False),
    )


def _bytes(data: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(data, "|u1") if data else np.empty(0, "|u1")


def _rows(rows: Sequence[tuple[int, int, int]]) -> NDArray[np.int32]:
    return np.array(rows, "<i4").ravel()


def _table(array: NDArray[Any], columns: int, kind: str) -> NDArray[Any]:
    if array.dtype.str != kind or array.size % columns:
        raise ValueError(f"{array.size} of {array.dtype.str} are no rows of {columns} {kind}")
    return array.reshape(-1, columns)


def _decoded(array: NDArray[Any]) -> str:
    if array.dtype.str != "|u1":
        raise ValueError(f"a text of {array.dtype.str}")
    return str(array.data, "utf-8")


def _split(joined: NDArray[Any], lengths: NDArray[Any]) -> list[str]:
    if lengths.dtype.str != "<i4" or (lengths < 0).any() or lengths.sum() != joined.size:
        raise ValueError("titles whose lengths do not add up")
    ends = np.cumsum(lengths, dtype=np.int64).tolist()
    return [
        _decoded(joined[start:end]) for start, end in zip([0, *ends[:-1]], ends, strict=True)
    ] if ends else []  # fmt: skip


# --- what a document must be -------------------------------------------------------------------


def check_document(document: Document) -> None:
    """Raise ValueError, saying why, unless `document` is what `core.types` promises."""
    text, end = document.text, len(document.text)
    if not isinstance(text, str) or not text or text.isspace():
        raise ValueError("a document without text")
    if "\0" in text:
        raise ValueError("a text with NULs")
    _string(document.title, _TITLE_CHARS, "title")
    for name in (document.key, document.part):
        if name is not None:
            _string(name, _KEY_CHARS, "key or part")
            if not name:
                raise ValueError("an empty key or part")
    _string(document.media_type, _TYPE_CHARS, "media type")
    _check_metadata(document.metadata)
    if len(document.warnings) > _WARNINGS:
        raise ValueError(f"{len(document.warnings)} warnings")
    for warning in document.warnings:
        _string(warning, _DETAIL_CHARS, "warning")
    _check_runs([(page.start_char, page.end_char) for page in document.pages], end, "page")
    _check_between([page.number for page in document.pages], 1, PAGES, "page number")
    _check_runs([(each.start_char, each.end_char) for each in document.regions], end, "region")
    _check_nested([(each.start_char, each.end_char) for each in document.sections], end)
    _check_between([each.level for each in document.sections], 1, _LEVELS, "section level")
    for section in document.sections:
        _string(section.title, _TITLE_CHARS, "section title")
    if document.layout is not None:
        _check_layout(document.layout, end)


def _string(value: object, most_chars: int, what: str) -> None:
    if not isinstance(value, str):
        raise ValueError(f"a {what} that is a {type(value).__name__}")
    if len(value) > most_chars:
        raise ValueError(f"a {what} of {len(value):,} characters")
    if "\0" in value:
        raise ValueError(f"a {what} with NULs")
    value.encode()  # raises UnicodeEncodeError, a ValueError, for what no store takes


def _check_metadata(metadata: Mapping[str, MetaValue]) -> None:
    if len(metadata) > _FIELDS:
        raise ValueError(f"metadata of {len(metadata):,} fields")
    for name, value in metadata.items():
        _string(name, _KEY_CHARS, "metadata field")
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, str):
                _string(each, HEADER_BYTES, "metadata value")
            elif isinstance(value, tuple) or not _is_storable(each):
                raise ValueError(f"metadata {name!r:.100} that no store takes")


def _is_storable(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and abs(value) <= _LARGEST_INTEGER


def _meta_value(value: Any) -> MetaValue:
    checked: MetaValue = tuple(value) if isinstance(value, list) else value
    return checked


def _check_runs(runs: Sequence[tuple[int, int]], text_chars: int, what: str) -> None:
    """In order, inside the text, never overlapping."""
    before = 0
    for start, end in runs:
        if not before <= start <= end <= text_chars:
            raise ValueError(f"a {what} at {start}:{end}, behind {before}, of {text_chars}")
        before = end


def _check_nested(runs: Sequence[tuple[int, int]], text_chars: int) -> None:
    before = 0
    for start, end in runs:
        if not before <= start <= end <= text_chars:
            raise ValueError(f"a section at {start}:{end}, behind {before}, of {text_chars}")
        before = start


def _check_between(numbers: Sequence[int], least: int, most: int, what: str) -> None:
    if numbers and not least <= min(numbers) <= max(numbers) <= most:
        raise ValueError(f"a {what} out of {least:,} to {most:,}")


def _check_layout(layout: Layout, text_chars: int) -> None:
    spans, boxes, sizes = layout.spans, layout.boxes, layout.pages
    if spans.ndim != 2 or boxes.ndim != 2 or sizes.ndim != 2:
        raise ValueError("a layout of no tables")
    if spans.shape[1:] != (3,) or boxes.shape != (len(spans), 4) or sizes.shape[1:] != (2,):
        raise ValueError("a layout whose tables do not fit")
    if len(sizes) > PAGES or not bool(((sizes >= 0) & (sizes <= _POINTS)).all()):
        raise ValueError("a page of no size")
    if not bool((np.abs(boxes) <= _POINTS).all()):
        raise ValueError("a box beyond every page")
    if len(spans):
        starts, ends, pages = spans.T
        ordered = bool((starts < ends).all() and (ends[:-1] <= starts[1:]).all())
        inside = starts[0] >= 0 and ends[-1] <= text_chars
        if not (ordered and inside and pages.min() >= 1 and pages.max() <= len(sizes)):
            raise ValueError("a layout of another text")


# --- the rest of what a child says -------------------------------------------------------------


def sendable(text: str) -> str:
    """`text` as the other end takes it: what is too long ends in "…", what is no text is "?"."""
    cut = text if len(text) <= _DETAIL_CHARS else text[: _DETAIL_CHARS - 1] + "…"
    return cut.encode("utf-8", "replace").decode().replace("\0", "?")


def rejection_frame(rejection: Rejection) -> Frame:
    reason = RejectReason(rejection.reason).value
    where, detail = sendable(rejection.where), sendable(rejection.detail)
    return Frame({"say": "rejection", "where": where, "reason": reason, "detail": detail})


def rejection_from(header: Mapping[str, Any]) -> Rejection:
    """Raises ValueError for what is none."""
    where, detail = header.get("where"), header.get("detail")
    _string(where, _DETAIL_CHARS, "place")
    _string(detail, _DETAIL_CHARS, "detail")
    return Rejection(str(where), RejectReason(str(header.get("reason"))), str(detail))


def error_from(header: Mapping[str, Any]) -> LongleafError:
    """The error that ends a file: `Rejected` or `NoTextFound`. Raises ValueError for others."""
    told = {name: header.get(name) for name in ("code", "message", "hint")}
    for name, value in told.items():
        _string(value, _DETAIL_CHARS, name)
    if told["code"] == Rejected.code:
        told["reason"] = RejectReason(str(header.get("reason"))).value
    error = error_from_json({name: str(value) for name, value in told.items()})
    if not isinstance(error, Rejected | NoTextFound):
        raise ValueError(f"a file does not end with {told['code']!r:.80}")
    return error


def progress_from(header: Mapping[str, Any]) -> tuple[str, int, int]:
    """(phase, units done, units in all). Raises ValueError."""
    phase, done, total = (header.get(name) for name in ("phase", "done", "total"))
    if isinstance(phase, str) and isinstance(done, int) and isinstance(total, int):
        _check_between([done, total], 0, _LARGEST_INTEGER, "count")
        if _PHASE.fullmatch(phase):
            return phase, done, total
    raise ValueError("progress of no known form")


def words_to_json(words: Sequence[OcrWord]) -> list[list[str | float]]:
    """Raises ValueError for words that the other end would refuse."""
    _check_words(words)
    return [
        [w.text, w.confidence, w.paragraph, w.line, w.left, w.top, w.right, w.bottom] for w in words
    ]


def words_from_json(value: object) -> tuple[OcrWord, ...]:
    """Raises ValueError for anything that is no page of words."""
    if not isinstance(value, list) or len(value) > WORDS_ON_A_PAGE:
        raise ValueError("a page that is no list of words")
    words = []
    for row in value:
        match row:
            case [str(text), confidence, int(paragraph), int(line), left, top, right, bottom]:
                box = [_number(each) for each in (left, top, right, bottom)]
                words.append(OcrWord(text, _number(confidence), paragraph, line, *box))
            case _:
                raise ValueError("a word of no known form")
    _check_words(words)
    return tuple(words)


def _number(value: object) -> float:
    if not isinstance(value, int | float) or not abs(value) <= _POINTS:
        raise ValueError(f"no place on a page: {value!r:.40}")
    return float(value)


def _check_words(words: Sequence[OcrWord]) -> None:
    if len(words) > WORDS_ON_A_PAGE:
        raise ValueError(f"{len(words):,} words on a page")
    for word in words:
        _string(word.text, _KEY_CHARS, "word")
        if not 0 <= word.confidence <= 100:
            raise ValueError("a confidence beyond 0 to 100")
        if not (0 <= word.paragraph <= WORDS_ON_A_PAGE and 0 <= word.line <= WORDS_ON_A_PAGE):
            raise ValueError("a word on no line")
        if not all(abs(edge) <= _POINTS for edge in (word.left, word.top, word.right, word.bottom)):
            raise ValueError("a word beyond every page")
