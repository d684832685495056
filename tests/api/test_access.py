"""Every route against every identity: nobody gets more than their key says.

Routes are taken from the app itself, so one that is forgotten here or in the table of what a
request needs fails.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest
from fastapi.routing import iter_route_contexts
from tests.api.conftest import Client
from tests.api.keyed import QUERY, SECRETS, Site, keyed_site
from tests.bare_app import bare_app

from longleaf.api.http.access import NEEDS, PUBLIC, is_public, needed
from longleaf.api.http.dialects import dashscope
from longleaf.core.access import Role
from longleaf.core.types import Scope

STRANGERS = (
    "", "revoked", "expired", "guessed", "nonsense", "person of nowhere",
    "person of another provider",
)  # fmt: skip
MAY_NOT_SEE = [
    *(
        (who, name)
        for who in ("limited", "open only", "nowhere", "person")
        for name in ("sealed", "elsewhere")
    ),
    *((who, "elsewhere") for who in ("judge", "writer of law", "admin of law", "person who edits")),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with keyed_site(tmp_path_factory.mktemp("keys")) as made:
        yield made


def routes() -> list[tuple[str, str]]:
    """(method, route) of everything that the app answers, pages too."""
    found = []
    for context in iter_route_contexts(bare_app().routes):
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
        .replace("{vector_store_id}", collection)
        .replace("{model:path}", "late")
        .replace("{dialect}/{path:path}", "tei/rerank")
    )
    assert "{" not in path, f"no value for {path}"
    options: dict[str, Any] = {}
    if route == "/mcp":
        options["headers"] = {"Accept": "application/json, text/event-stream"}
    query = {"q": QUERY, "query": QUERY, "limit": "5"}
    if method in ("GET", "DELETE"):
        options["params"] = {**query, "document_id": site.documents[name]}
    elif route in ("/v1/documents", "/library/upload"):
        options["files"] = {"file": ("new.txt", b"A new text."), "files": ("new.txt", b"New.")}
        options["data"] = {"collection": collection, "key": f"{name}.txt"}
    elif route.startswith("/v1/judgements/table") or route == "/evaluate/import":
        options["files"] = {"file": ("j.csv", b"query,document_id,grade\n")}
    elif route.startswith("/v1/") or route in BODIES:
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
    "/as/{dialect}/{path:path}": lambda *_: {"query": "rent", "texts": ["a text"]},
    "/v1/answer": lambda *_: {"query": QUERY},
    "/v1/embeddings": lambda *_: {"model": "any", "input": "rent"},
    "/v1/vector_stores/{vector_store_id}/search": lambda *_: {"query": QUERY},
    "/mcp": lambda site, name: {
        "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
            "name": "read_document", "arguments": {"document_id": site.documents[name]},
        },
    },
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


def test_strangers_are_told_in_the_words_of_the_service_that_they_mean(site: Site) -> None:
    client = site.client("")
    for path in (dashscope.NATIVE_PATH, dashscope.FLAT_PATH):
        refused = client.post(path, json={})
        assert refused.status_code == 401 and refused.json()["code"] == "InvalidApiKey"
    refused = client.post("/v1/embeddings", json={"model": "any", "input": "rent"})
    assert refused.status_code == 401 and refused.json()["error"]["code"] == "invalid_api_key"
    assert client.post("/v2/rerank", json={}).json().keys() == {"id", "message"}


@pytest.mark.parametrize("who", ["reader", "judge", "limited", "nowhere", "person"])
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


@pytest.mark.parametrize("who", ["writer", "person who edits"])
def test_writers_are_no_admins(site: Site, who: str) -> None:
    client = site.client(who)
    for method, route in ROUTES:
        if not is_public(route) and needed(method, route)[1] is Role.ADMIN:
            assert asked(site, client, method, route, "open").status_code == 403, route


def heads(site: Site) -> list[Any]:
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
    for who, count in (
        ("reader", 2),
        ("judge", 1),
        ("admin", 2),
        ("limited", 0),
        ("person", 0),
        ("person who edits", 1),
    ):
        found = str(site.client(who).search(QUERY)["hits"])
        assert sum(secret in found for secret in SECRETS.values()) == count, who
    seen = site.client("judge").get(f"/v1/documents/{site.documents['sealed']}?text=true")
    assert SECRETS["sealed"] in seen.json()["text"]
    assert site.client("judge").get(f"/v1/documents/{site.documents['elsewhere']}").is_error
