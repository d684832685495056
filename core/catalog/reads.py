"""Reading documents and passages, every time within a `Scope`.

In lists and counts the scope is part of the SQL, so pages and numbers are right as well. What
a caller may not see does not exist for that caller: it is NotFound, never "forbidden".
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    String,
    and_,
    bindparam,
    func,
    or_,
    select,
    true,
    tuple_,
)

from longleaf.core import ids
from longleaf.core.catalog import bounds, dialects
from longleaf.core.catalog.records import (
    CandidateHead,
    DocumentHead,
    DocumentSize,
    DocumentText,
    Generation,
)
from longleaf.core.catalog.schema import (
    TEXT_BLOCK_CHARS,
    chunkings,
    collections,
    contents,
    documents,
    layouts,
    passages,
    revisions,
    text_blocks,
    vectors,
)
from longleaf.core.layout import Layout
from longleaf.core.types import MetaValue, Page, PassageText, Region, Role, Scope, Section

_IN_LIMIT = 10_000  # SQLite takes 32,766 variables in one statement


def batches(values: Sequence[Any], size: int = _IN_LIMIT) -> Iterator[Sequence[Any]]:
    """Slices of at most `size`."""
    for begin in range(0, len(values), size):
        yield values[begin : begin + size]


def among(values: Sequence[int]) -> Select[Any]:
    """The right side of an IN as one JSON parameter.

    A list of 250 parameters is rendered anew for every statement: twice as slow as the look-up.
    """
    return select(dialects.integers(json.dumps(list(values))))


# Statements of every search are made once: made anew, each costs as much as its rows (its cache key
# and its parameters are worked out again).
AMONG = select(dialects.integers(bindparam("among", type_=String)))
_PAIRS = select(*dialects.pairs(bindparam("pairs", type_=String)))


def scope_condition(scope: Scope) -> ColumnElement[bool]:
    """The WHERE clause that keeps to what `scope` may see (on documents and revisions)."""
    conditions: list[ColumnElement[bool]] = []
    if scope.collections is not None:
        conditions.append(documents.c.collection.in_(sorted(scope.collections)))
    if scope.groups is not None:
        each = dialects.elements(revisions.c.groups)
        size = func.json_array_length(revisions.c.groups)
        member = select(each).where(each.in_(sorted(scope.groups))).exists()
        conditions.append(or_(size == 0, member))
    return and_(true(), *conditions)


_HEAD = (
    select(
        documents.c.id.label("document_id"),
        revisions.c.id.label("revision_id"),
        revisions.c.content_id,
        documents.c.public_id,
        documents.c.collection,
        documents.c.key,
        contents.c.title,
        revisions.c.revision,
        revisions.c.metadata,
        revisions.c.groups,
        revisions.c.source,
        revisions.c.media_type,
        revisions.c.original,
        revisions.c.language,
        revisions.c.warnings,
        contents.c.text_chars,
        documents.c.created_at,
        documents.c.updated_at,
    )
    .select_from(revisions)
    .join(documents, documents.c.id == revisions.c.document_id)
    .join(contents, contents.c.id == revisions.c.content_id)
)
_CURRENT = revisions.c.id == documents.c.revision_id
# Joined by the current revision alone: with `document_id` beside it Postgres expects one row, and
# hashes and sorts all documents for a page (1.2 s against 21 ms at 200,000).
_CURRENT_HEAD = (
    select(*_HEAD.selected_columns)
    .select_from(documents)
    .join(revisions, _CURRENT)
    .join(contents, contents.c.id == revisions.c.content_id)
)


def head_query() -> Select[Any]:
    """Current documents with everything but their text."""
    return _CURRENT_HEAD


def head_from_row(row: Any) -> DocumentHead:
    values = {name: row._mapping[name] for name in DocumentHead.__dataclass_fields__}
    values["metadata"] = metadata_from_json(values["metadata"])
    values["groups"] = tuple(values["groups"])
    values["warnings"] = tuple(values["warnings"])
    return DocumentHead(**values)


def metadata_from_json(stored: Mapping[str, Any]) -> dict[str, MetaValue]:
    """Lists come back from JSON as lists; a MetaValue has tuples."""
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in stored.items()
    }


# By id, the scope is checked on the row: with the scope in the SQL, SQLite walks all documents of
# the collection instead of looking up 200 ids (260 ms against 1 ms at 5,000 documents). A replaced
# revision must be allowed by its own groups and by the current ones: a document that has just been
# restricted must not show through an index that still has the old revision.

_now = revisions.alias("current_revision")
_current_groups = _now.c.groups.label("current_groups")


def _may_see(scope: Scope, row: Any) -> bool:
    return scope.allows(row.collection, row.groups) and scope.allows(
        row.collection, row.current_groups
    )


_HEADS_BY_REVISION = (
    _HEAD.add_columns(_current_groups)
    .join(_now, _now.c.id == documents.c.revision_id)
    .where(revisions.c.id.in_(AMONG))
)


def heads_by_revision(
    connection: Connection, revision_ids: Sequence[int], scope: Scope, *, only_current: bool = False
) -> dict[int, DocumentHead]:
    """The heads of those revisions that still exist and may be seen (current or just replaced)."""
    found: dict[int, DocumentHead] = {}
    query = _HEADS_BY_REVISION.where(_CURRENT) if only_current else _HEADS_BY_REVISION
    for batch in batches(list(revision_ids)):
        for row in connection.execute(query, {"among": json.dumps(batch)}):
            if _may_see(scope, row):
                found[row.revision_id] = head_from_row(row)
    return found


_CANDIDATE_BY_COLLECTION = (
    select(
        documents.c.id,
        revisions.c.id,
        revisions.c.content_id,
        documents.c.key,
        contents.c.title,
        documents.c.collection,
    )
    .select_from(revisions)
    .join(documents, documents.c.id == revisions.c.document_id)
    .join(contents, contents.c.id == revisions.c.content_id)
    .where(revisions.c.id.in_(AMONG))
)
_CANDIDATE = _CANDIDATE_BY_COLLECTION.join(_now, _now.c.id == documents.c.revision_id).add_columns(
    revisions.c.groups, _current_groups
)


def candidate_heads(
    connection: Connection, revision_ids: Sequence[int], scope: Scope
) -> dict[int, CandidateHead]:
    """The same as `heads_by_revision`, with only what ranking needs."""
    query = _CANDIDATE if scope.groups is not None else _CANDIDATE_BY_COLLECTION
    found: dict[int, CandidateHead] = {}
    for batch in batches(list(revision_ids)):
        for (
            document_id,
            revision_id,
            content_id,
            key,
            title,
            collection,
            *groups,
        ) in connection.execute(query, {"among": json.dumps(batch)}).all():
            if all(scope.allows(collection, each) for each in groups or ((),)):
                found[revision_id] = CandidateHead(document_id, revision_id, content_id, key, title)
    return found


_VISIBLE_BY_COLLECTION = (
    select(revisions.c.id, revisions.c.document_id, documents.c.collection)
    .join(documents, documents.c.id == revisions.c.document_id)
    .where(revisions.c.id.in_(AMONG))
)
_VISIBLE = _VISIBLE_BY_COLLECTION.join(_now, _now.c.id == documents.c.revision_id).add_columns(
    revisions.c.groups, _current_groups
)


def visible_revisions(
    connection: Connection, revision_ids: Sequence[int], scope: Scope
) -> dict[int, int]:
    """revision_id -> document_id of those that exist and may be seen."""
    query = _VISIBLE if scope.groups is not None else _VISIBLE_BY_COLLECTION
    return {
        revision_id: document_id
        for batch in batches(list(revision_ids))
        for revision_id, document_id, collection, *groups in connection.execute(
            query, {"among": json.dumps(batch)}
        ).all()
        if all(scope.allows(collection, each) for each in groups or ((),))
    }


def document_head(connection: Connection, public_id: str, scope: Scope) -> DocumentHead | None:
    if not bounds.is_storable(public_id):
        return None
    asked = head_query().where(documents.c.public_id == public_id, scope_condition(scope))
    row = connection.execute(asked).first()
    return head_from_row(row) if row else None


def list_heads(
    connection: Connection, scope: Scope, after: str | None, limit: int
) -> list[DocumentHead]:
    """Documents by public id, from behind `after`."""
    query = head_query().where(scope_condition(scope))
    if after is not None:
        query = query.where(documents.c.public_id > bounds.before_nul(after))
    rows = connection.execute(query.order_by(documents.c.public_id).limit(limit))
    return [head_from_row(row) for row in rows]


def count_documents(connection: Connection, scope: Scope) -> int:
    query = select(func.count()).select_from(documents)
    if scope.groups is not None:  # else an index alone tells, without a look at every revision
        query = query.join(revisions, _CURRENT)
    return int(connection.execute(query.where(scope_condition(scope))).scalar_one())


def content_texts(connection: Connection, content_ids: Sequence[int]) -> dict[int, str]:
    """Whole texts by content id."""
    parts: dict[int, list[str]] = {content_id: [] for content_id in content_ids}
    for batch in batches(sorted(parts), 500):
        for row in connection.execute(
            select(text_blocks)
            .where(text_blocks.c.content_id.in_(among(batch)))
            .order_by(text_blocks.c.content_id, text_blocks.c.ordinal)
        ):
            parts[row.content_id].append(row.text)
    return {content_id: "".join(blocks) for content_id, blocks in parts.items()}


def content_ids_by_revision(connection: Connection, revision_ids: Sequence[int]) -> dict[int, int]:
    found: dict[int, int] = {}
    for batch in batches(list(revision_ids)):
        for row in connection.execute(
            select(revisions.c.id, revisions.c.content_id).where(revisions.c.id.in_(among(batch)))
        ):
            found[row.id] = row.content_id
    return found


def document_text(connection: Connection, content_id: int) -> DocumentText | None:
    """A content's text, pages and sections; None when it has just been erased."""
    row = connection.execute(
        select(contents.c.pages, contents.c.sections, contents.c.regions).where(
            contents.c.id == content_id
        )
    ).first()
    if row is None:
        return None
    return DocumentText(
        content_texts(connection, [content_id])[content_id],
        tuple(Page(*page) for page in row.pages),
        tuple(Section(*section) for section in row.sections),
        tuple(Region(Role(role), *span) for role, *span in row.regions),
    )


def layout(connection: Connection, content_id: int) -> Layout | None:
    """Where a content's words stand on its pages; None where that is not known."""
    stored = select(layouts.c.data).where(layouts.c.content_id == content_id)
    data = connection.execute(stored).scalar()
    return None if data is None else Layout.from_bytes(data)


def passages_by_point(
    connection: Connection,
    point_ids: Sequence[int],
    content_by_revision: Mapping[int, int],
    generation: Generation,
    *,
    with_text: bool = True,
) -> dict[int, PassageText]:
    """Hydrate passages: one query for where they lie, one for the text blocks they touch.

    Without text (and headings) it takes a third of the time: most of 300 passages are never shown.
    """
    wanted: dict[tuple[int, int], list[int]] = defaultdict(list)
    for point in point_ids:
        revision_id, ordinal = ids.split_point_id(point)
        if revision_id in content_by_revision:
            wanted[content_by_revision[revision_id], ordinal].append(point)
    query = _PASSAGES if with_text else _PLACES
    rows: list[Row[Any]] = []
    for batch in batches(sorted(wanted), _IN_LIMIT // 2):
        asked = {"chunker": generation.chunker_id, "pairs": json.dumps(batch)}
        rows += connection.execute(query, asked).all()
    if not with_text:
        return _without_text(rows, wanted)
    texts = slices(connection, [(row.content_id, row.start_char, row.end_char) for row in rows])
    found: dict[int, PassageText] = {}
    for row, text in zip(rows, texts, strict=True):
        for point in wanted[row.content_id, row.ordinal]:
            found[point] = passage_text(row, text, point)
    return found


def _without_text(
    rows: Iterable[Any], wanted: Mapping[tuple[int, int], Sequence[int]]
) -> dict[int, PassageText]:
    found: dict[int, PassageText] = {}
    for content, ordinal, passage_id, start, end, first_page, last_page, tokens, role in rows:
        for point in wanted[content, ordinal]:
            found[point] = PassageText(
                point, passage_id, start, end, first_page, last_page, (), tokens, "", _ROLES[role]
            )
    return found


_wanted_passages = (
    passages.c.chunker_id == bindparam("chunker"),
    tuple_(passages.c.content_id, passages.c.ordinal).in_(_PAIRS),
)
_PLACES = select(
    passages.c.content_id,
    passages.c.ordinal,
    passages.c.id,
    passages.c.start_char,
    passages.c.end_char,
    passages.c.first_page,
    passages.c.last_page,
    passages.c.token_count,
    passages.c.role,
).where(*_wanted_passages)
_PASSAGES = select(passages).where(*_wanted_passages)
_ROLES = {role.value: role for role in Role}


def point_of(row: Row[Any], revision_id: int) -> int:
    """The point id of a passage row in a revision."""
    return ids.point_id(revision_id, row.ordinal, Role(row.role).is_aside)


def passage_text(row: Row[Any], text: str, point: int) -> PassageText:
    """A passage row with its text and its point id."""
    return PassageText(
        point_id=point,
        passage_id=row.id,
        start_char=row.start_char,
        end_char=row.end_char,
        first_page=row.first_page,
        last_page=row.last_page,
        headings=tuple(row.headings or ()),
        token_count=row.token_count,
        text=text,
        role=Role(row.role),
        overlap_chars=row.overlap_chars,
    )


_BLOCKS = select(text_blocks).where(
    tuple_(text_blocks.c.content_id, text_blocks.c.ordinal).in_(_PAIRS)
)


def slices(connection: Connection, spans: Sequence[tuple[int, int, int]]) -> list[str]:
    """`text[start:end]` of many contents, reading only the blocks that are touched."""
    touched: set[tuple[int, int]] = set()
    for content_id, start, end in spans:
        for ordinal in range(
            start // TEXT_BLOCK_CHARS, max(end - 1, start) // TEXT_BLOCK_CHARS + 1
        ):
            touched.add((content_id, ordinal))
    blocks: dict[tuple[int, int], str] = {}
    for batch in batches(sorted(touched), _IN_LIMIT // 2):
        for content_id, ordinal, text in connection.execute(_BLOCKS, {"pairs": json.dumps(batch)}):
            blocks[content_id, ordinal] = text
    texts = []
    for content_id, start, end in spans:
        first = start // TEXT_BLOCK_CHARS
        last = max(end - 1, start) // TEXT_BLOCK_CHARS
        joined = "".join(blocks.get((content_id, n), "") for n in range(first, last + 1))
        texts.append(joined[start - first * TEXT_BLOCK_CHARS : end - first * TEXT_BLOCK_CHARS])
    return texts


def passage_rows(
    connection: Connection,
    content_id: int,
    generation: Generation,
    first: int,
    limit: int,
    at_char: int | None = None,
) -> list[Row[Any]]:
    """A content's passages in order, from ordinal `first`, or from the one that holds `at_char`."""
    ordinal = passages.c.ordinal
    mine = passages.c.content_id == content_id, passages.c.chunker_id == generation.chunker_id
    if at_char is None:
        begin = ordinal >= first
    else:
        last = select(func.max(ordinal)).where(*mine, passages.c.start_char <= at_char)
        begin = ordinal >= func.coalesce(last.scalar_subquery(), 0)
    query = select(passages).where(*mine, begin).order_by(ordinal).limit(limit)
    return list(connection.execute(query))


def document_sizes(
    connection: Connection, content_ids: Sequence[int], generation: Generation
) -> dict[int, DocumentSize]:
    """How long documents are, by content id."""
    found: dict[int, DocumentSize] = {}
    for batch in batches(list(content_ids)):
        asked = {"chunker": generation.chunker_id, "among": json.dumps(batch)}
        rows = connection.execute(_SIZES, asked).all()
        for content_id, first_passage_id, passage_count, token_count in rows:
            found[content_id] = DocumentSize(first_passage_id, passage_count, token_count)
    return found


_SIZES = select(
    chunkings.c.content_id,
    chunkings.c.first_passage_id,
    chunkings.c.passage_count,
    chunkings.c.token_count,
).where(chunkings.c.content_id.in_(AMONG), chunkings.c.chunker_id == bindparam("chunker"))


def is_complete(generation: Generation) -> ColumnElement[bool]:
    """Whether a row of `chunkings` has all its vectors of `generation`.

    They are written in order, so the last passage's stands for all.
    """
    last = (
        select(passages.c.id)
        .join(vectors, vectors.c.passage_id == passages.c.id)
        .where(
            passages.c.content_id == chunkings.c.content_id,
            passages.c.chunker_id == chunkings.c.chunker_id,
            passages.c.ordinal == chunkings.c.passage_count - 1,
            vectors.c.embedder_id == generation.embedder_id,
        )
    )
    return or_(chunkings.c.passage_count == 0, last.exists())


def known_collections(connection: Connection) -> list[Row[Any]]:
    return list(connection.execute(select(collections).order_by(collections.c.name)))


TOKEN_VECTORS = select(vectors.c.passage_id, vectors.c.segment_id, vectors.c.segment_offset).where(
    vectors.c.passage_id.in_(AMONG),
    vectors.c.embedder_id == bindparam("embedder"),
    vectors.c.segment_id.is_not(None),
)
"""Where the token vectors of the passages in `among` (JSON) lie, of `embedder`."""
