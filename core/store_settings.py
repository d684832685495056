"""Settings of what keeps documents and finds passages: catalog, index, and the stores behind them.

Part of the tree in `config`, which reads it. A secret (a key, a URL with a password) may only come
from the environment, and `config.shown_value` is what may be printed of it.
"""

from __future__ import annotations

import re
from typing import Any, Literal
from urllib.parse import unquote_plus

from pydantic import BaseModel, ConfigDict, Field

SECRET: dict[str, Any] = {"secret": True}
"""`json_schema_extra` of a setting that is never shown and comes from the environment only."""


_PASSWORD = re.compile(r"^([a-z0-9+.]+://[^/:]*):.*@", re.IGNORECASE | re.DOTALL)
"""User and password at the head of a URL, up to the last @: one in a password may stand there as it
is."""

_OPTION = re.compile(r"(?<=[?&])([^=&]*)=[^&]+")
"""One of a URL's options: libpq takes a password there as well."""


def has_password(url: str) -> bool:
    """Whether a URL has a password in it."""
    return bool(_PASSWORD.match(url) or any(map(_names_password, _OPTION.finditer(url))))


def without_password(url: str) -> str:
    """The URL as it may be shown and logged."""
    return _OPTION.sub(
        lambda option: f"{option[1]}=***" if _names_password(option) else option[0],
        _PASSWORD.sub(r"\1:***@", url),
    )


def _names_password(option: re.Match[str]) -> bool:
    return unquote_plus(option[1]).lower() in ("password", "sslpassword")


class Section(BaseModel):
    """A frozen table of settings; a name that it does not have is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class CatalogSettings(Section):
    """Where documents, passages and vectors are kept: the truth that every index follows."""

    url: str = Field(
        "",
        repr=False,
        description="Empty: SQLite in the data folder. postgresql://USER:PASSWORD@HOST:PORT/NAME "
        "for servers on several machines; a password may only stand in the environment, or in "
        "libpq's own places (PGPASSWORD, ~/.pgpass).",
    )
    originals: str = Field(
        "",
        description="Where the files themselves are kept. Empty: in the data folder. A folder that "
        "all machines see, or a URL such as s3://BUCKET/PREFIX (extra longleaf[s3]).",
    )
    token_vectors: str = Field(
        "",
        description="Folder of the token vectors. Empty: in the data folder. Servers on several "
        "machines need one that all of them see.",
    )


class IndexSettings(Section):
    """Which index finds passages. It is a follower of the catalog and can be made anew."""

    kind: Literal["edge", "qdrant", "faiss"] = Field(
        "edge",
        description="edge: in the data folder, one process, exact. qdrant: a server, cluster or "
        "cloud by qdrant.url, shared by several servers. faiss: in memory, exact, on CPU or GPU.",
    )


class QdrantSettings(Section):
    """A Qdrant server, cluster or cloud (index.kind qdrant)."""

    url: str = Field("", description="http(s)://HOST:6333 of the server or of any peer.")
    api_key: str = Field(
        "", repr=False, json_schema_extra=SECRET, description="Its API key, if it wants one."
    )
    prefix: str = Field(
        "longleaf",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$",
        description="What its collections' names begin with: one for each catalog.",
    )
    timeout_seconds: float = Field(30.0, gt=0, description="Longest that one request may take.")
    shards: int = Field(
        0, ge=0, le=1024, description="Shards of a collection; 0: two for each node."
    )
    replicas: int = Field(
        0, ge=0, le=16, description="Copies of each shard; 0: two where there are three nodes."
    )
    write_consistency: int = Field(
        0,
        ge=0,
        le=16,
        description="Copies that must have taken a write; 0: more than half of them.",
    )
    read_consistency: Literal["one", "majority", "quorum", "all"] = Field(
        "one",
        description="Copies that a search asks: more agree on what a lagging copy says, and cost "
        "that many searches.",
    )
    batch_points: int = Field(128, ge=1, le=1024, description="Passages in one write (64-256).")
    streams: int = Field(2, ge=1, le=16, description="Writes under way at once.")
    hnsw_m: int = Field(
        16,
        ge=0,
        le=128,
        description="Links of a passage in the graph; 0: no graph, every search looks at all "
        "(their int8 codes, the best again in full; good to about a million passages a node).",
    )
    hnsw_ef: int = Field(
        256, ge=16, le=4096, description="How wide the graph is searched: recall against time."
    )
    quantization: Literal["int8", "none"] = Field(
        "int8",
        description="int8: codes in memory, the vectors on disk, the best looked at again with "
        "them. none: the vectors in memory, four times as much.",
    )
    holdback_seconds: float = Field(
        10.0,
        ge=0,
        description="How far the position that the index keeps stays behind what it has taken: "
        "more than the server waits before it writes to disk, so that a power cut is made good.",
    )


class FaissSettings(Section):
    """FAISS in this process (index.kind faiss; extra longleaf[cpu] or longleaf[gpu])."""

    devices: str = Field(
        "auto",
        pattern=r"^(auto|cpu|all|[0-9]+(,[0-9]+)*)$",
        description='"auto": the first GPU if there is one, else the CPU; "cpu"; "all" GPUs; or '
        "their numbers, comma-separated.",
    )
    lists: int = Field(
        0,
        ge=0,
        le=1_048_576,
        description="0: exact. More: an inverted file with that many lists, trained by "
        "`longleaf rebuild` or `compact` once there are 39 passages a list, exact until then "
        "(4 times the square root of the passages is usual).",
    )
    probes: int = Field(
        64, ge=1, le=65_536, description="Lists that a search looks into, where there are any."
    )
