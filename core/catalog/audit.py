"""The audit log: who changed what, and when. Rows are added; `forget` alone takes any away.

A row holds no text of a document, no query and no key: the caller's name and key's id, the act, on
what it was done, and how it ended. Acts of several servers on one catalog stand in one log.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, insert, select

from longleaf.core.catalog.database import Database
from longleaf.core.catalog.schema import audit

MAX_TARGET_CHARS = 500
KEEPER = "longleaf"
"""Whose acts are those that nobody asked for."""


@dataclass(frozen=True, slots=True)
class AuditWrite:
    """An act. `act`: such as "DELETE /v1/documents/{document_id}"; `target`: the path as asked;
    `status`: the HTTP status, or 0 for a command on this machine."""

    caller: str
    key_id: str | None
    act: str
    target: str
    status: int
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class AuditEntry(AuditWrite):
    """An act as it is kept; `at`: seconds since the epoch."""

    id: int = 0
    at: float = 0.0


class Audit:
    """The audit log of one catalog. Thread-safe: every method is one transaction."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def put(self, act: AuditWrite) -> None:
        """Keep an act; it is durable on return."""
        with self._database.writing() as connection:
            connection.execute(insert(audit).values(**self._row(act)))

    def newest(self, limit: int, before: int | None = None) -> list[AuditEntry]:
        """The newest acts first, from before entry `before` on."""
        asked = select(audit).order_by(audit.c.id.desc()).limit(limit)
        if before is not None:
            asked = asked.where(audit.c.id < before)
        with self._database.reading() as connection:
            rows = connection.execute(asked).all()
        return [
            AuditEntry(**{name: row._mapping[name] for name in AuditEntry.__dataclass_fields__})
            for row in rows
        ]

    def forget(self, older_than_seconds: float) -> int:
        """Take away what is older, and keep a row that says how many went; returns how many."""
        before = self._clock() - older_than_seconds
        with self._database.reading() as connection:
            if connection.execute(select(audit.c.id).where(audit.c.at < before)).first() is None:
                return 0
        with self._database.writing() as connection:
            gone = connection.execute(delete(audit).where(audit.c.at < before)).rowcount
            day = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(before))
            if gone:
                act = AuditWrite(KEEPER, None, "audit forget", f"{gone} rows before {day}", 0)
                connection.execute(insert(audit).values(**self._row(act)))
            return gone

    def _row(self, act: AuditWrite) -> dict[str, Any]:
        return {
            "at": self._clock(),
            "caller": _short(act.caller),
            "key_id": act.key_id,
            "act": _short(act.act),
            "target": _short(act.target),
            "status": act.status,
            "request_id": _short(act.request_id),
        }


def _short(text: str) -> str:
    """As much as is kept, without what no database takes."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode()[:MAX_TARGET_CHARS]
