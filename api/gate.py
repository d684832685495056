"""Who may come in: from a key, a session or nothing to a caller, and how often they may come.

As long as there is no key and no identity provider, whoever reaches the server is the local user;
the server then listens on loopback only (`cli/serving.py`). From the first key on everybody needs
one, for good: a key that ends does not open the door. Programs of this machine that may read the
data folder bring the local token, which the server makes at its start (`running.py`).

It knows no web framework. The count of requests is this process's own: with two servers a key may
come twice as often.
"""

from __future__ import annotations

import hmac
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog

from longleaf.api.running import proof_of
from longleaf.core.access import LOCAL, Caller, Person
from longleaf.core.catalog.keys import Keys
from longleaf.core.errors import LongleafError, Overloaded

_log = structlog.get_logger(__name__)

_MOST_BUCKETS = 10_000
_NOTE_SECONDS = 60.0


class People(Protocol):
    """What an identity provider's people may do (api/oidc/openid.py). Thread-safe."""

    def caller(self, person: Person) -> Caller | None:
        """What somebody may do by today's rules, None for nothing. Asks nobody."""

    def bearer(self, token: str) -> Caller | None:
        """Who comes with an access token, None for one that is not good. Raises
        RemoteUnavailable."""


@dataclass(slots=True)
class _Bucket:
    """A token bucket: so many requests are left, as of a time."""

    left: float
    at: float


class Gate:
    """Thread-safe. `local_token`: who has it is the local user, "" for nobody. `people`: who may do
    what of those whom an identity provider knows, None where there is none; with one, everybody
    must show who they are.

    `requests_per_minute`: of each caller who has no limit of their own, 0 for any number; a
    minute's worth may come at once.
    """

    def __init__(
        self,
        keys: Keys,
        *,
        local_token: str = "",
        requests_per_minute: int = 0,
        people: People | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys = keys
        self._local_token = local_token
        self._per_minute = requests_per_minute
        self._people = people
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[str, _Bucket] = {}
        self._noted: dict[str, float] = {}
        self._has_keys = False

    def is_shut(self) -> bool:
        """Whether callers must show who they are: there has been a key, or there is a provider."""
        if self._people is not None:
            return True
        if not self._has_keys:
            self._has_keys = self._keys.exist()
        return self._has_keys

    def caller(self, key: str = "", session: str = "") -> Caller | None:
        """Who comes with this key (or access token), or this session of the page; None where that
        is nobody.

        A key that opens nothing is not made good by a session beside it. Somebody's session counts
        for what the rules give them now. Raises RemoteUnavailable where a token cannot be checked.
        """
        if not self.is_shut():
            return LOCAL
        if key:
            if self._local_token and hmac.compare_digest(
                key.encode("utf-8", "replace"), self._local_token.encode()
            ):
                return LOCAL
            if key.startswith("ll_"):
                return self._keys.caller(key)
            return self._people.bearer(key) if self._people is not None else None
        found = self._keys.caller(session) if session.startswith("lls_") else None
        if found is not None and found.person is not None:
            return self._people.caller(found.person) if self._people is not None else None
        return found

    def proof(self, challenge: str) -> str:
        """What only a server that has the local token can say to this; "" for one without."""
        return proof_of(self._local_token, challenge) if self._local_token and challenge else ""

    def is_use_news(self, caller: Caller) -> bool:
        """Whether `note_use` is due for this caller's key: it was not for a minute."""
        noted = self._noted.get(caller.key_id or "", -_NOTE_SECONDS)
        return caller.key_id is not None and self._clock() - noted >= _NOTE_SECONDS

    def note_use(self, caller: Caller) -> None:
        """Keep that a key was used. For after the answer: it may wait for the catalog's lock, and
        what cannot be kept is left."""
        key_id = caller.key_id
        if key_id is None:
            return
        self._noted[key_id] = self._clock()
        try:
            self._keys.note_use(key_id)
        except LongleafError as error:
            _log.warning("keys.use_not_kept", key=key_id, reason=error.code)

    def admit(self, caller: Caller) -> None:
        """Count a request. Raises Overloaded, with the time to wait, for one too many."""
        per_minute = caller.requests_per_minute
        if per_minute is None:
            per_minute = self._per_minute
        if not per_minute or caller is LOCAL:
            return
        name = caller.key_id or f"name:{caller.name}"
        now = self._clock()
        with self._lock:
            bucket = self._buckets.get(name)
            if bucket is None:
                self._forget_full(now)
                bucket = self._buckets[name] = _Bucket(float(per_minute), now)
            grown = (now - bucket.at) * per_minute / 60.0
            bucket.left, bucket.at = min(float(per_minute), bucket.left + grown), now
            if bucket.left >= 1.0:
                bucket.left -= 1.0
                return
            wait_seconds = (1.0 - bucket.left) * 60.0 / per_minute
        raise Overloaded(
            f"{caller.name} may ask {per_minute:,} times a minute, and has.",
            "Wait a little, or ask whoever keeps the keys for more.",
            retry_after_seconds=wait_seconds,
        )

    def _forget_full(self, now: float) -> None:
        """Callers who have not come for a minute are as new."""
        if len(self._buckets) >= _MOST_BUCKETS:
            self._buckets = {
                name: bucket for name, bucket in self._buckets.items() if now - bucket.at < 60.0
            }
