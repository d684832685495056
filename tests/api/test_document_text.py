"""Part of a document's text, by characters and by pages, and passages by a character in them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.api.conftest import TEXTS, Client, wait_until_followed
from tests.indexer.pdfs import lines_pdf

from longleaf.api.http.document_text import _limited, _runs
from longleaf.api.wire import Runtime
from longleaf.core.errors import NotFound
from longleaf.core.types import Page, Scope

PAGES = [["The gazebo stands in the garden."], ["Whoever repaints it sends a bill."], ["Fin."]]


@pytest.fixture(scope="module")
def pdf(runtime: Runtime) -> Iterator[str]:
    made = runtime.indexer.index_bytes("scratch", "english", lines_pdf(PAGES), "gazebo.pdf")
    (document_id,) = made.document_ids
    wait_until_followed(runtime)
    yield document_id
    runtime.catalog.delete_document(document_id, Scope.all())
    wait_until_followed(runtime)


@pytest.fixture
def apache(client: Client) -> str:
    return str(client.search("patent litigation")["hits"][0]["document_id"])


def read(client: Client, document_id: str, **params: Any) -> dict[str, Any]:
    response = client.get(f"/v1/documents/{document_id}/text", params=params)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def test_characters_with_where_they_stand(client: Client, apache: str) -> None:
    found = read(client, apache, start=60, end=100)
    assert found["title"] == "Apache License" and found["page_count"] == 0
    assert found["text_chars"] == len(TEXTS["apache.md"]) and found["next"] is None
    [part] = found["parts"]
    assert part["text"] == TEXTS["apache.md"][60:100]
    assert part["headings"] == ["Apache License", "Grant of Patent License"]
    assert part["first_page"] is part["last_page"] is None


def test_a_text_in_pieces_is_the_text(client: Client, apache: str) -> None:
    text, start = "", 0
    while start is not None:
        found = read(client, apache, start=start, limit=100)
        text += found["parts"][0]["text"]
        assert len(found["parts"][0]["text"]) <= 100
        start = found["next"]
    assert text == TEXTS["apache.md"]


def test_pages(client: Client, pdf: str) -> None:
    found = read(client, pdf, page=2)
    assert found["page_count"] == 3
    [part] = found["parts"]
    assert part["text"].strip() == PAGES[1][0] and part["first_page"] == part["last_page"] == 2
    [both] = read(client, pdf, page=2, last_page=3)["parts"]
    assert PAGES[1][0] in both["text"] and PAGES[2][0] in both["text"]
    assert (both["first_page"], both["last_page"]) == (2, 3)
    first = read(client, pdf, page=2, last_page=3, limit=10)
    rest = read(client, pdf, page=2, last_page=3, start=first["next"])
    assert first["parts"][0]["text"] + rest["parts"][0]["text"] == both["text"]


@pytest.mark.parametrize(
    ("params", "status", "said"),
    [
        ({"start": 100_000}, 400, "329 characters"),
        ({"start": 50, "end": 50}, 400, "start=50"),
        ({"page": 1}, 404, "no pages"),
        ({"last_page": 1}, 400, "goes with page"),
        ({"limit": 0}, 422, "limit"),
    ],
)
def test_what_is_not_there_is_told(
    client: Client, apache: str, params: dict[str, int], status: int, said: str
) -> None:
    response = client.get(f"/v1/documents/{apache}/text", params=params)
    assert response.status_code == status and said in response.json()["detail"]


def test_an_unknown_document_has_no_text(client: Client) -> None:
    assert client.get("/v1/documents/nope/text").json()["code"] == "not_found"


def test_a_passage_is_found_by_every_character_in_it(client: Client, apache: str) -> None:
    route = f"/v1/documents/{apache}/passages"
    every = client.get(route).json()["passages"]
    assert len(every) > 1
    for number, passage in enumerate(every):
        for at in (passage["start_char"], passage["end_char"] - 1):
            found = client.get(route, params={"at": at, "limit": 1}).json()
            # Passages may overlap: the later one of two is found.
            assert found["first"] >= number and found["passages"] == [every[found["first"]]]
            assert found["passages"][0]["start_char"] <= at
        begun = client.get(route, params={"at": passage["start_char"]}).json()
        assert begun["first"] == number and begun["passages"] == every[number:]
    assert client.get(route, params={"at": 100_000}).status_code == 400


def test_runs_of_pages_that_follow_each_other_are_one() -> None:
    pages = [Page(1, 0, 10), Page(2, 12, 20), Page(3, 22, 30), Page(1, 32, 40), Page(3, 42, 50)]
    assert _runs(pages, 1, 1) == [(0, 10), (32, 40)]
    assert _runs(pages, 2, 3) == [(12, 30), (42, 50)]
    assert _runs(pages, 1, 3) == [(0, 50)]
    for first, last in ((4, 4), (3, 2)):
        with pytest.raises(NotFound, match="It has 3"):
            _runs(pages, first, last)


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), min_size=1, max_size=6),
    st.integers(1, 40),
)
def test_a_limit_loses_no_character(gaps: list[tuple[int, int]], limit_chars: int) -> None:
    spans, at = [], 0
    for gap, length in gaps:
        spans.append((at + gap, at + gap + length))
        at += gap + length
    kept, following = _limited(spans, limit_chars)
    wanted = [char for begin, end in spans for char in range(begin, end)]
    shown = [char for begin, end in kept for char in range(begin, end)]
    assert shown == wanted[:limit_chars]
    assert following == (wanted[limit_chars] if len(wanted) > limit_chars else None)
