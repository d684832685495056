"""Settings that change while a collection is there: what is changed in place, and what cannot be.

Whoever begins to write asks the server for the first (`changes`); for the second (`unmet`) another
collection has to be made, which nobody does unasked. Only what was set is compared: by default the
number of nodes decided, when the collection was made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from longleaf.retriever.index.qdrant_schema import creation
from longleaf.retriever.index.stored import DENSE

if TYPE_CHECKING:
    from longleaf.core.store_settings import QdrantSettings


def changes(info: Any, dim: int, settings: QdrantSettings) -> dict[str, Any]:
    """What `update_collection` is to be asked, from what the server says of a collection.

    A write is never made to wait for more copies than there are.
    """
    from qdrant_client import models

    found: dict[str, Any] = {}
    wanted = creation(dim, settings, nodes=1)
    for name in ("hnsw_config", "strict_mode_config"):
        if _differs(wanted[name], getattr(info.config, name)):
            found[name] = wanted[name]
    codes = wanted["quantization_config"]
    scalar = getattr(info.config.quantization_config, "scalar", None)
    if (codes is None) != (info.config.quantization_config is None) or (codes and not scalar):
        found["quantization_config"] = codes or models.Disabled.DISABLED
        memory = wanted["vectors_config"][DENSE].memory
        found["vectors_config"] = {DENSE: models.VectorParamsDiff(memory=memory)}
    if replicas := info.config.params.replication_factor:
        copies = min(settings.write_consistency or replicas // 2 + 1, replicas)
        if copies != info.config.params.write_consistency_factor:
            found["collection_params"] = models.CollectionParamsDiff(
                write_consistency_factor=copies
            )
    return found


def unmet(info: Any, settings: QdrantSettings) -> list[str]:
    """What was set and the collection has otherwise, in words."""
    params = info.config.params
    pairs = [
        ("shards", params.shard_number, settings.shards),
        ("replicas", params.replication_factor, settings.replicas),
    ]
    return [
        f"it has {there} {name} and not the {wanted} of qdrant.{name}"
        for name, there, wanted in pairs
        if wanted and there is not None and there != wanted
    ]


def _differs(wanted: Any, there: Any) -> bool:
    told = wanted.model_dump(exclude_none=True)
    return any(getattr(there, name, None) != value for name, value in told.items())
