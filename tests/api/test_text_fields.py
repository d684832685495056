"""Strings that have broken somebody's software, in every field of every route that takes text.

Each field gets some of them here, so that each string comes somewhere; all of them in all fields:
`make trust GOALS=22`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest
from tests.api import naughty
from tests.api.keyed import Site, open_site
from tests.api.text_fields import TOOLS
from tests.remote.chat import chatting

PLACES = naughty.all_places()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with chatting("The rent is due on the first day. [1]") as chat:
        flags = {"answer.url": chat.url, "answer.model": "any"}
        with open_site(tmp_path_factory.mktemp("text"), **flags) as made:
            yield made


def test_every_part_of_a_request_is_tried() -> None:
    parts = Counter(each.part for each in PLACES)
    assert set(parts) == {"path", "query", "header", "json", "form", "file"}
    named = {f"{each.method} {each.path} {each.steps[-1]}" for each in PLACES}
    for known in (
        "POST /v1/search query", "GET /v1/search q", "POST /v1/documents metadata", "GET / q",
        "POST /v1/rerank text", "GET /v1/documents/{document_id} document_id", "POST /login key",
        "POST /v1/documents file", "POST /library/upload file", "GET /v1/search Cookie",
    ):  # fmt: skip
        assert known in named
    assert {str(each.steps[-1]) for each in PLACES if each.path == "/mcp"} >= {
        each for arguments in TOOLS.values() for each in arguments
    }


def test_no_string_breaks_a_route(site: Site) -> None:
    tries = naughty.tries(PLACES, naughty.strings(), 1)
    assert {text for _, text in tries} >= set(naughty.OWN)
    assert asyncio.run(naughty.asked(site, tries)) == {}
