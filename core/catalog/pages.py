"""What OCR has read of an original's pages: kept so that it is read once, gone with the original.

Rows come in while a file is still being read, before any document refers to it; what is left of a
file that became no document goes when nothing is under way any more (`forget_unused`).
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, delete, insert, select

from longleaf.core.catalog import schema
from longleaf.core.catalog.schema import ocr_pages, revisions
from longleaf.core.types import OcrWord


def known(connection: Connection, original: str, engine: str) -> dict[int, tuple[OcrWord, ...]]:
    """Page number -> words, of what this engine has read of the original."""
    query = select(ocr_pages.c.page, ocr_pages.c.words).where(
        ocr_pages.c.original == original, ocr_pages.c.engine == engine
    )
    return {
        row.page: tuple(OcrWord(*word) for word in row.words) for row in connection.execute(query)
    }


def put(
    connection: Connection, original: str, engine: str, page: int, words: tuple[OcrWord, ...]
) -> None:
    """Keep what was read of a page; the newest reading counts."""
    this = {"original": original, "engine": engine, "page": page}
    same = [ocr_pages.c[name] == value for name, value in this.items()]
    connection.execute(delete(ocr_pages).where(*same))
    rows = [
        [w.text, w.confidence, w.paragraph, w.line, w.left, w.top, w.right, w.bottom] for w in words
    ]
    connection.execute(insert(ocr_pages).values(words=rows, **this))


def forget(connection: Connection, originals: Iterable[str]) -> None:
    """Drop everything that was read of these."""
    for original in originals:
        connection.execute(delete(ocr_pages).where(ocr_pages.c.original == original))


def has_any(connection: Connection) -> bool:
    """Whether anything that OCR read is kept."""
    return connection.execute(select(ocr_pages.c.original).limit(1)).first() is not None


def forget_unused(connection: Connection) -> int:
    """Drop what was read of files that no document refers to; returns of how many files.

    Nothing while a job is under way, because it may be reading such a file.
    """
    jobs = schema.jobs
    under_way = select(jobs.c.id).where(jobs.c.state.in_(("queued", "running"))).limit(1)
    if connection.execute(under_way).first() is not None:
        return 0
    used = select(revisions.c.id).where(revisions.c.original == ocr_pages.c.original)
    query = select(ocr_pages.c.original).where(~used.exists()).distinct()
    unused = [row.original for row in connection.execute(query)]
    forget(connection, unused)
    return len(unused)
