"""Signing in and out through a real OpenID Connect provider: who gets in, as what, for how long."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.api.conftest import BASE, Client
from tests.oidc.conftest import Browser, app_with, at_the_provider, browser_of
from tests.remote.provider import (
    API,
    CLIENT,
    OTHER_RSA,
    RSA,
    Provider,
    by_hmac,
    signed_with,
    unsigned,
)

from longleaf.api.http.access import COOKIE
from longleaf.api.http.oidc import COOKIE as HANDSHAKE
from longleaf.api.wire import Runtime
from longleaf.core.access import Person, Role
from longleaf.core.catalog.keys import KeyWrite


def test_somebody_signs_in_and_out(
    browser: Browser, provider: Provider, runtime: Runtime, logged: list[Any]
) -> None:
    asked = browser.get("/?q=a+b")
    assert asked.headers["location"] == "/login?next=%2F%3Fq%3Da%2Bb"
    page = browser.get(asked.headers["location"]).text
    assert 'href="/login/oidc?next=%2F%3Fq%3Da%2Bb"' in page
    assert "Sign in with Example Works" in page
    query = parse_qs(urlsplit(browser.sent_to("/?q=a+b")).query)
    assert query["redirect_uri"] == [f"{BASE}/login/oidc/callback"]
    assert query["code_challenge_method"] == ["S256"]
    assert not {"code_verifier", "client_secret"} & set(query)
    answer = browser.sign_in("/?q=a+b")
    assert (answer.status_code, answer.headers["location"]) == (303, "/?q=a+b")
    lines = answer.headers.get_list("set-cookie")
    [cookie] = [line for line in lines if line.startswith(f"{COOKIE}=")]
    assert re.search(r"; HttpOnly; .*; Path=/; SameSite=lax$", cookie)
    assert HANDSHAKE not in browser.cookies  # good for one answer
    home = browser.get("/").text
    assert ">Anne</small>" in home and 'action="/logout"' in home
    [session] = runtime.catalog.keys.sessions()[-1:]
    assert (session.name, session.key_id, session.role) == ("Anne (anne-1)", None, Role.READ)
    assert session.person == Person(provider.url, "anne-1", "Anne", ("clerks",))
    assert session.expires_at - session.created_at <= 300
    [act] = runtime.catalog.audit.newest(1)
    assert (act.caller, act.key_id, act.act, act.status) == ("Anne (anne-1)", None, "sign in", 303)
    out = browser.get("/logout", "POST")
    assert out.status_code == 200
    [there] = re.findall(r'http-equiv="refresh" content="0; url=([^"]+)"', out.text)
    left = at_the_provider(there.replace("&amp;", "&"))
    assert left.headers["location"] == f"{BASE}/login"
    assert COOKIE not in browser.cookies
    assert provider.refused == []
    assert not browser.is_in


def test_a_session_is_listed_and_ended(browser: Browser, runtime: Runtime) -> None:
    browser.sign_in()
    assert browser.is_in
    [session] = runtime.catalog.keys.sessions()[-1:]
    runtime.catalog.keys.end_session(session.id)
    assert not browser.is_in


def test_what_somebody_does_bears_their_name(
    browser: Browser, provider: Provider, runtime: Runtime
) -> None:
    provider.person = {"sub": "olaf-7", "name": "Olaf", "groups": ["ops", "clerks"]}
    browser.sign_in()
    made = browser.get("/v1/collections", "POST", json={"name": "made"})
    assert made.status_code == 201
    [act] = runtime.catalog.audit.newest(1)
    assert (act.caller, act.key_id) == ("Olaf (olaf-7)", None)
    assert browser.get("/v1/collections/made", "DELETE").status_code == 200


def test_the_first_rule_that_fits_decides_alone(runtime: Runtime, provider: Provider) -> None:
    gate = app_with(runtime).state.service.openid
    for groups, role, collections, own in (
        (["clerks", "editors"], Role.WRITE, {"law"}, None),
        (["ops", "editors"], Role.ADMIN, None, None),
        (["clerks", "judges"], Role.READ, {"law"}, {"clerks", "judges"}),
    ):
        caller = gate.caller(Person(provider.url, "x", "X", tuple(groups)))
        assert caller.role is role
        assert caller.scope.collections == (None if collections is None else frozenset(collections))
        assert caller.scope.groups == (None if own is None else frozenset(own))
    assert gate.caller(Person(provider.url, "x", "X", ("guests",))) is None
    assert gate.caller(Person("https://other.example", "x", "X", ("ops",))) is None


def test_groups_are_those_of_the_last_sign_in_and_rules_those_of_now(
    browser: Browser, runtime: Runtime, provider: Provider
) -> None:
    provider.person = {"sub": "eve-2", "name": "Eve", "groups": ["editors"]}
    browser.sign_in()
    provider.person = {"sub": "eve-2", "name": "Eve", "groups": ["guests"]}
    assert browser.is_in  # nobody has asked the provider since
    refused = browser.sign_in()
    assert refused.status_code == 403
    assert "not let in here" in refused.text
    assert runtime.catalog.audit.newest(1)[0].status == 403
    rules = json.dumps([{"group": "ops", "role": "admin"}])
    stricter = Browser(Client(app_with(runtime, rules=rules)), browser.cookies)
    assert not stricter.is_in
    without = Browser(Client(app_with(runtime, issuer="", client_id="", client_secret="", rules="",
                                      public_url="", name="single sign-on", api_audience="")),
                      browser.cookies)  # fmt: skip
    runtime.catalog.keys.create(KeyWrite("first", Role.READ))
    assert not without.is_in


@pytest.mark.parametrize(
    ("changes", "person"),
    [
        ({"required_group": "staff"}, {}),
        ({"email_domains": "works.example"}, {}),
        ({"email_domains": "works.example"}, {"email": "a@works.example"}),
        ({"email_domains": "works.example"}, {"email": "a@works.example", "email_verified": False}),
        ({"email_domains": "works.example"}, {"email": "a@evil.example", "email_verified": True}),
        ({"email_domains": "works.example"},
         {"email": "works.example@evil.example", "email_verified": True}),
        ({"groups_claim": "roles"}, {}),
    ],
)  # fmt: skip
def test_who_is_outside_stays_outside(
    runtime: Runtime, provider: Provider, changes: dict[str, str], person: dict[str, Any]
) -> None:
    provider.person = {**provider.person, **person}
    browser = browser_of(runtime, **changes)
    assert browser.sign_in().status_code == 403
    assert not browser.is_in


def test_domains_required_groups_and_nested_claims_let_in(
    runtime: Runtime, provider: Provider
) -> None:
    provider.person = {
        "sub": "ann", "email": "ann@Works.Example", "email_verified": "true",
        "realm_access": {"roles": ["clerks", "staff"]},
    }  # fmt: skip
    browser = browser_of(
        runtime, groups_claim="realm_access.roles", required_group="staff",
        email_domains="works.example, @other.example",
    )  # fmt: skip
    assert browser.sign_in().status_code == 303
    assert browser.is_in


@pytest.mark.parametrize(
    "groups",
    [{"clerks": True}, ["clerks", 7], ["clerks", ""], ["clerks", "a\nb"], 7, ["x"] * 1_001],
)
def test_groups_in_another_form_let_nobody_in(
    browser: Browser, provider: Provider, groups: Any
) -> None:
    provider.person = {"sub": "anne-1", "groups": groups}
    assert browser.sign_in().status_code == 401
    assert not browser.is_in


def test_a_session_ends_with_its_token_unless_it_may_outlive_it(
    runtime: Runtime, provider: Provider
) -> None:
    keys = runtime.catalog.keys
    for changes, seconds in (
        ({}, 300), ({"session_minutes": 2.0}, 120),
        ({"outlive_token": True, "session_minutes": 10.0}, 600),
    ):  # fmt: skip
        browser_of(runtime, **changes).sign_in()
        session = keys.sessions()[-1]
        assert seconds - 5 <= session.expires_at - session.created_at <= seconds + 1


def test_an_access_token_for_the_api_is_a_bearer(runtime: Runtime, provider: Provider) -> None:
    provider.person = {"sub": "robot", "groups": ["editors"]}
    app = app_with(runtime)

    def asked(token: str) -> int:
        bearer = {"Authorization": f"Bearer {token}"}
        return Client(app, headers=bearer).get("/v1/collections").status_code

    good = provider.signed(provider.claims(API))
    assert asked(good) == 200
    wrong = {
        "an ID token": provider.signed(provider.claims(CLIENT, nonce="x")),
        "expired": provider.signed(provider.claims(API, exp=1)),
        "another's": provider.signed(provider.claims(API, iss="https://evil.example")),
        "nobody's": provider.signed(provider.claims(API, groups=["guests"])),
        "no subject": provider.signed({**provider.claims(API), "sub": None}),
        "unsigned": unsigned("none")(provider.claims(API)),
        "by HMAC": by_hmac(provider.claims(API)),
        "of a strange key": signed_with(OTHER_RSA, kid="made-up")(provider.claims(API)),
        "a logout token": signed_with(RSA, typ="logout+jwt")(provider.claims(API)),
        "changed": good[:-8] + "AAAAAAAA",
    }
    assert {name for name, token in wrong.items() if asked(token) != 401} == set()
    off = Client(app_with(runtime, api_audience=""), headers={"Authorization": f"Bearer {good}"})
    assert off.get("/v1/collections").status_code == 401


def test_made_up_access_tokens_do_not_make_the_provider_asked(
    runtime: Runtime, provider: Provider
) -> None:
    app = app_with(runtime)
    for number in range(20):
        token = signed_with(OTHER_RSA, kid=f"made-up-{number}")(provider.claims(API))
        bearer = {"Authorization": f"Bearer {token}"}
        assert Client(app, headers=bearer).get("/v1/collections").status_code == 401
    assert provider.asked.count("/jwks") == 1
    away = app_with(runtime, issuer="http://127.0.0.1:1")
    token = provider.signed(provider.claims(API))
    unchecked = Client(away, headers={"Authorization": f"Bearer {token}"}).get("/v1/collections")
    assert unchecked.status_code == 503  # not known to be good, and not known to be bad
