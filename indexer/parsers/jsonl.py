"""JSON Lines: one document a line, in our own field names or BEIR's corpus.jsonl.

Fields: `_id`, `id` or `key`; `title`; `text` or `contents`; `metadata` (an object); every other
scalar or list at the top becomes metadata as well. A .json file that holds one such object, or an
array of them, works too. A bad line is a `Rejection` and the rest goes on. Knows no schema beyond
this. A document without an id is named by the hash of its content, so that inserting a line renames
no other. Titles stay as given, empty when absent: a title made from the text would count its first
words twice in every passage of a short document.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from longleaf.core.errors import Rejected, RejectReason
from longleaf.core.protocols import NO_CONTEXT, ParseContext
from longleaf.core.types import Document, MetaValue, Rejection
from longleaf.indexer.parsers.decode import clean, decode, looks_binary, refuse_empty
from longleaf.indexer.parsers.headings import sections_of
from longleaf.indexer.parsers.sections import shorten

_ID_FIELDS = ("_id", "id", "key")
_TEXT_FIELDS = ("text", "contents")
_RESERVED = frozenset((*_ID_FIELDS, *_TEXT_FIELDS, "title", "metadata"))
_LONG_TEXT_CHARS = 4_000  # below this, headings are not looked for: one passage or two
_HELD_BACK = 1_000  # rejections kept until a first document shows that this is such a file
_MAX_INT = 2**63 - 1  # SQLite's largest

_Unread: TypeAlias = tuple[str, "bytes | object"]
"""Where in the file, and a line's bytes or an array's element."""


class _TooBig:
    """Stands for an integer that no store takes."""


class JsonlParser:
    """A `core.protocols.Parser` for JSON Lines, and for JSON files that hold documents."""

    media_type = "application/jsonl"
    suffixes: tuple[str, ...] = (".jsonl", ".ndjson", ".json")

    def parse(
        self, data: bytes, name: str, context: ParseContext = NO_CONTEXT
    ) -> Iterator[Document | Rejection]:
        """A document or a rejection for each line, in order.

        Raises `Rejected`: EMPTY; MALFORMED when no line (of the first 1,000) is a document.
        """
        name = clean(name).text
        refuse_empty(data, name)
        if looks_binary(data):
            raise Rejected(RejectReason.MALFORMED, f"{name} holds binary data, not JSON lines.")
        if data[:3] == b"\xef\xbb\xbf":
            data = data[3:]
        elif data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in data[:4]:
            data = decode(data, name).text.encode()
        if data.isspace() or not data:
            raise Rejected(RejectReason.EMPTY, f"{name} holds only white space.")
        yield from _only_if_any(_read_all(_members(data, name)), name)


def _members(data: bytes, name: str) -> Iterator[_Unread]:
    """A whole JSON array's elements or a single object where the file is one; else its lines."""
    start = data[:64].lstrip()[:1]
    if start == b"[" or (start == b"{" and name.lower().endswith(".json")):
        try:
            whole = _load(data)
        except (ValueError, RecursionError):
            whole = None
        if isinstance(whole, list):
            yield from ((f"item {number}", item) for number, item in enumerate(whole, 1))
            return
        if whole is not None:
            yield "the file", whole
            return
    for number, line in enumerate(io.BytesIO(data), 1):
        if not line.isspace():
            yield f"line {number}", line


def _only_if_any(
    found: Iterable[Document | Rejection], name: str
) -> Iterator[Document | Rejection]:
    """Pass everything on once there is a document; without one, refuse the file as a whole."""
    held: list[Rejection] = []
    accepted = False
    for outcome in found:
        if accepted:
            yield outcome
        elif isinstance(outcome, Document):
            accepted = True
            yield from held
            yield outcome
        else:
            held.append(outcome)
            if len(held) >= _HELD_BACK:
                break
    if not accepted:
        first = f" ({held[0].where}: {held[0].detail})" if held else ""
        raise Rejected(
            RejectReason.MALFORMED,
            f"{name}: none of its first {len(held):,} entries is a document{first}.",
            'Each line needs an object with a "text" (or "contents") string.',
        )


def _read_all(members: Iterable[_Unread]) -> Iterator[Document | Rejection]:
    seen: set[str] = set()
    for where, member in members:
        try:
            document = _document(_load(member) if isinstance(member, bytes) else member)
        except (ValueError, RecursionError) as failure:
            detail = "nested too deep" if isinstance(failure, RecursionError) else str(failure)
            yield Rejection(where, RejectReason.MALFORMED, detail)
            continue
        key = document.key or ""
        if key in seen:
            yield Rejection(where, RejectReason.DUPLICATE_KEY, f"{key!r} stands further up as well")
            continue
        seen.add(key)
        yield document


def _load(source: bytes) -> object:
    try:
        return json.loads(source.decode("utf-8"), parse_int=_integer)
    except UnicodeDecodeError as failure:
        raise ValueError(f"not valid UTF-8 at byte {failure.start}") from failure
    except json.JSONDecodeError as failure:
        raise ValueError(f"not valid JSON: {failure.msg} at character {failure.pos}") from failure


def _integer(digits: str) -> int | _TooBig:
    # int() itself refuses thousands of digits, and takes quadratic time up to there.
    value = int(digits) if len(digits) <= 20 else _MAX_INT + 1
    return value if -_MAX_INT <= value <= _MAX_INT else _TooBig()


def _document(value: object) -> Document:
    """Raises ValueError with the reason when the value is no document."""
    if not isinstance(value, dict):
        raise ValueError(f"a {type(value).__name__}, not an object")
    raw = next((value[field] for field in _TEXT_FIELDS if value.get(field) is not None), None)
    if raw is None:
        raise ValueError('no "text" or "contents" field')
    if not isinstance(raw, str):
        raise ValueError(f'"text" is a {type(raw).__name__}, not a string')
    text = clean(raw)
    title = clean(value["title"] if isinstance(value.get("title"), str) else "", "title")
    warnings = [*text.warnings, *title.warnings]
    body = text.text
    if not body.strip():
        if not title.text.strip():
            raise ValueError("neither text nor title")
        body = title.text
        warnings.append("no text: the title stands for it")
    metadata, dropped = _metadata(value)
    if dropped:
        warnings.append(f"metadata left out (nested, or no storable number): {', '.join(dropped)}")
    return Document(
        text=body,
        title=shorten(title.text, 500),
        sections=sections_of(body) if len(body) >= _LONG_TEXT_CHARS else (),
        metadata=metadata,
        key=_key(value, body, title.text),
        warnings=tuple(warnings),
    )


def _key(value: Mapping[str, Any], text: str, title: str) -> str:
    for field in _ID_FIELDS:
        stated = value.get(field)
        if isinstance(stated, (str, int, float)) and not isinstance(stated, bool):
            key = clean(str(stated)).text.strip()
            if key:
                return key
    return "sha256:" + hashlib.sha256(f"{title}\0{text}".encode()).hexdigest()[:32]


def _metadata(value: Mapping[str, Any]) -> tuple[dict[str, MetaValue], list[str]]:
    """(fields that can be stored, names of those that cannot). null means absent."""
    fields = {name: item for name, item in value.items() if name not in _RESERVED}
    nested = value.get("metadata")
    dropped = []
    if isinstance(nested, dict):
        fields |= nested
    elif nested is not None:
        dropped.append("metadata")
    kept: dict[str, MetaValue] = {}
    for name, item in fields.items():
        name = clean(name).text.strip()
        stored = _storable(item)
        if stored is not None and name:
            kept[name] = stored
        elif item is not None:
            dropped.append(name)
    return kept, dropped


def _storable(item: object) -> MetaValue | None:
    if isinstance(item, str):
        return clean(item).text
    if isinstance(item, (bool, int)):
        return item
    if isinstance(item, float):
        return item if math.isfinite(item) else None
    if isinstance(item, list):
        parts = [_storable(part) for part in item if part is not None]
        if any(part is None or isinstance(part, tuple) for part in parts):
            return None
        return tuple(_word(part) for part in parts)
    return None


def _word(part: MetaValue | None) -> str:
    """A list's element as text, booleans as JSON writes them."""
    return str(part).lower() if isinstance(part, bool) else str(part)
