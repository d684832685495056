"""Numbered clauses stay whole where they fit, and roles never share a passage."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.indexer.test_chunk import (
    check_promises,
    chunker,
    headed,
    minilm,
    own_tokens,
    sentence,
    slices,
)
from tests.indexer.test_roles import LEADERS, VANCOUVER

from longleaf.core.types import Document, Region, Role
from longleaf.indexer.chunk import PassageChunker

EXCLUSIONS = (  # 58 tokens
    "5. EXCLUSIONS. The Recipient shall have no duty with respect to information which:\n"
    "(a) is already known to the Recipient; or\n"
    "(b) is or becomes public through no wrongful act of the Recipient; or\n"
    "(c) is approved for release in writing."
)


def without_clauses(document: Document, target_tokens: int) -> list[str]:
    plain = PassageChunker(minilm(), "test", target_tokens, keep_clauses=False)
    return [document.text[p.start_char : p.end_char] for p in plain.chunk(document)]


def test_a_clause_with_its_items_is_not_cut() -> None:
    document = Document(f"4. TERM. {sentence(24)}\n{EXCLUSIONS}\n6. LAW. {sentence(12)}", "")
    assert EXCLUSIONS in slices(document, target_tokens=64)
    assert EXCLUSIONS not in without_clauses(document, 64)


def test_small_clauses_share_a_passage() -> None:
    clauses = [f"{n}. {sentence(8)}" for n in range(1, 9)]
    pieces = slices(Document("\n".join(clauses), ""), target_tokens=64)
    assert [len(piece.splitlines()) for piece in pieces] == [5, 3]


def test_a_long_clause_is_cut_before_its_items() -> None:
    items = [f"({letter}) {sentence(9)} {sentence(9)}" for letter in "abcde"]
    document = Document("7. The Tenant shall, at its own cost:\n" + "\n".join(items), "")
    pieces = slices(document, target_tokens=64)
    assert [piece.splitlines()[0][:3] for piece in pieces] == ["7. ", "(c)", "(e)"]
    assert all(piece.count("end.") % 2 == 0 for piece in pieces)


def test_a_long_clause_begins_a_passage_with_its_lead_in() -> None:
    items = [f"({letter}) {sentence(20)}" for letter in "abc"]
    long = "8. The Landlord shall:\n" + "\n".join(items)
    pieces = slices(Document(f"7. {sentence(30)}\n{long}", ""), target_tokens=64)
    assert pieces[1].startswith("8. The Landlord shall:\n(a)")


def test_items_of_items_stay_together() -> None:
    items = [
        f"({letter}) {sentence(5)}\n(i) {sentence(9)}\n(ii) {sentence(9)}" for letter in "abcd"
    ]
    pieces = slices(Document("9. It shall:\n" + "\n".join(items), ""), target_tokens=64)
    assert [piece.splitlines()[0][:3] for piece in pieces] == ["9. ", "(b)", "(c)", "(d)"]


def test_a_lead_in_never_stands_alone() -> None:
    item = f"(a) {sentence(30)} {sentence(26)}"
    pieces = slices(
        Document(f"3. The Tenant shall:\n{item}\n(b) {sentence(40)}", ""), target_tokens=64
    )
    assert pieces[0].startswith("3. The Tenant shall:\n(a) The law")


def test_a_bare_heading_never_stands_alone_above_a_clause() -> None:
    document = headed(("Part I", 1, ""), ("Exclusions of liability", 2, EXCLUSIONS))
    pieces = slices(document, target_tokens=64)
    assert pieces[0].startswith("Part I\n\n\n\nExclusions of liability\n\n5. EXCLUSIONS")
    assert all(piece.startswith(("Part", "(")) for piece in pieces)  # cut before items only


def test_a_short_clause_before_a_long_one_joins_what_is_before() -> None:
    document = Document(f"1. {sentence(30)}\n2. Two.\n3. {sentence(28)} {sentence(28)}", "")
    pieces = slices(document, target_tokens=64)
    assert [piece.splitlines()[-1][:2] for piece in pieces] == ["2.", "3."]


def test_text_without_labels_is_packed_as_before() -> None:
    document = headed(("One", 1, " ".join(sentence(n) for n in range(4, 40))), ("Two", 1, "End."))
    assert slices(document, target_tokens=64) == without_clauses(document, 64)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(3, 40), st.lists(st.integers(3, 20), max_size=4)),
        min_size=1,
        max_size=8,
    )
)
def test_every_clause_that_fits_is_whole(clauses: list[tuple[int, list[int]]]) -> None:
    written = []
    for number, (words, items) in enumerate(clauses, start=1):
        lines = [f"{number}. {sentence(words)}"]
        lines += [f"({chr(97 + n)}) {sentence(each)}" for n, each in enumerate(items)]
        written.append("\n".join(lines))
    document = Document("\n".join(written), "")
    pieces = slices(document, target_tokens=64)
    for clause in written:
        if own_tokens(clause) <= 64:
            assert any(clause in piece for piece in pieces)
        for item in clause.splitlines()[2:]:
            assert any(item in piece for piece in pieces)


# --- roles -------------------------------------------------------------------------------------


def test_a_bibliography_has_passages_of_its_own() -> None:
    body = " ".join(sentence(20) for _ in range(3))
    text = f"Contents\n{LEADERS}\n\n{body}\n\nReferences\n{VANCOUVER}\n"
    document = Document(text, "")
    passages = chunker(64).chunk(document)
    check_promises(document, passages, target_tokens=64)
    roles = [passage.role for passage in passages]
    assert roles == sorted(roles, key=[Role.CONTENTS, Role.BODY, Role.REFERENCES].index)
    assert {*roles} == {Role.CONTENTS, Role.BODY, Role.REFERENCES}
    for passage in passages:
        piece = text[passage.start_char : passage.end_char]
        assert ("The law" in piece) == (passage.role is Role.BODY)


def test_a_footnote_interrupts_its_page() -> None:
    one, note, two = sentence(6, "one"), "* Note one. More of it.", sentence(6, "two")
    text = f"{one}\n{note}\n{two}"
    start = text.index("*")
    document = Document(text, "", regions=(Region(Role.FOOTNOTE, start, start + len(note)),))
    passages = chunker(64).chunk(document)
    assert [text[p.start_char : p.end_char] for p in passages] == [one, note, two]
    assert [p.role for p in passages] == [Role.BODY, Role.FOOTNOTE, Role.BODY]


def test_neighbouring_regions_of_one_role_are_one() -> None:
    notes = [f"{n}. Note {n}." for n in range(4)]
    text = "\n".join(notes)
    marks = [
        Region(Role.FOOTNOTE, text.index(note), text.index(note) + len(note)) for note in notes
    ]
    [passage] = chunker(64).chunk(Document(text, "", regions=tuple(marks)))
    assert passage.role is Role.FOOTNOTE


@pytest.mark.parametrize("overlap_tokens", [0, 24])
def test_overlap_stays_in_its_role(overlap_tokens: int) -> None:
    body = " ".join(sentence(9) for _ in range(12))
    document = Document(f"{body}\n\nReferences\n{VANCOUVER}", "")
    passages = chunker(64, overlap_tokens).chunk(document)
    check_promises(document, passages, target_tokens=64, overlap_tokens=overlap_tokens)
    for before, after in pairwise(passages):
        assert before.role is after.role or after.overlap_chars == 0
