"""A file in the sandbox as both sides see it: who reads it takes documents, a worker brings them.

Between the two is a little room, so that parsing goes on while the reader embeds; when it is full
the worker waits, its child with it, and no time is counted. Progress is told in the reader's own
thread, the newest only. It knows no process.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from longleaf.core.errors import LongleafError
from longleaf.core.types import Document, Rejection

_ROOM = 8 * 1024 * 1024
"""Characters, or bytes of layout, that may wait to be taken; one larger document may as well."""

_ITEM = 512
"""What any document weighs beside its text."""

Progress = tuple[str, int, int]


class OpenedInSandbox:
    """A `core.protocols.OpenedFile`; the lower half is the worker's."""

    def __init__(
        self,
        data: bytes,
        name: str,
        on_progress: Callable[[str, int, int], None],
        on_wait: Callable[[OpenedInSandbox], None],
    ) -> None:
        """`on_wait` hears that somebody waits for a file that no worker has begun."""
        self.data = data
        self.name = name
        self.awaited = False
        self.begun = False
        self._on_progress = on_progress
        self._on_wait = on_wait
        self._changed = threading.Condition()
        self._media_type = ""
        self._items: deque[Document | Rejection] = deque()
        self._weight = 0
        self._taken: deque[Document | Rejection] = deque()
        self._progress: Progress | None = None
        self._ended = False
        self._error: LongleafError | None = None
        self._closed = False
        self._kill: Callable[[], None] | None = None

    @property
    def media_type(self) -> str:
        """Waits until the file's parser is chosen; "" when it never was."""
        self._begin_waiting()
        with self._changed:
            self._changed.wait_for(lambda: self._media_type or self._ended or self._closed)
        return self._media_type

    def __iter__(self) -> Iterator[Document | Rejection]:
        while (item := self._next()) is not None:
            yield item

    def close(self) -> None:
        """Give up reading: what works on the file is ended."""
        self.give_up(None)

    def give_up(self, error: LongleafError | None) -> None:
        """As `close`; whoever iterates it hears `error`."""
        with self._changed:
            self._closed = True
            self._error = self._error or error
            self._items.clear()
            self._progress = None
            self._weight = 0
            if self._kill is not None:
                self._kill()
            self._changed.notify_all()

    def _next(self) -> Document | Rejection | None:
        while not self._taken:
            progress = self._wait()
            if progress is not None:
                self._on_progress(*progress)
            elif not self._taken:
                return None
        return None if self._closed else self._taken.popleft()

    def _wait(self) -> Progress | None:
        """Wait for anything new and take all documents that are there. Raises the file's error."""
        self._begin_waiting()
        with self._changed:
            self._changed.wait_for(
                lambda: self._items or self._progress or self._ended or self._closed
            )
            progress, self._progress = self._progress, None
            if progress is None:
                self._taken, self._items = self._items, self._taken
                self._weight = 0
                self._changed.notify_all()
                if not self._taken and self._error is not None:
                    raise self._error
        return progress

    def _begin_waiting(self) -> None:
        self.awaited = True
        if not (self.begun or self._ended or self._closed):
            self._on_wait(self)

    # --- for the worker ------------------------------------------------------------------------

    @property
    def is_closed(self) -> bool:
        return self._closed

    @property
    def is_full(self) -> bool:
        return self._weight >= _ROOM

    def begin(self, kill: Callable[[], None]) -> bool:
        """From now on `close` calls `kill`; False when it was closed before."""
        with self._changed:
            self._kill = kill
            return not self._closed

    def choose(self, media_type: str) -> None:
        """The file's parser reads this."""
        with self._changed:
            self._media_type = media_type
            self._changed.notify_all()

    def tell(self, progress: Progress) -> None:
        """How far its parser is."""
        with self._changed:
            self._progress = progress
            self._changed.notify_all()

    def put(self, items: Sequence[Document | Rejection]) -> bool:
        """Hand over the next documents, once there is room; False when nobody wants them."""
        with self._changed:
            self._changed.wait_for(lambda: not self.is_full or self._closed)
            if self._closed:
                return False
            self._items.extend(items)
            self._weight += sum(map(weight, items))
            self._changed.notify_all()
        return True

    def end(self, error: LongleafError | None) -> None:
        """Nothing more comes, and nobody works on it any more."""
        with self._changed:
            self._kill = None
            self._error = self._error or error
            self._ended = True
            self.data = b""
            self._changed.notify_all()


def weight(item: Document | Rejection) -> int:
    """What a document counts for in the room between worker and reader."""
    if isinstance(item, Rejection):
        return _ITEM
    if item.layout is None:
        return _ITEM + len(item.text)
    return _ITEM + len(item.text) + item.layout.spans.nbytes + item.layout.boxes.nbytes
