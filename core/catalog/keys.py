"""API keys and sessions of the page: who may come in, and as whom.

A key is `ll_ID_SECRET`: ID names its row, SECRET has 256 random bits, and only the SHA-256 of the
whole is stored. A slow hash is for passwords that people choose; nobody guesses 256 bits, and every
request pays for the hash. A session is a row with such a token too, opened with a key (it ends with
that) or by an identity provider; so logging out ends it for every replica at once.

Everything is looked up when it is asked for: a revoked key does nothing from the next request on.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, delete, func, insert, select, update

from longleaf.core.access import Caller, Person, Role
from longleaf.core.catalog import bounds
from longleaf.core.catalog.database import Database
from longleaf.core.catalog.schema import api_keys, sessions, sign_ins
from longleaf.core.errors import InvalidRequest, NotFound
from longleaf.core.types import Scope

KEY_PREFIX = "ll_"
SESSION_PREFIX = "lls_"
MAX_NAME_CHARS = 100
MAX_SESSIONS = 20
"""Of one key or one person; one more ends the oldest."""
MAX_NAMES = 1_000
"""Collections, or groups, of one key."""
_ID_BYTES, _SECRET_BYTES = 5, 32
_TOKEN = re.compile(r"(lls?)_([a-z2-7]{8})_([A-Za-z0-9_-]{43})")
_NOBODY = bytes(32)
_USED_SECONDS = 600.0
"""`last_used_at` is written no oftener: it is for finding keys that nobody uses."""


@dataclass(frozen=True, slots=True)
class KeyWrite:
    """A key to make. `collections` and `groups`: None for all; `expires_at`: seconds since the
    epoch, None for never; the limits: None for the server's. With groups the role is `read`."""

    name: str
    role: Role
    collections: tuple[str, ...] | None = None
    groups: tuple[str, ...] | None = None
    expires_at: float | None = None
    requests_per_minute: int | None = None
    max_body_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Key(KeyWrite):
    """A key as it is kept: everything but the secret."""

    id: str = ""
    created_at: float = 0.0
    revoked_at: float | None = None
    last_used_at: float | None = None

    def is_good(self, now: float) -> bool:
        """Whether it opens anything at `now`."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def caller(self) -> Caller:
        """Who comes with it."""
        return Caller(
            self.name,
            self.role,
            _scope(self.collections, self.groups),
            self.id,
            self.requests_per_minute,
            self.max_body_bytes,
        )


@dataclass(frozen=True, slots=True)
class Session:
    """A session as it is kept: everything but its token. `key_id` is None for a person whom an
    identity provider knows (`person`); role and limits are those of its beginning."""

    id: str
    key_id: str | None
    name: str
    role: Role
    collections: tuple[str, ...] | None
    groups: tuple[str, ...] | None
    created_at: float
    expires_at: float
    person: Person | None = None


class Keys:
    """The keys and sessions of one catalog. Thread-safe: every method is one transaction."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def create(self, wanted: KeyWrite) -> tuple[Key, str]:
        """Make a key; returns it and its token, which cannot be had again. Raises
        InvalidRequest."""
        _check(wanted, self._clock())
        key_id, token = _new_token(KEY_PREFIX)
        values = {
            "name": wanted.name,
            "role": str(wanted.role),
            "collections": _listed(wanted.collections),
            "groups": _listed(wanted.groups),
            "expires_at": wanted.expires_at,
            "requests_per_minute": wanted.requests_per_minute,
            "max_body_bytes": wanted.max_body_bytes,
            "created_at": self._clock(),
        }
        with self._database.writing() as connection:
            connection.execute(insert(api_keys).values(id=key_id, digest=_digest(token), **values))
            row = connection.execute(select(api_keys).where(api_keys.c.id == key_id)).one()
        return _key(row), token

    def all(self) -> list[Key]:
        """Every key, those that are revoked or expired too, oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute(
                select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id)
            ).all()
        return [_key(row) for row in rows]

    def exist(self) -> bool:
        """Whether there is a key at all, good or not: from the first one on, everybody needs one.

        A catalog does not open again by itself when its last key expires.
        """
        with self._database.reading() as connection:
            return connection.execute(select(api_keys.c.id).limit(1)).first() is not None

    def revoke(self, key_id: str) -> Key:
        """End a key and its sessions; ending it twice is fine. Raises NotFound."""
        if not bounds.is_storable(key_id):
            raise _no_key(key_id)
        this = api_keys.c.id == key_id
        with self._database.writing() as connection:
            still = this & api_keys.c.revoked_at.is_(None)
            connection.execute(update(api_keys).where(still).values(revoked_at=self._clock()))
            connection.execute(delete(sessions).where(sessions.c.key_id == key_id))
            row = connection.execute(select(api_keys).where(this)).first()
        if row is None:
            raise _no_key(key_id)
        return _key(row)

    def caller(self, token: str) -> Caller | None:
        """Who comes with a key or a session's token; None for what opens nothing (any more)."""
        form = _TOKEN.fullmatch(token)
        if form is None:
            return None
        return self._of_key(form[2], token) if form[1] == "ll" else self._of_session(form[2], token)

    def open_session(
        self, caller: Caller, seconds: float, sign_in: tuple[str, float] | None = None
    ) -> str:
        """A session of that caller, which ends by itself after `seconds`; its token.
        Of more than MAX_SESSIONS the oldest end.

        `sign_in`: the state of a provider's answer, and until when that may be answered (seconds
        since the epoch): it opens one session, at whichever server. Raises InvalidRequest the
        second time.
        """
        session_id, token = _new_token(SESSION_PREFIX)
        now = self._clock()
        with self._database.writing() as connection:
            connection.execute(delete(sessions).where(sessions.c.expires_at <= now))
            if sign_in is not None:
                state = hashlib.sha256(sign_in[0].encode()).hexdigest()
                connection.execute(delete(sign_ins).where(sign_ins.c.expires_at <= now))
                this = select(sign_ins.c.state).where(sign_ins.c.state == state)
                if connection.execute(this).first() is not None:
                    raise InvalidRequest("This sign-in has been used.", "Begin again.")
                row = insert(sign_ins).values(state=state, expires_at=sign_in[1])
                connection.execute(row)
            theirs = _sessions_of(caller)
            newest = sessions.c.created_at.desc(), sessions.c.id
            kept = select(sessions.c.id).where(theirs).order_by(*newest).limit(MAX_SESSIONS - 1)
            ended = theirs & sessions.c.id.not_in([row.id for row in connection.execute(kept)])
            connection.execute(delete(sessions).where(ended))
            connection.execute(
                insert(sessions).values(
                    id=session_id,
                    digest=_digest(token),
                    key_id=caller.key_id,
                    name=caller.name,
                    role=str(caller.role),
                    collections=_listed(caller.scope.collections),
                    groups=_listed(caller.scope.groups),
                    person=None if caller.person is None else asdict(caller.person),
                    created_at=now,
                    expires_at=now + seconds,
                )
            )
        return token

    def close_session(self, token: str) -> None:
        """End a session; one that is over is fine."""
        form = _TOKEN.fullmatch(token)
        if form is None or form[1] != "lls":
            return
        with self._database.writing() as connection:
            connection.execute(
                delete(sessions).where(
                    (sessions.c.id == form[2]) & (sessions.c.digest == _digest(token))
                )
            )

    def sessions(self) -> list[Session]:
        """Every session that is open, oldest first."""
        still = sessions.c.expires_at > self._clock()
        asked = select(sessions).where(still).order_by(sessions.c.created_at, sessions.c.id)
        with self._database.reading() as connection:
            return [_session(row) for row in connection.execute(asked)]

    def end_session(self, session_id: str) -> Session:
        """End somebody's session by its id. Raises NotFound, also for one that is over."""
        row = None
        if bounds.is_storable(session_id):
            this = sessions.c.id == session_id
            with self._database.writing() as connection:
                row = connection.execute(select(sessions).where(this)).first()
                connection.execute(delete(sessions).where(this))
        if row is None or row.expires_at <= self._clock():
            raise NotFound(
                f"There is no session {session_id[:60]!r}.", "longleaf keys sessions shows them."
            )
        return _session(row)

    def note_use(self, key_id: str) -> None:
        """Keep when a key was used, to ten minutes."""
        now = self._clock()
        stale = func.coalesce(api_keys.c.last_used_at, 0.0) < now - _USED_SECONDS
        this = api_keys.c.id == key_id
        with self._database.reading() as connection:
            if connection.execute(select(api_keys.c.id).where(this & stale)).first() is None:
                return
        with self._database.writing() as connection:
            connection.execute(update(api_keys).where(this & stale).values(last_used_at=now))

    def _of_key(self, key_id: str, token: str) -> Caller | None:
        with self._database.reading() as connection:
            row = connection.execute(select(api_keys).where(api_keys.c.id == key_id)).first()
        if not _is_same(row, token) or row is None:
            return None
        key = _key(row)
        return key.caller() if key.is_good(self._clock()) else None

    def _of_session(self, session_id: str, token: str) -> Caller | None:
        with self._database.reading() as connection:
            row = connection.execute(select(sessions).where(sessions.c.id == session_id)).first()
            if not _is_same(row, token) or row is None or row.expires_at <= self._clock():
                return None
            if row.key_id is None:
                scope = _scope(row.collections, row.groups)
                return Caller(row.name, Role(row.role), scope, person=_person(row))
            # What its key may do now, and not what it might do when the session began.
            owner = connection.execute(select(api_keys).where(api_keys.c.id == row.key_id)).first()
        key = None if owner is None else _key(owner)
        return key.caller() if key is not None and key.is_good(self._clock()) else None


def _check(wanted: KeyWrite, now: float) -> None:
    if not wanted.name.strip() or len(wanted.name) > MAX_NAME_CHARS:
        raise InvalidRequest(f"A key's name has 1 to {MAX_NAME_CHARS} characters.")
    for what, names in (("collections", wanted.collections), ("groups", wanted.groups)):
        if names is not None and (len(names) > MAX_NAMES or not all(map(str.strip, names))):
            raise InvalidRequest(f"A key's {what}: at most {MAX_NAMES:,} names, none blank.")
    for text in (wanted.name, *(wanted.collections or ()), *(wanted.groups or ())):
        if not bounds.is_storable(text) or not text.isprintable():
            raise InvalidRequest(f"{text!r} has characters that no name may have.")
    if wanted.groups is not None and wanted.role is not Role.READ:
        raise InvalidRequest(
            f"A key that is limited to access groups can only read, not {wanted.role}: what it put "
            "could take the place of a document that it may not see.",
            "Give it the role read, or no groups.",
        )
    for limit in (wanted.requests_per_minute, wanted.max_body_bytes):
        if limit is not None and not 1 <= limit <= bounds.MAX_INTEGER:
            raise InvalidRequest(f"A key's limit: 1 to {bounds.MAX_INTEGER:,}, not {limit}.")
    if wanted.expires_at is not None and not wanted.expires_at > now:
        raise InvalidRequest("The key would have expired already.", "Give a time in the future.")


def _no_key(key_id: str) -> NotFound:
    return NotFound(f"There is no key {key_id[:60]!r}.", "longleaf keys list shows them.")


def _new_token(prefix: str) -> tuple[str, str]:
    """An id and a token that holds it."""
    token_id = base64.b32encode(secrets.token_bytes(_ID_BYTES)).decode("ascii").lower()
    return token_id, f"{prefix}{token_id}_{secrets.token_urlsafe(_SECRET_BYTES)}"


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("ascii")).digest()


def _is_same(row: Row[Any] | None, token: str) -> bool:
    """In constant time, and as long for an id that is not there."""
    stored = _NOBODY if row is None else bytes(row.digest)
    return hmac.compare_digest(stored, _digest(token))


def _key(row: Row[Any]) -> Key:
    return Key(**_values(row, Key.__dataclass_fields__))


def _session(row: Row[Any]) -> Session:
    return Session(**(_values(row, Session.__dataclass_fields__) | {"person": _person(row)}))


def _values(row: Row[Any], names: Iterable[str]) -> dict[str, Any]:
    values = {name: row._mapping[name] for name in names}
    for name in ("collections", "groups"):
        values[name] = None if values[name] is None else tuple(values[name])
    return values | {"role": Role(row.role)}


def _person(row: Row[Any]) -> Person | None:
    if row.person is None:
        return None
    return Person(**(row.person | {"groups": tuple(row.person["groups"])}))


def _sessions_of(caller: Caller) -> ColumnElement[bool]:
    """Which sessions are that caller's: a key's, a person's, or those of nobody's key."""
    if caller.key_id is not None:
        return sessions.c.key_id == caller.key_id
    if caller.person is None:
        return sessions.c.key_id.is_(None) & sessions.c.person.is_(None)
    person = sessions.c.person
    return and_(
        person["issuer"].as_string() == caller.person.issuer,
        person["subject"].as_string() == caller.person.subject,
    )


def _listed(names: Collection[str] | None) -> list[str] | None:
    return None if names is None else sorted(set(names))


def _scope(collections: Collection[str] | None, groups: Collection[str] | None) -> Scope:
    return Scope(
        None if collections is None else frozenset(collections),
        None if groups is None else frozenset(groups),
    )
