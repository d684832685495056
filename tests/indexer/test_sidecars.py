# ruff: noqa: E501 - tables read better unbroken
"""Sidecars: what they may say, whom they describe, what is wrong with them, and that nothing hangs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from longleaf.indexer import sidecar_table, sidecars
from longleaf.indexer.sidecars import NO_SIDECAR, Sidecars


def write(folder: Path, **files: object) -> None:
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")


# --- JSON ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["contract.pdf.json", "contract.json"])
def test_an_object_beside_a_file_is_its_metadata(tmp_path: Path, name: str) -> None:
    write(tmp_path, contract_pdf="x", other_pdf="x")
    stated = {
        "title": "The  Lease",
        "court": "Supreme Court",
        "year": 2019,
        "signed": True,
        "fee": 1.5,
        "parties": ["Acme", "Bo", None, 3],
        "nothing": None,
    }
    (tmp_path / name).write_text(json.dumps(stated))
    found = Sidecars().for_file(tmp_path / "contract.pdf")
    assert found.title == "The Lease"
    assert dict(found.metadata) == {
        "court": "Supreme Court",
        "year": 2019,
        "signed": True,
        "fee": 1.5,
        "parties": ("Acme", "Bo", "3"),
    }
    assert found.warnings == () and found.fingerprint
    assert Sidecars().for_file(tmp_path / "other.pdf") == NO_SIDECAR
    assert Sidecars().is_sidecar(tmp_path / name)
    assert not Sidecars().is_sidecar(tmp_path / "contract.pdf")


def test_the_full_name_outweighs_the_stem_and_that_the_table(tmp_path: Path) -> None:
    write(
        tmp_path,
        contract_pdf="x",
        contract_pdf_json={"a": "full"},
        contract_json={"a": "stem", "b": "stem", "title": "Stem"},
        metadata_csv="file,a,b,c,title\ncontract.pdf,row,row,row,Row\n",
    )
    found = Sidecars().for_file(tmp_path / "contract.pdf")
    assert dict(found.metadata) == {"a": "full", "b": "stem", "c": "row"}
    assert found.title == "Stem"


def test_json_that_is_a_document_is_no_sidecar(tmp_path: Path) -> None:
    write(
        tmp_path,
        a_md="x",
        a_json={"text": "A document", "court": "x"},
        b_md="x",
        b_json=[{"text": "one"}],
        c_md="x",
        c_json='{"text": "one"}\n{"text": "two"}\n',
        alone_json={"court": "x"},
    )
    found = Sidecars()
    for name in "abc":
        assert not found.is_sidecar(tmp_path / f"{name}.json")
        assert found.for_file(tmp_path / f"{name}.md") == NO_SIDECAR
    assert not found.is_sidecar(tmp_path / "alone.json")
    assert found.for_file(tmp_path / "alone.json") == NO_SIDECAR


def test_access_is_not_for_a_sidecar_to_set(tmp_path: Path) -> None:
    write(
        tmp_path, a_txt="x", a_txt_json={"groups": ["all"], "Key": "k", "collection": "c", "b": 1}
    )
    found = Sidecars().for_file(tmp_path / "a.txt")
    assert dict(found.metadata) == {"b": 1}
    assert found.warnings == ("a.txt.json: a sidecar cannot set Key, collection, groups",)


@pytest.mark.parametrize(
    ("content", "warning"),
    [
        ("{", "not valid JSON"),
        ("[1]", "a JSON list, not an object"),
        ('"x"', "a JSON str, not an object"),
        ("", "is empty"),
        ("[" * 100_000, "too deep"),
        ('{"a": {"b": 1}}', "left out, because nested"),
        ('{"a": [[1]]}', "left out, because nested"),
        ('{"a": ' + "9" * 30 + "}", "left out"),
        ('{"a": "' + "x" * 20_000 + '"}', "left out"),
        ('{"a": NaN}', "left out"),
        ("x" * (sidecars.MAX_SIDECAR_BYTES + 1), "the limit is"),
    ],
)
def test_what_is_wrong_is_a_warning(tmp_path: Path, content: str, warning: str) -> None:
    write(tmp_path, a_txt="x")
    (tmp_path / "a.txt.json").write_text(content)
    found = Sidecars().for_file(tmp_path / "a.txt")
    assert warning in found.warnings[0]
    assert dict(found.metadata) == {} and found.fingerprint
    assert Sidecars().is_sidecar(tmp_path / "a.txt.json")


def test_a_broken_file_with_the_stem_is_taken_for_a_sidecar(tmp_path: Path) -> None:
    write(tmp_path, a_txt="x", a_json='{"court": ')
    assert "not valid JSON" in Sidecars().for_file(tmp_path / "a.txt").warnings[0]
    assert Sidecars().is_sidecar(tmp_path / "a.json")


# --- metadata.csv --------------------------------------------------------------------------------


def test_a_table_describes_the_files_of_its_folder_and_below(tmp_path: Path) -> None:
    write(
        tmp_path,
        a_txt="x",
        sub__b_txt="x",
        metadata_csv='File;court;note\n./a.txt;"Supreme; Court";\nsub\\b.txt;Other;"two\nlines"\nc.txt;X;\n',
    )
    found = Sidecars([tmp_path])
    assert dict(found.for_file(tmp_path / "a.txt").metadata) == {"court": "Supreme; Court"}
    assert dict(found.for_file(tmp_path / "sub" / "b.txt").metadata) == {
        "court": "Other",
        "note": "two\nlines",
    }
    assert found.is_sidecar(tmp_path / "metadata.csv")
    # Without the root, what lies above the file's folder is nobody's business.
    assert Sidecars().for_file(tmp_path / "sub" / "b.txt") == NO_SIDECAR


def test_the_nearer_table_counts(tmp_path: Path) -> None:
    write(
        tmp_path,
        metadata_csv="file,a,b\nsub/x.txt,far,far\n",
        sub__metadata_csv="file,a\nx.txt,near\n",
        sub__x_txt="x",
    )
    found = Sidecars([tmp_path]).for_file(tmp_path / "sub" / "x.txt")
    assert dict(found.metadata) == {"a": "near", "b": "far"}


def test_names_are_compared_as_letters_not_as_bytes(tmp_path: Path) -> None:
    write(tmp_path, metadata_csv="filename\tcourt\nM\u00fcller.txt\tX\n")
    assert Sidecars().for_file(tmp_path / "Mu\u0308ller.txt").metadata["court"] == "X"
    (tmp_path / "metadata.csv").write_bytes(
        "filename,court\nM\u00fcller.txt,\u201cX\u201d\n".encode("cp1252")
    )
    assert Sidecars().for_file(tmp_path / "M\u00fcller.txt").metadata["court"] == "\u201cX\u201d"


def test_another_table_of_that_name_is_a_document(tmp_path: Path) -> None:
    write(tmp_path, a_txt="x", metadata_csv="year,fee\n2019,3\n")
    assert not Sidecars().is_sidecar(tmp_path / "metadata.csv")
    assert Sidecars().for_file(tmp_path / "a.txt") == NO_SIDECAR


def test_what_is_wrong_with_a_row_is_said_to_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = "file,a\nx.txt,1,2\ny.txt,1\ny.txt,2\nz.txt,3\n"
    write(tmp_path, metadata_csv=rows)
    found = Sidecars()
    assert "more cells" in found.for_file(tmp_path / "x.txt").warnings[0]
    again = found.for_file(tmp_path / "y.txt")
    assert "again in row 4" in again.warnings[0] and dict(again.metadata) == {"a": "2"}
    assert found.for_file(tmp_path / "z.txt").warnings == ()
    monkeypatch.setattr(sidecar_table, "_MAX_ROWS", 3)
    assert "first 3 rows" in Sidecars().for_file(tmp_path / "unnamed.txt").warnings[0]


def test_a_table_that_breaks_off_is_read_so_far(tmp_path: Path) -> None:
    write(tmp_path, a_txt="x", metadata_csv="file,a\na.txt,1\n" + "b.txt," + "x" * 20_000_000)
    found = Sidecars().for_file(tmp_path / "a.txt")
    assert dict(found.metadata) == {"a": "1"}
    assert "read to line" in found.warnings[0]


def test_rows_of_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    write(tmp_path, elsewhere__x_txt="x", in__sub__a_txt="x", in__b_txt="x")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "Mu\u0308ller.txt").write_text("x")
    there = "sub/a.txt,1\n./sub\\a.txt,1\nb.txt,1\nM\u00fcller.txt,1\n"
    table = tmp_path / "in" / "metadata.csv"
    table.write_text(f"file,n\n{there}")
    assert Sidecars().problem(table) == ""
    gone = "sub\nlink/x.txt\n../elsewhere/x.txt\nb.pdf\nno/such.txt\n/b.txt/c\n"
    table.write_text(f"file,n\n{there}{gone}")
    assert Sidecars().problem(table) == (
        "its rows for 6 files that are not there were not used: "
        "sub, link/x.txt, ../elsewhere/x.txt, b.pdf, no/such.txt, …"
    )
    assert Sidecars().problem(tmp_path / "in" / "b.txt") == ""


def test_what_is_wrong_with_a_table_reaches_files_without_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, a_txt="x", metadata_csv="file,n\nb.txt,1\nc.txt,1\n")
    assert Sidecars().fingerprint(tmp_path / "a.txt") == ""
    monkeypatch.setattr(sidecar_table, "_MAX_ROWS", 2)
    found = Sidecars().for_file(tmp_path / "a.txt")
    assert found.warnings == ("metadata.csv: only its first 2 rows were read",)
    assert found.fingerprint == Sidecars().fingerprint(tmp_path / "a.txt") != ""


# --- fingerprints, links, limits -----------------------------------------------------------------


def test_fingerprints_change_with_what_they_stand_for(tmp_path: Path) -> None:
    write(tmp_path, a_txt="x", b_txt="x", metadata_csv="file,n\na.txt,1\nb.txt,1\n")

    def marks() -> tuple[str, str]:
        found = Sidecars()
        for name in "ab":
            path = tmp_path / f"{name}.txt"
            assert found.fingerprint(path) == found.for_file(path).fingerprint
        return found.fingerprint(tmp_path / "a.txt"), found.fingerprint(tmp_path / "b.txt")

    first = marks()
    assert first == marks()
    write(tmp_path, metadata_csv="file,n\na.txt,1\nb.txt,2\n")
    second = marks()
    assert second[0] == first[0] and second[1] != first[1]
    write(tmp_path, a_txt_json={"n": 1})
    third = marks()
    assert third[0] != second[0] and third[1] == second[1]
    os.utime(tmp_path / "a.txt.json", ns=(1, 1))
    assert marks()[0] != third[0]
    (tmp_path / "a.txt.json").unlink()
    (tmp_path / "metadata.csv").unlink()
    assert marks() == ("", "")


def test_links_pipes_and_folders_are_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text('{"leak": 1}')
    folder = tmp_path / "docs"
    folder.mkdir()
    for name in ("a.txt", "b.txt", "c.txt"):
        (folder / name).write_text("x")
    (folder / "a.txt.json").symlink_to(secret)
    os.mkfifo(folder / "b.txt.json")
    (folder / "c.txt.json").mkdir()
    (folder / "metadata.csv").symlink_to(secret)
    found = Sidecars()
    for name in ("a.txt", "b.txt", "c.txt"):
        assert found.for_file(folder / name) == NO_SIDECAR
    assert not found.is_sidecar(folder / "metadata.csv")


def test_a_folder_that_is_not_there_has_no_sidecars(tmp_path: Path) -> None:
    assert Sidecars().for_file(tmp_path / "none" / "a.txt") == NO_SIDECAR
    assert not Sidecars().is_sidecar(tmp_path / "none" / "a.txt.json")


def test_folders_are_listed_once_and_not_kept_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[Path] = []
    real = sidecars._list

    def spied(path: Path) -> object:
        listed.append(path)
        return real(path)

    monkeypatch.setattr(sidecars, "_list", spied)
    found = Sidecars()
    for number in range(sidecars._MAX_FOLDERS + 10):
        for name in ("a.txt", "b.txt"):
            found.for_file(tmp_path / str(number) / name)
    assert len(listed) == sidecars._MAX_FOLDERS + 10
    assert len(found._folders) == sidecars._MAX_FOLDERS


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode()))
def test_any_bytes_in_a_sidecar_are_read_or_warned_of(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    folder = tmp_path_factory.mktemp("sidecar")
    (folder / "a.txt").write_text("x")
    (folder / "a.txt.json").write_bytes(data)
    (folder / "a.json").write_bytes(data)
    (folder / "metadata.csv").write_bytes(b"file,x\na.txt," + data)
    found = Sidecars().for_file(folder / "a.txt")
    assert (repr(dict(found.metadata)) + found.title + "".join(found.warnings)).encode()
    Sidecars().is_sidecar(folder / "a.json")
