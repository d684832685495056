"""Settings of signing in through an OpenID Connect provider: which one, and what its people may do.

Part of the tree in `config`, which reads it. Nothing is asked of a provider until `oidc.issuer` is
set. Who may come in stands in rules, looked at from the first to the last: the first whose group a
person is in decides alone, so that two rules together never give more than one of them says; whom
no rule fits stays outside. It knows addresses and rules, and speaks to nobody.
"""

from __future__ import annotations

import ipaddress
import json
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator

from longleaf.core.access import Role
from longleaf.core.errors import ConfigError
from longleaf.core.store_settings import SECRET, Section

EVERYBODY = "*"
"""As the group of a rule: whoever the provider knows."""
_MOST_RULES = 1_000


class AccessRule(Section):
    """What members of a provider's group may do here: as a key of that form.

    `collections` and `groups`: None for all. `own_groups`: the person's groups at the provider are
    their access groups here. With access groups of either kind the role is `read`.
    """

    group: str = Field(min_length=1)
    role: Role = Role.READ
    collections: tuple[str, ...] | None = None
    groups: tuple[str, ...] | None = None
    own_groups: bool = False
    requests_per_minute: int | None = Field(None, ge=1)
    max_body_bytes: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _fits(self) -> AccessRule:
        if self.own_groups and self.groups is not None:
            raise ValueError("own_groups and groups contradict each other")
        if (self.own_groups or self.groups is not None) and self.role is not Role.READ:
            raise ValueError("who is limited to access groups can only read")
        return self


_RULES = TypeAdapter(tuple[AccessRule, ...])


class OidcSettings(Section):
    """Who may sign in at the page through an OpenID Connect provider (docs/access.md)."""

    issuer: str = Field(
        "",
        description="The provider's issuer, exactly as it writes it itself: https://HOST or with a "
        "path. Extra longleaf[oidc]. Empty: nobody signs in that way. Set: everybody needs a key "
        "or a session, and `longleaf serve` wants a key made first.",
    )
    client_id: str = Field("", description="What the provider calls this Longleaf.")
    client_secret: str = Field(
        "",
        repr=False,
        json_schema_extra=SECRET,
        description="The secret that it gave for that; empty for a public client (PKCE alone).",
    )
    public_url: str = Field(
        "",
        description="Where browsers find this server: https://HOST. The provider sends them back "
        "to its /login/oidc/callback; the Host of a request is never taken for it.",
    )
    name: str = Field(
        "single sign-on", max_length=60, description='What the page says after "Sign in with".'
    )
    scopes: str = Field(
        "openid profile email", description="What is asked of the provider, with spaces between."
    )
    groups_claim: str = Field(
        "groups",
        description="Claim of the ID token that lists a person's groups or roles; with dots for a "
        "claim within others (realm_access.roles).",
    )
    required_group: str = Field(
        "", description="A group without which nobody comes in, whatever the rules say."
    )
    email_domains: str = Field(
        "",
        description="Domains, comma-separated, of which a person's verified e-mail address must "
        "be. Empty: any, or none.",
    )
    rules: str = Field(
        "",
        description='What groups may do, in JSON (in longleaf.toml: [[oidc.rules]]): [{"group": '
        '"clerks", "role": "read", "collections": ["leases"], "groups": ["staff"]}]. The first '
        'rule that fits decides; group "*" is everybody. Without a rule nobody comes in.',
    )
    session_minutes: float = Field(
        720.0, ge=1, le=43_200, description="Longest that a session lasts."
    )
    outlive_token: bool = Field(
        False,
        description="false: a session also ends with the ID token that opened it (often 5 to 60 "
        "minutes). true: it lasts session_minutes, and who was locked out at the provider stays "
        "in for as long.",
    )
    api_audience: str = Field(
        "",
        description="Take the provider's access tokens (JWT) with this audience as bearer tokens "
        "of the API. Empty: keys only.",
    )
    timeout_seconds: float = Field(
        5.0, gt=0, le=60, description="Longest that the provider may take for one answer."
    )

    @field_validator("rules", mode="before")
    @classmethod
    def _as_json(cls, value: Any) -> Any:
        return json.dumps(value, default=str) if isinstance(value, list) else value

    @field_validator("rules")
    @classmethod
    def _are_rules(cls, value: str) -> str:
        _read_rules(value)
        return value

    def access_rules(self) -> tuple[AccessRule, ...]:
        """The rules in their order."""
        return _read_rules(self.rules)

    def domains(self) -> frozenset[str]:
        """The e-mail domains that are let in, lower case; empty for all."""
        named = (each.strip().lower().removeprefix("@") for each in self.email_domains.split(","))
        return frozenset(filter(None, named))


def check_oidc(settings: OidcSettings) -> bool:
    """Whether people sign in through a provider. Raises ConfigError for settings that do not go
    together, also where only the issuer is missing: that would open what was meant to be shut."""
    given = settings.model_dump(exclude_defaults=True, exclude={"issuer"})
    if not settings.issuer:
        if given:
            raise ConfigError(
                f"oidc.{sorted(given)[0]} is set, and oidc.issuer is not.",
                "Set LONGLEAF_OIDC__ISSUER to the provider's issuer, or take the others out.",
            )
        return False
    for name, example in (
        ("issuer", "https://HOST or with a path"),
        ("public_url", "https://HOST"),
    ):
        url = str(getattr(settings, name))
        if not is_web_address(url) or (
            name == "public_url" and urlsplit(url).path not in ("", "/")
        ):
            raise ConfigError(
                f"oidc.{name} = {url!r} is no address that can be used.",
                f"Write {example}; http:// on this machine only, no user and nothing behind a ?.",
            )
    wanted = {
        "oidc.client_id is empty.": bool(settings.client_id.strip()),
        "oidc.client_secret holds characters that a header cannot.": (
            settings.client_secret.isascii()
            and (not settings.client_secret or settings.client_secret.isprintable())
        ),
        "oidc.scopes lacks openid.": "openid" in settings.scopes.split(),
        "oidc.rules is empty, so nobody could come in.": bool(settings.access_rules()),
        "oidc.api_audience is the client's own id, so ID tokens would open the API.": (
            settings.api_audience != settings.client_id
        ),
    }
    for problem, is_well in wanted.items():
        if not is_well:
            raise ConfigError(
                problem, "docs/access.md has an example of all that belongs together."
            )
    return True


def is_web_address(url: str) -> bool:
    """Whether secrets may go there: https, or http on this machine, and nothing behind the path."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return False
    plain = url.isascii() and url.isprintable() and not set(url) & set(" \\<>\"'?#")
    if not plain or parts.username is not None or parts.password is not None or port == 0:
        return False
    return bool(host) and (
        parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host))
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _read_rules(text: str) -> tuple[AccessRule, ...]:
    """Raises ValueError that names the rule and what is wrong with it."""
    if not text.strip():
        return ()
    try:
        rules = _RULES.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"rule {where}: {first['msg']}" if where else first["msg"]) from None
    if len(rules) > _MOST_RULES:
        raise ValueError(f"{len(rules):,} rules, of {_MOST_RULES:,} at most")
    names = [name for rule in rules for name in (*(rule.collections or ()), *(rule.groups or ()))]
    if not all(name.strip() and name.isprintable() for name in names):
        raise ValueError("a name that is blank or has characters that no name may have")
    return rules
