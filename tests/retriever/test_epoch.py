"""An index that followed another history of the log is made anew, whatever its seq says."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from pathlib import Path

from tests.retriever.test_follow import DIM, put

from longleaf.core.catalog import Catalog
from longleaf.core.filters import Eq
from longleaf.core.protocols import IndexFilter
from longleaf.core.types import Scope
from longleaf.retriever.follow import Follower
from longleaf.retriever.index.edge import EdgeIndex
from longleaf.retriever.index.edge_folder import SIDECAR

FILE = "catalog.sqlite3"


def write(home: Path, name: str, count: int) -> None:
    catalog = Catalog(home)
    generation = catalog.open_generation("c", "e", "tiny", DIM, 0)
    if not catalog.collection_languages(Scope.all(), None):
        catalog.create_collection("law")
    for number in range(count):
        put(catalog, generation, f"{name}-{number}", f"words of document {name} {number}")
    catalog.close()


def keys_in_index(home: Path, keys: list[str]) -> dict[str, int]:
    """Open and follow; key -> passages that the index has under it."""
    catalog = Catalog(home)
    generation = catalog.open_generation("c", "e", "tiny", DIM, 0)
    index = EdgeIndex.open(home / "index", DIM, "f", catalog)
    Follower(catalog, index, generation, "one").catch_up()
    found = {key: len(index.scroll(IndexFilter(("law",), where=Eq("key", key)), 9)) for key in keys}
    index.close()
    catalog.close()
    return found


def restore(home: Path, copy: Path) -> None:
    for name in (FILE, f"{FILE}-wal", f"{FILE}-shm"):
        (home / name).unlink(missing_ok=True)
    shutil.copy(copy, home / FILE)


def test_a_catalog_restored_and_written_past_the_index(tmp_path: Path) -> None:
    home, copy = tmp_path / "home", tmp_path / "copy"
    write(home, "early", 3)
    shutil.copy(home / FILE, copy)
    with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as file:
        file.execute("INSERT INTO meta VALUES ('sealed', '1')")  # as `longleaf backup` leaves it
    write(home, "late", 3)
    assert keys_in_index(home, ["early-0", "late-0"]) == {"early-0": 2, "late-0": 2}
    epoch = json.loads((home / "index" / SIDECAR).read_text())["epoch"]

    restore(home, copy)
    write(home, "other", 9)  # past the index's seq, and with the same revision ids
    assert keys_in_index(home, ["early-0", "late-0", "other-0"]) == {
        "early-0": 2,
        "late-0": 0,
        "other-0": 2,
    }
    assert json.loads((home / "index" / SIDECAR).read_text())["epoch"] != epoch


def test_an_index_without_an_epoch_takes_that_of_its_catalog(tmp_path: Path) -> None:
    home = tmp_path / "home"
    write(home, "early", 3)
    assert keys_in_index(home, ["early-0"]) == {"early-0": 2}
    sidecar = home / "index" / SIDECAR
    state = json.loads(sidecar.read_text())
    del state["epoch"]
    sidecar.write_text(json.dumps(state))
    write(home, "late", 1)
    assert keys_in_index(home, ["late-0"]) == {"late-0": 2}
    catalog = Catalog(home)
    assert json.loads(sidecar.read_text())["epoch"] == catalog.epoch()
    catalog.close()


def test_an_epoch_stays_while_nothing_is_restored(tmp_path: Path) -> None:
    home = tmp_path / "home"
    write(home, "early", 1)
    epochs = set()
    for _ in range(2):
        catalog = Catalog(home)
        epochs.add(catalog.epoch())
        catalog.close()
    assert len(epochs) == 1
