"""What a child with programs does: runs LibreOffice and Tesseract on what a parser asks for.

Parsers start nothing themselves; their parent hands their bytes on to this process, whose walls
are others: it may run those programs, with sockets of this machine, and write to its scratch
folder. It never parses a file, and answers one question at a time.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from longleaf.core.errors import ConfigError, Rejected, RejectReason
from longleaf.core.frames import Frame, Incoming, error_to_json, pieces
from longleaf.indexer.sandbox import wire
from longleaf.indexer.sandbox.confine import Confinement

if TYPE_CHECKING:
    from longleaf.indexer.ocr import Tesseract


def serve_programs(
    connection: socket.socket, confinement: Confinement, place: dict[str, Any]
) -> None:
    """Answer until the parent is gone. `place` names the programs."""
    answering = _Answering(place)
    bounds = wire.bounds(place["document_bytes"])
    incoming = Incoming(connection)
    answer = Frame({"say": "hello", "confinement": confinement.to_json()})
    with suppress(EOFError, BrokenPipeError):
        while True:
            for part in pieces(answer, bounds):
                connection.sendall(part)
            asked = incoming.frame(bounds)
            try:
                answer = answering.answer(asked)
            except Exception as error:
                answer = Frame({"error": error_to_json(_as_rejected(error))})
            _bury_strays()


class _Answering:
    def __init__(self, place: dict[str, Any]) -> None:
        self._place = place
        self._tesseract: Tesseract | None = None

    def answer(self, asked: Frame) -> Frame:
        """Raises what the program's module raises."""
        place = self._place
        match asked.header:
            case {"ask": "convert", "suffix": suffix}:
                from longleaf.indexer.office import LibreOffice

                office = LibreOffice(
                    Path(place["libreoffice"]), Path(place["scratch"]), place["convert_seconds"]
                )
                made = office.convert(asked.arrays[0].tobytes(), suffix)
                return Frame({}, (np.frombuffer(made, "|u1"),))
            case {"ask": "engine"}:
                return Frame({"engine": self._ocr().engine})
            case {"ask": "page", "page": number}:
                words = self._ocr().read_page(number, asked.arrays[0].tobytes)
                if len(words) > wire.WORDS_ON_A_PAGE:
                    raise Rejected(
                        RejectReason.EXPANDS, f"OCR finds {len(words):,} words on page {number}."
                    )
                return Frame({"words": wire.words_to_json(words)})
        raise ValueError(f"nothing that can be asked: {asked.header}")

    def _ocr(self) -> Tesseract:
        if self._tesseract is None:
            from longleaf.indexer.ocr import Tesseract

            self._tesseract = Tesseract(
                self._place["ocr_languages"],
                self._place["tesseract"],
                seconds_per_page=self._place["ocr_page_seconds"],
            )
        return self._tesseract


def _as_rejected(error: Exception) -> Rejected:
    if isinstance(error, Rejected):
        return Rejected(error.reason, wire.sendable(error.message), wire.sendable(error.hint))
    if isinstance(error, ConfigError):
        return Rejected(
            RejectReason.NEEDS_PROGRAM, wire.sendable(error.message), wire.sendable(error.hint)
        )
    if isinstance(error, MemoryError):
        return Rejected(RejectReason.TOO_MUCH_MEMORY, "Running a program on it takes too much.")
    return Rejected(RejectReason.INTERNAL, wire.sendable(repr(error)))


def _bury_strays() -> None:
    """Wait for what programs left behind: here this process is the first of its own world."""
    with suppress(ChildProcessError):
        while os.getpid() == 1 and os.waitpid(-1, os.WNOHANG)[0]:
            pass
