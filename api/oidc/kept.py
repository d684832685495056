"""Something that is fetched seldom and used often: a provider's description, its keys.

Fetched anew when it is old, or when it lacks what is wanted (a key that nobody has seen): at once
the first time, then not oftener than `again_seconds`, however many ask: strangers can make up as
many key ids as they like. While the provider is away the last one serves, for `stale_seconds`.
Trade-off: a key that the provider has taken back is believed for `fresh_seconds` more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from longleaf.core.errors import LongleafError, RemoteUnavailable

T = TypeVar("T")


class Kept(Generic[T]):
    """Thread-safe: one fetches, the others use what there is."""

    def __init__(
        self,
        fetch: Callable[[], T],
        *,
        fresh_seconds: float = 3_600.0,
        stale_seconds: float = 86_400.0,
        again_seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._fresh_seconds = fresh_seconds
        self._stale_seconds = stale_seconds
        self._again_seconds = again_seconds
        self._clock = clock
        self._fetching = threading.Lock()
        self._value: T | None = None
        self._rounds = 0
        self._fetched_at = self._tried_at = float("-inf")

    def get(self, suits: Callable[[T], bool] = lambda _: True, *, patient: bool = True) -> T:
        """The value; one that does not suit only where a new one could not be had, or not yet.

        `patient`: where there is nothing at all, ask the provider now, and wait for another who
        does; else only once in `again_seconds`. Raises what `fetch` raises where there is nothing
        to use, and RemoteUnavailable for whoever is not patient.
        """
        asked_at, rounds = self._clock(), self._rounds
        value = self._usable(asked_at)
        if value is not None and self._is_fresh(asked_at) and suits(value):
            return value
        if (value is not None or not patient) and asked_at - self._tried_at < self._again_seconds:
            return self._or_none(value)
        if not self._fetching.acquire(blocking=value is None and patient):
            return self._or_none(value)
        try:
            if self._rounds != rounds:  # whoever was waited for has asked
                return self._or_none(self._usable(self._clock()))
            if value is not None or not patient:
                self._tried_at = asked_at
            try:
                self._value = self._fetch()
            except LongleafError:
                if value is None:
                    raise
                return value
            self._fetched_at = self._clock()
            return self._value
        finally:
            self._rounds += 1
            self._fetching.release()

    def _is_fresh(self, now: float) -> bool:
        return now - self._fetched_at < self._fresh_seconds

    def _usable(self, now: float) -> T | None:
        return self._value if now - self._fetched_at < self._stale_seconds else None

    def _or_none(self, value: T | None) -> T:
        if value is None:
            raise RemoteUnavailable(
                "The identity provider has not answered yet.", "Ask again in a minute."
            )
        return value
