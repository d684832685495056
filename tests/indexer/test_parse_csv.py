"""CSV and TSV: rows as words with their columns' names, dialects, ragged rows, hostile files."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longleaf.core.errors import Rejected, RejectReason
from longleaf.core.types import Document
from longleaf.indexer.parsers import csv as csv_parser
from longleaf.indexer.parsers.csv import CsvParser


def read(source: str | bytes, name: str = "fees.csv") -> Document:
    data = source if isinstance(source, bytes) else source.encode()
    (document,) = CsvParser().parse(data, name)
    assert isinstance(document, Document)
    return document


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("Party,Fee\nAcme,10 EUR\nBeta,\n", "Party: Acme; Fee: 10 EUR\n\nParty: Beta"),
        ("Party\tFee\nAcme, Inc.\t10", "Party: Acme, Inc.; Fee: 10"),
        ("a;b;c\n1,5;2,5;3,5\n4,5;5,5;6,5", "a: 1,5; b: 2,5; c: 3,5\n\na: 4,5; b: 5,5; c: 6,5"),
        ("a|b\n1|2", "a: 1; b: 2"),
        ("sep=;\na;b\n1;2", "a: 1; b: 2"),
        ('a,b\n"one ""two""","x,y"', 'a: one "two"; b: x,y'),
        ('a,b\n1,"first\n\n  second"', "a: 1\nb: first\nsecond"),
        ("1,2\n3,4", "1; 2\n\n3; 4"),
        ("Acme,10\nBeta,20", "Acme; 10\n\nBeta; 20"),
        ("name\nAda\nBo", "name\n\nAda\n\nBo"),
        ("a,b", "a; b"),
        ("a,a\n1,2", "a; a\n\n1; 2"),
        ("id,note:\n1,---\n\n2,ok", "id: 1\n\nid: 2; note: ok"),
        ("\ufeffa,b\r\n1,2\r\n", "a: 1; b: 2"),
    ],
)
def test_rows_become_words(source: str, text: str) -> None:
    document = read(source)
    assert document.text == text
    assert document.title == "fees.csv" and document.warnings == ()


@pytest.mark.parametrize(
    ("source", "first"),
    [
        ("Smith,John\nDoe,Jane\nRoe,Rick\n", "Smith; John"),
        ("A-17,Smith\nA-18,Doe\n", "A-17; Smith"),
        ("ada@example.com,Ada\nbob@example.com,Bob\n", "ada@example.com; Ada"),
        ("jane_doe,admin\nrick_roe,guest\n", "jane_doe; admin"),
        ("red,round\nblue,square\n", "red; round"),
        ("契約,東京\n判決,大阪\n", "契約; 東京"),
    ],
)
def test_a_first_row_that_looks_like_the_others_is_one_and_that_is_said(
    source: str, first: str
) -> None:
    document = read(source)
    assert document.text.startswith(f"{first}\n\n") and ": " not in document.text
    (warning,) = document.warnings
    assert warning.startswith("its first row was not taken for names of columns")
    assert warning.endswith(first.replace(";", ","))


@pytest.mark.parametrize(
    ("source", "second"),
    [
        ("Name,City\nJane,Boston\n", "Name: Jane; City: Boston"),
        ("Family name,Given name\nDoe,Jane\n", "Family name: Doe; Given name: Jane"),
        ("surname,forename\nDoe,Jane\n", "surname: Doe; forename: Jane"),
        ("SELLER,BUYER\nAcme,Beta\n", "SELLER: Acme; BUYER: Beta"),
        ("Seller,Volume\nAcme,10 t\n", "Seller: Acme; Volume: 10 t"),
        ("Seller,Clause\nAcme,Pays on the first of each month\n",
         "Seller: Acme; Clause: Pays on the first of each month"),
        ("case_id,finding\nx,y\n", "case_id: x; finding: y"),
    ],
)  # fmt: skip
def test_a_first_row_that_names_columns_is_known_by_its_looks(source: str, second: str) -> None:
    document = read(source)
    assert document.text == second and document.warnings == ()


def test_a_long_row_has_a_line_for_each_cell() -> None:
    long = "word " * 150
    assert read(f"a,b\n1,{long}").text == f"a: 1\nb: {long.strip()}"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-8-sig", "cp1252"])
def test_encodings_are_told_as_for_all_text(encoding: str) -> None:
    source = "Straße,Gebühr\nMüllerstraße,10\nBäckergasse,20\nZum grünen Hügel,30\n"
    assert read(source.encode(encoding)).text.startswith("Straße: Müllerstraße; Gebühr: 10")


def test_ragged_rows_are_read_and_said() -> None:
    document = read("a,b\n1,2\n3\n4,5,6\n")
    assert document.text == "a: 1; b: 2\n\na: 3\n\na: 4; b: 5; 6"
    assert document.warnings == (
        "rows that have more or fewer cells than 2: 2 (the first on line 3)",
    )


def test_columns_that_never_say_anything_are_named() -> None:
    document = read("a,b,c\n1,,2\n3,-,4\n")
    assert document.text == "a: 1; c: 2\n\na: 3; c: 4"
    assert document.warnings == ("columns without any value: 1 (b)",)


def test_a_quote_that_nobody_closes_does_not_swallow_the_file() -> None:
    rows = "".join(f"{number},x\n" for number in range(5_000))
    document = read(f'a,b\n1,"ok"\n2,"open\n{rows}')
    assert document.text.startswith('a: 1; b: ok\n\na: 2; b: "open\n\na: 0; b: x\n\n')
    assert document.text.count("\n\n") == 5_001
    assert "line 3: a quote is never closed" in document.warnings[0]


def test_a_field_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_parser, "MAX_FIELD_CHARS", 1_000)
    quoted = '"' + "x\n" * 600
    assert "never closed" in read(f"a,b\n1,{quoted}").warnings[0]
    with pytest.raises(Rejected) as refusal:
        read("a,b\n1," + "x" * 2_000)
    assert refusal.value.reason is RejectReason.TOO_LARGE


def test_names_repeated_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_parser, "MAX_TEXT_CHARS", 10_000)
    head = ",".join(f"{'name' * 15}{at}" for at in range(9))
    with pytest.raises(Rejected) as refusal:
        read(head + "\nx" + ",y,z,x,y,z,x,y,z\nx" * 100)
    assert refusal.value.reason is RejectReason.EXPANDS


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", RejectReason.EMPTY),
        (b" \n\n", RejectReason.EMPTY),
        (b",,\n,,\n", RejectReason.EMPTY),
        (bytes(range(256)) * 4, RejectReason.MALFORMED),
        (b"a,b\n1,2\0\n" + b"3,4\n" * 50, RejectReason.MALFORMED),
    ],
)
def test_what_is_no_table_is_refused_by_name(data: bytes, reason: RejectReason) -> None:
    with pytest.raises(Rejected) as refusal:
        read(data)
    assert refusal.value.reason is reason and "fees.csv" in refusal.value.message


CELLS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=12)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=8),
    st.sampled_from(",;\t|"),
)
def test_every_word_of_a_table_is_in_its_text(rows: list[list[str]], delimiter: str) -> None:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\n")
    writer.writerow(["alpha", "beta", "gamma"])
    writer.writerows(rows)
    if not any(char.isalnum() for row in rows for cell in row for char in cell):
        with pytest.raises(Rejected, match="no words"):
            read(out.getvalue())
        return
    text = read(out.getvalue()).text
    for row in rows:
        for cell in row:
            if any(char.isalnum() for char in cell):
                assert all(word in text for word in cell.split()), (cell, text)


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from('ab1,;\t|"\n \\'), max_size=60))
def test_any_text_ends_by_name(source: str) -> None:
    try:
        document = read(source)
    except Rejected:
        return
    said = document.text + " ".join(document.warnings)
    assert {char for char in source if char.isalnum()} <= set(said)
