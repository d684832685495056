"""Who asks, and what they may do: roles and callers, without where they come from.

A role says what somebody may do, a `Scope` on what. The key store makes callers out of keys and
sessions; routes only ever see the caller.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from longleaf.core.types import Scope


class Role(StrEnum):
    """What a caller may do; each includes the ones before it.

    `read`: search, read, judge. `write`: also put and delete documents, and run jobs. `admin`: also
    make, change and delete collections, and see how all stands. Keys are made on the machine alone.
    """

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"

    def includes(self, other: Role) -> bool:
        """Whether who has this role may do what `other` may."""
        ranks = list(Role)
        return ranks.index(self) >= ranks.index(other)


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody as an identity provider names them. `issuer` and `subject` together are one person
    for good; `name` is how they are called at the moment.

    `groups` are the provider's; `email` is one that the provider has verified, else "".
    """

    issuer: str
    subject: str
    name: str
    groups: tuple[str, ...] = ()
    email: str = ""


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who asks. `name` is for people (audit, judgements); `key_id` is None for the local
    user and for who came through OpenID Connect, of whom `person` tells.

    `requests_per_minute` and `max_body_bytes`: narrower than the server's limits for all; None: as
    configured.
    """

    name: str
    role: Role
    scope: Scope
    key_id: str | None = None
    requests_per_minute: int | None = None
    max_body_bytes: int | None = None
    person: Person | None = None


LOCAL = Caller("local", Role.ADMIN, Scope.all())
"""Whoever sits at this machine, as long as there are no keys."""
