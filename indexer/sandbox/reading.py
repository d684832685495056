"""What a parser's process does with each file: parse it and tell the parent what is found.

It is the only code of ours that runs beside a hostile file's parser, so it promises nothing to the
parent that the parent does not check. What a parser may use beside the bytes (OCR, a converter) it
asks of the parent, because it can start nothing itself. Sending blocks while nobody reads, so at
most one document is ahead of what the parent has taken.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from longleaf.core.errors import NoTextFound, Rejected, RejectReason, TooLarge
from longleaf.core.frames import Frame, Incoming, error_from_json, error_to_json, pieces
from longleaf.core.logs import traceback_of
from longleaf.core.protocols import ParseContext, Parser
from longleaf.core.types import Document, OcrWord, Rejection
from longleaf.indexer.parsers import parser_for
from longleaf.indexer.sandbox import wire
from longleaf.indexer.sandbox.confine import Confinement
from longleaf.indexer.sandbox.cpu import limit_cpu
from longleaf.indexer.sandbox.memory import Memory

_PROGRESS_SECONDS = 0.1
_TRACE_CHARS = 10_000


class _ParentGone(BaseException):
    """No parser may catch this one."""


class Reading:
    """One child's conversation with its parent."""

    def __init__(
        self,
        connection: socket.socket,
        memory: Memory,
        document_bytes: int,
        choose: Callable[[str, bytes], Parser] | None,
    ) -> None:
        self._connection = connection
        self._incoming = Incoming(connection)
        self._memory = memory
        self._bounds = wire.bounds(document_bytes)
        self._choose = choose or parser_for
        self._progress_at = 0.0

    def serve(self, confinement: Confinement) -> None:
        """Read files until the parent is gone, or memory has run out once."""
        self._send(Frame({"say": "hello", "confinement": confinement.to_json()}))
        healthy = True
        try:
            while healthy:
                asked = dict(self._incoming.frame().header)
                self._memory.allow(asked["memory_bytes"] + asked["bytes"])
                limit_cpu(asked["cpu_seconds"])
                healthy = self._read(self._incoming.raw(asked["bytes"]), asked)
        except (_ParentGone, EOFError):
            return

    def _read(self, data: bytes, asked: dict[str, Any]) -> bool:
        end: dict[str, Any]
        healthy = True
        try:
            self._tell_documents(data, asked["name"], self._context(asked))
            end = {"say": "end"}
        except (Rejected, NoTextFound) as error:
            end = {"say": "error", **error_to_json(error)}
        except MemoryError:
            self._memory.allow_all()
            end = _rejected(RejectReason.TOO_MUCH_MEMORY, f"{asked['name']} needs too much memory.")
            healthy = False  # what the parser left behind is not worth finding out
        except RecursionError:
            end = _rejected(RejectReason.MALFORMED, f"{asked['name']} is nested too deep.")
        except Exception as error:
            end = _rejected(RejectReason.INTERNAL, repr(error))
            end["trace"] = traceback_of(error)[-_TRACE_CHARS:]
        for name in ("message", "hint", "trace"):
            if name in end:
                end[name] = wire.sendable(end[name])
        self._send(Frame(end))
        return healthy

    def _tell_documents(self, data: bytes, name: str, context: ParseContext) -> None:
        parser = self._choose(name, data)
        self._send(Frame({"say": "type", "media_type": parser.media_type}))
        for item in parser.parse(data, name, context):
            if isinstance(item, Rejection):
                self._send(wire.rejection_frame(item))
            else:
                self._tell_document(item, name)

    def _tell_document(self, document: Document, name: str) -> None:
        try:
            self._send(wire.document_frame(document))
        except TooLarge as error:
            where = document.key or document.part
            reason = RejectReason.EXPANDS
            if where is None:
                raise Rejected(reason, f"{name} expands too much: {error.message}") from error
            self._send(wire.rejection_frame(Rejection(where, reason, error.message)))

    def _context(self, asked: dict[str, Any]) -> ParseContext:
        return ParseContext(
            ocr=_AskedPages(self._ask) if asked["ocr"] else None,
            why_no_ocr=asked["why_no_ocr"],
            convert=self._convert if asked["convert"] else None,
            on_progress=self._tell_progress,
        )

    def _tell_progress(self, phase: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done >= total or now - self._progress_at >= _PROGRESS_SECONDS:
            self._progress_at = now
            told = {"say": "progress", "phase": phase, "done": int(done), "total": int(total)}
            self._send(Frame(told))

    def _convert(self, data: bytes, suffix: str) -> bytes:
        asked = Frame({"say": "convert", "suffix": suffix}, (np.frombuffer(data, "|u1"),))
        converted: bytes = self._ask(asked).arrays[0].tobytes()
        return converted

    def _ask(self, frame: Frame) -> Frame:
        """Raises what the parent says went wrong."""
        self._send(frame)
        answer = self._incoming.frame(self._bounds)
        if "error" in answer.header:
            raise error_from_json(answer.header["error"])
        return answer

    def _send(self, frame: Frame) -> None:
        parts = pieces(frame, self._bounds)
        try:
            for part in parts:
                self._connection.sendall(part)
        except OSError as error:
            raise _ParentGone from error


@dataclass(slots=True)
class _AskedPages:
    """A `core.protocols.PageReader` whose pages the parent has read, or has another process read.

    `engine` is known once a page was asked for. The picture is made only when the parent does not
    know the page.
    """

    ask: Callable[[Frame], Frame]
    engine: str = "not asked yet"

    def read_page(self, number: int, render: Callable[[], bytes]) -> tuple[OcrWord, ...]:
        told = self.ask(Frame({"say": "page", "page": number})).header
        if told["words"] is None:
            picture = np.frombuffer(render(), "|u1")
            told = self.ask(Frame({"say": "picture", "page": number}, (picture,))).header
        self.engine = told["engine"]
        return wire.words_from_json(told["words"])


def _rejected(reason: RejectReason, message: str) -> dict[str, Any]:
    return {"say": "error", **error_to_json(Rejected(reason, message))}
