"""Plain text: encodings, titles, pages; what is refused; and what no input may do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longleaf.core.errors import LongleafError, Rejected, RejectReason
from longleaf.core.types import Document
from longleaf.indexer.parsers.text import TextParser


def read(data: bytes, name: str = "a.txt") -> Document:
    (document,) = TextParser().parse(data, name)
    assert isinstance(document, Document)
    return document


@pytest.mark.parametrize(
    ("data", "text", "warned"),
    [
        ("Ärzte §".encode(), "Ärzte §", ""),
        ("Ärzte §".encode("utf-8-sig"), "Ärzte §", ""),
        ("Ärzte §".encode("utf-16"), "Ärzte §", ""),
        (b"\xfe\xff" + "Ärzte".encode("utf-16-be"), "Ärzte", ""),
        ("Ärzte".encode("utf-32"), "Ärzte", ""),
        ("Twelve words in UTF-16".encode("utf-16-le"), "Twelve words in UTF-16", "UTF-16-LE"),
        ("Ärzte “§”".encode("cp1252"), "Ärzte “§”", "Windows-1252"),
        (b"a\x81 \xe9t\xe9", "a\x81 été", "Latin-1"),
        ("Größe für Ämter".encode() + b"\xff", "Größe für Ämter\ufffd", "not valid UTF-8"),
        (b"one\r\ntwo\rthree\n", "one\ntwo\nthree\n", ""),
        (b"one\0 word " * 3 + b"x" * 100, "one\ufffd word " * 3 + "x" * 100, "3 unreadable"),
        (b"\xff\xfe" + b"a\0\x00\xd8b\0", "a\ufffdb", "not valid UTF-16-LE"),
    ],
)
def test_every_encoding_gives_the_same_kind_of_text(data: bytes, text: str, warned: str) -> None:
    document = read(data)
    assert document.text == text
    assert (warned in " ".join(document.warnings)) if warned else document.warnings == ()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", RejectReason.EMPTY),
        (b" \n\t\n", RejectReason.EMPTY),
        (bytes(range(256)) * 20, RejectReason.MALFORMED),
        (b"\0" * 100, RejectReason.MALFORMED),
    ],
)
def test_what_is_no_text_is_refused(data: bytes, reason: RejectReason) -> None:
    with pytest.raises(Rejected) as refusal:
        read(data)
    assert refusal.value.reason == reason
    assert "a.txt" in refusal.value.message


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("\n\n  First line \nsecond", "First line"),
        ("=====\nMerger Agreement\n", "Merger Agreement"),
        ("12\nCase 1:20-cv-1 Page 1 of 9\nOPINION", "OPINION"),
        ("12\n34", "12"),
        ("!!! ???", "a.txt"),
        ("word " * 60, "word " * 22 + "word…"),
        ("w" * 200, "w" * 119 + "…"),
    ],
)
def test_the_title_is_the_first_line_in_words(text: str, title: str) -> None:
    assert read(text.encode()).title == title


def test_form_feeds_end_pages() -> None:
    document = read(b"one\ftwo\n\f\fthree")
    pages = [document.text[page.start_char : page.end_char] for page in document.pages]
    assert pages == ["one\f", "two\n\f", "\f", "three"]
    assert [page.number for page in document.pages] == [1, 2, 3, 4]
    assert read(b"one page").pages == ()


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda t: t.encode("utf-16")))
def test_any_bytes_give_storable_text_or_a_named_refusal(data: bytes) -> None:
    try:
        document = read(data)
    except LongleafError:
        return
    assert document.text.encode() and document.title.encode()
    assert not set("\0\r") & set(document.text)
    assert not document.text.isspace()


@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1))
def test_utf8_without_control_characters_is_left_alone(text: str) -> None:
    text = f"Words\n\t{text}"
    assert read(text.encode("utf-8-sig")).text == text
