"""A server with keys and people of every kind, and documents that not all of them may see."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.api.conftest import Client, a_worker, app_of, wait_until_followed

from longleaf.api.http.access import COOKIE
from longleaf.api.wire import Runtime, open_runtime
from longleaf.core.access import Caller, Person, Role
from longleaf.core.catalog.keys import Keys, KeyWrite
from longleaf.core.config import load_settings
from longleaf.core.types import Scope

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
        app = app_of(self.runtime, local_token=LOCAL_TOKEN)
        if who.startswith("person"):
            headers["Cookie"] = f"{COOKIE}={self.keys[who]}"
        elif who:
            headers["Authorization"] = f"Bearer {self.keys[who]}"
        return Client(app, headers=headers)


ISSUER = "http://127.0.0.1:1"
"""Of people; nobody asks it here (tests/oidc does)."""
OIDC = {
    "oidc.issuer": ISSUER,
    "oidc.client_id": "longleaf",
    "oidc.public_url": "http://127.0.0.1:8765",
    "oidc.rules": """[
        {"group": "clerks", "collections": ["law"], "own_groups": true},
        {"group": "editors", "role": "write", "collections": ["law"]},
        {"group": "ops", "role": "admin"}
    ]""",
}
PEOPLE = {
    "person": ("clerks",),
    "person who edits": ("editors", "ops"),
    "person of nowhere": ("guests",),
    "person of another provider": ("ops",),
}
"""Sessions of people whom a provider knows, by their groups there."""


def _session_of(runtime: Runtime, who: str) -> str:
    """As a sign-in opens it, before the rules were what they are."""
    issuer = "https://other.example" if "another" in who else ISSUER
    person = Person(issuer, who, who, PEOPLE[who])
    caller = Caller(who, Role.ADMIN, Scope.all(), person=person)
    return runtime.catalog.keys.open_session(caller, 3_600.0)


@contextmanager
def open_site(home: Path, **flags: str) -> Iterator[Site]:
    """Such a server on an empty data folder, before it has keys; `flags` are settings."""
    settings = load_settings({"home": home, **flags}, {}).settings
    runtime = open_runtime(settings, follow=True)
    try:
        for name in ("law", "other"):
            runtime.catalog.create_collection(name)
        local = Client(
            app_of(runtime, local_token=LOCAL_TOKEN),
            headers={"Authorization": f"Bearer {LOCAL_TOKEN}"},
        )
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
            yield Site(runtime, {}, documents, jobs)
    finally:
        runtime.close()


@contextmanager
def keyed_site(home: Path, **flags: str) -> Iterator[Site]:
    """Such a server with its keys, and sessions of PEOPLE."""
    with open_site(home, **OIDC, **flags) as site:
        people = {who: _session_of(site.runtime, who) for who in PEOPLE}
        yield replace(site, keys=made_keys(site.runtime.catalog.keys) | people)


def made_keys(keys: Keys) -> dict[str, str]:
    """A key of each kind, by name."""
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
        "expired": keys.create(KeyWrite("expired", Role.ADMIN, expires_at=time.time() + 0.01)),
    }
    keys.revoke(made_keys["revoked"][0].id)
    tokens = {name: token for name, (_, token) in made_keys.items()}
    good = tokens["admin"]
    tokens["guessed"] = good[:12] + "A" * (len(good) - 12)
    tokens["nonsense"] = "sk-1234"
    return tokens
