"""The process that makes a copied shard anew: `python -m longleaf.retriever.index.compactor`.

Arguments: the parent's process id, the shard's folder, its dimension, the niceness to take on. It
runs the engine's `optimize`, which leaves deleted points behind, makes all files durable, and says
on its standard output how many passages there are. It may be killed at any time: until it has ended
well, nobody looks at the copy. It knows no catalog and no sidecar.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from longleaf.core.catalog.blobs import sync_folder
from longleaf.core.children import end_with_parent
from longleaf.retriever.index import edge_folder
from longleaf.retriever.index.stored import DENSE

_NOBODY = 2**64 - 1
"""No passage has this id: ids of passages fit into 63 bits."""


def main(arguments: Sequence[str]) -> None:
    """Make the shard anew; raises whatever goes wrong."""
    parent, shard, dim = int(arguments[0]), Path(arguments[1]), int(arguments[2])
    end_with_parent(parent)
    os.nice(int(arguments[3]))
    points = make_anew(shard, dim)
    sys.stdout.write(json.dumps({"points": points}))


def make_anew(folder: Path, dim: int) -> int:
    """Optimize the shard in `folder` and make it durable; returns how many points it has."""
    import qdrant_edge as qe

    shard = qe.EdgeShard.load(str(folder), edge_folder.shard_config(dim))
    everything = qe.CountRequest(exact=True)
    before = shard.count(everything)
    # The segment that takes new points is made anew only if something was deleted from it. What a
    # crash left in it is no point at all and would stay.
    vector: Any = np.eye(1, dim, dtype=np.float32)[0]
    shard.update(qe.UpdateOperation.upsert_points([qe.Point(_NOBODY, {DENSE: vector}, {})]))
    shard.update(qe.UpdateOperation.delete_points([_NOBODY]))
    shard.optimize()
    after = shard.count(everything)
    if after != before:
        raise RuntimeError(f"{before:,} passages went in, {after:,} came out")
    shard.flush()
    shard.close()
    sync_tree(folder)
    return int(after)


def sync_tree(folder: Path) -> None:
    """Make all files below `folder` survive a power loss, and their names."""
    for path in (*sorted(folder.rglob("*"), reverse=True), folder):
        if path.is_dir():
            sync_folder(path)
            continue
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


if __name__ == "__main__":
    main(sys.argv[1:])
