"""An older catalog becomes one of the current schema: one transaction, all or nothing.

Each step leads from one version to the next and never changes again once a release has it. New
tables come from `schema` itself (`create_all` runs first); a step only changes tables that were
there. A newer catalog than this Longleaf reads is refused, because writing to it would break it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection, delete, insert, inspect, select, update

from longleaf.core.catalog import schema
from longleaf.core.errors import CatalogBroken

EPOCH = "epoch"
"""Key of `meta`: names one history of the log. An index that followed another one is made anew."""
SEALED = "sealed"
"""Key of `meta` in a backup: whoever opens it next goes on from there with an epoch of its own."""


def stored_version(connection: Connection) -> int | None:
    """The catalog's schema version, None for an empty file. Asked before tables are made."""
    if not inspect(connection).has_table(schema.meta.name):
        return None
    found = meta_value(connection, "schema_version")
    return None if found is None else int(found)


def meta_value(connection: Connection, key: str) -> str | None:
    """What stands under a key of `meta`; None where nothing does."""
    stored = select(schema.meta.c.value).where(schema.meta.c.key == key)
    return connection.execute(stored).scalar()


def upgrade(connection: Connection, found: int | None, path: Path) -> None:
    """Bring the catalog from version `found` to the current one. Raises CatalogBroken."""
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
            f"{path} has schema version {found}; this Longleaf reads {schema.SCHEMA_VERSION}.",
            "Use the Longleaf version that wrote it, or choose another LONGLEAF_HOME.",
        )
    for version in range(found, schema.SCHEMA_VERSION):
        _STEPS[version](connection)
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


def _from_1(connection: Connection) -> None:
    for statement in (
        "ALTER TABLE contents ADD COLUMN regions JSON NOT NULL DEFAULT '[]'",
        "ALTER TABLE contents DROP COLUMN source_map",
        "ALTER TABLE generations ADD COLUMN settings JSON NOT NULL DEFAULT '{}'",
        "ALTER TABLE passages ADD COLUMN role VARCHAR NOT NULL DEFAULT 'body'",
    ):
        connection.exec_driver_sql(statement)


def _from_2(connection: Connection) -> None:
    for table in ("revisions", "passages", "vectors"):
        connection.exec_driver_sql(f"ALTER TABLE {table} ADD COLUMN checksum BIGINT")
    connection.execute(insert(schema.meta).values(key=EPOCH, value=_new_epoch()))


def _from_3(connection: Connection) -> None:
    statement = "ALTER TABLE collections ADD COLUMN instruction TEXT NOT NULL DEFAULT ''"
    connection.exec_driver_sql(statement)


def _from_4(connection: Connection) -> None:
    statement = "ALTER TABLE collections ADD COLUMN rerank JSON NOT NULL DEFAULT '{}'"
    connection.exec_driver_sql(statement)


def _from_5(_connection: Connection) -> None:
    """Version 6 has one table more, `leases`."""


_STEPS: dict[int, Callable[[Connection], None]] = {
    1: _from_1,
    2: _from_2,
    3: _from_3,
    4: _from_4,
    5: _from_5,
}
