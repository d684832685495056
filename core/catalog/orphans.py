"""What a data folder holds that nothing refers to any more, and taking it away.

A crash between writing bulk and referring to it leaves originals, segments and temporary files; an
interrupted run may leave a long text that has no document yet. They cost space and harm nothing.
Only what is older than an hour counts, because a running indexer writes first and refers later; it
is asked again, under the write lock, before anything goes. It never touches what a row names.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, delete, select

from longleaf.core.catalog import content_rows, erasure, pages, reads, schema
from longleaf.core.catalog.catalog import Catalog
from longleaf.core.catalog.hold import must_erase
from longleaf.core.catalog.reader import CatalogReader

OLD_SECONDS = 3600.0
_ORIGINALS_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Orphans:
    """What nothing refers to: names of originals, segments, temporary files; ids of contents."""

    originals: tuple[str, ...]
    segments: tuple[str, ...]
    temporary: tuple[Path, ...]
    contents: tuple[int, ...]
    bytes: int

    @property
    def count(self) -> int:
        return len(self.originals) + len(self.segments) + len(self.temporary) + len(self.contents)


def find(catalog: CatalogReader, *, now: float | None = None) -> Orphans:
    """Everything of `catalog`'s folder that nothing refers to, an hour old at least."""
    before = (time.time() if now is None else now) - OLD_SECONDS
    stored = {blob.name: blob for blob in catalog.blobs.stored() if blob.written_at < before}
    with catalog._database.reading() as connection:
        originals = tuple(erasure.unused_originals(connection, stored))
        segments = _unused_segments(connection, catalog, before)
        contents = _unused_contents(connection)
    temporary = tuple(path for path in catalog.blobs.unfinished() if _is_old(path, before))
    files = [*(catalog.segment_folder / name for name in segments), *temporary]
    return Orphans(
        originals,
        segments,
        temporary,
        contents,
        sum(path.stat().st_size for path in files)
        + sum(stored[name].size_bytes for name in originals),
    )


def remove(catalog: Catalog, found: Orphans) -> Orphans:
    """Take away those of `found` that still nothing refers to; returns what went.

    Raises Conflict while a backup takes what it has listed.
    """
    with must_erase(catalog.folder):
        return _remove(catalog, found)


def _remove(catalog: Catalog, found: Orphans) -> Orphans:
    freed = 0
    segments = []
    with catalog._database.writing() as connection:
        contents = _unused_contents(connection)
        content_rows.drop_unused_contents(connection, contents)
        pages.forget_unused(connection)
        for name in found.segments:
            if _segment_is_used(connection, name):
                continue
            freed += _remove_segment(catalog.segment_folder / name)
            table = schema.segments
            connection.execute(delete(table).where(table.c.name == name))
            segments.append(name)
    originals = []
    sizes = {blob.name: blob.size_bytes for blob in catalog.blobs.stored()}
    # A few at a time: each may be a request to an object store while writers wait.
    for batch in reads.batches(found.originals, _ORIGINALS_AT_ONCE):
        with catalog._database.writing() as connection:
            for name in erasure.unused_originals(connection, batch):
                freed += sizes.get(name, 0)
                catalog.blobs.delete(name)
                catalog.page_images.forget(name)
                originals.append(name)
            pages.forget(connection, originals)
    for path in found.temporary:
        freed += path.stat().st_size if path.exists() else 0
        path.unlink(missing_ok=True)
    catalog._database.truncate_log()
    return Orphans(tuple(originals), tuple(segments), found.temporary, contents, freed)


def _unused_segments(
    connection: Connection, catalog: CatalogReader, before: float
) -> tuple[str, ...]:
    return tuple(
        path.name
        for path in sorted((catalog.segment_folder).glob("*.seg"))
        if _is_old(path, before) and not _segment_is_used(connection, path.name)
    )


def _segment_is_used(connection: Connection, name: str) -> bool:
    table = schema.segments
    segment_id = connection.execute(select(table.c.id).where(table.c.name == name)).scalar()
    if segment_id is None:
        return False
    used = select(schema.vectors.c.passage_id).where(schema.vectors.c.segment_id == segment_id)
    return connection.execute(used.limit(1)).first() is not None


def _remove_segment(path: Path) -> int:
    """Delete a segment unless a writer has it open; returns its size."""
    try:
        # Open for writing: over NFS nobody else may lock.
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return 0
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        size = os.fstat(descriptor).st_size
        path.unlink()
        return size
    except OSError:
        return 0
    finally:
        os.close(descriptor)


def _unused_contents(connection: Connection) -> tuple[int, ...]:
    """Contents without a revision, unless a job may still be writing one of them in slices."""
    open_jobs = select(schema.jobs.c.id).where(schema.jobs.c.state.in_(("queued", "running")))
    if connection.execute(open_jobs.limit(1)).first() is not None:
        return ()
    table = schema.contents
    used = select(schema.revisions.c.id).where(schema.revisions.c.content_id == table.c.id)
    query = select(table.c.id).where(~used.exists()).order_by(table.c.id)
    return tuple(row.id for row in connection.execute(query))


def _is_old(path: Path, before: float) -> bool:
    try:
        return path.stat().st_mtime < before
    except FileNotFoundError:
        return False


def leftovers(folder: Path, patterns: tuple[str, ...], now: float | None = None) -> Iterator[Path]:
    """Entries of `folder` that match one of `patterns` and are an hour old."""
    before = (time.time() if now is None else now) - OLD_SECONDS
    for pattern in patterns:
        yield from (path for path in sorted(folder.glob(pattern)) if _is_old(path, before))
