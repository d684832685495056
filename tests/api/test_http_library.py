"""The library's routes: lists in every order, uploads with what to do, status, and its forms."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.api.conftest import EVIL, TEXTS, Client, wait_until_followed
from tests.api.test_http_jobs import ended
from tests.api.test_http_pages import _safe

from longleaf.api import jobs, next_steps
from longleaf.api.http import library_page
from longleaf.api.wire import Runtime
from longleaf.core.catalog.jobs import JobState
from longleaf.core.catalog.titles import key_of
from longleaf.core.errors import NoSpace, RejectReason
from longleaf.core.types import Outcome, Scope
from longleaf.indexer.prepare import Labels
from longleaf.indexer.specs import FolderSpec


def all_pages(client: Client, **link: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after: dict[str, str] = {}
    while True:
        answer = client.get("/v1/documents", params={**link, **after, "limit": "2"})
        assert answer.status_code == 200, answer.text
        found += answer.json()["documents"]
        if answer.json()["next"] is None:
            return found
        after = {"after": answer.json()["next"]}


@pytest.mark.parametrize(
    ("sort", "value"),
    [
        ("title", lambda each: key_of(each["title"])),
        ("updated", lambda each: each["updated_at"]),
        ("key", lambda each: each["key"]),
        ("id", lambda each: each["document_id"]),
    ],
)
def test_every_order_goes_through_all(client: Client, sort: str, value: Any) -> None:
    there = all_pages(client, collection="law", sort=sort)
    assert len(there) == 6 and [value(each) for each in there] == sorted(map(value, there))
    back = all_pages(client, collection="law", sort=sort, descending="true")
    assert back == there[::-1]


def test_titles_are_found_without_case_and_accents(client: Client, runtime: Runtime) -> None:
    for name, text in (("u.md", "# Über die Miete 100 %"), ("p.md", "# Pacht und miete")):
        client.upload(name, text.encode())
    titled = all_pages(client, collection="scratch", sort="title", title="MIETE")
    assert [each["title"] for each in titled] == ["Pacht und miete", "Über die Miete 100 %"]
    assert [each["size_bytes"] for each in titled] == [17, 23]
    for asked, count in (("uber miete", 1), ("100 %", 1), ("m%e", 0), ("m_ete", 0)):
        assert len(all_pages(client, collection="scratch", title=asked)) == count, asked
    for each in titled:
        client.delete(each["url"].replace("/documents", "/v1/documents"))
    wait_until_followed(runtime)


def test_a_page_goes_on_though_its_last_document_is_gone(client: Client, runtime: Runtime) -> None:
    for number in range(4):
        client.upload(f"{number}.txt", f"Moth {number}\n\nA text.".encode(), key=f"moth-{number}")
    link = {"collection": "scratch", "sort": "title", "title": "moth", "limit": "2"}
    first = client.get("/v1/documents", params=link).json()
    client.delete(f"/v1/documents/{first['documents'][1]['document_id']}")
    rest = client.get("/v1/documents", params=link | {"after": first["next"]}).json()
    assert [each["key"] for each in rest["documents"]] == ["moth-2", "moth-3"]
    for each in (first["documents"][0], *rest["documents"]):
        client.delete(f"/v1/documents/{each['document_id']}")
    wait_until_followed(runtime)


@pytest.mark.parametrize(
    "link",
    [
        {"sort": "title"},
        {"title": "lease"},
        {"collection": "law", "sort": "title", "after": "x"},
        {"collection": "law", "sort": "title", "after": "WyJrZXkiLCAiYSIsIDFd"},
        {"collection": "law", "sort": "updated", "after": "WyJ1cGRhdGVkIiwgTmFOLCAxXQ"},
    ],
)
def test_lists_that_make_no_sense(client: Client, link: dict[str, str]) -> None:
    answer = client.get("/v1/documents", params=link)
    assert answer.status_code == 400 and answer.json()["hint"]


def test_lists_keep_to_the_scope(runtime: Runtime, client: Client) -> None:
    data = b"Secret moth\n\nOnly for partners."
    labels = Labels(groups=("partners",))
    runtime.indexer.index_bytes("scratch", "english", data, "s.txt", key="s", labels=labels)
    service = client.app.state.service
    assert [each["key"] for each in all_pages(client, collection="scratch", title="moth")] == ["s"]
    service.scope = Scope(None, frozenset())
    assert all_pages(client, collection="scratch", title="moth") == []
    service.scope = Scope(frozenset({"law"}), None)
    assert client.get("/v1/documents?collection=scratch&sort=title").status_code == 404
    assert {each["collection"] for each in all_pages(client)} == {"law"}
    assert client.get("/v1/uploads").json()["uploads"] == []
    service.scope = Scope.all()
    [secret] = all_pages(client, collection="scratch", title="moth")
    client.delete(f"/v1/documents/{secret['document_id']}")
    wait_until_followed(runtime)


def test_uploads_say_how_they_stand_and_what_to_do(client: Client, runtime: Runtime) -> None:
    sent = client.post(
        "/v1/documents?wait_seconds=0",
        files={"file": ("dingo.txt", b"Dingoes howl.")},
        data={"collection": "scratch", "key": "zoo/dingo.txt"},
    ).json()
    ended(client, sent["url"])
    client.upload("broken.pdf", b"%PDF-1.7 nothing more")
    answer = client.get("/v1/uploads", params={"collection": "scratch", "limit": 2}).json()
    broken, dingo = answer["uploads"]
    assert broken["reason"] == "malformed" and broken["next_step"].startswith("Open it with")
    assert broken["can_retry"] is False, "its bytes are gone, and a retry would be a 409"
    assert client.post(f"/v1/jobs/{broken['job']}/retry").status_code == 409
    assert (dingo["key"], dingo["outcome"], dingo["next_step"]) == ("zoo/dingo.txt", "indexed", "")
    assert dingo["document_ids"] and not dingo["is_unchanged"]
    named = client.get("/v1/uploads", params={"job": [dingo["job"], "unknown"]}).json()["uploads"]
    assert named == [dingo]
    older = client.get("/v1/uploads", params={"before": answer["uploads"][0]["job"], "limit": 1})
    assert older.json()["uploads"] == [dingo]
    waits = runtime.catalog.jobs.create(
        "upload", "scratch", {"original": "0" * 64, "name": "w.txt"}, owner="a worker elsewhere"
    )
    try:
        opened = client.get("/v1/uploads?open=true").json()
        assert [each["job"] for each in opened["uploads"]] == [waits.public_id]
        assert opened["open_count"] == 1 and opened["uploads"][0]["state"] == "running"
    finally:
        runtime.catalog.jobs.end(waits, "a worker elsewhere", JobState.CANCELLED, {})
    client.delete(f"/v1/documents/{dingo['document_ids'][0]}")
    wait_until_followed(runtime)


def test_every_reason_has_a_next_step() -> None:
    for reason in RejectReason:
        assert next_steps.next_step(Outcome.REJECTED, reason.value)
    assert next_steps.next_step(Outcome.NO_TEXT, "")
    assert not next_steps.next_step(Outcome.INDEXED, "")


def test_a_document_is_read_again_and_keeps_what_was_stated(
    client: Client, runtime: Runtime, tmp_path: Path
) -> None:
    stated = '{"title": "Quolls", "year": 2024}'
    made = client.upload("quoll.txt", b"Quolls hunt at night.", metadata=stated, groups="zoo")
    (quoll,) = made.json()["document_ids"]
    job = client.post(f"/v1/documents/{quoll}/reindex")
    assert job.status_code == 202
    assert ended(client, job.json()["url"])["state"] == "done"
    head = client.get(f"/v1/documents/{quoll}").json()
    assert (head["title"], head["metadata"], head["groups"]) == ("Quolls", {"year": 2024}, ["zoo"])
    assert head["revision"] == 1
    # A file of a folder is read where it lies.
    file = tmp_path / "numbat.txt"
    file.write_text("Numbats eat termites.")
    runtime.indexer.index_paths("scratch", "english", [file])
    file.write_text("Numbats eat ants as well.")
    [listed] = [e for e in all_pages(client, collection="scratch") if e["key"] == str(file)]
    job = client.post(f"/v1/documents/{listed['document_id']}/reindex")
    assert ended(client, job.json()["url"])["state"] == "done"
    text = client.get(f"/v1/documents/{listed['document_id']}?text=true").json()["text"]
    assert text == "Numbats eat ants as well."
    # One line of many is not.
    lines = b'{"_id": "a", "text": "Bilbies dig."}\n{"_id": "b", "text": "Bettongs too."}\n'
    ids = client.upload("zoo.jsonl", lines).json()["document_ids"]
    refused = client.post(f"/v1/documents/{ids[0]}/reindex")
    assert refused.status_code == 409 and "2 documents" in refused.json()["detail"]
    assert client.post("/v1/documents/unknown/reindex").status_code == 404
    for each in (quoll, listed["document_id"], *ids):
        assert client.delete(f"/v1/documents/{each}").status_code == 204
    wait_until_followed(runtime)


def test_status_names_problems_first_with_what_to_do(
    client: Client, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_until_followed(runtime)
    told = client.get("/v1/status").json()
    there = sum(each.document_count for each in runtime.catalog.collections(Scope.all()))
    assert told["ready"] and told["lag"] == 0 and told["documents"] == there >= len(TEXTS)
    facts = {each["subject"]: each for each in told["findings"]}
    assert {"search", "worker", "disk", "reranker", "index", "embedder"} <= set(facts)
    assert "GPU" in facts["reranker"]["fact"]

    class Room:
        free, total = 1000, 10**12

    class Worker:
        failure = "The worker ended with 9 and is started again."

    monkeypatch.setattr("longleaf.api.http.status.shutil.disk_usage", lambda _: Room)
    monkeypatch.setattr(client.app.state.service, "worker", Worker)
    told = client.get("/v1/status").json()
    assert told["status"] == "FAIL"
    assert [each["subject"] for each in told["findings"][:2]] == ["worker", "disk"]
    page = _safe(client.get("/library/health").text)
    assert "Something needs you" in page.text and Worker.failure in page.text
    for each in told["findings"]:
        assert each["remedy"] in page.text
        assert each["status"] == "OK" or each["remedy"]


def form(client: Client, path: str, **fields: str) -> httpx.Response:
    """Send a form as a browser without script does."""
    return client.post(path, data=fields, headers={"accept": "text/html"})


def test_a_plain_form_uploads_a_file_and_tells_its_outcome(
    client: Client, runtime: Runtime
) -> None:
    def send(name: str, data: bytes, collection: str = "scratch") -> httpx.Response:
        files = {"file": (name, data)}
        return client.post("/library/upload", files=files, data={"collection": collection})

    done = send("<img src=x onerror=alert(1)>.txt", b"Echidnas are shy.")
    assert done.status_code == 303
    read = _safe(client.get(done.headers["location"]).text)
    assert "It is indexed: 1 document." in read.text and "<img src=x" in read.text
    [link] = [a["href"] for tag, a in read.elements if tag == "a" and "/documents/" in a["href"]]
    refused = send("deck.ppt", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))
    read = _safe(client.get(refused.headers["location"]).text)
    assert "unsupported type" in read.text and "Save it as PDF" in read.text
    large = send("large.txt", bytes(200_001))
    assert large.status_code == 413
    assert "Raise server.max_upload_bytes" in _safe(large.text).text
    gone = send("x.txt", b"x", "nowhere")
    assert gone.status_code == 404 and "Collections:" in gone.text
    client.delete(f"/v1{link}")
    wait_until_followed(runtime)


def test_a_full_disk_is_a_page_that_says_so(
    client: Client, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_data: bytes) -> str:
        raise NoSpace("There is no room left on the disk.", "Free some.")

    monkeypatch.setattr(runtime.catalog, "keep_upload", full)
    files = {"file": ("x.txt", b"x")}
    answer = client.post("/library/upload", files=files, data={"collection": "scratch"})
    assert answer.status_code == 507 and "Free some." in _safe(answer.text).text


def test_documents_are_listed_and_deleted_without_script(
    client: Client, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library_page, "_ON_A_PAGE", 4)
    read = _safe(client.get("/library?collection=law&sort=title").text)
    assert "Apache License" in read.text and EVIL[:20] not in read.text.replace(EVIL, "")
    [more] = [a["href"] for tag, a in read.elements if tag == "a" and a.get("rel") == "next"]
    rest = _safe(client.get(more or "").text)
    assert "Smith v. Jones" in rest.text and "Apache License" not in rest.text
    nothing = _safe(client.get("/library?collection=law&title=xyzzy").text)
    assert "No title in law holds" in nothing.text
    made = client.upload("wombat.txt", b"Wombats dig.", key="<b>wombat")
    (wombat,) = made.json()["document_ids"]
    asks = _safe(client.get(f"/library/documents/{wombat}/delete").text)
    assert "This cannot be undone" in asks.text
    assert form(client, f"/library/documents/{wombat}/delete").status_code == 303
    assert client.get(f"/v1/documents/{wombat}").status_code == 404
    wait_until_followed(runtime)
    wrong = client.get("/library?collection=nowhere", headers={"accept": "text/html"})
    assert wrong.status_code == 404 and "There is no collection" in _safe(wrong.text).text


def test_collections_are_made_changed_and_deleted_without_script(client: Client) -> None:
    made = form(client, "/library/collections", name="zoo", language="german", description="<b>")
    assert made.headers["location"] == "/library?collection=zoo&notice=made"
    assert (
        "Drop your first documents here" in _safe(client.get("/library?collection=zoo").text).text
    )
    again = form(client, "/library/collections", name="zoo", language="german")
    assert again.status_code == 409 and 'value="zoo"' in again.text
    changed = form(
        client, "/library/collections/zoo", description="Beasts", instruction="statutes",
        depth="auto", candidates="20", deadline_ms="800", max_tokens="",
    )  # fmt: skip
    assert changed.status_code == 303
    now = client.get("/v1/collections/zoo").json()
    assert now["language"] == "german" and now["description"] == "Beasts"
    assert now["rerank"] == {
        "depth": "auto", "candidates": 20, "deadline_ms": 800.0, "max_tokens": None,
    }  # fmt: skip
    wrong = form(client, "/library/collections/zoo", candidates="-3", description="Kept")
    assert wrong.status_code == 422 and 'value="Kept"' in wrong.text and "candidates" in wrong.text
    asks = _safe(client.get("/library/collections/zoo/delete").text)
    assert "Delete the collection zoo?" in asks.text
    assert form(client, "/library/collections/zoo/delete").status_code == 303
    assert client.get("/v1/collections/zoo").status_code == 404


def test_a_collection_is_read_again_in_one_job(
    client: Client, runtime: Runtime, tmp_path: Path
) -> None:
    client.post("/v1/collections", json={"name": "anew"})
    client.upload("one.txt", b"The first of two.", collection="anew", key="one")
    rows = b'{"id": "a", "text": "A row."}\n{"id": "b", "text": "Another row."}\n'
    client.upload("rows.jsonl", rows, collection="anew")
    folder = tmp_path / EVIL.replace("/", "_")[:60]
    folder.mkdir()
    (folder / "moth.txt").write_text("Moths of a folder.")
    spec = FolderSpec((str(folder),))
    reads = jobs.ask_for_folder(runtime.catalog, "anew", spec)
    ended(client, f"/v1/jobs/{reads.public_id}")
    asked = client.get("/library/collections/anew/reindex")
    assert re.search(r'each of its <data[^>]*value="4"[^>]*>4</data> documents', asked.text)
    sent = client.post("/v1/collections/anew/reindex")
    assert sent.status_code == 202 and sent.headers["location"] == sent.json()["url"]
    job = ended(client, sent.json()["url"])
    assert job["kind"] == "collection" and job["state"] == "done"
    assert job["counts"]["indexed"] == 2 and job["counts"]["unchanged"] == 1

    link = {"collection": "anew", "kind": ["upload", "folder", "collection"]}
    again, walked, *sent_files = client.get("/v1/uploads", params=link).json()["uploads"]
    assert (again["kind"], again["name"], again["counts"]) == ("collection", "anew", job["counts"])
    [left] = again["left"]
    assert again["left_count"] == 1 and "holds 2 documents" in left["detail"]
    assert not again["can_retry"] and again["outcome"] is None
    assert walked["kind"] == "folder" and walked["name"] == str(folder)
    assert {each["kind"] for each in sent_files} == {"upload"} and len(sent_files) == 2
    only_uploads = client.get("/v1/uploads", params={"collection": "anew"}).json()["uploads"]
    assert only_uploads == sent_files
    named = client.get("/v1/uploads", params={"job": again["job"]}).json()["uploads"]
    assert named == [again]
    # The folder's next run reads it once more, as that run states it; then nothing has changed, and
    # that is not worth a line.
    runs = [jobs.ask_for_folder(runtime.catalog, "anew", spec) for _ in range(2)]
    counts = [ended(client, f"/v1/jobs/{run.public_id}")["counts"] for run in runs]
    assert counts == [{"indexed": 1}, {"unchanged": 1}]
    newest = client.get("/v1/uploads", params=link).json()["uploads"]
    assert [each["job"] for each in newest[:2]] == [runs[0].public_id, again["job"]]
    # Without script: a page for the job, with its files, on several pages.
    page = client.get(f"/library/uploads/{again['job']}").text
    assert "anew: all of it, read again" in page and "holds 2 documents" in page
    behind = client.get(f"/library/uploads/{walked['job']}", params={"after": str(folder)})
    assert "moth.txt" in behind.text and EVIL[:20] not in behind.text
    _safe(behind.text)
    formed = client.post("/library/collections/anew/reindex")
    assert formed.status_code == 303
    ended(client, formed.headers["location"].replace("/library/uploads", "/v1/jobs"))
    assert client.post("/v1/collections/none/reindex").status_code == 404
    client.delete("/v1/collections/anew")
    wait_until_followed(runtime)
