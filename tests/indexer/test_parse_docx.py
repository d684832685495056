"""DOCX: text in reading order, headings, tables, changes, fields, and what is left out and said."""

from __future__ import annotations

import io

import pytest
from tests.indexer.word import (
    docx,
    paragraph,
    read,
    read_body,
    relations,
    run,
    style,
    table,
)

from longleaf.core.types import Document
from longleaf.indexer.parsers.docx_properties import metadata_of

STYLES = """
<w:style w:type="paragraph" w:default="1" w:styleId="Normal"><w:name w:val="Normal"/></w:style>
<w:style w:type="paragraph" w:styleId="berschrift1"><w:name w:val="heading 1"/>
  <w:basedOn w:val="Normal"/><w:pPr><w:outlineLvl w:val="0"/></w:pPr></w:style>
<w:style w:type="paragraph" w:styleId="Clause"><w:name w:val="Clause"/>
  <w:basedOn w:val="Sub"/></w:style>
<w:style w:type="paragraph" w:styleId="Sub"><w:name w:val="heading 2"/>
  <w:basedOn w:val="berschrift1"/><w:pPr><w:outlineLvl w:val="1"/></w:pPr></w:style>
<w:style w:type="paragraph" w:styleId="Plainer"><w:name w:val="TOC Heading"/>
  <w:basedOn w:val="berschrift1"/><w:pPr><w:outlineLvl w:val="9"/></w:pPr></w:style>
<w:style w:type="paragraph" w:styleId="Title"><w:name w:val="Title"/></w:style>
<w:style w:type="paragraph" w:styleId="TOC1"><w:name w:val="toc 1"/></w:style>
<w:style w:type="character" w:styleId="Ghost"><w:name w:val="Ghost"/>
  <w:rPr><w:vanish/></w:rPr></w:style>
"""


def sections(document: Document) -> list[tuple[str, int, str]]:
    return [
        (each.title, each.level, document.text[each.start_char : each.end_char])
        for each in document.sections
    ]


def test_headings_are_what_styles_and_outline_levels_say() -> None:
    document = read_body(
        paragraph("The Lease", style("Title"))
        + paragraph("Contents", style("Plainer"))
        + paragraph("Parties\t2", style("TOC1"))
        + paragraph("Rent\t3", style("TOC1"))
        + paragraph("Parties", style("berschrift1"))
        + paragraph("Who they are.")
        + paragraph("Landlord", style("Clause"))
        + paragraph("She owns it.")
        + paragraph("Rent", '<w:outlineLvl w:val="0"/>')
        + paragraph("Monthly.")
        + paragraph("No heading", style("Sub") + '<w:outlineLvl w:val="9"/>'),
        {"styles": STYLES},
    )
    assert document.title == "The Lease"
    assert sections(document) == [
        ("Parties", 1, "Parties\n\nWho they are.\n\nLandlord\n\nShe owns it.\n\n"),
        ("Landlord", 2, "Landlord\n\nShe owns it.\n\n"),
        ("Rent", 1, "Rent\n\nMonthly.\n\nNo heading"),
    ]
    assert document.text.startswith("The Lease\n\nContents\nParties\t2\nRent\t3\n\nParties\n\nWho")
    (contents,) = document.regions
    assert contents.role == "contents"
    found = document.text[contents.start_char : contents.end_char]
    assert found == "Contents\nParties\t2\nRent\t3"
    assert document.pages == () and document.warnings == ()


@pytest.mark.parametrize(
    ("style_id", "name", "level"),
    [
        ("x", "heading 3", True),
        ("x", "Überschrift 1", True),
        ("x", "标题 2", True),
        ("x", "Título 1", True),
        ("Heading1", None, True),
        ("x", "heading 0", False),
        ("x", "Heading One", False),
    ],
)
def test_a_heading_is_told_by_its_styles_name(style_id: str, name: str | None, level: bool) -> None:
    held = f'<w:style w:type="paragraph" w:styleId="{style_id}"><w:name w:val="{name}"/></w:style>'
    document = read_body(
        paragraph("Words", style(style_id)) + paragraph("more of them"),
        {"styles": held} if name else None,
    )
    assert bool(document.sections) == level


def test_without_styled_headings_lines_that_look_like_headings_are_used() -> None:
    document = read_body(
        paragraph("ARTICLE I. DEFINITIONS")
        + paragraph("In this agreement words mean what they say.")
        + paragraph("ARTICLE II. RENT")
        + paragraph("The rent is due.")
    )
    assert [(each.title, each.level) for each in document.sections] == [
        ("ARTICLE I. DEFINITIONS", 1),
        ("ARTICLE II. RENT", 1),
    ]


def test_a_clause_that_only_borrows_a_headings_style_is_no_heading() -> None:
    clause = "The Seller shall deliver the goods to the Buyer. " * 8
    document = read_body(
        paragraph("Delivery", style("berschrift1")) + paragraph(clause, style("Sub")),
        {"styles": STYLES},
    )
    assert [each.title for each in document.sections] == ["Delivery"]


def test_a_style_separator_lets_a_heading_run_into_its_text() -> None:
    mark = "<w:rPr><w:vanish/><w:specVanish/></w:rPr>"
    document = read_body(
        paragraph("1.1 Rent.", style("Sub") + mark) + paragraph("It is due monthly."),
        {"styles": STYLES},
    )
    assert document.text == "1.1 Rent. It is due monthly."
    assert sections(document) == [("1.1 Rent.", 1, document.text)]


def test_tables_read_row_by_row_and_nothing_twice() -> None:
    inner = table(("in one", "in two"), ("in three", "in four"))
    document = read_body(
        paragraph("Before")
        + table(
            ("Party", "Fee"),
            ("Acme", f"{paragraph('10')}{paragraph('EUR')}"),
            ("Beta", f"{paragraph('nested:')}{inner}<w:p/>"),
            ("Merged", "<w:p><w:r><w:t>a</w:t><w:br/><w:t>b</w:t></w:r></w:p>"),
            ("", "alone"),
        )
        + paragraph("After")
    )
    assert document.text.split("\n\n") == [
        "Before",
        "Party | Fee",
        "Acme | 10 EUR",
        "Beta | nested:",
        "in one | in two",
        "in three | in four",
        "Merged | a b",
        "alone",
        "After",
    ]


def test_merged_cells_are_read_once() -> None:
    import docx as python_docx

    made = python_docx.Document()
    grid = made.add_table(3, 3)
    for at, cell in enumerate(cell for row in grid.rows for cell in row.cells):
        cell.text = f"cell{at}"
    grid.cell(0, 0).merge(grid.cell(0, 2))
    grid.cell(1, 0).merge(grid.cell(2, 1))
    out = io.BytesIO()
    made.save(out)
    words = read(out.getvalue()).text.replace("|", " ").split()
    assert sorted(words) == [f"cell{at}" for at in range(9)]


def test_a_column_of_a_page_set_as_a_table_reads_as_paragraphs() -> None:
    left = paragraph("Heading", style("berschrift1")) + paragraph("left " * 150) * 2
    document = read_body(table((left, paragraph("right"))), {"styles": STYLES})
    assert document.text.split("\n\n")[0] == "Heading"
    assert document.text.endswith("left\n\nright")
    assert [each.title for each in document.sections] == ["Heading"]


def test_tracked_changes_read_as_accepted() -> None:
    document = read_body(
        paragraph(
            run("keep ")
            + f"<w:ins w:id='1'>{run('new ')}</w:ins>"
            + "<w:del w:id='2'><w:r><w:delText>old </w:delText></w:r></w:del>"
            + f"<w:moveFrom w:id='3'>{run('moved ')}</w:moveFrom>"
            + f"<w:moveTo w:id='4'>{run('here')}</w:moveTo>"
        )
        + paragraph("joined ", "<w:rPr><w:del w:id='5'/></w:rPr>")
        + paragraph("paragraph", style("berschrift1"))
        + "<w:tbl><w:tr><w:trPr><w:del w:id='6'/></w:trPr>"
        + f"<w:tc>{paragraph('gone')}</w:tc><w:tc>{paragraph('gone')}</w:tc></w:tr>"
        + f"<w:tr><w:tc>{paragraph('stays')}</w:tc><w:tc><w:tcPr><w:cellDel/></w:tcPr>"
        + f"{paragraph('gone')}</w:tc></w:tr></w:tbl>",
        {"styles": STYLES},
    )
    assert document.text == "keep new here\n\njoined paragraph\n\nstays"
    assert [each.title for each in document.sections] == ["joined paragraph"]
    assert document.warnings == ("tracked deletions left out: 1",)


def field(code: str, result: str | None = None, inside: str = "") -> str:
    """A complex field as Word writes it."""
    mark = '<w:r><w:fldChar w:fldCharType="{}"/></w:r>'
    shown = "" if result is None else mark.format("separate") + result
    written = f"<w:r><w:instrText>{code}</w:instrText></w:r>"
    return mark.format("begin") + written + inside + shown + mark.format("end")


def test_fields_show_their_result() -> None:
    document = read_body(
        paragraph(run("see ") + field(" REF x ", run("Article 4")) + run("."))
        + paragraph(field(" IF ", run("shown"), inside=field(" PAGE ", run("7"))))
        + paragraph(f'<w:fldSimple w:instr=" DATE ">{run("1 May")}</w:fldSimple>')
        + paragraph(field(" MACROBUTTON None [Click here]"))
        + paragraph(field(" LISTNUM ") + run("counted") + field(" XE index "))
    )
    assert document.text.split("\n\n") == [
        "see Article 4.",
        "shown",
        "1 May",
        "[Click here]",
        "counted",
    ]
    assert document.warnings == ("numbers or formulas that only Word's fields compute left out: 1",)


def test_a_field_that_never_ends_costs_its_paragraph_only() -> None:
    begin = '<w:r><w:fldChar w:fldCharType="begin"/></w:r>'
    document = read_body(
        paragraph(run("before ") + begin + run("code")) + paragraph("after") + paragraph("it")
    )
    assert document.text == "before\n\nafter\n\nit"


def test_what_an_old_form_shows_is_read() -> None:
    box = '<w:r><w:fldChar w:fldCharType="begin"><w:ffData><w:checkBox>{}</w:checkBox></w:ffData></w:fldChar></w:r>'  # noqa: E501
    end = '<w:r><w:fldChar w:fldCharType="end"/></w:r>'
    entries = '<w:listEntry w:val="red"/><w:listEntry w:val="blue"/>'
    choice = f'<w:r><w:fldChar w:fldCharType="begin"><w:ffData><w:ddList><w:result w:val="1"/>{entries}</w:ddList></w:ffData></w:fldChar></w:r>'  # noqa: E501
    document = read_body(
        paragraph(box.format("<w:checked/>") + end + run(" yes"))
        + paragraph(box.format('<w:default w:val="0"/>') + end + run(" no"))
        + paragraph(choice + end)
    )
    assert document.text == "☒ yes\n\n☐ no\n\nblue"


def test_a_text_box_is_read_once_and_behind_its_paragraph() -> None:
    inside = f"<w:txbxContent>{paragraph('boxed')}</w:txbxContent>"
    box = (
        "<w:r><mc:AlternateContent>"
        f'<mc:Choice Requires="wps"><w:drawing><wps:txbx>{inside}</wps:txbx></w:drawing>'
        "</mc:Choice>"
        f"<mc:Fallback><w:pict><v:textbox>{inside}</v:textbox></w:pict></mc:Fallback>"
        "</mc:AlternateContent></w:r>"
    )
    document = read_body(paragraph(run("one ") + box + run("two")) + paragraph("three"))
    assert document.text == "one two\n\nboxed\n\nthree"
    only_old = f"<w:r><w:pict><v:textbox>{inside}</v:textbox></w:pict></w:r>"
    assert read_body(paragraph(only_old)).text == "boxed"


def test_breaks_hyphens_signs_and_spaces() -> None:
    document = read_body(
        paragraph(
            "<w:r><w:t>a</w:t><w:tab/><w:t>b</w:t><w:br/><w:t>c\u00a0d\u00ad\u200be</w:t>"
            '<w:noBreakHyphen/><w:t>f</w:t><w:softHyphen/><w:cr/><w:ptab w:alignment="right"/>'
            "<w:t>g\n  h</w:t></w:r>"
        )
        + paragraph(
            '<w:r><w:sym w:font="Symbol" w:char="F061"/><w:sym w:font="Wingdings" w:char="F0FE"/>'
            '<w:sym w:font="Arial" w:char="00A7"/></w:r>'
            + run("mm", '<w:rFonts w:ascii="Symbol"/>')
            + run("\uf0b7")
        )
    )
    assert document.text == "a\tb\nc de-f\ng   h\n\nα☑§μμ•"
    assert document.warnings == ()
    unknown = read_body(
        paragraph('<w:r><w:sym w:font="Wingdings" w:char="F001"/></w:r>' + run("x"))
    )
    assert unknown.text == "\ufffdx"
    assert "1 signs of symbol fonts" in unknown.warnings[0]


def test_formulas_read_from_left_to_right() -> None:
    part = "<m:r><m:t>{}</m:t></m:r>"
    fraction = f"<m:f><m:num>{part.format('a')}</m:num><m:den>{part.format('b')}</m:den></m:f>"
    power = f"<m:sSup><m:e>{part.format('x')}</m:e><m:sup>{part.format('2')}</m:sup></m:sSup>"
    document = read_body(paragraph(f"<m:oMath>{fraction}{part.format('+')}{power}</m:oMath>"))
    assert document.text == "a/b+x^2"


def test_hidden_text_and_comments_are_left_out_and_counted() -> None:
    document = read_body(
        paragraph(
            run("seen")
            + run("12345", "<w:vanish/>")
            + run("678", '<w:rStyle w:val="Ghost"/>')
            + run(" too", '<w:rStyle w:val="Ghost"/><w:vanish w:val="0"/>')
            + '<w:r><w:commentReference w:id="1"/></w:r><w:r><w:object/></w:r>'
        ),
        {"styles": STYLES},
    )
    assert document.text == "seen too"
    assert document.warnings == (
        "comments left out: 1",
        "characters of hidden text left out: 8",
        "embedded files and objects left out: 1",
    )


def test_headers_are_said_once_and_only_when_the_body_lacks_their_words() -> None:
    section = '<w:sectPr><w:headerReference w:type="default" r:id="header1"/></w:sectPr>'
    body = paragraph("Acme pays Beta.") + section
    silent = read_body(body, {"header1": paragraph("ACME 12")})
    assert silent.warnings == ()
    spoken = read_body(body, {"header1": paragraph("Privileged and Confidential")})
    assert spoken.warnings == (
        "headers and footers left out, among them: 'Privileged and Confidential'",
    )
    assert "Privileged" not in spoken.text


def test_words_that_stand_in_headers_alone_are_the_text() -> None:
    section = '<w:sectPr><w:headerReference w:type="default" r:id="header1"/></w:sectPr>'
    document = read_body(paragraph("") + section, {"header1": paragraph("Animal Hospital")})
    assert document.text == document.title == "Animal Hospital"
    assert document.warnings == ("all of its words stand in headers and footers",)


def test_dropped_initials_belong_to_their_word() -> None:
    frame = '<w:framePr w:dropCap="drop" w:lines="3"/>'
    assert read_body(paragraph("T", frame) + paragraph("his deed")).text == "This deed"


CORE = """<cp:coreProperties
 xmlns:cp="http://schemas.openxmlformats.org/package/2006/metadata/core-properties"
 xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:dcterms="http://purl.org/dc/terms/"
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
<dc:title>{title}</dc:title><dc:creator>Ada L.;  Bo</dc:creator><dc:subject>Leases</dc:subject>
<cp:keywords>rent, roof; keys</cp:keywords><dc:language>en-GB</dc:language>
<dcterms:created xsi:type="dcterms:W3CDTF">2019-03-21T10:00:00Z</dcterms:created>
</cp:coreProperties>"""


def with_core(title: str, body: str) -> Document:
    package = docx(
        body,
        **{
            "_rels/.rels": relations(
                {"officeDocument": "word/document.xml", "core-properties": "docProps/core.xml"}
            ),
            "docProps/core.xml": CORE.format(title=title),
        },
    )
    return read(package)


def test_core_properties_become_metadata() -> None:
    document = with_core("Lease of 12 Elm Street", paragraph("Words of it."))
    assert document.title == "Lease of 12 Elm Street"
    assert dict(document.metadata) == {
        "authors": ("Ada L.", "Bo"),
        "created": "2019-03-21",
        "language": "en-GB",
        "subject": "Leases",
        "keywords": ("rent", "roof", "keys"),
    }


def test_an_account_is_no_authors_name() -> None:
    assert dict(metadata_of({"creator": "admin"})) == {"author": "admin"}
    assert dict(metadata_of({"creator": "admin; Ada L."})) == {"authors": ("admin", "Ada L.")}


@pytest.mark.parametrize("junk", ["Document1", "lease_v3.docx", "Untitled", "Word Document", " "])
def test_what_programs_write_as_a_title_is_none(junk: str) -> None:
    assert with_core(junk, paragraph("Words of it.")).title == "Words of it."
