"""What comes back from a backup is what was there at one moment, or nothing at all."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.api.conftest import copy_home, sqlite_only
from tests.core.test_catalog import DIM, TOKEN_DIM, write
from typer.testing import CliRunner

from longleaf.api import backup as backups
from longleaf.api import restoring
from longleaf.api.backup import MANIFEST, back_up
from longleaf.api.cli.main import app as cli
from longleaf.api.restoring import restore
from longleaf.core.catalog import Catalog, Generation, orphans, snapshot
from longleaf.core.catalog.verify import Verifier, verify_file
from longleaf.core.errors import CatalogBroken, Conflict, NoSpace, NotFound
from longleaf.core.types import Scope

pytestmark = sqlite_only

FILE = "catalog.sqlite3"
EVERYONE = Scope.all()


def open_generation(catalog: Catalog) -> Generation:
    return catalog.open_generation("chunker", "embedder", "tiny", DIM, TOKEN_DIM)


def put(catalog: Catalog, generation: Generation, key: str, words: str = "rent is due") -> None:
    original = catalog.blobs.put(f"original of {key}: {words}".encode())
    text = f"The text of {key}: {words}. " * 20
    catalog.commit(generation, [write(key, text, original=original, metadata={"name": key})])


def delete(catalog: Catalog, key: str) -> None:
    [head] = [each for each in catalog.documents(EVERYONE, limit=10_000) if each.key == key]
    catalog.delete_document(head.public_id, EVERYONE)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    catalog = Catalog(folder)
    catalog.create_collection("law")
    generation = open_generation(catalog)
    for number in range(4):
        put(catalog, generation, f"k{number}")
    put(catalog, generation, "k0", "another version")
    delete(catalog, "k1")
    catalog.close()
    (folder / "longleaf.toml").write_text("[server]\nport = 9000\n")
    return folder


@pytest.fixture
def home(template: Path, tmp_path: Path) -> Path:
    return copy_home(template, tmp_path / "home")


def content(home: Path) -> dict[str, Any]:
    """Everything that a user put in, and proof that the rest checks out."""
    assert verify_file(home / FILE, deep=True).problems == ()
    catalog = Catalog(home)
    try:
        assert [each.problems for each in Verifier(catalog, deep=True).checks() if each.wrong] == []
        generation = catalog.live_generation()
        assert generation is not None
        found = {}
        for head in catalog.documents(EVERYONE, limit=10_000):
            passages = catalog.passages(head, generation, 0, 1000)
            codes, starts, _ = catalog.token_vectors([p.passage_id for p in passages], generation)
            found[head.key] = (
                head.public_id,
                head.revision,
                head.metadata,
                catalog.text(head).text,
                catalog.blobs.get(head.original or ""),
                [(p.start_char, p.end_char) for p in passages],
                codes.tobytes(),
                starts.tolist(),
            )
        return found
    finally:
        catalog.close()


def epoch(home: Path) -> str:
    catalog = Catalog(home)
    found = catalog.epoch()
    catalog.close()
    return found


def test_a_data_folder_comes_back_whole(home: Path, tmp_path: Path) -> None:
    before = content(home)
    done = back_up(home, tmp_path / "backup")
    assert (done.rounds, done.manifest.documents, done.manifest.problems) == (1, 3, [])
    assert {each.name for each in (tmp_path / "backup").iterdir()} == {
        FILE, MANIFEST, "originals", "token-vectors", "longleaf.toml",
    }  # fmt: skip
    found = restore(tmp_path / "backup", tmp_path / "new")
    assert (found.documents, found.passages) == (3, done.manifest.passages)
    assert content(tmp_path / "new") == before
    assert epoch(tmp_path / "new") != epoch(home)
    assert (tmp_path / "new" / "longleaf.toml").read_text() == "[server]\nport = 9000\n"
    # And it goes on from there.
    catalog = Catalog(tmp_path / "new")
    put(catalog, open_generation(catalog), "k9")
    catalog.close()
    assert set(content(tmp_path / "new")) == {*before, "k9"}


def test_what_was_erased_is_in_no_later_backup(home: Path, tmp_path: Path) -> None:
    catalog = Catalog(home)
    put(catalog, open_generation(catalog), "secret", "the zebra clause 4711")
    [head] = [each for each in catalog.documents(EVERYONE) if each.key == "secret"]
    passages = catalog.passages(head, open_generation(catalog), 0, 100)
    codes, _, _ = catalog.token_vectors([passages[7].passage_id], open_generation(catalog))
    delete(catalog, "secret")
    catalog.record_follower("an index", catalog.head_seq())
    catalog.close()
    back_up(home, tmp_path / "backup")
    held = b"".join(p.read_bytes() for p in (tmp_path / "backup").rglob("*") if p.is_file())
    assert b"zebra" not in held
    assert codes.tobytes()[:40] in bytes(codes.tobytes())  # the pattern is a real one
    segments = b"".join(p.read_bytes() for p in (tmp_path / "backup").glob("token-vectors/*"))
    catalog = Catalog(home)
    expected = sum(
        len(catalog.token_vectors([p.passage_id], open_generation(catalog))[0]) * TOKEN_DIM + 16
        for each in catalog.documents(EVERYONE)
        for p in catalog.passages(each, open_generation(catalog), 0, 1000)
    )
    catalog.close()
    assert sum(byte != 0 for byte in segments) <= expected


def test_a_backup_under_writes_is_one_moment(home: Path, tmp_path: Path) -> None:
    stop = threading.Event()
    counts = {"written": 0}

    def write_on() -> None:
        catalog = Catalog(home)
        generation = open_generation(catalog)
        while not stop.is_set():
            number = counts["written"]
            put(catalog, generation, f"n{number}")
            counts["written"] += 1
            if number >= 3 and number % 2:
                delete(catalog, f"n{number - 3}")
        catalog.close()

    thread = threading.Thread(target=write_on)
    thread.start()
    try:
        for number in range(4):
            while counts["written"] < 8 * (number + 1):
                stop.wait(0.01)
            before = counts["written"]
            done = back_up(home, tmp_path / f"backup-{number}")
            after = counts["written"]
            assert done.manifest.problems == []
            restore(tmp_path / f"backup-{number}", tmp_path / f"new-{number}")
            keys = set(content(tmp_path / f"new-{number}"))
            assert {"k0", "k2", "k3"} <= keys
            # Written before it began: there, unless deleted since; an odd number deletes another.
            odd = {f"n{n}" for n in range(before) if n % 2 or n > after - 4}
            assert {key for key in odd if int(key[1:]) < before} <= keys
            assert all(int(key[1:]) <= after for key in keys if key.startswith("n"))
    finally:
        stop.set()
        thread.join()


def test_what_is_erased_meanwhile_makes_another_round(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = snapshot.copy_database
    doomed = iter(["k2", "k3"])

    def copy_then_erase(*arguments: Any) -> None:
        real(*arguments)
        for key in doomed:
            catalog = Catalog(home)
            delete(catalog, key)
            catalog.close()
            return

    catalog = Catalog(home)
    put(catalog, open_generation(catalog), "k3", "words of its own that are erased meanwhile")
    [head] = [each for each in catalog.documents(EVERYONE) if each.key == "k3"]
    original = catalog.blobs.folder / (head.original or "")[:2] / (head.original or "")[2:]
    catalog.close()
    monkeypatch.setattr(snapshot, "copy_database", copy_then_erase)
    done = back_up(home, tmp_path / "backup")
    # The second copy still names k3, which is deleted while erasing waits for the backup's end.
    assert (done.rounds, done.manifest.problems, done.manifest.documents) == (2, [], 2)
    restore(tmp_path / "backup", tmp_path / "new")
    assert set(content(tmp_path / "new")) == {"k0", "k3"}
    assert original.exists()
    Catalog(home).close()
    assert not original.exists()
    assert set(content(home)) == {"k0"}


def test_damage_at_the_source_is_told_and_the_rest_is_saved(home: Path, tmp_path: Path) -> None:
    original = sorted((home / "originals").glob("??/*"))[0]
    original.write_bytes(b"flipped")
    ran = CliRunner().invoke(
        cli, ["backup", str(tmp_path / "backup"), "--home", str(home), "--json"]
    )
    assert ran.exit_code == 1
    said = json.loads(ran.stdout)
    assert said["problems"] == [
        f"original {original.parent.name}{original.name} is not what its name says"
    ]
    found = restore(tmp_path / "backup", tmp_path / "new")
    assert found.documents == 3


def test_an_upload_that_waits_for_its_job_is_saved(home: Path, tmp_path: Path) -> None:
    catalog = Catalog(home)
    name = catalog.keep_upload(b"an upload")
    catalog.jobs.create("upload", "law", {"original": name})
    catalog.close()
    back_up(home, tmp_path / "backup")
    restore(tmp_path / "backup", tmp_path / "new")
    catalog = Catalog(tmp_path / "new")
    assert catalog.blobs.get(name) == b"an upload"
    catalog.close()


def test_originals_are_linked_from_an_earlier_backup(home: Path, tmp_path: Path) -> None:
    back_up(home, tmp_path / "first")
    catalog = Catalog(home)
    put(catalog, open_generation(catalog), "k9")
    catalog.close()
    back_up(home, tmp_path / "second", link_from=tmp_path / "first")
    names = [path.relative_to(tmp_path / "first") for path in (tmp_path / "first").rglob("??/*")]
    assert names
    for name in names:
        assert (tmp_path / "first" / name).samefile(tmp_path / "second" / name)
    shutil.rmtree(tmp_path / "first")
    restore(tmp_path / "second", tmp_path / "new")
    assert set(content(tmp_path / "new")) == {"k0", "k2", "k3", "k9"}
    with pytest.raises(NotFound):
        back_up(home, tmp_path / "third", link_from=tmp_path / "nothing")


def test_a_backup_takes_a_new_name_and_a_folder_with_a_catalog(home: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no catalog"):
        back_up(tmp_path / "nowhere", tmp_path / "backup")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    with pytest.raises(Conflict, match="not empty"):
        back_up(home, tmp_path / "full")
    (tmp_path / "empty").mkdir()
    assert back_up(home, tmp_path / "empty").manifest.documents == 3


def test_an_interrupted_backup_leaves_nothing(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(backups, "_write_durably", die)
    with pytest.raises(KeyboardInterrupt):
        back_up(home, tmp_path / "backup")
    assert {each.name for each in tmp_path.iterdir()} == {"home"}


# --- restoring ---------------------------------------------------------------------------------


def test_a_restore_takes_only_an_empty_folder_unless_told(home: Path, tmp_path: Path) -> None:
    back_up(home, tmp_path / "backup")
    before = content(home)
    with pytest.raises(Conflict, match="--replace"):
        restore(tmp_path / "backup", home)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    for replace in (False, True):
        with pytest.raises(Conflict, match=r"thesis\.txt"):
            restore(tmp_path / "backup", tmp_path / "mine", replace=replace)
    with pytest.raises(NotFound, match="no backup"):
        restore(home, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert content(home) == before


def test_a_folder_whose_catalog_is_lost_is_restored(home: Path, tmp_path: Path) -> None:
    back_up(home, tmp_path / "backup")
    before = content(home)
    for name in (FILE, "reindex.lock"):
        (home / name).unlink(missing_ok=True)
    (home / "reindex.lock").touch()
    assert (home / "erase.lock").exists()
    restore(tmp_path / "backup", home, replace=True)
    assert content(home) == before


def test_a_restore_replaces_all_and_leaves_nothing_of_what_was(home: Path, tmp_path: Path) -> None:
    before = content(home)
    back_up(home, tmp_path / "backup")
    catalog = Catalog(home)
    for number in range(3):
        put(catalog, open_generation(catalog), f"late-{number}")
    delete(catalog, "k2")
    catalog.close()
    (home / "index" / "generation-1").mkdir(parents=True)
    restore(tmp_path / "backup", home, replace=True)
    assert content(home) == before
    assert not (home / "index").exists()
    assert len(list((home / "originals").glob("??/*"))) == 4  # k0 was replaced and has two
    assert len(list((home / "token-vectors").iterdir())) == 1


def test_a_restore_waits_for_nobody_who_uses_the_folder(home: Path, tmp_path: Path) -> None:
    back_up(home, tmp_path / "backup")
    catalog = Catalog(home)
    catalog.count(EVERYONE)
    with pytest.raises(Conflict, match="open"):
        restore(tmp_path / "backup", home, replace=True)
    catalog.close()
    restore(tmp_path / "backup", home, replace=True)


def test_a_crash_before_the_last_rename_leaves_what_was(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = Catalog(home)
    put(catalog, open_generation(catalog), "late")
    catalog.close()
    before = content(home)
    back_up(home, tmp_path / "backup")
    real = Path.replace

    def die_at_the_catalog(self: Path, target: Path) -> Path:
        if self.name == FILE:
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "replace", die_at_the_catalog)
    with pytest.raises(KeyboardInterrupt):
        restore(tmp_path / "backup", home, replace=True)
    monkeypatch.undo()
    assert content(home) == before
    catalog = Catalog(home)
    left = orphans.find(catalog, now=home.stat().st_mtime + 1e6)
    assert len(left.segments) == 1
    orphans.remove(catalog, left)
    catalog.close()
    assert content(home) == before


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def link(path: Path) -> None:
    elsewhere = path.parents[2] / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


@pytest.mark.parametrize("harm", [flip, shorten, Path.unlink, link])
@pytest.mark.parametrize("part", [FILE, "originals/??/*", "token-vectors/*", "longleaf.toml"])
def test_a_backup_that_was_changed_is_refused(
    home: Path, tmp_path: Path, part: str, harm: Callable[[Path], None]
) -> None:
    back_up(home, tmp_path / "backup")
    harm(next((tmp_path / "backup").glob(part)))
    with pytest.raises(CatalogBroken, match="another backup"):
        restore(tmp_path / "backup", tmp_path / "new")
    assert not (tmp_path / "new" / FILE).exists()
    assert [each.name for each in (tmp_path / "new").iterdir()] == []


@pytest.mark.parametrize(
    "change",
    [
        lambda said: said.pop("catalog"),
        lambda said: said.update(version=2),
        lambda said: said["originals"].update({"../../etc/passwd": 3}),
        lambda said: said["segments"].update({"../x.seg": said["catalog"]}),
        lambda said: said["settings"].update(bytes=-1),
        lambda said: said.update(surprise=1),
    ],
)
def test_a_manifest_of_another_form_is_refused(
    home: Path, tmp_path: Path, change: Callable[[dict[str, Any]], Any]
) -> None:
    back_up(home, tmp_path / "backup")
    path = tmp_path / "backup" / MANIFEST
    said = json.loads(path.read_text())
    change(said)
    path.write_text(json.dumps(said))
    with pytest.raises(CatalogBroken, match=r"manifest\.json"):
        restore(tmp_path / "backup", tmp_path / "new")


@contextlib.contextmanager
def changed_catalog(backup: Path) -> Iterator[sqlite3.Connection]:
    """Somebody changes the catalog of a backup and makes the manifest agree."""
    import hashlib

    with contextlib.closing(sqlite3.connect(backup / FILE, isolation_level=None)) as file:
        yield file
    path = backup / MANIFEST
    said = json.loads(path.read_text())
    data = (backup / FILE).read_bytes()
    said["catalog"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    path.write_text(json.dumps(said))


def test_a_catalog_that_brings_a_trigger_is_refused(home: Path, tmp_path: Path) -> None:
    back_up(home, tmp_path / "backup")
    with changed_catalog(tmp_path / "backup") as file:
        file.execute("CREATE TRIGGER t AFTER INSERT ON changes BEGIN DELETE FROM documents; END")
    with pytest.raises(CatalogBroken, match="trigger"):
        restore(tmp_path / "backup", tmp_path / "new")


def test_a_catalog_that_names_what_the_backup_lacks_is_refused(home: Path, tmp_path: Path) -> None:
    back_up(home, tmp_path / "backup")
    with changed_catalog(tmp_path / "backup") as file:
        file.execute("UPDATE revisions SET original = ?", ("ab" * 32,))
    with pytest.raises(CatalogBroken, match="lacks"):
        restore(tmp_path / "backup", tmp_path / "new")


def test_a_full_disk_is_told_before_anything_is_written(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(home, tmp_path / "backup")
    monkeypatch.setattr(restoring.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))  # type: ignore[attr-defined]
    with pytest.raises(NoSpace):
        restore(tmp_path / "backup", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_both_commands_say_what_they_did(home: Path, tmp_path: Path) -> None:
    made = CliRunner().invoke(cli, ["backup", str(tmp_path / "backup"), "--home", str(home)])
    assert (made.exit_code, "3 documents" in made.output) == (0, True)
    back = CliRunner().invoke(
        cli, ["restore", str(tmp_path / "backup"), "--home", str(tmp_path / "new"), "--json"]
    )
    assert json.loads(back.stdout)["documents"] == 3
