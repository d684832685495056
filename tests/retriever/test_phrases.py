"""Phrases are looked for in whole documents, word for word."""

from __future__ import annotations

import pytest

from longleaf.retriever.phrases import PhraseRule


@pytest.mark.parametrize(
    ("phrase", "text"),
    [
        ("due process", "the Due\n  Process clause"),
        ("plaintiff's claim", "the plaintiff’s claim"),
        ("§ 12(b)(iii)", "under Section 12 (b)(iii) hereof"),
        ("IL-6", "levels of IL‑6 rose"),
        ("Smith v Jones", "Smith v. Jones, 12 F.3d"),
        ("final", "the ﬁnal award"),
        ("契約", "本契約書は"),
        ("été", "en e\u0301te\u0301 2020"),
    ],
)
def test_found(phrase: str, text: str) -> None:
    assert PhraseRule([phrase], []).accepts(text)
    assert not PhraseRule([], [phrase]).accepts(text)


@pytest.mark.parametrize(
    ("phrase", "text"),
    [
        ("art", "the party of the first part"),
        ("process due", "due process"),
        ("due process", "overdue process"),
        ("12(b)", "12(c)(b)"),
        ("patent grant", "a patent, or a grant"),
    ],
)
def test_not_found(phrase: str, text: str) -> None:
    assert not PhraseRule([phrase], []).accepts(text)
    assert PhraseRule([], [phrase]).accepts(text)


def test_all_phrases_and_no_excluded_one() -> None:
    rule = PhraseRule(["patent", "trade mark"], ["apache"])
    assert rule.accepts("A patent and a trade mark.")
    assert not rule.accepts("A patent.")
    assert not rule.accepts("A patent and a trade mark of Apache.")


def test_a_phrase_without_words_asks_nothing() -> None:
    assert PhraseRule(["…", " "], ["--"]).trivial
    assert not PhraseRule([], ["x"]).trivial
