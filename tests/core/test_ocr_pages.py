"""What OCR has read is there again after a crash, and gone with the original it was read of."""

from __future__ import annotations

import threading
from pathlib import Path

from tests.core.test_catalog import EVERYONE, write

from longleaf.core.catalog import Catalog, Generation
from longleaf.core.catalog.records import PutResult
from longleaf.core.protocols import OcrStore
from longleaf.core.types import OcrWord

WORDS = (
    OcrWord("sealed", 96.5, 0, 0, 72.0, 100.25, 120.0, 112.0),
    OcrWord("§ 12 \U0001f58b", 31.0, 0, 1, 72.0, 114.0, 99.5, 126.0),
)


def put(catalog: Catalog, generation: Generation, key: str, data: bytes) -> PutResult:
    original = catalog.blobs.put(data)
    (result,) = catalog.commit(generation, [write(key, f"text {key}", original=original)])
    return result


def raw(catalog: Catalog) -> bytes:
    return b"".join(path.read_bytes() for path in Path(catalog.folder).glob("catalog.sqlite3*"))


def test_pages_are_known_by_original_and_engine(catalog: Catalog) -> None:
    store: OcrStore = catalog
    store.put_ocr_page("a" * 64, "engine 1", 1, WORDS)
    store.put_ocr_page("a" * 64, "engine 1", 7, ())
    store.put_ocr_page("a" * 64, "engine 2", 1, WORDS[:1])
    assert store.ocr_pages("a" * 64, "engine 1") == {1: WORDS, 7: ()}
    assert store.ocr_pages("a" * 64, "engine 2") == {1: WORDS[:1]}
    assert store.ocr_pages("b" * 64, "engine 1") == {}
    store.put_ocr_page("a" * 64, "engine 1", 1, WORDS[1:])
    assert store.ocr_pages("a" * 64, "engine 1") == {1: WORDS[1:], 7: ()}


def test_pages_are_durable_and_may_come_from_any_thread(tmp_path: Path) -> None:
    opened = Catalog(tmp_path / "d")
    threads = [
        threading.Thread(target=opened.put_ocr_page, args=("a" * 64, "e", page, WORDS))
        for page in range(1, 9)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    opened.close()
    opened = Catalog(tmp_path / "d")
    assert opened.ocr_pages("a" * 64, "e") == dict.fromkeys(range(1, 9), WORDS)
    opened.close()


def test_pages_go_with_the_last_document_of_their_original(
    catalog: Catalog,
    generation: Generation,
) -> None:
    first = put(catalog, generation, "one", b"scan")
    second = put(catalog, generation, "two", b"scan")
    original = catalog.document(first.public_id, EVERYONE).original
    assert original is not None
    catalog.put_ocr_page(original, "e", 1, WORDS)
    catalog.delete_document(first.public_id, EVERYONE)
    assert catalog.ocr_pages(original, "e") == {1: WORDS}
    assert b"sealed" in raw(catalog) or catalog.settings.url
    catalog.delete_document(second.public_id, EVERYONE)
    assert catalog.ocr_pages(original, "e") == {}
    assert b"sealed" not in raw(catalog)


def test_pages_of_no_document_go_when_nothing_is_under_way(
    catalog: Catalog,
    generation: Generation,
) -> None:
    kept = put(catalog, generation, "one", b"scan")
    original = catalog.document(kept.public_id, EVERYONE).original
    assert original is not None
    catalog.put_ocr_page(original, "e", 1, WORDS)
    catalog.put_ocr_page("f" * 64, "e", 1, WORDS)
    catalog.put_ocr_page("f" * 64, "e", 2, WORDS)
    job = catalog.jobs.create("folder", "law", {})
    assert catalog.forget_unused_pages() == 0
    catalog.jobs.cancel(job.public_id, EVERYONE)
    assert catalog.forget_unused_pages() == 1
    assert catalog.ocr_pages("f" * 64, "e") == {}
    assert catalog.ocr_pages(original, "e") == {1: WORDS}
