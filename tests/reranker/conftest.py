"""What tests of several rerankers share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.reranker.services import Open, opening


@pytest.fixture
def open_service() -> Iterator[Open]:
    with opening() as open_one:
        yield open_one
