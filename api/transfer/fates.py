"""What an import is asked for, and what it did with each document."""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass, field


class Fate(enum.StrEnum):
    """What an import did with a document."""

    ADDED = "added"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"
    KEPT = "kept"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Imported:
    """One document's fate, told after the commit that made it so."""

    collection: str
    key: str
    fate: Fate
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Options:
    """`replace` documents that differ, instead of keeping them; `embed` although vectors came."""

    replace: bool = False
    embed: bool = False


@dataclass(slots=True)
class Summary:
    """How the import ended. `problems` are what was left out beside documents."""

    counts: Counter[Fate] = field(default_factory=Counter)
    collections: int = 0
    originals: int = 0
    sources: int = 0
    problems: list[str] = field(default_factory=list)

    def plain(self) -> dict[str, object]:
        """As JSON."""
        return {
            "documents": {str(fate): count for fate, count in self.counts.items()},
            "collections": self.collections,
            "originals": self.originals,
            "sources": self.sources,
            "problems": self.problems,
        }
