"""MSG: Outlook's properties as a mail; files are written by `ole`."""

from __future__ import annotations

import struct
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longleaf.core.errors import LongleafError, Rejected, RejectReason
from longleaf.core.protocols import ParseContext
from longleaf.core.types import Document, Rejection
from longleaf.indexer.parsers.mail import MsgParser
from longleaf.indexer.parsers.mail_kind import looks_like_msg
from longleaf.indexer.parsers.mail_rtf import decompress_rtf

from .ole import Tree, write_ole


def properties(header_bytes: int, **fixed: int) -> bytes:
    entries = b"".join(
        struct.pack("<HHIQ", 0x0003, int(name[1:], 16), 6, value) for name, value in fixed.items()
    )
    return bytes(header_bytes) + entries


def wide(**texts: str) -> dict[str, bytes]:
    return {f"__substg1.0_{name[1:]}001F": text.encode("utf-16-le") for name, text in texts.items()}


_TICKS = (datetime(2020, 3, 3, 9, 11, 12) - datetime(1601, 1, 1)) // timedelta(microseconds=1) * 10
MAIL: dict[str, bytes | Tree] = {
    "__properties_version1.0": properties(32, p0039=_TICKS),
    **wide(
        p0037="The contract",
        p1000="The words of it.\r\nMore.",
        p0C1A="Ada Doe",
        p5D01="ada@example.com",
        p0E04="Bo; Cy",
        p1035="<1@example.com>",
    ),
}


def attachment(name: str, data: bytes, **texts: str) -> dict[str, bytes | Tree]:
    return {
        "__properties_version1.0": properties(8),
        "__substg1.0_37010102": data,
        **wide(p3707=name, **texts),
    }


def read(
    tree: Tree, name: str = "a.msg", context: ParseContext | None = None
) -> list[Document | Rejection]:
    return list(MsgParser().parse(write_ole(tree), name, context or ParseContext()))


def test_a_message_reads_as_a_mail() -> None:
    (document,) = read(MAIL)
    assert isinstance(document, Document)
    assert document.text == (
        "From: Ada Doe <ada@example.com>\nTo: Bo; Cy\nDate: 2020-03-03T09:11:12+00:00\n"
        "Subject: The contract\n\nThe words of it.\nMore."
    )
    assert document.title == "The contract"
    assert document.metadata["date"] == "2020-03-03T09:11:12+00:00"
    assert document.metadata["message_id"] == "<1@example.com>"
    assert looks_like_msg(write_ole(MAIL)) and not looks_like_msg(write_ole({"WordDocument": b"x"}))


def test_texts_in_a_code_page_are_read_with_it() -> None:
    tree = {
        "__properties_version1.0": properties(32, p3FDE=950),
        "__substg1.0_0037001E": "合約".encode("big5"),
        "__substg1.0_1000001E": "甲方與乙方同意如下。".encode("big5") + b"\0",
    }
    (document,) = read(tree)
    assert isinstance(document, Document)
    assert document.title == "合約" and document.text.endswith("甲方與乙方同意如下。")


def test_html_and_rtf_are_read_where_there_is_no_plain_text() -> None:
    bare = {key: value for key, value in MAIL.items() if "1000" not in key}
    html = bare | {"__substg1.0_10130102": b"<meta charset=utf-8><p>In <b>HTML</b> \xc3\xa9"}
    (document,) = read(html | {"__properties_version1.0": properties(32, p3FDE=65001)})
    assert isinstance(document, Document) and document.text.endswith("\n\nIn HTML é")
    rtf = bare | {"__substg1.0_10090102": _packed(b"{\\rtf1 In RTF}")}
    (document,) = read(rtf)  # nothing here converts RTF, so the mail says what it lacks
    assert isinstance(document, Document)
    assert document.text.endswith("Subject: The contract")
    assert "its text cannot be read" in document.warnings[0]
    broken = bare | {"__substg1.0_10090102": b"too short"}
    (document,) = read(broken)
    assert isinstance(document, Document) and "unpacked" in document.warnings[0]


def test_a_stub_in_plain_text_gives_way_to_html() -> None:
    page = " ".join(f"word{n}" for n in range(60))
    (document,) = read(MAIL | {"__substg1.0_10130102": f"<p>{page}</p>".encode()})
    assert isinstance(document, Document) and document.text.endswith(f"\n\n{page}")
    assert document.warnings == (
        "its plain text was left out for its HTML text, which lacks 5 of 5 words",
    )


def _packed(rtf: bytes) -> bytes:
    """Compressed RTF that compresses nothing: eight literals a run."""
    runs = b"".join(b"\0" + rtf[at : at + 8] for at in range(0, len(rtf), 8))
    return struct.pack("<IIII", len(runs) + 12, len(rtf), 0x75465A4C, 0) + runs


def test_compressed_rtf_as_the_specification_has_it() -> None:
    packed = bytes.fromhex(
        "2d0000002b0000004c5a4675f1c5c7a703000a007263706731323542320af32068656c090020627705b06c647d"
        "0a800fa0"
    )
    assert decompress_rtf(packed) == b"{\\rtf1\\ansi\\ansicpg1252\\pard hello world}\r\n"
    assert decompress_rtf(_packed(b"{\\rtf1 words}")) == b"{\\rtf1 words}"
    stored = struct.pack("<IIII", 16, 4, 0x414C454D, 0) + b"text"
    assert decompress_rtf(stored) == b"text"
    for wrong in (b"", b"x" * 15, struct.pack("<IIII", 0, 0, 1, 0)):
        with pytest.raises(ValueError):  # noqa: PT011 - the parser says what of
            decompress_rtf(wrong)


def test_attachments_and_attached_messages() -> None:
    inner = MAIL | {
        "__properties_version1.0": properties(24),
        **wide(p0037="Inner"),
        "__attach_version1.0_#00000000": attachment("deep.txt", b"deep words"),
    }
    tree = MAIL | {
        "__attach_version1.0_#00000000": attachment("a.txt", b"first"),
        "__attach_version1.0_#00000001": attachment("logo.png", b"x", p3712="cid"),
        "__attach_version1.0_#00000002": {
            "__properties_version1.0": properties(8),
            "__substg1.0_3701000D": inner,
        },
        "__attach_version1.0_#00000003": attachment("b.bin", bytes(range(256)) * 20),
    }
    found = read(tree)
    documents = [each for each in found if isinstance(each, Document)]
    assert [each.part for each in documents] == [
        None,
        "a.txt",
        "Inner.eml",
        "Inner.eml!/deep.txt",
    ]
    assert documents[0].warnings == ("1 pictures in its text were not read",)
    assert documents[3].text == "deep words"
    assert [(each.where, each.reason) for each in found if isinstance(each, Rejection)] == [
        ("b.bin", RejectReason.UNSUPPORTED)
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"not an OLE file",
        b"/etc/passwd",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(2_000),
        write_ole({"WordDocument": b"x"}),
    ],
)
def test_what_is_no_message_is_malformed(data: bytes) -> None:
    with pytest.raises(Rejected) as refusal:
        list(MsgParser().parse(data, "a.msg"))
    assert refusal.value.reason == RejectReason.MALFORMED


def test_streams_that_share_their_sectors_are_refused() -> None:
    """Many names for the same megabyte: small as a file, without end once read."""
    big = b"words " * 200_000
    tree = MAIL | {
        f"__attach_version1.0_#{number:08X}": attachment(f"{number}.txt", b"x" * 5_000)
        for number in range(40)
    }
    tree |= {"__attach_version1.0_#00000000": attachment("0.txt", big)}
    data = bytearray(write_ole(tree))
    shared = struct.pack("<IQ", 0, 0)
    entries = [
        at
        for at in range(0, len(data) - 128, 128)
        if data[at : at + 40] == "__substg1.0_37010102".encode("utf-16-le")
    ]
    for at in entries:
        if int.from_bytes(data[at + 120 : at + 124], "little") == len(big):
            shared = bytes(data[at + 116 : at + 128])
    for at in entries:
        data[at + 116 : at + 128] = shared
    with pytest.raises(Rejected) as refusal:
        list(MsgParser().parse(bytes(data), "a.msg"))
    assert refusal.value.reason == RejectReason.EXPANDS


_WHOLE = write_ole(MAIL | {"__attach_version1.0_#00000000": attachment("a.txt", b"first")})


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(_WHOLE) - 1), st.integers(0, 255)), max_size=12),
    st.integers(0, len(_WHOLE)),
)
def test_damaged_files_end_in_documents_or_a_named_refusal(
    changes: list[tuple[int, int]], length: int
) -> None:
    data = bytearray(_WHOLE)
    for at, value in changes:
        data[at] = value
    for damaged in (bytes(data), bytes(data[:length])):
        try:
            found = list(MsgParser().parse(damaged, "a.msg"))
        except LongleafError:
            continue
        for each in found:
            if isinstance(each, Document):
                assert each.text.strip() and each.text.encode()
            else:
                assert each.reason != RejectReason.INTERNAL


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_compressed_rtf_of_any_bytes_ends(data: bytes) -> None:
    packed = struct.pack("<IIII", 0, 1 << 30, 0x75465A4C, 0) + data
    assert len(decompress_rtf(packed)) <= 9 * len(data)
