"""Text and numbers that cannot be stored: refused by name, or made readable; never a 500."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import httpx
import pytest
from pydantic import BaseModel
from tests.api.conftest import Client, wait_until_followed

from longleaf.api.cli.searching import ask
from longleaf.api.http.errors import problem_of
from longleaf.api.http.html import render
from longleaf.api.http.plain import PlainJSON
from longleaf.api.wire import Runtime
from longleaf.core.catalog import DocumentHead
from longleaf.core.catalog.listing import Order
from longleaf.core.errors import InvalidRequest, Rejected, RejectReason
from longleaf.core.types import Scope

HALF = "\ud800"
LONG = "9" * 250
JSON = {"content-type": "application/json"}


def _refused(response: httpx.Response, what: str) -> None:
    assert response.status_code in (400, 422), response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["detail"].startswith(what), response.text


def _document_id(client: Client) -> str:
    found: str = client.search("patent litigation")["hits"][0]["document_id"]
    return found


@pytest.mark.parametrize(
    ("metadata", "what"),
    [
        ('{"x": "\\ud800"}', "metadata.x:"),
        ('{"x": ["fine", "\\udfff"]}', "metadata.x[1]:"),
        ('{"\\udc80": "v"}', "metadata.'\ufffd'"),
        ('{"x": "a\\u0000b"}', "metadata.x:"),
        ('{"a\\u0000b": 1}', "metadata.'a\\x00b'"),
        (f'{{"n": {LONG}}}', "metadata.n:"),
        ('{"n": -Infinity}', "metadata.n:"),
        ('{"n": 1e999}', "metadata.n:"),
        ('{"n": NaN}', "metadata.n:"),
        ('{"n": ' + "9" * 5000 + "}", "metadata:"),
    ],
)
def test_metadata_that_cannot_be_stored_is_refused(
    client: Client, runtime: Runtime, metadata: str, what: str
) -> None:
    before = runtime.catalog.head_seq()
    _refused(client.upload("plain.txt", b"It is only text.", metadata=metadata), what)
    assert runtime.catalog.head_seq() == before


@pytest.mark.parametrize("field", ["key", "groups", "collection"])
@pytest.mark.parametrize("bad", ["x+2AA-y", "x+AAA-y"], ids=["half", "nul"])
def test_form_fields_that_cannot_be_stored_are_refused(
    client: Client, field: str, bad: str
) -> None:
    # The charset is the sender's to choose, and UTF-7 can spell half of a surrogate pair.
    response = _upload_utf7(client, **({"collection": "scratch"} | {field: bad}))
    half = "2AA" in bad and field != "groups"
    _refused(response, f"body.{field}:" if half else field)


def test_a_file_name_is_made_readable(client: Client, runtime: Runtime) -> None:
    response = _upload_utf7(client, name="half+2AA-.txt", collection="scratch")
    assert response.status_code == 201, response.text
    (document_id,) = response.json()["document_ids"]
    assert client.get(f"/v1/documents/{document_id}").json()["source"] == "half\ufffd.txt"
    assert client.get(f"/v1/documents/{document_id}/original").status_code == 200
    assert client.delete(f"/v1/documents/{document_id}").status_code == 204
    wait_until_followed(runtime)


def _upload_utf7(client: Client, name: str = "a.txt", **fields: str) -> httpx.Response:
    parts = [f'name="{field}"\r\n\r\n{value}' for field, value in fields.items()]
    parts.append(f'name="file"; filename="{name}"\r\n\r\nText of the file {name}.')
    body = "".join(f"--b\r\nContent-Disposition: form-data; {part}\r\n" for part in parts)
    headers = {"content-type": "multipart/form-data; boundary=b; charset=utf-7"}
    return client.post("/v1/documents", content=f"{body}--b--\r\n".encode(), headers=headers)


@pytest.mark.parametrize(
    "query",
    ["patent \\ud800 litigation", "patent\\u0000 litigation", "\\udfff"],
)
def test_a_query_is_never_an_error(client: Client, query: str) -> None:
    response = client.post("/v1/search", content=f'{{"query": "{query}"}}', headers=JSON)
    assert response.status_code == 200, response.text
    if "patent" in query:
        assert response.json()["hits"][0]["key"] == "apache.md"


def test_an_argument_that_is_no_utf8_reaches_the_server(
    client: Client, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command line speaks to this app, through the transport that stands for a socket."""

    def send(_: httpx.Client, url: str, **options: Any) -> httpx.Response:
        return client.post(url.removeprefix("http://server"), **options)

    monkeypatch.setattr("longleaf.api.running.find_server", lambda _: "http://server")
    monkeypatch.setattr(httpx.Client, "post", send)
    answer = ask(runtime.settings, {"query": "patent \udcff litigation"})
    assert answer["query"]["text"] == "patent \ufffd litigation"
    with pytest.raises(InvalidRequest, match=r"filter\.eq"):
        ask(runtime.settings, {"query": "", "filter": {"field": "x", "eq": float("nan")}})


@pytest.mark.parametrize(
    ("leaf", "what"),
    [
        ('{"field": "x", "eq": "\\ud800"}', "filter.and[0].eq:"),
        ('{"field": "x", "in": ["a", "\\ud800"]}', "filter.and[0].in[1]:"),
        ('{"field": "\\ud800", "prefix": "a"}', "filter.and[0].field:"),
        ('{"field": "x", "prefix": "\\u0000"}', "filter.and[0].prefix:"),
        ('{"field": "x", "\\ud800": 1}', "filter.and[0].\ufffd:"),
        (f'{{"field": "x", "eq": {LONG}}}', "filter.and[0].eq:"),
        (f'{{"field": "x", "gte": -{LONG}}}', "filter.and[0].gte:"),
        ('{"field": "x", "gte": NaN}', "filter.and[0].gte:"),
        ('{"field": "x", "eq": 1e999}', "filter.and[0].eq:"),
    ],
)
def test_filters_that_cannot_be_compared_are_refused(client: Client, leaf: str, what: str) -> None:
    tree = f'{{"and": [{leaf}]}}'
    body = f'{{"query": "patent", "filter": {tree}}}'
    _refused(client.post("/v1/search", content=body, headers=JSON), what)
    _refused(client.get("/v1/search", params={"q": "patent", "filter": tree}), what)
    assert client.get("/", params={"q": "patent", "filter": tree}).status_code == 400


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/search", '{"query": "a", "collections": ["\\ud800"]}'),
        ("/v1/search", '{"query": "a", "collections": ["law", "a\\u0000"]}'),
        ("/v1/search", '{"query": "a", "rerank": {"instruction": "\\ud800"}}'),
        ("/v1/search", '{"query": "a", "\\ud800": 1}'),
        ("/v1/search", '{"query": "a", "limit": ' + "9" * 5000 + "}"),
        ("/v1/collections", '{"name": "\\ud800"}'),
        ("/v1/collections", '{"name": "a\\u0000"}'),
        ("/v1/collections", '{"name": "halves", "description": "\\ud800"}'),
        ("/v1/collections", '{"name": "halves", "language": "\\ud800"}'),
    ],
)
def test_other_text_in_a_body_is_refused(client: Client, path: str, body: str) -> None:
    _refused(client.post(path, content=body, headers=JSON), "")


def test_stored_halves_leave_readable(
    client: Client, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an older version could have stored them: in every part that a document shows."""
    document_id = _document_id(client)
    real = runtime.catalog.document(document_id, Scope.all())
    odd: dict[str, Any] = {"x": HALF, HALF: "y", "n": float("nan"), "i": int(LONG)}
    head = dataclasses.replace(real, title=f"T{HALF}", source=f"s{HALF}.md", metadata=odd)
    monkeypatch.setattr(runtime.catalog, "document", lambda *_: head)
    [first] = runtime.catalog.listed(Scope.all(), None, Order.KEY, limit=1)
    monkeypatch.setattr(
        runtime.catalog, "listed", lambda *_, **__: [dataclasses.replace(first, head=head)]
    )
    listed = client.get("/v1/documents")
    assert listed.status_code == 200, listed.text
    assert listed.json()["documents"][0]["metadata"]["x"] == "\ufffd"
    assert client.get(f"/v1/documents/{document_id}").json()["title"] == "T\ufffd"
    page = client.get(f"/documents/{document_id}")
    assert page.status_code == 200 and "T\ufffd" in page.text
    original = client.get(f"/v1/documents/{document_id}/original")
    assert original.status_code == 200
    assert "s%EF%BF%BD.md" in original.headers["content-disposition"]


def test_no_model_fails_to_be_written() -> None:
    class Odd(BaseModel):
        text: str
        score: float

    written = PlainJSON(Odd(text=HALF, score=float("inf")))
    assert json.loads(bytes(written.body)) == {"text": "\ufffd", "score": None}
    problem = problem_of(Rejected(RejectReason.MALFORMED, f"Bad {HALF}."))
    assert "Bad \ufffd." in render("error.html", problem=problem)


def test_our_own_mistake_is_not_the_files() -> None:
    ours = problem_of(Rejected(RejectReason.INTERNAL, "It broke."))
    assert (ours.status, ours.code, ours.reason) == (500, "rejected", "internal")
    theirs = problem_of(Rejected(RejectReason.MALFORMED, "It is broken."))
    assert (theirs.status, theirs.code) == (422, "rejected")


@pytest.mark.parametrize(
    "path", ["/v1/documents/{}?text=true", "/documents/{}", "/v1/documents/{}/original"]
)
def test_deleted_while_being_read_is_not_found(
    client: Client, runtime: Runtime, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    text = f"A text that somebody deletes while {path} reads it."
    made = client.upload("gone.txt", text.encode())
    (document_id,) = made.json()["document_ids"]
    catalog = runtime.catalog
    read = catalog.document

    def read_then_lose(public_id: str, scope: Scope) -> DocumentHead:
        head = read(public_id, scope)
        catalog.delete_document(public_id, scope)
        return head

    monkeypatch.setattr(catalog, "document", read_then_lose)
    response = client.get(path.format(document_id))
    assert response.status_code == 404, response.text
    wait_until_followed(runtime)


def test_titles_do_not_come_from_python(client: Client) -> None:
    titles: dict[str, Any] = {
        "/v1/search?limit=0": "Unprocessable content",
        "/nowhere": "Not found",
    }
    for path, title in titles.items():
        assert client.get(path).json()["title"] == title
