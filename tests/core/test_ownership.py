"""One place of originals or token vectors is one catalog's, whatever is set."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.core.test_catalog import DIM, EVERYONE, TOKEN_DIM, write
from tests.postgres import PostgresServer

from longleaf.core.catalog import Catalog, orphans, snapshot
from longleaf.core.catalog.objects import BlobObjects
from longleaf.core.catalog.ownership import MARK
from longleaf.core.errors import CatalogUnavailable, ConfigError
from longleaf.core.store_settings import CatalogSettings

Open = Callable[..., Catalog]


@pytest.fixture
def open_catalog(tmp_path: Path) -> Iterator[Open]:
    """Opens catalogs in data folders of their own names, and closes them at the end."""
    opened: list[Catalog] = []

    def open_in(home: str, **settings: str) -> Catalog:
        opened.append(Catalog(tmp_path / home, CatalogSettings(**settings)))
        return opened[-1]

    yield open_in
    for each in opened:
        each.close()


@pytest.mark.parametrize("what", ["originals", "token_vectors"])
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_place_of_another_catalog_is_refused(
    what: str, kind: str, open_catalog: Open, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Schemas of one database, or two databases: each would erase what only the other has."""

    def url() -> str:
        return request.getfixturevalue("postgres").database() if kind == "postgres" else ""

    place = {what: str(tmp_path / "shared")}
    first = {"url": url(), **place}
    open_catalog("one", **first)
    with pytest.raises(ConfigError, match="another catalog") as caught:
        open_catalog("two", url=url(), **place)
    assert f"catalog.{what}" in caught.value.hint and str(tmp_path / "shared") in str(caught.value)
    open_catalog("three" if kind == "postgres" else "one", **first)


def test_two_schemas_keep_two_data_folders_apart(
    open_catalog: Open, postgres: PostgresServer
) -> None:
    url = postgres.empty_database()
    for name in ("a", "b"):
        postgres.execute(url.rpartition("/")[2], f"CREATE SCHEMA {name}")
    urls = [f"{url}?options=-csearch_path%3D{name}" for name in ("a", "b")]
    open_catalog("one", url=urls[0])
    with pytest.raises(ConfigError, match="LONGLEAF_HOME"):
        open_catalog("one", url=urls[1])
    open_catalog("two", url=urls[1])


def test_a_place_without_a_name_is_taken_and_one_whose_name_is_removed_again(
    open_catalog: Open, tmp_path: Path
) -> None:
    place = tmp_path / "shared"
    place.mkdir()
    (place / "ab").mkdir()
    open_catalog("one", originals=str(place))
    (place / MARK).unlink()
    open_catalog("two", originals=str(place))
    with pytest.raises(ConfigError, match=str(place / MARK)):
        open_catalog("one", originals=str(place))


def test_a_restored_catalog_keeps_its_places(open_catalog: Open, tmp_path: Path) -> None:
    """Its epoch is a new one, its name is not."""
    places = {"originals": str(tmp_path / "o"), "token_vectors": str(tmp_path / "t")}
    first = open_catalog("one", **places)
    epoch = first.epoch()
    (tmp_path / "two").mkdir()
    restored = tmp_path / "two" / "catalog.sqlite3"
    snapshot.copy_database(tmp_path / "one" / "catalog.sqlite3", restored)
    snapshot.seal(restored, "backup")
    assert open_catalog("two", **places).epoch() != epoch


def test_the_data_folder_of_sqlite_bears_no_name(open_catalog: Open, tmp_path: Path) -> None:
    """It goes into backups and is put in place of another one as it is."""
    open_catalog("one")
    assert not list((tmp_path / "one").rglob(f"{MARK}*"))


def test_a_prefix_of_another_catalog_is_refused(open_catalog: Open, tmp_path: Path) -> None:
    place = f"memory://{tmp_path}"
    open_catalog("one", originals=place)
    with pytest.raises(ConfigError, match=f"{place}/{MARK}"):
        open_catalog("two", originals=place)
    open_catalog("one", originals=place)


def test_a_store_that_was_away_is_asked_before_anything_is_changed_there(
    open_catalog: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = f"memory://{tmp_path}"
    kept = open_catalog("one", originals=place).blobs.put(b"the file")
    away = CatalogUnavailable("it is away")
    with monkeypatch.context() as patched:

        def fail(*_: object) -> None:
            raise away

        patched.setattr(BlobObjects, "_size", fail)
        second = open_catalog("two", originals=place)
    for change in (lambda: second.blobs.delete(kept), lambda: second.blobs.put(b"another")):
        with pytest.raises(ConfigError, match="another catalog"):
            change()
    assert second.blobs.get(kept) == b"the file"


def test_a_catalog_below_a_prefix_is_not_taken_for_left_over(
    open_catalog: Open, tmp_path: Path
) -> None:
    outer = open_catalog("one", originals=f"memory://{tmp_path}")
    inner = open_catalog("two", originals=f"memory://{tmp_path}/below")
    inner.create_collection("law")
    generation = inner.open_generation("chunker-1", "embedder-1", "tiny", DIM, TOKEN_DIM)
    name = inner.blobs.put(b"the file")
    inner.commit(generation, [write("a", "words", original=name)])
    assert list(outer.blobs.stored()) == []
    assert [each.name for each in inner.blobs.stored()] == [name]
    found = orphans.find(outer, now=time.time() + 2 * orphans.OLD_SECONDS)
    assert found.originals == ()


def test_copied_folders_go_with_their_catalog(open_catalog: Open, tmp_path: Path) -> None:
    first = open_catalog("one", originals=str(tmp_path / "o"))
    name = first.blobs.put(b"the file")
    shutil.copytree(tmp_path / "o", tmp_path / "copied")
    again = open_catalog("one", originals=str(tmp_path / "copied"))
    assert again.blobs.get(name) == b"the file" and again.documents(EVERYONE) == []
