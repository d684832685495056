"""What a real server logs and traces: each request once, and nothing of what it was about.

Documents, their titles and file names, queries, instructions and keys hold words that stand nowhere
else. Every route is asked, as several callers, and again once the catalog is damaged, so that what
fails inside says why; then no line of any process and no span may hold one of the words.
"""

from __future__ import annotations

import json
import logging
import re
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import structlog
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from tests.api.conftest import Client, sqlite_only
from tests.api.keyed import QUERY, SECRETS, Site, keyed_site
from tests.api.test_access import ROUTES, asked
from tests.remote.longleaf import process, served_app
from tests.remote.servers import Answer, served

from longleaf.api.app import create_app
from longleaf.api.telemetry import Tracing
from longleaf.api.wire import Runtime
from longleaf.core import logs
from longleaf.core.catalog import Catalog
from longleaf.core.config import load_settings
from longleaf.core.errors import ConfigError, NotFound
from longleaf.core.operation_settings import TelemetrySettings
from longleaf.core.spans import span

INSTRUCTION = "vorpal snickersnack"
MALFORMED = "grimgribber"
WORDS = (*SECRETS.values(), QUERY, "tenant", *INSTRUCTION.split(), MALFORMED)
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
BROKEN = {
    "pdf": b"%PDF-1.7 " + MALFORMED.encode(),
    "docx": b"PK\x03\x04" + MALFORMED.encode(),
    "eml": f"Subject: {MALFORMED}\nContent-Type: multipart/x; boundary=\n\n".encode(),
    "xml": f"<article><{MALFORMED}></article>".encode(),
    "jsonl": f'{{"_id": "a", "{MALFORMED}'.encode(),
    "exe": f"MZ{MALFORMED}".encode(),
}


@dataclass(slots=True)
class Seen:
    """What the server logged, and what the collector of spans got."""

    keys: dict[str, str]
    text: str = ""
    lines: list[dict[str, Any]] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    spans: list[Any] = field(default_factory=list)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    home = tmp_path_factory.mktemp("logged")
    with keyed_site(home) as site:
        pass
    log = home.with_suffix(".log")
    found = Seen(dict(site.keys))

    def parse(raw: bytes) -> Any:
        found.raw.append(raw)
        return ExportTraceServiceRequest.FromString(raw)

    def refuse(_path: str, body: Any) -> Answer:
        return Answer({"error": {"message": f"I cannot take {body}"}}, 400)

    with served(lambda *_: Answer({}), parse) as collector, served(refuse) as chat:
        settings = {
            "log__form": "json",
            "log__level": "info",
            "telemetry__endpoint": collector.url,
            "answer__url": chat.url,
            "answer__model": "any",
            "server__worker": "true",
        }
        with process(home, log, **settings) as (url, _):
            _ask_everything(site, url)
            with sqlite3.connect(home / "catalog.sqlite3", timeout=60.0) as connection:
                connection.execute("DROP TABLE passages")
                connection.execute("DROP TABLE audit")
            connection.close()
            _ask(site, url, "admin", [each for each in ROUTES if each[0] != "DELETE"][::3])
        for _, told in collector.asked:
            for resource in told.resource_spans:
                found.spans += [each for part in resource.scope_spans for each in part.spans]
    found.text = log.read_text("utf-8")
    found.lines = [json.loads(line) for line in found.text.splitlines()]
    return found


def _ask_everything(site: Site, url: str) -> None:
    _ask(site, url, "guessed", ROUTES[::8])
    _ask(site, url, "reader", ROUTES)
    with httpx.Client(base_url=url, timeout=60.0, trust_env=False) as client:
        good = {"Authorization": f"Bearer {site.keys['admin']}"}
        more = {**good, "X-Request-ID": "the-one", "traceparent": PARENT}
        body = {"query": QUERY, "rerank": {"instruction": INSTRUCTION}}
        client.post("/v1/search", json=body, headers=more)
        client.post("/v1/answer", json=body, headers=good)
        client.post(
            "/v1/rerank",
            json={"query": QUERY, "documents": [MALFORMED], "instruction": INSTRUCTION},
            headers=good,
        )
        client.request("BREW", f"/{QUERY}", headers=good)
        client.get(f"/{MALFORMED}", headers={"X-API-Key": site.keys["admin"]})
        client.post("/login", data={"key": site.keys["reader"]})
        client.post("/v1/search", content=f"{{{QUERY}", headers=good)
        for ending, data in BROKEN.items():
            client.post(
                "/v1/documents",
                files={"file": (f"{MALFORMED}.{ending}", data)},
                data={"collection": "law", "metadata": json.dumps({MALFORMED: 1})},
                headers=good,
            )
    _ask(site, url, "admin", ROUTES)


def _ask(site: Site, url: str, who: str, routes: Sequence[tuple[str, str]]) -> None:
    headers = {"Authorization": f"Bearer {site.keys[who]}"}
    with httpx.Client(base_url=url, headers=headers, timeout=60.0, trust_env=False) as client:
        for method, route in routes:
            asked(site, cast(Client, client), method, route, "sealed")


@sqlite_only
def test_no_line_tells_what_it_was_about(seen: Seen) -> None:
    assert len(seen.lines) > 2 * len(ROUTES)
    assert any(line["event"] == "http.failed" for line in seen.lines), "nothing failed inside"
    assert any("exception" in line for line in seen.lines)
    low = seen.text.lower()
    assert [word for word in WORDS if word in low] == []
    for name, key in seen.keys.items():
        assert key[-8:] not in seen.text, name


@sqlite_only
def test_no_span_tells_what_it_was_about(seen: Seen) -> None:
    raw = b"".join(seen.raw).lower()
    assert [word for word in WORDS if word.encode() in raw] == []
    for name, key in seen.keys.items():
        assert key[-16:].lower().encode() not in raw, name


@sqlite_only
def test_each_request_has_its_line(seen: Seen) -> None:
    lines = [line for line in seen.lines if line["event"] == "http.request"]
    told = {(line["method"], line["route"]) for line in lines if line["status"] < 400}
    assert {("POST", "/v1/search"), ("GET", "/v1/documents/{document_id}")} <= told
    assert not {route for _, route in told} & {"/healthz", "/metrics"}
    for line in lines:
        assert set(line) >= {"request_id", "status", "ms", "who", "key", "timestamp"}
        assert ("trace_id" in line) == (line["route"] not in ("/healthz", "/readyz", "/metrics"))
        assert line["status"] >= 100 and line["ms"] >= 0 and line["level"] in ("info", "warning")
    keys = {name: key for name, key in seen.keys.items() if name not in ("guessed", "nonsense")}
    ids = {key[3:11]: name for name, key in keys.items()}
    named = {line["key"]: line["who"] for line in lines if line["key"]}
    assert {ids[key] for key in named} >= {"admin", "reader"}
    assert all(ids[key] == who for key, who in named.items())
    assert {
        line["who"] for line in lines if line["status"] == 401 and line["route"] != "/login"
    } <= {"nobody", "anonymous"}


@sqlite_only
def test_a_trace_has_the_stages_and_meets_the_log(seen: Seen) -> None:
    trace_id = PARENT.split("-")[1]
    logged = [
        line for line in seen.lines
        if line.get("request_id") == "the-one" and line.get("route") == "/v1/search"
    ]  # fmt: skip
    assert [line["trace_id"] for line in logged] == [trace_id]
    ours = [each for each in seen.spans if each.trace_id.hex() == trace_id]
    by_name = {each.name: each for each in ours}
    root = by_name["POST /v1/search"]
    assert root.parent_span_id.hex() == PARENT.split("-")[2]
    facts = _facts(root)
    assert facts["longleaf.request_id"] == "the-one"
    assert facts["http.route"] == "/v1/search" and facts["http.response.status_code"] == 200
    assert not {"url.path", "url.query", "url.full"} & set(facts)
    for part in ("embed", "first_stage", "index.dense", "index.bm25", "read"):
        stage = by_name[f"longleaf.{part}"]
        assert root.start_time_unix_nano <= stage.start_time_unix_nano <= stage.end_time_unix_nano
        assert stage.end_time_unix_nano <= root.end_time_unix_nano
    assert by_name["longleaf.index.dense"].parent_span_id == by_name["longleaf.first_stage"].span_id
    assert _facts(by_name["longleaf.first_stage"])["longleaf.candidates"] >= 1
    assert _facts(by_name["longleaf.read"])["longleaf.reranker"] == "late"
    assert not any(each.events for each in seen.spans)
    failed = [each for each in seen.spans if _facts(each).get("error.type") == "500"]
    assert failed and all(each.status.code == 2 for each in failed)


def _facts(each: Any) -> dict[str, Any]:
    return {
        fact.key: getattr(fact.value, fact.value.WhichOneof("value")) for fact in each.attributes
    }


# --- off by default ------------------------------------------------------------------------------


def test_nothing_is_traced_unless_an_endpoint_is_set(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert load_settings({"home": tmp_path}, {}).settings.telemetry.endpoint == ""
    with served(lambda *_: Answer({}), len) as collector:
        for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
            monkeypatch.setenv(name, collector.url)
        monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
        with served_app(create_app(runtime)) as url:
            assert httpx.get(f"{url}/v1/collections", trust_env=False).status_code == 200
        assert collector.asked == []
    with span("embed", model="any") as note:
        note("passages", 1)  # goes nowhere


@pytest.mark.parametrize("wrong", ["collector:4318", "ftp://c", "http://u:p@c", "http://c?key=1"])
def test_an_endpoint_is_an_address(wrong: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"telemetry\.endpoint"):
        load_settings({"home": tmp_path, "telemetry.endpoint": wrong}, {})


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigError, match="opentelemetry") as raised:
        Tracing(TelemetrySettings(endpoint="http://127.0.0.1:1"))
    assert "longleaf[telemetry]" in raised.value.hint


def test_a_caller_may_leave_its_request_out(tmp_path: Path) -> None:
    """`traceparent` says "not sampled", which is honoured; one that is no such thing is not."""
    with served(lambda *_: Answer({}), ExportTraceServiceRequest.FromString) as collector:
        tracing = Tracing(TelemetrySettings(endpoint=collector.url))
        try:
            for sent in (PARENT[:-1] + "0", "nonsense", ""):
                headers = [(b"traceparent", sent.encode())]
                with tracing.request({"headers": headers}, "GET", sent) as one:
                    one.end("/here", 200)
        finally:
            tracing.close()
    spans = [
        each
        for _, told in collector.asked
        for resource in told.resource_spans
        for part in resource.scope_spans
        for each in part.spans
    ]
    assert [_facts(each)["longleaf.request_id"] for each in spans] == ["nonsense", ""]


# --- the form of a line --------------------------------------------------------------------------


@pytest.fixture
def stderr(capsys: pytest.CaptureFixture[str]) -> Iterator[pytest.CaptureFixture[str]]:
    root = logging.getLogger()
    level = root.level
    yield capsys
    for handler in [each for each in root.handlers if getattr(each, "is_longleafs", False)]:
        root.removeHandler(handler)
    root.setLevel(level)


@pytest.mark.parametrize("form", ["console", "json"])
def test_an_exception_is_told_without_its_words(
    stderr: pytest.CaptureFixture[str], form: logs.Form
) -> None:
    logs.configure(form)

    def fail() -> None:
        try:
            {}[MALFORMED]
        except KeyError as error:
            group = ExceptionGroup(MALFORMED, [OSError(2, "No such file", MALFORMED)])
            raise RuntimeError(MALFORMED) from group if form == "json" else error

    for log in (structlog.get_logger("ours"), logging.getLogger("theirs")):
        try:
            fail()
        except RuntimeError:
            log.exception("it.failed")
    told = stderr.readouterr().err
    assert MALFORMED not in told
    assert told.count("it.failed") == 2 and told.count("builtins.RuntimeError") == 2
    assert len(re.findall(rf"{Path(__file__).name}:\d+ fail", told)) == (2 if form == "json" else 4)
    if form == "json":
        ours, theirs = (json.loads(line) for line in told.splitlines())
        assert set(theirs) - set(ours) == {"logger"}
        assert "builtins.FileNotFoundError" in ours["exception"]


def test_a_reason_has_no_words_of_strangers() -> None:
    assert logs.reason_of(NotFound("There is no such key.")) == "There is no such key."
    assert logs.reason_of(OSError(28, "No space left", MALFORMED)) == "OSError: No space left"
    assert logs.reason_of(KeyError(MALFORMED)) == "KeyError"


def test_a_server_of_this_process_logs_failures_without_words(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, stderr: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> None:
        raise ValueError(MALFORMED)

    logs.configure("json")
    monkeypatch.setattr(Catalog, "collections", fail)
    answer = Client(create_app(runtime)).get("/v1/collections", headers={"X-Request-ID": "r1"})
    assert answer.status_code == 500
    told = [json.loads(line) for line in stderr.readouterr().err.splitlines()]
    assert [line["event"] for line in told] == ["http.failed", "http.request"]
    assert {line["request_id"] for line in told} == {"r1"} and MALFORMED not in str(told)
