"""Generations: which (chunker, embedder) pair the stored passages and vectors were made with.

One generation is live: processes that start answer from it. A mismatch with the configured pair is
refused, never mixed. Another pair fills a generation beside it (*building*) from stored text; the
swap (`make_live`) is one row, after which the one before is *retiring*: processes still answer from
it until their index has followed the new one, and it is fed for as long as they do. With the last
of them it is *retired*, its vectors and passages go in small transactions (`empty`), and it is
*gone*. Who answers from what stands in `answering`, with a lease that must be renewed: a process
that died holds nothing back for longer than a minute.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, delete, func, insert, or_, select, update

from longleaf.core.catalog import erasure, reads, schema
from longleaf.core.catalog.content_rows import find_content
from longleaf.core.catalog.database import Database, insert_row
from longleaf.core.catalog.records import DocumentWrite, Generation
from longleaf.core.catalog.segments import SegmentRef
from longleaf.core.errors import GenerationMismatch

BUILDING, LIVE, RETIRING, RETIRED, GONE = "building", "live", "retiring", "retired", "gone"
OPEN = (LIVE, RETIRING, BUILDING)
"""States in which every write feeds a generation, in the order that `open_generations` gives."""

ANSWERING_SECONDS = 180.0
"""A process that has not said for so long that it answers is taken for dead: longer than a write
may have to wait for another one. On the same machine it is seen at once that a process has ended.
"""

RENEW_SECONDS = 10.0
_CONTENTS_AT_ONCE = 50

REINDEX = "longleaf reindex"


@dataclass(frozen=True, slots=True)
class OpenGeneration:
    """A generation with its state, and the settings that load what makes its vectors."""

    generation: Generation
    state: str
    settings: Mapping[str, Any]


def live_generation(connection: Connection) -> Generation | None:
    """The generation that searches answer from, None before anything was indexed."""
    row = connection.execute(_all().where(schema.generations.c.state == LIVE)).first()
    return _opened(row).generation if row else None


def open_generations(connection: Connection) -> list[OpenGeneration]:
    """What every write feeds: the live one first, then those that retire, then what is built."""
    rows = connection.execute(_all().where(schema.generations.c.state.in_(OPEN)))
    found = [_opened(row) for row in rows]
    return sorted(found, key=lambda each: (OPEN.index(each.state), each.generation.id))


def _all() -> Select[Any]:
    table, chunkers, embedders = schema.generations, schema.chunkers, schema.embedders
    return (
        select(
            table.c.id,
            table.c.chunker_id,
            table.c.embedder_id,
            chunkers.c.fingerprint.label("chunker_fingerprint"),
            embedders.c.fingerprint.label("embedder_fingerprint"),
            embedders.c.dim,
            embedders.c.token_dim,
            table.c.state,
            table.c.settings,
        )
        .join(chunkers, chunkers.c.id == table.c.chunker_id)
        .join(embedders, embedders.c.id == table.c.embedder_id)
    )


def _opened(row: Row[Any]) -> OpenGeneration:
    *values, state, settings = tuple(row)
    return OpenGeneration(Generation(*values), state, settings)


def create_generation(
    connection: Connection,
    chunker: str,
    embedder: str,
    embedder_name: str,
    dim: int,
    token_dim: int,
    settings: Mapping[str, Any],
    state: str = LIVE,
) -> Generation:
    """Enter a generation, with its chunker and embedder where those are new.

    A building one of the same fingerprints is taken up again; any other that is being built is
    given up.
    """
    chunkers, embedders, table = schema.chunkers, schema.embedders, schema.generations
    chunker_id = connection.execute(
        select(chunkers.c.id).where(chunkers.c.fingerprint == chunker)
    ).scalar()
    if chunker_id is None:
        chunker_id = insert_row(connection, insert(chunkers).values(fingerprint=chunker))
    embedder_id = connection.execute(
        select(embedders.c.id).where(embedders.c.fingerprint == embedder)
    ).scalar()
    if embedder_id is None:
        embedder_id = insert_row(
            connection,
            insert(embedders).values(
                fingerprint=embedder, name=embedder_name, dim=dim, token_dim=token_dim
            ),
        )
    if state == BUILDING:
        same = and_(table.c.chunker_id == chunker_id, table.c.embedder_id == embedder_id)
        building = table.c.state == BUILDING
        connection.execute(update(table).where(building, ~same).values(state=RETIRED))
        begun = connection.execute(select(table.c.id).where(building, same)).scalar()
        if begun is not None:
            connection.execute(
                update(table).where(table.c.id == begun).values(settings=dict(settings))
            )
            return Generation(begun, chunker_id, embedder_id, chunker, embedder, dim, token_dim)
    generation_id = insert_row(
        connection,
        insert(table).values(
            chunker_id=chunker_id,
            embedder_id=embedder_id,
            state=state,
            settings=dict(settings),
            created_at=time.time(),
        ),
    )
    return Generation(generation_id, chunker_id, embedder_id, chunker, embedder, dim, token_dim)


def incomplete(generation: Generation) -> Select[Any]:
    """(id, digest) of the contents of documents that lack passages or vectors of `generation`."""
    contents, chunkings = schema.contents, schema.chunkings
    made = select(chunkings.c.content_id).where(
        chunkings.c.content_id == contents.c.id,
        chunkings.c.chunker_id == generation.chunker_id,
        reads.is_complete(generation),
    )
    # A long content that is still being written belongs to no document yet.
    used = select(schema.revisions.c.id).where(schema.revisions.c.content_id == contents.c.id)
    return select(contents.c.id, contents.c.digest).where(used.exists(), ~made.exists())


def incomplete_contents(connection: Connection, generation: Generation) -> int:
    """How many contents of documents lack passages or vectors of `generation`."""
    missing = incomplete(generation).subquery()
    return int(connection.execute(select(func.count()).select_from(missing)).scalar_one())


def make_live(connection: Connection, generation: Generation) -> None:
    """Have processes that start answer from `generation`; the one before retires."""
    table = schema.generations
    if state_of(connection, generation) == LIVE:
        return
    connection.execute(update(table).where(table.c.state == LIVE).values(state=RETIRING))
    connection.execute(update(table).where(table.c.id == generation.id).values(state=LIVE))


def state_of(connection: Connection, generation: Generation) -> str | None:
    table = schema.generations
    return connection.execute(select(table.c.state).where(table.c.id == generation.id)).scalar()


def is_open(connection: Connection, generation: Generation) -> bool:
    """Whether writes feed `generation`."""
    return state_of(connection, generation) in OPEN


def require_open(connection: Connection, generation: Generation) -> None:
    """Raise GenerationMismatch unless writes feed `generation`.

    Asked inside every write transaction: vectors of a retired generation would be acknowledged
    and never found.
    """
    if not is_open(connection, generation):
        raise _overtaken()


def require_covered(
    connection: Connection, generation: Generation, documents: Sequence[DocumentWrite]
) -> None:
    """Raise GenerationMismatch unless all of `documents` come with vectors of the live generation.

    `generation` is the one that each is made for in any case. What is being built may do without:
    whoever builds it looks again before the swap.
    """
    require_open(connection, generation)
    live = live_generation(connection)
    if live is None or live.id == generation.id:
        return
    for write in documents:
        brought = any(other.id == live.id for other, _ in write.others)
        if not brought and find_content(connection, write.digest, live) is None:
            raise _overtaken()


def _overtaken() -> GenerationMismatch:
    return GenerationMismatch(
        "The documents here have been embedded anew with other models meanwhile.",
        "Run the command again with the settings that the data folder uses now.",
    )


# --- who answers from what ---------------------------------------------------------------------


def note_answering(connection: Connection, process: str, generation_id: int, now: float) -> None:
    """A process answers from a generation, and will say so again within RENEW_SECONDS."""
    table = schema.answering
    values = {"generation_id": generation_id, "seen_at": now}
    known = update(table).where(table.c.process == process).values(**values)
    if not connection.execute(known).rowcount:
        connection.execute(insert(table).values(process=process, **values))


def answering(connection: Connection, generation_id: int, now: float) -> list[str]:
    """The processes that answer from it."""
    table = schema.answering
    query = select(table.c.process).where(
        table.c.generation_id == generation_id, table.c.seen_at > now - ANSWERING_SECONDS
    )
    return sorted(row.process for row in connection.execute(query))


def process_name() -> str:
    """A name for this process that no other one has: host, pid and something random."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


def has_ended(process: str) -> bool:
    """Whether the process of this name ran on this machine and does no more."""
    match process.split(":"):
        case [host, pid, _] if host == socket.gethostname() and pid.isdigit():
            try:
                os.kill(int(pid), 0)
            except ProcessLookupError:
                return True
            except OSError:
                pass
    return False


def retire(connection: Connection, now: float) -> list[int]:
    """Close the retiring generations that nobody answers from any more; returns their ids."""
    table, leases = schema.generations, schema.answering
    connection.execute(delete(leases).where(leases.c.seen_at <= now - ANSWERING_SECONDS))
    named = [row.process for row in connection.execute(select(leases.c.process))]
    ended = [process for process in named if has_ended(process)]
    connection.execute(delete(leases).where(leases.c.process.in_(ended)))
    held = select(leases.c.process).where(leases.c.generation_id == table.c.id)
    query = select(table.c.id).where(table.c.state == RETIRING, ~held.exists())
    ids = [int(row.id) for row in connection.execute(query)]
    if ids:
        connection.execute(update(table).where(table.c.id.in_(ids)).values(state=RETIRED))
    return ids


def empty_batch(connection: Connection, after_content_id: int) -> int | None:
    """Delete what no open generation needs of the next contents; returns the last one's id.

    A content's passages go together with the note that it was cut, and its vectors together: what
    is left of it is whole.
    """
    contents, passages, vectors = schema.contents, schema.passages, schema.vectors
    found = select(contents.c.id).where(contents.c.id > after_content_id).order_by(contents.c.id)
    batch = [row.id for row in connection.execute(found.limit(_CONTENTS_AT_ONCE))]
    if not batch:
        return None
    pairs = {
        (each.generation.chunker_id, each.generation.embedder_id)
        for each in open_generations(connection)
    }
    needed = or_(
        *(and_(passages.c.chunker_id == c, vectors.c.embedder_id == e) for c, e in sorted(pairs))
    )
    unneeded = (
        select(vectors.c.passage_id, vectors.c.embedder_id, schema.segments.c.name)
        .add_columns(vectors.c.segment_offset)
        .select_from(passages)
        .join(vectors, vectors.c.passage_id == passages.c.id)
        .outerjoin(schema.segments, schema.segments.c.id == vectors.c.segment_id)
        .where(passages.c.content_id.in_(batch), ~needed)
    )
    rows = connection.execute(unneeded).all()
    erasure.note_records(
        connection, [SegmentRef(row.name, row.segment_offset) for row in rows if row.name]
    )
    for some in reads.batches(rows, 5000):
        by_embedder: dict[int, list[int]] = {}
        for row in some:
            by_embedder.setdefault(row.embedder_id, []).append(row.passage_id)
        for embedder_id, passage_ids in by_embedder.items():
            connection.execute(
                delete(vectors).where(
                    vectors.c.embedder_id == embedder_id,
                    vectors.c.passage_id.in_(reads.among(passage_ids)),
                )
            )
    chunker_ids = sorted({chunker_id for chunker_id, _ in pairs})
    for table in (schema.passages, schema.chunkings):
        connection.execute(
            delete(table).where(
                table.c.content_id.in_(batch), table.c.chunker_id.not_in(chunker_ids)
            )
        )
    return int(batch[-1])


class Generations:
    """The generations of one catalog. Thread-safe: every method is one transaction, or many."""

    def __init__(
        self,
        database: Database,
        settle: Callable[[], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._settle = settle
        self._clock = clock

    def opened(self) -> list[OpenGeneration]:
        """What every write feeds, the live one first."""
        with self._database.reading() as connection:
            return open_generations(connection)

    def live(self) -> OpenGeneration | None:
        """The generation that processes which start answer from."""
        found = self.opened()
        return found[0] if found and found[0].state == LIVE else None

    def stamp(self) -> str:
        """Changes when another set of generations is open: one small read."""
        table = schema.generations
        query = select(table.c.id, table.c.state).where(table.c.state.in_(OPEN))
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(table.c.id))
            return json.dumps([[row.id, row.state == LIVE] for row in rows])

    def begin(
        self,
        chunker: str,
        embedder: str,
        embedder_name: str,
        dim: int,
        token_dim: int,
        settings: Mapping[str, Any],
    ) -> Generation:
        """A generation in state "building", to be filled and made live; goes on with one begun."""
        with self._database.writing() as connection:
            return create_generation(
                connection,
                chunker,
                embedder,
                embedder_name,
                dim,
                token_dim,
                settings,
                state=BUILDING,
            )

    def keep_settings(self, generation: Generation, settings: Mapping[str, Any]) -> None:
        """Keep with a generation what loads its models."""
        table = schema.generations
        with self._database.writing() as connection:
            of_this = table.c.id == generation.id
            connection.execute(update(table).where(of_this).values(settings=dict(settings)))

    def give_up_building(self) -> None:
        """Nobody goes on with what is being built: its vectors are for `empty`."""
        table = schema.generations
        with self._database.writing() as connection:
            building = table.c.state == BUILDING
            connection.execute(update(table).where(building).values(state=RETIRED))

    def missing(self, generation: Generation, after_id: int, limit: int) -> list[tuple[int, str]]:
        """(content id, digest) of contents that lack its vectors, by id, from behind `after_id`."""
        table = schema.contents
        query = incomplete(generation).where(table.c.id > after_id).order_by(table.c.id)
        with self._database.reading() as connection:
            return [(row.id, row.digest) for row in connection.execute(query.limit(limit))]

    def missing_count(self, generation: Generation) -> int:
        with self._database.reading() as connection:
            return incomplete_contents(connection, generation)

    def make_live(self, generation: Generation) -> bool:
        """Swap. False, and nothing changes, while some content lacks this generation's vectors
        (written meanwhile by another process): make those and ask again."""
        with self._database.writing() as connection:
            require_open(connection, generation)
            if incomplete_contents(connection, generation):
                return False
            make_live(connection, generation)
        return True

    def answer_from(self, process: str, generation: Generation) -> bool:
        """`process` answers from `generation` from now on, or still does; False when it is too
        late for that, because its vectors are going."""
        with self._database.writing() as connection:
            if not is_open(connection, generation):
                return False
            note_answering(connection, process, generation.id, self._clock())
        return True

    def answer_no_more(self, process: str) -> None:
        table = schema.answering
        with self._database.writing() as connection:
            connection.execute(delete(table).where(table.c.process == process))

    def answering(self, generation: Generation) -> list[str]:
        """The processes that answer from it."""
        with self._database.reading() as connection:
            return answering(connection, generation.id, self._clock())

    def retire(self) -> list[int]:
        """Close the retiring generations that nobody answers from any more; returns their ids."""
        table = schema.generations
        with self._database.reading() as connection:
            retiring = select(table.c.id).where(table.c.state == RETIRING).limit(1)
            if connection.execute(retiring).first() is None:
                return []
        with self._database.writing() as connection:
            return retire(connection, self._clock())

    def empty(self, should_stop: Callable[[], bool] = lambda: False) -> bool:
        """Delete what retired generations left, in small transactions; True when all is gone.

        Killed anywhere, or stopped, it is done again from the start.
        """
        table = schema.generations
        with self._database.reading() as connection:
            retired = select(table.c.id).where(table.c.state == RETIRED)
            ids = [row.id for row in connection.execute(retired)]
        if not ids:
            return True
        last: int | None = 0
        while last is not None:
            if should_stop():
                return False
            with self._database.writing() as connection:
                last = empty_batch(connection, last)
            self._settle()
        with self._database.writing() as connection:
            connection.execute(update(table).where(table.c.id.in_(ids)).values(state=GONE))
        return True
