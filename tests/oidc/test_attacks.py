"""What must not get through at a sign-in: forged, replayed, swapped answers, and lies."""

from __future__ import annotations

import base64
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest
from joserfc.jwk import RSAKey
from starlette.responses import JSONResponse, PlainTextResponse, Response
from tests.api.conftest import Client
from tests.oidc.conftest import Browser, browser_of
from tests.remote.longleaf import served_app
from tests.remote.provider import (
    EC,
    OTHER_RSA,
    RSA,
    Provider,
    Wrongs,
    by_hmac,
    signed_with,
    unsigned,
)

from longleaf.api.app import create_app
from longleaf.api.http.access import COOKIE
from longleaf.api.http.oidc import COOKIE as HANDSHAKE
from longleaf.api.wire import Runtime, open_runtime
from longleaf.core.access import Role
from longleaf.core.catalog.keys import KeyWrite
from longleaf.core.config import load_settings


def _altered(path: str, **changes: str) -> str:
    parts = {name: values[0] for name, values in parse_qs(urlsplit(path).query).items()}
    kept = {name: value for name, value in (parts | changes).items() if value}
    return f"{urlsplit(path).path}?{urlencode(kept)}"


@pytest.mark.parametrize("state", ["", "x", "é", "A" * 43])
def test_another_state_opens_nothing_and_asks_nobody(
    browser: Browser, provider: Provider, state: str
) -> None:
    back = browser.sent_back()
    asked = len(provider.asked)
    answer = browser.get(_altered(back, state=state))
    assert answer.status_code == 401
    assert "Begin again" in answer.text
    assert len(provider.asked) == asked
    assert browser.get(back).status_code == 303  # the right one is still good


def test_an_answer_is_good_for_one_session(browser: Browser) -> None:
    back = browser.sent_back()
    kept = dict(browser.cookies)
    assert browser.get(back).status_code == 303
    again = Browser(browser.client, kept)
    assert again.get(back).status_code == 401
    assert not again.is_in


def test_an_answer_replayed_to_a_provider_that_takes_codes_twice_opens_nothing(
    browser: Browser, provider: Provider
) -> None:
    back = browser.sent_back()
    kept = dict(browser.cookies)
    nonce = json.loads(base64.urlsafe_b64decode(kept[HANDSHAKE] + "==")[32:])["nonce"]
    assert browser.get(back).status_code == 303

    def anything() -> Response:
        return JSONResponse({"id_token": provider.signed(provider.claims(nonce=nonce))})

    provider.wrongs = Wrongs(answers={"/token": anything})
    again = Browser(browser.client, kept).get(back)
    assert again.status_code == 401
    assert "has been used" in again.text


def test_anothers_answer_cannot_be_slipped_in(browser: Browser) -> None:
    """Login CSRF: the attacker's code and state, in the victim's browser."""
    attacker = Browser(browser.client)
    theirs = attacker.sent_back()
    assert browser.get(theirs).status_code == 401  # a browser that began nothing
    mine = browser.sent_back()
    assert browser.get(theirs).status_code == 401
    code = parse_qs(urlsplit(theirs).query)["code"][0]
    assert browser.get(_altered(mine, code=code)).status_code == 401  # PKCE: another's verifier
    assert not browser.is_in


def test_a_changed_handshake_is_none(browser: Browser) -> None:
    back = browser.sent_back("/library")
    good = browser.cookies[HANDSHAKE]
    body = base64.urlsafe_b64decode(good + "==")
    forged = body[:32] + body[32:].replace(b"/library", b"/evil!!!")
    for each in (
        base64.urlsafe_b64encode(forged).decode().rstrip("="),
        base64.urlsafe_b64encode(body[32:]).decode(), good[:-4], "", "%%%", "A" * 9_000,
    ):  # fmt: skip
        browser.cookies[HANDSHAKE] = each
        assert browser.get(back).status_code == 401
    assert not browser.is_in


def test_a_session_that_was_planted_is_not_the_one_that_is_opened(
    browser: Browser, provider: Provider
) -> None:
    victim, attacker = browser, Browser(browser.client)
    attacker.sign_in()
    planted = attacker.cookies[COOKIE]
    victim.cookies[COOKIE] = planted
    provider.person = {"sub": "victor", "name": "Victor", "groups": ["ops"]}
    victim.sign_in()
    assert victim.cookies[COOKIE] != planted
    assert ">Victor</small>" in victim.get("/").text
    assert not attacker.is_in  # the planted one has ended


@pytest.mark.parametrize(
    "next_path",
    ["//evil.example", "https://evil.example/", "/\\evil.example", "evil", "/\t/evil.example"],
)
def test_signing_in_leads_nowhere_else(browser: Browser, next_path: str) -> None:
    assert browser.sign_in(next_path).headers["location"] == "/"


def test_a_long_or_foreign_path_is_led_to_safely(browser: Browser) -> None:
    assert browser.sign_in("/?q=" + "x" * 3_000).headers["location"] == "/"
    assert browser.sign_in("/?q=süß 中").headers["location"] == "/?q=s%C3%BC%C3%9F%20%E4%B8%AD"


@pytest.mark.parametrize(
    "wrongs",
    [
        Wrongs(claims={"nonce": "another"}),
        Wrongs(claims={"aud": "another"}),
        Wrongs(claims={"exp": 1}),
        Wrongs(claims={"sub": "new\nline"}),
        Wrongs(token=unsigned("none")),
        Wrongs(token=by_hmac),
        Wrongs(token=signed_with(OTHER_RSA)),
        Wrongs(token=lambda _: "e30." * 30_000),
        Wrongs(issuer="https://evil.example"),
        Wrongs(issuer=""),
        Wrongs(answers={"/token": lambda: JSONResponse({"id_token": 7})}),
        Wrongs(answers={"/token": lambda: JSONResponse([])}),
        Wrongs(answers={"/token": lambda: JSONResponse({"error": "invalid_client"}, 401)}),
    ],
)
def test_a_token_that_is_not_good_opens_nothing(
    browser: Browser, provider: Provider, wrongs: Wrongs, logged: list[Any]
) -> None:
    provider.wrongs = wrongs
    answer = browser.sign_in()
    assert answer.status_code == 401
    assert "Sign in with Example Works" in answer.text
    assert COOKIE not in browser.cookies
    assert not browser.is_in
    assert "oidc.not_signed_in" in [each["event"] for each in logged]


@pytest.mark.parametrize("algorithms", [["ES256"], ["HS256", "none"]])
def test_an_algorithm_that_the_provider_does_not_name_opens_nothing(
    fresh: Browser, provider: Provider, algorithms: list[str]
) -> None:
    provider.wrongs = Wrongs(described={"id_token_signing_alg_values_supported": algorithms})
    assert fresh.sign_in().status_code == 401


@pytest.mark.parametrize("key", [RSA, EC])
def test_keys_of_both_kinds_are_believed(fresh: Browser, provider: Provider, key: Any) -> None:
    provider.keys = [OTHER_RSA, EC, RSA]
    provider.wrongs = Wrongs(token=lambda claims: provider.signed(claims, key))
    assert fresh.sign_in().status_code == 303


def test_keys_are_looked_for_anew_once_and_then_not_for_a_minute(
    fresh: Browser, provider: Provider
) -> None:
    assert fresh.sign_in().status_code == 303
    provider.keys = [OTHER_RSA]  # rotated
    assert fresh.sign_in().status_code == 303
    assert provider.asked.count("/jwks") == 2
    flood = Wrongs(token=signed_with(RSA, kid="made-up"))
    provider.wrongs = flood
    for number in range(5):
        flood.token = signed_with(RSA, kid=f"made-up-{number}")
        assert fresh.sign_in().status_code == 401
    assert provider.asked.count("/jwks") == 2


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        (path, answer)
        for path in ("/.well-known/openid-configuration", "/jwks", "/token")
        for answer in (
            lambda: JSONResponse({"error": "SECRET WORDS"}, 500),
            lambda: PlainTextResponse("<html>SECRET WORDS"),
            lambda: PlainTextResponse(b"1" * 600_000),
            lambda: Response(status_code=302, headers={"location": "http://127.0.0.1:1/"}),
        )
    ],
)
def test_a_provider_that_answers_nonsense_lets_nobody_in(
    fresh: Browser, provider: Provider, path: str, answer: Any, logged: list[Any]
) -> None:
    back = fresh.sent_back() if path != "/.well-known/openid-configuration" else ""
    provider.wrongs = Wrongs(answers={path: answer})
    failed = fresh.get(back or "/login/oidc")
    assert failed.status_code == 503
    assert "does not answer as it should" in failed.text
    assert "SECRET WORDS" not in failed.text
    assert COOKIE not in fresh.cookies


@pytest.mark.parametrize(
    "described",
    [
        {"issuer": "https://evil.example"},
        {"issuer": None},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"authorization_endpoint": "http://evil.example/authorize"},
        {"token_endpoint": "http://192.0.2.1/token"},
        {"token_endpoint": "https://user:word@evil.example/token"},
        {"token_endpoint": None},
        {"jwks_uri": ["x"]},
        {"jwks_uri": "file:///etc/passwd"},
        {"token_endpoint_auth_methods_supported": ["private_key_jwt"]},
    ],
)
def test_a_description_that_lies_is_not_used(
    fresh: Browser, provider: Provider, described: dict[str, Any]
) -> None:
    provider.wrongs = Wrongs(described=described)
    assert fresh.get("/login/oidc").status_code == 503
    assert provider.asked == ["/.well-known/openid-configuration"]


@pytest.mark.parametrize(
    "keys",
    [
        [],
        [{"kty": "oct", "kid": "rsa-1", "k": "c2VjcmV0"}],
        [RSA.as_dict(private=False) | {"use": "enc"}],
        [RSAKey.generate_key(2048).as_dict(private=False) | {"n": "AQAB", "kid": "rsa-1"}],
        ["x", {"kty": "RSA"}, {"kty": "EC", "crv": "P-999", "x": "A", "y": "A"}],
        {"kty": "RSA"},
    ],
)
def test_keys_that_are_none_let_nobody_in(fresh: Browser, provider: Provider, keys: Any) -> None:
    provider.wrongs = Wrongs(answers={"/jwks": lambda: JSONResponse({"keys": keys})})
    assert fresh.sign_in().status_code == 503


def test_a_provider_that_stalls_holds_nobody_else(runtime: Runtime, provider: Provider) -> None:
    """Searches, keys and the door beside it go on while sign-ins wait."""
    browser = browser_of(runtime, timeout_seconds=0.5)
    _, key = runtime.catalog.keys.create(KeyWrite("meanwhile", Role.READ))
    stall = provider.wrongs.stall = threading.Event()
    try:
        with (
            served_app(browser.client.app) as url,
            ThreadPoolExecutor(6) as pool,
            httpx.Client(base_url=url, trust_env=False, verify=False) as client,
        ):
            waiting = [pool.submit(client.get, "/login/oidc") for _ in range(6)]
            inside = client.get("/v1/collections", headers={"X-API-Key": key})
            assert inside.status_code == 200
            assert client.get("/login").status_code == 200
            assert {each.result().status_code for each in waiting} == {503}
    finally:
        stall.set()


def test_a_provider_that_is_not_there_leaves_the_key_form(runtime: Runtime) -> None:
    browser = browser_of(runtime, issuer="http://127.0.0.1:1")
    failed = browser.get("/login/oidc?next=/library")
    assert failed.status_code == 503
    assert 'name="key"' in failed.text
    assert 'value="/library"' in failed.text


def test_an_error_of_the_provider_is_told_without_its_words(
    browser: Browser, logged: list[Any]
) -> None:
    back = browser.sent_back()
    said = {"code": "", "error": "access_denied", "error_description": "<b>SECRET WORDS</b>"}
    answer = browser.get(_altered(back, **said))
    assert answer.status_code == 401
    assert "SECRET WORDS" not in answer.text
    (refused,) = [each for each in logged if each["event"] == "oidc.not_signed_in"]
    assert refused["why"] == "the provider says access_denied"
    answer = browser.get(_altered(browser.sent_back(), error="<script>", code=""))
    assert "&lt;script" not in answer.text and "<script>" not in str(logged)


def test_parts_that_come_twice_are_refused(browser: Browser) -> None:
    assert browser.get(browser.sent_back() + "&code=another").status_code == 401


def test_without_a_provider_there_is_no_such_door(tmp_path: Path) -> None:
    runtime = open_runtime(load_settings({"home": tmp_path}, {}).settings, follow=False)
    try:
        client = Client(create_app(runtime))
        for path in ("/login/oidc", "/login/oidc/callback?code=x&state=y"):
            assert client.get(path, follow_redirects=False).status_code == 404
        assert client.get("/v1/collections").status_code == 200
    finally:
        runtime.close()


def test_with_a_provider_everybody_must_show_who_they_are(browser: Browser) -> None:
    assert browser.client.get("/v1/collections").status_code == 401
