"""The live index against the catalog, and mending it: by the log, or by making it anew.

Without a server the index is opened here. A server owns its index, so it is asked to compare; what
is missing or too much is then named in the log again and the server applies it by itself. A look at
what the shard's files say (`deep`), and making it anew, need the server stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from longleaf.api import indexes
from longleaf.api.doctor.compare import Comparison, compare
from longleaf.api.doctor.report import DEEP_REPAIR, REPAIR, Finding, fail, ok, warn
from longleaf.api.running import local_headers
from longleaf.core.catalog import Catalog, Generation
from longleaf.core.catalog.repair import push_again
from longleaf.core.config import Settings
from longleaf.core.errors import (
    CatalogBroken,
    ForeignIndex,
    GenerationMismatch,
    IndexLocked,
    LongleafError,
)
from longleaf.core.protocols import PassageIndex

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from longleaf.api.indexes import Followed, Place

Progress = Callable[[str, int, int], None]

_STOP_SERVER = "Stop the server, then: longleaf doctor --repair"
_SHOWN = 20


@dataclass(slots=True)
class IndexExam:
    """One examination of one index. `repaired` is told what was mended."""

    settings: Settings
    catalog: Catalog
    generation: Generation
    deep: bool
    repair: bool
    repaired: Callable[[str], None]
    progress: Progress

    def alone(self) -> Iterator[Finding]:
        """Without a server: open the index, compare, mend, compare again."""
        place = self._place()
        try:
            if not self.repair and not place.exists():
                remedy = "The next search makes it from the catalog."
                yield warn("index", "There is none yet.", remedy)
                return
            why = place.why_unusable()
        except IndexLocked as error:
            yield warn("index", f"It cannot be looked at now. {error.message}", error.hint)
            return
        except ForeignIndex as error:  # not ours to mend
            yield fail("index", error.message, error.hint)
            return
        except (CatalogBroken, GenerationMismatch) as error:
            why = error.message
            if not self.repair:
                yield fail("index", why, f"Nothing is lost, it is made from the catalog: {REPAIR}")
                return
        except LongleafError as error:  # a server that is away
            yield fail("index", error.message, error.hint)
            return
        if why is not None and not self.repair:
            remedy = f"The next search does that, or {REPAIR}"
            yield warn("index", f"It is to be made anew: {why}.", remedy)
            return
        if why is not None:
            try:
                self.remake()
            except LongleafError as error:
                yield fail("index", f"It cannot be made anew. {error.message}", error.hint)
                return
            self.repaired(f"made the index anew ({why})")
        yield from self._compared()
        yield from self._unmet()

    def asking(self, server: str) -> Iterator[Finding]:
        """With a server: have it compare, mend through the log, have it compare again."""
        try:
            found = self._asked(server)
            if not found.equal and self.repair and found.document_ids:
                pushed = push_again(self.catalog, found.document_ids)
                self.repaired(f"pushed {pushed:,} documents to the index again")
                found = self._asked(server)
        except LongleafError as error:
            yield warn("index", error.message, error.hint)
            return
        yield self._verdict(found, REPAIR if found.document_ids else _STOP_SERVER)
        yield from self._unmet()
        if self.deep:
            yield warn(
                "index content",
                "Not looked at: the running server has the index open.",
                "Stop the server and run longleaf doctor --deep again.",
            )

    def _unmet(self) -> Iterator[Finding]:
        """Settings that were changed since the index was made, and need another one."""
        with suppress(LongleafError):  # told of already
            for what in self._place().unmet():
                yield warn("index settings", what, "longleaf rebuild")

    def _asked(self, server: str) -> Comparison:
        return _ask(server, local_headers(self.settings.home))

    def remake(self) -> None:
        """Make the index anew from the catalog, whatever state it is in. Raises IndexLocked, and
        ForeignIndex for one that is not this catalog's."""
        self._place().drop()
        with self._opened() as followed:
            followed.follower.catch_up(lambda done, total: self.progress("Index", done, total))
            followed.index.optimize()

    def _place(self) -> Place:
        return indexes.place(self.settings, self.catalog, self.generation)

    def _opened(self) -> AbstractContextManager[Followed]:
        return indexes.opened(self.settings, self.catalog, self.generation)

    def _compared(self) -> Iterator[Finding]:
        try:
            found, stale = self._look()
        except LongleafError as error:
            if not self.repair:
                yield fail("index", error.message, error.hint or REPAIR)
                return
            found, stale = None, {}
        if self.repair and (found is None or stale or not found.equal):
            self.repair = False  # once is enough: what is still wrong then is our mistake
            try:
                self.remake()
            except LongleafError as error:
                yield fail("index", f"It cannot be made anew. {error.message}", error.hint)
                return
            self.repaired("made the index anew")
            yield from self._compared()
        elif found is not None:
            yield self._verdict(found, REPAIR)
            if self.deep and found.equal:
                yield _content_verdict(stale, found.passages)

    def _look(self) -> tuple[Comparison, dict[int, str]]:
        """Compare, and with `repair` mend through the log and compare again."""
        with self._opened() as followed:
            index, follower = followed.index, followed.follower
            found = compare(index, follower, self.catalog, self.generation)
            stale = self._stale(index) if self.deep and found.equal else {}
            if self.repair and (stale or not found.equal):
                self._push(index, found, stale)
                found = compare(index, follower, self.catalog, self.generation)
                stale = self._stale(index) if self.deep and found.equal else {}
            return found, stale

    def _push(self, index: PassageIndex, found: Comparison, stale: dict[int, str]) -> None:
        lost = self._place().content().document_ids(index, found.unknown)
        named = push_again(self.catalog, {*found.document_ids, *stale, *lost})
        self.repaired(
            f"pushed {found.missing:,} missing passages to the index, removed {found.extra:,} "
            f"that should not be there ({named:,} documents)"
        )

    def _stale(self, index: PassageIndex) -> dict[int, str]:
        """Document id -> what the index says wrongly of it."""
        content = self._place().content()
        document_ids, _ = self.catalog.all_document_ids()
        found: dict[int, str] = {}
        for begin in range(0, len(document_ids), 1000):
            self.progress("Index content", begin, len(document_ids))
            some = document_ids[begin : begin + 1000]
            entries = self.catalog.index_entries(some, self.generation)
            for document_id, what in content.differences(index, entries):
                found.setdefault(document_id, what)
        return found

    def _verdict(self, found: Comparison, remedy: str) -> Finding:
        if found.equal:
            fact = f"holds the catalog's {found.passages:,} passages, and nothing else"
            return ok("index", fact)
        fact = (
            f"lacks {found.missing:,} of the catalog's {found.passages:,} passages and holds "
            f"{found.extra:,} that are none of it"
        )
        return fail("index", fact, remedy)


def _content_verdict(stale: dict[int, str], passages: int) -> Finding:
    if not stale:
        return ok("index content", f"what it says of all {passages:,} passages is the catalog's")
    details = tuple(f"document {number} {what}" for number, what in list(stale.items())[:_SHOWN])
    fact = f"{len(stale):,} documents are not stored as the catalog has them"
    return fail("index content", fact, DEEP_REPAIR, details=details)


def _ask(server: str, local: Mapping[str, str]) -> Comparison:
    """Have the running server compare. Raises LongleafError when it cannot."""
    import httpx

    try:
        with httpx.Client(timeout=600.0, trust_env=False, headers=dict(local)) as client:
            answer = client.post(f"{server}/v1/index/compare")
            told = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise LongleafError(f"The server did not compare its index: {error}.") from error
    if answer.status_code != 200:
        raise LongleafError(
            f"The server did not compare its index: {told.get('detail', answer.status_code)}",
            str(told.get("hint", "")),
        )
    return Comparison(
        told["passages"],
        told["missing"],
        told["extra"],
        tuple(told["document_ids"]),
        tuple(told["unknown"]),
        told["hidden"],
    )
