"""Every route against every identity: nobody gets more than their key says.

Routes are taken from the app itself, so one that is forgotten here or in the table of what a
request needs fails. Beside them the ways around: another's cursor, a key that ended meanwhile,
tokens in the wrong place.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import iter_route_contexts
from tests.api.conftest import Client, a_worker, wait_until_followed

from longleaf.api.app import create_app
from longleaf.api.http.access import COOKIE, NEEDS, PUBLIC, SECURE_COOKIE, is_public, needed
from longleaf.api.running import announced, local_headers
from longleaf.api.wire import Runtime, open_runtime
from longleaf.core.access import Role
from longleaf.core.catalog.keys import KeyWrite
from longleaf.core.config import load_settings
from longleaf.core.errors import Overloaded

LOCAL_TOKEN = "the token of this machine"
SECRETS = {"sealed": "zyzzogeton", "elsewhere": "quixotrix"}
"""A word for each document that a limited key may not see: in its text, title, name and query."""
QUERY = "tenant rent month"
"""Finds all of them for whoever may see them."""
OPEN_TEXT = "Open lease\n\nThe tenant pays the rent on the first day of the month."
SEALED_TEXT = "Sealed {0} lease\n\nThe tenant {0} pays the rent of the month."


@dataclass(frozen=True, slots=True)
class Site:
    """A server with keys: a document in each collection, one sealed for a group."""

    runtime: Runtime
    keys: Mapping[str, str]
    documents: Mapping[str, str]
    jobs: Mapping[str, str]

    def client(self, who: str = "", **headers: str) -> Client:
        app = create_app(self.runtime, local_token=LOCAL_TOKEN)
        if who:
            headers["Authorization"] = f"Bearer {self.keys[who]}"
        return Client(app, headers=headers)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    settings = load_settings({"home": tmp_path_factory.mktemp("keys")}, {}).settings
    runtime = open_runtime(settings, follow=True)
    try:
        for name in ("law", "other"):
            runtime.catalog.create_collection(name)
        local = Client(create_app(runtime))
        documents, jobs = {}, {}
        with a_worker(runtime):
            for name, collection, groups, text in (
                ("open", "law", [], OPEN_TEXT),
                ("sealed", "law", ["judges"], SEALED_TEXT),
                ("elsewhere", "other", [], SEALED_TEXT),
            ):
                secret = SECRETS.get(name, "open")
                fields = {"collection": collection, "groups": groups, "key": f"{name}.txt"}
                made = local.upload(f"{secret}.txt", text.format(secret).encode(), **fields)
                assert made.status_code == 201, made.text
                [documents[name]] = made.json()["document_ids"]
                jobs[name] = made.json()["job"]
            for name, secret in SECRETS.items():
                body = {"query": f"{secret} asked", "document_id": documents[name], "grade": 1}
                assert local.post("/v1/judgements", json=body).status_code == 200
            wait_until_followed(runtime)
            keys = runtime.catalog.keys
            limited = KeyWrite("limited", Role.READ, ("law",), ("clerks",))
            made_keys = {
                "admin": keys.create(KeyWrite("admin", Role.ADMIN)),
                "writer": keys.create(KeyWrite("writer", Role.WRITE)),
                "reader": keys.create(KeyWrite("reader", Role.READ)),
                "judge": keys.create(KeyWrite("judge", Role.READ, ("law",), ("judges",))),
                "limited": keys.create(limited),
                "open only": keys.create(replace(limited, groups=())),
                "writer of law": keys.create(KeyWrite("wol", Role.WRITE, ("law",))),
                "admin of law": keys.create(KeyWrite("aol", Role.ADMIN, ("law",))),
                "nowhere": keys.create(KeyWrite("nowhere", Role.READ, (), ())),
                "revoked": keys.create(KeyWrite("revoked", Role.ADMIN)),
                "expired": keys.create(
                    KeyWrite("expired", Role.ADMIN, expires_at=time.time() + 0.01)
                ),
            }
            keys.revoke(made_keys["revoked"][0].id)
            tokens = {name: token for name, (_, token) in made_keys.items()}
            good = tokens["admin"]
            tokens["guessed"] = good[:12] + "A" * (len(good) - 12)
            tokens["nonsense"] = "sk-1234"
            yield Site(runtime, tokens, documents, jobs)
    finally:
        runtime.close()


STRANGERS = ("", "revoked", "expired", "guessed", "nonsense")
MAY_NOT_SEE = [
    *(
        (who, name)
        for who in ("limited", "open only", "nowhere")
        for name in ("sealed", "elsewhere")
    ),
    *((who, "elsewhere") for who in ("judge", "writer of law", "admin of law")),
]


def routes() -> list[tuple[str, str]]:
    """(method, route) of everything that the app answers, pages too."""
    import tempfile

    from longleaf.api.wire import open_runtime as opened

    with tempfile.TemporaryDirectory() as home:
        runtime = opened(load_settings({"home": Path(home)}, {}).settings, follow=False)
        try:
            app = create_app(runtime)
        finally:
            runtime.close()
    found = []
    for context in iter_route_contexts(app.routes):
        route: Any = context.original_route
        path = str(getattr(context, "path", "") or route.path)
        found += [(method, path) for method in sorted(getattr(route, "methods", None) or ())]
    return sorted({(method, path) for method, path in found if method != "HEAD"})


ROUTES = routes()


def test_the_app_has_the_routes_that_are_tried() -> None:
    assert ("POST", "/v1/search") in ROUTES
    assert ("POST", "/library/upload") in ROUTES
    assert len(ROUTES) > 60


def test_every_change_is_in_the_table_and_nothing_else_is() -> None:
    changes = {
        f"{method} {path}" for method, path in ROUTES if method != "GET" and path not in PUBLIC
    }
    assert changes - set(NEEDS) == set()
    assert {
        route
        for route in NEEDS
        if route.partition(" ")[::2] not in {(method, path) for method, path in ROUTES}
        and tuple(route.split(" ", 1)) not in ROUTES
    } == set()


@pytest.mark.parametrize(
    ("method", "path", "role"),
    [
        ("GET", "/v1/documents/abc", Role.READ),
        ("HEAD", "/v1/documents/abc", Role.READ),
        ("DELETE", "/v1/documents/abc", Role.WRITE),
        ("DELETE", "/v1/documents/abc/", Role.ADMIN),
        ("DELETE", "/v1/documents/abc/def", Role.ADMIN),
        ("POST", "/v1/search", Role.READ),
        ("POST", "/v1/search\n", Role.ADMIN),
        ("POST", "//v1/search", Role.ADMIN),
        ("PUT", "/v1/search", Role.ADMIN),
        ("HEAD", "/library/collections/law/delete", Role.ADMIN),
        ("BREW", "/coffee", Role.ADMIN),
    ],
)
def test_what_is_not_known_needs_an_admin(method: str, path: str, role: Role) -> None:
    assert needed(method, path)[1] is role


def asked(site: Site, client: Client, method: str, route: str, name: str) -> httpx.Response:
    """The route asked for with ids of document `name`, and a body that makes sense."""
    collection = "other" if name == "elsewhere" else "law"
    path = (
        route.replace("{document_id}", site.documents[name])
        .replace("{job_id}", site.jobs[name])
        .replace("{name}", collection)
        .replace("{page}", "1")
        .replace("{evaluation_id}", "none")
        .replace("{what}", "cancel")
    )
    assert "{" not in path, f"no value for {path}"
    options: dict[str, Any] = {}
    query = {"q": QUERY, "query": QUERY, "limit": "5"}
    if method in ("GET", "DELETE"):
        options["params"] = {**query, "document_id": site.documents[name]}
    elif route in ("/v1/documents", "/library/upload"):
        options["files"] = {"file": ("new.txt", b"A new text."), "files": ("new.txt", b"New.")}
        options["data"] = {"collection": collection, "key": f"{name}.txt"}
    elif route.startswith("/v1/judgements/table") or route == "/evaluate/import":
        options["files"] = {"file": ("j.csv", b"query,document_id,grade\n")}
    elif route.startswith("/v1/"):
        options["json"] = BODIES.get(route, lambda *_: {})(site, name)
    else:
        options["data"] = {
            **query, "document_id": site.documents[name], "rank": "1", "grade": "1",
            "collection": collection, "name": "made", "judge": "local",
        }  # fmt: skip
    return client.request(method, path, follow_redirects=False, **options)


BODIES: Mapping[str, Any] = {
    "/v1/search": lambda *_: {"query": QUERY, "facets": ["*"]},
    "/v1/rerank": lambda *_: {"query": "rent", "documents": ["a text"]},
    "/v1/judgements": lambda site, name: {
        "query": "rent", "document_id": site.documents[name], "grade": 1,
    },
    "/v1/collections": lambda *_: {"name": "made"},
    "/v1/collections/{name}": lambda *_: {"description": "changed"},
    "/v1/evaluations": lambda *_: {"collection": "law"},
}  # fmt: skip


@pytest.mark.parametrize("who", STRANGERS)
def test_strangers_get_nothing_but_the_door(site: Site, who: str) -> None:
    client = site.client(who)
    answered = {}
    for method, route in ROUTES:
        response = asked(site, client, method, route, "open")
        if response.status_code != 401 and not is_public(route):
            answered[f"{method} {route}"] = response.status_code
        assert not any(secret in response.text for secret in SECRETS.values())
    assert answered == {}


@pytest.mark.parametrize("who", ["reader", "judge", "limited", "nowhere"])
def test_readers_change_nothing(site: Site, who: str) -> None:
    client = site.client(who)
    before = [(each.public_id, each.revision) for each in heads(site)]
    for method, route in ROUTES:
        if is_public(route):
            continue
        name, role = needed(method, route)
        if role is Role.READ:
            continue
        for document in site.documents:
            response = asked(site, client, method, route, document)
            assert response.status_code == 403, f"{name}: {response.status_code}"
            assert response.json()["code"] == "forbidden"
    assert [(each.public_id, each.revision) for each in heads(site)] == before


def test_writers_are_no_admins(site: Site) -> None:
    client = site.client("writer")
    for method, route in ROUTES:
        if not is_public(route) and needed(method, route)[1] is Role.ADMIN:
            assert asked(site, client, method, route, "open").status_code == 403, route


def heads(site: Site) -> list[Any]:
    from longleaf.core.types import Scope

    everything = Scope.all()
    return [site.runtime.catalog.document(each, everything) for each in site.documents.values()]


@pytest.mark.parametrize(("who", "name"), MAY_NOT_SEE)
def test_no_route_tells_of_what_a_key_may_not_see(site: Site, who: str, name: str) -> None:
    client = site.client(who)
    told, worked = {}, {}
    for method, route in ROUTES:
        if is_public(route):
            continue
        response = asked(site, client, method, route, name)
        at = response.text.lower().find(SECRETS[name])
        if at >= 0:
            told[f"{method} {route}"] = response.text[max(0, at - 100) : at + 50]
        if re.search(r"\{(document_id|job_id)\}", route) and response.status_code < 400:
            worked[f"{method} {route}"] = response.status_code
    assert told == {}
    assert worked == {}
    assert [each.revision for each in heads(site)] == [1, 1, 1]


def test_whoever_may_see_it_does(site: Site) -> None:
    """The canary is there to be found: otherwise the test above could not fail."""
    for who, count in (("reader", 2), ("judge", 1), ("admin", 2), ("limited", 0)):
        found = str(site.client(who).search(QUERY)["hits"])
        assert sum(secret in found for secret in SECRETS.values()) == count, who
    seen = site.client("judge").get(f"/v1/documents/{site.documents['sealed']}?text=true")
    assert SECRETS["sealed"] in seen.json()["text"]
    assert site.client("judge").get(f"/v1/documents/{site.documents['elsewhere']}").is_error


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


def test_a_key_may_come_so_often_and_bring_so_much(site: Site) -> None:
    keys = site.runtime.catalog.keys
    _, token = keys.create(KeyWrite("hasty", Role.WRITE, requests_per_minute=2, max_body_bytes=100))
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
    from longleaf.api.gate import Gate
    from longleaf.core.access import Caller
    from longleaf.core.types import Scope

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
