"""The provider as it is asked: its description, its keys, and a code exchanged for tokens.

All goes through `core/distant.py`: with a time-out, a limit on what is read, no redirections, and
no words of the provider's in an error. What it says of itself is looked at before it is used: the
issuer must be the one that was set, and every address https (http for a provider on this machine).
Trade-off: the client's secret goes to whatever token endpoint the issuer's description names, as
OpenID Connect Discovery 1.0 has it.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from longleaf.api.oidc.kept import Kept
from longleaf.api.oidc.tokens import ALGORITHMS, PublicKey, Refused, public_keys
from longleaf.core.distant import Distant
from longleaf.core.errors import RemoteRefused, RemoteUnavailable
from longleaf.core.oidc_settings import OidcSettings, is_web_address

CALLBACK = "/login/oidc/callback"
_MOST_REPLY_BYTES = 512 * 1024
_KEYS_AGAIN_SECONDS = 60.0
_FORM = "application/x-www-form-urlencoded"
_OAUTH_CODES = frozenset(
    {"invalid_request", "invalid_client", "invalid_grant", "unauthorized_client",
     "unsupported_grant_type", "invalid_scope", "access_denied", "server_error",
     "temporarily_unavailable", "login_required", "consent_required", "interaction_required"}
)  # fmt: skip
"""RFC 6749, sections 4.1.2.1 and 5.2, and OpenID Connect Core 1.0, section 3.1.2.6."""


@dataclass(frozen=True, slots=True)
class Described:
    """What is used of a provider's description; `end_session_endpoint` is "" for none."""

    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    end_session_endpoint: str
    names_itself: bool
    """It sends its issuer with each answer (RFC 9207)."""
    auth_method: str
    algorithms: frozenset[str]


class Provider:
    """One provider. Thread-safe; every method may ask it, and raises RemoteUnavailable or
    RemoteRefused where it cannot be asked, Refused for an answer that makes no sense."""

    def __init__(
        self, settings: OidcSettings, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._services: dict[str, Distant] = {}
        self._described = Kept(self._describe, clock=clock)
        self._keys = Kept(self._fetch_keys, again_seconds=_KEYS_AGAIN_SECONDS, clock=clock)

    def described(self, *, patient: bool = True) -> Described:
        """Its description, an hour old at most while it answers."""
        return self._described.get(patient=patient)

    def key_of(self, kid: str | None, alg: str, *, patient: bool = True) -> PublicKey:
        """The key that a token with this header is signed with; a key that nobody has seen is
        looked for once a minute at most. Raises Refused where the provider has none such."""
        if alg not in ALGORITHMS:
            raise Refused("the token's algorithm is not taken")
        known = self._keys.get(
            lambda keys: any(each.fits(kid, alg) for each in keys), patient=patient
        )
        found = [each for each in known if each.fits(kid, alg)]
        if not found or (kid is None and len(found) > 1):
            raise Refused("the token is signed with a key that the provider does not have")
        return found[0]

    def authorization_url(self, *, state: str, nonce: str, verifier: str) -> str:
        """Where a browser is sent to sign in (with PKCE, RFC 7636)."""
        from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
        from authlib.oauth2.rfc7636 import create_s256_code_challenge

        settings = self._settings
        return str(
            prepare_grant_uri(
                self.described().authorization_endpoint,
                settings.client_id,
                "code",
                redirect_uri=self.redirect_uri,
                scope=settings.scopes,
                state=state,
                nonce=nonce,
                code_challenge=create_s256_code_challenge(verifier),
                code_challenge_method="S256",
            )
        )

    def exchange(self, code: str, verifier: str) -> Mapping[str, Any]:
        """The tokens that a code stands for. Asked once: a code is good for one time."""
        from authlib.oauth2.auth import ClientAuth
        from authlib.oauth2.rfc6749.parameters import prepare_token_request

        described, settings = self.described(), self._settings
        body = prepare_token_request(
            "authorization_code", redirect_uri=self.redirect_uri, code=code, code_verifier=verifier
        )
        names = (settings.client_id, settings.client_secret)
        if described.auth_method == "client_secret_basic":  # RFC 6749, section 2.3.1
            names = (quote(names[0], safe=""), quote(names[1], safe=""))
        url, headers, body = ClientAuth(*names, described.auth_method).prepare(
            "POST", described.token_endpoint, {"content-type": _FORM}, body
        )
        try:
            answer = self._ask("POST", url, body.encode(), headers=headers, tries=1)
        except RemoteRefused as refused:
            code_word = _code_word(refused.said)
            if refused.status not in (400, 401) or not code_word:
                raise
            why = f"the provider did not exchange the code ({code_word})"
            raise Refused(why, "The identity provider did not confirm this sign-in.") from None
        if not isinstance(answer, dict):
            raise Refused("the token endpoint answered no JSON object")
        return answer

    def end_session_url(self) -> str:
        """Where a browser is sent to log out there as well; "" where the provider has no such
        place (OpenID Connect RP-Initiated Logout 1.0)."""
        from authlib.common.urls import add_params_to_uri

        endpoint = self.described().end_session_endpoint
        if not endpoint:
            return ""
        back = f"{self._settings.public_url.rstrip('/')}/login"
        params = [("client_id", self._settings.client_id), ("post_logout_redirect_uri", back)]
        return str(add_params_to_uri(endpoint, params))

    @property
    def redirect_uri(self) -> str:
        """Where the provider sends a browser back to."""
        return self._settings.public_url.rstrip("/") + CALLBACK

    def close(self) -> None:
        """Let go of the connections."""
        with self._lock:
            services, self._services = self._services, {}
        for each in services.values():
            each.close()

    def _describe(self) -> Described:
        issuer = self._settings.issuer
        said = self._ask("GET", issuer.rstrip("/") + "/.well-known/openid-configuration")
        if not isinstance(said, dict):
            raise _odd("is no JSON object")
        if said.get("issuer") != issuer:
            raise _odd("names another issuer than oidc.issuer, to the last slash")
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            if not self._is_good(said.get(name)):
                raise _odd(f"has no {name} that can be used")
        end_session = said.get("end_session_endpoint")
        algorithms = said.get("id_token_signing_alg_values_supported")
        if not isinstance(algorithms, list):
            algorithms = ["RS256"]
        return Described(
            said["authorization_endpoint"],
            said["token_endpoint"],
            said["jwks_uri"],
            end_session if isinstance(end_session, str) and self._is_good(end_session) else "",
            said.get("authorization_response_iss_parameter_supported") is True,
            self._auth_method(said.get("token_endpoint_auth_methods_supported")),
            frozenset(each for each in algorithms if isinstance(each, str)) & ALGORITHMS,
        )

    def _auth_method(self, listed: Any) -> str:
        if not self._settings.client_secret:
            return "none"
        methods = listed if isinstance(listed, list) else ["client_secret_basic"]
        for each in ("client_secret_basic", "client_secret_post"):
            if each in methods:
                return each
        raise _odd("takes no client secret")

    def _is_good(self, url: Any) -> bool:
        if not isinstance(url, str):
            return False
        bare, _, query = url.partition("?")
        is_plain = query.isascii() and query.isprintable() and "#" not in query and " " not in query
        is_as_safe = url.startswith("https://") or self._settings.issuer.startswith("http://")
        return is_plain and is_as_safe and is_web_address(bare)

    def _fetch_keys(self) -> tuple[PublicKey, ...]:
        try:
            return public_keys(self._ask("GET", self.described().jwks_uri))
        except Refused as refused:
            raise _odd(f"leads to no keys: {refused.why}") from None

    def _ask(self, method: str, url: str, body: bytes | None = None, **options: Any) -> Any:
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        with self._lock:
            service = self._services.get(origin)
            if service is None:
                service = self._services[origin] = Distant(
                    origin,
                    "oidc",
                    timeout_seconds=self._settings.timeout_seconds,
                    most_reply_bytes=_MOST_REPLY_BYTES,
                )
        options = {"tries": 2, "within_seconds": self._settings.timeout_seconds} | options
        try:
            return service.ask(method, urlunsplit(("", "", *parts[2:])), body, **options)
        except RemoteUnavailable as error:
            hint = "Look whether the identity provider runs; oidc.issuer names it."
            raise RemoteUnavailable(error.message, hint) from error.__cause__
        except RemoteRefused as error:
            hint = "Look at oidc.issuer, oidc.client_id and LONGLEAF_OIDC__CLIENT_SECRET."
            raise RemoteRefused(error.message, hint, status=error.status, said=error.said) from None


def _odd(what: str) -> RemoteRefused:
    return RemoteRefused(
        f"The identity provider's description {what}.",
        "Look at oidc.issuer: it is what the provider's own description gives as its issuer.",
    )


def _code_word(said: str) -> str:
    """The error's code, where it is one that the standard has."""
    try:
        code = json.loads(said).get("error")
    except (ValueError, AttributeError):
        return ""
    return known_code(code)


def known_code(code: Any) -> str:
    """The code of an OAuth error if the standard has it, else ""."""
    return code if isinstance(code, str) and code in _OAUTH_CODES else ""
