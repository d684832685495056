"""The edge shard's folder: made whole, marked with what made it, opened by one process.

`longleaf.json` beside the shard's own files holds the schema, the fingerprint, the dimension and
the last seq that is durable. It knows no documents and no queries. Trade-off: the sidecar is
written after every flush (two fsyncs), so that a copied folder needs nothing else.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longleaf.core.catalog.blobs import sync_folder
from longleaf.core.errors import CatalogBroken, GenerationMismatch, IndexLocked
from longleaf.retriever.index import edge_filter

if TYPE_CHECKING:
    import qdrant_edge as qe

SCHEMA = 1
SIDECAR = "longleaf.json"
DENSE, BM25 = "dense", "bm25"
REBUILD = "Make the index anew from the catalog: longleaf rebuild"


def open_shard(folder: Path, dim: int, fingerprint: str) -> tuple[qe.EdgeShard, dict[str, Any]]:
    """The shard in `folder`, made when there is none, and its state; errors as `EdgeIndex.open`."""
    import qdrant_edge as qe

    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        _create(folder, dim, fingerprint)
    state = _read_state(folder)
    if (state["fingerprint"], state["dim"]) != (fingerprint, dim):
        raise GenerationMismatch(
            f"The index in {folder} was made by another embedder or chunker "
            f"({state['fingerprint']}, dim {state['dim']}) than the configured one "
            f"({fingerprint}, dim {dim}).",
            REBUILD,
        )
    try:
        return qe.EdgeShard.load(str(folder)), state
    except Exception as error:  # the engine raises nothing finer
        if "WouldBlock" in str(error):
            raise IndexLocked(
                f"Another process owns the index in {folder}.",
                "Stop it (longleaf serve or longleaf index), or search through the server.",
            ) from error
        raise CatalogBroken(f"The index in {folder} cannot be read: {error}", REBUILD) from error


def _create(folder: Path, dim: int, fingerprint: str) -> None:
    """Make an empty shard beside `folder` and move it there, so that it is whole or not there."""
    import qdrant_edge as qe

    folder.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-new-"))
    try:
        codes = qe.ScalarQuantizationConfig(
            qe.ScalarType.Int8, quantile=0.99, memory=qe.Memory.Pinned
        )
        config = qe.EdgeConfig(
            vectors={DENSE: qe.EdgeVectorParams(size=dim, distance=qe.Distance.Cosine)},
            sparse_vectors={BM25: qe.EdgeSparseVectorParams(modifier=qe.Modifier.Idf)},
            hnsw_config=qe.HnswIndexConfig(m=0, ef_construct=100, full_scan_threshold=10_000),
            quantization_config=codes,
        )
        shard = qe.EdgeShard.create(str(new), config)
        for key, schema in edge_filter.first_indexes().items():
            shard.update(qe.UpdateOperation.create_field_index(key, schema))
        shard.flush()
        shard.close()
        write_state(
            new, {"schema": SCHEMA, "indexed_seq": 0, "fingerprint": fingerprint, "dim": dim}
        )
        new.replace(folder)
        sync_folder(folder.parent)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise


def _read_state(folder: Path) -> dict[str, Any]:
    try:
        state = json.loads((folder / SIDECAR).read_text("utf-8"))
        known = state["schema"] == SCHEMA
        whole = isinstance(state["indexed_seq"], int) and isinstance(state["fingerprint"], str)
        if known and whole and isinstance(state["dim"], int):
            return dict(state)
        problem = f"its {SIDECAR} has another form"
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"its {SIDECAR} cannot be read ({error.__class__.__name__})"
    raise CatalogBroken(f"{folder} is not an index of this version: {problem}.", REBUILD)


def write_state(folder: Path, state: dict[str, Any]) -> None:
    """Replace the sidecar whole: after a power loss there is the old one or the new one."""
    temporary = folder / f"{SIDECAR}.new"
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(state, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / SIDECAR)
    sync_folder(folder)
