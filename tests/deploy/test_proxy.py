"""The proxy's configuration: compared with the composition, and run with a real HAProxy.

Behind it stand two small servers of this test, which say who they are: what is tested is the proxy,
its health checks, its ids, its limit, and that an event arrives before the next one is made.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import Response, StreamingResponse
from prometheus_client.parser import text_string_to_metric_families
from tests.deploy.faults import app_paths, image_of
from tests.deploy.metrics import dashboard_expressions, names_in, rule_expressions
from tests.deploy.programs import free_port, need
from tests.deploy.reading import ROOT, read_compose, started

from longleaf.api.http.errors import Problem
from longleaf.api.http.guard import MULTIPART_EXTRA_BYTES
from longleaf.api.http.observe import _REQUEST_ID
from longleaf.core.config import Settings

CONFIG = (ROOT / "deploy/haproxy/haproxy.cfg").read_text("utf-8")
CLUSTER = started(read_compose(), ["cluster"])
SERVERS = dict(re.findall(r"^\s+server (\S+) (\S+)$", CONFIG, re.MULTILINE))
LIMIT_BYTES = 1000


# --- compared ------------------------------------------------------------------------------------


def test_every_replica_is_behind_the_proxy_and_nothing_else() -> None:
    replicas = {
        name for name, service in CLUSTER.items()
        if image_of(service) == "longleaf" and not service.get("command")
    }  # fmt: skip
    assert set(SERVERS) == replicas == {"api-1", "api-2"}
    assert all(address == f"{name}:8765" for name, address in SERVERS.items())
    for name in replicas:
        assert set(CLUSTER[name]["networks"]) & set(CLUSTER["proxy"]["networks"])


def test_readiness_is_asked_at_a_route_under_a_host_that_is_answered() -> None:
    (path, host) = re.findall(
        r"http-check send meth GET uri (\S+) ver HTTP/1\.1 hdr Host (\S+)", CONFIG
    )[0]
    assert path in app_paths() and path == "/readyz"
    assert host == "127.0.0.1", "every replica takes loopback names"
    assert "http-check expect status 200" in CONFIG


def test_the_limit_is_that_of_the_replicas() -> None:
    given = CLUSTER["proxy"]["environment"]["MAX_UPLOAD_BYTES"]
    assert int(given) == Settings().server.max_upload_bytes
    changed = read_compose(environment={"LONGLEAF_SERVER__MAX_UPLOAD_BYTES": "7"})["services"]
    assert changed["proxy"]["environment"]["MAX_UPLOAD_BYTES"] == "7"
    assert changed["api-1"]["environment"]["LONGLEAF_SERVER__MAX_UPLOAD_BYTES"] == "7"
    (extra,) = re.findall(r"req\.hdr\(content-length\),sub\((\d+)\)", CONFIG)
    assert int(extra) == MULTIPART_EXTRA_BYTES
    (problem,) = re.findall(r"string '(\{.*?\})'", CONFIG)
    assert Problem.model_validate(json.loads(problem)).code == "too_large"


def test_ids_are_those_that_longleaf_takes() -> None:
    (pattern,) = re.findall(r"req\.hdr\(x-request-id\) -m reg \^(\S+)\$ \}", CONFIG)
    assert pattern == _REQUEST_ID.pattern


def test_queries_do_not_reach_the_log() -> None:
    (form,) = re.findall(r"log-format '(.+)'", CONFIG)
    for asked in ("%r", "%HU", "%HQ", "%HP", "capture.req.uri", "query"):
        assert not re.search(rf"{re.escape(asked)}(?![A-Za-z])", form), asked


# --- run -----------------------------------------------------------------------------------------


@dataclass
class Replica:
    """One server behind the proxy; `go_on` lets its stream end."""

    name: str
    port: int = field(default_factory=free_port)
    is_ready: bool = True
    hosts: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    go_on: threading.Event = field(default_factory=threading.Event)

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/readyz")
        async def readyz(request: Request) -> Response:
            self.hosts.append(request.headers["host"])
            return Response(status_code=200 if self.is_ready else 503)

        @app.api_route("/v1/documents", methods=["GET", "POST"])
        async def documents(request: Request) -> Response:
            body = await request.body()
            self.ids.append(request.headers["x-request-id"])
            headers = {"x-seen-host": request.headers["host"], "x-name": self.name}
            return Response(str(len(body)), headers=headers)

        @app.post("/v1/search")
        async def count(request: Request) -> Response:
            return Response(str(len(await request.body())))

        @app.get("/v1/search")
        async def search() -> StreamingResponse:
            async def events() -> AsyncIterator[bytes]:
                yield b"event: first\ndata: {}\n\n"
                while not self.go_on.is_set():
                    await asyncio.sleep(0.01)
                yield b"event: answer\ndata: {}\n\n"

            return StreamingResponse(events(), media_type="text/event-stream")

        return app


@contextmanager
def _serving(replica: Replica) -> Iterator[None]:
    server = uvicorn.Server(
        uvicorn.Config(replica.app(), host="127.0.0.1", port=replica.port, log_level="warning")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield
    finally:
        replica.go_on.set()
        server.should_exit = True
        thread.join()


@dataclass(frozen=True)
class Proxy:
    """A running HAProxy with the shipped configuration, on ports of this test."""

    client: httpx.Client
    watch: httpx.Client
    replicas: tuple[Replica, Replica]
    log: Path

    def wait_for(self, up: set[str]) -> None:
        """Until exactly these replicas get requests."""
        while True:
            text = self.watch.get("/metrics").text
            found = {
                sample.labels["server"]
                for family in text_string_to_metric_families(text)
                for sample in family.samples
                if sample.name == "haproxy_server_status"
                and sample.labels["state"] == "UP" and sample.value == 1
            }  # fmt: skip
            if found == up:
                return
            time.sleep(0.1)


@contextmanager
def _proxying(folder: Path, replicas: tuple[Replica, Replica]) -> Iterator[Proxy]:
    program = need("haproxy")
    port, watch_port = free_port(), free_port()
    text = CONFIG.replace("bind :8080", f"bind 127.0.0.1:{port}")
    text = text.replace("bind :8405", f"bind 127.0.0.1:{watch_port}")
    for replica in replicas:
        text = text.replace(SERVERS[replica.name], f"127.0.0.1:{replica.port}")
    assert text.count("127.0.0.1:") == 4
    file, log = folder / "haproxy.cfg", folder / "log"
    file.write_text(text, "utf-8")
    environment = {"MAX_UPLOAD_BYTES": str(LIMIT_BYTES), "PATH": "/usr/bin:/bin"}
    with log.open("wb") as out:
        running = subprocess.Popen(
            [program, "-db", "-f", str(file)], env=environment, stdout=out, stderr=out
        )
        try:
            with (
                httpx.Client(base_url=f"http://127.0.0.1:{port}") as client,
                httpx.Client(base_url=f"http://127.0.0.1:{watch_port}") as watch,
            ):
                while True:
                    assert running.poll() is None, log.read_text("utf-8")
                    try:
                        if watch.get("/healthz").status_code == 200:
                            break
                    except httpx.TransportError:
                        time.sleep(0.05)
                found = Proxy(client, watch, replicas, log)
                found.wait_for({"api-1", "api-2"})
                yield found
        finally:
            running.terminate()
            running.wait()


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    need("haproxy")
    replicas = (Replica("api-1"), Replica("api-2"))
    folder = tmp_path_factory.mktemp("proxy")
    with _serving(replicas[0]), _serving(replicas[1]), _proxying(folder, replicas) as running:
        yield running


@contextmanager
def _hanging_up(replica: Replica) -> Iterator[list[str]]:
    """A replica that is ready and ends in the middle of everything; yields what it has begun."""
    begun: list[str] = []

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        if head.startswith("GET /readyz "):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        else:
            begun.append(head.partition(" HTTP")[0])
        writer.close()

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(meet, "127.0.0.1", replica.port))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield begun
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_what_only_reads_is_asked_of_the_other_when_a_replica_dies(tmp_path: Path) -> None:
    need("haproxy")
    dying, well = replicas = (Replica("api-1"), Replica("api-2"))
    well.go_on.set()
    with _hanging_up(dying) as begun, _serving(well), _proxying(tmp_path, replicas) as running:
        answers = [running.client.get("/v1/documents") for _ in range(4)]
        assert {each.headers["x-name"] for each in answers} == {"api-2"}
        assert "GET /v1/documents" in begun, "nobody asked the one that dies"
        assert running.client.post("/v1/search", content=b"{}").text == "2"
        begun.clear()
        # Connections of their own: one that answered before is closed without a word.
        url = running.client.base_url.join("/v1/documents")
        written = [httpx.post(url, content=b"x") for _ in range(4)]
        lost = [each for each in written if each.status_code == 502]
        assert len(lost) == begun.count("POST /v1/documents") > 0, "asked once, and told"


def test_haproxy_takes_the_configuration() -> None:
    done = subprocess.run(
        [need("haproxy"), "-c", "-f", str(ROOT / "deploy/haproxy/haproxy.cfg")],
        env={"MAX_UPLOAD_BYTES": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    warnings = [line for line in done.stderr.splitlines() if "[WARNING]" in line]
    # Replicas have names only where they run.
    assert all("could not resolve address 'api-" in line for line in warnings), warnings


def test_both_replicas_answer_and_see_the_caller_s_host(proxy: Proxy) -> None:
    answers = [proxy.client.get("/v1/documents") for _ in range(8)]
    assert {each.headers["x-name"] for each in answers} == {"api-1", "api-2"}
    assert {each.headers["x-seen-host"] for each in answers} == {
        proxy.client.base_url.netloc.decode()
    }
    assert {host for replica in proxy.replicas for host in replica.hosts} == {"127.0.0.1"}


def test_a_replica_that_is_not_ready_gets_nothing_until_it_is(proxy: Proxy) -> None:
    one, _ = proxy.replicas
    one.is_ready = False
    try:
        proxy.wait_for({"api-2"})
        names = {proxy.client.get("/v1/documents").headers["x-name"] for _ in range(6)}
        assert names == {"api-2"}
    finally:
        one.is_ready = True
    proxy.wait_for({"api-1", "api-2"})


def test_an_event_arrives_before_the_next_one_is_made(proxy: Proxy) -> None:
    with proxy.client.stream("GET", "/v1/search") as answer:
        pieces = answer.iter_raw()
        assert next(pieces) == b"event: first\ndata: {}\n\n"
        for replica in proxy.replicas:
            replica.go_on.set()
        assert b"".join(pieces) == b"event: answer\ndata: {}\n\n"


def test_an_id_is_passed_on_if_it_is_one_and_made_if_not(proxy: Proxy) -> None:
    seen = []
    for given in ("my-id_1.2", None, "with blanks", "x" * 65):
        before = [len(each.ids) for each in proxy.replicas]
        headers = {} if given is None else {"x-request-id": given}
        proxy.client.get("/v1/documents", headers=headers)
        (new,) = [
            each.ids[count:] for each, count in zip(proxy.replicas, before, strict=True)
            if len(each.ids) > count
        ]  # fmt: skip
        seen += new
    assert seen[0] == "my-id_1.2"
    made = seen[1:]
    assert len(set(made)) == 3 and all(_REQUEST_ID.fullmatch(each) for each in made)
    assert "with blanks" not in made


def test_what_says_that_it_is_too_large_stops_at_the_proxy(proxy: Proxy) -> None:
    most = b"x" * (LIMIT_BYTES + MULTIPART_EXTRA_BYTES)
    taken = proxy.client.post("/v1/documents", content=most)
    assert taken.status_code == 200 and taken.text == str(len(most))
    refused = proxy.client.post("/v1/documents", content=most + b"x")
    assert refused.status_code == 413
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["code"] == "too_large"


def test_numbers_of_a_replica_are_not_shown(proxy: Proxy) -> None:
    for way in ("/metrics", "/%6detrics", "/m%65tric%73", "/metrics?x=1"):
        answer = proxy.client.get(way)
        assert answer.status_code == 404 and not answer.content, f"{way} reached a replica"


def test_the_log_has_paths_and_no_queries(proxy: Proxy) -> None:
    proxy.client.get("/v1/documents?q=private", headers={"x-request-id": "find-me"})
    while '"find-me"' not in (text := proxy.log.read_text("utf-8")):
        time.sleep(0.05)
    (line,) = [each for each in text.splitlines() if "find-me" in each]
    entry = json.loads(line)
    assert entry["path"] == "/v1/documents" and entry["status"] == 200
    assert entry["server"] in SERVERS and "private" not in text


def test_rules_and_dashboard_name_numbers_that_haproxy_has(proxy: Proxy) -> None:
    asked = {
        name
        for expression in (*rule_expressions(), *dashboard_expressions())
        for name in names_in(expression)
        if name.startswith("haproxy_")
    }
    assert asked
    families = text_string_to_metric_families(proxy.watch.get("/metrics").text)
    assert asked <= {sample.name for family in families for sample in family.samples}
