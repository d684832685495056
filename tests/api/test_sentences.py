"""The sentences that carry a passage's score, where they stand, and how a page shows them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.api.conftest import TEXTS, Client, wait_until_followed

from longleaf.api.http.textview import carrying, marked
from longleaf.api.sentences import SentenceMarker
from longleaf.api.wire import Runtime
from longleaf.core import ids
from longleaf.core.errors import CatalogBroken
from longleaf.core.protocols import TokenPlaces
from longleaf.core.types import EmbedInput, PassageText, QueryVectors
from longleaf.indexer.sentences import sentence_spans
from longleaf.reranker.maxsim import maxsim

if TYPE_CHECKING:
    from longleaf.indexer.embed import MiniLMEmbedder

TRIAL = (
    "The ward was painted in the spring. Serum ferritin fell by a third after the second infusion "
    "of iron. Nobody remembers who chose the colour. The garden was closed."
)
QUESTION = "did ferritin fall after iron was given?"
COURTS = Path(__file__).parents[3] / "shared/data/documents/court_files"


@pytest.fixture
def client(client: Client, runtime: Runtime) -> Client:
    if client.get(f"/v1/documents/{ids.document_id('scratch', 'trial.txt')}").status_code == 404:
        client.upload("trial.txt", TRIAL.encode(), key="trial.txt")
        wait_until_followed(runtime)
    return client


def test_the_sentence_that_answers_is_marked(client: Client) -> None:
    only = {"field": "key", "eq": "trial.txt"}
    [hit] = client.search(QUESTION, filter=only, highlight="sentences")["hits"]
    [passage] = hit["passages"]
    [sentence] = passage["sentences"]
    said = TRIAL[sentence["start_char"] : sentence["end_char"]]
    assert said.startswith("Serum ferritin fell") and said.endswith("of iron.")
    assert sentence["rectangles"] is None
    assert 0.3 < sentence["score"] <= passage["scores"]["reading"] + 1e-3
    # What is not asked for is not told.
    plain = client.search(QUESTION, filter=only)["hits"][0]
    assert plain["passages"][0]["sentences"] is None
    link = client.get("/v1/search", params={"q": QUESTION, "highlight": "sentences"}).json()
    assert any(p["sentences"] for h in link["hits"] for p in h["passages"])
    bad = client.post("/v1/search", json={"query": "x", "highlight": "all"})
    assert bad.status_code == 422


def test_without_a_second_stage_as_well_and_on_later_pages(client: Client) -> None:
    body = {"highlight": "sentences", "collections": ["law"]}
    bare = client.search("who pays the rent?", rerank=False, **body)
    assert all(p["sentences"] for h in bare["hits"] for p in h["passages"])
    whole = client.search("who pays the rent?", **body)
    first = client.search("who pays the rent?", limit=1, cursor="*", **body)
    rest = client.post("/v1/search", json={"cursor": first["next_cursor"], "limit": 9}).json()
    assert [h["passages"] for h in whole["hits"]] == [
        h["passages"] for h in (*first["hits"], *rest["hits"])
    ]


def test_a_sentence_scores_what_maxsim_says_of_its_tokens(runtime: Runtime, client: Client) -> None:
    """The slow, obvious version: every sentence's tokens cut out, and scored by the oracle."""
    engine = runtime.engine
    vectors = engine.embed(QUESTION, None)
    assert vectors is not None
    for key in ("apache.md", "case.txt", "evil.md"):
        head = engine.catalog.document(ids.document_id("law", key), scope=_everyone())
        passages = engine.catalog.passages(head, engine.generation)
        marker = SentenceMarker(engine.catalog, engine.generation, engine.embedder, vectors)
        found = marker.mark(passages)
        assert set(found) == {each.point_id for each in passages}
        for passage in passages:
            slow = _slow(runtime, passage, vectors)
            best = max(slow.values())
            expected = {span: score for span, score in slow.items() if score >= 0.95 * best}
            told = {(s.start_char, s.end_char): s.score for s in found[passage.point_id]}
            assert told == pytest.approx(expected, abs=1e-5)
            assert list(told) == sorted(told)


def _everyone() -> Any:
    from longleaf.core.types import Scope

    return Scope.all()


def _slow(
    runtime: Runtime, passage: PassageText, vectors: QueryVectors
) -> dict[tuple[int, int], float]:
    engine = runtime.engine
    codes, _, prefix = engine.catalog.token_vectors([passage.passage_id], engine.generation)
    own = codes[prefix[0] :]
    embedder: Any = engine.embedder
    [places] = embedder.token_places([EmbedInput("", passage.text)])
    scores = {}
    for start, end in sentence_spans(passage.text, 0, len(passage.text)):
        inside = [n for n, (a, b) in enumerate(places) if start <= (a + b) // 2 < end]
        if inside:
            span = (passage.start_char + start, passage.start_char + end)
            scores[span] = float((own[inside].astype(np.float32) @ vectors.tokens.T).max(0).mean())
            assert scores[span] == pytest.approx(maxsim(own[inside], vectors.tokens), abs=0.02)
    return scores


def test_documents_of_equal_text_are_all_marked(client: Client, runtime: Runtime) -> None:
    for name in ("copy1.txt", "copy2.txt"):
        client.upload(name, TRIAL.encode(), key=name)
    wait_until_followed(runtime)
    only = {"field": "key", "in": ["copy1.txt", "copy2.txt", "trial.txt"]}
    answer = client.search(QUESTION, filter=only, highlight="sentences")
    marked_ones = {h["key"] for h in answer["hits"] for p in h["passages"] if p["sentences"]}
    assert marked_ones == {"copy1.txt", "copy2.txt", "trial.txt"}
    for name in ("copy1.txt", "copy2.txt"):
        client.delete(f"/v1/documents/{ids.document_id('scratch', name)}")
    wait_until_followed(runtime)


def test_a_failure_to_mark_is_told_and_no_more(
    client: Client, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(*_: Any) -> Any:
        raise CatalogBroken("A segment is damaged.", "longleaf doctor")

    monkeypatch.setattr(runtime.catalog, "token_vectors", damaged)
    body = {"query": "who pays?", "highlight": "sentences", "rerank": False, "collections": ["law"]}
    answer = client.post("/v1/search", json=body).json()
    assert answer["hits"] and all(p["sentences"] is None for p in answer["hits"][0]["passages"])
    assert answer["degraded"] == [
        {"stage": "highlight", "reason": "No sentence was marked: A segment is damaged."}
    ]
    assert client.get("/", params={"q": "who pays?", "rerank": "off"}).status_code == 200

    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(runtime.catalog, "token_vectors", broken)
    answer = client.post("/v1/search", json=body).json()
    assert answer["degraded"][0]["stage"] == "highlight" and "secret" not in str(answer)


def test_marking_waits_for_its_turn_and_ends_with_the_client(runtime: Runtime) -> None:
    engine = runtime.engine
    head = engine.catalog.document(ids.document_id("law", "apache.md"), scope=_everyone())
    passages = engine.catalog.passages(head, engine.generation)
    vectors = engine.embed(QUESTION, None)
    held: list[str] = []

    class Slots:
        def __enter__(self) -> None:
            held.append("in")

        def __exit__(self, *_: object) -> None:
            held.append("out")

    marker = SentenceMarker(
        engine.catalog, engine.generation, engine.embedder, vectors, slots=Slots()
    )
    assert marker.mark(passages) and held == ["in", "out"]
    gone = SentenceMarker(
        engine.catalog, engine.generation, engine.embedder, vectors, given_up=lambda: True
    )
    assert gone.mark(passages) == {}


def test_nothing_is_marked_where_nobody_can_tell(runtime: Runtime) -> None:
    engine = runtime.engine
    head = engine.catalog.document(ids.document_id("law", "mit.txt"), scope=_everyone())
    passages = engine.catalog.passages(head, engine.generation)

    def marked_by(embedder: Any, vectors: QueryVectors | None) -> dict[int, Any]:
        return SentenceMarker(engine.catalog, engine.generation, embedder, vectors).mark(passages)

    vectors = engine.embed(QUESTION, None)
    assert vectors is not None
    assert marked_by(engine.embedder, None) == {}
    none = np.zeros((0, 0), np.float32)
    assert marked_by(engine.embedder, replace(vectors, tokens=none)) == {}

    class Silent:
        """An embedder that does not know where its tokens stand."""

    class Other:
        def token_places(self, inputs: list[EmbedInput]) -> list[list[tuple[int, int]]]:
            return [[(0, 1)] for _ in inputs]

    assert marked_by(Silent(), vectors) == {}
    assert marked_by(Other(), vectors) == {}, "another number of tokens than are stored"
    assert (
        SentenceMarker(engine.catalog, engine.generation, engine.embedder, vectors).mark([]) == {}
    )


@given(st.text(max_size=300), st.integers(0, 60))
def test_tokens_stand_where_their_vectors_come_from(
    minilm: MiniLMEmbedder, text: str, overlap_chars: int
) -> None:
    assert isinstance(minilm, TokenPlaces)
    inputs = [
        EmbedInput("A title › A heading", text, min(overlap_chars, len(text)), keep_prefix=True),
        EmbedInput("", text, min(overlap_chars, len(text))),
    ]
    for item, vectors, places in zip(
        inputs, minilm.embed_passages(inputs), minilm.token_places(inputs), strict=True
    ):
        assert len(places) == len(vectors.token_codes) - vectors.prefix_tokens
        for start, end in places:
            assert 0 <= start <= end <= len(text) and end > item.overlap_chars - 1
        assert places == sorted(places)


def test_a_text_too_long_for_the_model_has_places_for_what_it_read(minilm: MiniLMEmbedder) -> None:
    item = EmbedInput("Title", "rent " * 900)
    [vectors] = minilm.embed_passages([item])
    [places] = minilm.token_places([item])
    assert vectors.truncated_tokens > 0
    assert len(places) == len(vectors.token_codes) and places[0] == (0, 4)


@pytest.mark.skipif(not COURTS.is_dir(), reason="shared/data is not on this machine")
def test_sentences_of_a_pdf_have_their_rectangles(client: Client, runtime: Runtime) -> None:
    file = next(
        path for path in sorted(COURTS.rglob("*.pdf")) if 40_000 < path.stat().st_size < 190_000
    )
    upload = client.upload(file.name, file.read_bytes(), key="court.pdf")
    assert upload.status_code == 201, upload.text
    wait_until_followed(runtime)
    document_id = ids.document_id("scratch", "court.pdf")
    body = {"filter": {"field": "key", "eq": "court.pdf"}, "highlight": "rectangles"}
    answer = client.search("the court and the motion", collections=["scratch"], **body)
    [hit] = answer["hits"]
    sentences = [s for p in hit["passages"] for s in p["sentences"]]
    assert sentences
    for sentence in sentences:
        assert sentence["rectangles"]
        link = f"/v1/documents/{document_id}/rectangles"
        params = {"start": sentence["start_char"], "end": sentence["end_char"]}
        places = client.get(link, params=params).json()
        assert places["rectangles"] == sentence["rectangles"]
        for each in places["rectangles"]:
            width, height = places["pages"][each["page"] - 1]
            assert 0 <= each["left"] < each["right"] <= width + 1
            assert 0 <= each["top"] < each["bottom"] <= height + 1
    client.delete(f"/v1/documents/{document_id}")
    wait_until_followed(runtime)


def test_rectangles_of_what_has_no_pages(client: Client) -> None:
    link = f"/v1/documents/{ids.document_id('law', 'lease.txt')}/rectangles"
    told = client.get(link, params={"start": 0, "end": 5}).json()
    assert told["rectangles"] is None and told["pages"] is None
    for start, end in ((5, 5), (0, 10_000), (9, 3)):
        bad = client.get(link, params={"start": start, "end": end})
        assert bad.status_code == 400 and "characters" in bad.json()["detail"]
    assert client.get("/v1/documents/nowhere/rectangles").status_code == 404


def test_the_page_shows_them(client: Client) -> None:
    only_it = '{"field": "key", "eq": "trial.txt"}'
    page = client.get("/", params={"q": QUESTION, "filter": only_it}).text
    assert "<b>Serum </b>" in page or "<b>Serum" in page
    assert "<b><mark>ferritin</mark></b>" in page
    assert "<b>Nobody" not in page and "<script>" not in page
    assert "zeppelin" in TEXTS["evil.md"]


_SPANS = st.lists(st.integers(-5, 60), max_size=8).map(sorted)


@given(st.text(max_size=50), _SPANS, _SPANS, st.integers(0, 20))
def test_marks_and_sentences_keep_every_character(
    text: str, words: list[int], sentences: list[int], start: int
) -> None:
    spans = list(zip(words[::2], words[1::2], strict=False))
    carried = list(zip(sentences[::2], sentences[1::2], strict=False))
    pieces = carrying(marked(text, start, spans), start, carried)
    assert "".join(piece.text for piece in pieces) == text
    position = start
    for piece in pieces:
        assert piece.text
        for _ in piece.text:
            assert piece.marked == any(a <= position < b for a, b in spans)
            assert piece.carries == any(a <= position < b for a, b in carried)
            position += 1
