# ruff: noqa: E501 - markup reads better unbroken
"""Akoma Ntoso and its like: numbers in the text as printed, in sections as one cites them."""

from __future__ import annotations

import pytest

from longleaf.core.types import Document, Role
from longleaf.indexer.parsers.xml import XmlParser

ACT = """<akomaNtoso xmlns="http://docs.oasis-open.org/legaldocml/ns/akn/3.0"><act name="act">
<meta><identification><FRBRWork><FRBRdate date="2011-03-04" name="x"/><FRBRcountry value="us"/>
</FRBRWork><FRBRExpression><FRBRlanguage language="eng"/></FRBRExpression></identification>
<notes><note id="n1"><p>Amended 2015.</p></note><note id="n2"><p>Never called.</p></note></notes></meta>
<preface><longTitle><p>An <docTitle>Act on Fees</docTitle></p></longTitle></preface>
<toc><tocItem>Part I</tocItem><tocItem>§ 12</tocItem></toc>
<body><part eId="p1"><num>Part I</num><heading>General</heading>
<section><num>§ 12.</num><heading>Fees<noteRef href="#n1" marker="1"/></heading>
<subsection><num>(a)</num><content><p>Each pays.</p></content></subsection>
<subsection><num>(b)</num><heading>Exceptions.</heading>
<intro><p>None pays who is</p></intro>
<paragraph><num>(i)</num><content><p>poor; or</p></content></paragraph>
<paragraph><num>(iii)</num><content><p>ill<noteRef href="#n1" marker="1"/>,</p></content></paragraph>
<wrapUp><p>as shown.</p></wrapUp></subsection></section>
<section><num>13</num><content><p>It says <quotedStructure startQuote="“" endQuote="”"><section>
<num>§ 9</num><heading>Old</heading><content><p>Gone.</p></content></section></quotedStructure>
<authorialNote marker="2"><p>Quoted.</p></authorialNote></p>
<table><tr><th>Who</th><th>Fee</th></tr><tr><td><p>All</p></td><td>1</td></tr></table></content></section>
</part></body></act></akomaNtoso>"""


def read(source: str) -> Document:
    (document,) = XmlParser().parse(source.encode(), "act.xml")
    assert isinstance(document, Document)
    return document


@pytest.fixture(scope="module")
def act() -> Document:
    return read(ACT)


def test_numbers_stand_where_they_are_printed(act: Document) -> None:
    assert act.text.split("\n\n") == [
        "An Act on Fees",
        "Part I\n§ 12",
        "Part I General",
        "§ 12. Fees",
        "(a) Each pays.",
        "(b) Exceptions.",
        "None pays who is",
        "(i) poor; or",
        "(iii) ill[1],",
        "as shown.",
        "[1] Amended 2015.",
        "13 It says",
        "“§ 9 Old",
        "Gone.”",
        "[2]",
        "Who | Fee\nAll | 1",
        "[2] Quoted.",
        "Never called.",
    ]


def test_sections_say_how_one_cites_them(act: Document) -> None:
    assert [(section.level, section.title) for section in act.sections] == [
        (1, "Part I General"),
        (2, "§ 12. Fees"),
        (3, "§ 12(a)"),
        (3, "§ 12(b) Exceptions."),
        (4, "§ 12(b)(i)"),
        (4, "§ 12(b)(iii)"),
        (2, "13"),
    ]
    for section in act.sections:
        printed = section.title.rpartition(" ")[2] if section.level < 3 else ""
        assert printed in act.text[section.start_char : section.end_char]


def test_contents_and_notes_are_regions(act: Document) -> None:
    assert [
        (region.role, act.text[region.start_char : region.end_char]) for region in act.regions
    ] == [
        (Role.CONTENTS, "Part I\n§ 12"),
        (Role.FOOTNOTE, "[1] Amended 2015."),
        (Role.FOOTNOTE, "[2] Quoted.\n\nNever called."),
    ]


def test_the_meta_block_is_metadata(act: Document) -> None:
    assert act.title == "Act on Fees"
    assert dict(act.metadata) == {"date": "2011-03-04", "jurisdiction": "us", "language": "eng"}
    assert act.warnings == ()


def test_european_numbers_are_cited_as_in_europe() -> None:
    document = read("""<akomaNtoso><act><body><article><num>Article 5</num><heading>Right</heading>
        <paragraph><num>1.</num><content><p>One has it.</p></content></paragraph>
        <paragraph><num>2.</num><list><point><num>a)</num><content><p>here</p></content></point></list>
        </paragraph></article></body></act></akomaNtoso>""")
    assert [section.title for section in document.sections] == [
        "Article 5 Right",
        "Article 5(1)",
        "Article 5(2)",
        "Article 5(2)(a)",
    ]
    assert document.text == "Article 5 Right\n\n1. One has it.\n\n2. a) here"


def test_a_judgment_has_court_docket_and_numbered_paragraphs() -> None:
    document = read("""<akomaNtoso><judgment><header><p><courtType>Supreme Court</courtType></p>
        <p><docketNumber>UKSC 2019/0192</docketNumber></p><p><docTitle>R v Doe</docTitle></p></header>
        <judgmentBody><introduction><heading>Lady Hale:</heading>
        <paragraph><num>1.</num><content><p>It is not about that.</p></content></paragraph>
        <paragraph><num>2.</num><content><p>It is about this.</p></content></paragraph></introduction>
        </judgmentBody></judgment></akomaNtoso>""")
    assert document.title == "R v Doe"
    assert dict(document.metadata) == {"court": "Supreme Court", "docket": "UKSC 2019/0192"}
    assert [section.title for section in document.sections] == ["Lady Hale:"]
    assert document.text.endswith("1. It is not about that.\n\n2. It is about this.")


def test_other_laws_by_number_are_read_alike() -> None:
    document = read("""<lawDoc xmlns="http://schemas.gpo.gov/xml/uslm"><meta><dc:title
        xmlns:dc="http://purl.org/dc/elements/1.1/">Title 5</dc:title></meta><main><section>
        <num value="101">§ 101.</num><heading> Purpose</heading><subsection><num value="a">(a)</num>
        <heading>In general.—</heading><content>It helps.</content></subsection></section></main></lawDoc>""")
    assert document.title == "Title 5"
    assert [section.title for section in document.sections] == [
        "§ 101. Purpose",
        "§ 101(a) In general.—",
    ]
    unknown = read(
        "<code><section><num>1-101</num><heading>Bounds.</heading><text>The bounds are.</text>"
        "<para><num>(1)</num><text>here</text></para></section></code>"
    )
    assert unknown.text == "1-101 Bounds.\n\nThe bounds are.\n\n(1) here"
    assert [section.title for section in unknown.sections] == ["1-101 Bounds.", "§ 1-101(1)"]
    assert "unknown vocabulary (code)" in unknown.warnings[0]
