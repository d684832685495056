"""The walk: order, globs, links, special files, odd names; and reading without surprises."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longleaf.core.errors import NotFound, Rejected, RejectReason
from longleaf.indexer.sources import SourceFile, key_of, path_of, read_bytes, walk


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`tmp_path`/docs, resolved: keys are resolved paths."""
    made = (tmp_path / "docs").resolve()
    made.mkdir()
    return made


def fill(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def names(folder: Path, include: tuple[str, ...] = (), exclude: tuple[str, ...] = ()) -> list[str]:
    return [source.key.removeprefix(f"{folder}/") for source in walk([folder], include, exclude)]


def refusal(source: SourceFile, max_bytes: int = 100) -> Rejected:
    with pytest.raises(Rejected) as refused:
        read_bytes(source, max_bytes)
    return refused.value


def test_files_come_sorted_from_all_folders_without_hidden_ones(folder: Path) -> None:
    fill(folder, "b.txt", "a/z.txt", "a/b/c.md", "C.txt", ".hidden", ".git/config", "a/.x/y")
    assert names(folder) == ["C.txt", "a/b/c.md", "a/z.txt", "b.txt"]
    (source, *_) = walk([folder], (), ())
    status = (folder / "C.txt").stat()
    assert (source.path, source.size_bytes) == (folder / "C.txt", 5)
    assert (source.mtime_ns, source.problem) == (status.st_mtime_ns, "")
    assert read_bytes(source, 5) == b"C.txt"


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (("*.md",), (), ["a/b/c.md"]),
        (("*.MD", "z.*"), (), ["a/b/c.md", "a/z.txt"]),
        (("a/*",), (), ["a/b/c.md", "a/z.txt"]),
        (("./a/b/",), (), []),
        (("**/z.txt",), (), ["a/z.txt"]),
        (("**/t.txt",), (), ["t.txt"]),
        ((), ("b",), ["a/z.txt", "t.txt"]),
        ((), ("a/b/",), ["a/z.txt", "t.txt"]),
        ((), ("*.txt",), ["a/b/c.md"]),
        (("*.txt",), ("a",), ["t.txt"]),
        (("[z",), (), []),
    ],
)
def test_globs_match_names_and_paths(
    folder: Path, include: tuple[str, ...], exclude: tuple[str, ...], expected: list[str]
) -> None:
    fill(folder, "a/b/c.md", "a/z.txt", "t.txt")
    assert names(folder, include, exclude) == expected


def test_roots_may_be_files_may_overlap_and_must_exist(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder, "a/x.txt", "a/.named", "y.txt")
    monkeypatch.chdir(folder / "a")
    roots = [Path("x.txt"), Path(".named"), Path(), folder]
    keys = [source.key for source in walk(roots, (), ())]
    assert keys == [f"{folder}/a/x.txt", f"{folder}/a/.named", f"{folder}/y.txt"]
    with pytest.raises(NotFound, match="nowhere"):
        walk([folder, folder / "nowhere"], (), ())


def test_links_are_followed_inside_the_root_only(folder: Path, tmp_path: Path) -> None:
    fill(folder, "a/x.txt")
    fill(tmp_path, "secret.txt")
    (folder / "loop").symlink_to(folder)
    (folder / "circle").symlink_to(folder / "circle")
    (folder / "gone").symlink_to(folder / "missing")
    (folder / "inside.txt").symlink_to(folder / "a" / "x.txt")
    (folder / "outside.txt").symlink_to(tmp_path / "secret.txt")
    found = {source.key.removeprefix(f"{folder}/"): source for source in walk([folder], (), ())}
    assert list(found) == ["a/x.txt", "circle", "gone", "inside.txt", "outside.txt"]
    assert read_bytes(found["inside.txt"], 100) == b"a/x.txt"
    for name in ("circle", "gone", "outside.txt"):
        assert refusal(found[name]).reason == RejectReason.UNREADABLE
    assert "out of the folder" in refusal(found["outside.txt"]).message


def test_special_files_are_reported_and_never_opened(folder: Path) -> None:
    fill(folder, "x.txt")
    os.mkfifo(folder / "pipe.txt")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(folder / "socket"))
        found = {source.path.name: source for source in walk([folder], (), ())}
    assert "named pipe" in refusal(found["pipe.txt"]).message
    assert "socket" in refusal(found["socket"]).message
    (device,) = walk([Path("/dev/null")], (), ())
    assert "device" in refusal(device).message
    assert found["x.txt"].problem == ""


def test_what_changes_after_the_walk_is_refused_without_hanging(folder: Path) -> None:
    fill(folder, "a", "b", "c", "d")
    a, b, c, d = walk([folder], (), ())
    for source in (a, b, c):
        source.path.unlink()
    os.mkfifo(a.path)
    b.path.symlink_to(d.path)
    d.path.write_bytes(b"x" * 101)
    assert "named pipe" in refusal(a).message
    assert "symbolic link" in refusal(b).message
    assert "No such file" in refusal(c).message
    assert refusal(d).reason == RejectReason.TOO_LARGE
    assert len(read_bytes(d, 101)) == 101


def test_a_file_that_claims_to_be_empty_is_still_bounded() -> None:
    path = Path("/proc/self/environ")
    if not path.is_file():
        pytest.skip("no /proc on this machine")
    (source,) = walk([path], (), ())
    assert refusal(source, 2).reason == RejectReason.TOO_LARGE


def test_a_folder_that_cannot_be_listed_is_an_entry(folder: Path) -> None:
    fill(folder, "a.txt", "z.txt")
    # Permissions do not stop root, a path over PATH_MAX stops everybody.
    deep = os.open(folder, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=deep)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = below
    os.close(deep)
    found = list(walk([folder], (), ()))
    assert [source.path.name[:5] for source in found] == ["a.txt", "ddddd", "z.txt"]
    assert "too long" in refusal(found[1]).message


def test_a_name_that_is_no_unicode_has_a_key_that_leads_back(folder: Path) -> None:
    name = b"caf\xe9 \\ \xc3\xa9.txt"
    Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_text("x")
    (source,) = walk([folder], (), ())
    assert source.key == f"{folder}/caf\\xe9 \\\\ é.txt"
    assert path_of(source.key) == source.path
    assert read_bytes(source, 10) == b"x"


@given(st.binary().map(os.fsdecode) | st.text("\\x0f/é"))
def test_keys_are_unicode_and_lead_back(path: str) -> None:
    absolute = Path("/" + path)
    key = key_of(absolute)
    key.encode()
    assert path_of(key) == absolute


def test_a_path_that_no_catalog_can_keep_is_told_by_name(folder: Path) -> None:
    deep = "/".join(["d" * 250] * 8)
    fill(folder, "a.txt", f"{deep}/b.txt", f"{deep}/c.txt")
    first, *others = walk([folder], (), ())
    assert first.path.name == "a.txt" and not first.problem
    assert [each.path.name for each in others] == ["b.txt", "c.txt"]
    assert len({each.key for each in others}) == 2
    for each in others:
        assert len(each.key.encode()) <= 2_000 and each.key.startswith(f"{folder}/dddd")
        assert "bytes; up to 2,000 are taken" in str(refusal(each))
    assert [each.key for each in walk([folder], (), ())] == [first.key, *(e.key for e in others)]
