"""Leases: one holder at a time, and a fence that grows with each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from longleaf.core.catalog import Catalog, leases


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    opened = Catalog(tmp_path)
    yield opened
    opened.close()


def test_one_holder_at_a_time(catalog: Catalog) -> None:
    first = catalog.leases.take("index", "a", 60.0)
    assert first is not None and first.fence == 1
    assert catalog.leases.take("index", "b", 60.0) is None
    assert catalog.leases.holder("index") == "a"
    assert catalog.leases.take("another index", "b", 60.0) is not None
    assert catalog.leases.renew(first)
    catalog.leases.give_back(first)
    assert catalog.leases.holder("index") is None
    assert not catalog.leases.renew(first)
    second = catalog.leases.take("index", "b", 60.0)
    assert second is not None and second.fence == 2


def test_a_term_ends(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(leases, "_now", lambda _: now)
    first = catalog.leases.take("index", "a", 30.0)
    assert first is not None
    now = 1029.0
    assert catalog.leases.take("index", "b", 30.0) is None
    assert catalog.leases.renew(first)
    now = 1058.0
    assert catalog.leases.take("index", "b", 30.0) is None
    now = 1060.0
    second = catalog.leases.take("index", "b", 30.0)
    assert second is not None and second.fence == first.fence + 1
    assert not catalog.leases.renew(first)
    catalog.leases.give_back(first)
    assert catalog.leases.holder("index") == "b"


def test_a_term_that_is_over_is_not_renewed(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where nobody took it: what was written in between was written without it."""
    now = 1000.0
    monkeypatch.setattr(leases, "_now", lambda _: now)
    first = catalog.leases.take("index", "a", 30.0)
    assert first is not None
    now = 1031.0
    assert not catalog.leases.renew(first)
    again = catalog.leases.take("index", "a", 30.0)
    assert again is not None and again.fence > first.fence


def test_the_same_holder_gets_a_new_fence(catalog: Catalog) -> None:
    first = catalog.leases.take("index", "a", 60.0)
    second = catalog.leases.take("index", "a", 60.0)
    assert first is not None and second is not None and second.fence == first.fence + 1
    assert not catalog.leases.renew(first)
    assert catalog.leases.renew(second)


def test_a_fence_is_above_what_a_store_has_seen_and_stays_above(catalog: Catalog) -> None:
    first = catalog.leases.take("index", "a", 60.0)
    assert first is not None
    assert catalog.leases.take("index", "b", 60.0, above=40) is None, "somebody else holds it"
    second = catalog.leases.take("index", "a", 60.0, above=40)
    assert second is not None and second.fence == 41
    assert not catalog.leases.renew(first)
    third = catalog.leases.take("index", "a", 60.0, above=7)
    assert third is not None and third.fence == 42
    new = catalog.leases.take("another index", "a", 60.0, above=3)
    assert new is not None and new.fence == 4
