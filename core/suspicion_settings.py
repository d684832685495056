"""Settings of what marks suspicious documents; part of the tree in `config`, which reads it."""

from __future__ import annotations

from pydantic import Field

from longleaf.core.store_settings import Section


class SuspicionSettings(Section):
    """Marks in results on what seems to be written for a machine (SECURITY.md)."""

    mark: bool = Field(
        True,
        description="Look at the passages that are shown: 0.2 ms of CPU for each 1,000 characters. "
        "Ranks are the same either way. Text that a PDF does not show is told in any case.",
    )
