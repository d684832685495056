"""Who a token is about, and what they may do here: claims to a Person, rules to a Caller. Pure.

Rules are asked with every request and not only when somebody signs in: what they say now holds for
sessions that were opened before. Trade-off: which groups somebody is in is known as of their last
sign-in (docs/access.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from longleaf.api.oidc.tokens import Refused
from longleaf.core.access import Caller, Person
from longleaf.core.catalog.keys import MAX_NAMES
from longleaf.core.oidc_settings import EVERYBODY, AccessRule, OidcSettings
from longleaf.core.types import Scope

_MAX_SUBJECT_CHARS = 255
_SHOWN_SUBJECT_CHARS = 140
_MAX_NAME_BYTES = 200
_MAX_GROUP_CHARS = 500
OUTSIDE = (
    "You are known to the identity provider, but not let in here. Ask whoever runs this server."
)


def person_of(claims: Mapping[str, Any], settings: OidcSettings) -> Person:
    """Whom checked claims are about. Raises Refused where they are not in the form that they
    should have: half of somebody's groups would be another person's rights."""
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 1 <= len(subject) <= _MAX_SUBJECT_CHARS:
        raise Refused("the token's subject is none (sub)")
    if not subject.isascii() or not subject.isprintable() or subject != subject.strip():
        raise Refused("the token's subject has characters that none may have (sub)")
    return Person(
        settings.issuer, subject, _name_of(claims), _groups_of(claims, settings), _email_of(claims)
    )


def caller_of(
    person: Person, settings: OidcSettings, rules: tuple[AccessRule, ...]
) -> Caller | None:
    """What that person may do by the first rule that fits; None for whom none does, and for
    somebody of another provider."""
    domains = settings.domains()
    if (
        person.issuer != settings.issuer
        or (settings.required_group and settings.required_group not in person.groups)
        or (domains and person.email.rpartition("@")[2].lower() not in domains)
    ):
        return None
    for rule in rules:
        if rule.group == EVERYBODY or rule.group in person.groups:
            groups = person.groups if rule.own_groups else rule.groups
            scope = Scope(
                None if rule.collections is None else frozenset(rule.collections),
                None if groups is None else frozenset(groups),
            )
            return Caller(
                shown_name(person),
                rule.role,
                scope,
                requests_per_minute=rule.requests_per_minute,
                max_body_bytes=rule.max_body_bytes,
                person=person,
            )
    return None


def shown_name(person: Person) -> str:
    """How audit log and judgements call them: with the subject, because two may have one name and
    anybody may take one."""
    subject = person.subject
    if len(subject) > _SHOWN_SUBJECT_CHARS:
        subject = "sha256:" + hashlib.sha256(subject.encode()).hexdigest()
    return f"{person.name} ({subject})" if person.name else subject


def _name_of(claims: Mapping[str, Any]) -> str:
    for claim in ("name", "preferred_username", "email"):
        value = claims.get(claim)
        if isinstance(value, str) and value.strip() and value.isprintable():
            return value.strip().encode()[:_MAX_NAME_BYTES].decode("utf-8", "ignore")
    return ""


def _email_of(claims: Mapping[str, Any]) -> str:
    email, is_verified = claims.get("email"), claims.get("email_verified")
    # Some providers write their booleans as words.
    if not isinstance(email, str) or is_verified not in (True, "true"):
        return ""
    return email if email.isprintable() and len(email) <= _MAX_NAME_BYTES else ""


def _groups_of(claims: Mapping[str, Any], settings: OidcSettings) -> tuple[str, ...]:
    found: Any = _within(claims, settings.groups_claim)
    if found is None:
        elsewhere = claims.get("_claim_names")
        if isinstance(elsewhere, dict) and settings.groups_claim in elsewhere:
            raise Refused(
                "the provider leaves the groups out because there are too many: have it send only "
                "those that are assigned to this client",
                "You are in more groups than the identity provider writes down.",
            )
        return ()
    listed = [found] if isinstance(found, str) else found
    if not isinstance(listed, list) or len(listed) > MAX_NAMES:
        raise Refused(f"the groups claim is no list of at most {MAX_NAMES:,} names")
    for each in listed:
        if not isinstance(each, str) or not each.strip() or not each.isprintable():
            raise Refused("the groups claim lists what is no name")
        if len(each) > _MAX_GROUP_CHARS:
            raise Refused(f"the groups claim has a name of more than {_MAX_GROUP_CHARS} characters")
    return tuple(sorted(set(listed)))


def _within(claims: Mapping[str, Any], name: str) -> Any:
    """The claim of that name, else the one that its dots lead to."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found
