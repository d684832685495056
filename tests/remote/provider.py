"""A small OpenID Connect provider on loopback that checks what a client sends, and lies when told.

Authorization code flow with PKCE, client_secret_basic, discovery, JWKS, RP-initiated logout. Its
keys are made by joserfc. What a test wants wrong it says in `Wrongs`; everything else is as the
standard has it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlencode

from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from joserfc.jws import JWSRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from tests.remote.longleaf import served_app

CLIENT, SECRET = "longleaf", "s3cret/with~odd+characters"
RSA = RSAKey.generate_key(2048, {"kid": "rsa-1", "use": "sig"})
OTHER_RSA = RSAKey.generate_key(2048, {"kid": "rsa-2", "use": "sig"})
EC = ECKey.generate_key("P-256", {"kid": "ec-1", "use": "sig", "alg": "ES256"})
API = "longleaf-api"


@dataclass(slots=True)
class Wrongs:
    """`claims` change an ID token's; `token` signs them otherwise; `answers`: what a path answers
    instead; `described` changes the description; `names_itself`: see RFC 9207; `issuer` is sent
    with the code."""

    claims: Mapping[str, Any] = field(default_factory=dict)
    token: Callable[[dict[str, Any]], str] | None = None
    answers: Mapping[str, Callable[[], Response]] = field(default_factory=dict)
    described: Mapping[str, Any] = field(default_factory=dict)
    issuer: str | None = None
    stall: threading.Event | None = None


def signed_with(key: RSAKey | ECKey, **header: Any) -> Callable[[Mapping[str, Any]], str]:
    """Signs with any key, in the name of the provider's first."""

    def sign(claims: Mapping[str, Any]) -> str:
        alg = "ES256" if isinstance(key, ECKey) else "RS256"
        registry = JWSRegistry(algorithms=[alg], strict_check_header=False)
        return jwt.encode(
            {"alg": alg, "kid": RSA.kid, **header}, dict(claims), key, registry=registry
        )

    return sign


def unsigned(alg: str) -> Callable[[Mapping[str, Any]], str]:
    """A token with the name of an algorithm and no signature."""
    return lambda claims: f"{_packed({'alg': alg, 'kid': RSA.kid})}.{_packed(claims)}."


def by_hmac(claims: Mapping[str, Any]) -> str:
    """Signed with what everybody may read: the public key as the secret of HS256."""
    text = f"{_packed({'alg': 'HS256', 'kid': RSA.kid})}.{_packed(claims)}"
    signature = hmac.digest(RSA.as_pem(private=False), text.encode(), "sha256")
    return f"{text}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def _packed(part: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


@dataclass(slots=True)
class _Code:
    challenge: str
    redirect_uri: str
    nonce: str
    claims: Mapping[str, Any]


class Provider:
    """`person`: claims of whoever signs in next. `asked`: the paths in their order. `refused`: why
    it refused what, for tests that expect nothing refused."""

    def __init__(self, redirect_uri: str, back: str) -> None:
        self.url = ""
        self.person: Mapping[str, Any] = {"sub": "anne-1", "name": "Anne", "groups": ["clerks"]}
        self.keys: list[RSAKey | ECKey] = [RSA]
        self.wrongs = Wrongs()
        self.asked: list[str] = []
        self.refused: list[str] = []
        self.lasts_seconds = 300
        self.asks_first = False
        self._redirect_uri, self._back = redirect_uri, back
        self._codes: dict[str, _Code] = {}
        self.app = Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._describe),
                Route("/jwks", self._jwks),
                Route("/authorize", self._authorize),
                Route("/token", self._token, methods=["POST"]),
                Route("/logout", self._logout),
            ]
        )

    def signed(self, claims: Mapping[str, Any], key: RSAKey | ECKey | None = None) -> str:
        """A JWT with these claims."""
        key = key or self.keys[0]
        alg = "ES256" if isinstance(key, ECKey) else "RS256"
        return jwt.encode({"alg": alg, "kid": key.kid}, dict(claims), key)

    def claims(self, audience: str = CLIENT, **more: Any) -> dict[str, Any]:
        """What a token says of `person`."""
        now = int(time.time())
        return {
            "iss": self.url, "aud": audience, "iat": now, "exp": now + self.lasts_seconds,
            **self.person, **more,
        }  # fmt: skip

    def _answer(self, request: Request) -> Response | None:
        path = request.url.path
        self.asked.append(path)
        if self.wrongs.stall is not None:
            self.wrongs.stall.wait(30)
        other = self.wrongs.answers.get(path)
        return other() if other else None

    def _describe(self, request: Request) -> Response:
        return self._answer(request) or JSONResponse(
            {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "jwks_uri": f"{self.url}/jwks",
                "end_session_endpoint": f"{self.url}/logout",
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256", "ES256", "HS256", "none"],
                "token_endpoint_auth_methods_supported": ["client_secret_basic"],
                "code_challenge_methods_supported": ["S256"],
                "authorization_response_iss_parameter_supported": True,
                **self.wrongs.described,
            }
        )

    def _jwks(self, request: Request) -> Response:
        keys = [each.as_dict(private=False) for each in self.keys]
        return self._answer(request) or JSONResponse({"keys": keys})

    def _authorize(self, request: Request) -> Response:
        other = self._answer(request)
        if other is not None:
            return other
        given = request.query_params
        wanted = {
            "client_id": CLIENT, "redirect_uri": self._redirect_uri, "response_type": "code",
            "code_challenge_method": "S256",
        }  # fmt: skip
        wrong = [name for name, value in wanted.items() if given.get(name) != value]
        if wrong or "openid" not in given.get("scope", "").split() or not given.get("state"):
            return self._refuse(f"authorize: {wrong}")
        if self.asks_first and "yes" not in given:
            url = f"/authorize?{given}&yes=1"
            return HTMLResponse(f'<a href="{url.replace("&", "&amp;")}">I am Anne</a>')
        code = secrets.token_urlsafe(16)
        self._codes[code] = _Code(
            given["code_challenge"], given["redirect_uri"], given.get("nonce", ""), self.person
        )
        issuer = self.url if self.wrongs.issuer is None else self.wrongs.issuer
        answer = {"code": code, "state": given["state"], "iss": issuer}
        return RedirectResponse(f"{self._redirect_uri}?{urlencode(answer)}", 303)

    async def _token(self, request: Request) -> Response:
        other = self._answer(request)
        if other is not None:
            return other
        scheme, _, basic = request.headers.get("authorization", "").partition(" ")
        named = base64.b64decode(basic).decode() if scheme == "Basic" else ":"
        if list(map(unquote, named.split(":"))) != [CLIENT, SECRET]:
            return self._refuse("token: the client", "invalid_client", 401)
        given = await request.form()
        code = self._codes.pop(str(given.get("code")), None)
        verifier = str(given.get("code_verifier", ""))
        digest = hashlib.sha256(verifier.encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        if (
            code is None
            or given.get("grant_type") != "authorization_code"
            or given.get("redirect_uri") != code.redirect_uri
            or code.challenge != challenge
        ):
            return self._refuse("token: the code", "invalid_grant")
        claims = self.claims() | {"nonce": code.nonce, **code.claims, **self.wrongs.claims}
        claims = {name: value for name, value in claims.items() if value is not None}
        sign = self.wrongs.token or self.signed
        return JSONResponse(
            {"access_token": "opaque", "token_type": "Bearer", "id_token": sign(claims)}
        )

    def _logout(self, request: Request) -> Response:
        self._answer(request)
        given = request.query_params
        if given.get("client_id") != CLIENT or given.get("post_logout_redirect_uri") != self._back:
            return self._refuse("logout")
        return RedirectResponse(self._back, 303)

    def _refuse(self, why: str, code: str = "invalid_request", status: int = 400) -> Response:
        self.refused.append(why)
        return JSONResponse({"error": code, "error_description": "SECRET WORDS"}, status)


def _closing(app: ASGIApp) -> ASGIApp:
    """The app with one answer to a connection, so that a browser keeps none open at the end."""

    async def closing(scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        await app(scope, receive, sent)

    return closing


@contextmanager
def providing(public_url: str) -> Iterator[Provider]:
    """A provider that knows the Longleaf at `public_url`."""
    provider = Provider(f"{public_url}/login/oidc/callback", f"{public_url}/login")
    with served_app(_closing(provider.app)) as url:
        provider.url = url
        yield provider


def settings_for(provider: Provider, public_url: str, **more: Any) -> dict[str, Any]:
    """Flags of a Longleaf whose people are the provider's; a flag's "__" is a dot."""
    named = {f"oidc.{name}": value for name, value in more.items()}
    return {
        "oidc.issuer": provider.url,
        "oidc.client_id": CLIENT,
        "oidc.client_secret": SECRET,
        "oidc.public_url": public_url,
        "oidc.name": "Example Works",
        **named,
    }
