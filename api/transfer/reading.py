"""Members of an export to lines, each of the right form; no line longer than memory allows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from pydantic import ValidationError

from longleaf.api.transfer import form
from longleaf.api.transfer.archive import Member
from longleaf.core.errors import InvalidRequest

_CHUNK_BYTES = 1024 * 1024
_MOST_MEMBER_BYTES = form.PART_BYTES + 2 * form.MOST_LINE_BYTES

Line = TypeVar("Line", bound=form.Strict)


def chunks(member: Member) -> Iterator[bytes]:
    while chunk := member.read(_CHUNK_BYTES):
        yield chunk


def exactly(member: Member, size_bytes: int) -> bytes:
    parts, left = [], size_bytes
    while left:
        part = member.read(min(left, _CHUNK_BYTES))
        if not part:
            raise InvalidRequest(f"{member.name} ends in the middle.", "Copy the export again.")
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def lines(kind: type[Line], member: Member) -> Iterator[Line]:
    """The lines of a member, each checked. Raises InvalidRequest."""
    if member.size > _MOST_MEMBER_BYTES and kind is not form.SourceLine:
        raise InvalidRequest(f"{member.name} is larger than a part of an export can be.")
    waiting, number = bytearray(), 0
    for chunk in chunks(member):
        waiting += chunk
        while (end := waiting.find(b"\n")) >= 0:
            number += 1
            yield _parsed(kind, bytes(waiting[:end]), f"{member.name}, line {number}")
            del waiting[: end + 1]
        if len(waiting) > form.MOST_LINE_BYTES:
            raise InvalidRequest(f"{member.name}: line {number + 1} is too long.")
    if waiting:
        raise InvalidRequest(f"{member.name} ends within a line.", "Copy the export again.")


def one(kind: type[Line], member: Member) -> Line:
    if member.size > _CHUNK_BYTES:
        raise InvalidRequest(f"{member.name} is too large.")
    return _parsed(kind, b"".join(chunks(member)), member.name)


def _parsed(kind: type[Line], data: bytes, where: str) -> Line:
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InvalidRequest(
            f"{where} cannot be taken: {place or 'it'}: {first['msg']}.",
            "Another version of Longleaf may have made this export.",
        ) from None
