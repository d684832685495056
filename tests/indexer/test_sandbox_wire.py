"""Documents on their way out of a child: honest ones arrive whole, no other gets through."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longleaf.core import frames
from longleaf.core.catalog import content_digest
from longleaf.core.errors import NoTextFound, Rejected, RejectReason
from longleaf.core.frames import Frame
from longleaf.core.layout import Layout
from longleaf.core.types import Document, OcrWord, Page, Region, Rejection, Role, Section
from longleaf.indexer.sandbox import wire

# What UTF-8 can hold, without NUL.
characters = st.characters(blacklist_categories=("Cs",), blacklist_characters="\0")
strings = st.text(characters, max_size=30)
names = st.text(characters, min_size=1, max_size=30)
values = (
    strings
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans()
    | st.lists(strings, max_size=4).map(tuple)
)


@st.composite
def documents(draw: st.DrawFn) -> Document:
    text = draw(st.text(characters, min_size=1, max_size=200).filter(lambda t: not t.isspace()))
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))
    runs = list(zip(cuts[::2], cuts[1::2], strict=False))
    chars = [(start, end) for start, end in runs if start < end]
    spans = np.array([(*run, 1 + n % 3) for n, run in enumerate(chars)], np.int32)
    edges = st.floats(-1000, 1000, width=32)
    boxes = [draw(st.tuples(edges, edges, edges, edges)) for _ in chars]
    layout = Layout(
        spans.reshape(-1, 3),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.full((3, 2), 612, np.float32),
    )
    return Document(
        text=text,
        title=draw(strings),
        pages=tuple(Page(number, *run) for number, run in enumerate(runs, 1)),
        sections=tuple(
            Section(draw(strings), draw(st.integers(1, 9)), start, len(text)) for start, _ in runs
        ),
        metadata=draw(st.dictionaries(names, values, max_size=4)),
        regions=tuple(Region(draw(st.sampled_from(Role)), *run) for run in runs),
        layout=draw(st.sampled_from((None, layout))),
        key=draw(st.none() | names),
        part=draw(st.none() | names),
        media_type=draw(st.text(characters, max_size=30)),
        warnings=draw(st.lists(strings, max_size=3).map(tuple)),
    )


def sent(frame: Frame) -> Frame:
    """The frame as the other end sees it."""
    data = frames.encode(frame)
    header_bytes, _ = frames._lengths(bytearray(data[:8]), frames.USUAL)
    return frames._decode(memoryview(data)[8:], header_bytes)


def same(one: Document, other: Document) -> bool:
    types = [type(value) for value in one.metadata.values()]
    return (
        replace(one, layout=None) == replace(other, layout=None)
        and types == [type(value) for value in other.metadata.values()]
        and content_digest(one) == content_digest(other)
    )


@given(documents())
def test_a_document_arrives_as_it_was_made(document: Document) -> None:
    arrived = wire.document_from(sent(wire.document_frame(document)))
    assert same(arrived, document)
    if document.layout is not None:
        assert arrived.layout is not None
        length = len(document.text)
        assert arrived.layout.rectangles(0, length) == document.layout.rectangles(0, length)


# --- what is refused ---------------------------------------------------------------------------

GOOD = Document(
    "a text of ten words",
    "title",
    pages=(Page(1, 0, 5), Page(2, 5, 19)),
    sections=(Section("one", 1, 0, 19), Section("two", 2, 7, 19)),
    metadata={"n": 1},
    regions=(Region(Role.FOOTNOTE, 2, 4),),
    layout=Layout(
        np.array([[0, 1, 1], [2, 6, 2]], np.int32),
        np.ones((2, 4), np.float32),
        np.full((2, 2), 600, np.float32),
    ),
)


def layout(**changes: Any) -> Document:
    assert GOOD.layout is not None
    return replace(GOOD, layout=replace(GOOD.layout, **changes))


LIES = {
    "no text": replace(GOOD, text=" \n\t", pages=(), sections=(), regions=(), layout=None),
    "NUL": replace(GOOD, text="a text\0of ten words"),
    "surrogate": replace(GOOD, text="a text\ud800of ten words"),
    "surrogate in a title": replace(GOOD, title="\ud800"),
    "surrogate in a field": replace(GOOD, metadata={"\ud800": 1}),
    "surrogate in a value": replace(GOOD, metadata={"n": ("\ud800",)}),
    "long title": replace(GOOD, title="x" * 100_000),
    "number for a title": replace(GOOD, title=7),  # type: ignore[arg-type]
    "number for a key": replace(GOOD, key=7),  # type: ignore[arg-type]
    "number for a media type": replace(GOOD, media_type=7),  # type: ignore[arg-type]
    "long media type": replace(GOOD, media_type="x" * 1000),
    "empty key": replace(GOOD, key=""),
    "many warnings": replace(GOOD, warnings=("w",) * 20_000),
    "number for a warning": replace(GOOD, warnings=(7,)),  # type: ignore[arg-type]
    "infinity": replace(GOOD, metadata={"n": math.inf}),
    "not a number": replace(GOOD, metadata={"n": math.nan}),
    "large number": replace(GOOD, metadata={"n": 2**63}),
    "nothing for a value": replace(GOOD, metadata={"n": None}),  # type: ignore[dict-item]
    "numbers in a list": replace(GOOD, metadata={"n": (1, 2)}),  # type: ignore[dict-item]
    "many fields": replace(GOOD, metadata={str(n): n for n in range(2000)}),
    "page beyond": replace(GOOD, pages=(Page(1, 0, 20),)),
    "page behind": replace(GOOD, pages=(Page(1, 0, 5), Page(2, 4, 6))),
    "page backwards": replace(GOOD, pages=(Page(1, 5, 4),)),
    "page negative": replace(GOOD, pages=(Page(1, -1, 4),)),
    "page zero": replace(GOOD, pages=(Page(0, 0, 4),)),
    "section beyond": replace(GOOD, sections=(Section("s", 1, 0, 20),)),
    "section behind": replace(GOOD, sections=(Section("s", 1, 5, 9), Section("s", 1, 4, 9))),
    "section level": replace(GOOD, sections=(Section("s", 0, 0, 5),)),
    "region twice": replace(GOOD, regions=(Region(Role.BODY, 0, 5), Region(Role.BODY, 4, 6))),
    "run beyond": layout(spans=np.array([[0, 1, 1], [2, 20, 2]], np.int32)),
    "run of nothing": layout(spans=np.array([[0, 1, 1], [2, 2, 2]], np.int32)),
    "run behind": layout(spans=np.array([[0, 3, 1], [2, 6, 2]], np.int32)),
    "run negative": layout(spans=np.array([[-1, 1, 1], [2, 6, 2]], np.int32)),
    "run on no page": layout(spans=np.array([[0, 1, 1], [2, 6, 3]], np.int32)),
    "box of nothing": layout(boxes=np.full((2, 4), np.nan, np.float32)),
    "box beyond": layout(boxes=np.full((2, 4), 1e30, np.float32)),
    "boxes too few": layout(boxes=np.ones((1, 4), np.float32)),
    "page of no size": layout(pages=np.full((2, 2), -1, np.float32)),
    "page of no number": layout(pages=np.full((2, 2), np.nan, np.float32)),
}


def test_the_document_that_the_lies_are_made_of_is_good() -> None:
    assert same(wire.document_from(sent(wire.document_frame(GOOD))), GOOD)


@pytest.mark.parametrize("what", LIES)
def test_what_no_parser_may_make_is_refused_at_both_ends(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each has its own words
        wire.document_frame(LIES[what])
    with monkeypatch.context() as careless:
        careless.setattr(wire, "check_document", lambda _document: None)
        try:
            frame = sent(wire.document_frame(LIES[what]))
        except ValueError:
            return  # it cannot even be written down
    with pytest.raises(ValueError):  # noqa: PT011
        wire.document_from(frame)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
fields = ("title", "metadata", "key", "part", "warnings", "where", "reason", "detail", "code",
          "message", "hint", "phase", "done", "total", "words", "media_type")  # fmt: skip
any_arrays = st.lists(
    st.binary(max_size=40).map(lambda b: np.frombuffer(b, "|u1"))
    | st.lists(st.integers(-(2**31), 2**31 - 1), max_size=9).map(lambda v: np.array(v, "<i4"))
    | st.lists(st.floats(width=32), max_size=9).map(lambda v: np.array(v, "<f4"))
    | st.lists(st.integers(0, 2**64 - 1), max_size=3).map(lambda v: np.array(v, "<u8")),
    max_size=10,
).map(tuple)


@given(st.dictionaries(st.sampled_from(fields), anything), any_arrays)
def test_whatever_a_child_says_is_understood_or_refused(
    header: dict[str, Any], arrays: tuple[Any, ...]
) -> None:
    frame = Frame(header, arrays)
    for understand in (
        lambda: wire.document_from(frame),
        lambda: wire.rejection_from(header),
        lambda: wire.error_from(header),
        lambda: wire.progress_from(header),
        lambda: wire.words_from_json(header.get("words")),
    ):
        try:
            understood = understand()
        except ValueError:
            continue
        if isinstance(understood, Document):
            wire.check_document(understood)


@given(documents(), st.data())
def test_a_frame_that_was_tampered_with_is_understood_or_refused(
    document: Document, data: st.DataObject
) -> None:
    """One field or one array of an honest frame is another's."""
    frame = sent(wire.document_frame(document))
    header, arrays = dict(frame.header), list(frame.arrays)
    if data.draw(st.booleans()):
        header[data.draw(st.sampled_from(fields[:5]))] = data.draw(anything)
    else:
        at = data.draw(st.integers(0, len(arrays) - 1))
        arrays[at] = data.draw(any_arrays.filter(len))[0]
    try:
        understood = wire.document_from(Frame(header, tuple(arrays)))
    except ValueError:
        return
    wire.check_document(understood)
    if understood.layout is not None:
        understood.layout.rectangles(0, len(understood.text))
        Layout.from_bytes(understood.layout.to_bytes())
    content_digest(understood)


def test_bytes_flipped_in_a_frame_never_do_more_than_be_refused() -> None:
    choose = random.Random(11)
    whole = frames.encode(wire.document_frame(GOOD))
    refused = 0
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(choose.randrange(1, 6)):
            data[choose.randrange(8, len(data))] = choose.randrange(256)
        header_bytes, _ = frames._lengths(data[:8], frames.USUAL)
        try:
            document = wire.document_from(frames._decode(memoryview(data)[8:], header_bytes))
        except ValueError:
            refused += 1
        else:
            wire.check_document(document)
    assert refused > 1000


# --- the rest ----------------------------------------------------------------------------------


def test_rejections_and_errors_arrive() -> None:
    for reason in RejectReason:
        said = Rejection("line 1", reason, "what was wrong")
        assert wire.rejection_from(sent(wire.rejection_frame(said)).header) == said
        told = frames.error_to_json(Rejected(reason, "m", "h"))
        error = wire.error_from(json.loads(json.dumps(told)))
        assert isinstance(error, Rejected) and error.reason is reason
    assert isinstance(wire.error_from(frames.error_to_json(NoTextFound("m", "h"))), NoTextFound)
    long = wire.rejection_from(
        sent(wire.rejection_frame(Rejection("\ud800", "malformed", "x" * 10**6))).header
    )
    assert long.where == "?" and long.detail.endswith("x…") and len(long.detail) == 20_000


@given(
    st.lists(
        st.builds(
            OcrWord,
            strings,
            st.floats(0, 100),
            st.integers(0, 9999),
            st.integers(0, 9999),
            *[st.floats(-1e4, 1e4)] * 4,
        ),
        max_size=5,
    ).map(tuple)
)
def test_words_arrive(words: tuple[OcrWord, ...]) -> None:
    assert wire.words_from_json(json.loads(json.dumps(wire.words_to_json(words)))) == words


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        [[]],
        [["a", 1, 0, 0, 0, 0, 0]],
        [[1, 1, 0, 0, 0, 0, 0, 0]],
        [["a", 101, 0, 0, 0, 0, 0, 0]],
        [["a", 1, -1, 0, 0, 0, 0, 0]],
        [["a", 1, 0, 10**9, 0, 0, 0, 0]],
        [["a", 1, 0, 0, 0, 0, 0, 10**400]],
        [["a", 1, 0, 0, 0, 0, 0, math.nan]],
        [["\ud800", 1, 0, 0, 0, 0, 0, 0]],
        [["a", 1, 0, 0, 0, 0, 0, 0]] * 20_001,
    ],
)
def test_what_is_no_page_of_words_is_refused(value: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        wire.words_from_json(value)
