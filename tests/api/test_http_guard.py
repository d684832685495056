"""Host, origin, headers, problems, health, metrics, and an event loop that never blocks."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import threading
import time
from typing import Any

import pytest
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs
from tests.api.conftest import Client, wait_until_followed

from longleaf.api.app import create_app
from longleaf.api.indexes.edge import InProcess
from longleaf.api.wire import Runtime
from longleaf.core.errors import IndexUnavailable

PROBLEM = "application/problem+json"


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost", "LocalHost:1", "[::1]:8765"])
def test_loopback_names_are_answered(client: Client, host: str) -> None:
    assert client.get("/healthz", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost:80@evil", "10.0.0.1", "", "a b"]
)
def test_rebound_names_are_refused(client: Client, host: str) -> None:
    response = client.get("/v1/collections", headers={"host": host})
    assert response.status_code == 421
    assert response.headers["content-type"] == PROBLEM


def test_further_hosts_can_be_allowed(runtime: Runtime) -> None:
    client = Client(create_app(runtime, allowed_hosts=["testserver"]), "http://testserver")
    assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"origin": "http://127.0.0.1:8765.evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_other_sites_cannot_change_anything(client: Client, headers: dict[str, str]) -> None:
    files = {"file": ("a.txt", b"forged")}
    forged = client.post(
        "/v1/documents", files=files, data={"collection": "scratch"}, headers=headers
    )
    assert forged.status_code == 403 and forged.headers["content-type"] == PROBLEM
    assert client.delete("/v1/collections/law", headers=headers).status_code == 403
    assert client.get("/v1/collections/law", headers=headers).status_code == 200


def test_the_own_page_can(client: Client) -> None:
    own = {"origin": "http://127.0.0.1:8765", "sec-fetch-site": "same-origin"}
    assert client.post("/v1/search", json={"query": "rent"}, headers=own).status_code == 200


def test_every_answer_has_the_security_headers(client: Client) -> None:
    for path in ("/", "/api", "/nothing", "/v1/collections", "/static/page.css", "/healthz"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert "access-control-allow-origin" not in headers


def test_unknown_routes_and_methods_are_problems(client: Client) -> None:
    missing = client.get("/v1/nothing")
    assert missing.status_code == 404 and missing.headers["content-type"] == PROBLEM
    wrong = client.delete("/v1/search")
    assert wrong.status_code == 405 and wrong.headers["content-type"] == PROBLEM
    assert "allow" in wrong.headers
    page = client.get("/nothing", headers={"accept": "text/html"})
    assert page.status_code == 404 and page.headers["content-type"].startswith("text/html")
    for path in ("/docs", "/redoc", "/static/../app.py", "/static/%2e%2e/app.py"):
        assert client.get(path).status_code == 404


def test_a_failure_of_ours_tells_nothing(
    runtime: Runtime, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_request: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(runtime.engine, "search", broken)
    with capture_logs(processors=[merge_contextvars]) as logged:
        headers = {"x-request-id": "mine-1"}
        response = client.post("/v1/search", json={"query": "x"}, headers=headers)
        page = client.get("/?q=x", headers={"accept": "text/html", "x-request-id": "<b>"})
    assert response.status_code == 500 and response.headers["content-type"] == PROBLEM
    assert response.json()["request_id"] == response.headers["x-request-id"] == "mine-1"
    assert "secret" not in response.text and "Traceback" not in response.text
    assert response.headers["x-content-type-options"] == "nosniff"
    assert page.status_code == 500 and "secret" not in page.text
    assert page.headers["x-request-id"] != "<b>"
    failed = [each for each in logged if each["event"] == "http.failed"]
    assert [(each["event"], each["route"]) for each in failed] == [
        ("http.failed", "/v1/search"),
        ("http.failed", "/"),
    ]
    assert failed[0]["request_id"] == "mine-1" and failed[0]["exc_info"]


def test_event_loop_answers_while_searches_and_uploads_work(
    runtime: Runtime, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, busy = threading.Event(), threading.Semaphore(0)
    search = runtime.engine.search

    def slow(request: Any, watch: Any = None) -> Any:
        busy.release()
        assert release.wait(120)
        return search(request, watch)

    monkeypatch.setattr(runtime.engine, "search", slow)
    workers = runtime.settings.server.workers

    async def check() -> list[int]:
        async with client.open() as http:
            searches = [
                asyncio.create_task(http.post("/v1/search", json={"query": "rent"}))
                for _ in range(workers + 2)
            ]
            with runtime.writer_lock:
                files = {"file": ("slow.txt", b"An upload that has to wait.")}
                data = {"collection": "scratch"}
                upload = asyncio.create_task(http.post("/v1/documents", files=files, data=data))
                try:
                    for _ in range(workers):
                        assert await asyncio.to_thread(busy.acquire, timeout=10)
                    await asyncio.sleep(0.05)
                    assert not busy.acquire(blocking=False), "more searches than workers"
                    for path in ("/", "/healthz", "/readyz", "/metrics", "/v1/documents"):
                        assert (await http.get(path)).status_code == 200
                    assert not upload.done() and not any(each.done() for each in searches)
                finally:
                    release.set()
            answers = await asyncio.gather(*searches, upload)
        return [each.status_code for each in answers]

    assert asyncio.run(check()) == [200] * (workers + 2) + [201]


def test_readiness_tells_the_truth(
    runtime: Runtime, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_until_followed(runtime)
    assert client.get("/healthz").json()["status"] == "ok"
    ready = client.get("/readyz")
    assert ready.status_code == 200 and ready.json()["ready"] is True
    assert "reranker" in ready.json()["chosen"]
    followed = runtime.side.followed
    assert followed.by_itself
    with monkeypatch.context() as patch:
        patch.setattr(followed, "by_itself", False)
        assert client.get("/readyz").status_code == 200

        class Behind:
            applied_seq = runtime.follower.applied_seq - 1

        patch.setattr(followed, "follower", Behind())
        refused = client.get("/readyz")
    assert refused.status_code == 503 and refused.headers["content-type"] == PROBLEM
    assert "behind" in refused.json()["reasons"][0]

    monkeypatch.setattr(type(followed), "failure", "no space left on device")
    refused = client.get("/readyz")
    assert refused.status_code == 503 and "no space left" in refused.json()["detail"]
    assert client.get("/healthz").status_code == 200


def test_a_dead_index_process_is_told_and_comes_back(
    runtime: Runtime, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed = runtime.side.followed
    assert isinstance(followed, InProcess)
    process = followed.process
    assert process.child_pid is not None
    found = client.search("security deposit")["hits"]
    assert found

    def refuse() -> None:
        raise IndexUnavailable("No memory.")

    with monkeypatch.context() as patch:
        patch.setattr(process, "_start", refuse)
        os.kill(process.child_pid, signal.SIGKILL)
        refused = client.post("/v1/search", json={"query": "security deposit"})
        assert refused.status_code == 503 and refused.headers["content-type"] == PROBLEM
        assert refused.json()["code"] == "index_unavailable"
        assert int(refused.headers["Retry-After"]) > 0
        unready = client.get("/readyz")
        assert unready.status_code == 503 and "index process" in unready.json()["reasons"][0]
        assert client.get("/healthz").status_code == 200
        assert client.get("/metrics").status_code == 200
        uploaded = client.upload("more.txt", b"Written while the index was away.")
        assert uploaded.status_code == 201
    end = time.monotonic() + 30.0
    while client.get("/readyz").status_code != 200:
        assert time.monotonic() < end, "the index process was not started again"
        time.sleep(0.05)
    wait_until_followed(runtime)
    again = client.search("security deposit")["hits"]
    assert again[0]["document_id"] == found[0]["document_id"]
    new = client.search("written while the index was away")["hits"][0]
    assert new["title"] == "Written while the index was away."
    assert client.delete(f"/v1/documents/{new['document_id']}").status_code == 204
    wait_until_followed(runtime)


def test_metrics_count_by_route_and_never_by_path(runtime: Runtime) -> None:
    client = Client(create_app(runtime))  # which has counted nothing yet
    client.search("a very private question")
    client.get("/v1/documents/unknownid")
    client.get("/v1/made/up/path")
    client.request("BREW", "/v1/search")
    text = client.get("/metrics").text
    assert 'longleaf_http_requests_total{method="POST",route="/v1/search",status="200"} 1.0' in text
    assert 'route="/v1/documents/{document_id}",status="404"' in text
    assert 'route="unmatched",status="404"' in text and 'method="other"' in text
    assert 'longleaf_search_stage_seconds_count{stage="total"} 1.0' in text
    assert "longleaf_documents " in text and "longleaf_index_lag 0.0" in text
    for private in ("private", "unknownid", "made/up", "BREW"):
        assert private not in text


def test_metrics_tell_jobs_readiness_and_room(
    client: Client, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def value(name: str) -> float:
        lines = [line for line in client.get("/metrics").text.splitlines() if line[0] != "#"]
        (found,) = [line.rpartition(" ") for line in lines if line.rpartition(" ")[0] == name]
        return float(found[2])

    done = value('longleaf_jobs{state="done"}')
    indexed = value('longleaf_job_files{outcome="indexed"}')
    rejected = value('longleaf_job_files{outcome="rejected"}')
    assert client.upload("counted.txt", b"A file that is counted.").status_code == 201
    assert client.upload("broken.pdf", b"no PDF at all").status_code == 422
    assert value('longleaf_jobs{state="done"}') == done + 2
    assert value('longleaf_job_files{outcome="indexed"}') == indexed + 1
    assert value('longleaf_job_files{outcome="rejected"}') == rejected + 1
    assert value('longleaf_jobs{state="queued"}') == 0
    assert 0 < value("longleaf_home_free_bytes") < shutil.disk_usage(runtime.settings.home).total
    assert value("longleaf_ready") == 1
    with monkeypatch.context() as patch:
        patch.setattr(type(runtime.side.followed), "failure", "it is dead")
        assert value("longleaf_ready") == 0
    wait_until_followed(runtime)


def test_openapi_describes_every_route(client: Client) -> None:
    schema = client.get("/openapi.json").json()
    routes = {
        (method, path): operation
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    }
    assert ("post", "/v1/search") in routes and ("delete", "/v1/documents/{document_id}") in routes
    assert not any(path.startswith(("/documents", "/static")) for _, path in routes)
    for operation in routes.values():
        assert operation["summary"] and operation["description"]
        assert PROBLEM in operation["responses"]["default"]["content"]
    assert "HTTPValidationError" not in schema["components"]["schemas"]
    assert schema["components"]["schemas"]["SearchBody"]["examples"]
    assert schema["components"]["schemas"]["Problem"]["properties"]["hint"]["description"]
    page = client.get("/api").text
    for _, path in routes:
        assert path in page
    for code in ("not_found", "rejected", "validation", "too_large"):
        assert f'id="{code}"' in page
