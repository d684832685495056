"""Which parser reads which file, and all of them over a collection of broken ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.indexer.word import docx, paragraph, zipped

from longleaf.core.errors import NoTextFound, Rejected, RejectReason
from longleaf.core.types import Document, Rejection
from longleaf.indexer.parsers import PARSERS, parser_for

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
ODT = "application/vnd.oasis.opendocument.text"
_MSG_NAME = "__properties_version1.0".encode("utf-16-le")
_WORD_NAME = "WordDocument".encode("utf-16-le")
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.mark.parametrize(
    ("name", "data", "media_type"),
    [
        ("a.PDF", b"anything", "application/pdf"),
        ("a.txt", b"%PDF-1.7", "text/plain"),
        ("a.markdown", b"", "text/markdown"),
        ("a.HTM", b"", "text/html"),
        ("corpus.jsonl", b"", "application/jsonl"),
        ("LICENSE", b"Apache License", "text/plain"),
        ("download", b"junk\n%PDF-1.4\n", "application/pdf"),
        ("download.php", b"\xef\xbb\xbf \n<!-- x --><!DOCTYPE html><p>", "text/html"),
        ("page.aspx", b"<HTML lang=en>", "text/html"),
        ("page.xml", b'<?xml version="1.0"?>\n<html xmlns="x">', "text/html"),
        ("notes.rst", b"Notes", "text/plain"),
        ("utf16", "Some words".encode("utf-16"), "text/plain"),
        ("scan.TIFF", b"", "image/tiff"),
        ("photo.jpeg", b"", "image/jpeg"),
        ("scan", b"\x89PNG\r\n\x1a\nrest", "image/png"),
        ("scan", b"\xff\xd8\xffrest", "image/jpeg"),
        ("fax", b"II*\0rest", "image/tiff"),
        ("fees.CSV", b"", "text/csv"),
        ("lease", docx(paragraph("x")), DOCX),
        ("lease.dotm", b"", DOCX),
        ("book", zipped({"mimetype": "application/epub+zip"}), "application/epub+zip"),
        ("text", zipped({"mimetype": ODT}), ODT),
        ("letter", b"{\\rtf1 text}", "application/rtf"),
        ("letter", OLE + "WordDocument".encode("utf-16-le"), "application/msword"),
        ("page", b"<?xml version='1.0'?><law>text</law>", "application/xml"),
        ("paper.nxml", b"", "application/xml"),
        ("draft", b"% draft\n\\documentclass{article}", "application/x-tex"),
        ("chapter.tex", b"", "application/x-tex"),
        ("1.", b"Received: by x\nFrom: a@b.c\nSubject: words\n\nHello", "message/rfc822"),
        ("Inbox", b"From ada Tue\nFrom: a@b.c\nDate: x\nSubject: words\n\nHi", "application/mbox"),
        ("message", OLE + _MSG_NAME, "application/vnd.ms-outlook"),
        ("with-a.doc-attached", OLE + _MSG_NAME + _WORD_NAME, "application/vnd.ms-outlook"),
        ("locked", OLE + "EncryptedPackage".encode("utf-16-le"), "application/msword"),
    ],
)
def test_the_suffix_decides_and_else_the_content(name: str, data: bytes, media_type: str) -> None:
    assert parser_for(name, data).media_type == media_type


@pytest.mark.parametrize(
    ("name", "data", "word"),
    [
        ("a.zip", zipped({"a": "b"}), "ZIP"),
        ("a.xlsx", zipped({"[Content_Types].xml": "", "xl/workbook.xml": ""}), "Excel"),
        ("a.xls", OLE + b"rest", "Office"),
        ("a.gz", b"\x1f\x8b\x08", "gzip"),
        ("a.bin", bytes(range(256)), "binary"),
    ],
)
def test_what_is_not_supported_is_said_with_what_is(name: str, data: bytes, word: str) -> None:
    with pytest.raises(Rejected, match=word) as refusal:
        parser_for(name, data)
    assert refusal.value.reason == RejectReason.UNSUPPORTED
    for suffix in (".pdf", ".html", ".md", ".jsonl", ".txt", ".docx", ".rtf", ".epub"):
        assert suffix in refusal.value.hint


def test_an_empty_file_of_any_name_is_empty() -> None:
    with pytest.raises(Rejected) as refusal:
        parser_for("unknown", b"")
    assert refusal.value.reason == RejectReason.EMPTY
    for parser in PARSERS:
        with pytest.raises(Rejected) as refusal:
            list(parser.parse(b"", "x" + parser.suffixes[0]))
        assert refusal.value.reason == RejectReason.EMPTY


def test_a_name_that_is_no_unicode_does_not_reach_titles_or_messages() -> None:
    (document,) = parser_for("\udcff", b"???").parse(b"???", "\udcff")
    assert isinstance(document, Document) and document.title == "\ufffd"
    for parser in PARSERS:
        with pytest.raises((Rejected, NoTextFound)) as refusal:
            list(parser.parse(b"\0" * 50, "\udcff"))
        str(refusal.value).encode()


def test_importing_the_parsers_loads_no_library() -> None:
    heavy = ("pypdfium2", "selectolax", "markdown_it", "lxml", "olefile", "PIL")
    code = (
        f"import sys, longleaf.indexer.parsers as p;print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def _files() -> list[Path]:
    found = sorted((DATA / "malformed").rglob("*")) + sorted(
        (DATA / "documents" / "court_files").glob("*")
    )
    return [path for path in found if path.is_file()]


def test_broken_files_end_in_a_named_outcome_and_nothing_else() -> None:
    files = _files()[::4]
    if not files:
        pytest.skip("the shared test data is not on this machine")
    outcomes: set[str] = set()
    for path in files:
        data = path.read_bytes()
        try:
            found = list(parser_for(path.name, data).parse(data, path.name))
        except Rejected as refusal:
            outcomes.add(refusal.reason)
            continue
        except NoTextFound:
            outcomes.add("no text")
            continue
        outcomes.add("read")
        for document in found:
            assert not isinstance(document, Rejection)
            _check(document)
    assert outcomes >= {"read", "no text", *list(RejectReason)[1:4]}


def _check(document: Document) -> None:
    text = document.text
    assert text.strip() and document.title
    assert (text + document.title).encode()
    assert not set("\0\r") & set(text)
    for section in document.sections:
        assert 0 <= section.start_char < section.end_char <= len(text)
    if document.pages:
        assert document.pages[0].start_char == 0 and document.pages[-1].end_char == len(text)
