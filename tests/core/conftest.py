"""What tests of the catalog share: they run on SQLite and on Postgres, if that is here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from longleaf.core.store_settings import CatalogSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from longleaf.core.catalog import Catalog, Generation


class Clock:
    """A time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "postgres"])
def catalog_settings(request: pytest.FixtureRequest) -> CatalogSettings:
    """Where the catalog of a test lies; in Postgres each has a database of its own."""
    if request.param == "sqlite":
        return CatalogSettings()
    return CatalogSettings(url=request.getfixturevalue("postgres").database())


@pytest.fixture
def catalog(tmp_path: Path, catalog_settings: CatalogSettings) -> Iterator[Catalog]:
    """An empty catalog with the collection "law"."""
    from longleaf.core.catalog import Catalog

    opened = Catalog(tmp_path / "data", catalog_settings)
    opened.create_collection("law")
    yield opened
    opened.close()


@pytest.fixture
def generation(catalog: Catalog) -> Generation:
    """The live generation, of the dimensions that test_catalog's contents have."""
    from tests.core.test_catalog import DIM, TOKEN_DIM

    return catalog.open_generation("chunker-1", "embedder-1", "tiny", DIM, TOKEN_DIM)
