"""The catalog in a Postgres database: for several servers and workers, on several machines.

`writing()` takes one advisory lock for its transaction, which is what `BEGIN IMMEDIATE` is to
SQLite: what a writer reads it may write, in READ COMMITTED, because nobody else writes meanwhile.
Row locks and retries would let writers overlap; but parsing and embedding are done before, a
transaction is short, and every check-then-insert would have to be thought through anew. `reading()`
is a REPEATABLE READ READ ONLY snapshot and waits for nobody.

A session looks for names in the one schema that it began in, waits for a lock no longer than a
minute, and has `synchronous_commit=on` whatever the role or the URL says: "acknowledged" means on
the disk. Defaults of role and database that would change a transaction (isolation, read-only, time
limits) are overruled as well. A writer that stands still in its transaction is cut off by the
server, so that a stopped process cannot keep the others waiting. Messages never hold the password.
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
    " set_config('default_transaction_read_only', 'off', false),"
    f" set_config('lock_timeout', '{_LOCK_SECONDS}s', false)"
)
# A reader may take hours (an export). The last of them came with version 17.
_NO_TIME_LIMITS = (
    "SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN"
    " ('statement_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')"
)
_FACTS = text(
    "SELECT current_schema() AS schema, current_setting('server_encoding') AS encoding,"
    " current_setting('server_version') AS version, current_setting('fsync') AS fsync,"
    " current_setting('full_page_writes') AS full_page_writes,"
    " current_setting('synchronous_commit') AS synchronous_commit"
)

_CANNOT_STORE = ("22021", "22P05")
_TOO_LONG = ("54000",)
_DISK_FULL = ("53100",)
_WAITED = ("55P03", "40P01", "40001")
_CUT_OFF = ("57014", "25P03", "25P04")
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
                with self._holding_the_lock() as connection:
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
        with self._named("Nothing has a name with it."), self.engine.connect() as connection:
            connection = connection.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
            with connection.begin():
                yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A connection that holds the write lock; commits, durably, when the block ends."""
        with self._holding_the_lock() as connection:
            migrations.require_current(connection, self.where)
            yield connection

    @contextmanager
    def _holding_the_lock(self) -> Iterator[Connection]:
        with self._named(), self.engine.connect() as connection:
            # A snapshot for each statement: one for all would be from before the wait for the lock.
            connection = connection.execution_options(isolation_level="READ COMMITTED")
            with connection.begin():
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
    def _named(self, of_text: str = "Nothing of this change was stored.") -> Iterator[None]:
        """Turn what the server or the driver says into an error that says what to do.

        `of_text`: what there is to say beside it of a text that cannot be stored.
        """
        try:
            yield
        except PoolTimeout:
            raise CatalogBusy(
                f"All {_POOLED + _MOST_BEYOND} connections of this process to {self.where} have "
                f"been in use for {_POOL_SECONDS:.0f} s.",
                "Try again later.",
            ) from None
        except DBAPIError as error:
            named = self._error(error, of_text)
            if named is None:
                raise
            raise named from error

    def _error(self, error: DBAPIError, of_text: str) -> LongleafError | None:
        said = (str(error.orig).strip().splitlines() or ["it gave no reason"])[0][:300]
        state = getattr(error.orig, "sqlstate", None) or ""
        if state in _WAITED:
            return CatalogBusy(
                f"{self.where} was kept locked by others for too long ({said}).",
                "Wait for them to finish, or end them, and try again.",
            )
        if state in _CUT_OFF:
            return CatalogUnavailable(
                f"{self.where} cut this off ({said}).",
                "An administrator did, or a transaction stood still for too long; try again.",
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
                f"A text holds a NUL character, which Postgres cannot keep. {of_text}",
                "Take it out of the text.",
            )
        if state in _TOO_LONG:
            return InvalidRequest(
                f"A name is longer than an index of Postgres can hold ({said}). {of_text}",
                "Give it a shorter one: 2,000 bytes fit.",
            )
        if error.connection_invalidated or not state or state[:2] in ("08", "28", "3D", "53", "57"):
            if _is_about_the_statement(error):
                return _bad_option(said) if error.statement is None else None
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
    # What SQLAlchemy takes for a host, a name or options may be the end of a password.
    if url.partition("://")[2].count("@") > (1 if parsed.username is not None else 0):
        raise ConfigError(
            "catalog.url cannot be read: it has an @ too many.",
            "Write @ in a user's name or a password as %40 (and / as %2F, ? as %3F, % as %25).",
        )
    return parsed.set(drivername="postgresql+psycopg")


def _refuse_unknown_options(url: URL) -> None:
    """libpq would refuse them as well, when it is asked, and say nothing of where they stand."""
    from psycopg.pq import Conninfo

    known = {each.keyword.decode() for each in Conninfo.get_defaults()}
    unknown = sorted(set(url.query) - known)
    if unknown:
        raise _bad_option(f"there is no {unknown[0]!r}")


def _bad_option(said: object) -> ConfigError:
    return ConfigError(
        f"catalog.url has an option that cannot be used: {said}.",
        "Options are those of libpq: sslmode, sslrootcert, connect_timeout, options and others.",
    )


def _engine(url: URL) -> Engine:
    if "connect_timeout" not in url.query:
        url = url.update_query_dict({"connect_timeout": str(_CONNECT_SECONDS)})
    if "application_name" not in url.query:
        url = url.update_query_dict({"application_name": "longleaf"})
    try:
        _refuse_unknown_options(url)
        engine = create_engine(
            url,
            pool_size=_POOLED,
            max_overflow=_MOST_BEYOND,
            pool_timeout=_POOL_SECONDS,
            # A server that was started again left only dead connections behind.
            pool_pre_ping=True,
            hide_parameters=True,
        )
    except ArgumentError as error:
        raise _bad_option(error) from None
    except (ModuleNotFoundError, NoSuchModuleError):
        raise ConfigError(
            "catalog.url names a Postgres database, and the driver for it is not installed.",
            'pip install "longleaf[postgres]"',
        ) from None

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.autocommit = True
        connection.execute(_BEGIN_SESSION)
        connection.execute(_NO_TIME_LIMITS)
        connection.autocommit = False

    return engine
