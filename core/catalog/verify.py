"""Is what the data folder holds still what was written? Read and compared, nothing changed.

Each check looks at one kind of thing and returns what it saw: the SQLite file, how rows refer to
each other, texts by their digests, rows by their checksums, originals by their names, token
vectors by their CRCs. Everything is counted; what costs reading it (texts, rows, originals, token
vectors) is sampled by default and read whole with `deep`. It knows no index: indexes follow from
the catalog and are compared by `api/doctor`. Trade-off: a sample of 2,000 takes a second and
finds a folder that went bad, not a single flipped bit; that takes `deep` (100,000 passages: about
a minute on two cores).
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import (
    JSON,
    Column,
    Connection,
    Integer,
    Table,
    Text,
    cast,
    func,
    select,
    text,
)
from sqlalchemy.exc import DatabaseError

from longleaf.core import ids
from longleaf.core.catalog import checksums, feed, generations, jobs, reads, schema
from longleaf.core.catalog.reader import CatalogReader
from longleaf.core.catalog.records import Generation, stored_content_digest
from longleaf.core.catalog.segments import SegmentReader, SegmentRef
from longleaf.core.errors import CatalogBroken, NotFound
from longleaf.core.layout import stored_digest

SAMPLE = 2000
"""Things of a kind that are read without `deep`; of originals, which are big, a tenth of it."""

_SHOWN = 20
_BATCH = 500


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is not as it was written: where, and what is wrong with it."""

    where: str
    detail: str


@dataclass(frozen=True, slots=True)
class Check:
    """What one check saw: `checked` of `total` things, `wrong` of them bad, the first few named."""

    what: str
    total: int
    checked: int
    wrong: int = 0
    problems: tuple[Problem, ...] = ()

    @property
    def sampled(self) -> bool:
        return self.checked < self.total


class _Findings:
    """Counts all problems and keeps the first ones."""

    def __init__(self) -> None:
        self.wrong = 0
        self.kept: list[Problem] = []

    def add(self, where: str, detail: str) -> None:
        self.wrong += 1
        if len(self.kept) < _SHOWN:
            self.kept.append(Problem(where, detail))


def verify_file(path: Path, *, deep: bool) -> Check:
    """SQLite's own check of the file, opened for reading only, so that it may be damaged.

    `deep` also compares every index with its table.
    """
    found = _Findings()
    pragma = "integrity_check" if deep else "quick_check"
    try:
        with contextlib.closing(_read_only(path)) as connection:
            pages = int(connection.execute("PRAGMA page_count").fetchone()[0])
            for (line,) in connection.execute(f"PRAGMA {pragma}({_SHOWN})"):
                if line != "ok":
                    found.add(path.name, str(line))
            for table, row, parent, _ in connection.execute("PRAGMA foreign_key_check"):
                found.add(f"{table} row {row}", f"refers to a row of {parent} that is not there")
    except sqlite3.DatabaseError as error:
        found.add(path.name, str(error))
        pages = max(1, path.stat().st_size // 4096)
    what = f"pages of {path.name} ({pragma.replace('_', ' ')})"
    return Check(what, pages, pages, found.wrong, tuple(found.kept))


def _read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=60.0)


class Verifier:
    """Checks one catalog on one snapshot; see the module. `offset` moves the sample.

    `damaged_contents`: contents whose passages or vectors are not what was written (so far).
    """

    def __init__(
        self,
        catalog: CatalogReader,
        *,
        deep: bool,
        offset: int = 0,
        progress: Callable[[str, int, int], None] = lambda *_: None,
    ) -> None:
        self._catalog = catalog
        self._deep = deep
        self._offset = offset
        self._progress = progress
        self.damaged_contents: set[int] = set()

    def checks(self) -> Iterator[Check]:
        """All checks, each as soon as it is done."""
        with self._catalog._database.reading() as connection:
            for what, check in (
                ("documents: rows that refer to each other", self._references),
                ("documents: ids and keys", self._identities),
                ("texts against their digests", self._texts),
                ("metadata and groups against their checksums", self._revisions),
                ("passages against their checksums", self._passages),
                ("dense vectors against their checksums", self._vectors),
                ("originals against their hashes", self._originals),
                ("token vectors against their checksums", self._token_vectors),
            ):
                found = _Findings()
                total = checked = 0
                try:
                    # Postgres would let nothing more be read after the first error.
                    with connection.begin_nested():
                        total, checked = check(connection, found)
                except (DatabaseError, ValueError, TypeError) as error:
                    found.add("catalog", f"cannot be read to the end: {error}")
                yield Check(what, total, checked, found.wrong, tuple(found.kept))

    def _step(self, total: int, sample: int) -> tuple[int, int]:
        """(every how many-th is looked at, the remainder of its id)."""
        step = 1 if self._deep else max(1, -(-total // sample))
        return step, self._offset % step

    # --- how rows refer to each other ----------------------------------------------------------

    def _references(self, connection: Connection, found: _Findings) -> tuple[int, int]:
        for where, detail, query in _REFERENCES:
            for row in connection.execute(text(query)):
                found.add(f"{where} {row[0]}", detail)
        head, horizon = feed.head_seq(connection), feed.log_horizon(connection)
        newest = connection.execute(select(func.max(schema.changes.c.seq))).scalar()
        if horizon > head or (newest or 0) > head:
            found.add("change log", f"head {head}, horizon {horizon}, newest row {newest}")
        for row in connection.execute(select(schema.followers)):
            if row.seq > head:
                found.add(f"follower {row.name}", f"is at {row.seq}, the log ends at {head}")
        live = generations.live_generation(connection)
        if live is not None:
            for row in connection.execute(text(_WITHOUT_VECTORS), _ids_of(live)):
                found.add(
                    f"document {row.public_id}",
                    f"has {row.have} of {row.passage_count} passages with vectors",
                )
                self.damaged_contents.add(row.content_id)
        total = _count(connection, schema.documents)
        return total, total

    def _identities(self, connection: Connection, found: _Findings) -> tuple[int, int]:
        table = schema.documents
        total = 0
        for row in connection.execute(select(table.c.public_id, table.c.collection, table.c.key)):
            total += 1
            if ids.document_id(row.collection, row.key) != row.public_id:
                found.add(f"document {row.public_id}", f"its id is not that of key {row.key!r}")
        return total, total

    # --- texts and rows -------------------------------------------------------------------------

    def _texts(self, connection: Connection, found: _Findings) -> tuple[int, int]:
        table = schema.contents
        total = _count(connection, table)
        step, rest = self._step(total, SAMPLE)
        wanted = [
            row.id
            for row in connection.execute(select(table.c.id).where(table.c.id % step == rest))
        ]
        for done, content_id in enumerate(wanted):
            if done % _BATCH == 0:
                self._progress("Texts", done, len(wanted))
            try:
                same = _is_as_written(connection, content_id)
            except (DatabaseError, ValueError, TypeError) as error:
                found.add(f"content {content_id}", f"cannot be read: {error}")
                continue
            if not same:
                who = _documents_of(connection, content_id)
                found.add(f"content {content_id}", f"is not what its digest says ({who})")
        return total, len(wanted)

    def _revisions(self, connection: Connection, found: _Findings) -> tuple[int, int]:
        return self._rows(connection, found, schema.revisions, checksums.of_revision, set())

    def _passages(self, connection: Connection, found: _Findings) -> tuple[int, int]:
        bad: set[int] = set()
        counts = self._rows(connection, found, schema.passages, checksums.of_passage, bad)
        self._note_damage(connection, bad)
        return counts

    def _vectors(self, connection: Connection, found: _Findings) -> tuple[int, int]:
        bad: set[int] = set()
        counts = self._rows(connection, found, schema.vectors, checksums.of_vector, bad)
        self._note_damage(connection, bad)
        return counts

    def _rows(
        self,
        connection: Connection,
        found: _Findings,
        table: Table,
        checksum_of: Callable[[Mapping[str, Any]], int],
        bad: set[int],
    ) -> tuple[int, int]:
        """Compare rows of `table` with their checksums; ids of wrong ones are added to `bad`."""
        total = _count(connection, table, "checksum IS NOT NULL")
        step, rest = self._step(total, SAMPLE)
        key = next(iter(table.primary_key))
        wanted = select(key).where(table.c.checksum.is_not(None), key % step == rest)
        row_ids = sorted({int(row[0]) for row in connection.execute(wanted)})
        checked = 0
        for batch in reads.batches(row_ids, _BATCH):
            self._progress(f"Rows of {table.name}", checked, len(row_ids))
            for row_id, row, problem in _each(connection, table, key, batch):
                checked += 1
                if row is not None and checksum_of(row) == row["checksum"]:
                    continue
                bad.add(row_id)
                found.add(f"{table.name} {row_id}", problem or "is not what its checksum says")
        return total, checked

    def _note_damage(self, connection: Connection, passage_ids: set[int]) -> None:
        table = schema.passages
        for batch in reads.batches(sorted(passage_ids)):
            query = select(table.c.content_id).where(table.c.id.in_(reads.among(batch)))
            self.damaged_contents.update(row.content_id for row in connection.execute(query))

    # --- what lies beside the catalog ----------------------------------------------------------

    def _originals(self, connection: Connection, found: _Findings) -> tuple[int, int]:
        table = schema.revisions
        query = select(table.c.original).where(table.c.original.is_not(None)).distinct()
        names = sorted(
            {row.original for row in connection.execute(query)} | jobs.active_originals(connection)
        )
        step, rest = self._step(len(names), SAMPLE // 10)
        checked = 0
        for number, name in enumerate(names):
            try:
                if number % step == rest:
                    checked += 1
                    self._progress("Originals", number, len(names))
                    self._catalog.blobs.get(name)
                elif not self._catalog.blobs.exists(name):
                    found.add(f"original {name}", "is not there")
            except (NotFound, CatalogBroken, OSError) as error:
                found.add(f"original {name}", str(error))
        return len(names), checked

    def _token_vectors(self, connection: Connection, found: _Findings) -> tuple[int, int]:
        table, names = schema.vectors, schema.segments
        total = _count(connection, table, "segment_id IS NOT NULL")
        step, rest = self._step(total, SAMPLE)
        dims = {
            row.id: row.token_dim
            for row in connection.execute(
                select(schema.embedders.c.id, schema.embedders.c.token_dim)
            )
        }
        query = (
            select(table.c.passage_id, table.c.embedder_id, names.c.name, table.c.segment_offset)
            .outerjoin(names, names.c.id == table.c.segment_id)
            .where(table.c.segment_id.is_not(None), table.c.passage_id % step == rest)
            .order_by(table.c.segment_id, table.c.segment_offset)
        )
        # A reader of its own: the catalog's remembers which records it has checked before.
        reader = SegmentReader(self._catalog.segment_folder)
        bad: set[int] = set()
        erased: list[int] = []
        checked = 0
        for row in connection.execute(query, execution_options={"yield_per": _BATCH}):
            if checked % (20 * _BATCH) == 0:
                self._progress("Token vectors", checked, total // step)
            checked += 1
            where = f"token vectors of passage {row.passage_id}"
            before = found.wrong
            try:
                ref = SegmentRef(row.name or "", row.segment_offset)
                codes, _, prefixes = reader.gather([ref])
                if not len(codes):
                    erased.append(row.passage_id)
                elif codes.shape[1] != dims.get(row.embedder_id):
                    found.add(where, f"have dimension {codes.shape[1]}")
                elif int(prefixes[0]) > len(codes):
                    found.add(where, "name more title tokens than there are tokens")
            except (CatalogBroken, OSError, ValueError) as error:
                found.add(where, str(error))
            if found.wrong > before:
                bad.add(row.passage_id)
        for passage_id in self._still_with_token_vectors(erased):
            found.add(f"token vectors of passage {passage_id}", "are overwritten")
            bad.add(passage_id)
        self._note_damage(connection, bad)
        return total, checked

    def _still_with_token_vectors(self, passage_ids: Sequence[int]) -> list[int]:
        """Those of the passages whose token vectors have not been deleted since the snapshot."""
        table = schema.vectors
        still = select(table.c.passage_id).where(table.c.segment_id.is_not(None)).distinct()
        found: list[int] = []
        for batch in reads.batches(passage_ids):
            with self._catalog._database.reading() as now:
                rows = now.execute(still.where(table.c.passage_id.in_(reads.among(batch))))
                found += sorted(rows.scalars())
        return found


# One row for each thing that refers to what is not there, or is not what the others say of it.
_REFERENCES: Sequence[tuple[str, str, str]] = (
    (
        "document",
        "its current revision is not there",
        "SELECT d.public_id FROM documents d LEFT JOIN revisions r"
        " ON r.id = d.revision_id AND r.document_id = d.id WHERE r.id IS NULL",
    ),
    (
        "document",
        "its current revision is marked as replaced",
        "SELECT d.public_id FROM documents d JOIN revisions r ON r.id = d.revision_id"
        " WHERE r.superseded_seq IS NOT NULL",
    ),
    (
        "revision",
        "is neither current nor marked as replaced",
        "SELECT r.id FROM revisions r JOIN documents d ON d.id = r.document_id"
        " WHERE r.superseded_seq IS NULL AND d.revision_id <> r.id",
    ),
    (
        "content",
        "has not as many passages as it should",
        "SELECT k.content_id FROM chunkings k LEFT JOIN passages p"
        " ON p.content_id = k.content_id AND p.chunker_id = k.chunker_id"
        " GROUP BY k.content_id, k.chunker_id"
        " HAVING COUNT(p.id) <> k.passage_count"
        " OR COALESCE(SUM(p.token_count), 0) <> k.token_count",
    ),
    (
        "passage",
        "does not lie within its text",
        "SELECT p.id FROM passages p JOIN contents c ON c.id = p.content_id"
        " WHERE NOT (0 <= p.start_char AND p.start_char < p.end_char"
        " AND p.end_char <= c.text_chars)",
    ),
)

_WITHOUT_VECTORS = """
    SELECT d.public_id, r.content_id, k.passage_count, COUNT(v.passage_id) AS have
    FROM documents d
    JOIN revisions r ON r.id = d.revision_id
    LEFT JOIN chunkings k ON k.content_id = r.content_id AND k.chunker_id = :chunker_id
    LEFT JOIN passages p ON p.content_id = k.content_id AND p.chunker_id = k.chunker_id
    LEFT JOIN vectors v ON v.passage_id = p.id AND v.embedder_id = :embedder_id
    GROUP BY d.id, r.content_id, k.passage_count
    HAVING k.passage_count IS NULL OR k.passage_count <> COUNT(v.passage_id)
"""


def _each(
    connection: Connection, table: Table, key: Column[Any], row_ids: Sequence[int]
) -> Iterator[tuple[int, dict[str, Any] | None, str]]:
    """(id, row, what is wrong with it) of rows that may hold anything.

    JSON is taken as text first: one row that is none must not end the reading of the others.
    """
    columns = [cast(c, Text) if isinstance(c.type, JSON) else c for c in table.columns]
    query = select(*columns).where(key.in_(reads.among(row_ids)))
    try:
        rows = connection.execute(query).all()
    except (DatabaseError, ValueError) as error:
        if len(row_ids) == 1:
            yield row_ids[0], None, f"cannot be read: {error}"
            return
        for row_id in row_ids:
            yield from _each(connection, table, key, [row_id])
        return
    names = [column.name for column in table.columns]
    at = names.index(key.name)
    for values in rows:
        try:
            yield values[at], _parsed(table, dict(zip(names, values, strict=True))), ""
        except (ValueError, TypeError) as error:
            yield values[at], None, f"cannot be read: {error}"


def _parsed(table: Table, row: dict[str, Any]) -> dict[str, Any]:
    for column in table.columns:
        if isinstance(column.type, JSON):
            row[column.name] = json.loads(row[column.name])
        elif isinstance(column.type, Integer) and not isinstance(row[column.name], int | None):
            raise ValueError(f"{column.name} is no number")
    return row


def _ids_of(generation: Generation) -> dict[str, int]:
    return {"chunker_id": generation.chunker_id, "embedder_id": generation.embedder_id}


def _count(connection: Connection, table: Table, where: str = "1 = 1") -> int:
    query = select(func.count()).select_from(table).where(text(where))
    return int(connection.execute(query).scalar_one())


def _is_as_written(connection: Connection, content_id: int) -> bool:
    """Whether `records.content_digest` of what is stored is the digest that is stored."""
    contents, layouts = schema.contents, schema.layouts
    row = connection.execute(select(contents).where(contents.c.id == content_id)).one()
    stored = select(layouts.c.data).where(layouts.c.content_id == content_id)
    layout = connection.execute(stored).scalar()
    whole = reads.content_texts(connection, [content_id])[content_id]
    digest = stored_content_digest(
        row.title,
        row.pages,
        row.sections,
        row.regions,
        None if layout is None else stored_digest(layout),
        whole,
    )
    return (row.text_chars, row.digest) == (len(whole), digest)


def _documents_of(connection: Connection, content_id: int) -> str:
    rows: Sequence[Any] = connection.execute(
        select(schema.documents.c.public_id)
        .join(schema.revisions, schema.revisions.c.document_id == schema.documents.c.id)
        .where(schema.revisions.c.content_id == content_id)
        .limit(3)
    ).all()
    return ", ".join(row.public_id for row in rows) or "of no document"
