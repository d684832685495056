"""A server with documents, for the client packages that real programs use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.api.conftest import runtime, wait_until_followed  # noqa: F401 - a fixture
from tests.remote.longleaf import served_app

from longleaf.api.app import create_app
from longleaf.api.wire import Runtime

LONG = "\n\n".join(
    f"## Part {part}\n\n" + " ".join(f"{'quokka' * 18}{part}x{word}" for word in range(40))
    for part in range(1, 15)
)
"""60,000 characters of few tokens: a word that long is one to the embedder."""


@pytest.fixture(scope="session")
def full(runtime: Runtime) -> Runtime:  # noqa: F811
    """The runtime, with a long document in a collection of its own."""
    runtime.catalog.create_collection("long", description="One long document.")
    runtime.indexer.index_bytes("long", "english", LONG.encode(), "long.md", key="long.md")
    wait_until_followed(runtime)
    return runtime


@pytest.fixture(scope="session")
def url(full: Runtime) -> Iterator[str]:
    """Where it is served."""
    with served_app(create_app(full)) as served:
        yield served
