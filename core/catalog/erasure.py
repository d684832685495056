"""What a deletion leaves to be done after it is durable, and what it takes to leave no trace.

The deleting transaction writes down which token vectors are to be overwritten and which originals
to be unlinked (`note_*`); `settle` does that at once, and again at the next start after a crash.
SQLite overwrites what it deletes (`secure_delete`), but when its pages split or merge it leaves
copies of moved rows behind, which it never finds again: only `scrub`, which writes the whole file
anew, is sure to leave none. It knows neither documents nor indexes. Trade-off: writers wait while
the file is written (160 MB: 2-6 s), so deletions gather for some minutes first.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import structlog
from sqlalchemy import Connection, delete, insert, select, update

from longleaf.core.catalog import jobs, pages, reads, schema
from longleaf.core.catalog.blobs import Blobs
from longleaf.core.catalog.database import Database
from longleaf.core.catalog.hold import erasing, must_erase
from longleaf.core.catalog.migrations import meta_value
from longleaf.core.catalog.page_images import PageImages
from longleaf.core.catalog.segments import SegmentRef
from longleaf.core.catalog.wiping import erase_between, erase_records, lock_segment
from longleaf.core.errors import TooLarge

_UNSCRUBBED = "unscrubbed_since"
_RECORDS_AT_ONCE = 2000
_ORIGINALS_AT_ONCE = 100
"""Each may be a request to an object store while writers wait."""

_log = structlog.get_logger(__name__)


def note_records(connection: Connection, refs: Iterable[SegmentRef]) -> None:
    """These records are not referred to (any more): overwrite them."""
    rows = [{"segment": ref.segment, "segment_offset": ref.offset} for ref in refs]
    if rows:
        connection.execute(insert(schema.erasures), rows)


def note_given_up(connection: Connection, refs: Sequence[SegmentRef]) -> None:
    """Overwrite those of these records that nothing refers to. Under the write lock it is certain
    whether a commit that failed, as its writer was told, was made."""
    by_segment: dict[str, set[int]] = {}
    for ref in refs:
        by_segment.setdefault(ref.segment, set()).add(ref.offset)
    table, names = schema.vectors, schema.segments
    for segment, offsets in by_segment.items():
        of_it = (
            select(table.c.segment_offset)
            .join(names, names.c.id == table.c.segment_id)
            .where(names.c.name == segment)
        )
        for batch in reads.batches(sorted(offsets)):
            asked = of_it.where(table.c.segment_offset.in_(reads.among(batch)))
            used = set(connection.execute(asked).scalars())
            note_records(connection, [SegmentRef(segment, n) for n in batch if n not in used])


def note_content(connection: Connection, content_id: int) -> None:
    """A content is about to be deleted: overwrite its token vectors, of every generation."""
    table = schema.vectors
    found = (
        select(schema.segments.c.name, table.c.segment_offset)
        .select_from(schema.passages)
        .join(table, table.c.passage_id == schema.passages.c.id)
        .join(schema.segments, schema.segments.c.id == table.c.segment_id)
        .where(schema.passages.c.content_id == content_id)
    )
    connection.execute(insert(schema.erasures).from_select(["segment", "segment_offset"], found))
    note_deletion(connection)


def note_originals(connection: Connection, names: Iterable[str]) -> None:
    """Documents have let go of these originals: unlink those that nothing else refers to."""
    table = schema.let_go
    wanted = sorted(set(names))
    if not wanted:
        return
    known = {row.name for row in connection.execute(select(table.c.name))}
    if new := [{"name": name} for name in wanted if name not in known]:
        connection.execute(insert(table), new)


def unused_originals(connection: Connection, names: Iterable[str]) -> list[str]:
    """Those of `names` that no revision refers to any more, and no upload that is still to come."""
    waiting = jobs.active_originals(connection)
    used = schema.revisions.c.original
    return [
        name
        for name in sorted(names)
        if name not in waiting
        and connection.execute(select(used).where(used == name).limit(1)).first() is None
    ]


def note_deletion(connection: Connection) -> None:
    """Rows were deleted that say what is in a document."""
    meta = schema.meta
    stored = _unscrubbed(connection)
    if stored is None:
        connection.execute(insert(meta).values(key=_UNSCRUBBED, value=f"{time.time()!r} 1"))
        return
    since, count = stored.split()
    value = f"{since} {int(count) + 1}"
    connection.execute(update(meta).where(meta.c.key == _UNSCRUBBED).values(value=value))


def unscrubbed_since(connection: Connection) -> float | None:
    """Since when copies of deleted rows may lie in the file; None when there can be none."""
    stored = _unscrubbed(connection)
    return None if stored is None else float(stored.split()[0])


def _unscrubbed(connection: Connection) -> str | None:
    """The time of the first deletion since the last scrub, and how many there were."""
    return meta_value(connection, _UNSCRUBBED)


class Erasure:
    """Does what deletions wrote down. Thread-safe; several processes may do it at once."""

    def __init__(
        self, database: Database, blobs: Blobs, home: Path, segments: Path, drawn: PageImages
    ) -> None:
        self._database = database
        self._drawn = drawn
        self._blobs = blobs
        self._home = home
        self._segments = segments
        self._log_may_tell = True
        """Whether SQLite's log may hold what was deleted; a crash may have left it so."""

    def settle(self) -> None:
        """Finish what deletions began. Without any it costs two small reads.

        While a backup holds erasing off, files keep what was deleted until the next call.
        """
        with self._database.reading() as connection:
            originals = connection.execute(select(schema.let_go.c.name).limit(1)).first()
            records = connection.execute(select(schema.erasures.c.id).limit(1)).first()
            deleted = unscrubbed_since(connection) is not None
        if originals is not None or records is not None:
            with erasing(self._home) as may:
                while may and self._unlink():
                    pass
                while may and self._overwrite():
                    pass
        if originals is not None or records is not None or (deleted and self._log_may_tell):
            # What was deleted should not stay readable in SQLite's log either.
            self._log_may_tell = not self._database.truncate_log()

    def forget_drawn(self) -> None:
        """Remove this machine's pictures of originals that another one may have let go of."""
        drawn = self._drawn.originals()
        if drawn:
            with self._database.reading() as connection:
                unused = unused_originals(connection, drawn)
            for name in unused:
                self._drawn.forget(name)

    def unscrubbed_since(self) -> float | None:
        """Since when copies of deleted rows may lie in the file; None when there can be none."""
        with self._database.reading() as connection:
            return unscrubbed_since(connection)

    def scrub(self) -> float:
        """Leave no copy of anything deleted in the SQLite file, nor between token vectors.

        On Postgres deleted rows' room is given to new ones, and nobody promises more of their
        bytes. Writers wait for SQLite meanwhile; returns for how many seconds. Raises TooLarge when
        the disk has no room for a second copy of the file, or readers keep the log from being cut;
        Conflict while a backup holds erasing off: try again later.
        """
        with must_erase(self._home):
            return self._scrub()

    def _scrub(self) -> float:
        self.settle()
        self.forget_drawn()
        with self._database.reading() as connection:
            before = _unscrubbed(connection)
        started = time.monotonic()
        self._database.vacuum()
        seconds = time.monotonic() - started
        for path in sorted(self._segments.glob("*.seg")):
            self._wipe_between(path.name)
        if not self._database.truncate_log():
            raise TooLarge(
                "SQLite's log cannot be cut: a reader has had the catalog open all the while.",
                "Try again when the export or backup under way is done.",
            )
        with self._database.writing() as connection:
            # A deletion that came in meanwhile may have left something: it is for the next time.
            meta = schema.meta
            mine = (meta.c.key == _UNSCRUBBED) & (meta.c.value == (before or ""))
            connection.execute(delete(meta).where(mine))
        _log.info("catalog.scrubbed", bytes=self._database.size_bytes(), seconds=round(seconds, 2))
        return seconds

    def wipe_taken(self, name: str) -> None:
        """A writer has just taken up this segment: wipe what a crash may have left in it."""
        erase_between(self._segments, name, self._offsets(name))

    def _wipe_between(self, name: str) -> None:
        lock = lock_segment(self._segments, name)
        if lock is None:  # its writer notes what it gives up, and wiped it when it took it
            return
        try:
            self.wipe_taken(name)
        finally:
            os.close(lock)

    def _offsets(self, name: str) -> Sequence[int]:
        """Where records are that something refers to, or that `settle` is to overwrite."""
        table, noted = schema.vectors, schema.erasures
        query = (
            select(table.c.segment_offset)
            .join(schema.segments, schema.segments.c.id == table.c.segment_id)
            .where(schema.segments.c.name == name)
        )
        with self._database.reading() as connection:
            used = connection.execute(query).scalars().all()
            still = select(noted.c.segment_offset).where(noted.c.segment == name)
            return [*used, *connection.execute(still).scalars()]

    def _unlink(self) -> bool:
        """Remove some originals; False when there are none.

        Under the write lock and asked anew: another process may have taken one up.
        """
        table = schema.let_go
        some = select(table.c.name).order_by(table.c.name).limit(_ORIGINALS_AT_ONCE)
        with self._database.reading() as connection:
            if connection.execute(some).first() is None:
                return False
        with self._database.writing() as connection:
            names = [row.name for row in connection.execute(some)]
            unused = unused_originals(connection, names)
            pages.forget(connection, unused)
            for name in unused:
                self._blobs.delete(name)
                self._drawn.forget(name)
            connection.execute(delete(table).where(table.c.name.in_(names)))
        return True

    def _overwrite(self) -> bool:
        """Overwrite some records; False when there are none."""
        table = schema.erasures
        query = select(table).order_by(table.c.id).limit(_RECORDS_AT_ONCE)
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        if not rows:
            return False
        erase_records(self._segments, [SegmentRef(row.segment, row.segment_offset) for row in rows])
        with self._database.writing() as connection:
            last = rows[-1].id
            connection.execute(delete(table).where(table.c.id <= last))
        return True
