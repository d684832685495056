"""What a file's documents are called and what is said of them, whoever said it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from email.message import EmailMessage

import pytest

from longleaf.core.protocols import Chunker
from longleaf.core.types import MetaValue
from longleaf.indexer.parsers.here import ReadHere
from longleaf.indexer.prepare import Labels, Prepared, prepare_file
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
