"""Signing in, from the first step to who somebody is: joins provider, handshake, tokens, people."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from longleaf.api.oidc import handshake, people
from longleaf.api.oidc.handshake import Handshake
from longleaf.api.oidc.provider import Provider, known_code
from longleaf.api.oidc.tokens import ALGORITHMS, PublicKey, Refused, verified
from longleaf.core.access import Caller, Person
from longleaf.core.catalog import Catalog
from longleaf.core.errors import ConfigError
from longleaf.core.oidc_settings import OidcSettings, check_oidc

INSTALL = 'pip install "longleaf[oidc]"'
_MAX_CODE_CHARS = 8_000


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Somebody who has signed in, and for how many seconds that holds."""

    caller: Caller
    seconds: float


class OpenId:
    """Thread-safe; most methods may wait for the provider. `signing_key`: the catalog's."""

    def __init__(
        self,
        settings: OidcSettings,
        signing_key: Callable[[], bytes],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.provider = Provider(settings)
        self._rules = settings.access_rules()
        self._signing_key = signing_key
        self._clock = clock

    def begin(self, next_path: str) -> tuple[str, str]:
        """Where the browser goes, and the cookie that it keeps meanwhile."""
        begun = Handshake.begin(next_path, self._clock())
        url = self.provider.authorization_url(
            state=begun.state, nonce=begun.nonce, verifier=begun.verifier
        )
        return url, begun.sealed(self._signing_key())

    def recognise(self, answer: Mapping[str, str], cookie: str) -> Handshake:
        """The handshake that the provider's answer belongs to. Raises Refused for an answer to a
        question of another browser."""
        return handshake.opened(
            cookie, self._signing_key(), state=answer.get("state", ""), now=self._clock()
        )

    def finish(self, answer: Mapping[str, str], begun: Handshake) -> SignedIn:
        """Who has signed in. Raises Refused, and what `Provider` raises."""
        described = self.provider.described()
        issuer = answer.get("iss")
        if issuer != self.settings.issuer and (issuer is not None or described.names_itself):
            raise Refused("the answer is another provider's (iss)")
        if "error" in answer:
            code = known_code(answer["error"]) or "an error that the standard does not have"
            raise Refused(f"the provider says {code}", "The identity provider did not sign you in.")
        code = answer.get("code", "")
        if not 1 <= len(code) <= _MAX_CODE_CHARS:
            raise Refused("the answer has no code")
        tokens = self.provider.exchange(code, begun.verifier)
        id_token, access_token = tokens.get("id_token"), tokens.get("access_token")
        if not isinstance(id_token, str):
            raise Refused("the provider gave no ID token")
        now = self._clock()
        claims = verified(
            id_token,
            self.provider.key_of,
            issuer=self.settings.issuer,
            audience=self.settings.client_id,
            algorithms=described.algorithms,
            now=now,
            nonce=begun.nonce,
            access_token=access_token if isinstance(access_token, str) else "",
        )
        person = people.person_of(claims, self.settings)
        caller = self.caller(person)
        if caller is None:
            raise NotLetIn(person)
        seconds = self.settings.session_minutes * 60.0
        if not self.settings.outlive_token:
            seconds = min(seconds, float(claims["exp"]) - now)
        if seconds < 1:
            raise Refused("the token is not good: expired_token (exp)")
        return SignedIn(caller, seconds)

    def caller(self, person: Person) -> Caller | None:
        """What somebody may do by today's rules; None for whom they do not let in."""
        return people.caller_of(person, self.settings, self._rules)

    def bearer(self, token: str) -> Caller | None:
        """Who comes with an access token of the provider's, where those are taken. It waits for
        nobody: strangers bring what they like. Raises RemoteUnavailable while there are no keys to
        check it with."""
        if not self.settings.api_audience or token.count(".") != 2:
            return None

        def key_of(kid: str | None, alg: str) -> PublicKey:
            return self.provider.key_of(kid, alg, patient=False)

        try:
            claims = verified(
                token,
                key_of,
                issuer=self.settings.issuer,
                audience=self.settings.api_audience,
                algorithms=ALGORITHMS,
                now=self._clock(),
            )
            return self.caller(people.person_of(claims, self.settings))
        except Refused:
            return None

    def close(self) -> None:
        """Let go of the provider's connections."""
        self.provider.close()


class NotLetIn(Refused):
    """Somebody whom the provider knows and no rule lets in."""

    def __init__(self, person: Person) -> None:
        super().__init__("no rule lets this person in", people.OUTSIDE, 403)
        self.person = person


def open_openid(settings: OidcSettings, catalog: Catalog) -> OpenId | None:
    """Signing in as it is set, None where it is not. Raises ConfigError for settings that do not
    go together, and where the package is missing."""
    if not check_oidc(settings):
        return None
    if find_spec("authlib") is None or find_spec("joserfc") is None:
        raise ConfigError("oidc.issuer is set, and its package is not installed.", f"{INSTALL}.")
    return OpenId(settings, catalog.signing_key)
