"""Versions of a text are found across the corpus, within the scope, and go with their content."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from longleaf.core.catalog import Catalog, ContentWrite, DocumentWrite, Generation, content_digest
from longleaf.core.catalog import versions as versions_module
from longleaf.core.similarity import SIGNATURE_HASHES, Signature
from longleaf.core.types import Document, Scope

EVERYONE = Scope.all()
BASE = np.random.default_rng(3).integers(0, 1 << 32, SIGNATURE_HASHES).astype(np.uint32)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    opened = Catalog(tmp_path / "data")
    for name in ("law", "secret"):
        opened.create_collection(name)
    yield opened
    opened.close()


@pytest.fixture
def generation(catalog: Catalog) -> Generation:
    return catalog.open_generation("chunker-1", "embedder-1", "tiny", 4, 0)


def near(share: float) -> Signature:
    """A signature that is like BASE in `share` of its places, spread over the bands."""
    other = BASE.copy()
    changed = SIGNATURE_HASHES - round(share * SIGNATURE_HASHES)
    other[:changed] ^= np.uint32(5)
    return other


def put(
    catalog: Catalog,
    generation: Generation,
    key: str,
    signature: Signature | None,
    *,
    text: str | None = None,
    collection: str = "law",
    groups: tuple[str, ...] = (),
) -> str:
    document = Document(text or f"the text of {key}", "Title")
    digest = content_digest(document)
    content = ContentWrite(digest, document, (), (), signature=signature)
    write = DocumentWrite(
        collection, key, digest, {}, groups, key, "text/plain", None, "en", (), None, content
    )
    [result] = catalog.commit(generation, [write])
    return result.public_id


def found(
    catalog: Catalog,
    public_id: str,
    scope: Scope = EVERYONE,
    at_least: float = 0.8,
    limit: int = 100,
) -> list[tuple[str, float]]:
    versions = catalog.versions(catalog.document(public_id, scope), scope, at_least, limit)
    return [(head.key, round(similarity, 3)) for head, similarity in versions.found]


def test_near_texts_are_found_most_similar_first(catalog: Catalog, generation: Generation) -> None:
    first = put(catalog, generation, "first", BASE)
    put(catalog, generation, "draft", near(0.85))
    put(catalog, generation, "copy", near(0.95), collection="secret")
    put(catalog, generation, "other", near(0.3))
    assert found(catalog, first) == [("copy", 0.95), ("draft", 0.85)]
    assert found(catalog, first, at_least=0.9) == [("copy", 0.95)]
    versions = catalog.versions(catalog.document(first, EVERYONE), EVERYONE, 0.8, 1)
    assert len(versions.found) == 1 and versions.more and versions.compared


def test_equal_texts_are_versions_without_any_signature(
    catalog: Catalog, generation: Generation
) -> None:
    first = put(catalog, generation, "first", np.zeros(0, np.uint32), text="short")
    put(catalog, generation, "again", None, text="short")
    put(catalog, generation, "other", np.zeros(0, np.uint32), text="other")
    assert found(catalog, first) == [("again", 1.0)]
    assert not catalog.versions(catalog.document(first, EVERYONE), EVERYONE, 0.8).compared


def test_a_scope_hides_versions(catalog: Catalog, generation: Generation) -> None:
    first = put(catalog, generation, "first", BASE)
    put(catalog, generation, "hidden", near(0.95), collection="secret")
    put(catalog, generation, "restricted", near(0.9), groups=("partners",))
    put(catalog, generation, "equal", BASE, text="the text of first", groups=("partners",))
    assert found(catalog, first, Scope(frozenset({"law"}), frozenset({"staff"}))) == []
    partner = Scope(frozenset({"law"}), frozenset({"partners"}))
    assert found(catalog, first, partner) == [("equal", 1.0), ("restricted", 0.9)]


def test_a_replaced_or_deleted_text_is_no_version(catalog: Catalog, generation: Generation) -> None:
    first = put(catalog, generation, "first", BASE)
    put(catalog, generation, "draft", near(0.9))
    put(catalog, generation, "draft", near(0.1), text="rewritten")
    gone = put(catalog, generation, "gone", near(0.95))
    catalog.delete_document(gone, EVERYONE)
    assert found(catalog, first) == []


def test_a_content_keeps_its_first_signature(catalog: Catalog, generation: Generation) -> None:
    first = put(catalog, generation, "first", BASE)
    put(catalog, generation, "again", near(0.2), text="the text of first")
    head = catalog.document(first, EVERYONE)
    assert catalog.signatures([head.content_id])[head.content_id].tolist() == BASE.tolist()


def test_only_so_many_are_compared(
    catalog: Catalog, generation: Generation, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = put(catalog, generation, "first", BASE)
    for number in range(4):
        put(catalog, generation, f"copy {number}", near(0.9))
    monkeypatch.setattr(versions_module, "MOST_COMPARED", 3)
    versions = catalog.versions(catalog.document(first, EVERYONE), EVERYONE, 0.8)
    assert len(versions.found) == 3 and versions.more
