"""Who alone may do something for a while: one holder, a term that it must renew, and a fence.

A shared index has many searching processes and one that follows the catalog into it. Whoever takes
the lease gets a fence, a number higher than every holder's before; what it writes carries the
fence, so that a store can refuse a holder that was paused past its term and does not know. Time is
the database's, because the clocks of several machines differ.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select, text, update

from longleaf.core.catalog.database import Database
from longleaf.core.catalog.schema import leases
from longleaf.core.errors import Conflict


class LeaseLost(Conflict):
    """Somebody else holds the lease now; what this process meant to do with it, that one does."""

    code = "lease_lost"


@dataclass(frozen=True, slots=True)
class Lease:
    """`name` is what is leased, `fence` grows with every holder. `seconds` is its term, which the
    holder counts from before it asked: so it never believes in it longer than the database."""

    name: str
    holder: str
    fence: int
    seconds: float


class Leases:
    """The leases of one catalog. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(self, name: str, holder: str, seconds: float, *, above: int = 0) -> Lease | None:
        """The lease, if nobody else holds it now; taking one's own again gives a new fence.

        `above`: a fence that a store has seen. It is higher than ours when the database was
        restored from a dump, and the new one is higher than both.
        """
        with self._database.writing() as connection:
            now = _now(connection)
            found = connection.execute(select(leases).where(leases.c.name == name)).first()
            if found is not None and found.holder != holder and found.expires_at > now:
                return None
            fence = max(above, 0 if found is None else found.fence) + 1
            row = {"holder": holder, "fence": fence, "expires_at": now + seconds}
            if found is None:
                connection.execute(insert(leases).values(name=name, **row))
            else:
                connection.execute(update(leases).where(leases.c.name == name).values(**row))
            return Lease(name, holder, fence, seconds)

    def renew(self, lease: Lease) -> bool:
        """Begin its term anew; False when it has gone to somebody else, or its term was over."""
        with self._database.writing() as connection:
            now = _now(connection)
            mine = (leases.c.name == lease.name) & (leases.c.fence == lease.fence)
            renewed = connection.execute(
                update(leases)
                .where(mine, leases.c.holder == lease.holder, leases.c.expires_at > now)
                .values(expires_at=now + lease.seconds)
            )
            return bool(renewed.rowcount)

    def give_back(self, lease: Lease) -> None:
        """Let another take it at once. The row stays, for the fences that are to come."""
        with self._database.writing() as connection:
            connection.execute(
                update(leases)
                .where(leases.c.name == lease.name, leases.c.fence == lease.fence)
                .values(expires_at=0.0)
            )

    def holder(self, name: str) -> str | None:
        """Who holds it now."""
        with self._database.reading() as connection:
            now = _now(connection)
            held = (leases.c.name == name) & (leases.c.expires_at > now)
            return connection.execute(select(leases.c.holder).where(held)).scalar()

    def forget(self, name: str) -> None:
        """Drop it with what it was for."""
        with self._database.writing() as connection:
            connection.execute(delete(leases).where(leases.c.name == name))


def _now(connection: Connection) -> float:
    if connection.dialect.name == "sqlite":  # all its processes are on this machine
        return time.time()
    told = text("SELECT extract(epoch FROM clock_timestamp())")
    return float(connection.execute(told).scalar_one())
