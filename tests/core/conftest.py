"""What tests of the catalog share beside `catalog` itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from longleaf.core.catalog import Catalog, Generation


@pytest.fixture
def generation(catalog: Catalog) -> Generation:
    """The live generation, of the dimensions that test_catalog's contents have."""
    from tests.core.test_catalog import DIM, TOKEN_DIM

    return catalog.open_generation("chunker-1", "embedder-1", "tiny", DIM, TOKEN_DIM)
