"""An older catalog becomes one of the current schema: one transaction, all or nothing.

Each step leads from one version to the next and never changes again once a release has it. New
tables come from `schema` itself (`create_all` runs first); a step only changes tables that were
there, through alembic's operations, so that one step serves SQLite and Postgres. Versions are our
own number in `meta` and not alembic's scripts and table: they would have to be found and run as
files, and a catalog is brought up by whichever process opens it first. A newer catalog than this
Longleaf reads is refused, because writing to it would break it; so is another program's database.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Connection,
    delete,
    insert,
    inspect,
    select,
    update,
)

from longleaf.core.catalog import schema, title_words, titles
from longleaf.core.errors import CatalogBroken

if TYPE_CHECKING:
    from alembic.operations import Operations

EPOCH = "epoch"
"""Key of `meta`: names one history of the log. An index that followed another one is made anew."""
SEALED = "sealed"
"""Key of `meta` in a backup: whoever opens it next goes on from there with an epoch of its own."""


def is_current(connection: Connection) -> bool:
    """Whether there is nothing to be done to open it: looked at without the write lock."""
    return (
        stored_version(connection) == schema.SCHEMA_VERSION
        and meta_value(connection, SEALED) is None
        and not _tables(connection)[1]
    )


def bring_up(connection: Connection, where: str) -> None:
    """Make the tables of a new catalog, or bring an older one up. Raises CatalogBroken, also for
    one that has lost tables: made anew they would be empty, and nobody would hear of the loss.
    """
    found = stored_version(connection)
    there, missing = _tables(connection)
    if found == schema.SCHEMA_VERSION and missing:
        raise CatalogBroken(
            f"{where} has lost tables ({', '.join(missing)}).",
            "Restore a backup (longleaf restore). Without one, keep what is there, and index the "
            "documents again into another LONGLEAF_HOME (or catalog.url).",
        )
    if found is None and there:
        raise CatalogBroken(
            f"{where} has tables that are not Longleaf's ({', '.join(there[:5])}).",
            "Give Longleaf a database, or a data folder, of its own.",
        )
    schema.metadata.create_all(connection)
    _upgrade(connection, found, where)


def _tables(connection: Connection) -> tuple[list[str], list[str]]:
    """Names of our tables that are there, and of those that are not."""
    ours, found = set(schema.metadata.tables), set(inspect(connection).get_table_names())
    return sorted(ours & found), sorted(ours - found)


def require_current(connection: Connection, where: str) -> None:
    """For a writer that has been open for long: raise CatalogBroken where a newer Longleaf has
    brought the catalog up meanwhile."""
    found = meta_value(connection, "schema_version")
    if found != str(schema.SCHEMA_VERSION):
        raise CatalogBroken(
            f"{where} has schema version {found} by now; this process writes "
            f"{schema.SCHEMA_VERSION}, and wrote nothing.",
            "Another Longleaf version has opened it: end this process, and start that version.",
        )


def stored_version(connection: Connection) -> int | None:
    """The catalog's schema version, None where there is none. Asked before tables are made."""
    inspector = inspect(connection)
    if not inspector.has_table(schema.meta.name):
        return None
    columns = {column["name"] for column in inspector.get_columns(schema.meta.name)}
    found = meta_value(connection, "schema_version") if columns == {"key", "value"} else None
    return int(found) if found is not None and found.isdecimal() else None


def meta_value(connection: Connection, key: str) -> str | None:
    """What stands under a key of `meta`; None where nothing does."""
    stored = select(schema.meta.c.value).where(schema.meta.c.key == key)
    return connection.execute(stored).scalar()


def _upgrade(connection: Connection, found: int | None, where: str) -> None:
    if found is None:
        connection.execute(
            insert(schema.meta),
            [
                {"key": "schema_version", "value": str(schema.SCHEMA_VERSION)},
                {"key": "last_seq", "value": "0"},
                {"key": "log_horizon", "value": "0"},
                {"key": EPOCH, "value": _new_epoch()},
            ],
        )
        return
    if found > schema.SCHEMA_VERSION or found < min(_STEPS):
        raise CatalogBroken(
            f"{where} has schema version {found}; this Longleaf reads {schema.SCHEMA_VERSION}.",
            "Use the Longleaf version that wrote it, or choose another LONGLEAF_HOME (or "
            "catalog.url).",
        )
    if found < schema.SCHEMA_VERSION:
        from alembic.migration import MigrationContext
        from alembic.operations import Operations

        operations = Operations(MigrationContext.configure(connection))
        for version in range(found, schema.SCHEMA_VERSION):
            _STEPS[version](connection, operations)
    connection.execute(
        update(schema.meta)
        .where(schema.meta.c.key == "schema_version")
        .values(value=str(schema.SCHEMA_VERSION))
    )
    _unseal(connection)


def _unseal(connection: Connection) -> None:
    """Begin a new epoch in a copy that `backup` sealed: what it goes on to write is not what its
    indexes saw happen after the copy was made.
    """
    meta = schema.meta
    if connection.execute(delete(meta).where(meta.c.key == SEALED)).rowcount:
        connection.execute(update(meta).where(meta.c.key == EPOCH).values(value=_new_epoch()))


def _new_epoch() -> str:
    return secrets.token_hex(8)


def _from_1(_connection: Connection, operations: Operations) -> None:
    regions = Column("regions", JSON, nullable=False, server_default="[]")
    operations.add_column("contents", regions)
    operations.drop_column("contents", "source_map")
    settings = Column("settings", JSON, nullable=False, server_default="{}")
    operations.add_column("generations", settings)
    role = Column("role", schema.String, nullable=False, server_default="body")
    operations.add_column("passages", role)


def _from_2(connection: Connection, operations: Operations) -> None:
    for table in ("revisions", "passages", "vectors"):
        operations.add_column(table, Column("checksum", BigInteger, nullable=True))
    connection.execute(insert(schema.meta).values(key=EPOCH, value=_new_epoch()))


def _from_3(_connection: Connection, operations: Operations) -> None:
    instruction = Column("instruction", schema.Text, nullable=False, server_default="")
    operations.add_column("collections", instruction)


def _from_4(_connection: Connection, operations: Operations) -> None:
    rerank = Column("rerank", JSON, nullable=False, server_default="{}")
    operations.add_column("collections", rerank)


def _from_5(_connection: Connection, _operations: Operations) -> None:
    """Version 6 has one table more, `leases`."""


def _from_6(connection: Connection, operations: Operations) -> None:
    """Documents are listed by title and by date, and titles found by their words: the former took
    70 s for 1,000,000 documents on a busy core."""
    title_key = Column("title_key", schema.Text, nullable=False, server_default="")
    operations.add_column("documents", title_key)
    titles.fill(connection)
    title_words.fill(connection)
    operations.create_index("documents_by_title", "documents", ["collection", "title_key", "id"])
    by_update = ["collection", "updated_at", "id", "title_key"]
    operations.create_index("documents_by_update", "documents", by_update)


def _from_7(_connection: Connection, _operations: Operations) -> None:
    """Version 8 has three tables more: `api_keys`, `sessions` and `audit`."""


def _from_8(connection: Connection, operations: Operations) -> None:
    """Sessions of people whom an identity provider knows; and one table more, `sign_ins`."""
    # A catalog from before version 8 has just been given `sessions` as it is now.
    columns = {column["name"] for column in inspect(connection).get_columns("sessions")}
    if "person" not in columns:
        operations.add_column("sessions", Column("person", JSON, nullable=True))


_STEPS: dict[int, Callable[[Connection, Operations], None]] = {
    1: _from_1,
    2: _from_2,
    3: _from_3,
    4: _from_4,
    5: _from_5,
    6: _from_6,
    7: _from_7,
    8: _from_8,
}
