"""Uploads, documents and collections over a real runtime."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from email.message import EmailMessage

import httpx
import pytest
from tests.api.conftest import TEXTS, Client, wait_until_followed

from longleaf.api.wire import Runtime


def _problem(response: httpx.Response, status: int, code: str) -> dict:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["code"] == code
    return problem


def test_upload_search_delete(client: Client, runtime: Runtime) -> None:
    data = b"Quokka husbandry\n\nThe quokka is fed on leaves twice a day.\n"
    fields = {"key": "q-1", "metadata": json.dumps({"year": 2024, "tags": ["a", "b"]})}
    response = client.upload("quokka.txt", data, **fields)
    assert response.status_code == 201
    made = response.json()
    assert made["outcome"] == "indexed" and made["document_count"] == 1
    (document_id,) = made["document_ids"]
    assert response.headers["location"] == f"/v1/documents/{document_id}"

    again = client.upload("quokka.txt", data, **fields)
    assert again.status_code == 200 and again.json()["outcome"] == "unchanged"

    wait_until_followed(runtime)
    found = client.search("what do quokkas eat?", collections=["scratch"])
    assert found["hits"][0]["document_id"] == document_id
    stored = {"year": 2024, "tags": ["a", "b"], "keywords": ["a", "b"]}
    assert found["hits"][0]["metadata"] == stored

    assert client.delete(f"/v1/documents/{document_id}").status_code == 204
    _problem(client.get(f"/v1/documents/{document_id}"), 404, "not_found")
    _problem(client.delete(f"/v1/documents/{document_id}"), 404, "not_found")
    left = client.search("what do quokkas eat?", collections=["scratch"])["hits"]
    assert document_id not in [hit["document_id"] for hit in left]


def test_document_and_passages(client: Client) -> None:
    document_id = client.search("patent litigation")["hits"][0]["document_id"]
    head = client.get(f"/v1/documents/{document_id}").json()
    assert head["key"] == "apache.md" and head["collection"] == "law" and head["text"] is None
    assert [each["title"] for each in head["sections"]] == [
        "Apache License",
        "Grant of Patent License",
        "Trademarks",
    ]
    whole = client.get(f"/v1/documents/{document_id}?text=true").json()["text"]
    assert whole == TEXTS["apache.md"]
    seen, first = [], 0
    while first is not None:
        part = client.get(head["passages_url"], params={"first": first, "limit": 1}).json()
        seen += part["passages"]
        first = part["next"]
    assert len(seen) > 1
    assert all(whole[each["start_char"] : each["end_char"]] == each["text"] for each in seen)


def test_listing_goes_through_all(client: Client) -> None:
    seen: list[str] = []
    after = None
    while True:
        params = {"collection": "law", "limit": "2"} | ({"after": after} if after else {})
        part = client.get("/v1/documents", params=params).json()
        seen += [each["key"] for each in part["documents"]]
        after = part["next"]
        if after is None:
            break
    assert sorted(seen) == sorted(set(TEXTS) - {"asthma.txt", "vaccine.txt"})
    _problem(client.get("/v1/documents?collection=nowhere"), 404, "not_found")


@pytest.mark.parametrize(
    "name", ["../../etc/passwd.txt", "..\\..\\x.txt", 'a"b\r\nX-Evil: 1.txt', "日本 §.txt", "."]
)
def test_names_from_outside_are_only_labels(client: Client, runtime: Runtime, name: str) -> None:
    text = f"Names are labels, whatever they say: {name!r}."
    key = f"../../{name}".replace("\r\n", "")
    response = client.upload(name, text.encode(), key=key)
    assert response.status_code == 201, response.text
    (document_id,) = response.json()["document_ids"]
    head = client.get(f"/v1/documents/{document_id}").json()
    assert head["key"] == key
    assert "/" not in head["source"] and "\\" not in head["source"]
    original = client.get(f"/v1/documents/{document_id}/original")
    assert original.content == text.encode()
    assert original.headers["content-type"] == "application/octet-stream"
    assert original.headers["x-content-type-options"] == "nosniff"
    assert original.headers["content-disposition"].startswith('attachment; filename="')
    assert original.headers["content-security-policy"] == "sandbox"
    assert "x-evil" not in original.headers
    runtime_home = runtime.settings.home
    assert not list(runtime_home.parent.rglob("passwd*"))


def test_a_part_has_its_own_type_and_its_file_to_download(client: Client) -> None:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "ada@example.com", "bo@example.com", "Numbat offer"
    mail.set_content("The numbat is attached.")
    mail.add_attachment(
        b"<p>A numbat.", maintype="application", subtype="octet-stream", filename="numbat.html"
    )
    made = client.upload("offer", bytes(mail), key="offer-1").json()
    heads = [client.get(f"/v1/documents/{each}").json() for each in made["document_ids"]]
    assert [(head["key"], head["media_type"]) for head in heads] == [
        ("offer-1", "message/rfc822"),
        ("offer-1!/numbat.html", "text/html"),
    ]
    for head in heads:
        original = client.get(head["original_url"])
        assert original.content == bytes(mail)
        assert 'filename="offer.eml"' in original.headers["content-disposition"]


def test_what_is_not_indexed_says_why(client: Client) -> None:
    empty = _problem(client.upload("empty.txt", b""), 422, "rejected")
    assert empty["reason"] == "empty"
    broken = _problem(client.upload("broken.pdf", b"%PDF-1.7 nothing"), 422, "rejected")
    assert broken["reason"] == "malformed"
    scan = _problem(client.upload("scan.pdf", _blank_pdf()), 422, "no_text")
    assert "OCR" in scan["hint"]


def test_what_an_upload_cannot_say(client: Client) -> None:
    _problem(client.upload("a.txt", b"text", collection="nowhere"), 404, "not_found")
    for metadata in ("{", "[]", '{"a": null}', '{"a": {"b": 1}}', '{"a": NaN}', '{"a": [1]}'):
        _problem(client.upload("a.txt", b"text", metadata=metadata), 400, "invalid_request")
    _problem(client.upload("a.txt", b"text", key="a\x00b"), 400, "invalid_request")
    _problem(client.post("/v1/documents", data={"collection": "law"}), 422, "validation")


def test_upload_limits_do_not_trust_what_is_declared(client: Client, runtime: Runtime) -> None:
    limit = runtime.settings.server.max_upload_bytes
    _problem(client.upload("a.txt", b"x" * (limit + 1)), 413, "too_large")

    async def endless() -> AsyncIterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(10_000):
            yield b"x" * 65_536

    headers = {"content-type": "multipart/form-data; boundary=b"}
    response = client.post("/v1/documents", content=endless(), headers=headers)
    _problem(response, 413, "too_large")
    lied = client.post("/v1/search", content=b"{}", headers={"content-length": "99999999999"})
    _problem(lied, 413, "too_large")
    long = client.post("/v1/search", json={"query": "x", "filter": {"and": ["y" * 2_000_000]}})
    _problem(long, 413, "too_large")


def test_collections(client: Client, runtime: Runtime) -> None:
    made = client.post("/v1/collections", json={"name": "temp", "language": "German"})
    assert made.status_code == 201 and made.json()["language"] == "german"
    _problem(client.post("/v1/collections", json={"name": "temp"}), 409, "conflict")
    _problem(client.post("/v1/collections", json={"name": "../x"}), 400, "invalid_request")
    bad = client.post("/v1/collections", json={"name": "t2", "language": "klingon"})
    assert "german" in _problem(bad, 400, "invalid_request")["hint"] + bad.json()["detail"]
    assert client.upload("a.txt", b"Ein kurzer Text.", collection="temp").status_code == 201
    assert client.get("/v1/collections/temp").json()["document_count"] == 1
    names = [each["name"] for each in client.get("/v1/collections").json()["collections"]]
    assert names == sorted(names) and {"law", "science", "temp"} <= set(names)
    deleted = client.delete("/v1/collections/temp")
    assert deleted.json() == {"name": "temp", "deleted_documents": 1}
    _problem(client.get("/v1/collections/temp"), 404, "not_found")
    _problem(client.delete("/v1/collections/temp"), 404, "not_found")
    wait_until_followed(runtime)


def _blank_pdf() -> bytes:
    import pypdfium2

    document = pypdfium2.PdfDocument.new()
    document.new_page(200, 200)
    buffer = io.BytesIO()
    document.save(buffer)
    document.close()
    return buffer.getvalue()
