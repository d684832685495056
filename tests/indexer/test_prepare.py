"""What a file's documents are called and what is said of them, whoever said it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from email.message import EmailMessage

import pytest

from longleaf.core.protocols import Chunker
from longleaf.core.types import MetaValue
from longleaf.indexer.parsers.here import ReadHere
from longleaf.indexer.prepare import FileFailure, Labels, Prepared, prepare_file
from longleaf.indexer.sidecars import NO_SIDECAR, Sidecar


def prepare(
    chunker: Chunker,
    name: str,
    data: bytes,
    meta: Mapping[str, MetaValue] | None = None,
    sidecar: Sidecar = NO_SIDECAR,
) -> list[Prepared]:
    found = list(
        prepare_file(
            ReadHere().open(data, name),
            name,
            name,
            chunker=chunker,
            labels=Labels(metadata=meta or {}),
            bm25_language="english",
            model_languages=None,
            known=lambda _digest: False,
            sidecar=sidecar,
        )
    )
    return [each for each in found if isinstance(each, Prepared)]


def mail(**attached: bytes) -> bytes:
    made = EmailMessage()
    made["From"], made["Subject"] = "ada@example.com", "The offer"
    made.set_content("See what is attached.")
    for name, data in attached.items():
        made.add_attachment(
            data,
            maintype="application",
            subtype="octet-stream",
            filename=name.replace("_", "."),
        )
    return bytes(made)


# --- titles --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stated", "title"),
    [
        ("The  Lease\nof Elm", "The Lease of Elm"),
        (2019, "2019"),
        (("Lease", "Deed"), "Lease; Deed"),
        ("", "Own words"),
        ("x " * 1_000, "x " * 248 + "x…"),
    ],
)
def test_a_title_from_flags_names_the_document(
    chunker: Chunker, stated: MetaValue, title: str
) -> None:
    [found] = prepare(chunker, "a.txt", b"Own words", {"Title": stated, "court": "ca9"})
    assert found.document.title == title
    assert dict(found.metadata) == {"court": "ca9"}


def test_a_title_from_flags_outweighs_the_sidecars_and_that_the_files(chunker: Chunker) -> None:
    beside = Sidecar({"court": "ca1"}, "From the sidecar")
    [neither] = prepare(chunker, "a.md", b"# Own\n\nwords")
    [sidecar] = prepare(chunker, "a.md", b"# Own\n\nwords", sidecar=beside)
    assert [neither.document.title, sidecar.document.title] == ["Own", "From the sidecar"]
    [both] = prepare(chunker, "a.md", b"# Own\n\nwords", {"title": "Flag", "court": "ca9"}, beside)
    assert both.document.title == "Flag" and both.metadata["court"] == "ca9"


def test_documents_inside_a_file_keep_their_titles(chunker: Chunker) -> None:
    data = mail(deed_txt=b"The deed itself")
    assert [each.document.title for each in prepare(chunker, "a.eml", data, {"title": "T"})] == [
        "T",
        "The deed itself",
    ]
    lines = json.dumps({"_id": "k", "title": "Own", "text": "words"}).encode()
    [line] = prepare(chunker, "a.jsonl", lines, {"title": "T"})
    assert line.document.title == "Own" and dict(line.metadata) == {}


# --- names that no catalog can keep -----------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"_id": "k" * 2001}, "key: 'kkkk"),
        ({"_id": "k", "metadata": {"f" * 2001: 1}}, "metadata field: 'ffff"),
    ],
)
def test_a_name_that_is_too_long_keeps_only_its_document_out(
    chunker: Chunker, line: dict[str, object], said: str
) -> None:
    lines = [{"_id": "a", "text": "words"}, {"text": "others", **line}, {"_id": "b", "text": "c"}]
    data = "\n".join(map(json.dumps, lines)).encode()
    found = list(
        prepare_file(
            ReadHere().open(data, "a.jsonl"),
            "a.jsonl",
            "a.jsonl",
            chunker=chunker,
            labels=Labels(),
            bm25_language="english",
            model_languages=None,
            known=lambda _digest: False,
        )
    )
    assert [each.key for each in found if isinstance(each, Prepared)] == ["a", "b"]
    [failure] = [each for each in found if isinstance(each, FileFailure)]
    assert failure.reason == "malformed" and failure.where
    assert said in failure.detail and "up to 2,000 are taken" in failure.detail


# --- media types ---------------------------------------------------------------------------------


def test_a_part_has_its_own_media_type(chunker: Chunker) -> None:
    inner = mail(note_html=b"<p>A note inside")
    data = mail(
        deed_txt=b"The deed itself",
        noted=b"<!doctype html><p>An unnamed page",
        data_jsonl=b'{"_id": "k", "text": "one line"}',
        fwd_eml=inner,
    )
    found = prepare(chunker, "a.eml", data)
    assert {each.key: each.media_type for each in found} == {
        "a.eml": "message/rfc822",
        "a.eml!/deed.txt": "text/plain",
        "a.eml!/noted.bin": "text/html",
        "a.eml!/data.jsonl!/k": "application/jsonl",
        "a.eml!/fwd.eml": "message/rfc822",
        "a.eml!/fwd.eml!/note.html": "text/html",
    }
    box = prepare(chunker, "a.mbox", b"From ada Tue Mar  3 10:11:12 2020\n" + inner)
    assert {each.key: each.media_type for each in box} == {
        "a.mbox!/1": "message/rfc822",
        "a.mbox!/1!/note.html": "text/html",
    }
