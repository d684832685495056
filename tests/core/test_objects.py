"""Originals wherever they are kept: one contract over a folder, memory and S3 spoken for real."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.core.test_catalog import EVERYONE, write

from longleaf.core.catalog import Catalog, Generation, orphans
from longleaf.core.catalog.blobs import BlobFolder, Blobs
from longleaf.core.catalog.objects import BlobObjects, open_blobs
from longleaf.core.errors import CatalogBroken, CatalogUnavailable, ConfigError, NotFound
from longleaf.core.store_settings import CatalogSettings

BUCKET = "longleaf-originals"


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The address of an S3 server on loopback: moto's, asked over HTTP as Amazon's is."""
    pytest.importorskip("s3fs", reason="s3fs is not here (longleaf[s3])")
    server_module = pytest.importorskip("moto.server", reason="moto is not here")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_url(s3: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A prefix of a bucket there, with nothing in it."""
    import s3fs

    for name, value in {
        "AWS_ENDPOINT_URL": s3, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    store = s3fs.S3FileSystem()
    if not store.exists(BUCKET):
        store.mkdir(BUCKET)
    return f"s3://{BUCKET}/{tmp_path.name}"


@pytest.fixture(params=["folder", "memory", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "s3":
        found: str = request.getfixturevalue("s3_url")
        return found
    return str(tmp_path / "shared") if request.param == "folder" else f"memory://{tmp_path}"


@pytest.fixture
def blobs(url: str, tmp_path: Path) -> Blobs:
    return open_blobs(tmp_path / "home", url)


def test_what_is_put_is_there_under_its_hash(blobs: Blobs) -> None:
    name = blobs.put(b"the bytes")
    assert name == hashlib.sha256(b"the bytes").hexdigest()
    assert blobs.exists(name)
    assert blobs.get(name) == b"the bytes"
    assert blobs.missing([name, "a" * 64]) == {"a" * 64}
    assert blobs.missing([]) == set()
    assert blobs.put(b"the bytes") == name
    empty = blobs.put(b"")
    assert blobs.get(empty) == b""
    found = {blob.name: blob for blob in blobs.stored()}
    assert set(found) == {name, empty}
    assert found[name].size_bytes == 9
    assert abs(found[name].written_at - time.time()) < 3600
    assert blobs.unfinished() == []


def test_what_is_deleted_is_gone_for_everybody(blobs: Blobs, url: str, tmp_path: Path) -> None:
    name = blobs.put(b"the bytes")
    other = open_blobs(tmp_path / "home", url)
    assert other.exists(name)
    blobs.delete(name)
    blobs.delete(name)
    assert not blobs.exists(name) and not other.exists(name)
    assert list(other.stored()) == []
    with pytest.raises(NotFound, match=name):
        other.get(name)
    assert other.put(b"the bytes") == name and blobs.exists(name)


def test_bytes_that_are_not_what_their_name_says_are_not_given_out(blobs: Blobs, url: str) -> None:
    name = blobs.put(b"the bytes")
    path = blobs.file(name)
    if path is not None:
        path.write_bytes(b"the bytez")
    else:
        assert isinstance(blobs, BlobObjects)
        blobs._store.pipe_file(blobs._key(name), b"the bytez")
    with pytest.raises(CatalogBroken, match=name):
        blobs.get(name)


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "A" * 64, "ab"])
def test_what_is_no_name_is_asked_of_nobody(blobs: Blobs, name: str) -> None:
    for ask in (blobs.get, blobs.exists, blobs.delete, blobs.file):
        if isinstance(blobs, BlobObjects) and ask == blobs.file:
            continue
        with pytest.raises(NotFound, match="not the name"):
            ask(name)


def test_a_catalog_keeps_takes_and_erases_originals_there(
    url: str, tmp_path: Path, catalog_settings: CatalogSettings
) -> None:
    settings = catalog_settings.model_copy(
        update={"originals": url, "token_vectors": str(tmp_path / "vectors")}
    )
    catalog = Catalog(tmp_path / "data", settings)
    catalog.create_collection("law")
    generation = catalog.open_generation("chunker-1", "embedder-1", "tiny", 8, 4)
    name = catalog.keep_upload(b"the file")
    [result] = catalog.commit(generation, [write("a", "words", original=name)])
    # SQLite's file is one data folder's; on Postgres it is another machine that reads it.
    another = Catalog(tmp_path / ("elsewhere" if settings.url else "data"), settings)
    head = another.document(result.public_id, EVERYONE)
    assert head.original is not None and another.blobs.get(head.original) == b"the file"
    _vectors_are_read(another, generation, result.public_id)
    left = another.blobs.put(b"nobody refers to it")
    later = time.time() + 2 * orphans.OLD_SECONDS
    found = orphans.find(another, now=later)
    assert (found.originals, found.bytes) == ((left,), 19)
    assert orphans.remove(another, found).originals == (left,)
    another.delete_document(result.public_id, EVERYONE)
    assert list(catalog.blobs.stored()) == []
    assert not (tmp_path / "data" / "originals").exists()
    assert not (tmp_path / "data" / "token-vectors").exists()
    for each in (another, catalog):
        each.close()


def _vectors_are_read(catalog: Catalog, generation: Generation, public_id: str) -> None:
    found = catalog.passages(catalog.document(public_id, EVERYONE), generation)
    codes, _, _ = catalog.token_vectors([each.passage_id for each in found], generation)
    assert codes.shape == (5, 4)


@pytest.mark.parametrize("catalog_settings", ["postgres"], indirect=True)
def test_two_writers_on_one_folder_append_to_segments_of_their_own(
    tmp_path: Path, catalog_settings: CatalogSettings
) -> None:
    """Two data folders stand for two machines; the token vectors are shared."""
    settings = catalog_settings.model_copy(update={"token_vectors": str(tmp_path / "vectors")})
    first, second = (Catalog(tmp_path / name, settings) for name in ("one", "two"))
    first.create_collection("law")
    generation = first.open_generation("chunker-1", "embedder-1", "tiny", 8, 4)
    for number in range(3):
        first.commit(generation, [write(f"a{number}", f"{number:05}")])
        second.commit(generation, [write(f"b{number}", f"{number:03}xy")])
    assert len(list((tmp_path / "vectors").glob("*.seg"))) == 2
    for head in first.documents(EVERYONE):
        _vectors_are_read(second, generation, head.public_id)
        _vectors_are_read(first, generation, head.public_id)
    first.close()
    second.close()


def test_a_store_that_is_not_there_is_named(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    nowhere = BlobObjects("s3://no-such-bucket/prefix")
    with pytest.raises(CatalogUnavailable, match="s3://no-such-bucket/prefix"):
        nowhere.put(b"the bytes")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    away = BlobObjects(s3_url)
    with pytest.raises(CatalogUnavailable, match="cannot be reached") as caught:
        away.get("a" * 64)
    assert "AWS_ENDPOINT_URL" in caught.value.hint
    s3fs.S3FileSystem.clear_instance_cache()


def test_a_url_that_nothing_speaks_is_a_wrong_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="carrier"):
        open_blobs(tmp_path, "carrier://pigeon")


def test_a_folder_may_be_named_as_url_or_not_at_all(tmp_path: Path) -> None:
    for originals in ("", str(tmp_path / "there"), f"file://{tmp_path}/there"):
        opened = open_blobs(tmp_path, originals)
        assert isinstance(opened, BlobFolder)
        assert opened.folder == tmp_path / ("there" if originals else "originals")
    assert "AWS_ENDPOINT_URL" not in os.environ
