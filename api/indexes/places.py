"""Where the index of one generation is kept, and what may be done with it as a whole.

An embedded shard is a folder with one owner; FAISS is a folder and the memory of one process; a
Qdrant collection is shared by all. Everything above asks a `Place` and need not know which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from longleaf.core.protocols import IndexEntry, PassageIndex
from longleaf.retriever.follow import Follower, FollowerThread, Following


class Followed(Protocol):
    """An open index and what brings it up to date.

    `failure` says why it does not follow the catalog at the moment; `told` tells a person what it
    is and where. `by_itself`: it follows without being asked, and else whoever opened it calls
    `follower.catch_up()`. `close` lets go of it.
    """

    by_itself: bool

    @property
    def index(self) -> PassageIndex: ...

    @property
    def follower(self) -> Following: ...

    @property
    def failure(self) -> str | None: ...

    @property
    def told(self) -> str: ...

    def close(self) -> None: ...


class StoredContent(Protocol):
    """What a kind of index tells of what it stores; the modules named `…_content` do."""

    def differences(self, index: Any, entries: Iterable[IndexEntry]) -> Iterator[tuple[int, str]]:
        """(document id, what differs) of every passage that is not stored as it should be."""
        ...

    def document_ids(self, index: Any, point_ids: Sequence[int]) -> set[int]:
        """Which documents these points say they are of."""
        ...


class Place(Protocol):
    """The index of one generation in its store.

    `name`: as the catalog knows its follower. `open` opens it for this process and `serve` so that
    it follows by itself; both make one that is missing. They raise IndexLocked where it belongs to
    another process, GenerationMismatch and CatalogBroken for one that is not what it should be.
    `why_unusable` says why it would be made anew, opening nothing that others have open, and raises
    the same. `drop` deletes it, whatever state it is in; on a server, what is not this catalog's
    only with `take_over`, and else raises ForeignIndex. `byte_count`: on this machine's disk.
    `content` looks into an index that `open` gave. `unmet` says which settings `longleaf rebuild`
    would bring into force, and opens nothing.
    """

    name: str

    def exists(self) -> bool: ...

    def open(self) -> Followed: ...

    def serve(self) -> Followed: ...

    def why_unusable(self) -> str | None: ...

    def drop(self, *, take_over: bool = False) -> None: ...

    def byte_count(self) -> int: ...

    def content(self) -> StoredContent: ...

    def unmet(self) -> list[str]: ...


class OpenedHere:
    """An index in this process with a follower that is asked."""

    by_itself = False
    failure = None

    def __init__(self, index: PassageIndex, follower: Follower, told: str) -> None:
        self.index = index
        self.follower: Following = follower
        self.told = told

    def close(self) -> None:
        self.index.close()


class FollowedHere:
    """An index in this process with a thread that follows."""

    by_itself = True

    def __init__(
        self, index: PassageIndex, follower: Follower, told: str, when_level: Callable[[], None]
    ) -> None:
        self.index = index
        self.follower: Following = follower
        self.told = told
        self._thread = FollowerThread(follower, when_level=when_level)
        self._thread.start()

    @property
    def failure(self) -> str | None:
        return self._thread.failure

    def close(self) -> None:
        self._thread.stop()
        self.index.close()
