"""Keys and sessions over HTTP: where they are taken from, how long they last, what they may use."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.api.conftest import Client
from tests.api.keyed import LOCAL_TOKEN, QUERY, SECRETS, Site, keyed_site
from tests.api.test_answers import answering
from tests.remote.chat import chatting

from longleaf.api.app import create_app
from longleaf.api.gate import Gate
from longleaf.api.http.access import COOKIE, SECURE_COOKIE
from longleaf.api.http.assets import URL
from longleaf.api.running import announced, local_headers
from longleaf.api.wire import open_runtime
from longleaf.core.access import Caller, Role
from longleaf.core.catalog.keys import KeyWrite
from longleaf.core.config import load_settings
from longleaf.core.errors import CatalogUnavailable, Overloaded
from longleaf.core.types import Scope


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with keyed_site(tmp_path_factory.mktemp("keys")) as made:
        yield made


def test_the_token_of_this_machine_opens_everything(site: Site, tmp_path: Path) -> None:
    with announced(tmp_path, "http://127.0.0.1:1", LOCAL_TOKEN):
        file = tmp_path / "server.json"
        assert file.stat().st_mode & 0o777 == 0o600
        headers = local_headers(tmp_path)
    assert local_headers(tmp_path) == {}
    client = Client(create_app(site.runtime, local_token=LOCAL_TOKEN), headers=headers)
    assert client.get("/v1/status").status_code == 200
    assert Client(create_app(site.runtime), headers=headers).get("/v1/status").status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Basic {}"},
        {"Authorization": "{}"},
        {"Authorization": "Bearer  "},
        {"Cookie": f"{COOKIE}={{}}"},
        {"Cookie": f"{SECURE_COOKIE}={{}}"},
        {"X-Api-Key": "x{}"},
    ],
)
def test_a_key_in_the_wrong_place_opens_nothing(site: Site, headers: dict[str, str]) -> None:
    """Least of all as a cookie, which other sites' pages could have sent along."""
    given = {name: value.format(site.keys["admin"]) for name, value in headers.items()}
    assert site.client(**given).get("/v1/collections").status_code == 401


@pytest.mark.parametrize("name", ["Authorization", "X-API-Key"])
def test_a_key_is_taken_from_two_headers(site: Site, name: str) -> None:
    key = site.keys["reader"]
    value = f"bearer {key}" if name == "Authorization" else key
    assert site.client(**{name: value}).get("/v1/collections").status_code == 200


def test_a_wrong_key_is_not_made_good_by_a_session(site: Site) -> None:
    session = opened_session(site, "reader")
    cookie = {"Cookie": f"{COOKIE}={session}"}
    assert site.client(**cookie).get("/v1/collections").status_code == 200
    wrong = {**cookie, "Authorization": "Bearer wrong"}
    assert site.client(**wrong).get("/v1/collections").status_code == 401
    bearer = {"Authorization": f"Bearer {session}"}
    assert site.client(**bearer).get("/v1/collections").status_code == 401


def opened_session(site: Site, who: str) -> str:
    answer = site.client().post(
        "/login", data={"key": site.keys[who], "next": "/library?sort=title"}
    )
    assert answer.status_code == 303
    assert answer.headers["location"] == "/library?sort=title"
    cookie = answer.headers["set-cookie"]
    assert re.search(r"; HttpOnly; .*; Path=/; SameSite=lax$", cookie)
    assert site.keys[who] not in cookie
    return cookie.partition("=")[2].partition(";")[0]


def test_the_page_asks_who_it_is_and_lets_go(site: Site) -> None:
    html = {"Accept": "text/html"}
    asked_first = site.client(**html).get("/?q=a+b", follow_redirects=False)
    assert asked_first.status_code == 303
    assert asked_first.headers["location"] == "/login?next=%2F%3Fq%3Da%2Bb"
    form = site.client(**html).get(asked_first.headers["location"])
    assert 'name="next" value="/?q=a+b"' in form.text
    refused = site.client().post("/login", data={"key": site.keys["revoked"]})
    assert refused.status_code == 401
    assert "opens nothing" in refused.text
    session = opened_session(site, "judge")
    inside = site.client(Cookie=f"{COOKIE}={session}", **html)
    assert SECRETS["sealed"] in inside.get("/", params={"q": QUERY}).text
    assert inside.get("/login", follow_redirects=False).status_code == 303
    page = inside.get("/").text
    assert ">judge</small>" in page and 'action="/logout"' in page
    assert 'href="/evaluate"' not in page  # a reader may not go there
    gone = inside.post("/logout", follow_redirects=False)
    assert gone.headers["location"] == "/login"
    assert "Max-Age=0" in gone.headers["set-cookie"]
    assert inside.get("/", follow_redirects=False).status_code == 303


def test_beyond_this_machine_the_cookie_wants_tls(site: Site) -> None:
    app = create_app(site.runtime, allowed_hosts=["search.example"])
    client = Client(app, "http://search.example")
    answer = client.post("/login", data={"key": site.keys["reader"]})
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"{SECURE_COOKIE}=")
    assert "; Secure" in cookie
    assert "Domain" not in cookie


@pytest.mark.parametrize(
    "path",
    [
        "//evil.example",
        "https://evil.example/",
        "/\\evil.example",
        "evil",
        "/\nx",
        "/\t/evil.example",
    ],
)
def test_logging_in_leads_nowhere_else(site: Site, path: str) -> None:
    answer = site.client().post("/login", data={"key": site.keys["reader"], "next": path})
    assert answer.headers["location"] == "/"


def test_another_site_cannot_log_one_out(site: Site) -> None:
    session = opened_session(site, "reader")
    cookie = f"{COOKIE}={session}"
    foreign = site.client(Cookie=cookie, Origin="https://evil.example").post("/logout")
    assert foreign.status_code == 403
    assert site.client(Cookie=cookie).get("/v1/collections").status_code == 200


def test_a_session_ends_with_its_key(site: Site) -> None:
    keys = site.runtime.catalog.keys
    key, token = keys.create(KeyWrite("passing", Role.READ))
    client = site.client()
    cookie = client.post("/login", data={"key": token}).headers["set-cookie"].partition(";")[0]
    inside = site.client(Cookie=cookie)
    assert inside.get("/v1/collections").status_code == 200
    keys.revoke(key.id)
    assert inside.get("/v1/collections").status_code == 401


def test_anothers_cursor_shows_nothing_that_one_may_not_see(site: Site) -> None:
    first = site.client("admin").search(QUERY, limit=1, cursor="*")
    hidden = {site.documents[name] for name in SECRETS}
    for who, count in (("admin", 2), ("limited", 1), ("nowhere", 0)):
        answer = site.client(who).post("/v1/search", json={"cursor": first["next_cursor"]})
        shown = {each["document_id"] for each in answer.json()["hits"]}
        assert len(shown) <= count, who
        assert who == "admin" or not shown & hidden, who
        assert who != "admin" or shown & hidden  # so that there was something to hide


def test_an_answer_is_written_from_what_one_may_see(site: Site) -> None:
    with chatting("The documents do not say.") as service, answering(site.runtime, service.url):
        for who, count in (("limited", 0), ("judge", 1), ("reader", 2)):
            asked = site.client(who).post("/v1/answer", json={"query": QUERY})
            assert asked.status_code == 200, asked.text
            sent = str(service.asked[-1])
            assert "Open lease" in sent
            assert sum(secret in sent for secret in SECRETS.values()) == count, who


def test_readers_judge_as_themselves(site: Site) -> None:
    body = {"query": "whose", "document_id": site.documents["open"], "grade": 1}
    reader = site.client("reader")
    assert reader.post("/v1/judgements", json=body).json()["judge"] == "reader"
    refused = reader.post("/v1/judgements", json=body | {"judge": "anne"})
    assert refused.status_code == 400
    assert "You judge as 'reader'" in refused.json()["detail"]
    writer = site.client("writer")
    assert writer.post("/v1/judgements", json=body | {"judge": "anne"}).json()["judge"] == "anne"
    listed = writer.get("/v1/judgements", params={"query": "whose"}).json()["judgements"]
    assert sorted(each["judge"] for each in listed) == ["anne", "reader"]


def test_changes_and_refusals_are_in_the_audit_log(site: Site) -> None:
    admin, reader = site.client("admin"), site.client("reader")
    headers = {"X-Request-ID": "asked-1"}
    made = admin.post("/v1/collections", json={"name": "audited"}, headers=headers)
    assert made.status_code == 201
    assert reader.delete("/v1/collections/audited").status_code == 403
    assert reader.search(QUERY)
    gone = admin.delete("/v1/collections/audited")
    assert gone.status_code == 200
    acts = site.runtime.catalog.audit.newest(3)
    assert [(each.caller, each.act, each.target, each.status) for each in acts] == [
        ("admin", "DELETE /v1/collections/{name}", "/v1/collections/audited", 200),
        ("reader", "DELETE /v1/collections/{name}", "/v1/collections/audited", 403),
        ("admin", "POST /v1/collections", "/v1/collections", 201),
    ]
    assert acts[-1].request_id == "asked-1"
    for each in site.keys.values():
        assert each not in repr(acts)


def test_signing_in_and_out_are_in_the_audit_log_and_strangers_are_not(site: Site) -> None:
    audit, stranger = site.runtime.catalog.audit, site.client()
    before = audit.newest(1)
    assert stranger.post("/login", data={"key": "lls_guessed"}).status_code == 401
    assert stranger.post("/logout", follow_redirects=False).status_code == 303
    assert audit.newest(1) == before
    browser = site.client(Cookie=f"{COOKIE}={opened_session(site, 'reader')}")
    for _ in range(2):
        assert browser.post("/logout", follow_redirects=False).status_code == 303
    acts = audit.newest(2)
    assert [(each.caller, each.act, each.target, each.status) for each in acts] == [
        ("reader", "sign out", "/logout", 303),
        ("reader", "sign in", "/login", 303),
    ]
    assert acts[0].key_id == acts[1].key_id is not None
    assert audit.newest(3)[2:] == before


def test_a_key_may_come_so_often_and_bring_so_much(site: Site) -> None:
    keys = site.runtime.catalog.keys
    _, token = keys.create(KeyWrite("hasty", Role.WRITE, requests_per_minute=3, max_body_bytes=100))
    client = Client(create_app(site.runtime), headers={"Authorization": f"Bearer {token}"})
    large = client.post("/v1/search", json={"query": "x" * 200})
    assert large.status_code == 413

    async def endless() -> Any:
        for _ in range(9):
            yield b" " * 50

    streamed = client.post("/v1/search", content=endless())
    assert streamed.status_code == 413
    assert client.get("/v1/collections").status_code == 200
    late = client.get("/v1/collections")
    assert late.status_code == 429
    assert 1 <= int(late.headers["retry-after"]) <= 30


def test_the_gate_lets_through_at_the_rate_it_says() -> None:
    now = 0.0
    gate = Gate(None, requests_per_minute=60, clock=lambda: now)  # type: ignore[arg-type]
    caller = Caller("anne", Role.READ, Scope.all(), "k1")

    waits: list[float] = []

    def admitted(count: int) -> int:
        through = 0
        for _ in range(count):
            try:
                gate.admit(caller)
            except Overloaded as error:
                waits.append(error.retry_after_seconds)
            else:
                through += 1
        return through

    assert admitted(100) == 60
    now = 10.0
    assert admitted(100) == 10
    now = 1_000.0
    assert admitted(100) == 60
    assert len(waits) == 170
    assert all(0 < each <= 1 for each in waits)
    gate.admit(replace(caller, key_id="k2"))  # another's requests are its own


@pytest.mark.parametrize(("own", "most"), [(None, 3), (1, 1), (9, 9)])
def test_a_limit_of_ones_own_takes_the_place_of_the_servers(own: int | None, most: int) -> None:
    gate = Gate(None, requests_per_minute=3, clock=lambda: 0.0)  # type: ignore[arg-type]
    caller = Caller("anne", Role.READ, Scope.all(), "k1", requests_per_minute=own)
    for _ in range(most):
        gate.admit(caller)
    with pytest.raises(Overloaded):
        gate.admit(caller)


def test_a_stranger_hears_whether_it_is_ready_and_not_how(site: Site) -> None:
    asked = site.client().get("/readyz")
    assert asked.status_code == 200
    assert asked.json()["chosen"] == {}
    assert site.client("reader").get("/readyz").json()["chosen"]["index"]


def test_a_catalog_that_cannot_be_asked_lets_nobody_in(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = site.client("admin")

    def fail(*_: object) -> None:
        raise CatalogUnavailable("The database is away.")

    monkeypatch.setattr(Gate, "caller", fail)
    refused = client.get("/v1/collections")
    assert refused.status_code == 503
    assert refused.json()["code"] == "catalog_unavailable"
    assert int(refused.headers["retry-after"]) > 0
    assert client.get("/healthz").status_code == 200


def test_mcp_counts_once(site: Site) -> None:
    """One call of a tool asks several routes for its caller."""
    keys = site.runtime.catalog.keys
    _, token = keys.create(KeyWrite("model", Role.READ, ("law",), (), requests_per_minute=1))
    client = Client(create_app(site.runtime), headers={"Authorization": f"Bearer {token}"})
    body = {
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": "search", "arguments": {"query": QUERY}},
    }  # fmt: skip
    headers = {"Accept": "application/json, text/event-stream"}
    answer = client.post("/mcp", json=body, headers=headers)
    assert answer.status_code == 200
    assert "Open lease" in answer.text
    assert not any(secret in answer.text for secret in SECRETS.values())
    assert client.post("/mcp", json=body, headers=headers).status_code == 429


def test_without_keys_everybody_here_is_the_local_user(tmp_path: Path) -> None:
    runtime = open_runtime(load_settings({"home": tmp_path}, {}).settings, follow=False)
    try:
        client = Client(create_app(runtime))
        assert client.post("/v1/collections", json={"name": "a"}).status_code == 201
        [act] = runtime.catalog.audit.newest(5)
        assert (act.caller, act.key_id) == ("local", None)
        key, token = runtime.catalog.keys.create(KeyWrite("first", Role.READ))
        assert client.get("/v1/collections").status_code == 401
        runtime.catalog.keys.revoke(key.id)
        assert client.get("/v1/collections").status_code == 401
        assert Client(client.app, headers={"X-API-Key": token}).get("/readyz").status_code == 200
    finally:
        runtime.close()


@pytest.mark.parametrize("where", ["/", "/library", "/v1/documents", "/api", "/login"])
def test_no_browser_keeps_what_a_session_saw(site: Site, where: str) -> None:
    session = opened_session(site, "reader")
    inside = site.client(Cookie=f"{COOKIE}={session}").get(
        where, params={"q": QUERY}, follow_redirects=False
    )
    assert inside.status_code < 400 and inside.headers["cache-control"] == "no-store"
    assert site.client().get("/v1/documents").headers["cache-control"] == "no-store"
    asset = site.client(Cookie=f"{COOKIE}={session}").get(f"{URL}/page.css")
    assert asset.status_code == 200 and "immutable" in asset.headers["cache-control"]


def test_where_there_is_no_key_a_browser_may_keep_pages(client: Client) -> None:
    assert "cache-control" not in client.get("/library").headers
