"""Is this token the provider's, for us, and good at this moment? Pure but for the clock given.

Only signatures with a key pair are taken: `none`, and HMAC with what everybody may read of the
provider's keys, are no signature. Which algorithm is decided here and by the kind of key, never by
the token alone. joserfc checks signatures, authlib the claims of an ID token.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from joserfc.jwk import ECKey, RSAKey

ALGORITHMS = frozenset(
    f"{kind}{bits}" for kind in ("RS", "PS", "ES") for bits in ("256", "384", "512")
)
_KEY_TYPES = {"RS": "RSA", "PS": "RSA", "ES": "EC"}
_LEEWAY_SECONDS = 60
"""How far the provider's clock may be off."""
_MOST_KEYS = 100
_LEAST_MODULUS_CHARS = 342
"""Of 2,048 bits in base64url."""
MAX_TOKEN_CHARS = 64 * 1024


class Refused(Exception):
    """A sign-in that comes to nothing. `why` is for the log and holds no word of the provider's or
    the browser's; `said` is for whoever signs in; `status` is the HTTP status."""

    def __init__(self, why: str, said: str = "", status: int = 401) -> None:
        super().__init__(why)
        self.why = why
        self.said = said or "What came back cannot be trusted. The server's log says why."
        self.status = status


@dataclass(frozen=True, slots=True)
class PublicKey:
    """One of the provider's keys; `kid` and `alg` are None where it does not say."""

    kid: str | None
    alg: str | None
    key: RSAKey | ECKey

    def fits(self, kid: str | None, alg: str) -> bool:
        """Whether a token with this header may have been signed with it."""
        return (
            (kid is None or self.kid == kid)
            and self.alg in (None, alg)
            and _KEY_TYPES[alg[:2]] == self.key.key_type
        )


def public_keys(document: Any) -> tuple[PublicKey, ...]:
    """The keys of a JWK set (RFC 7517) that a token may be signed with; others are left out.
    Raises Refused where there is none."""
    from joserfc.errors import JoseError
    from joserfc.jwk import ECKey, RSAKey

    found = []
    listed = document.get("keys") if isinstance(document, dict) else None
    for each in listed[:_MOST_KEYS] if isinstance(listed, list) else ():
        if not isinstance(each, dict) or each.get("use", "sig") != "sig":
            continue
        kid, alg, kind = (each.get(name) for name in ("kid", "alg", "kty"))
        if not (isinstance(kid, str | None) and isinstance(alg, str | None)):
            continue
        try:
            key: RSAKey | ECKey
            if kind == "RSA" and len(each["n"]) >= _LEAST_MODULUS_CHARS:
                key = RSAKey.import_key({name: each[name] for name in ("kty", "n", "e")})
            elif kind == "EC":
                key = ECKey.import_key({name: each[name] for name in ("kty", "crv", "x", "y")})
            else:
                continue
        except (JoseError, ValueError, TypeError, KeyError):
            continue
        found.append(PublicKey(kid, alg, key))
    if not found:
        raise Refused("the provider has no key that a signature could be checked with")
    return tuple(found)


def verified(
    token: str,
    key_of: Callable[[str | None, str], PublicKey],
    *,
    issuer: str,
    audience: str,
    algorithms: Collection[str],
    now: float,
    nonce: str = "",
    access_token: str = "",
) -> Mapping[str, Any]:
    """The claims of a token that is good. With `nonce` it must be an ID token for the client
    `audience` (OpenID Connect Core 1.0, section 3.1.3.7), else an access token for that audience
    (RFC 9068). `key_of` takes key id and algorithm. Raises Refused."""
    from authlib.oauth2.claims import JWTClaims
    from authlib.oidc.core import CodeIDToken
    from joserfc import jwt
    from joserfc.errors import JoseError
    from joserfc.jws import JWSRegistry

    if len(token) > MAX_TOKEN_CHARS or not token.isascii():
        raise Refused("the token is too long, or no token")
    taken = sorted(ALGORITHMS & set(algorithms))
    if not taken:
        raise Refused("the provider signs with no algorithm that is taken here")

    def find(signed: Any) -> Any:
        header = signed.headers()
        if "crit" in header:
            raise Refused("the token wants something that is not known here (crit)")
        return key_of(header.get("kid"), header["alg"]).key

    options: dict[str, Any] = {
        "iss": {"essential": True, "value": issuer},
        "aud": {"essential": True, "value": audience},
        "sub": {"essential": True},
        "exp": {"essential": True},
    }
    try:
        registry = JWSRegistry(algorithms=taken, strict_check_header=False)
        read = jwt.decode(token, find, registry=registry)
        if nonce:
            options["nonce"] = {"essential": True, "value": nonce}
            params = {"nonce": nonce, "client_id": audience, "access_token": access_token}
            CodeIDToken(read.claims, read.header, options, params).validate(
                int(now), _LEEWAY_SECONDS
            )
        else:
            if str(read.header.get("typ", "")).lower() not in (
                "at+jwt",
                "jwt",
                "application/at+jwt",
            ):
                raise Refused("the bearer token is no access token")
            JWTClaims(read.claims, read.header, options).validate(int(now), _LEEWAY_SECONDS)
    except JoseError as error:
        # The library's code word and the claim's name are its own; its sentences may quote.
        claim = getattr(error, "claim", "")
        named = (
            f" ({claim})" if claim in options or claim in ("azp", "iat", "nbf", "at_hash") else ""
        )
        raise Refused(f"the token is not good: {error.error}{named}") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise Refused("the token is malformed") from None
    claims: dict[str, Any] = read.claims
    return claims
