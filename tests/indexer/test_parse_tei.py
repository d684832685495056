# ruff: noqa: E501 - markup reads better unbroken
"""TEI: an edition with its apparatus, and a paper as GROBID writes it."""

from __future__ import annotations

from longleaf.core.types import Document, Role
from longleaf.indexer.parsers.xml import XmlParser


def read(source: str) -> Document:
    (document,) = XmlParser().parse(source.encode(), "a.tei")
    assert isinstance(document, Document)
    return document


def test_an_edition() -> None:
    document = read("""<TEI xmlns="http://www.tei-c.org/ns/1.0" xml:lang="en"><teiHeader><fileDesc>
        <titleStmt><title>Letters on <hi>Law</hi></title><author>Ada Doe</author>
        <author><persName><forename>Bo</forename><surname>Roe</surname></persName></author></titleStmt>
        <publicationStmt><publisher>Press</publisher><date when="1851-02">1851</date>
        </publicationStmt></fileDesc><encodingDesc><p>hidden</p></encodingDesc></teiHeader>
        <text><front><titlePage><docTitle>Letters</docTitle></titlePage></front><body>
        <div type="chapter" n="1"><head n="I">The First</head><pb n="3"/><fw>Header</fw>
        <p>A <choice><sic>wrnog</sic><corr>wrong</corr></choice> word<note place="foot" n="7">See
        <ref>below</ref>.</note> and<lb/>a line.</p>
        <div><head>Verse</head><lg><l>one</l><l>two</l></lg></div>
        <table><head>Fees</head><row><cell>a</cell><cell>1</cell></row><row><cell>b</cell><cell/></row>
        </table><list><label>x</label><item>ex</item><item>why</item></list></div></body>
        <back><div type="bibliography"><head>Works</head><listBibl><bibl>Poe, <title>Tales</title>.</bibl>
        <bibl>Roe, Law.</bibl></listBibl></div></back></text></TEI>""")
    assert document.text.split("\n\n") == [
        "Letters on Law",
        "Ada Doe, Bo Roe",
        "1851-02",
        "Letters",
        "I The First",
        "A wrong word[7] and\na line.",
        "[7] See below.",
        "Verse",
        "one\ntwo",
        "Fees",
        "a | 1\nb |",
        "x ex\nwhy",
        "Works",
        "Poe, Tales.",
        "Roe, Law.",
    ]
    assert [(section.level, section.title) for section in document.sections] == [
        (1, "I The First"),
        (2, "Verse"),
        (1, "Works"),
    ]
    assert [
        (region.role, document.text[region.start_char : region.end_char])
        for region in document.regions
    ] == [
        (Role.FOOTNOTE, "[7] See below."),
        (Role.REFERENCES, "Works\n\nPoe, Tales.\n\nRoe, Law."),
    ]
    assert document.title == "Letters on Law"
    assert dict(document.metadata) == {
        "authors": ("Ada Doe", "Bo Roe"),
        "date": "1851-02",
        "language": "en",
        "publisher": "Press",
    }
    assert document.warnings == ()


def test_a_paper_from_grobid() -> None:
    document = read("""<TEI xmlns="http://www.tei-c.org/ns/1.0"><teiHeader xml:lang="en"><fileDesc>
        <titleStmt><title level="a" type="main">Deep Things</title></titleStmt><sourceDesc><biblStruct>
        <analytic><author><persName><forename type="first">Ada</forename><surname>Doe</surname></persName>
        </author><idno type="DOI">10.1/abc</idno></analytic><monogr><title level="j">J Things</title>
        <imprint><date type="published" when="2018-05-01"/></imprint></monogr></biblStruct></sourceDesc>
        </fileDesc><profileDesc><abstract><div><p>We go deep.</p></div></abstract></profileDesc></teiHeader>
        <text><body><div><head n="1.">Introduction</head><p>As in <ref type="bibr">[1]</ref>.</p>
        <formula>E = mc 2 <label>(1)</label></formula></div>
        <figure><head>Fig. 1.</head><figDesc>A thing.</figDesc><graphic/></figure></body>
        <back><div type="references"><listBibl><biblStruct><analytic><title>Old</title><author><persName>
        <forename>C</forename><surname>Poe</surname></persName></author></analytic><monogr>
        <title>Nature</title><imprint><biblScope unit="volume">5</biblScope>
        <biblScope unit="page" from="1" to="9"/><date when="1999"/></imprint></monogr></biblStruct>
        </listBibl></div></back></text></TEI>""")
    assert document.text.split("\n\n") == [
        "Deep Things",
        "Ada Doe",
        "J Things, 2018-05-01",
        "doi:10.1/abc",
        "Abstract",
        "We go deep.",
        "1. Introduction",
        "As in [1].",
        "E = mc 2 (1)",
        "Fig. 1.",
        "A thing.",
        "C Poe (1999) Old. Nature. 5, 1–9.",
    ]
    assert document.metadata["doi"] == "10.1/abc"
    assert document.metadata["journal"] == "J Things"
    assert [region.role for region in document.regions] == [Role.REFERENCES]
