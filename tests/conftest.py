"""What tests of several rooms share: the bundled model, a catalog, and where the data lies."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.postgres import PostgresServer

    from longleaf.core.catalog import Catalog
    from longleaf.core.protocols import Chunker
    from longleaf.indexer.embed import MiniLMEmbedder

# A busy machine may take any time over an example.
settings.register_profile("longleaf", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("longleaf")

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The real collections beside the repository; tests that need them skip where they are not."""
    if not DATA.is_dir():
        pytest.skip("the folder ../shared/data is not here")
    return DATA


@pytest.fixture(scope="session")
def minilm() -> MiniLMEmbedder:
    """The real bundled model."""
    from longleaf.indexer.embed import MiniLMEmbedder

    return MiniLMEmbedder()


@pytest.fixture(scope="session")
def chunker(minilm: MiniLMEmbedder) -> Chunker:
    """The default chunker."""
    from tokenizers import Tokenizer

    from longleaf.indexer.chunk import PassageChunker

    tokenizer = Tokenizer.from_file(str(minilm.tokenizer_file))
    return PassageChunker(tokenizer, minilm.tokenizer_id)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A real Postgres that lives as long as the tests."""
    from tests.postgres import PostgresServer, find_programs

    programs = find_programs()
    if programs is None:
        pytest.skip("initdb and pg_ctl are not here (Debian: apt-get install postgresql)")
    pytest.importorskip("psycopg", reason="the driver is not here (longleaf[postgres])")
    # The tests of the doctor, on Postgres, look for a server that is set as it should be.
    server = PostgresServer(programs, durable="LONGLEAF_TEST_CATALOG" in os.environ)
    yield server
    server.close()


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """An empty catalog with the collection "law"."""
    from longleaf.core.catalog import Catalog

    opened = Catalog(tmp_path / "data")
    opened.create_collection("law")
    yield opened
    opened.close()
