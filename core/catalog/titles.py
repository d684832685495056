"""Titles as lists of documents go by them: without case and accents, so that Äpfel stands by Apfel.

A document's row carries the key of its content's title, because an index over a million of them
must not be joined from two tables. It sorts by the letters alone; a language's own alphabet (Å at
the end in Swedish) is not known here.
"""

from __future__ import annotations

import unicodedata

from sqlalchemy import Connection, bindparam, select, update

from longleaf.core.catalog.schema import contents, documents, revisions

MOST_CHARS = 200
_AT_ONCE = 10_000


def key_of(title: str) -> str:
    """What a title is sorted and looked for by."""
    letters = unicodedata.normalize("NFKD", title[: 2 * MOST_CHARS].casefold())
    plain = "".join(each for each in letters if not unicodedata.combining(each))
    return " ".join(plain.split())[:MOST_CHARS]


def of_content(connection: Connection, content_id: int) -> str:
    """The key of a content's title."""
    title = connection.execute(select(contents.c.title).where(contents.c.id == content_id))
    return key_of(str(title.scalar_one()))


def fill(connection: Connection) -> None:
    """Give every document its key."""
    titled = (
        select(documents.c.id, contents.c.title)
        .join(revisions, revisions.c.id == documents.c.revision_id)
        .join(contents, contents.c.id == revisions.c.content_id)
        .order_by(documents.c.id)
        .limit(_AT_ONCE)
    )
    put = (
        update(documents)
        .where(documents.c.id == bindparam("document"))
        .values(title_key=bindparam("its_key"))
    )
    last = 0
    while rows := connection.execute(titled.where(documents.c.id > last)).all():
        keys = [{"document": row.id, "its_key": key_of(row.title)} for row in rows]
        connection.execute(put, keys)
        last = rows[-1].id
