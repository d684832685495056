"""ZIP packages as hostile input: what is refused before it is expanded, and what names may do."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
from collections.abc import Iterable
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.indexer.word import zipped

from longleaf.core.errors import Rejected, RejectReason
from longleaf.indexer.parsers.zipped import (
    MAX_ENTRIES,
    MAX_ENTRY_BYTES,
    MAX_READ_BYTES,
    Kind,
    Package,
    kind_of,
    resolve,
)

MIB = 1024 * 1024


def refusal(data: bytes, *names: str) -> Rejected:
    """What opening `data`, and reading `names` from it, raises."""
    with pytest.raises(Rejected) as caught:
        read_all(data, names)
    assert "bomb.docx" in caught.value.message
    return caught.value


def read_all(data: bytes, names: Iterable[str] | None = None) -> None:
    package = Package(data, "bomb.docx")
    for name in package.names if names is None else names:
        package.read(name)


def of_zeros(sizes: dict[str, int]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, size in sizes.items():
            with archive.open(name, "w", force_zip64=True) as stream:
                for _ in range(size // MIB):
                    stream.write(bytes(MIB))
    return out.getvalue()


def with_declared_size(data: bytes, name: str, size: int) -> bytes:
    """`data` with another expanded size in the central directory."""
    at = data.rfind(name.encode()) - 46
    assert data[at : at + 4] == b"PK\x01\x02"
    changed = bytearray(data)
    struct.pack_into("<I", changed, at + 24, size)
    return bytes(changed)


def test_entries_are_read_by_name() -> None:
    package = Package(zipped({"a/B.xml": "one", "c": "two", "folder/": ""}), "x")
    assert package.names == ("a/B.xml", "c")
    assert package.find("A/b.XML") == "a/B.xml" and package.find("d") is None
    with package.open("a/B.xml") as stream:
        assert stream.read(1) + stream.read() == b"one"
    assert package.read("c") == b"two"


def test_a_bomb_is_refused_before_it_is_expanded() -> None:
    data = of_zeros({"word/document.xml": 2_000 * MIB})
    assert len(data) < 10 * MIB
    tracemalloc.start()
    try:
        error = refusal(data)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert error.reason is RejectReason.EXPANDS
    assert peak_bytes < MIB


def test_many_entries_are_refused_before_they_are_listed() -> None:
    entry = b"PK\x01\x02" + bytes(42)
    assert refusal(entry * (MAX_ENTRIES + 1)).reason is RejectReason.EXPANDS
    assert refusal(entry * MAX_ENTRIES).reason is RejectReason.MALFORMED


def test_one_entry_and_all_entries_read_have_a_limit() -> None:
    noise = bytes(range(256)) * 4096
    stored = zipped({"noise": noise * 8}, zipfile.ZIP_STORED)
    assert Package(stored, "x").read("noise") == noise * 8
    half_mib = MIB // 2
    names = {f"{at}": noise[:half_mib] for at in range(3)}
    package = Package(zipped(names), "x")
    package._readable_bytes = MIB
    package.read("0")
    package.read("1")
    with pytest.raises(Rejected) as caught:
        package.read("2")
    assert caught.value.reason is RejectReason.EXPANDS
    assert MAX_ENTRY_BYTES < MAX_READ_BYTES


def test_a_size_that_lies_costs_no_more_than_it_says() -> None:
    data = of_zeros({"liar": 64 * MIB, "other": MIB})
    small = with_declared_size(zipped({"liar": bytes(64 * MIB), "last": bytes(MIB)}), "liar", 1_000)
    tracemalloc.start()
    try:
        error = refusal(small, "liar")
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert error.reason is RejectReason.MALFORMED and peak_bytes < 4 * MIB
    assert refusal(data).reason is RejectReason.EXPANDS
    larger = with_declared_size(zipped({"liar": "words", "last": "more"}), "liar", 4_000_000_000)
    assert refusal(larger, "liar").reason is RejectReason.EXPANDS
    shorter = with_declared_size(zipped({"liar": "words", "last": "more"}), "liar", 3)
    assert refusal(shorter, "liar").reason is RejectReason.MALFORMED


def test_entries_that_share_bytes_are_refused() -> None:
    data = zipped({"first": "words"})
    directory, end = data.rfind(b"PK\x01\x02"), data.rfind(b"PK\x05\x06")
    entry = data[directory:end]
    closing = bytearray(data[end:])
    struct.pack_into("<HHI", closing, 8, 2, 2, 2 * len(entry))
    twice = data[:directory] + entry + entry.replace(b"first", b"other") + closing
    assert refusal(twice).reason is RejectReason.EXPANDS


def test_two_entries_of_one_name_must_be_the_same() -> None:
    def twice(second: str) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr("a/b", "words")
            with pytest.warns(UserWarning, match="Duplicate"):
                archive.writestr("a/b", second)
        return out.getvalue()

    assert Package(twice("words"), "x").read("a/b") == b"words"
    assert refusal(twice("other")).reason is RejectReason.MALFORMED


@pytest.mark.parametrize("name", ["../a", "a/../../b", "a/./b", "a//b", "..\\a"])
def test_a_name_that_leads_elsewhere_is_not_in_the_package(name: str) -> None:
    package = Package(zipped({name: "evil", "good": "words"}), "x")
    assert package.names == ("good",)


def test_rooted_and_backslashed_names_are_the_formats_own() -> None:
    data = zipped({"/rooted": "1", "word_document.xml": "2"}).replace(
        b"word_document", b"word\\document"
    )
    assert Package(data, "x").names == ("rooted", "word/document.xml")


def test_other_packings_and_locks_are_refused() -> None:
    for method in (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2):
        assert refusal(zipped({"a": "words"}, method), "a").reason is RejectReason.MALFORMED
    locked = bytearray(zipped({"a": "words"}))
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        locked[locked.find(mark) + flags] |= 1
    assert refusal(bytes(locked), "a").reason is RejectReason.ENCRYPTED


@pytest.mark.parametrize(
    ("base", "target", "found"),
    [
        ("word/document.xml", "styles.xml", "word/styles.xml"),
        ("word/document.xml", "../docProps/core.xml", "docProps/core.xml"),
        ("word/document.xml", "/word/a.xml", "word/a.xml"),
        ("", "word/document.xml", "word/document.xml"),
        ("OEBPS/a.opf", "Text/a%20b.xhtml", "OEBPS/Text/a b.xhtml"),
        ("word/document.xml", "../../etc/passwd", None),
        ("a", "%2e%2e/b", None),
        ("a", ".", None),
    ],
)
def test_references_stay_in_the_package(base: str, target: str, found: str | None) -> None:
    assert resolve(base, target) == found


ODT = "application/vnd.oasis.opendocument.text"


@pytest.mark.parametrize(
    ("entries", "kind"),
    [
        ({"[Content_Types].xml": "", "word/document.xml": ""}, Kind.WORD),
        ({"[Content_Types].xml": "", "xl/workbook.xml": ""}, Kind.WORKBOOK),
        ({"[Content_Types].xml": "", "ppt/presentation.xml": ""}, Kind.SLIDES),
        ({"mimetype": "application/epub+zip\n"}, Kind.EPUB),
        ({"META-INF/container.xml": ""}, Kind.EPUB),
        ({"mimetype": ODT}, Kind.WRITER),
        ({"mimetype": f"{ODT}-template"}, Kind.WRITER),
        ({"mimetype": "application/vnd.oasis.opendocument.spreadsheet"}, Kind.OTHER),
        ({"word/document.xml": "", "notes.txt": ""}, Kind.OTHER),
    ],
)
def test_a_package_is_known_by_what_is_in_it(entries: dict[str, str], kind: Kind) -> None:
    assert kind_of(zipped(entries), "x") is kind


GOOD = zipped({"mimetype": ODT, "a/b.xml": "<x/>" * 100, "c": "words"})


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=8),
       st.integers(0, len(GOOD)))  # fmt: skip
def test_damage_ends_by_name(changes: list[tuple[int, int]], cut_at: int) -> None:
    data = bytearray(GOOD)
    for at, value in changes:
        data[at] = value
    damaged = bytes(data[:cut_at]) if cut_at % 4 == 0 else bytes(data)
    with suppress(Rejected):
        read_all(damaged)
