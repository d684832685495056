"""Headings in plain text: golden cases of what is one and what is not, and how they nest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longleaf.indexer.parsers.headings import sections_of

BODY = "The parties agree as follows, and nothing in this line looks like a heading.\n"


def titles(text: str) -> list[str]:
    return [section.title for section in sections_of(text)]


@pytest.mark.parametrize(
    ("lines", "title"),
    [
        ("ARTICLE IV", "ARTICLE IV"),
        ("ARTICLE IV\nREPRESENTATIONS AND WARRANTIES", "ARTICLE IV REPRESENTATIONS AND WARRANTIES"),
        ("Article 4. Representations", "Article 4. Representations"),
        ("CHAPTER 12 — REMEDIES", "CHAPTER 12 — REMEDIES"),
        ("Schedule A: Fees", "Schedule A: Fees"),
        ("Section 12. Title", "Section 12. Title"),
        ("Sec. 8. Effective date.", "Sec. 8. Effective date."),
        (
            "§ 12-301. Limitation of time for bringing actions",
            "§ 12-301. Limitation of time for bringing actions",
        ),
        ("§ 12-301. Short Title. " + BODY * 2, "§ 12-301. Short Title"),
        ("1. INTRODUCTION", "1. INTRODUCTION"),
        ("0. Definitions.", "0. Definitions"),
        ("1. Definitions. " + BODY, "1. Definitions"),
        ("4.2 Methods", "4.2 Methods"),
        ("2.1. Study design and participants", "2.1. Study design and participants"),
        ("1 Introduction", "1 Introduction"),
        ("I. Background", "I. Background"),
        ("A. Factual Background", "A. Factual Background"),
        ("LIMITATION OF LIABILITY", "LIMITATION OF LIABILITY"),
        ("Materials and Methods", "Materials and Methods"),
        ("Abstract", "Abstract"),
    ],
)
def test_a_heading_is_found(lines: str, title: str) -> None:
    assert titles(f"{BODY}\n{lines}\n\n{BODY}") == [title]


@pytest.mark.parametrize(
    "lines",
    [
        "Article 4 of the Treaty applies",
        "Section 12 of the Act applies to it",
        "Part 2 the court held that this is so",
        "12 March 2020",
        "4.2 million people live there",
        "1. Apples\n2. Bananas\n3. Cherries",
        "1. take the lid off",
        "17. Seventeenth without the sixteen before",
        "J. Smith, Professor of Law.",
        "THE SOFTWARE IS PROVIDED WITHOUT WARRANTY,\nEXPRESS OR IMPLIED.",
        "THE SOFTWARE IS PROVIDED WITHOUT WARRANTY OF ANY KIND\nEXPRESS OR IMPLIED, INCLUDING X.",
        "UNITED STATES DISTRICT COURT\nNORTHERN DISTRICT OF OHIO",
        "NOTE: X",
        "FOO_BAR = 1",
        "1. Introduction ........ 4",
        "IL-6",
        "This is an ordinary line\nthat goes on",
        '1.1. "Contributor" means each entity that creates or contributes to\nthe creation of it',
        "# a comment\n# another comment",
    ],
)
def test_a_line_that_is_no_heading_is_left_alone(lines: str) -> None:
    assert titles(f"{BODY}\n{lines}\n\n{BODY}") == []


def test_a_wrapped_citation_is_no_heading() -> None:
    assert titles("Nothing here limits the rights under\nSection 3. The rest is below.\n") == []
    assert titles("It is so ordered.\nSection 3. Costs\n" + BODY) == ["Section 3. Costs"]


def test_numbers_below_references_count_works() -> None:
    text = f"{BODY}\nReferences\n\n1. World Health Organization\n\n{BODY}\nFUNDING\n\n{BODY}"
    assert titles(text) == ["References", "FUNDING"]


def test_a_running_header_is_no_heading() -> None:
    page = f"OPINION OF THE COURT\n\n{BODY}\n"
    assert titles(BODY + "\n" + page * 3) == ["OPINION OF THE COURT"] * 3
    assert titles(BODY + "\n" + page * 4) == []


def test_hashes_of_former_markdown_win_over_guesses() -> None:
    text = f"# One\n\n{BODY}\n## Two\n\n{BODY}\nLIMITATION OF LIABILITY\n\n{BODY}"
    assert [(section.title, section.level) for section in sections_of(text)] == [
        ("One", 1),
        ("Two", 2),
    ]


def test_sections_nest_and_end_where_the_next_of_their_level_begins() -> None:
    parts = [
        ("ARTICLE I", 1),
        ("Section 1. Terms", 2),
        ("Section 2. Fees", 2),
        ("ARTICLE II", 1),
        ("Section 3. Term", 2),
    ]
    text = "".join(f"{title}\n\n{BODY}\n" for title, _ in parts)
    sections = sections_of(text)
    assert [(section.title, section.level) for section in sections] == parts
    assert [text[s.start_char :].startswith(s.title) for s in sections] == [True] * 5
    assert sections[0].end_char == sections[2].end_char == sections[3].start_char
    assert sections[1].end_char == sections[2].start_char
    assert sections[3].end_char == sections[4].end_char == len(text)


_PIECES = [
    "ARTICLE I",
    "Section 1. X",
    "1. A B",
    "1.1 Cde",
    "CAPITALS HERE",
    "x",
    "",
    " ",
    "§ 3.",
    "\f",
]


@given(st.lists(st.sampled_from(_PIECES) | st.text(max_size=20)).map("\n".join))
def test_sections_of_any_text_lie_inside_it_in_order_and_nested(text: str) -> None:
    open_ends: list[int] = []
    last_start = -1
    for section in sections_of(text):
        assert last_start < section.start_char < section.end_char <= len(text)
        assert not text[section.start_char].isspace()
        assert section.title.split()[0] == text[section.start_char :].split()[0].lstrip("#") or (
            text[section.start_char] == "#"
        )
        del open_ends[section.level - 1 :]
        assert len(open_ends) == section.level - 1
        assert all(section.end_char <= end for end in open_ends)
        open_ends.append(section.end_char)
        last_start = section.start_char
