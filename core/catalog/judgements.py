"""What people said of answers: this document is good, or not, for this query.

A judgement names query, document, revision and characters; it goes with its document. One judge has
one opinion of a pair: a later one replaces it. It computes nothing of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from longleaf.core.catalog import bounds, reads
from longleaf.core.catalog.database import Database
from longleaf.core.catalog.schema import contents, documents, judgements, revisions
from longleaf.core.errors import InvalidRequest, NotFound
from longleaf.core.types import Scope

MAX_QUERY_CHARS = 20_000
MAX_QUERY_BYTES = 2_000
MAX_JUDGE_CHARS, MAX_JUDGE_BYTES = 255, 500
"""Query and judge are one entry of an index, of which Postgres holds 2,704 bytes."""
GRADES = range(-10, 11)
"""TREC's collections use -2 to 4; below 1 is not relevant."""
LOCAL = "local"
_MOST_CHARS = 1 << 40


@dataclass(frozen=True, slots=True)
class JudgementWrite:
    """A judgement to put. `document_id` is the public id; `judge` says whose opinion it is.

    `start_char` and `end_char` mark the passage that was looked at, where one was. `revision` and
    `judged_at` (seconds since the epoch) are what a file says of them; None: the document's, now.
    """

    query: str
    document_id: str
    grade: int
    judge: str = LOCAL
    start_char: int | None = None
    end_char: int | None = None
    revision: int | None = None
    judged_at: float | None = None


@dataclass(frozen=True, slots=True)
class Judgement(JudgementWrite):
    """A judgement as stored; `revision` is the document's when it was judged."""

    id: int = 0
    collection: str = ""
    key: str = ""
    title: str = ""


def plain_query(query: str) -> str:
    """The query as judgements are kept under: white space at its ends and runs of it do not tell
    two queries apart."""
    return " ".join(query.split())


class Judgements:
    """The judgements of one catalog. Thread-safe: every method is one transaction."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def put(self, given: Sequence[JudgementWrite], scope: Scope) -> None:
        """Keep judgements, all or none. Raises NotFound for a document that is not there or that
        `scope` may not see, InvalidRequest for what is none."""
        for each in given:
            check_judgement(each)
        now = self._clock()
        with self._database.writing() as connection:
            heads = _heads(connection, {each.document_id for each in given}, scope)
            for each in given:
                found = heads.get(each.document_id)
                if found is None:
                    raise NotFound(f"There is no document {each.document_id!r}.")
                if (each.end_char or 0) > found.text_chars and each.revision is None:
                    raise InvalidRequest(
                        f"end_char is {each.end_char:,}; the text of {each.document_id} has "
                        f"{found.text_chars:,} characters."
                    )
                same = (
                    (judgements.c.query == plain_query(each.query))
                    & (judgements.c.document_id == found.id)
                    & (judgements.c.judge == each.judge)
                )
                opinion: dict[str, Any] = {
                    "grade": each.grade,
                    "start_char": each.start_char,
                    "end_char": each.end_char,
                }
                if each.judged_at is None and _says(connection, same, opinion):
                    continue  # the same again changes nothing, not even when it was said
                values = opinion | {
                    "revision": found.revision if each.revision is None else each.revision,
                    "judged_at": now if each.judged_at is None else each.judged_at,
                }
                if not connection.execute(update(judgements).where(same).values(values)).rowcount:
                    names = {
                        "query": plain_query(each.query),
                        "document_id": found.id,
                        "judge": each.judge,
                    }
                    connection.execute(insert(judgements).values(names | values))

    def remove(self, query: str, document_id: str, scope: Scope, judge: str = LOCAL) -> None:
        """Take one back. Raises NotFound where there is none."""
        with self._database.writing() as connection:
            found = _heads(connection, [document_id], scope).get(document_id)
            if not (bounds.is_storable(query) and bounds.is_storable(judge)):
                found = None
            this = (judgements.c.query == plain_query(query)) & (judgements.c.judge == judge)
            gone = 0
            if found is not None:
                of_it = this & (judgements.c.document_id == found.id)
                gone = connection.execute(delete(judgements).where(of_it)).rowcount
        if not gone:
            raise NotFound(f"{judge} has not judged {document_id!r} for this query.")

    def found(
        self,
        scope: Scope,
        collections: Sequence[str] | None = None,
        query: str | None = None,
        after: int = 0,
        limit: int | None = None,
    ) -> list[Judgement]:
        """Judgements of documents that the scope may see, oldest first, from behind id `after`."""
        asked = _QUERY.where(judgements.c.id > after).order_by(judgements.c.id)
        if collections is not None:
            asked = asked.where(documents.c.collection.in_(list(collections)))
        if query is not None and not bounds.is_storable(query):
            return []
        if query is not None:
            asked = asked.where(judgements.c.query == plain_query(query))
        with self._database.reading() as connection:
            asked = asked.where(reads.scope_condition(scope)).limit(limit)
            rows = connection.execute(asked).all()
        return [
            Judgement(**{name: row._mapping[name] for name in Judgement.__dataclass_fields__})
            for row in rows
        ]

    def count(self, scope: Scope) -> dict[str, int]:
        """Collection -> judgements in it, of those that have any."""
        asked = (
            select(documents.c.collection, func.count().label("judgements"))
            .select_from(judgements)
            .join(documents, documents.c.id == judgements.c.document_id)
            .join(revisions, _CURRENT)
            .group_by(documents.c.collection)
            .order_by(documents.c.collection)
        )
        with self._database.reading() as connection:
            asked = asked.where(reads.scope_condition(scope))
            return {row.collection: row.judgements for row in connection.execute(asked)}


_CURRENT = revisions.c.id == documents.c.revision_id
_QUERY = (
    select(
        judgements.c.id,
        judgements.c.query,
        documents.c.public_id.label("document_id"),
        judgements.c.judge,
        judgements.c.grade,
        judgements.c.revision,
        judgements.c.start_char,
        judgements.c.end_char,
        judgements.c.judged_at,
        documents.c.collection,
        documents.c.key,
        contents.c.title,
    )
    .select_from(judgements)
    .join(documents, documents.c.id == judgements.c.document_id)
    .join(revisions, _CURRENT)
    .join(contents, contents.c.id == revisions.c.content_id)
)


def _heads(connection: Connection, public_ids: Iterable[str], scope: Scope) -> dict[str, Any]:
    """Public id -> (id, public_id, revision, text_chars) of documents that are there and may be
    seen."""
    seen = reads.scope_condition(scope)
    asked = (
        select(
            documents.c.id,
            documents.c.public_id,
            revisions.c.revision,
            contents.c.text_chars,
        )
        .join(revisions, _CURRENT)
        .join(contents, contents.c.id == revisions.c.content_id)
        .where(seen)
    )
    found: dict[str, Any] = {}
    for batch in reads.batches(sorted(filter(bounds.is_storable, set(public_ids)))):
        for row in connection.execute(asked.where(documents.c.public_id.in_(batch))):
            found[row.public_id] = row
    return found


def _says(connection: Connection, same: ColumnElement[bool], opinion: dict[str, Any]) -> bool:
    """Whether that judgement is there and says just that."""
    columns = [judgements.c[name] for name in opinion]
    known = connection.execute(select(*columns).where(same)).one_or_none()
    return known is not None and tuple(known) == tuple(opinion.values())


def check_judgement(given: JudgementWrite) -> None:
    """Raises InvalidRequest for what is no judgement, whatever documents there are."""
    bounds.check_text("query", given.query)
    bounds.check_text("judge", given.judge)
    bounds.check_finite("judged_at", given.judged_at)
    query = plain_query(given.query)
    if not query or len(query) > MAX_QUERY_CHARS:
        raise InvalidRequest(f"A judged query has 1 to {MAX_QUERY_CHARS:,} characters.")
    if (size := len(query.encode())) > MAX_QUERY_BYTES:
        raise InvalidRequest(
            f"The judged query has {size:,} bytes of UTF-8; up to {MAX_QUERY_BYTES:,} are kept.",
            "A longer query can be searched for, and not be judged.",
        )
    if given.grade not in GRADES:
        raise InvalidRequest(
            f"The grade {given.grade} is not one of {GRADES[0]} to {GRADES[-1]}.",
            "1 and more: it answers the query, the more the better; 0 and less: it does not.",
        )
    named = 1 <= len(given.judge) <= MAX_JUDGE_CHARS
    if not named or len(given.judge.encode()) > MAX_JUDGE_BYTES:
        raise InvalidRequest(
            f"judge: a name of 1 to {MAX_JUDGE_CHARS} characters ({MAX_JUDGE_BYTES} bytes) is "
            "taken."
        )
    if given.revision is not None and not 0 <= given.revision <= bounds.MAX_INTEGER:
        raise InvalidRequest(
            f"revision: {given.revision} is not one of 0 to {bounds.MAX_INTEGER:,}."
        )
    start, end = given.start_char, given.end_char
    if (start is None) != (end is None) or (
        start is not None and end is not None and not 0 <= start < end < _MOST_CHARS
    ):
        raise InvalidRequest("start_char and end_char: both or none, and the start first.")
