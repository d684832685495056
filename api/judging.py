"""Judgements out to files and in from files: our own table, TREC's qrels, BEIR's layout.

The table (CSV) holds all that is kept; the other two hold query ids and one grade of each pair, the
median of its judges (of an even number the lower one in the middle). It reads and writes files and
asks the catalog; it measures nothing.
"""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from longleaf.api.evaluate.beir import read_qrels
from longleaf.api.evaluate.trec import escape_id, no_clash
from longleaf.api.spreadsheet import as_meant, harmless
from longleaf.core import ids
from longleaf.core.catalog import Catalog
from longleaf.core.catalog.judgements import (
    Judgement,
    JudgementWrite,
    check_judgement,
    plain_query,
)
from longleaf.core.errors import InvalidRequest, NotFound
from longleaf.core.types import Scope

FORMATS = ("csv", "trec", "beir")
COLUMNS = (
    "query", "collection", "key", "document_id", "grade", "judge", "revision", "start_char",
    "end_char", "judged_at",
)  # fmt: skip
_NAMED = 5
Qrels = dict[str, dict[str, int]]


class Judged(NamedTuple):
    """Queries by id, and query id -> document -> grade."""

    queries: dict[str, str]
    qrels: Qrels


def judged(judgements: Iterable[Judgement], *, by_key: bool) -> Judged:
    """One grade for each pair. Ids count queries in the order in which they were first judged;
    documents are named by key or by their public id."""
    opinions: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for each in judgements:
        opinions[each.query][each.key if by_key else each.document_id].append(each.grade)
    queries = {f"q{number}": query for number, query in enumerate(opinions, start=1)}
    qrels = {
        query_id: {name: _median(grades) for name, grades in opinions[query].items()}
        for query_id, query in queries.items()
    }
    return Judged(queries, qrels)


def _median(grades: Sequence[int]) -> int:
    return sorted(grades)[(len(grades) - 1) // 2]


def one_collection(catalog: Catalog, named: str | None, scope: Scope) -> str:
    """The collection that is meant. Raises InvalidRequest where that is not clear."""
    counts = catalog.judgements.count(scope)
    if named is not None:
        catalog.collection_languages(scope, [named])  # NotFound where it is not there
        return named
    if len(counts) == 1:
        return next(iter(counts))
    if not counts:
        raise InvalidRequest(
            "Nothing has been judged yet.",
            "Thumbs in the search page, POST /v1/judgements, or longleaf judge import.",
        )
    told = ", ".join(f"{name} ({count:,})" for name, count in counts.items())
    raise InvalidRequest(f"Several collections have judgements: {told}.", "Choose: --collection.")


# --- out ---------------------------------------------------------------------------------------


def export_csv(judgements: Iterable[Judgement]) -> str:
    """All that is kept, a line each, with a header (RFC 4180); no text begins like a formula."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for each in judgements:
        row = {name: getattr(each, name) for name in COLUMNS}
        row["judged_at"] = datetime.fromtimestamp(each.judged_at or 0.0, UTC).isoformat()
        writer.writerow(
            harmless(value) if isinstance(value, str) else "" if value is None else value
            for value in row.values()
        )
    return out.getvalue()


def export_folder(judgements: Sequence[Judgement], folder: Path, kind: str) -> Judged:
    """`trec`: qrels.txt and queries.tsv; `beir`: queries.jsonl and qrels/test.tsv. Documents are
    named by their keys, so the judgements are of one collection. Raises InvalidRequest where a
    file is there already."""
    found = judged(judgements, by_key=True)
    for grades in found.qrels.values():
        for key in grades:
            no_clash(key, grades)
    if kind == "trec":
        lines = [
            f"{query_id} 0 {escape_id(key)} {grade}"
            for query_id, grades in found.qrels.items()
            for key, grade in grades.items()
        ]
        files = {
            "qrels.txt": lines,
            "queries.tsv": [f"{query_id}\t{query}" for query_id, query in found.queries.items()],
        }
    else:
        rows = [
            f"{query_id}\t{escape_id(key)}\t{grade}"
            for query_id, grades in found.qrels.items()
            for key, grade in grades.items()
        ]
        files = {
            "queries.jsonl": [
                json.dumps({"_id": query_id, "text": query}, ensure_ascii=False)
                for query_id, query in found.queries.items()
            ],
            "qrels/test.tsv": ["query-id\tcorpus-id\tscore", *rows],
        }
    for name in files:
        if (folder / name).exists():
            raise InvalidRequest(f"{folder / name} is there already.", "Choose another folder.")
    for name, lines in files.items():
        write_new(folder / name, "".join(f"{line}\n" for line in lines))
    return found


def write_new(path: Path, text: str) -> None:
    """A file that was not there. Raises InvalidRequest where it was, or cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8", errors="replace", newline="") as out:
            out.write(text)
    except FileExistsError:
        raise InvalidRequest(f"{path} is there already.", "Choose another place.") from None
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be written: {error.strerror}.") from None


# --- in ----------------------------------------------------------------------------------------


class Imported(NamedTuple):
    """`unknown`: documents that are judged and not there."""

    judgements: int
    queries: int
    unknown: tuple[str, ...]


def import_file(
    catalog: Catalog,
    path: Path,
    scope: Scope,
    *,
    collection: str | None = None,
    queries: Path | None = None,
    judge: str,
    skip_unknown: bool = False,
) -> Imported:
    """Keep the judgements of a file, all or none.

    With `queries` (id and text: BEIR's JSONL, or two columns with a tab between) the file is qrels,
    TREC's or BEIR's; without, a table as `export_csv` writes it, of which `query`, `grade` and
    `document_id` or `key` are needed. Documents that are not there raise InvalidRequest unless
    they may be skipped.
    """
    if queries is None:
        given = list(_from_table(_read(path), str(path), collection, judge))
    else:
        given = list(_from_qrels(path, _texts(queries), collection, judge))
    return _keep(catalog, given, str(path), scope, skip_unknown=skip_unknown)


def import_table(
    catalog: Catalog,
    data: bytes,
    name: str,
    scope: Scope,
    *,
    collection: str | None = None,
    judge: str,
    skip_unknown: bool = False,
) -> Imported:
    """Keep the judgements of a table's bytes as `import_file` does; `name`: what it is called."""
    given = list(_from_table(_decoded(data, name), name, collection, judge))
    return _keep(catalog, given, name, scope, skip_unknown=skip_unknown)


def _keep(
    catalog: Catalog, given: Sequence[_Given], name: str, scope: Scope, *, skip_unknown: bool
) -> Imported:
    if not given:
        raise InvalidRequest(f"{name} holds no judgement.")
    there = _there(catalog, {public_id for each in given for public_id in each.public_ids}, scope)
    known: dict[tuple[str, str, str], JudgementWrite] = {}
    unknown: dict[str, None] = {}
    for each in given:
        public_id = next((name for name in each.public_ids if name in there), None)
        if public_id is None:
            unknown[each.named] = None
            continue
        write = replace(each.write, document_id=public_id)
        pair = (plain_query(write.query), public_id, write.judge)
        if known.setdefault(pair, write).grade != write.grade:
            raise InvalidRequest(
                f"{each.where}: {each.named} has another grade for this query further up.",
                "One judge has one opinion of a query and a document.",
            )
    if unknown and not skip_unknown:
        names = list(unknown)
        more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
        raise InvalidRequest(
            f"{len(names):,} of the judged documents are not here: "
            f"{', '.join(names[:_NAMED])}{more}. Nothing was imported.",
            "Is it the right --collection? --skip-unknown imports the others.",
        )
    catalog.judgements.put(list(known.values()), scope)
    return Imported(len(known), len({query for query, *_ in known}), tuple(unknown))


def _there(catalog: Catalog, public_ids: Iterable[str], scope: Scope) -> set[str]:
    found = set()
    for each in public_ids:
        try:
            found.add(catalog.document(each, scope).public_id)
        except NotFound:
            continue
    return found


class _Given(NamedTuple):
    """A judgement of a file: `where` it stands, as what its document is `named`, and the public ids
    that this may mean, the likeliest first."""

    where: str
    named: str
    public_ids: tuple[str, ...]
    write: JudgementWrite


def _from_table(text: str, name: str, collection: str | None, judge: str) -> Iterator[_Given]:
    delimiter = "\t" if "\t" in text.partition("\n")[0] else ","
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        columns = set(rows.fieldnames or ())
        if not {"query", "grade"} <= columns or not columns & {"document_id", "key"}:
            raise InvalidRequest(
                f"{name}: the first line must name the columns query, grade, and document_id or "
                "key.",
                "Qrels with ids of queries need their texts: --queries.",
            )
        for line in rows:
            row = {
                name: as_meant(value) if isinstance(value, str) else value
                for name, value in line.items()
            }
            yield _from_row(row, f"{name}, line {rows.line_num}", collection, judge)
    except csv.Error as error:
        raise InvalidRequest(
            f"{name}, line {rows.line_num}: {error}.", "Is a quotation mark not closed?"
        ) from None


def _from_row(
    row: Mapping[str, str | None], where: str, collection: str | None, judge: str
) -> _Given:
    key = row.get("key") or ""
    public_id = (row.get("document_id") or "").strip()
    if not public_id:
        of = row.get("collection") or collection
        if not of or not key:
            raise InvalidRequest(
                f"{where}: no document_id, and no key with its collection.",
                "Name the collection with --collection.",
            )
        public_id = ids.document_id(of, key)
    write = JudgementWrite(
        query=row.get("query") or "",
        document_id=public_id,
        grade=_whole(row.get("grade"), where, "grade"),
        judge=(row.get("judge") or "").strip() or judge,
        start_char=_whole_or_none(row.get("start_char"), where, "start_char"),
        end_char=_whole_or_none(row.get("end_char"), where, "end_char"),
        revision=_whole_or_none(row.get("revision"), where, "revision"),
        judged_at=_moment(row.get("judged_at"), where),
    )
    _checked(write, where)
    return _Given(where, key or public_id, (public_id,), write)


def _checked(write: JudgementWrite, where: str) -> None:
    try:
        check_judgement(write)
    except InvalidRequest as error:
        raise InvalidRequest(f"{where}: {error.message}", error.hint) from None


def _moment(value: str | None, where: str) -> float | None:
    if not (value or "").strip():
        return None
    try:
        moment = datetime.fromisoformat((value or "").strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise InvalidRequest(f"{where}: judged_at {value!r} is no time (ISO 8601).") from None


def _from_qrels(
    path: Path, texts: Mapping[str, str], collection: str | None, judge: str
) -> Iterator[_Given]:
    if collection is None:
        raise InvalidRequest("Qrels name documents by key: say of which --collection.")
    for query_id, grades in read_qrels(path).items():
        # As our own files write it: white space in an id as %20.
        text = texts.get(query_id, texts.get(unquote(query_id)))
        if text is None:
            raise InvalidRequest(f"{path} judges the query {query_id!r}, which has no text.")
        for key, grade in grades.items():
            public_ids = tuple(
                ids.document_id(collection, name) for name in dict.fromkeys((key, unquote(key)))
            )
            write = JudgementWrite(text, public_ids[0], grade, judge)
            _checked(write, f"{path}, query {query_id}, document {key}")
            yield _Given(f"{path}, query {query_id}", key, public_ids, write)


def _texts(path: Path) -> dict[str, str]:
    """Query id -> text."""
    texts: dict[str, str] = {}
    for number, line in enumerate(_read(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            if line.lstrip().startswith("{"):
                record = json.loads(line)
                query_id, text = str(record["_id"]), record["text"]
            else:
                query_id, text = line.rstrip("\r").split("\t", 1)
        except (ValueError, KeyError, TypeError, RecursionError):
            raise InvalidRequest(
                f"{path}, line {number}: expected a query's id and text.",
                'As {"_id": …, "text": …} or with a tab between them.',
            ) from None
        if not isinstance(text, str) or query_id in texts:
            raise InvalidRequest(f"{path}, line {number}: no text, or an id that is there twice.")
        texts[query_id] = text
    return texts


def _read(path: Path) -> str:
    if not path.is_file():
        raise NotFound(f"There is no {path}.")
    return _decoded(path.read_bytes(), str(path))


def _decoded(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidRequest(f"{name} is not UTF-8.", "Convert it to UTF-8.") from None


def _whole(value: str | None, where: str, what: str) -> int:
    try:
        number = float(value or "")
        if number.is_integer():
            return int(number)
    except (ValueError, OverflowError):
        pass
    raise InvalidRequest(f"{where}: {what} {value!r} is no whole number.")


def _whole_or_none(value: str | None, where: str, what: str) -> int | None:
    return _whole(value, where, what) if (value or "").strip() else None
