"""One engine, two kinds of transaction, whichever database keeps the catalog.

`reading()` sees one snapshot; `writing()` takes the catalog's one write lock first, so that what it
reads it may write, and its commit is durable when it returns: the only thing that lets a caller say
"acknowledged". Everything else speaks SQLAlchemy to whichever it is (`sqlite`, `postgres`).
Trade-off: writers go one after another on both, which costs little, because parsing and embedding
happen before; in return no check-then-insert anywhere needs a second thought.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from pathlib import Path

from sqlalchemy import Connection, Engine, Insert, event
from sqlalchemy.pool import ConnectionPoolEntry

DATABASE = "catalog.sqlite3"
"""The SQLite file in a data folder."""


class Database(ABC):
    """A catalog's database, opened and brought to the current schema.

    `where` names it in messages and holds no password; `file` is its file, where it is one.
    """

    engine: Engine
    where: str
    file: Path | None = None

    @staticmethod
    def open(folder: Path, url: str = "") -> Database:
        """The SQLite file in `folder`, or the Postgres database at `url`. Raises CatalogBroken for
        one of another program or version, CatalogUnavailable for one that cannot be reached."""
        if url:
            from longleaf.core.catalog.postgres import PostgresDatabase

            return PostgresDatabase(url)
        from longleaf.core.catalog.sqlite import SqliteDatabase

        return SqliteDatabase(folder / DATABASE)

    @abstractmethod
    def reading(self) -> AbstractContextManager[Connection]:
        """A connection on one consistent snapshot."""

    @abstractmethod
    def writing(self) -> AbstractContextManager[Connection]:
        """A connection that holds the write lock; commits, durably, when the block ends.

        Raises CatalogBusy when another one has held the lock for a minute, NoSpace for a full disk.
        """

    @abstractmethod
    def truncate_log(self) -> bool:
        """Leave nothing that was deleted in a log beside the tables; False when readers keep it."""

    @abstractmethod
    def vacuum(self) -> None:
        """Give back the room of what was deleted. Raises TooLarge when there is no room for that.

        SQLite: writes the whole file anew, so that nothing deleted is in it. Postgres: gives rows'
        room back to new ones, and promises nothing of their bytes.
        """

    @abstractmethod
    def size_bytes(self) -> int:
        """How much the tables and their indexes take on the disk."""

    def close(self) -> None:
        """Let go of it; who still reads does so to the end, and no connection is left behind."""
        event.listen(self.engine, "checkin", _end)
        self.engine.dispose()


def _end(_connection: object, record: ConnectionPoolEntry) -> None:
    record.invalidate()


def insert_row(connection: Connection, statement: Insert) -> int:
    """Insert one row and return the id it was given."""
    key = connection.execute(statement).inserted_primary_key
    assert key is not None
    return int(key[0])
