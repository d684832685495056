"""What a Word package says of itself: title, authors, date; and the title that its text shows.

A title in the text counts before the stated one: documents are made from other documents, and what
is stated there is as often the last client's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from longleaf.core.types import MetaValue
from longleaf.indexer.parsers.decode import clean
from longleaf.indexer.parsers.docx_notes import without_places
from longleaf.indexer.parsers.docx_paragraph import Block
from longleaf.indexer.parsers.docx_parts import Parts, local_name, qualified
from longleaf.indexer.parsers.sections import shorten

_ALNUM = re.compile(r"[^\W_]")
_DAY = re.compile(r"\s*(\d{4}(?:-\d\d(?:-\d\d)?)?)(?:T|\s|$)")
TITLE_WITHIN_BLOCKS = 40

# What programs and templates write where a title belongs.
_NO_TITLE = re.compile(
    r"^\S+\.\w{2,4}$|\.(?:docx?|dotx?|pdf|rtf|wpd|odt)$|^[\w.-]*_[\w.-]*$|"
    r"^(?:untitled|title|word document|document\d*|\[.*\])$",
    re.IGNORECASE,
)
_PROGRAM_PREFIX = re.compile(r"^Microsoft (?:Office )?Word - ", re.IGNORECASE)
_CORE_FIELDS = ("title", "creator", "created", "language", "subject", "keywords")
_CORE_SPACES = (
    "http://purl.org/dc/elements/1.1/",
    "http://purl.org/dc/terms/",
    "http://schemas.openxmlformats.org/package/2006/metadata/core-properties",
)


def core_properties(parts: Parts) -> dict[str, str]:
    """The core properties that are said, by their names there. Raises `Rejected` (MALFORMED)."""
    part = parts.related("", "core-properties")
    found: dict[str, str] = {}
    if part is None:
        return found
    for _, element in parts.events(part, qualified(_CORE_SPACES, _CORE_FIELDS)):
        value = clean(" ".join((element.text or "").split())).text
        if value:
            found.setdefault(local_name(element), value)
    return found


def title_of(blocks: Sequence[Block], stated: str) -> str:
    """What stands in the title's style, else what the properties state; "" for file names."""
    lines: list[str] = []
    for at, block in enumerate(blocks):
        if block.is_title:
            lines.append(without_places(block.text))
        elif lines or at >= TITLE_WITHIN_BLOCKS:
            break
    shown = shorten(" ".join(lines))
    if _ALNUM.search(shown) is not None:
        return shown
    stated = _PROGRAM_PREFIX.sub("", shorten(stated))
    return "" if _NO_TITLE.search(stated) or _ALNUM.search(stated) is None else stated


def metadata_of(core: Mapping[str, str]) -> dict[str, MetaValue]:
    """Core properties as a document's metadata; `created` is when the file was made."""
    metadata: dict[str, MetaValue] = {}
    authors = tuple(filter(None, (each.strip() for each in core.get("creator", "").split(";"))))
    if any(" " in author for author in authors):
        metadata["authors"] = authors
    elif authors:
        metadata["author"] = "; ".join(authors)  # one word is a user's account, not a name
    if (day := _DAY.match(core.get("created", ""))) is not None:
        metadata["created"] = day[1]
    for key in ("language", "subject"):
        if core.get(key):
            metadata[key] = core[key]
    keywords = tuple(
        filter(None, (each.strip() for each in re.split("[,;]", core.get("keywords", ""))))
    )
    if keywords:
        metadata["keywords"] = keywords
    return metadata
