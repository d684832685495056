"""Exports that somebody has made or changed with intent: refused, by name, and without harm."""

from __future__ import annotations

import base64
import io
import json
import math
import os
import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.api.test_transfer import assert_whole, export, fates, home, import_, template

from longleaf.api.transfer import form
from longleaf.api.transfer.fates import Fate
from longleaf.core.catalog import Catalog
from longleaf.core.errors import Conflict, InvalidRequest, NotFound
from longleaf.core.types import Scope
from longleaf.indexer.again import spec_again

__all__ = ["home", "template"]


def tar_of(*added: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:", format=tarfile.PAX_FORMAT) as tar:
        for info, data in added:
            info.size = info.size or len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def _info(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> Any:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


HEADER = json.dumps(
    {"format": "longleaf-export", "version": 1, "longleaf": "0", "created_at": 1.0, "vectors": None}
).encode()


@pytest.mark.parametrize(
    "member",
    [
        (_info("../evil"), b"x"),
        (_info("/etc/passwd"), b"x"),
        (_info("originals/ab/../../../evil"), b"x"),
        (_info("originals/ab/" + "c" * 62, tarfile.SYMTYPE, "/etc/passwd"), b""),
        (_info("originals/ab/" + "c" * 62, tarfile.LNKTYPE, "export.json"), b""),
        (_info("parts/000001/contents.jsonl", tarfile.FIFOTYPE), b""),
        (_info("parts/000001/contents.jsonl", tarfile.CHRTYPE), b""),
        (_info("export.json"), HEADER),  # twice
        (_info("parts/1/contents.jsonl"), b""),
        (_info("notes.txt"), b"x"),
        (_info("end.json"), b"{" * 2_000_000),
        (_info("collections.jsonl"), b"[" * 100_000 + b"\n"),
        (_info("collections.jsonl"), b'{"name": "../x"}\n'),
        (_info("collections.jsonl"), b"no end of the line"),
    ],
)
def test_members_that_do_not_belong_are_refused(
    tmp_path: Path, member: tuple[tarfile.TarInfo, bytes]
) -> None:
    (tmp_path / "export.tar").write_bytes(tar_of((_info("export.json"), HEADER), member))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InvalidRequest):
        import_(tmp_path / "export.tar", tmp_path / "new")
    made = set(tmp_path.rglob("*")) - set(before)
    assert all(path.is_relative_to(tmp_path / "new") for path in made)
    assert not list((tmp_path / "new" / "originals").glob("*/*"))


def test_a_header_that_asks_for_much_costs_little(tmp_path: Path) -> None:
    """A pax header's length is read before its content: 8 GiB must not be reserved for it."""
    block = bytearray(tar_of((_info("export.json"), HEADER))[:512])
    block[124:136] = b"77777777777\0"
    block[156:157] = b"x"
    block[148:156] = b"        "
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    with (tmp_path / "export.tar").open("wb") as file:
        file.write(block)
        file.truncate(9 * 1024**3)
    with pytest.raises(InvalidRequest):
        import_(tmp_path / "export.tar", tmp_path / "new")


@pytest.mark.parametrize("data", [b"", b"\x1f\x8b" + b"x" * 2000, b"x" * 4096])
def test_files_that_are_no_archive_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "export.tar").write_bytes(data)
    with pytest.raises(InvalidRequest):
        import_(tmp_path / "export.tar", tmp_path / "new")
    with pytest.raises(NotFound):
        import_(tmp_path / "nothing.tar", tmp_path / "new")


@pytest.mark.parametrize("part", ["originals/??/*", "parts/000001/documents.jsonl", "originals"])
def test_links_in_a_folder_are_refused(home: Path, tmp_path: Path, part: str) -> None:
    export(home, tmp_path / "export", vectors=True)
    path = next((tmp_path / "export").glob(part))
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InvalidRequest):
        import_(tmp_path / "export", tmp_path / "new")


def test_a_pipe_in_a_folder_is_refused(home: Path, tmp_path: Path) -> None:
    export(home, tmp_path / "export", vectors=True)
    path = tmp_path / "export" / "parts/000001/vectors.bin"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InvalidRequest):
        import_(tmp_path / "export", tmp_path / "new")


def _layout(runs: int = 1, pages: int = 1, body: bytes | None = None) -> str:
    whole = struct.pack("<7i", 0, 3, 1, 0, 0, 10, 10) * runs + struct.pack("<2f", 1, 1) * pages
    data = struct.pack("<4sII", b"LLL1", runs, pages) + zlib.compress(
        whole if body is None else body
    )
    return base64.b64encode(data).decode()


TEXTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another text": lambda line: line.update(text=line["text"] + "x"),
    "a page outside": lambda line: line.update(pages=[[1, 0, 10**9]]),
    "a page that ends before it begins": lambda line: line.update(pages=[[1, 5, 2]]),
    "pages in no order": lambda line: line.update(pages=[[1, 5, 9], [2, 0, 5]]),
    "a section outside": lambda line: line.update(sections=[["x", 1, 0, 10**9]]),
    "regions that overlap": lambda line: line.update(
        regions=[["footnote", 0, 5], ["footnote", 4, 6]]
    ),
    "an unknown role": lambda line: line.update(regions=[["boss", 0, 5]]),
    "a layout beside the text": lambda line: line.update(
        layout=_layout(body=struct.pack("<7i2f", 0, 9**9, 1, 0, 0, 1, 1, 1, 1))
    ),
    "a layout bomb": lambda line: line.update(layout=_layout(body=bytes(50_000_000))),
    "a layout of many runs": lambda line: line.update(layout=_layout(runs=100_000)),
    "no base64": lambda line: line.update(layout="%%%"),
    "a passage outside": lambda line: line["passages"][0].update(end_char=10**9),
    "an empty passage": lambda line: line["passages"][0].update(end_char=0),
    "passages in no order": lambda line: line["passages"].reverse(),
    "much overlap": lambda line: line["passages"][0].update(overlap_chars=10**6),
    "half of a page range": lambda line: line["passages"][0].update(last_page=None),
    "a passage of an unknown role": lambda line: line["passages"][0].update(role="boss"),
    "another checksum": lambda line: line["passages"][0].update(vector_crc32=1),
    "more title than tokens": lambda line: line["passages"][0].update(prefix_tokens=60_000),
    "white space": lambda line: line.update(text=" "),
}


@pytest.mark.parametrize("what", TEXTS)
def test_a_text_that_makes_no_sense_is_refused_and_the_others_come_in(
    home: Path, tmp_path: Path, what: str
) -> None:
    export(home, tmp_path / "export", vectors=True)
    path = tmp_path / "export" / "parts/000001/contents.jsonl"
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    [at] = [number for number, line in enumerate(lines) if line["title"] == "Lease"]
    TEXTS[what](lines[at])
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    told, _ = import_(tmp_path / "export", tmp_path / "new")
    assert fates(told) == {"refused": 2, "added": 2}
    assert all(each.detail for each in told if each.fate is Fate.REFUSED)
    assert_whole(tmp_path / "new")


LINES: dict[str, tuple[str, Callable[[dict[str, Any]], Any]]] = {
    "a bad hash": ("contents", lambda line: line.update(digest="../x")),
    "a negative offset": ("contents", lambda line: line.update(pages=[[1, -1, 2]])),
    "an enormous offset": ("contents", lambda line: line.update(pages=[[1, 0, 2**70]])),
    "a text that is a number": ("contents", lambda line: line.update(text=5)),
    "an unknown field": ("contents", lambda line: line.update(surprise=1)),
    "tokens beyond the file": (
        "contents",
        lambda line: line["passages"] and line["passages"][0].update(tokens=2**31 - 1),
    ),
    "fewer tokens than there are bytes": (
        "contents",
        lambda line: line["passages"] and line["passages"][0].update(tokens=0),
    ),
    "metadata that is an object": ("documents", lambda line: line.update(metadata={"a": {}})),
    "metadata that is no number": (
        "documents",
        lambda line: line.update(metadata={"a": math.nan}),
    ),
    "an empty key": ("documents", lambda line: line.update(key="")),
    "half a surrogate": ("documents", lambda line: line.update(key="\ud800")),
    "a collection with a slash": ("documents", lambda line: line.update(collection="a/b")),
    "an original that is a path": ("documents", lambda line: line.update(original="../../x")),
}


@pytest.mark.parametrize("what", LINES)
def test_a_line_of_another_form_ends_the_import_and_says_where(
    home: Path, tmp_path: Path, what: str
) -> None:
    export(home, tmp_path / "export", vectors=True)
    name, change = LINES[what]
    path = tmp_path / "export" / f"parts/000001/{name}.jsonl"
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    for line in lines:
        change(line)
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    with pytest.raises(InvalidRequest, match=r"parts/000001/"):
        import_(tmp_path / "export", tmp_path / "new")


def test_documents_that_lack_something_are_refused_one_by_one(home: Path, tmp_path: Path) -> None:
    export(home, tmp_path / "export", vectors=True)
    path = tmp_path / "export" / "parts/000001/documents.jsonl"
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    lines[0]["content"] = "ab" * 32
    lines[1]["collection"] = "unnamed"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    told, _ = import_(tmp_path / "export", tmp_path / "new")
    assert fates(told) == {"refused": 2, "added": 2}


@pytest.mark.parametrize("forged", ["documents alone", "sources too", "a folder"])
def test_a_path_that_an_export_names_is_never_opened(
    home: Path, tmp_path: Path, forged: str
) -> None:
    """Whoever may write there could have it read again, and any file of the machine with it."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/file.txt").write_text("The secret of somebody else.")
    named = tmp_path / "secret" if forged == "a folder" else tmp_path / "secret/file.txt"
    export(home, tmp_path / "export", vectors=True)
    part = tmp_path / "export/parts/000001"
    changes = {"documents": {"source_key": str(named), "original": None}}
    if forged != "documents alone":
        changes["sources"] = {"key": str(named), "document_count": 1, "ingest_version": "1:x"}
    for name, change in changes.items():
        path = next(part.glob(f"{name}.jsonl"), tmp_path / f"export/{name}.jsonl")
        lines = [json.loads(line) for line in path.read_bytes().splitlines()]
        lines[0] |= change
        path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    told, _ = import_(tmp_path / "export", tmp_path / "new")
    assert fates(told) == {"added": 4}
    catalog = Catalog(tmp_path / "new")
    files = {head.key: (catalog.file_of(head), head) for head in catalog.documents(Scope.all())}
    [head] = [head for file, head in files.values() if file is not None and file.key == str(named)]
    with pytest.raises(Conflict, match="Only an import says"):
        spec_again(catalog, head)
    for file, each in files.values():
        if file is not None and each is not head:
            with pytest.raises(Conflict):
                spec_again(catalog, each)
    catalog.close()
    # What is exported again is what came in, so a mark does not grow.
    export(tmp_path / "new", tmp_path / "second", vectors=True)
    assert "imported:" not in (tmp_path / "second/sources.jsonl").read_text()


def test_an_original_that_is_not_what_its_name_says_stays_out(home: Path, tmp_path: Path) -> None:
    export(home, tmp_path / "export", vectors=True)
    next((tmp_path / "export" / "originals").glob("??/*")).write_bytes(b"evil")
    told, summary = import_(tmp_path / "export", tmp_path / "new")
    assert fates(told) == {"added": 4}
    assert [each.detail for each in told if each.detail] == ["without its original"] * 2
    assert "not what its name says" in summary.problems[0]
    assert list((tmp_path / "new" / "originals").glob("??/*")) == []


def test_an_export_that_is_not_whole_is_told(home: Path, tmp_path: Path) -> None:
    export(home, tmp_path / "export", vectors=True)
    path = tmp_path / "export" / "parts/000001/documents.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))
    with pytest.raises(InvalidRequest, match="3 of 4 documents"):
        import_(tmp_path / "export", tmp_path / "new")
    (tmp_path / "export" / form.END).unlink()
    with pytest.raises(InvalidRequest, match=r"no end\.json"):
        import_(tmp_path / "export", tmp_path / "new")
