"""Markdown: the text stays the author's own source, so a passage's slice is what the file says.

markdown-it-py tells which lines are headings (not those in code or quotes); inline markup is read
in headings only. A front matter of `key: value` lines becomes metadata and is not part of the
text. It is read line by line without a YAML library: anything beyond scalars and flat lists stays
in the text, visible, with a warning.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from longleaf.core.errors import NoTextFound
from longleaf.core.protocols import NO_CONTEXT, ParseContext
from longleaf.core.types import Document, MetaValue, Rejection
from longleaf.indexer.parsers.decode import clean, decode
from longleaf.indexer.parsers.headings import sections_of
from longleaf.indexer.parsers.sections import Mark, nest, shorten, title_from
from longleaf.indexer.parsers.text import refuse_blank

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

_FRONT_MATTER = re.compile(r"---[ \t]*\n(?P<body>(?:.*\n)*?)(?:---|\.\.\.)[ \t]*(?:\n|\Z)")
_FRONT_MATTER_CHARS = 20_000
_FIELD = re.compile(r"(?P<name>[A-Za-z_][\w .-]*?)[ \t]*:(?:[ \t]+(?P<value>.*))?")
_ITEM = re.compile(r"[ \t]*-[ \t]+(?P<value>.+)")


class MarkdownParser:
    """A `core.protocols.Parser` for Markdown."""

    media_type = "text/markdown"
    suffixes: tuple[str, ...] = (".md", ".markdown", ".mdown")

    def parse(
        self, data: bytes, name: str, context: ParseContext = NO_CONTEXT
    ) -> Iterator[Document | Rejection]:
        """One document. Raises `Rejected` (EMPTY, MALFORMED) and `NoTextFound`."""
        name = clean(name).text
        decoded = decode(data, name)
        refuse_blank(decoded.text, name)
        text, metadata, warnings = _split_front_matter(decoded.text)
        if not text or text.isspace():
            raise NoTextFound(f"{name} holds front matter and nothing else.")
        marks = _headings(text)
        first = min(marks, key=lambda mark: mark.rank, default=None)
        title = metadata.get("title") or (first.title if first and first.rank == 1 else "")
        yield Document(
            text=text,
            title=shorten(str(title)) or title_from(text.lstrip("# \n"), name),
            sections=nest(marks, len(text)) if marks else sections_of(text),
            metadata={key: value for key, value in metadata.items() if key != "title"},
            warnings=decoded.warnings + warnings,
        )


def _headings(text: str) -> list[Mark]:
    from markdown_it import MarkdownIt

    reader = MarkdownIt("commonmark")
    # Inline markup of the body is never looked at, and reading it is most of the work.
    reader.core.ruler.disable("inline")
    tokens = reader.parse(text)
    reader.core.ruler.enable("inline")
    starts = [0, *accumulate(len(line) + 1 for line in text.split("\n"))]
    marks = []
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open" and opening.level == 0 and opening.map is not None:
            start = starts[opening.map[0]]
            while text[start] == " ":
                start += 1
            title = shorten(_plain(inline.content, reader))
            if title:
                marks.append(Mark(title, int(opening.tag[1]), start))
    return marks


def _plain(markup: str, reader: MarkdownIt) -> str:
    """A heading's words without emphasis, links and code marks."""
    children = [
        child for token in reader.parseInline(markup) for child in token.children or [token]
    ]
    return "".join(
        " " if child.type in ("softbreak", "hardbreak") else child.content
        for child in children
        if child.type != "html_inline"
    )


def _split_front_matter(text: str) -> tuple[str, Mapping[str, MetaValue], tuple[str, ...]]:
    """(text after the front matter, its fields, warnings); the text whole where there is none."""
    match = _FRONT_MATTER.match(text, 0, _FRONT_MATTER_CHARS)
    if match is None:
        return text, {}, ()
    fields = _read_fields(match["body"])
    if fields is None:
        note = "front matter is more than `key: value` lines and flat lists: left in the text"
        return text, {}, (note,) if _FIELD.match(match["body"]) else ()
    return text[match.end() :], fields, ()


def _read_fields(body: str) -> dict[str, MetaValue] | None:
    fields: dict[str, MetaValue] = {}
    name = ""
    for line in body.split("\n"):
        if not line.strip() or line.startswith("#"):
            continue
        if (item := _ITEM.fullmatch(line)) is not None and name:
            so_far = fields.get(name, ())
            if not isinstance(so_far, tuple):
                return None
            fields[name] = (*so_far, _unquote(item["value"]))
        elif (match := _FIELD.fullmatch(line)) is not None:
            name, value = match["name"].strip(), (match["value"] or "").strip()
            if value.startswith("[") and value.endswith("]"):
                items = (_unquote(part) for part in value[1:-1].split(","))
                fields[name] = tuple(part for part in items if part)
            elif value:
                fields[name] = _scalar(value)
        else:
            return None
    return fields


def _scalar(value: str) -> MetaValue:
    if value in ("true", "false"):
        return value == "true"
    if re.fullmatch(r"-?(?:0|[1-9]\d{0,17})", value) is not None:
        return int(value)
    if re.fullmatch(r"-?\d{1,15}\.\d{1,15}", value) is not None:
        return float(value)
    return _unquote(value)


def _unquote(value: str) -> str:
    value = value.strip()
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value
