"""Generations: which (chunker, embedder) pair the stored passages and vectors were made with.

One generation is live: searches answer from it. A mismatch with the configured pair is refused,
never mixed; the swap is one row.
"""

from __future__ import annotations

import time

from sqlalchemy import Connection, delete, func, insert, select, update

from longleaf.core.catalog import reads, schema
from longleaf.core.catalog.database import insert_row
from longleaf.core.catalog.records import Generation
from longleaf.core.errors import GenerationMismatch


def live_generation(connection: Connection) -> Generation | None:
    """The generation that searches answer from, None before anything was indexed."""
    table, chunkers, embedders = schema.generations, schema.chunkers, schema.embedders
    row = connection.execute(
        select(
            table.c.id,
            table.c.chunker_id,
            table.c.embedder_id,
            chunkers.c.fingerprint.label("chunker_fingerprint"),
            embedders.c.fingerprint.label("embedder_fingerprint"),
            embedders.c.dim,
            embedders.c.token_dim,
        )
        .join(chunkers, chunkers.c.id == table.c.chunker_id)
        .join(embedders, embedders.c.id == table.c.embedder_id)
        .where(table.c.state == "live")
    ).first()
    return Generation(**row._mapping) if row else None


def create_generation(
    connection: Connection,
    chunker: str,
    embedder: str,
    embedder_name: str,
    dim: int,
    token_dim: int,
    state: str = "live",
) -> Generation:
    """Enter a generation, with its chunker and embedder where those are new.

    A building one of the same fingerprints is taken up again.
    """
    chunkers, embedders = schema.chunkers, schema.embedders
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
    if state == "building":
        table = schema.generations
        begun = connection.execute(
            select(table.c.id).where(
                table.c.state == "building",
                table.c.chunker_id == chunker_id,
                table.c.embedder_id == embedder_id,
            )
        ).scalar()
        if begun is not None:
            return Generation(begun, chunker_id, embedder_id, chunker, embedder, dim, token_dim)
    generation_id = insert_row(
        connection,
        insert(schema.generations).values(
            chunker_id=chunker_id,
            embedder_id=embedder_id,
            state=state,
            created_at=time.time(),
        ),
    )
    return Generation(generation_id, chunker_id, embedder_id, chunker, embedder, dim, token_dim)


def incomplete_contents(connection: Connection, generation: Generation) -> int:
    """How many contents of documents lack passages or vectors of `generation`."""
    contents, chunkings = schema.contents, schema.chunkings
    made = select(chunkings.c.content_id).where(
        chunkings.c.content_id == contents.c.id,
        chunkings.c.chunker_id == generation.chunker_id,
        reads.is_complete(generation),
    )
    # A long content that is still being written belongs to no document yet.
    used = select(schema.revisions.c.id).where(schema.revisions.c.content_id == contents.c.id)
    missing = select(func.count()).select_from(contents).where(used.exists(), ~made.exists())
    return int(connection.execute(missing).scalar_one())


def make_live(connection: Connection, generation: Generation) -> None:
    """Answer from `generation` from now on; the one before is retired and its vectors go."""
    table = schema.generations
    connection.execute(update(table).where(table.c.state == "live").values(state="retired"))
    connection.execute(update(table).where(table.c.id == generation.id).values(state="live"))
    vectors, passages, chunkings = schema.vectors, schema.passages, schema.chunkings
    chunker_id = generation.chunker_id
    connection.execute(delete(vectors).where(vectors.c.embedder_id != generation.embedder_id))
    connection.execute(delete(passages).where(passages.c.chunker_id != chunker_id))
    connection.execute(delete(chunkings).where(chunkings.c.chunker_id != chunker_id))


def is_open(connection: Connection, generation: Generation) -> bool:
    """Whether `generation` is live or being built."""
    table = schema.generations
    state = connection.execute(select(table.c.state).where(table.c.id == generation.id)).scalar()
    return state in ("live", "building")


def require_open(connection: Connection, generation: Generation) -> None:
    """Raise GenerationMismatch unless `generation` is still live or being built.

    Asked inside every write transaction: vectors of a retired generation would be acknowledged
    and never found.
    """
    if not is_open(connection, generation):
        raise GenerationMismatch(
            "The documents here have been embedded anew with other models meanwhile.",
            "Run the command again with the settings that the data folder uses now.",
        )
