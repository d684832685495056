"""What a doctor says: plain facts, each OK, WARN or FAIL, and what to do about it.

FAIL is what makes answers wrong or impossible now; WARN is what will, or what costs something, and
is worth a look; OK is a fact. A finding whose remedy is `REPAIR` is one that `--repair` mends.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

REPAIR = "longleaf doctor --repair"
DEEP_REPAIR = "longleaf doctor --deep --repair"
"""What only a look at everything has found, only such a look mends."""


class Status(enum.StrEnum):
    """Worse ones come later."""

    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact: about what, how well it is, in words, and what to do when it is not well.

    `details` are the single things that it sums up, the first few of them.
    """

    subject: str
    status: Status
    fact: str
    remedy: str = ""
    details: tuple[str, ...] = ()


@dataclass(slots=True)
class Report:
    """Findings in the order in which they were made, and what was mended."""

    findings: list[Finding] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    @property
    def worst(self) -> Status:
        order = list(Status)
        return max((each.status for each in self.findings), key=order.index, default=Status.OK)

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "status": str(self.worst),
            "findings": [asdict(each) for each in self.findings],
            "repaired": self.repaired,
        }


def ok(subject: str, fact: str, **more: Any) -> Finding:
    return Finding(subject, Status.OK, fact, **more)


def warn(subject: str, fact: str, remedy: str = "", **more: Any) -> Finding:
    return Finding(subject, Status.WARN, fact, remedy, **more)


def fail(subject: str, fact: str, remedy: str = "", **more: Any) -> Finding:
    return Finding(subject, Status.FAIL, fact, remedy, **more)
