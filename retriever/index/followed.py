"""What an index and the catalog's change log must say, to tell whether one can follow the other.

It knows no folders and no engines: each index keeps an `indexed_seq` and an `epoch` its own way.
Trade-off: an index that cannot follow is made anew whole, however little it missed.
"""

from __future__ import annotations

from typing import Protocol


class ChangeLog(Protocol):
    """What an index must ask of the log that it follows (the catalog has it)."""

    def head_seq(self) -> int: ...

    def log_horizon(self) -> int: ...

    def epoch(self) -> str: ...


class Followed(Protocol):
    """What an index says of how far it followed which log."""

    @property
    def indexed_seq(self) -> int: ...

    @property
    def epoch(self) -> str | None: ...


def why_unusable(state: Followed, passage_count: int, change_log: ChangeLog | None) -> str | None:
    """Why following the log would not make this index right; None when it would, and for whoever
    follows none: opening an index without a log changes nothing."""
    if change_log is None:
        return None
    seq = state.indexed_seq
    if seq == 0 and passage_count > 0:
        return "its first fill was interrupted, and what was deleted since would stay"
    if state.epoch not in (None, change_log.epoch()):
        return "it followed another history of the catalog, as before a backup was restored"
    if 0 < seq < change_log.log_horizon():
        return "it was away longer than the change log reaches"
    if seq > change_log.head_seq():
        return "it is ahead of the catalog, as after restoring a backup of the catalog alone"
    return None
