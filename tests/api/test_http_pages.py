"""The pages: they show what the API says, and never run what a document says."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.api.conftest import EVIL, TEXTS, Client, wait_until_followed

from longleaf.api.http.search_page import describe_filter
from longleaf.api.http.textview import Block, marked, paragraphs, window
from longleaf.api.wire import Runtime
from longleaf.core.catalog import DocumentText
from longleaf.core.types import Page, Section

_OWN_SCRIPT = re.compile(r"/static/[0-9a-f]{12}/\w+\.js")


class _Reader(HTMLParser):
    """What a browser would make of a page: its elements and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.marks: list[str] = []
        self._in_mark = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "mark":
            self._in_mark = True
            self.marks.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in_mark = self._in_mark and tag != "mark"

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._in_mark:
            self.marks[-1] += data


def _safe(page: str) -> _Reader:
    """Read a page and check that nothing in it runs or loads what we did not write."""
    read = _Reader(page)
    for tag, attributes in read.elements:
        assert tag not in ("style", "iframe", "object", "embed", "base")
        if tag == "script":
            assert set(attributes) == {"type", "src"}
            assert _OWN_SCRIPT.fullmatch(attributes["src"] or "")
        for name, value in attributes.items():
            assert not name.startswith("on") and name != "style"
            if name in ("href", "src", "action"):
                assert (value or "").startswith(("/", "#")) and not (value or "").startswith("//")
    assert read.elements[0] == ("html", {"lang": "en"})
    return read


def test_home_page_works_without_script(client: Client) -> None:
    response = client.get("/")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    read = _safe(response.text)
    form = dict(read.elements)["form"]
    assert form["action"] == "/" and form["method"] == "get"
    inputs = [attributes for tag, attributes in read.elements if tag == "input"]
    assert {each["value"] for each in inputs if each["name"] == "collection"} >= {"law", "science"}
    assert "documents" in read.text


def test_results_show_what_the_api_says(client: Client) -> None:
    query = "which licence ends my patent grant if I sue?"
    answer = client.search(query)
    read = _safe(client.get("/", params={"q": query}).text)
    for hit in answer["hits"][:3]:
        assert hit["title"] in read.text
    best = answer["hits"][0]
    reading = best["reading"]
    assert f"read {reading['tokens_read']} of {reading['tokens_total']} tokens" in read.text
    assert "Grant of Patent License" in read.text and "Why this rank" in read.text
    assert f"{best['passages'][0]['scores']['bm25']:.3f}" in read.text
    assert "patent" in {mark.lower() for mark in read.marks}
    assert "total" in read.text
    links = [attributes["href"] for tag, attributes in read.elements if tag == "a"]
    assert any(f"/documents/{best['document_id']}?start=" in (link or "") for link in links)


def test_settings_of_a_search_stay_in_the_form(client: Client) -> None:
    params = {"q": "rent", "collection": "law", "rerank": "off", "limit": "1"}
    params["filter"] = '{"field": "year", "gte": 2019}'
    page = client.get("/", params=params).text
    read = _safe(page)
    assert "first stage only" in read.text and "year ≥ 2019" in read.text
    ticked = [a for tag, a in read.elements if tag == "input" and "checked" in a]
    assert {a["value"] for a in ticked} == {"law", "off"}
    more = [a["href"] for tag, a in read.elements if tag == "a" and a.get("rel") == "next"]
    assert more and "offset=1" in more[0] and "rerank=off" in more[0]
    second = _safe(client.get(more[0]).text)
    assert [a.get("value") for tag, a in second.elements if tag == "li" and "value" in a] == ["2"]


def test_what_goes_wrong_is_shown(client: Client) -> None:
    nothing = _safe(client.get("/", params={"q": '"xyzzy plugh"', "collection": "law"}).text)
    assert "No document matches" in nothing.text and "Search all collections" in nothing.text
    bad = client.get("/", params={"q": "x", "filter": "{"})
    assert bad.status_code == 400 and "not JSON" in _safe(bad.text).text
    unknown = client.get("/", params={"q": "x", "collection": EVIL})
    assert unknown.status_code == 404 and "There is no collection" in _safe(unknown.text).text
    wrong = client.get("/?limit=no", headers={"accept": "text/html"})
    assert wrong.status_code == 422 and "limit" in _safe(wrong.text).text
    gone = client.get("/documents/nothing", headers={"accept": "text/html"})
    assert gone.status_code == 404 and "There is no document" in _safe(gone.text).text


def test_degraded_and_late_answers_say_so(
    client: Client, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_arguments: object) -> None:
        raise RuntimeError("model gone")

    monkeypatch.setattr(runtime.engine, "_seen_seq", lambda: 0)
    monkeypatch.setattr(runtime.engine.embedder, "embed_query", broken, raising=False)
    read = _safe(client.get("/?q=rent").text)
    assert "Incomplete (dense)" in read.text and "changes behind" in read.text
    assert "Residential lease" in read.text


def test_hostile_text_stays_text(client: Client) -> None:
    assert "<script>" in TEXTS["evil.md"]
    for query in ("hostile zeppelin", f"zeppelin {EVIL}", EVIL, "javascript:alert(3) zeppelin"):
        read = _safe(client.get("/", params={"q": query}).text)
        inputs = [a["value"] for tag, a in read.elements if tag == "input" and a["name"] == "q"]
        assert set(inputs) == {query}, "the form's, and the thumbs'"
        assert "<script>alert(1)</script>" in read.text
    answer = client.search("hostile zeppelin")
    assert answer["hits"][0]["key"] == "evil.md"
    document_id = answer["hits"][0]["document_id"]
    read = _safe(client.get(f"/documents/{document_id}", params={"q": EVIL}).text)
    assert "javascript:alert(3)" in read.text and "onerror=alert(2)" in read.text


def test_hostile_names_and_metadata_stay_text(client: Client, runtime: Runtime) -> None:
    name = "<img src=x onerror=alert(1)>.txt"
    metadata = '{"url": "javascript:alert(1)", "<b>": ["<i>x</i>", "\\" onclick=\\"y"]}'
    made = client.upload(name, b"Gazebo maintenance by hand.", key=EVIL, metadata=metadata)
    (document_id,) = made.json()["document_ids"]
    wait_until_followed(runtime)
    for path in ("/?q=gazebo+maintenance", f"/documents/{document_id}"):
        read = _safe(client.get(path).text)
        assert name in read.text and "javascript:alert(1)" in read.text
    client.delete(f"/v1/documents/{document_id}")


def test_a_passage_is_marked_in_its_document(client: Client) -> None:
    hit = client.search("patent litigation")["hits"][0]
    passage = hit["passages"][0]
    read = _safe(client.get(hit["url"].partition("#")[0]).text)
    assert "".join("".join(read.marks).split()) == "".join(passage["text"].split())
    assert next(a for tag, a in read.elements if tag == "mark")["id"] == "hit"
    assert sum(a.get("id") == "hit" for _, a in read.elements) == 1
    assert any(a.get("href", "").startswith("#s-") for tag, a in read.elements if tag == "a")


def test_long_documents_come_in_windows(client: Client, runtime: Runtime) -> None:
    lines = [f"Clause {number}. The party shall do {number} things.\n" for number in range(700)]
    text = "".join(lines)
    made = client.upload("long.txt", text.encode())
    (document_id,) = made.json()["document_ids"]
    start = text.index("Clause 400.")
    page = client.get(f"/documents/{document_id}?start={start}&end={start + 11}").text
    assert len(page) < 60_000
    read = _safe(page)
    assert read.marks == ["Clause 400."]
    seen = ""
    link = f"/documents/{document_id}"
    while link:
        read = _safe(client.get(link).text)
        seen += read.text
        links = [a["href"] for tag, a in read.elements if tag == "a" and a.get("rel") == "next"]
        link = links[0] or "" if links else ""
    assert all(line in seen for line in lines)
    client.delete(f"/v1/documents/{document_id}")
    wait_until_followed(runtime)


@given(st.data(), st.text(alphabet="ab \n<", max_size=300))
def test_windows_show_the_text_and_nothing_else(data: st.DataObject, text: str) -> None:
    cuts = st.integers(0, len(text))
    starts = sorted(data.draw(st.sets(cuts, max_size=4)))
    pages = tuple(Page(n, start, len(text)) for n, start in enumerate(starts, 1))
    sections = tuple(
        Section("t", 1, start, len(text)) for start in sorted(data.draw(st.sets(cuts, max_size=4)))
    )
    mark = tuple(sorted((data.draw(cuts), data.draw(cuts))))
    document = DocumentText(text, pages, sections)
    shown = window(document, data.draw(st.none() | cuts), (mark[0], mark[1]), window_chars=40)
    pieces = [piece for block in shown.blocks for piece in block.pieces]
    visible = "".join(piece.text for piece in pieces)
    wanted = text[shown.start_char : shown.end_char]
    assert "".join(visible.split()) == "".join(wanted.split())
    highlighted = "".join(piece.text for piece in pieces if piece.marked)
    inside = text[max(mark[0], shown.start_char) : min(mark[1], shown.end_char)]
    assert "".join(highlighted.split()) == "".join(inside.split())
    assert shown.following is None or shown.following > shown.start_char


@given(st.text(max_size=50), st.lists(st.integers(-10, 70), max_size=8), st.integers(0, 20))
def test_marks_keep_every_character(text: str, ends: list[int], start: int) -> None:
    ends = sorted(ends)
    spans = list(zip(ends[::2], ends[1::2], strict=False))
    pieces = marked(text, start, spans)
    assert "".join(piece.text for piece in pieces) == text
    wanted = {i for begin, end in spans for i in range(begin - start, end - start)}
    position = 0
    for piece in pieces:
        assert piece.text
        for _ in piece.text:
            assert (position in wanted) == piece.marked
            position += 1


def test_paragraphs_reflow_and_keep_their_marks() -> None:
    text = "One line\nand its rest.\n\n(a) first\n(b) second"
    begin = text.index("rest")
    found = paragraphs(marked(text, 0, [(begin, begin + 4)]))
    assert ["".join(piece.text for piece in each) for each in found] == [
        "One line\nand its rest.",
        "(a) first",
        "(b) second",
    ]
    assert [piece.text for each in found for piece in each if piece.marked] == ["rest"]


def test_headings_and_pages_are_blocks() -> None:
    text = "One\nfirst text\nTwo\nsecond text\n"
    document = DocumentText(
        text,
        (Page(1, 0, 15), Page(2, 15, len(text))),
        (Section("One", 1, 0, 15), Section("Two", 2, 15, len(text))),
    )
    kinds = [(block.kind, block.number) for block in window(document, None, None).blocks]
    assert kinds == [
        ("page", 1), ("heading", 0), ("text", 0), ("page", 2), ("heading", 1), ("text", 0),
    ]  # fmt: skip
    assert window(DocumentText(""), 5, (1, 2)).blocks == ()
    assert isinstance(window(document, None, None).blocks[0], Block)


def test_filters_in_words() -> None:
    tree = {
        "and": [
            {"field": "year", "gte": 2019, "lt": 2022},
            {"or": [{"field": "court", "prefix": "ca"}, {"not": {"field": "type", "eq": "x"}}]},
            {"field": "tag", "in": ["a", "b"]},
        ]
    }
    assert describe_filter(tree) == (
        "year ≥ 2019 and year < 2022 and (court starts with “ca” or not (type is x)) "
        "and tag is one of a, b"
    )
