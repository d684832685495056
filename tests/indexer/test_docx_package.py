"""DOCX packages: variants of the format, parts beside the text, damage, and a second opinion."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.indexer.word import (
    NAMESPACES,
    docx,
    listed,
    paragraph,
    read,
    read_body,
    relations,
    run,
    style,
    zipped,
)

from longleaf.core.errors import NoTextFound, Rejected, RejectReason
from longleaf.core.types import Document
from longleaf.indexer.parsers.docx import DocxParser

FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"


def test_strict_packages_macros_and_templates_are_read() -> None:
    plain = docx(paragraph("Words", style("Heading1")) + paragraph("and more"))
    strict = zipped(
        {
            "_rels/.rels": relations({"officeDocument": "/word/document.xml"}).replace(
                "http://schemas.openxmlformats.org/officeDocument/2006/relationships/",
                "http://purl.oclc.org/ooxml/officeDocument/relationships/",
            ),
            "word/document.xml": "<w:document "
            'xmlns:w="http://purl.oclc.org/ooxml/wordprocessingml/main"><w:body>'
            + paragraph("Words", style("Heading1"))
            + paragraph("and more")
            + "</w:body></w:document>",
        }
    )
    assert read(strict).text == read(plain).text == "Words\n\nand more"
    assert [each.title for each in read(strict).sections] == ["Words"]
    assert {".docx", ".docm", ".dotx"} <= set(DocxParser().suffixes)


def test_imported_pages_are_read_where_they_stand() -> None:
    def chunk(name: str, content: str) -> Document:
        return read(
            docx(
                paragraph("before") + '<w:altChunk r:id="aFChunk"/>' + paragraph("after"),
                **{
                    "word/_rels/document.xml.rels": relations({"aFChunk": name}),
                    f"word/{name}": content,
                },
            )
        )

    page = "<html><body><h2>Imported</h2><p>words</p></body></html>"
    assert chunk("a.html", page).text == "before\n\nImported\n\nwords\n\nafter"
    assert [each.title for each in chunk("a.html", page).sections] == ["Imported"]
    mhtml = (
        "MIME-Version: 1.0\nContent-Type: multipart/related; boundary=b\n\n--b\n"
        f"Content-Type: text/html\n\n{page}\n--b--\n"
    )
    assert chunk("a.mht", mhtml).text == "before\n\nImported\n\nwords\n\nafter"
    left_out = chunk("a.docx", "PK")
    assert left_out.text == "before\n\nafter"
    assert left_out.warnings == ("embedded files and objects left out: 1",)


def test_charts_and_diagrams_say_their_words() -> None:
    drawing = "http://schemas.openxmlformats.org/drawingml/2006/main"
    chart = (
        '<c:chartSpace xmlns:c="http://schemas.openxmlformats.org/drawingml/2006/chart" '
        f'xmlns:a="{drawing}"><a:p><a:r><a:t>Rents </a:t></a:r><a:r><a:t>paid</a:t></a:r></a:p>'
        "<c:strCache><c:pt><c:v>May</c:v></c:pt><c:pt><c:v>June</c:v></c:pt></c:strCache>"
        "<c:numCache><c:pt><c:v>17</c:v></c:pt></c:numCache></c:chartSpace>"
    )
    shown = (
        '<w:r><w:drawing><c:chart xmlns:c="http://schemas.openxmlformats.org/drawingml/2006/chart" '
        'r:id="chart"/></w:drawing></w:r>'
    )
    document = read(
        docx(
            paragraph(run("see") + shown),
            **{
                "word/_rels/document.xml.rels": relations({"chart": "chart1.xml"}),
                "word/chart1.xml": chart,
            },
        )
    )
    assert document.text == "see\n\nRents paid\nMay; June"


def test_carriage_returns_of_any_part_are_white_space() -> None:
    numbering = (
        '<w:abstractNum w:abstractNumId="1"><w:lvl w:ilvl="0"><w:start w:val="1"/>'
        '<w:numFmt w:val="decimal"/><w:lvlText w:val="%1&#13;&#10;."/></w:lvl></w:abstractNum>'
        '<w:num w:numId="1"><w:abstractNumId w:val="1"/></w:num>'
    )
    shape = '<w:r><w:pict><v:textpath string="art&#13;work"/></w:pict></w:r>'
    document = read_body(
        paragraph(run("a&#13;&#10;b") + shape, listed(1)), {"numbering": numbering}
    )
    assert document.text == "1 . a bart work"


def test_a_damaged_part_beside_the_text_does_not_take_the_text_with_it() -> None:
    document = read(docx(paragraph("words"), **{"word/styles.xml": "<w:styles"}))
    assert document.text == "words"
    broken = read(docx(paragraph("words"), {"styles": "</w:styles><w:styles>"}))
    assert broken.text == "words"
    assert "word/styles.xml" in broken.warnings[0]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", RejectReason.EMPTY),
        (b"PK\x03\x04 nothing", RejectReason.MALFORMED),
        (b"no archive at all", RejectReason.MALFORMED),
        (docx("<w:p>"), RejectReason.MALFORMED),
        (zipped({"[Content_Types].xml": "", "xl/workbook.xml": "<x/>"}), RejectReason.MALFORMED),
        (
            zipped(
                {
                    "_rels/.rels": relations({"officeDocument": "xl/workbook.xml"}),
                    "xl/workbook.xml": "<workbook/>",
                }
            ),
            RejectReason.MALFORMED,
        ),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le"),
            RejectReason.ENCRYPTED,
        ),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, RejectReason.NEEDS_PROGRAM),
        (b"{\\rtf1 words}", RejectReason.NEEDS_PROGRAM),
    ],
)
def test_what_is_no_word_document_is_refused_by_name(data: bytes, reason: RejectReason) -> None:
    with pytest.raises(Rejected) as refusal:
        list(DocxParser().parse(data, "file.docx"))
    assert refusal.value.reason == reason and "file.docx" in refusal.value.message


def test_declarations_are_refused_and_fetch_nothing() -> None:
    entity = '<!DOCTYPE w:document [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
    main = f"{entity}<w:document {NAMESPACES}><w:body>{paragraph('&a;')}</w:body></w:document>"
    with pytest.raises(Rejected, match="document type"):
        read(docx("", **{"word/document.xml": main}))


def test_a_document_of_pictures_holds_no_text() -> None:
    with pytest.raises(NoTextFound, match="pictures: 1") as refusal:
        read_body(paragraph("<w:r><w:drawing><pic:pic/></w:drawing></w:r>"))
    assert "OCR" in refusal.value.hint


WORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters="\ufffe\uffff"),
    min_size=1,
    max_size=8,
)
LINES = st.lists(st.lists(WORDS, min_size=1, max_size=5).map(" ".join), min_size=1, max_size=6)


@settings(max_examples=50, deadline=None)
@given(LINES, st.lists(st.lists(WORDS, min_size=2, max_size=3), max_size=3))
def test_what_python_docx_writes_is_read_again(lines: list[str], rows: list[list[str]]) -> None:
    import docx as python_docx

    made = python_docx.Document()
    for at, line in enumerate(lines):
        made.add_paragraph(line, style="Heading 2" if at % 3 == 1 else None)
    for row in rows:
        cells = made.add_table(1, len(row)).rows[0].cells
        for cell, word in zip(cells, row, strict=True):
            cell.text = word
    out = io.BytesIO()
    made.save(out)
    try:
        document = read(out.getvalue())
    except NoTextFound:
        assert not any(char.isalnum() for part in [lines, *rows] for char in "".join(part))
        return
    assert document.text.split("\n\n") == [*lines, *(" | ".join(row) for row in rows)]
    for section in document.sections:
        found = " ".join(document.text[section.start_char : section.end_char].split())
        assert found.startswith(section.title.rstrip("…"))


PIECES = st.sampled_from(
    [
        *("<w:p>", "</w:p>", "<w:r>", "</w:r>", "<w:t>x</w:t>", "<w:tbl>", "</w:tbl>", "<w:tr>"),
        *("</w:tr>", "<w:tc>", "</w:tc>", "<w:del>", "</w:del>", "<w:txbxContent>"),
        *("</w:txbxContent>", "<mc:Fallback>", "</mc:Fallback>", "<mc:AlternateContent>"),
        *("</mc:AlternateContent>", "<mc:Choice>", "</mc:Choice>", "<w:tab/>", "<w:sectPr/>"),
        '<w:footnoteReference w:id="1"/>',
        '<w:footnoteReference w:id="1" w:customMarkFollows="1"/>',
        '<w:fldChar w:fldCharType="begin"/>',
        '<w:fldChar w:fldCharType="end"/>',
        "<w:pPr><w:rPr><w:del/></w:rPr></w:pPr>",
        "<w:trPr><w:del/></w:trPr>",
        "<w:tcPr><w:cellDel/></w:tcPr>",
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=30))
def test_any_order_of_elements_ends_by_name(pieces: list[str]) -> None:
    """Well-formed nonsense: every element is closed, whatever it stands in."""
    open_tags: list[str] = []
    body = ""
    for piece in pieces:
        if piece.startswith("</"):
            if piece[2:-1] not in open_tags:
                continue
            while (closed := open_tags.pop()) != piece[2:-1]:
                body += f"</{closed}>"
        elif not piece.endswith("/>") and "</" not in piece:
            open_tags.append(piece[1:-1])
        body += piece
    body += "".join(f"</{name}>" for name in reversed(open_tags))
    try:
        document = read_body(body)
    except NoTextFound:
        return
    assert document.text.strip("x \t\n|[]*0123456789") == ""


def test_every_file_that_python_docx_opens_is_read(data_folder: Path) -> None:
    import docx as python_docx

    files = sorted(data_folder.rglob("*.docx"))
    word = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
    gone = {f"{word}del", f"{word}moveFrom", f"{word}rt", FALLBACK}
    read_files = 0
    for path in files:
        try:
            body = python_docx.Document(str(path)).element.body
        except Exception:
            with pytest.raises((Rejected, NoTextFound)):
                read(path.read_bytes())
            continue
        said = [
            node.text or ""
            for node in body.iter(f"{word}t")
            if not gone & {each.tag for each in node.iterancestors()}
        ]
        if not any(char.isalnum() for text in said for char in text):
            continue
        document = read(path.read_bytes())
        read_files += 1
        if any("hidden" in warning for warning in document.warnings):
            continue
        have = "".join(document.text.split())
        for text in said:
            words = text.replace("\u00a0", " ").replace("\u00ad", "").split()
            assert all(word in have for word in words), (path.name, text)
    assert read_files >= 75
