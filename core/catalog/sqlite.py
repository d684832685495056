"""The catalog in one SQLite file of the data folder: the default, and one machine's.

`writing()` begins with `BEGIN IMMEDIATE`. SQLite runs in WAL mode with `synchronous=FULL`: a commit
has been fsynced when it returns.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError, OperationalError

from longleaf.core.catalog import migrations
from longleaf.core.catalog.database import Database
from longleaf.core.catalog.space import no_space
from longleaf.core.errors import CatalogBroken, CatalogBusy, TooLarge

_DAMAGED = ("malformed", "not a database", "disk I/O error", "decode to UTF-8")
"""What SQLite says of a file that is not as it was written."""

_BUSY_TIMEOUT_MS = 60_000
_TRUNCATE_TIMEOUT_MS = 2_000


class SqliteDatabase(Database):
    """See `Database`."""

    file: Path

    def __init__(self, path: Path) -> None:
        self.file = path
        self.where = str(path)
        self.engine = _sqlite_engine(path)
        try:
            with self._holding_the_lock() as connection:
                migrations.bring_up(connection, self.where)
        except DatabaseError as error:
            self.engine.dispose()
            raise CatalogBroken(
                f"{path} cannot be used as a catalog: {error.orig}.",
                "Restore it from a backup, or choose an empty folder with LONGLEAF_HOME.",
            ) from error
        except BaseException:
            self.engine.dispose()
            raise

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection on one consistent snapshot."""
        with self.engine.connect() as connection, connection.begin():
            try:
                yield connection
            except DatabaseError as error:
                if any(words in str(error.orig) for words in _DAMAGED):
                    raise CatalogBroken(
                        f"{self.file} cannot be read: {str(error.orig)[:200]}.",
                        "longleaf doctor says what is damaged.",
                    ) from error
                raise

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A connection that holds the write lock; commits, durably, when the block ends."""
        with self._holding_the_lock() as connection:
            migrations.require_current(connection, self.where)
            yield connection

    @contextmanager
    def _holding_the_lock(self) -> Iterator[Connection]:
        with self.engine.connect() as connection:
            connection = connection.execution_options(longleaf_write=True)
            try:
                with connection.begin():
                    yield connection
            except OperationalError as error:
                if "disk is full" in str(error.orig):
                    raise no_space(self.file.parent) from error
                if "disk I/O error" in str(error.orig):
                    raise CatalogBroken(
                        f"{self.file} cannot be written: the system reports an I/O error, or a "
                        "limit on the size of files. Nothing of this change was stored.",
                        "Look at the disk (dmesg) and at ulimit -f; longleaf doctor looks at the "
                        "catalog.",
                    ) from error
                if "database is locked" in str(error.orig):
                    raise CatalogBusy(
                        f"{self.file} has been locked by another process for "
                        f"{_BUSY_TIMEOUT_MS // 1000} s.",
                        "Wait for it to finish, or end it, and try again.",
                    ) from error
                raise

    def truncate_log(self) -> bool:
        """Move the write-ahead log into the database and cut it; False when readers keep it."""
        log = self.file.with_name(f"{self.file.name}-wal")
        if not log.exists() or not log.stat().st_size:
            return True
        with self._outside_transactions() as connection:
            connection.exec_driver_sql(f"PRAGMA busy_timeout={_TRUNCATE_TIMEOUT_MS}")
            try:
                [(busy, *_)] = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").all()
            finally:
                connection.exec_driver_sql(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}")
        return not busy

    def vacuum(self) -> None:
        """Write the whole file anew, without what was deleted; writers wait, readers do not."""
        size = self.size_bytes()
        free = shutil.disk_usage(self.file.parent).free
        if free < 2 * size:
            raise TooLarge(
                f"Writing {self.file.name} anew needs {2 * size // 1_000_000:,} MB of "
                f"disk space; {free // 1_000_000:,} MB are free.",
                "Free some space on the data folder's disk.",
            )
        with self._outside_transactions() as connection:
            # Beside the file, where there is room and nobody else reads, and not in /tmp.
            beside = str(self.file.parent).replace("'", "''")
            connection.exec_driver_sql(f"PRAGMA temp_store_directory='{beside}'")
            connection.exec_driver_sql("VACUUM")

    @contextmanager
    def _outside_transactions(self) -> Iterator[Connection]:
        with self.engine.connect() as connection:
            connection.exec_driver_sql("COMMIT")
            try:
                yield connection
            finally:
                connection.exec_driver_sql("BEGIN")

    def size_bytes(self) -> int:
        """The file's length."""
        return self.file.stat().st_size


def _sqlite_engine(path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{path}", pool_size=16, max_overflow=48)

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        # The driver's own transaction control would begin late and without the lock we ask for.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (
            f"busy_timeout={_BUSY_TIMEOUT_MS}",
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "secure_delete=ON",
            "cache_size=-65536",
            "mmap_size=1073741824",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        write = connection.get_execution_options().get("longleaf_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine
