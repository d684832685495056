"""The catalog in a Postgres database: for several servers and workers, on several machines.

`writing()` takes one advisory lock for its transaction, which is what `BEGIN IMMEDIATE` is to
SQLite: what a writer reads it may write, in READ COMMITTED, because nobody else writes meanwhile.
Row locks and retries would let writers overlap; but parsing and embedding are done before, a
transaction is short, and every check-then-insert would have to be thought through anew. `reading()`
is a REPEATABLE READ READ ONLY snapshot and waits for nobody.

A session looks for names in the one schema that it began in, waits for a lock no longer than a
minute, and has `synchronous_commit=on` whatever the role or the URL says: "acknowledged" means on
the disk. A writer that stands still in its transaction is cut off by the server, so that a stopped
process cannot keep the others waiting. Messages never hold the password.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, func, make_url, select, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from longleaf.core.catalog import migrations, schema
from longleaf.core.catalog.database import Database
from longleaf.core.errors import (
    CatalogBroken,
    CatalogBusy,
    CatalogUnavailable,
    ConfigError,
    InvalidRequest,
    LongleafError,
    NoSpace,
)

_LOCK_SECONDS = 60
_IDLE_HOLDER_SECONDS = 120
_CONNECT_SECONDS = 10
_POOL_SECONDS = 30.0

_POOLED, _MOST_BEYOND = 8, 24
"""Connections that a process keeps, and may open beyond. A server's own limit is 100 as shipped."""

_BEGIN_WRITING = text(
    "SELECT set_config('idle_in_transaction_session_timeout', :idle, true),"
    " pg_advisory_xact_lock(hashtext('longleaf'), hashtext(current_schema()))"
)
_BEGIN_SESSION = (
    "SELECT set_config('search_path', quote_ident(current_schema()) || ', pg_temp', false),"
    " set_config('synchronous_commit', 'on', false),"
    f" set_config('lock_timeout', '{_LOCK_SECONDS}s', false)"
)
_FACTS = text(
    "SELECT current_schema() AS schema, current_setting('server_encoding') AS encoding,"
    " current_setting('server_version') AS version, current_setting('fsync') AS fsync,"
    " current_setting('full_page_writes') AS full_page_writes,"
    " current_setting('synchronous_commit') AS synchronous_commit"
)

_CANNOT_STORE = ("22021", "22P05")
_DISK_FULL = ("53100",)
_WAITED = ("55P03", "57014", "40P01", "40001")
_DAMAGED = ("XX001", "XX002")
_REFUSED = ("42501", "25006")


class PostgresDatabase(Database):
    """See `Database`. `url` may name user, password, options of libpq, and any host."""

    def __init__(self, url: str) -> None:
        parsed = _parsed(url)
        shown = parsed.difference_update_query(["password", "sslpassword"])
        self.where = shown.render_as_string(hide_password=True).replace("+psycopg", "", 1)
        self.engine = _engine(parsed)
        try:
            with self.reading() as connection:
                self._refuse_what_cannot_hold_a_catalog(connection)
                current = migrations.is_current(connection)
            if not current:
                with self.writing() as connection:
                    migrations.bring_up(connection, self.where)
        except BaseException:
            self.engine.dispose()
            raise

    def _refuse_what_cannot_hold_a_catalog(self, connection: Connection) -> None:
        found = connection.execute(_FACTS).one()
        if found.encoding != "UTF8":
            raise CatalogBroken(
                f"{self.where} keeps text in {found.encoding}.",
                "Make a database that keeps it in UTF-8: createdb --encoding=UTF8 "
                "--template=template0",
            )
        if found.schema is None:
            raise CatalogUnavailable(
                f"{self.where} has no schema that this role may use.",
                'Make one: CREATE SCHEMA AUTHORIZATION "ROLE"',
            )

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection on one consistent snapshot."""
        with self._named(), self.engine.connect() as connection:
            connection = connection.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
            with connection.begin():
                yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A connection that holds the write lock; commits, durably, when the block ends."""
        with self._named(), self.engine.begin() as connection:
            connection.execute(_BEGIN_WRITING, {"idle": f"{_IDLE_HOLDER_SECONDS}s"})
            yield connection

    def truncate_log(self) -> bool:
        """There is no log that is ours to cut."""
        return True

    def vacuum(self) -> None:
        """Give the room of deleted rows back to new ones, while others read and write."""
        with (
            self._named(),
            self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
        ):
            quote = connection.dialect.identifier_preparer.quote
            names = ", ".join(quote(name) for name in sorted(schema.metadata.tables))
            connection.exec_driver_sql(f"VACUUM (ANALYZE) {names}")

    def size_bytes(self) -> int:
        """Tables and their indexes, as the server counts them."""
        tables = sorted(schema.metadata.tables)
        sizes = [func.pg_total_relation_size(func.quote_ident(name)) for name in tables]
        with self.reading() as connection:
            return sum(connection.execute(select(*sizes)).one())

    def facts(self) -> dict[str, str]:
        """The server's version and the settings that "acknowledged" rests on."""
        with self.reading() as connection:
            found = connection.execute(_FACTS).one()._mapping
        return {name: str(value) for name, value in found.items()}

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Turn what the server or the driver says into an error that says what to do."""
        try:
            yield
        except PoolTimeout:
            raise CatalogBusy(
                f"All {_POOLED + _MOST_BEYOND} connections of this process to {self.where} have "
                f"been in use for {_POOL_SECONDS:.0f} s.",
                "Try again later.",
            ) from None
        except DBAPIError as error:
            named = self._error(error)
            if named is None:
                raise
            raise named from error

    def _error(self, error: DBAPIError) -> LongleafError | None:
        said = (str(error.orig).strip().splitlines() or ["it gave no reason"])[0][:300]
        state = getattr(error.orig, "sqlstate", None) or ""
        if state in _WAITED:
            return CatalogBusy(
                f"{self.where} was kept locked by others for too long ({said}).",
                "Wait for them to finish, or end them, and try again.",
            )
        if state in _DISK_FULL:
            return NoSpace(
                f"There is no room left on the disk of the database server ({said}).",
                "Free some there; nothing that was acknowledged is lost, and searches go on.",
            )
        if state in _DAMAGED:
            return CatalogBroken(
                f"{self.where} holds damaged data ({said}).",
                "Restore the database from a backup of the server (pg_restore).",
            )
        if state in _REFUSED:
            return CatalogUnavailable(
                f"{self.where} does not let this role write, or make its tables ({said}).",
                "Let the role own its database or schema, and name the primary server in "
                "catalog.url, not a standby.",
            )
        if state in _CANNOT_STORE or "NUL (0x00)" in said:
            return InvalidRequest(
                "A text holds a NUL character, which Postgres cannot keep; nothing of this change "
                "was stored.",
                "Take it out of the text.",
            )
        if error.connection_invalidated or not state or state[:2] in ("08", "28", "3D", "53", "57"):
            if _is_about_the_statement(error):
                return None
            return CatalogUnavailable(
                f"The catalog at {self.where} cannot be used: {said}.",
                "Is the server running, and are catalog.url and the password right "
                "(PGPASSWORD, ~/.pgpass)? Nothing that was acknowledged is lost.",
            )
        return None


def _is_about_the_statement(error: DBAPIError) -> bool:
    """Whether it is our own mistake: a wrong parameter, a connection misused."""
    import psycopg

    return isinstance(error.orig, psycopg.ProgrammingError | psycopg.DataError)


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        parsed = None
    if parsed is None or parsed.drivername not in ("postgresql", "postgres", "postgresql+psycopg"):
        # The URL itself may hold a password and is not repeated.
        raise ConfigError(
            "catalog.url is no address of a Postgres database.",
            "It takes postgresql://USER@HOST:PORT/NAME; empty means SQLite in the data folder.",
        )
    return parsed.set(drivername="postgresql+psycopg")


def _engine(url: URL) -> Engine:
    if "connect_timeout" not in url.query:
        url = url.update_query_dict({"connect_timeout": str(_CONNECT_SECONDS)})
    if "application_name" not in url.query:
        url = url.update_query_dict({"application_name": "longleaf"})
    try:
        engine = create_engine(
            url,
            pool_size=_POOLED,
            max_overflow=_MOST_BEYOND,
            pool_timeout=_POOL_SECONDS,
            # A server that was started again left only dead connections behind.
            pool_pre_ping=True,
            hide_parameters=True,
        )
    except (ModuleNotFoundError, NoSuchModuleError):
        raise ConfigError(
            "catalog.url names a Postgres database, and the driver for it is not installed.",
            'pip install "longleaf[postgres]"',
        ) from None

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.autocommit = True
        connection.execute(_BEGIN_SESSION)
        connection.autocommit = False

    return engine
