"""What the process that draws pages does: keeps one PDF open and draws the pages it is asked for.

It runs behind the same walls as a parser, beside a stranger's file, and promises nothing that its
parent (`drawer`) does not check. A file is sent once and stays until the next one, so a reader who
scrolls does not have it sent and opened for every page.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from longleaf.core.errors import LongleafError, NotDrawn
from longleaf.core.frames import Frame, Incoming, error_to_json, pieces
from longleaf.indexer.sandbox.confine import Confinement
from longleaf.indexer.sandbox.cpu import limit_cpu
from longleaf.indexer.sandbox.memory import Memory

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument


def serve_drawing(connection: socket.socket, confinement: Confinement, memory: Memory) -> None:
    """Answer until the parent is gone, or memory has run out once."""
    pdf: PdfDocument | None = None
    incoming = Incoming(connection)
    answer = Frame({"say": "hello", "confinement": confinement.to_json()})
    with suppress(EOFError, BrokenPipeError):
        while True:
            for part in pieces(answer):
                connection.sendall(part)
            if answer.header.get("ended"):
                return
            asked: dict[str, Any] = dict(incoming.frame().header)
            memory.allow(asked["memory_bytes"] + asked["bytes"])
            limit_cpu(asked["seconds"])
            try:
                if asked["bytes"]:
                    if pdf is not None:
                        pdf.close()
                        pdf = None
                    pdf = _opened(incoming.raw(asked["bytes"]))
                if pdf is None:
                    raise NotDrawn("No file is open.")
                answer = _drawn(pdf, asked["page"], asked["scale"])
            except LongleafError as error:
                told = {"error": error_to_json(_as_not_drawn(error)), "open": pdf is not None}
                answer = Frame(told)
            except MemoryError:
                memory.allow_all()
                flood = NotDrawn("The page needs too much memory.", "Read its text instead.")
                answer = Frame({"error": error_to_json(flood), "ended": True})


def _opened(data: bytes) -> PdfDocument:
    import pypdfium2

    from longleaf.indexer.parsers.pdf_bombs import refuse_bombs

    refuse_bombs(data, "The file")
    try:
        return pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as failure:
        raise NotDrawn(f"The file cannot be opened: {failure}") from failure


def _drawn(pdf: PdfDocument, page: int, scale: float) -> Frame:
    from longleaf.indexer.parsers.pdf_picture import draw_page

    return Frame({"page": page}, (np.frombuffer(draw_page(pdf, page, scale), "|u1"),))


def _as_not_drawn(error: LongleafError) -> NotDrawn:
    return NotDrawn(error.message[:2000], error.hint[:2000])
