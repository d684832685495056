"""Words of titles, kept so that a title is found while it is typed.

A row for each of a title's first words, by word: a look-up walks one range of that key, a few
hundred rows at a time, and ends when it has enough or its time is over, however many documents
there are. It ranks nothing by meaning; that is search. Rows go with their content.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, insert, select, tuple_

from longleaf.core.catalog import reads
from longleaf.core.catalog.schema import contents, documents, revisions
from longleaf.core.catalog.schema import title_words as table_of_words
from longleaf.core.types import Scope

_WORD = re.compile(r"\w+")
_MOST_WORDS = 16
_WORD_CHARS = 24
_ROUND = 400
_LAST = "\U0010ffff"


class TitleMatch(NamedTuple):
    """A document whose title was asked for."""

    document_id: str
    collection: str
    title: str


class TitleMatches(NamedTuple):
    """`complete`: all were looked at, and not only as many as the time allowed or were wanted."""

    found: tuple[TitleMatch, ...]
    complete: bool


def words_of(title: str) -> list[str]:
    """The first different words of a title, as they are compared."""
    words = (each.group()[:_WORD_CHARS] for each in _WORD.finditer(title.casefold()))
    return list(dict.fromkeys(words))[:_MOST_WORDS]


def put_words(connection: Connection, content_id: int, title: str) -> None:
    """Keep a new content's words."""
    rows = [{"word": word, "content_id": content_id} for word in words_of(title)]
    if rows:
        connection.execute(insert(table_of_words), rows)


def fill(connection: Connection) -> None:
    """Keep the words of all contents of a catalog that has none yet."""
    after = 0
    while True:
        batch = connection.execute(
            select(contents.c.id, contents.c.title)
            .where(contents.c.id > after)
            .order_by(contents.c.id)
            .limit(5_000)
        ).all()
        if not batch:
            return
        rows = [
            {"word": word, "content_id": content_id}
            for content_id, title in batch
            for word in words_of(title)
        ]
        if rows:
            connection.execute(insert(table_of_words), rows)
        after = batch[-1].id


def matching(
    connection: Connection, typed: str, scope: Scope, limit: int, most_seconds: float
) -> TitleMatches:
    """Documents whose titles hold what was typed: whole words, the last one as it begins.

    Titles that begin so come first, then the shorter. Equal titles of a collection come once.
    """
    words = words_of(typed)
    if not words:
        return TitleMatches((), complete=True)
    ends = time.monotonic() + most_seconds
    found: dict[tuple[str, str], TitleMatch] = {}
    complete = True
    for content_ids in _rounds(connection, words):
        for match in _titled(connection, content_ids, scope):
            if _holds(match.title, words):
                found.setdefault((match.title, match.collection), match)
        if len(found) >= 4 * limit or time.monotonic() > ends:
            complete = False
            break
    start = " ".join(typed.casefold().split())

    def key(match: TitleMatch) -> tuple[bool, int, str, str]:
        title = " ".join(match.title.casefold().split())
        return not title.startswith(start), len(title), title, match.document_id

    best = sorted(found.values(), key=key)
    return TitleMatches(tuple(best[:limit]), complete and len(best) <= limit)


def _rounds(connection: Connection, words: Sequence[str]) -> Iterator[list[int]]:
    """Contents that have one of the words, the one that is likely rarest, by its range of rows."""
    *whole, last = words
    word = max(whole, key=len, default=None)
    table = table_of_words.c
    within = [table.word == word] if word else [table.word >= last, table.word < last + _LAST]
    position = tuple_(table.word, table.content_id)
    query = select(table_of_words).where(*within).order_by(table.word, table.content_id)
    rows = connection.execute(query.limit(_ROUND)).all()
    while rows:
        yield list(dict.fromkeys(row.content_id for row in rows))
        if len(rows) < _ROUND:
            return
        behind = position > (rows[-1].word, rows[-1].content_id)
        rows = connection.execute(query.where(behind).limit(_ROUND)).all()


def _titled(
    connection: Connection, content_ids: Sequence[int], scope: Scope
) -> Iterator[TitleMatch]:
    """Current documents of these contents. By content, the scope is checked on the row."""
    query = (
        select(documents.c.public_id, documents.c.collection, contents.c.title, revisions.c.groups)
        .select_from(contents)
        .join(revisions, revisions.c.content_id == contents.c.id)
        .join(documents, documents.c.id == revisions.c.document_id)
        .where(
            contents.c.id.in_(reads.among(content_ids)),
            # By id first: nothing is indexed by `revision_id` (300 ms of 300,000 documents).
            documents.c.revision_id == revisions.c.id,
        )
    )
    for public_id, collection, title, groups in connection.execute(query):
        if scope.allows(collection, groups):
            yield TitleMatch(public_id, collection, title)


def _holds(title: str, words: Sequence[str]) -> bool:
    there = words_of(title)
    *whole, last = words
    return set(whole) <= set(there) and any(word.startswith(last) for word in there)
