"""The catalog as commands open it: for one look or one change, without a model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from longleaf.core.catalog import Catalog
    from longleaf.core.config import Settings


@contextmanager
def opened_catalog(home: Path | None, settings: Settings | None = None) -> Iterator[Catalog]:
    """The catalog of a data folder; `settings`: those of `home`, where they are there already."""
    from longleaf.api import wire
    from longleaf.core.config import load_settings

    catalog = wire.open_catalog(settings or load_settings({"home": home}).settings)
    try:
        yield catalog
    finally:
        catalog.close()
