"""Bibliographies and tables of contents are told by heading and form, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.growth import assert_linear

from longleaf.core.types import Document, Region, Role, Section
from longleaf.indexer.roles import find_regions, regions_of

DATA = Path(__file__).parents[3] / "shared" / "data"

BODY = (
    "The enzyme was studied in 2004 and in 2006 (Lee et al. 2007). It was found in mice.\n\n"
    "A second experiment in 2011 showed the same. The authors of 2012 agreed with it.\n\n"
)
VANCOUVER = "\n".join(
    f"{n}. Smith JA, Lee K, Roe P. A study of enzyme {n}. J Biol Chem. 20{n:02}; 5(2): 10-19."
    for n in range(1, 9)
)
BRACKETS = "\n\n".join(
    f"[{n}] P. Roe and K. Lee. Networks of kind {n}. In Proceedings of the Nth Conference, 19{n}0."
    for n in range(1, 7)
)
HARVARD = "\n".join(
    f"{name}, A. B., and Roe, C. ({year}). On matters of {name}. Oxford University Press.\n"
    f"Reprinted with a new preface. Available at https://example.org/{name}."
    for name, year in (("Ash", 1999), ("Birch", 2003), ("Cedar", 2010), ("Elm", 2019))
)
WRAPPED = "\n".join(
    f"{n}.\nSwerdlow  DL, Finelli  L.  Field studies of kind {n}, a title that goes on\n"
    f"over a line end.  Clin Infect Dis. 2011;52(suppl 1):S1-S3. doi:10.1093/cid/ciq{n}"
    for n in range(1, 6)
)
CASES = (
    "Cases\n"
    "Able v. Baker, 410 U.S. 113 (1973) ................................. 5, 7, 12\n"
    "Carter v. Dodge Manufacturing Co. of the State of\n"
    "   New Jersey, 12 F.3d 456 (9th Cir. 1994) .................... passim\n"
    "Statutes\n"
    "42 U.S.C. § 1983 ............................................... iv, 3\n"
    "28 U.S.C. § 1331 ............................................... 9\n"
)
LEADERS = "\n".join(f"{n}. Matter of kind {n} {'.' * 30} {3 * n}" for n in range(1, 7))
PLAIN_TITLES = ["Definitions", "Delivery of the Goods", "Price and Payment", "Liability"]


def found(text: str, *sections: Section) -> list[tuple[Role, str]]:
    regions = find_regions(Document(text, "", sections=sections))
    return [(each.role, text[each.start_char : each.end_char]) for each in regions]


@pytest.mark.parametrize(
    "heading",
    ["References", "REFERENCES:", "## References", "9. References", "VII. Bibliography",
     "**Literature Cited**", "Works Cited", "Literaturverzeichnis", "Références"],
)  # fmt: skip
@pytest.mark.parametrize("entries", [VANCOUVER, BRACKETS, HARVARD, WRAPPED])
def test_a_bibliography_is_found(heading: str, entries: str) -> None:
    text = f"{BODY}{heading}\n\n{entries}\n"
    assert found(text) == [(Role.REFERENCES, f"{heading}\n\n{entries}")]


def test_a_bibliography_in_one_line_is_found() -> None:
    entries = VANCOUVER.replace("\n", " ") * 3
    [(role, words)] = found(f"{BODY}References\n{entries}\n\n{BODY}")
    assert role is Role.REFERENCES and len(words) > 0.8 * len(entries)


def test_text_behind_a_bibliography_is_text() -> None:
    after = "Acknowledgements\n\nWe thank the nurses of the ward for their patience with us. " * 12
    [(_, words)] = found(f"{BODY}References\n{VANCOUVER}\n\n{after}")
    assert words.endswith("10-19.")


def test_a_section_ends_a_bibliography() -> None:
    text = f"{BODY}References\n{VANCOUVER}\nAppendix\n{BRACKETS}"
    at, after = text.index("References"), text.index("Appendix")
    sections = Section("References", 1, at, after), Section("Appendix", 1, after, len(text))
    assert found(text, *sections) == [(Role.REFERENCES, f"References\n{VANCOUVER}")]


@pytest.mark.parametrize(
    "clauses",
    [
        "1. References to clauses are to clauses of this Agreement.\n2. References to a party mean "
        "its successors.\n3. References to the Companies Act 2006 are to that Act as amended.\n"
        "4. Headings do not count.\n5. The singular includes the plural.",
        "Each Party shall provide references on request. The references shall be dated.\n\n"
        "The Supplier gave two references in 2019. Both were checked in 2020 by the Buyer.\n\n"
        "A reference may be refused. It was refused in 2021. The Buyer accepted that in 2022.",
        BODY * 4,
        "1. Smith JA. One work alone. J Biol Chem. 2001; 5(2): 10-19.",
        "",
    ],
    ids=["interpretation", "letters", "history", "one", "nothing"],
)
def test_a_references_clause_is_text(clauses: str) -> None:
    assert found(f"{BODY}References\n\n{clauses}\n") == []


def test_a_bibliography_needs_its_heading() -> None:
    assert found(BODY + VANCOUVER) == []


@pytest.mark.parametrize(
    ("heading", "lines"),
    [
        ("Table of Contents", LEADERS),
        ("CONTENTS", LEADERS.replace(".....", "  ")),
        ("TABLE OF AUTHORITIES", CASES.strip()),
        ("## Table of Contents", "\n\n".join(f"[{n}. Part](#s{n})" for n in range(6))),
        ("Contents", "\n".join(f"Chapter {n} of the book {10 * n}" for n in range(1, 8))),
    ],
)
def test_contents_are_found(heading: str, lines: str) -> None:
    text = f"A title\n\n{heading}\n{lines}\n\n{BODY}"
    assert found(text) == [(Role.CONTENTS, f"{heading}\n{lines}")]


def test_titles_that_come_again_are_contents() -> None:
    listed = "\n".join(PLAIN_TITLES)
    text = f"Contents\n{listed}\n\n"
    sections = []
    for number, title in enumerate(PLAIN_TITLES, start=1):
        start = len(text)
        text += f"{number}. {title}\n\n{BODY}"
        sections.append(Section(f"{number}. {title}", 1, start, len(text)))
    assert found(text, *sections) == [(Role.CONTENTS, f"Contents\n{listed}")]
    assert found(text) == []


def test_leaders_with_rising_pages_need_no_heading() -> None:
    assert found(f"An agreement\n\n{LEADERS}\n\n{BODY}") == [(Role.CONTENTS, LEADERS)]


@pytest.mark.parametrize(
    "lines",
    [
        "\n".join(f"Item {n} {'.' * 20} {price}" for n, price in enumerate([40, 12, 90, 7, 55, 3])),
        "\n".join(f"Name {'.' * 40}" for _ in range(8)),
        "\n".join(f"Fee {'.' * 20} 5" for _ in range(8)),
        "\n".join(f"Part {n} {'.' * 20} {n}" for n in range(3)),
    ],
    ids=["prices", "a form", "one price", "too few"],
)
def test_leaders_of_other_lists_are_text(lines: str) -> None:
    assert found(f"{BODY}{lines}\n\n{BODY}") == []


def test_contents_of_a_parcel_are_text() -> None:
    assert found(f"Contents\n\nOne lamp. Two bulbs of 40 watts. A cable.\n\n{BODY}") == []


def test_what_a_parser_marked_holds() -> None:
    text = f"Contents\n{LEADERS}\n\n{BODY}References\n{VANCOUVER}\n"
    mine = Region(Role.REFERENCES, 5, 9)
    at = text.index("References")
    regions = regions_of(Document(text, "", regions=(mine,)))
    assert regions == (mine,)  # the contents found would overlap it
    note = Region(Role.FOOTNOTE, at - 20, at - 10)
    roles = [each.role for each in regions_of(Document(text, "", regions=(note,)))]
    assert roles == [Role.CONTENTS, Role.FOOTNOTE, Role.REFERENCES]


REGIONS = st.builds(Region, st.sampled_from(list(Role)), st.integers(-5, 120), st.integers(-5, 120))
PARTS = st.sampled_from(
    ["References\n", "Contents\n", VANCOUVER[:200] + "\n", LEADERS + "\n", BODY, "\n", "....5\n"]
)


@given(st.lists(PARTS, max_size=12).map("".join), st.lists(REGIONS, max_size=5))
def test_regions_are_ordered_and_inside(text: str, marked: list[Region]) -> None:
    end = 0
    for region in regions_of(Document(text, "", regions=tuple(marked))):
        assert end <= region.start_char < region.end_char <= len(text)
        assert region.role is not Role.BODY
        end = region.end_char


@pytest.mark.parametrize(
    "unit",
    [
        "References\n", "References\n1. A 2001.\n", "References\n1. Lee A. 2001; 1: 2-3.\nx\ny\n",
        "Contents\n", "Contents\nA .... 1\nB\nC\n", "A ..... 1\n", ". . . . ", "....", "[", "1. ",
        "Smith A. ", "# ", "2001 ", "\n", "a  1\n", "References\n" + "x" * 650 + "\n",
    ],
)  # fmt: skip
def test_time_grows_with_the_text(unit: str) -> None:
    def document(size_chars: int) -> Document:
        text = unit * (size_chars // len(unit))
        sections = tuple(
            Section("References", 1, start, start + len(unit))
            for start in range(0, len(text) - len(unit), max(len(unit), 40))
        )
        return Document(text, "", sections=sections)

    assert_linear(document, find_regions, 20_000)


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the shared documents")
@pytest.mark.parametrize("folder", ["scifact", "documents/dc_laws", "legalbench_rag/privacy_qa"])
def test_no_false_alarm_in_abstracts_statutes_and_policies(folder: str) -> None:
    import json

    with (DATA / folder / "corpus.jsonl").open(encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    assert [text[:80] for text in texts if find_regions(Document(text, ""))] == []
