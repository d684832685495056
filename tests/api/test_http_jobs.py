"""Jobs over HTTP: an upload that is not waited for, looked at, cancelled and done again."""

from __future__ import annotations

import time
from typing import Any

from tests.api.conftest import Client

from longleaf.api.wire import Runtime
from longleaf.indexer.specs import FolderSpec, spec_to_json


def ended(client: Client, url: str) -> dict[str, Any]:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        job: dict[str, Any] = client.get(url).json()
        if job["state"] not in ("queued", "running"):
            return job
        time.sleep(0.05)
    raise AssertionError("the job does not end")


def test_an_upload_that_is_not_waited_for(client: Client) -> None:
    response = client.post(
        "/v1/documents?wait_seconds=0",
        files={"file": ("numbat.txt", b"Numbats eat termites, and nothing else.")},
        data={"collection": "scratch", "key": "numbat"},
    )
    assert response.status_code == 202
    job = response.json()
    assert job["kind"] == "upload" and job["what"] == "numbat.txt"
    assert response.headers["location"] == job["url"]
    done = ended(client, job["url"])
    assert done["state"] == "done" and done["counts"]["indexed"] == 1
    files = client.get(job["url"] + "/files").json()
    [file] = files["files"]
    assert file["outcome"] == "indexed" and file["phase"] == "ended"
    head = client.get(f"/v1/documents/{file['document_ids'][0]}").json()
    assert head["key"] == "numbat"
    # Deleting the document leaves no trace of it in the job.
    assert client.delete(f"/v1/documents/{file['document_ids'][0]}").status_code == 204
    assert client.get(job["url"] + "/files").json()["files"] == []


def test_a_rejected_upload_is_a_done_job_with_a_reason(client: Client) -> None:
    response = client.upload("broken.pdf", b"%PDF-1.7 nothing more")
    assert response.status_code == 422
    newest = client.get("/v1/jobs?state=done&limit=1").json()["jobs"][0]
    assert newest["what"] == "broken.pdf" and newest["counts"] == {"rejected": 1}
    [file] = client.get(newest["url"] + "/files?outcome=rejected").json()["files"]
    assert file["reason"] == "malformed"


def test_cancel_and_retry(client: Client, runtime: Runtime) -> None:
    nobody = runtime.catalog.jobs.create(
        "folder", "scratch", spec_to_json(FolderSpec(("/nowhere",))), owner="a worker that died"
    )
    url = f"/v1/jobs/{nobody.public_id}"
    assert client.get(url).json()["state"] == "running"
    assert client.post(url + "/cancel").json()["cancelling"] is True
    conflict = client.post(url + "/retry")
    assert conflict.status_code == 409 and conflict.json()["code"] == "conflict"
    assert client.get("/v1/jobs/unknown").status_code == 404
    assert client.post("/v1/jobs/unknown/cancel").status_code == 404


def test_listing_goes_through_all(client: Client, runtime: Runtime) -> None:
    made = [
        runtime.catalog.jobs.create("folder", "scratch", {"paths": ["/x"]}, "me").public_id
        for _ in range(3)
    ]
    seen: list[str] = []
    before = None
    while True:
        params = {"limit": "2"} | ({"before": before} if before else {})
        part = client.get("/v1/jobs", params=params).json()
        seen += [each["id"] for each in part["jobs"]]
        before = part["next"]
        if before is None:
            break
    assert len(seen) == len(set(seen))
    assert [each for each in seen if each in made] == made[::-1]
    for each in made:
        client.post(f"/v1/jobs/{each}/cancel")
