"""Settings of how much a server takes on, how long it waits for slow clients, and how it ends.

Part of the tree in `config`, which reads it.
"""

from __future__ import annotations

from pydantic import Field

from longleaf.core.store_settings import Section


class ServingSettings(Section):
    """What may wait, how slow a client may be, how the server ends."""

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
    connections: int = Field(
        2000,
        ge=1,
        description="Connections that may be open at once; one more is answered 503.",
    )
    request_seconds: float = Field(
        10.0,
        gt=0,
        description="Longest that a request's line and headers may take to arrive (408).",
    )
    stall_seconds: float = Field(
        10.0,
        gt=0,
        description="Longest that a body may stand still on its way in, or an answer on its way "
        "out; a request that does not come on is answered 408, then the connection is closed.",
    )
    least_bytes_per_second: int = Field(
        1024,
        ge=1,
        description="What a body or an answer must move at on average: a client that stays below "
        "uses up serving.stall_seconds, a faster one wins them back. 256 MiB at this rate take "
        "three days and are let through.",
    )
    stage_seconds: float = Field(
        30.0,
        gt=0,
        le=3600,
        description="Longest that a search waits for one part of this machine that neither answers "
        "nor fails: the embedding model (then it finds by words only), the index or the catalog "
        "(503). Services elsewhere have limits of their own.",
    )
    drain_seconds: float = Field(
        0.0,
        ge=0,
        description="How long a server that was told to end still takes requests while /readyz "
        "says 503: as long as the proxy in front needs to notice it. 0: it refuses at once.",
    )
    shutdown_seconds: float = Field(
        10.0,
        ge=0,
        description="Longest that requests under way may take to finish once the server was told "
        "to end; then they are answered 503, and event streams end with an error event.",
    )
