"""The query language: golden queries, and that nothing typed is ever lost or refused."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longleaf.core.filters import And, Eq, Filter, In, Not, Or, Prefix, Range, matches
from longleaf.retriever.query import parse_query, pieces_of

FIELDS = frozenset({"year", "type", "title", "date", "court", "key", "judge.name"})


@pytest.mark.parametrize(
    "text",
    [
        "Re: contract",
        "http://example.org/a?b=c",
        "10:30",
        "note:abc",
        "Year:2020",
        "year: 2020",
        "year:",
        "year:..",
        "year:>=soon",
        "year:>=2020-13-45",
        "year:---",
        'title:"unclosed',
        '"unclosed',
        '"" "!!!" -"…"',
        "a - b",
        "--force",
        "-5 °C",
        "-",
        '5" pipe 6" valve',
        "(year:2020)",
        "1:21-cv-01234-ABC",
        "No. 19-1392",
        "§ 12(b)(iii)",
        "42 U.S.C. § 1983",
        "10.1371/journal.pbio.0020188",
        "IL-6 COVID-19 TNF-α p53",
        "ISO/IEC 27001:2013",
        "C++ non-compete",
        "東京都の会議",
    ],
)
def test_plain_text(text: str) -> None:
    parsed = parse_query(text, FIELDS)
    assert (parsed.text, parsed.phrases, parsed.excluded, parsed.where) == (text, (), (), None)
    assert parsed.original == text


@pytest.mark.parametrize(
    ("query", "text", "phrases", "excluded"),
    [
        ('"act of God" flood', "act of God flood", ("act of God",), ()),
        ("“act of God” „low“ «x»", "act of God low x", ("act of God", "low", "x"), ()),
        ('"a""b"', "a b", ("a", "b"), ()),
        ('say:"act of God"', "say: act of God", ("act of God",), ()),
        ('5"x "y z"', '5"x y z', ("y z",), ()),
        ("merger -tax", "merger", (), ("tax",)),
        ('merger -"due date" -non-compete', "merger", (), ("due date", "non-compete")),
        ("-tax", "", (), ("tax",)),
        ('-"5 mg"', "", (), ("5 mg",)),
        ('"12(b)(iii)"', "12(b)(iii)", ("12(b)(iii)",), ()),
        ("a\ud800b", "a\ufffdb", (), ()),
    ],
)
def test_phrases_and_exclusions(
    query: str, text: str, phrases: tuple[str, ...], excluded: tuple[str, ...]
) -> None:
    parsed = parse_query(query, FIELDS)
    assert (parsed.text, parsed.phrases, parsed.excluded) == (text, phrases, excluded)
    assert parsed.where is None


def years(**bounds: int) -> Filter:
    spelled = {name: str(year) for name, year in bounds.items()}
    return Or((Range("year", **bounds), Range("year", **spelled)))


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("type:pdf", Eq("type", "pdf")),
        ("type:pdf,html", In("type", ("pdf", "html"))),
        ("type:pdf,", Eq("type", "pdf")),
        ('court:"9th cir.",ca9', In("court", ("9th cir.", "ca9"))),
        ("court:“9th cir.”", Eq("court", "9th cir.")),
        ("judge.name:Hand", Eq("judge.name", "Hand")),
        ("-type:pdf", Not(Eq("type", "pdf"))),
        ("court:ca*", Prefix("court", "ca")),
        ('court:"ca*"', Eq("court", "ca*")),
        ("court:*", Prefix("court", "")),
        ("court:ca*,scotus", Or((Prefix("court", "ca"), Eq("court", "scotus")))),
        ("year:2019..2022", years(gte=2019, lte=2022)),
        ("year:2019..", years(gte=2019)),
        ("year:..2022", years(lte=2022)),
        ("year:>=2020", years(gte=2020)),
        ("year:<2020", years(lt=2020)),
        ("year:-5..5.5", Range("year", gte=-5, lte=5.5)),
        ("date:2019-03..2022-01-31", Range("date", gte="2019-03", lte="2022-01-31")),
        ("date:>2020-03-01", Range("date", gt="2020-03-01")),
        ("date:2019..2022-03", Range("date", gte="2019", lte="2022-03")),
        ("date:2020-03", Or((Eq("date", "2020-03"), Range("date", gte="2020-03", lte="2020-03")))),
        ("year:3.50", In("year", ("3.50", 3.5))),
        ("key:a..b", Eq("key", "a..b")),
        ("key:2020", Eq("key", "2020")),
        ("key:http://x/y", Eq("key", "http://x/y")),
        ("type:pdf court:ca9", And((Eq("type", "pdf"), Eq("court", "ca9")))),
    ],
)
def test_filters(query: str, where: Filter) -> None:
    parsed = parse_query(query, FIELDS)
    assert (parsed.text, parsed.where) == ("", where)
    parsed = parse_query(f"before {query} after", FIELDS)
    assert (parsed.text, parsed.where) == ("before after", where)


def test_a_year_means_numbers_and_dates_alike() -> None:
    where = parse_query("year:2020", FIELDS).where
    assert where is not None
    for value in (2020, 2020.0, "2020", "2020-06-30", "2020-12-31T23:59:59Z"):
        assert matches(where, {"year": value}), value
    for value in (2021, "2021-01-01", "12020", True):
        assert not matches(where, {"year": value}), value


def test_without_known_fields_nothing_filters() -> None:
    assert parse_query("year:2020 -type:pdf", ()).where is None


tricky = st.lists(
    st.sampled_from([*'"“”«-:.,*<>=() \t\n§a5é東', "year:", "type:", "2020", "..", "word "])
    | st.characters()
).map("".join)


@given(tricky)
def test_every_string_parses_and_no_character_is_lost(text: str) -> None:
    parsed = parse_query(text, FIELDS)
    readable = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    pieces = list(pieces_of(readable, FIELDS))
    assert "".join(piece.source for piece in pieces) == readable
    for piece in pieces:
        if isinstance(piece.content, str):
            assert piece.content in piece.source
        if piece.kind in ("text", "phrase"):
            assert isinstance(piece.content, str)
            assert " ".join(piece.content.split()) in parsed.text or not piece.content.strip()
    for phrase in parsed.phrases:
        assert " ".join(phrase.split()) in parsed.text
    assert (parsed.where is None) == all(piece.kind != "filter" for piece in pieces)
    parsed.text.encode("utf-8")


@given(st.text(st.characters(exclude_characters='-:"“”„‟«»', exclude_categories=["Cs"])))
def test_text_without_operators_stays_as_it_is(text: str) -> None:
    parsed = parse_query(text, FIELDS)
    assert parsed.text == " ".join(text.split())
    assert (parsed.phrases, parsed.excluded, parsed.where) == ((), (), None)


@pytest.mark.parametrize("unit", ['"', '-"', "year:", '"!" ', "a", ":", "- ", "type:a,", "“a "])
def test_very_long_queries_take_linear_time(unit: str) -> None:
    started = time.process_time()
    parse_query(unit * 100_000, FIELDS)
    assert time.process_time() - started < 3.0
