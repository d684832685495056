"""Which tokens are believed, and what is kept of a provider: without a server."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.remote.provider import EC, OTHER_RSA, RSA, by_hmac, signed_with, unsigned

from longleaf.api.oidc.kept import Kept
from longleaf.api.oidc.tokens import ALGORITHMS, PublicKey, Refused, public_keys, verified
from longleaf.core.errors import ConfigError, RemoteUnavailable
from longleaf.core.oidc_settings import OidcSettings, check_oidc, is_web_address

ISSUER, CLIENT, NONCE = "https://id.example", "longleaf", "n1"
KEYS = public_keys({"keys": [RSA.as_dict(private=False), EC.as_dict(private=False)]})
NOW = time.time()
GOOD: Mapping[str, Any] = {
    "iss": ISSUER, "aud": CLIENT, "sub": "anne", "nonce": NONCE, "iat": NOW - 1, "exp": NOW + 300,
}  # fmt: skip


def key_of(kid: str | None, alg: str) -> PublicKey:
    for each in KEYS:
        if each.fits(kid, alg):
            return each
    raise Refused("no such key")


def read(token: str, **options: Any) -> Mapping[str, Any]:
    defaults = {"issuer": ISSUER, "audience": CLIENT, "algorithms": ALGORITHMS, "nonce": NONCE}
    return verified(token, key_of, now=NOW, **(defaults | options))


def refused(token: str, **options: Any) -> str:
    with pytest.raises(Refused) as raised:
        read(token, **options)
    return raised.value.why


def test_a_good_token_is_believed() -> None:
    for key, header in ((RSA, {}), (EC, {"kid": EC.kid}), (RSA, {"x5t": "abc", "odd": 1})):
        assert read(signed_with(key, **header)(GOOD)) == GOOD
    several = {**GOOD, "aud": [CLIENT, "another"], "azp": CLIENT}
    assert read(signed_with(RSA)(several)) == several
    assert read(signed_with(RSA)({**GOOD, "nbf": NOW + 50, "iat": NOW + 50}))  # its clock is fast


@pytest.mark.parametrize(
    ("changes", "claim"),
    [
        ({"nonce": "another"}, "nonce"),
        ({"nonce": None}, "nonce"),
        ({"nonce": ["n1"]}, "nonce"),
        ({"aud": "another"}, "aud"),
        ({"aud": None}, "aud"),
        ({"aud": []}, "aud"),
        ({"aud": {"longleaf": 1}}, "aud"),
        ({"aud": [CLIENT, "another"]}, "azp"),
        ({"aud": [CLIENT, "another"], "azp": "another"}, "azp"),
        ({"azp": "another"}, "azp"),
        ({"iss": "https://evil.example"}, "iss"),
        ({"iss": ISSUER + "/"}, "iss"),
        ({"iss": None}, "iss"),
        ({"sub": None}, "sub"),
        ({"sub": 7}, "sub"),
        ({"exp": NOW - 61}, "exp"),
        ({"exp": None}, "exp"),
        ({"exp": True}, "exp"),
        ({"exp": float("nan")}, "exp"),
        ({"exp": "tomorrow"}, "exp"),
        ({"iat": NOW + 100}, "iat"),
        ({"iat": None}, "iat"),
        ({"nbf": NOW + 100}, "nbf"),
        ({"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}, "at_hash"),
    ],
)
def test_a_claim_that_is_wrong_is_named(changes: dict[str, Any], claim: str) -> None:
    claims = {name: value for name, value in {**GOOD, **changes}.items() if value is not None}
    why = refused(signed_with(RSA)(claims), access_token="opaque")
    assert claim in why
    assert "evil" not in why and "another" not in why


@pytest.mark.parametrize(
    "token",
    [
        unsigned("none"),
        unsigned("NONE"),
        unsigned("RS256"),
        unsigned("HS256"),
        by_hmac,
        signed_with(OTHER_RSA),
        signed_with(OTHER_RSA, kid="made-up"),
        signed_with(OTHER_RSA, jwk=OTHER_RSA.as_dict(private=False)),
        signed_with(OTHER_RSA, jku="https://evil.example/jwks"),
        signed_with(EC),
        signed_with(RSA, kid=EC.kid),
        signed_with(RSA, crit=["b64"], b64=True),
        lambda claims: signed_with(RSA)(claims)[:-8] + "AAAAAAAA",
        lambda claims: signed_with(RSA)(claims) + "x",
        lambda claims: signed_with(RSA)(claims).rpartition(".")[0],
        lambda claims: signed_with(RSA)(claims) * 200,
        lambda claims: "é" + signed_with(RSA)(claims),
        lambda _: "",
    ],
)
def test_what_the_provider_did_not_sign_is_not_read(
    token: Callable[[Mapping[str, Any]], str],
) -> None:
    refused(token(GOOD))


@given(st.text(max_size=60) | st.from_regex(r"[\w-]{0,40}\.[\w-]{0,40}\.[\w-]{0,40}"))
def test_no_text_is_a_token(text: str) -> None:
    refused(text)


def test_an_algorithm_that_the_provider_does_not_name_is_not_taken() -> None:
    assert "unsupported_algorithm" in refused(signed_with(RSA)(GOOD), algorithms={"ES256"})
    assert "no algorithm" in refused(signed_with(RSA)(GOOD), algorithms={"HS256", "none"})


def test_access_tokens_and_id_tokens_are_told_apart() -> None:
    access = {**GOOD, "aud": "api"}
    assert read(signed_with(RSA, typ="at+jwt")(access), audience="api", nonce="")
    refused(signed_with(RSA, typ="logout+jwt")(access), audience="api", nonce="")
    refused(signed_with(RSA)(GOOD), audience="api", nonce="")
    refused(signed_with(RSA)(access))


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {"keys": {}},
        {"keys": []},
        {"keys": [{"kty": "oct", "kid": "rsa-1", "k": "c2VjcmV0"}]},
        {"keys": [RSA.as_dict(private=False) | {"use": "enc"}]},
        {"keys": [RSA.as_dict(private=False) | {"n": "AQAB"}]},
        {"keys": [RSA.as_dict(private=False) | {"kid": 7}]},
        {"keys": ["x", {"kty": "RSA"}, {"kty": "EC", "crv": "P-999", "x": "A", "y": "A"}]},
    ],
)
def test_what_is_no_key_is_left_out(document: Any) -> None:
    with pytest.raises(Refused, match="no key"):
        public_keys(document)


def test_a_private_key_is_never_kept() -> None:
    [key] = public_keys({"keys": [RSA.as_dict(private=True)]})
    assert not key.key.is_private


# --- kept ---------------------------------------------------------------------------------------


class Source:
    """Gives numbers, or fails; a clock beside it."""

    def __init__(self) -> None:
        self.now, self.asked, self.is_away = 1_000.0, 0, False
        self.kept = Kept(self.fetch, clock=lambda: self.now)

    def fetch(self) -> int:
        self.asked += 1
        if self.is_away:
            raise RemoteUnavailable("away")
        return self.asked


def test_what_is_kept_is_fetched_when_it_is_old_or_lacks_something() -> None:
    source = Source()
    assert [source.kept.get() for _ in range(3)] == [1, 1, 1]
    assert source.kept.get(lambda value: value > 1) == 2  # at once
    assert [source.kept.get(lambda value: value > 9) for _ in range(5)] == [2] * 5
    source.now += 61
    assert [source.kept.get(lambda value: value > 9) for _ in range(5)] == [3] * 5
    source.now += 3_600
    assert source.kept.get() == 4
    source.is_away = True
    source.now += 3_600
    assert [source.kept.get() for _ in range(5)] == [4] * 5
    assert source.asked == 5
    source.now += 86_400
    with pytest.raises(RemoteUnavailable, match="away"):
        source.kept.get()


def test_who_does_not_wait_asks_once_a_minute() -> None:
    source = Source()
    source.is_away = True
    for _ in range(3):
        with pytest.raises(RemoteUnavailable):
            source.kept.get(patient=False)
    assert source.asked == 1
    source.is_away = False
    assert source.kept.get() == 2  # somebody who signs in is not held up by them


# --- settings -----------------------------------------------------------------------------------

SET = {
    "issuer": ISSUER, "client_id": CLIENT, "public_url": "https://search.example",
    "rules": '[{"group": "*"}]',
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"issuer": ""}, "oidc.issuer is not"),
        ({"issuer": "http://id.example"}, "oidc.issuer ="),
        ({"issuer": "https://user:word@id.example"}, "oidc.issuer ="),
        ({"issuer": "https://id.example/?a=b"}, "oidc.issuer ="),
        ({"public_url": ""}, "oidc.public_url ="),
        ({"public_url": "http://search.example"}, "oidc.public_url ="),
        ({"public_url": "https://search.example/path"}, "oidc.public_url ="),
        ({"client_id": " "}, "client_id"),
        ({"client_secret": "new\nline"}, "client_secret"),
        ({"scopes": "profile"}, "openid"),
        ({"rules": ""}, "nobody could come in"),
        ({"api_audience": CLIENT}, "ID tokens"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes: Any, named: str) -> None:
    assert check_oidc(OidcSettings(**SET))
    with pytest.raises(ConfigError, match=named):
        check_oidc(OidcSettings(**(SET | changes)))


def test_without_settings_nobody_signs_in_that_way() -> None:
    assert not check_oidc(OidcSettings())


@pytest.mark.parametrize(
    "rules",
    [
        "x", "{}", '["a"]', '[{"role": "read"}]', '[{"group": ""}]', '[{"group": "a", "rank": 1}]',
        '[{"group": "a", "role": "owner"}]', '[{"group": "a", "role": "write", "groups": ["b"]}]',
        '[{"group": "a", "role": "admin", "own_groups": true}]',
        '[{"group": "a", "groups": ["b"], "own_groups": true}]',
        '[{"group": "a", "collections": [" "]}]', '[{"group": "a", "requests_per_minute": 0}]',
    ],
)  # fmt: skip
def test_a_rule_that_makes_no_sense_is_refused(rules: str) -> None:
    with pytest.raises(ValueError, match=r"rule|JSON|valid|name"):
        OidcSettings(rules=rules)


def test_rules_may_stand_in_the_file_as_tables() -> None:
    listed: Any = [{"group": "a", "role": "write", "collections": ["law"]}]
    [rule] = OidcSettings(rules=listed).access_rules()
    assert (rule.group, str(rule.role), rule.collections, rule.groups) == (
        "a", "write", ("law",), None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("url", "is_good"),
    [
        ("https://a.example", True), ("https://a.example:8443/realms/x", True),
        ("http://127.0.0.1:80", True), ("http://[::1]:80", True), ("http://localhost", True),
        ("http://a.example", False), ("http://127.0.0.1.evil.example", False), ("ftp://a", False),
        ("https://", False), ("https://a.example:x", False), ("https://a b", False),
        ("https://a.example\\@evil.example", False), ("https://a.example#x", False), ("", False),
        ("https://ä.example", False), ("javascript:alert(1)", False), ("https://a:0", False),
    ],
)  # fmt: skip
def test_secrets_go_only_where_they_are_safe(url: str, is_good: bool) -> None:
    assert is_web_address(url) is is_good
