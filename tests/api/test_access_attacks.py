"""What was tried against keys and sessions and once worked; none of it may again."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.api.conftest import Client
from tests.api.keyed import LOCAL_TOKEN, QUERY, Site, keyed_site
from tests.api.test_answers import answering
from tests.remote.chat import chatting
from tests.remote.longleaf import served_app

from longleaf.api.app import create_app
from longleaf.api.cli.answering import ask
from longleaf.api.doctor.index import _ask
from longleaf.api.http import health
from longleaf.api.http.access import COOKIE, NEEDS, SECURE_COOKIE, needed
from longleaf.api.running import announced, find_server, home_name, local_headers
from longleaf.core.access import Role
from longleaf.core.catalog.keys import KeyWrite
from longleaf.core.errors import CatalogBusy


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with keyed_site(tmp_path_factory.mktemp("keys")) as made:
        yield made


LOOKS = sorted(
    route.partition(" ")[2]
    for route, role in NEEDS.items()
    if route.startswith("GET ") and role is not Role.READ
)


@pytest.mark.parametrize("behind", ["%0A", "%0a", "%0D", "%00", "%7F", "%0A%0A"])
def test_the_end_of_a_line_behind_a_path_opens_nothing(site: Site, behind: str) -> None:
    """The router took /v1/jobs%0A for /v1/jobs, the table of what it needs did not."""
    reader = site.client("reader")
    assert site.client("admin").get(f"/metrics{behind}").status_code == 400
    opened = {}
    for route in LOOKS:
        for method in ("GET", "HEAD"):
            path = (
                route.replace("{document_id}", site.documents["open"])
                .replace("{job_id}", site.jobs["open"])
                .replace("{name}", "law")
                .replace("{evaluation_id}", "none")
            )
            answer = reader.request(method, path + behind, follow_redirects=False)
            if answer.status_code != 400:
                opened[f"{method} {route}"] = answer.status_code
    assert opened == {}
    assert needed("GET", "/v1/jobs\n")[1] is Role.ADMIN


def with_key(site: Site, wanted: KeyWrite, **headers: str) -> tuple[Client, str]:
    """A client with a key of its own, and the key."""
    _, token = site.runtime.catalog.keys.create(wanted)
    headers["Authorization"] = f"Bearer {token}"
    return Client(create_app(site.runtime, local_token=LOCAL_TOKEN), headers=headers), token


def collections(site: Site) -> set[str]:
    return {
        each["name"] for each in site.client("admin").get("/v1/collections").json()["collections"]
    }


def test_a_limited_admin_makes_no_other_collection(site: Site) -> None:
    """And is not told by "there is one already" which there are."""
    admin = site.client("admin of law")
    told = [admin.post("/v1/collections", json={"name": name}) for name in ("other", "absent")]
    assert [each.status_code for each in told] == [400, 400]
    other, absent = (each.json() for each in told)
    assert other["detail"].replace("other", "absent") == absent["detail"]
    assert other["hint"] == absent["hint"]
    form = admin.post("/library/collections", data={"name": "absent"}, follow_redirects=False)
    assert form.status_code == 400
    assert "absent" not in collections(site)
    wide, _ = with_key(site, KeyWrite("two", Role.ADMIN, ("law", "planned")))
    assert wide.post("/v1/collections", json={"name": "planned"}).status_code == 201


@pytest.mark.parametrize("name", ["taken", "other"])
def test_a_writer_makes_no_collection_by_uploading(site: Site, name: str) -> None:
    """The library's form made the first collection for whoever saw none."""
    writer, _ = with_key(site, KeyWrite("early", Role.WRITE, ("not made yet",)))
    before = collections(site)
    files = {"file": ("new.txt", b"A new text.")}
    answer = writer.post("/library/upload", data={"collection": name}, files=files)
    assert answer.status_code == 404
    assert collections(site) == before


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/metrics"),
        ("GET", "/v1/status"),
        ("GET", "/library/health"),
        ("POST", "/v1/index/compare"),
    ],
)
def test_what_is_told_of_all_is_for_keys_without_limits(site: Site, method: str, path: str) -> None:
    for who in ("limited", "judge", "nowhere", "writer of law", "admin of law"):
        assert site.client(who).request(method, path).status_code == 403, who
    assert site.client("admin").request(method, path).status_code == 200
    assert "/library/health" in site.client("admin").get("/library").text
    assert "/library/health" not in site.client("admin of law").get("/library").text


def test_refusals_count_and_leave_no_rows_without_end(site: Site) -> None:
    hasty, token = with_key(site, KeyWrite("hasty reader", Role.READ, requests_per_minute=2))
    codes = [hasty.delete("/v1/collections/law").status_code for _ in range(5)]
    assert codes == [403, 403, 429, 429, 429]
    acts = [each for each in site.runtime.catalog.audit.newest(20) if each.caller == "hasty reader"]
    assert len(acts) == 2
    door = Client(hasty.app)
    logins = [door.post("/login", data={"key": token}) for _ in range(2)]
    assert [each.status_code for each in logins] == [429, 429]
    assert not any("set-cookie" in each.headers for each in logins)


@pytest.mark.parametrize("path", ["//[", "//[x]", "//evil\uff0fx", "/[", "//", "/\\[", "[", ""])
def test_no_place_to_go_on_to_breaks_the_door(site: Site, path: str) -> None:
    for answer in (
        site.client().get("/login", params={"next": path}),
        site.client().post("/login", data={"key": "wrong", "next": path}),
        site.client().post("/login", data={"key": site.keys["reader"], "next": path}),
    ):
        assert answer.status_code in (200, 303, 401)
        assert answer.headers.get("location", "/") in ("/", "/[")


def test_a_change_that_fails_unexpectedly_has_a_row(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = site.runtime.catalog
    made = catalog.create_collection

    def half(*given: Any) -> None:
        made(*given)
        raise RuntimeError("in the middle")

    monkeypatch.setattr(catalog, "create_collection", half)
    answer = site.client("admin").post("/v1/collections", json={"name": "half"})
    assert answer.status_code == 500
    [act] = catalog.audit.newest(1)
    assert (act.caller, act.act, act.status) == ("admin", "POST /v1/collections", 500)


def test_a_busy_catalog_keeps_nobody_out(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a key was used is for people; it is not worth an answer."""
    client, _ = with_key(site, KeyWrite("early bird", Role.READ))

    def busy(_key_id: str) -> None:
        raise CatalogBusy("Somebody writes.")

    monkeypatch.setattr(site.runtime.catalog.keys, "note_use", busy)
    assert client.get("/v1/collections").status_code == 200


@contextmanager
def six_times(ask: Callable[[], None], ends: threading.Event) -> Iterator[None]:
    """`ask` in six threads at once, until `ends` is set, as it is at the end."""
    asking = [threading.Thread(target=ask) for _ in range(6)]
    for each in asking:
        each.start()
    try:
        yield
    finally:
        ends.set()
        for each in asking:
            each.join()


def test_refused_changes_that_wait_for_the_catalog_keep_nobody_waiting(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader whose refusals waited to be written down held every look at a key."""
    writes = threading.Event()
    waiting = threading.Semaphore(0)

    def wait(_act: object) -> None:
        waiting.release()
        writes.wait(30)

    monkeypatch.setattr(site.runtime.catalog.audit, "put", wait)
    app = create_app(site.runtime, local_token=LOCAL_TOKEN)
    headers = {"Authorization": f"Bearer {site.keys['reader']}"}
    with served_app(app) as url:

        def change() -> None:
            httpx.delete(f"{url}/v1/collections/law", headers=headers, timeout=40, trust_env=False)

        with six_times(change, writes):
            for _ in range(4):
                assert waiting.acquire(timeout=20)
            looked = httpx.get(
                f"{url}/v1/collections", headers=headers, timeout=10, trust_env=False
            )
            assert looked.status_code == 200


def test_strangers_at_the_door_keep_no_caller_waiting(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/readyz is for everybody, and took the threads that documents are read with."""
    ends = threading.Event()
    begun = threading.Event()

    def slow(_runtime: object) -> tuple[None, list[str]]:
        begun.set()
        ends.wait(30)
        return None, ["Slow."]

    monkeypatch.setattr(health, "readiness", slow)
    headers = {"Authorization": f"Bearer {site.keys['reader']}"}
    with served_app(create_app(site.runtime, local_token=LOCAL_TOKEN)) as url:

        def ask_again() -> None:
            httpx.get(f"{url}/readyz", timeout=40, trust_env=False)

        with six_times(ask_again, ends):
            assert begun.wait(20)
            time.sleep(0.5)  # until all of them have arrived
            looked = httpx.get(
                f"{url}/v1/collections", headers=headers, timeout=10, trust_env=False
            )
            assert looked.status_code == 200


def test_a_cookie_of_a_neighbour_is_no_session(site: Site) -> None:
    """shop.example may set a plain cookie for all of .example, and with it its own session."""
    answer = site.client().post("/login", data={"key": site.keys["reader"]})
    session = answer.headers["set-cookie"].partition("=")[2].partition(";")[0]
    app = create_app(site.runtime, allowed_hosts=["search.example"])
    for name, status in ((COOKIE, 401), (SECURE_COOKIE, 200)):
        client = Client(app, "http://search.example", headers={"Cookie": f"{name}={session}"})
        assert client.get("/v1/collections").status_code == status


class _Stranger(BaseHTTPRequestHandler):
    """Says that it is the server of a data folder, and keeps what it is sent."""

    home = ""

    def do_GET(self) -> None:
        said = json.dumps({"status": "ok", "home": self.home, "proof": "0" * 64}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: Any) -> None:
        pass


def test_who_listens_where_a_killed_server_did_is_not_asked(tmp_path: Path) -> None:
    """It can know the folder's name, which /healthz told everybody, and not the token."""
    _Stranger.home = home_name(tmp_path)
    with HTTPServer(("127.0.0.1", 0), _Stranger) as stranger:
        thread = threading.Thread(target=stranger.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{stranger.server_port}"
            with announced(tmp_path, url, LOCAL_TOKEN):
                assert find_server(tmp_path) is None
        finally:
            stranger.shutdown()
            thread.join()


def test_programs_of_this_machine_go_on_without_a_key(site: Site) -> None:
    home = site.runtime.settings.home
    with served_app(create_app(site.runtime, local_token=LOCAL_TOKEN)) as url:
        with announced(home, url, LOCAL_TOKEN):
            assert find_server(home) == url
            assert _ask(url, local_headers(home)).passages > 0
            with chatting("It says so [1].") as service, answering(site.runtime, service.url):
                told = ask(site.runtime.settings, {"query": QUERY}, lambda *_: None)
            assert told["state"] == "answered"
        with announced(home, url, "another server's token"):
            assert find_server(home) is None
