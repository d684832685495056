"""The viewer's routes: passages that decide, a text found, pages with their words and pictures."""

from __future__ import annotations

import io
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.api.conftest import Client, wait_until_followed
from tests.indexer.pdfs import Box, Words, lines_pdf, placed_pdf, stream
from tests.indexer.test_parse_pdf_limits import one_page

from longleaf.api.finding import find, fold
from longleaf.api.rendering import Pages, scale_of
from longleaf.api.wire import Runtime
from longleaf.core.catalog import Catalog
from longleaf.core.catalog.page_images import PageImages
from longleaf.core.errors import NotDrawn
from longleaf.indexer.sandbox.drawer import PageDrawer

PAGES = [
    ["The gazebo stands in the garden.", "It is painted green every spring."],
    ["Whoever repaints the gazebo sends the invoice to the landlord.", "Paragraph two."],
    ["Nothing of interest stands here."],
]
MIB = 1 << 20


@pytest.fixture
def pdf(client: Client, runtime: Runtime) -> Iterator[str]:
    made = client.upload("gazebo.pdf", lines_pdf(PAGES))
    (document_id,) = made.json()["document_ids"]
    wait_until_followed(runtime)
    yield document_id
    client.delete(f"/v1/documents/{document_id}")
    wait_until_followed(runtime)


# --- deciding passages and matches -------------------------------------------------------------


def test_hits_are_those_of_the_search(client: Client, pdf: str) -> None:
    query = "who gets the invoice for the gazebo?"
    hit = next(
        each
        for each in client.search(query, highlight="sentences", rerank=True)["hits"]
        if each["document_id"] == pdf
    )
    found = client.get(f"/v1/documents/{pdf}/hits", params={"q": query})
    assert found.status_code == 200 and found.json()["reranker"] == "late"
    passages = found.json()["passages"]
    spans = [(each["start_char"], each["end_char"]) for each in passages]
    assert set(spans) == {(each["start_char"], each["end_char"]) for each in hit["passages"]}
    best = passages[0]
    assert "invoice" in best["text"]
    sentence = best["sentences"][0]
    assert sentence["rectangles"][0]["page"] == 2
    assert {each["page"] for each in best["rectangles"]} >= {2}
    one = client.get(f"/v1/documents/{pdf}/hits", params={"q": query, "limit": 1}).json()
    assert one["passages"][0]["start_char"] == best["start_char"] and len(one["passages"]) == 1


def test_hits_are_asked_for_as_their_list_was(client: Client, pdf: str) -> None:
    asked = {"q": "who gets the invoice for the gazebo?"}
    route = f"/v1/documents/{pdf}/hits"
    plain = client.get(route, params=asked).json()
    unread = client.get(route, params=asked | {"rerank": "off"}).json()
    assert unread["reranker"] is None and plain["reranker"] == "late"
    assert all(each["scores"]["reading"] is None for each in unread["passages"])
    told = client.get(route, params=asked | {"instruction": "statutes"}).json()
    assert told["warnings"] == ["late takes no instruction: it read without one."]
    other = '{"field": "type", "eq": "text/plain"}'
    assert client.get(route, params=asked | {"filter": other}).json()["passages"] == []
    assert client.get(route, params=asked | {"filter": "{"}).json()["code"] == "invalid_request"
    assert client.get(route, params=asked | {"depth": "deep"}).status_code == 422
    assert client.get(route, params=asked | {"collection": "nowhere"}).status_code == 404


def test_hits_need_a_document_and_a_query(client: Client, pdf: str) -> None:
    assert client.get("/v1/documents/nothing/hits?q=x").json()["code"] == "not_found"
    assert client.get(f"/v1/documents/{pdf}/hits").status_code == 422


def test_a_text_is_found_wherever_it_stands(client: Client, pdf: str) -> None:
    route = f"/v1/documents/{pdf}/find"
    found = client.get(route, params={"text": "GAZEBO", "rectangles": True}).json()
    text = client.get(f"/v1/documents/{pdf}?text=true").json()["text"]
    spans = [(each["start_char"], each["end_char"]) for each in found["matches"]]
    assert found["count"] == 2 and [text[a:b] for a, b in spans] == ["gazebo", "gazebo"]
    assert [each["rectangles"][0]["page"] for each in found["matches"]] == [1, 2]
    later = client.get(route, params={"text": "gazebo", "at": spans[0][1]}).json()
    assert later["first"] == 1 and later["matches"][0]["start_char"] == spans[1][0]
    assert later["matches"][0]["rectangles"] is None
    first = client.get(route, params={"text": "gazebo", "first": 0, "limit": 1}).json()
    assert [each["start_char"] for each in first["matches"]] == [spans[0][0]]
    # Across the line break, and back to the first where nothing stands behind.
    assert client.get(route, params={"text": "garden. it IS"}).json()["count"] == 1
    assert client.get(route, params={"text": "gazebo", "at": len(text)}).json()["first"] == 0
    assert client.get(route, params={"text": "  "}).json()["count"] == 0
    assert client.get(route, params={"text": "x" * 1001}).status_code == 422


def test_found_text_is_folded() -> None:
    text = "Müller’s co\u00adoperation at the Cafe\u0301 — Straße, ΣΊΓΜΑΣ, 東京都 ﬁn"
    for wanted, shown in (
        ("muller's", "Müller’s"),
        ("cooperation", "co\u00adoperation"),
        ("café - straße", "Cafe\u0301 — Straße"),
        ("σίγμας", "ΣΊΓΜΑΣ"),
        ("京都", "京都"),
    ):
        found = find(text, wanted, first=None, at_char=0, limit=5)
        assert [text[a:b] for a, b in found.matches] == [shown], wanted
    assert find("a.b axb", "a.b", first=0, at_char=0, limit=5).count == 1


@given(st.text(max_size=60))
def test_folding_keeps_offsets(text: str) -> None:
    assert len(fold(text)) == len(text)
    words = text.split()
    if words and fold(words[0]).isascii():
        assert find(text, words[0], first=None, at_char=0, limit=1).count >= 1


# --- pages -------------------------------------------------------------------------------------


def test_pages_and_their_words(client: Client, pdf: str) -> None:
    pages = client.get(f"/v1/documents/{pdf}/pages").json()
    assert pages["images"] and pages["pages"] == [[612.0, 792.0]] * 3
    told = client.get(f"/v1/documents/{pdf}/pages/2/words").json()
    words = [each["text"] for each in told["words"]]
    assert words[:3] == ["Whoever", "repaints", "the"] and words[-1] == "two."
    text = client.get(f"/v1/documents/{pdf}?text=true").json()["text"]
    for each in told["words"]:
        assert text[each["start_char"] : each["end_char"]] == each["text"]
        assert 0 <= each["left"] < each["right"] <= 612
    where = {"start": told["words"][0]["start_char"], "end": told["words"][0]["end_char"]}
    (box,) = client.get(f"/v1/documents/{pdf}/rectangles", params=where).json()["rectangles"]
    assert abs(box["left"] - told["words"][0]["left"]) < 0.1
    missing = client.get(f"/v1/documents/{pdf}/pages/4/words").json()
    assert missing["code"] == "not_found" and missing["hint"] == "It has 3."


def test_a_page_is_a_picture_where_its_words_say(
    client: Client, runtime: Runtime, pdf: str
) -> None:
    route = f"/v1/documents/{pdf}/pages/2/image"
    answer = client.get(route, params={"scale": 1.4})
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["cache-control"] == "private, no-cache"
    assert "sandbox" in answer.headers["content-security-policy"]
    picture = Image.open(io.BytesIO(answer.content)).convert("L")
    assert picture.size == (918, 1188)
    word = client.get(f"/v1/documents/{pdf}/pages/2/words").json()["words"][3]
    box = [round(word[side] * 1.5) for side in ("left", "top", "right", "bottom")]
    assert picture.crop((box[0], box[1], box[2], box[3])).getextrema()[0] < 100
    above = picture.crop((0, 0, 918, box[1] - 12))
    assert above.getextrema()[0] > 250
    same = client.get(
        route, params={"scale": 1.5}, headers={"If-None-Match": answer.headers["etag"]}
    )
    assert same.status_code == 304 and same.content == b""
    files = list((runtime.settings.home / "page-images").glob("*/2-1.5.png"))
    assert [file.read_bytes() for file in files] == [answer.content]
    files[0].write_bytes(answer.content[:-9])  # as a power loss may leave it
    assert client.get(route, params={"scale": 1.5}).content == answer.content


def test_what_cannot_be_drawn_says_so(client: Client, runtime: Runtime, pdf: str) -> None:
    route = f"/v1/documents/{pdf}/pages"
    for wrong in (
        "0/image",
        "1/image?scale=0.4",
        "1/image?scale=5",
        "1/image?scale=nan",
        "x/image",
    ):
        assert client.get(f"{route}/{wrong}").status_code == 422, wrong
    assert client.get(f"{route}/4/image").json()["detail"] == "This document has no page 4."
    assert client.get("/v1/documents/nothing/pages/1/image").status_code == 404
    lease = client.search("rent first day of each month")["hits"][0]["document_id"]
    told = client.get(f"/v1/documents/{lease}/pages").json()
    assert not told["images"] and "PDF" in told["why_no_images"] and told["pages"] is None
    refused = client.get(f"/v1/documents/{lease}/pages/1/image").json()
    assert refused["code"] == "not_found" and lease in refused["hint"]
    shown = zlib.compress(b"BT /F 12 Tf 72 700 Td (Slow zeppelins) Tj ET" + SLOW)
    slow = one_page(stream(shown, b"/Filter /FlateDecode"))
    (hostile,) = client.upload("slow.pdf", slow).json()["document_ids"]
    runtime.pages.close()
    runtime.pages = Pages(runtime.catalog, runtime.settings)
    artist = runtime.pages._open()._artist
    enough_seconds, artist._seconds = artist._seconds, 1.0
    for _ in range(2):
        answer = client.get(f"/v1/documents/{hostile}/pages/1/image")
        assert answer.status_code == 422 and answer.json()["code"] == "not_drawn"
        assert "given up" in answer.json()["detail"] and "text" in answer.json()["hint"]
    artist._seconds = enough_seconds  # on a busy machine, a second is none for anybody
    assert client.get(f"{route}/1/image?scale=1").status_code == 200
    client.delete(f"/v1/documents/{hostile}")
    wait_until_followed(runtime)


SLOW = b" [0.001] 0 d 3 w 0 0 m 100000 100000 l S" * 60_000
"""Some 15 s to draw, packed into a few kilobytes."""


def test_pictures_go_with_their_document(client: Client, runtime: Runtime) -> None:
    data = lines_pdf([["A secret pergola."]])
    ids = [
        client.upload("pergola.pdf", data, key=key).json()["document_ids"][0] for key in ("a", "b")
    ]
    head = runtime.catalog.document(ids[0], client.app.state.service.scope)
    folder = runtime.settings.home / "page-images" / str(head.original)
    assert client.get(f"/v1/documents/{ids[0]}/pages/1/image").status_code == 200
    assert len(list(folder.iterdir())) == 1
    client.delete(f"/v1/documents/{ids[0]}")
    assert client.get(f"/v1/documents/{ids[0]}/pages/1/image").status_code == 404
    assert client.get(f"/v1/documents/{ids[1]}/pages/1/image").status_code == 200
    assert folder.exists(), "another document has the same file"
    client.delete(f"/v1/documents/{ids[1]}")
    assert not folder.exists()
    # What another machine let go of goes with the next look.
    folder.mkdir()
    (folder / "1-1.png").write_bytes(b"x")
    runtime.catalog.erasure.forget_drawn()
    assert not folder.exists()
    wait_until_followed(runtime)


def test_a_picture_drawn_while_its_document_goes_is_not_kept(
    client: Client, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = lines_pdf([["A fleeting pergola."]])
    (document_id,) = client.upload("fleeting.pdf", data).json()["document_ids"]
    head = runtime.catalog.document(document_id, client.app.state.service.scope)
    put = PageImages.put

    def late(self: PageImages, *values: object) -> None:
        client.delete(f"/v1/documents/{document_id}")
        put(self, *values)  # type: ignore[arg-type]

    monkeypatch.setattr(PageImages, "put", late)
    assert client.get(f"/v1/documents/{document_id}/pages/1/image").status_code == 404
    assert not (runtime.settings.home / "page-images" / str(head.original)).exists()
    wait_until_followed(runtime)


def test_kept_pictures_stay_within_their_limit(tmp_path: Path) -> None:
    images = PageImages(tmp_path)
    picture = b"\x89PNG\r\n\x1a\n" + bytes(1000) + b"IEND\xae\x42\x60\x82"
    original = "ab" * 32
    for page in range(1, 11):
        images.put(original, page, 1.0, picture, 5000)
        images.get(original, 1, 1.0)
    kept = [page for page in range(1, 11) if images.get(original, page, 1.0) is not None]
    assert {1, 10} <= set(kept) and len(kept) <= 5000 // len(picture)
    images.put(original, 99, 1.0, picture, 0)
    assert images.get(original, 99, 1.0) is None
    assert images.originals() == [original]
    with pytest.raises(ValueError, match="not the name"):
        images.get("../catalog", 1, 1.0)


def test_a_catalog_forgets_drawn_pages_with_compact(catalog: Catalog) -> None:
    picture = b"\x89PNG\r\n\x1a\nIEND\xae\x42\x60\x82"
    catalog.page_images.put("cd" * 32, 1, 1.0, picture, MIB)
    catalog.erasure.scrub()
    assert catalog.page_images.originals() == []


# --- the process that draws --------------------------------------------------------------------


@pytest.fixture
def drawer() -> Iterator[PageDrawer]:
    opened = PageDrawer(512 * MIB, 64 * MIB, seconds=60.0)
    yield opened
    opened.close()
    with pytest.raises(NotDrawn, match="stop"):
        opened.draw("a", lambda: b"", 1, 1.0)


def test_a_file_is_sent_once(drawer: PageDrawer) -> None:
    asked = []

    def read() -> bytes:
        asked.append(1)
        return lines_pdf(PAGES)

    pictures = [drawer.draw("a", read, page, 1.0) for page in (1, 2, 3)]
    assert len(asked) == 1 and len(set(pictures)) == 3
    with pytest.raises(NotDrawn, match="no page 4"):
        drawer.draw("a", read, 4, 1.0)
    drawer.draw("a", read, 1, 1.0)
    assert len(asked) == 1
    with pytest.raises(NotDrawn, match="cannot be opened"):
        drawer.draw("b", lambda: b"no pdf", 1, 1.0)
    drawer.draw("a", read, 1, 1.0)
    assert len(asked) == 2


def test_large_and_turned_pages_are_drawn_as_they_are_shown(drawer: PageDrawer) -> None:
    turned = placed_pdf([[Words(100, 100, "Turned")]], Box(rotate=90))
    picture = Image.open(io.BytesIO(drawer.draw("t", lambda: turned, 1, 1.0)))
    assert picture.size == (792, 612)
    wide = placed_pdf([[Words(100, 100, "Wide")]], Box(width=14_000, height=14_000))
    picture = Image.open(io.BytesIO(drawer.draw("w", lambda: wide, 1, 4.0)))
    assert picture.size[0] * picture.size[1] < 25_000_000


def test_a_process_that_dies_or_lies_harms_one_page() -> None:
    dying = "import sys; sys.exit(3)"
    drawer = PageDrawer(64 * MIB, MIB, command=(sys.executable, "-c", dying))
    for _ in range(2):
        with pytest.raises(Exception, match="cannot be started"):
            drawer.draw("a", lambda: lines_pdf(PAGES), 1, 1.0)
    drawer.close()
    lying = (
        "import sys, socket, json, numpy as np\n"
        "from longleaf.core.frames import Frame, Incoming, encode\n"
        "from longleaf.indexer.sandbox.confine import Confinement, Hold\n"
        "held = Confinement(*[Hold(True, '')] * 6).to_json()\n"
        "to = socket.socket(fileno=int(sys.argv[2]))\n"
        "to.sendall(encode(Frame({'say': 'hello', 'confinement': held})))\n"
        "coming = Incoming(to)\n"
        "asked = coming.frame().header\n"
        "coming.raw(asked['bytes'])\n"
        "page = np.frombuffer(b'<script>', '|u1')\n"
        "to.sendall(encode(Frame({'page': asked['page']}, (page,))))\n"
    )
    drawer = PageDrawer(64 * MIB, MIB, command=(sys.executable, "-c", lying))
    with pytest.raises(NotDrawn, match="no picture"):
        drawer.draw("a", lambda: lines_pdf(PAGES), 1, 1.0)
    drawer.close()


def test_scales_are_few() -> None:
    assert [scale_of(each) for each in (0.5, 0.7, 1.5, 1.51, 4.0)] == [0.5, 1.0, 1.5, 2.0, 4.0]
