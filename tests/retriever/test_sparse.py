"""Words and identifiers as BM25 terms."""

from __future__ import annotations

import time

import pytest
import qdrant_edge
from hypothesis import given
from hypothesis import strategies as st

from longleaf.core.errors import ConfigError
from longleaf.retriever.index.sparse import LANGUAGES, Bm25Encoder, encoder, identifiers
from longleaf.retriever.words import normalised, words


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("IL-6", {"il6"}),
        ("IL–6", {"il6"}),
        ("COVID‑19", {"covid19"}),
        ("TNF-α", {"tnfα"}),
        ("p53 and plain words.", set()),
        ("12(b)(iii)", {"12b", "12biii"}),
        ("§ 12(b)(iii),", {"§12", "§12b", "§12biii", "12b", "12biii"}),
        ("42 U.S.C. §1983", {"usc", "§1983"}),
        ("No. 19-1392.", {"19-1392"}),
        ("1:21-cv-01234-ABC", {"1:21", "1:21cv", "1:21cv01234", "1:21cv01234abc"}),
        ("10.1371/journal.pbio", {"10.1371", "10.1371journal", "10.1371journalpbio"}),
        ("ISO/IEC 27001:2013", {"isoiec", "27001:2013"}),
        ("C++, C# and non-compete", {"c++", "c#", "noncompete"}),
        ("it's “quoted” (words), a—b", set()),
    ],
)
def test_identifiers(text: str, terms: set[str]) -> None:
    assert set(identifiers(normalised(text))) == terms


def test_plain_words_have_the_vectors_of_qdrants_own_model() -> None:
    text = (
        "The foxes were running over lazy dogs while finding proteins and the finding of dogs 2020"
    )
    theirs = qdrant_edge.Bm25(qdrant_edge.Bm25Config(language="english"))
    ours = Bm25Encoder("english", k1=1.2, b=0.75, average_words=256.0)
    document = theirs.embed_document(text)
    assert ours.document(text).indices == document.indices
    assert ours.document(text).weights == pytest.approx(document.values, rel=1e-6)
    assert ours.query(text).indices == theirs.embed_query(text).indices
    assert set(ours.query(text).weights) == {1.0}


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("ﬁnding", "findings"),
        ("IL6", "IL-6"),
        ("noncompetes", "non-compete"),
        ("café", "cafe\u0301"),
        ("contract", "con\u00adtract"),
        ("CO₂", "co2"),
        ("東京", "東京都の会議"),
        ("12(b)", "§ 12(b)(iii)"),
    ],
)
def test_one_word_in_two_spellings_shares_a_term(left: str, right: str) -> None:
    english = encoder("english")
    assert set(english.query(left).indices) & set(english.document(right).indices)


def test_different_numbers_stay_apart() -> None:
    english = encoder("english")
    assert not set(english.query("1.5").indices) & set(english.document("15").indices)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language(language: str) -> None:
    assert encoder(language).document("Vertrag contrat договор 12(b)").indices


def test_none_neither_stems_nor_stops() -> None:
    plain = encoder("none")
    assert len(plain.query("the running of the").indices) == 3
    assert plain.query("running").indices != plain.query("run").indices
    assert encoder("english").query("the of").indices == []


def test_an_unknown_language_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"klingon.*english.*turkish"):
        Bm25Encoder("klingon")


@given(st.text())
def test_any_text_gives_ascending_distinct_positive_terms(text: str) -> None:
    terms = encoder("english").document(text)
    assert terms.indices == sorted(set(terms.indices))
    assert len(terms.indices) == len(terms.weights)
    assert all(0 <= index < 2**32 for index in terms.indices)
    assert all(0.0 < weight < 2.51 for weight in terms.weights)
    assert set(encoder("english").query(text).indices) == set(terms.indices)


@given(st.text())
def test_words_are_read_again_as_they_are(text: str) -> None:
    found = words(text)
    assert all(word and not any(map(str.isspace, word)) for word in found)
    assert words(" ".join(found)) == found


@pytest.mark.parametrize("unit", ["a", "a-", "1.", "§ ", "(", "a(b)", "x ", "東", "é", "+-"])
def test_linear_time(unit: str) -> None:
    started = time.process_time()
    encoder("english").document(unit * 100_000)
    assert time.process_time() - started < 5.0
