"""Pages of one window: a signed token goes on with it, whatever has happened since."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.api.conftest import Client, copy_home, wait_until_followed

from longleaf.api import cursor, rebuilding, reindexing, wire
from longleaf.api.answer import more
from longleaf.api.app import create_app
from longleaf.api.cursor import MAX_CURSOR_CHARS, seal, unseal
from longleaf.api.search import SearchRequest
from longleaf.api.wire import Runtime
from longleaf.core.config import Settings, load_settings
from longleaf.core.errors import InvalidRequest
from longleaf.core.hits import Hit
from longleaf.core.types import Scope
from longleaf.indexer.parsers.here import ReadHere
from longleaf.indexer.prepare import Labels

if TYPE_CHECKING:
    from longleaf.indexer.embed import MiniLMEmbedder

DOCUMENTS = 24
QUESTION = "who pays the rent of the house?"
STAFF = Scope(groups=frozenset({"staff"}))
BOARD = Scope(groups=frozenset({"staff", "board"}))
WORDS = (
    "The tenant pays the rent of the house each month. ",
    "A deposit is due before the keys are handed over. ",
    "The landlord repairs the roof within thirty days. ",
)


def settings_of(home: Path, **more: Any) -> Settings:
    flags = {"home": home, "chunker.target_tokens": 48} | more
    return load_settings(flags, {}).settings


def text_of(number: int) -> str:
    return f"House {number}.\n\n" + "".join(WORDS[(number + n) % 3] for n in range(9))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, minilm: MiniLMEmbedder) -> Iterator[Path]:
    """A data folder with all documents, and their index; the model is loaded once."""

    def load(settings: Settings, _reasons: dict[str, str]) -> tuple[Any, Any]:
        return minilm, wire.open_chunker(settings, minilm)

    home = tmp_path_factory.mktemp("cursor") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire, "open_models", load)
        patch.setattr(wire, "open_reader", lambda *_: ReadHere())
        parts = wire.open_write_side(settings_of(home))
        parts.catalog.create_collection("law")
        for number in range(DOCUMENTS):
            put(parts, number)
        rebuilding.follow_once(parts)
        parts.close()
        yield home


def put(
    parts: Runtime | wire.WriteSide, number: int, groups: tuple[str, ...] = (), text: str = ""
) -> None:
    labels = Labels(groups=groups, metadata={"floor": number % 4})
    data = (text or text_of(number)).encode()
    result = parts.indexer.index_bytes(
        "law", "english", data, f"{number}.txt", key=str(number), labels=labels
    )
    assert result.document_ids


@pytest.fixture(scope="module")
def quiet(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of what no test changes."""
    home = copy_home(template, tmp_path_factory.mktemp("quiet") / "home")
    opened = wire.open_runtime(settings_of(home), follow=True)
    yield Client(create_app(opened))
    opened.close()


@pytest.fixture
def home(template: Path, tmp_path: Path) -> Path:
    return copy_home(template, tmp_path / "home")


@pytest.fixture
def runtime(home: Path) -> Iterator[Runtime]:
    """What a test may change."""
    opened = wire.open_runtime(settings_of(home), follow=True)
    try:
        wait_until_followed(opened)
        yield opened
    finally:
        opened.close()


@pytest.fixture
def client(runtime: Runtime) -> Client:
    return Client(create_app(runtime))


def pages(client: Client, body: dict[str, Any], limit: int = 5) -> list[dict[str, Any]]:
    """All pages of a window, by cursors."""
    found = [client.search(body.pop("query"), **body, limit=limit, cursor="*")]
    while (cursor := found[-1]["next_cursor"]) is not None:
        response = client.post("/v1/search", json={"cursor": cursor})
        assert response.status_code == 200, response.text
        found.append(response.json())
    return found


@pytest.mark.parametrize(
    "more_of_it",
    [
        {},
        {"explain": True, "passages_per_document": 2},
        {"collapse": True},
        {"group": "none"},
        {"rerank": False},
        {"rerank": {"depth": "auto"}},
        {"min_score": 0.2, "fusion": "rrf", "filter": {"field": "floor", "gte": 1}},
    ],
)
def test_pages_say_what_one_long_page_says(quiet: Client, more_of_it: dict[str, Any]) -> None:
    whole = quiet.search(QUESTION, limit=1000, **more_of_it)
    parts = pages(quiet, {"query": QUESTION, **more_of_it}, limit=4)
    assert [hit for part in parts for hit in part["hits"]] == [
        _as_if_new(hit, part) for hit, part in zip(whole["hits"], _parts_of(parts), strict=True)
    ]
    assert len(parts) == -(-whole["found_count"] // 4) > 1
    for part in parts:
        for name in ("query", "found_count", "exhausted", "reranker", "reranked_count", "explain",
                     "min_score", "below_min_count", "whole_count", "degraded"):  # fmt: skip
            assert part[name] == whole[name], name
        assert part["left_out_count"] == 0
        assert len(part["hits"]) <= 4


def _parts_of(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [part for part in parts for _ in part["hits"]]


def _as_if_new(hit: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """`whole` was asked first, so that its readings were made and the others' were kept."""
    said = {hit["rank"]: hit for hit in part["hits"]}[hit["rank"]]
    changed = dict(hit)
    for name in ("reading", "earlier"):
        if hit[name] is not None:
            changed[name] = hit[name] | {"from_cache": said[name]["from_cache"]}
    return changed


def test_a_window_goes_on_while_documents_go(client: Client, runtime: Runtime) -> None:
    whole = client.search(QUESTION, limit=DOCUMENTS)
    first = client.search(QUESTION, limit=6, cursor="*")
    assert first["hits"] == client.search(QUESTION, limit=6)["hits"]
    # Of those on the next page: one is deleted, one is replaced, and the next one stays.
    deleted, replaced, kept = (hit["key"] for hit in whole["hits"][7:10])
    document_id = whole["hits"][7]["document_id"]
    runtime.catalog.delete_document(document_id, Scope.all())
    put(runtime, int(replaced), text="Another house altogether, where nobody pays rent.")
    wait_until_followed(runtime)
    second = client.post("/v1/search", json={"cursor": first["next_cursor"]}).json()
    keys = [hit["key"] for hit in second["hits"]]
    assert deleted not in keys and replaced not in keys and kept in keys
    assert len(keys) == 6, "the next ones take their places"
    assert second["left_out_count"] == 2
    assert [hit["rank"] for hit in second["hits"]] == [7, 10, 11, 12, 13, 14]
    # The same cursor says the same again, and in a new search the new text is found.
    again = client.post("/v1/search", json={"cursor": first["next_cursor"]}).json()
    assert again["hits"] == second["hits"]
    assert deleted not in [hit["key"] for hit in client.search(QUESTION, limit=100)["hits"]]


def test_what_is_no_longer_permitted_is_left_out_and_counted(runtime: Runtime) -> None:
    engine = runtime.engine
    answer = engine.search(SearchRequest(QUESTION, STAFF, limit=4, cursor=True))
    assert answer.next_cursor is not None
    everything = engine.search(SearchRequest(QUESTION, STAFF, limit=DOCUMENTS)).hits
    hidden, shared = everything[5], everything[6]
    put(runtime, int(hidden.key), groups=("board",))
    put(runtime, int(shared.key), groups=("staff", "board"))
    # The index may lag, the catalog does not: no waiting here.
    second = more(engine, answer.next_cursor, None, STAFF)
    assert hidden.key not in _keys(second.hits) and len(second.hits) == 4
    assert second.left_out_count >= 1
    # Whoever may see more now does not see more of an old window than its maker could.
    wider = more(engine, answer.next_cursor, None, BOARD)
    assert hidden.key not in _keys(wider.hits)
    # Who may see less sees less: other collections, or none of the groups.
    elsewhere = more(engine, answer.next_cursor, None, Scope(collections=frozenset({"other"})))
    assert elsewhere.hits == () and elsewhere.left_out_count == DOCUMENTS - 4
    assert elsewhere.next_cursor is None


def _keys(hits: tuple[Hit, ...]) -> list[str]:
    return [hit.key for hit in hits]


def test_versions_behind_a_hit_go_as_well(client: Client, runtime: Runtime) -> None:
    same = " ".join(
        f"Clause {n}: the miller grinds grain of field {n * 7 % 31} on day {n}." for n in range(40)
    )
    for number in (100, 101, 102):
        put(runtime, number, text=f"{same} Draft {number}.")
    wait_until_followed(runtime)
    whole = client.search(QUESTION, limit=100, collapse=True)
    place, hit = next((n, h) for n, h in enumerate(whole["hits"]) if h["versions"])
    assert place > 0, "another one stands before it, so that a page can end there"
    first = client.search(QUESTION, limit=place, collapse=True, cursor="*")
    gone, kept = hit["versions"]
    runtime.catalog.delete_document(gone["document_id"], Scope.all())
    second = client.post("/v1/search", json={"cursor": first["next_cursor"], "limit": 1}).json()
    [told] = second["hits"]
    assert told["document_id"] == hit["document_id"] and told["versions"] == [kept]


def test_any_replica_goes_on(client: Client, runtime: Runtime, home: Path) -> None:
    first = client.search(QUESTION, limit=6, cursor="*")
    expected = client.post("/v1/search", json={"cursor": first["next_cursor"]}).json()
    runtime.close()
    other = wire.open_runtime(settings_of(home), follow=False)
    try:
        body = {"cursor": first["next_cursor"]}
        told = Client(create_app(other)).post("/v1/search", json=body).json()
    finally:
        other.close()
    assert told["hits"] == expected["hits"]
    assert told["next_cursor"] == expected["next_cursor"]


def test_a_new_generation_shows_the_same_passages(
    client: Client, runtime: Runtime, home: Path
) -> None:
    first = client.search(QUESTION, limit=6, cursor="*", passages_per_document=2)
    expected = client.post("/v1/search", json={"cursor": first["next_cursor"]}).json()
    runtime.close()
    changed = settings_of(home, **{"chunker.target_tokens": 200})
    assert reindexing.reindex(changed).changed
    other = wire.open_runtime(changed, follow=False)
    try:
        other.follower.catch_up()
        body = {"cursor": first["next_cursor"]}
        told = Client(create_app(other)).post("/v1/search", json=body).json()
    finally:
        other.close()
    assert told["hits"] == expected["hits"], "another chunker cut them, and they are cut as found"


def test_limits_may_change_on_the_way(quiet: Client) -> None:
    first = quiet.search(QUESTION, limit=2, cursor="*")
    second = quiet.post("/v1/search", json={"cursor": first["next_cursor"], "limit": 7}).json()
    third = quiet.get("/v1/search", params={"cursor": second["next_cursor"]}).json()
    assert [len(each["hits"]) for each in (first, second, third)] == [2, 7, 7]
    assert [hit["rank"] for hit in third["hits"]] == list(range(10, 17))
    link = quiet.get("/v1/search", params={"q": QUESTION, "limit": "2", "cursor": "*"}).json()
    assert link["hits"] == first["hits"] and link["next_cursor"]


def test_a_window_ends_and_says_whether_there_is_more(quiet: Client) -> None:
    small = pages(quiet, {"query": QUESTION, "candidates": 7})
    assert [len(part["hits"]) for part in small] == [5, 2]
    assert not any("raise candidates" in each for each in small[0]["warnings"])
    assert any("raise candidates" in each for each in small[1]["warnings"])
    whole = pages(quiet, {"query": QUESTION}, limit=DOCUMENTS)
    assert len(whole) == 1 and whole[0]["exhausted"] and not whole[0]["warnings"]
    assert quiet.search(QUESTION, limit=3)["next_cursor"] is None, "nobody asked for one"


def test_a_filter_larger_than_a_request_may_have_is_gone_on_with(quiet: Client) -> None:
    years = ",".join(str(year) for year in range(1, 1_500))
    deep: dict[str, Any] = {"field": "floor", "lte": 3}
    for _ in range(15):  # as deep as a request's may be; the query's own stands above it
        deep = {"and": [deep]}
    bodies: list[dict[str, Any]] = [
        {"query": f"floor:0,{years}"},
        {"query": "floor:>=0 rent", "filter": deep},
    ]
    for body in bodies:
        first = quiet.search(body.pop("query"), limit=1, cursor="*", **body)
        assert first["next_cursor"]
        second = quiet.post("/v1/search", json={"cursor": first["next_cursor"]})
        assert second.status_code == 200, second.text
        assert second.json()["query"] == first["query"]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"cursor": "AAAA"}, 400, "cursor"),
        ({"cursor": "no base64!"}, 400, "cursor"),
        ({"cursor": "ü"}, 400, "cursor"),
        ({"cursor": ""}, 422, "cursor"),
        ({"cursor": "x" * (MAX_CURSOR_CHARS + 1)}, 422, "cursor"),
        ({"cursor": "AAAA", "query": "x"}, 422, "leave out query"),
        ({"cursor": "AAAA", "rerank": False, "facets": ["a"]}, 422, "leave out facets, rerank"),
        ({"cursor": "*"}, 422, "query"),
        ({"cursor": "*", "query": "x", "offset": 3}, 422, "offset"),
        ({}, 422, "query"),
    ],
)
def test_what_is_no_cursor(quiet: Client, body: dict[str, Any], status: int, words: str) -> None:
    response = quiet.post("/v1/search", json=body)
    assert response.status_code == status, response.text
    assert words in response.json()["detail"]
    if "query" in words or not body:
        return
    link = {("q" if key == "query" else key): value for key, value in body.items()}
    if len(str(link)) < 10_000 and "facets" not in link:
        assert quiet.get("/v1/search", params=link).status_code in (400, 422)


def test_a_changed_cursor_is_refused(client: Client, runtime: Runtime) -> None:
    token = client.search(QUESTION, limit=6, cursor="*")["next_cursor"]
    signed = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    body = json.loads(zlib.decompress(bytes(signed[32:])))
    body["scope"] = [None, None]
    forged = bytes(signed[:32]) + zlib.compress(json.dumps(body).encode())
    flips = [signed[:at] + bytes([signed[at] ^ 1]) + signed[at + 1 :] for at in (0, 31, 32, 200)]
    for each in (forged, *map(bytes, flips), bytes(signed[:-1]), bytes(signed[:32]), b""):
        changed = base64.urlsafe_b64encode(each).rstrip(b"=").decode() or "A"
        response = client.post("/v1/search", json={"cursor": changed})
        assert response.status_code == 400 and "cursor" in response.json()["detail"]
    # A catalog that was restored has another history, in which ids mean other things.
    with runtime.catalog._database.writing() as connection:
        connection.exec_driver_sql("UPDATE meta SET value = 'restored' WHERE key = 'epoch'")
    assert client.post("/v1/search", json={"cursor": token}).status_code == 400


def test_a_token_is_what_was_sealed_and_holds_no_text(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = runtime.catalog.signing_key()
    assert key == runtime.catalog.signing_key() and len(key) == 32
    request = SearchRequest(QUESTION, STAFF, limit=5, cursor=True, explain=True, collapse=True)
    token = runtime.engine.search(request).next_cursor
    assert token is not None
    rest = unseal(token, key)
    assert seal(rest, key) == token
    assert rest.scope == STAFF and rest.limit == 5
    assert rest.generation == runtime.engine.generation.fingerprint
    held = zlib.decompress(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))[32:])
    for words in ("tenant", "deposit", "House", "txt"):
        assert words not in held.decode().replace(QUESTION, "")
    with pytest.raises(InvalidRequest, match="cursor"):
        unseal(token, bytes(32))
    monkeypatch.setattr(cursor, "MAX_CURSOR_CHARS", len(token) - 1)
    with pytest.raises(InvalidRequest, match="fewer candidates"):
        seal(rest, key)
