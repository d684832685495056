"""Parsers in this process: what the sandbox's child runs, and what tests and benchmarks use.

It picks the parser and hands on its context. A parser that crashes or never ends takes this
process with it: whoever reads files that somebody else made uses `indexer.sandbox`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from longleaf.core.protocols import NO_CONTEXT, ParseContext
from longleaf.core.types import Document, Rejection
from longleaf.indexer.parsers import parser_for


@dataclass(slots=True)
class _Opened:
    media_type: str
    _items: Iterator[Document | Rejection]

    def __iter__(self) -> Iterator[Document | Rejection]:
        return self._items

    def close(self) -> None:
        """Nothing runs before it is asked for, so there is nothing to stop."""


class ReadHere:
    """A `core.protocols.FileReader` without any protection."""

    def __init__(self, context: ParseContext = NO_CONTEXT) -> None:
        self._context = context

    def open(
        self,
        data: bytes,
        name: str,
        on_progress: Callable[[str, int, int], None] = NO_CONTEXT.on_progress,
    ) -> _Opened:
        """See `core.protocols.FileReader`."""
        parser = parser_for(name, data)
        context = replace(self._context, on_progress=on_progress)
        return _Opened(parser.media_type, parser.parse(data, name, context))

    def close(self) -> None:
        """Nothing to end."""
