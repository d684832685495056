"""JSON Lines: our fields and BEIR's, bad lines among good ones, metadata that can be stored."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longleaf.core.errors import LongleafError, Rejected, RejectReason
from longleaf.core.types import Document, Rejection
from longleaf.indexer.parsers.jsonl import JsonlParser


def read(source: str | bytes, name: str = "corpus.jsonl") -> list[Document | Rejection]:
    data = source if isinstance(source, bytes) else source.encode()
    return list(JsonlParser().parse(data, name))


def one(source: str | bytes, name: str = "corpus.jsonl") -> Document:
    (document,) = read(source, name)
    assert isinstance(document, Document)
    return document


def test_beir_and_our_own_lines() -> None:
    first, second = read(
        '{"_id": "4983", "title": "On mice", "text": "Words."}\r\n\n'
        '{"key": 7, "contents": "More\\r\\nwords.", "metadata": {"year": 2020}, "court": "ca9"}\n'
    )
    assert first == Document("Words.", "On mice", key="4983")
    assert second == Document("More\nwords.", "", key="7", metadata={"court": "ca9", "year": 2020})


def test_bad_lines_are_named_and_the_rest_goes_on() -> None:
    found = read(
        b'{"_id": "a", "text": "one"}\n{"_id": "b"\n[1]\n{"_id": "c"}\n{"text": 5}\n'
        b'{"_id": "d", "text": "\xff"}\n{"_id": "a", "text": "again"}\n'
        + b'{"x":'
        * 100_000
        + b"\n"
        b'{"_id": "e", "text": " ", "title": ""}\n{"_id": "f", "text": "last"}'
    )
    assert [one.key if isinstance(one, Document) else (one.where, one.reason) for one in found] == [
        "a",
        ("line 2", RejectReason.MALFORMED),
        ("line 3", RejectReason.MALFORMED),
        ("line 4", RejectReason.MALFORMED),
        ("line 5", RejectReason.MALFORMED),
        ("line 6", RejectReason.MALFORMED),
        ("line 7", RejectReason.DUPLICATE_KEY),
        ("line 8", RejectReason.MALFORMED),
        ("line 9", RejectReason.MALFORMED),
        "f",
    ]
    details = [one.detail for one in found if isinstance(one, Rejection)]
    assert "list, not an object" in details[1]
    assert 'no "text"' in details[2]
    assert "UTF-8" in details[4]
    assert "'a'" in details[5]
    assert "too deep" in details[6]


def test_a_json_file_may_hold_one_object_or_an_array() -> None:
    pretty = json.dumps({"id": "x", "text": "Words."}, indent=2)
    assert one(pretty, "a.json").key == "x"
    array = json.dumps([{"id": "x", "text": "Words."}, 5, {"id": "y", "text": "More."}])
    found = read(array, "a.json")
    assert [type(outcome) for outcome in found] == [Document, Rejection, Document]
    assert isinstance(found[1], Rejection) and found[1].where == "item 2"
    assert len(read('{"text": "a"}\n{"text": "b"}\n', "lines.json")) == 2


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", RejectReason.EMPTY),
        (b"\n \n", RejectReason.EMPTY),
        (b"\xef\xbb\xbf", RejectReason.EMPTY),
        (bytes(range(256)) * 4, RejectReason.MALFORMED),
        (b"no json\n" * 3, RejectReason.MALFORMED),
        (b'{"name": "package"}', RejectReason.MALFORMED),
        (b"[]", RejectReason.MALFORMED),
        (b"[" * 100_000, RejectReason.MALFORMED),
        (b'{"x": 1}\n' * 5_000, RejectReason.MALFORMED),
    ],
)
def test_a_file_without_any_document_is_refused_as_a_whole(
    data: bytes, reason: RejectReason
) -> None:
    with pytest.raises(Rejected) as refusal:
        read(data, "a.json")
    assert refusal.value.reason == reason


def test_metadata_is_kept_when_it_can_be_stored_and_named_when_not() -> None:
    document = one(
        '{"text": "x", "n": 3, "f": 1.5, "t": true, "none": null, "date": "2020-01-01",'
        ' "tags": ["a", 2, false, null], "nan": NaN, "inf": -Infinity, "over": 1e999,'
        f' "huge": {10**30}, "digits": {"9" * 10_000}, "min": {-(2**63) - 1}, "big": {2**63 - 1},'
        ' "deep": {"a": 1}, "pairs": [["a"]], "metadata": {"n": 4, "who": "x\\u0000\\ud800y"}}'
    )
    assert dict(document.metadata) == {
        "n": 4,
        "f": 1.5,
        "t": True,
        "date": "2020-01-01",
        "tags": ("a", "2", "false"),
        "big": 2**63 - 1,
        "who": "x\ufffd\ufffdy",
    }
    (warning,) = document.warnings
    for name in ("nan", "inf", "over", "huge", "digits", "min", "deep", "pairs"):
        assert name in warning


def test_lone_surrogates_and_nuls_are_replaced_and_counted() -> None:
    document = one('{"text": "a\\ud800b\\u0000c \\ud83d\\ude00", "title": "\\udc00t"}')
    assert (document.text, document.title) == ("a\ufffdb\ufffdc 😀", "\ufffdt")
    assert document.warnings == (
        "text: 2 unreadable characters replaced by U+FFFD",
        "title: 1 unreadable characters replaced by U+FFFD",
    )


def test_a_title_stands_for_missing_words() -> None:
    document = one('{"_id": "1", "title": "Only a title", "text": ""}')
    assert document.text == "Only a title"
    assert document.warnings


def test_a_document_without_an_id_is_named_by_its_content() -> None:
    first, second = read('{"text": "a"}\n{"text": "b"}\n')
    again = one('{"text": "b", "year": 1}')
    assert isinstance(first, Document) and isinstance(second, Document)
    assert first.key != second.key == again.key
    assert second.key is not None and second.key.startswith("sha256:")


def test_long_texts_have_sections() -> None:
    text = "ARTICLE I\n\nSome words.\n\n" + "More words. " * 400
    (section,) = one(json.dumps({"text": text})).sections
    assert section.title == "ARTICLE I"


def test_other_encodings_of_the_file() -> None:
    line = '{"_id": "ä", "text": "größer"}'
    for encoding in ("utf-8-sig", "utf-16", "utf-16-le", "utf-32"):
        assert one(line.encode(encoding)).key == "ä"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
_OBJECT = st.dictionaries(
    st.sampled_from(["_id", "id", "text", "contents", "title", "metadata", "n"]), _JSON
)


@given(st.lists(_OBJECT | _JSON, min_size=1, max_size=4))
def test_whatever_the_lines_hold_comes_out_storable(values: list[object]) -> None:
    try:
        found = read("\n".join(json.dumps(value) for value in values))
    except LongleafError:
        return
    keys = [outcome.key for outcome in found if isinstance(outcome, Document)]
    assert len(keys) == len(set(keys)) and all(keys)
    for outcome in found:
        if isinstance(outcome, Rejection):
            assert outcome.where.startswith("line ")
            continue
        assert outcome.text.strip()
        json.dumps(dict(outcome.metadata), allow_nan=False, ensure_ascii=False).encode()
        for value in outcome.metadata.values():
            assert not isinstance(value, float) or math.isfinite(value)
            assert not isinstance(value, int) or abs(value) < 2**63
