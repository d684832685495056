"""The numbers Word shows and does not store, against what Word shows."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.indexer.word import listed, paragraph, read, read_body, style

from longleaf.indexer.parsers.docx_numerals import numeral, padded


def level(
    at: int, text: str, number_format: str = "decimal", start: int = 1, more: str = ""
) -> str:
    return (
        f'<w:lvl w:ilvl="{at}"><w:start w:val="{start}"/><w:numFmt w:val="{number_format}"/>'
        f'<w:lvlText w:val="{text}"/>{more}</w:lvl>'
    )


def abstract(number: int, *levels: str, more: str = "") -> str:
    return f'<w:abstractNum w:abstractNumId="{number}">{more}{"".join(levels)}</w:abstractNum>'


def num(number: int, abstract_number: int, overrides: str = "") -> str:
    return (
        f'<w:num w:numId="{number}"><w:abstractNumId w:val="{abstract_number}"/>{overrides}</w:num>'
    )


def restart(at: int, start: int) -> str:
    return f'<w:lvlOverride w:ilvl="{at}"><w:startOverride w:val="{start}"/></w:lvlOverride>'


def labels(numbering: str, places: list[tuple[int, int]], styles: str = "") -> list[str]:
    """What stands before "x" in paragraphs of these (list, level)."""
    body = "".join(paragraph("x", listed(*place)) for place in places)
    text = read_body(body, {"numbering": numbering, "styles": styles}).text
    return [line[:-1].rstrip() for line in text.split("\n\n")]


CONTRACT = abstract(
    1,
    level(0, "Article %1", "upperRoman"),
    level(1, "%1.%2", more="<w:isLgl/>"),
    level(2, "(%3)", "lowerLetter"),
    level(3, "(%4)", "lowerRoman"),
)


def test_levels_count_and_restart_below_each_other() -> None:
    found = labels(
        CONTRACT + num(1, 1),
        [(1, 0), (1, 1), (1, 2), (1, 2), (1, 3), (1, 1), (1, 2), (1, 0), (1, 1), (1, 2)],
    )
    assert found == [
        *("Article I", "1.1", "(a)", "(b)", "(i)", "1.2", "(a)"),
        *("Article II", "2.1", "(a)"),
    ]


def test_lists_of_one_kind_count_on_and_an_override_starts_anew_once() -> None:
    numbering = abstract(1, level(0, "§ %1")) + num(1, 1) + num(2, 1) + num(3, 1, restart(0, 7))
    places = [(1, 0), (2, 0), (3, 0), (3, 0), (1, 0), (9, 0), (0, 0)]
    assert labels(numbering, places) == ["§ 1", "§ 2", "§ 7", "§ 8", "§ 9", "", ""]


def test_an_override_may_bring_a_level_of_its_own() -> None:
    own = f'<w:lvlOverride w:ilvl="0">{level(0, "%1)", "upperLetter", 3)}</w:lvlOverride>'
    numbering = abstract(1, level(0, "%1.")) + num(1, 1, own)
    assert labels(numbering, [(1, 0), (1, 0)]) == ["C)", "D)"]


def test_a_level_restarts_after_the_level_it_names_or_never() -> None:
    numbering = abstract(
        1,
        level(0, "%1"),
        level(1, "%2"),
        level(2, "%3", more='<w:lvlRestart w:val="1"/>'),
        level(3, "%4", more='<w:lvlRestart w:val="0"/>'),
    ) + num(1, 1)
    at = [0, 1, 2, 2, 1, 2, 3, 0, 1, 2, 3]
    found = labels(numbering, [(1, each) for each in at])
    assert found == ["1", "1", "1", "2", "2", "3", "1", "2", "1", "1", "2"]


def test_a_skipped_level_begins_and_the_next_on_it_counts_on() -> None:
    numbering = abstract(1, level(0, "%1"), level(1, "%1.%2", start=0)) + num(1, 1)
    assert labels(numbering, [(1, 1), (1, 1), (1, 0)]) == ["1.0", "1.1", "2"]


def test_styles_bring_their_list_and_level() -> None:
    styles = """
    <w:style w:type="paragraph" w:styleId="H1"><w:name w:val="heading 1"/><w:pPr><w:numPr>
      <w:numId w:val="1"/></w:numPr></w:pPr></w:style>
    <w:style w:type="paragraph" w:styleId="H2"><w:name w:val="heading 2"/><w:pPr><w:numPr>
      <w:ilvl w:val="1"/><w:numId w:val="1"/></w:numPr></w:pPr></w:style>
    <w:style w:type="paragraph" w:styleId="Mine"><w:name w:val="Mine"/>
      <w:basedOn w:val="H2"/></w:style>"""
    numbering = abstract(
        1,
        level(0, "%1.", more='<w:pStyle w:val="H1"/>'),
        level(1, "%1.%2", more='<w:pStyle w:val="H2"/>'),
    ) + num(1, 1)
    document = read_body(
        paragraph("Parties", style("H1"))
        + paragraph("Seller", style("H2"))
        + paragraph("Buyer", style("Mine"))
        + paragraph("Plain", style("H1") + listed(0))
        + paragraph("Price", style("H1")),
        {"numbering": numbering, "styles": styles},
    )
    assert document.text.split("\n\n") == [
        *("1. Parties", "1.1 Seller", "1.2 Buyer", "Plain", "2. Price"),
    ]
    assert [(each.title, each.level) for each in document.sections] == [
        *(("1. Parties", 1), ("1.1 Seller", 2), ("1.2 Buyer", 2), ("Plain", 1), ("2. Price", 1)),
    ]


def test_a_list_style_stands_for_the_list_that_defines_it() -> None:
    styles = """<w:style w:type="numbering" w:styleId="Legal"><w:name w:val="Legal"/><w:pPr>
      <w:numPr><w:numId w:val="5"/></w:numPr></w:pPr></w:style>"""
    numbering = (
        abstract(1, more='<w:numStyleLink w:val="Legal"/>')
        + abstract(2, level(0, "Rule %1"), more='<w:styleLink w:val="Legal"/>')
        + num(1, 1)
        + num(5, 2)
    )
    assert labels(numbering, [(1, 0), (5, 0)], styles) == ["Rule 1", "Rule 2"]
    circle = (
        '<w:style w:type="numbering" w:styleId="Legal"><w:name w:val="Legal"/><w:pPr><w:numPr>'
        '<w:numId w:val="1"/></w:numPr></w:pPr></w:style>'
    )
    assert labels(numbering, [(1, 0)], circle) == [""]


def test_bullets_are_signs_and_separators_are_kept() -> None:
    symbol = '<w:rPr><w:rFonts w:ascii="Symbol" w:hAnsi="Symbol"/></w:rPr>'
    numbering = abstract(
        1,
        level(0, "\uf0b7", "bullet", more=symbol),
        level(1, "o", "bullet"),
        level(2, "%3.", more='<w:suff w:val="nothing"/>'),
        level(3, "(%4)", more="<w:rPr><w:vanish/></w:rPr>"),
        level(4, "", "none"),
    ) + num(1, 1)
    body = "".join(paragraph("x", listed(1, at)) for at in range(5))
    assert read_body(body, {"numbering": numbering}).text.split("\n\n") == [
        *("• x", "◦ x", "1.x", "x", "x"),
    ]


def test_empty_paragraphs_count_and_deleted_or_hidden_ones_do_not() -> None:
    numbering = {"numbering": abstract(1, level(0, "%1.")) + num(1, 1)}
    document = read_body(
        paragraph("a", listed(1))
        + paragraph("", listed(1))
        + paragraph("", listed(1) + "<w:rPr><w:del/></w:rPr>")
        + paragraph("", listed(1) + "<w:rPr><w:vanish/></w:rPr>")
        + paragraph("b", listed(1)),
        numbering,
    )
    assert document.text == "1. a\n\n3. b"


def test_a_format_nobody_knows_here_is_shown_as_digits_and_said() -> None:
    custom = (
        '<w:lvl w:ilvl="1"><w:start w:val="7"/><mc:AlternateContent><mc:Choice Requires="w14">'
        '<w:numFmt w:val="custom" w:format="001, 002, 003, ..."/></mc:Choice><mc:Fallback>'
        '<w:numFmt w:val="decimal"/></mc:Fallback></mc:AlternateContent>'
        '<w:lvlText w:val="%2"/></w:lvl>'
    )
    numbering = abstract(1, level(0, "%1", "thaiLetters"), custom) + num(1, 1)
    body = paragraph("x", listed(1)) + paragraph("y", listed(1, 1))
    document = read_body(body, {"numbering": numbering})
    assert document.text == "1 x\n\n007 y"
    assert "thaiLetters" in document.warnings[0] and "custom" not in document.warnings[0]


@pytest.mark.parametrize(
    ("number_format", "values", "written"),
    [
        ("decimal", (1, 10), "1 10"),
        ("decimalZero", (1, 10), "01 10"),
        ("upperRoman", (1, 4, 9, 40, 90, 1994), "I IV IX XL XC MCMXCIV"),
        ("lowerRoman", (3, 14), "iii xiv"),
        ("upperLetter", (1, 26, 27, 52, 53), "A Z AA ZZ AAA"),
        ("lowerLetter", (2, 28), "b bb"),
        ("ordinal", (1, 2, 3, 4, 11, 12, 13, 21, 112), "1st 2nd 3rd 4th 11th 12th 13th 21st 112th"),
        ("cardinalText", (1, 21, 30, 500), "One Twenty-one Thirty Five hundred"),
        ("ordinalText", (1, 2, 12, 20, 21), "First Second Twelfth Twentieth Twenty-first"),
        ("chicago", (1, 2, 3, 4, 5), "* † ‡ § **"),
        ("chineseCounting", (1, 10, 11, 20, 101), "一 十 十一 二十 一百〇一"),
        ("japaneseCounting", (1, 10, 111), "一 十 百十一"),
        ("russianLower", (1, 10), "а к"),
        ("decimalEnclosedCircle", (1, 20), "① ⑳"),
    ],
)
def test_numerals_are_words_own(number_format: str, values: tuple[int, ...], written: str) -> None:
    found = [numeral(value, number_format) or "" for value in values]
    assert " ".join(found) == written


def test_numerals_without_a_sign_for_a_value_say_so() -> None:
    assert numeral(0, "upperRoman") is None
    assert numeral(-1, "decimal") is None
    assert numeral(10**9, "lowerLetter") is None
    assert numeral(1, "nothing known") is None
    assert padded(5, "001, 002, 003, ...") == "005"
    assert padded(5, "α, β, γ") is None


ROMAN = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}


@given(st.integers(1, 39_999))
def test_roman_numerals_mean_their_value(value: int) -> None:
    written = numeral(value, "upperRoman")
    assert written is not None
    worths = [ROMAN[sign] for sign in written]
    following = [*worths[1:], 0]
    back = sum(-each if each < then else each for each, then in zip(worths, following, strict=True))
    assert back == value


def test_a_document_that_says_its_own_numbers_is_read_with_them(data_folder: Path) -> None:
    """Its author typed beside each number what Word shows there."""
    (path,) = data_folder.rglob("*testWORD_override_list_numbering.docx")
    lines = read(path.read_bytes()).text.split("\n\n")
    numbered = [line.split() for line in lines if line[0].isdigit() or line[0] == "("]
    wrong = [words for words in numbered if len(words) == 2 and words[0] != words[1]]
    # "1.1.1.1...1" is short for what it stands beside; "B B" and the like are not digits.
    assert len(numbered) >= 35
    assert wrong == [["1.1.1.1...1", "1.1.1.1...1"]] or wrong == []
