"""Settings of how much a server takes on.

Part of the tree in `config`, which reads it.
"""

from __future__ import annotations

from pydantic import Field

from longleaf.core.store_settings import Section


class ServingSettings(Section):
    """What may wait."""

    queue_requests: int = Field(
        256,
        ge=0,
        description="Searches, answers or pages that may wait for their turn, each in a line of "
        "its own; one more is refused (429, Retry-After).",
    )
    queue_tokens: int = Field(
        16_000_000,
        ge=1,
        description="Tokens that all who wait together may want read: 266 searches with 100 "
        "candidates of 3 passages of 200 tokens. One that finds nobody waiting is always taken.",
    )
    queue_seconds: float = Field(
        5.0,
        gt=0,
        description="Longest that one may be expected to wait, by what the last ones took; as "
        "many as are answered at once may always wait.",
    )
