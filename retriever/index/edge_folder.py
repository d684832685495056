"""The edge shard's folder: made whole, marked with what made it, opened by one process.

`longleaf.json` beside the shard's own files holds the schema, the fingerprint, the dimension and
the last seq that is durable. It knows no documents and no queries. Trade-off: the sidecar is
written after every flush (two fsyncs), so that a copied folder needs nothing else.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from longleaf.core.catalog.blobs import sync_folder
from longleaf.core.errors import CatalogBroken, GenerationMismatch, IndexLocked, LongleafError
from longleaf.retriever.index import edge_filter

if TYPE_CHECKING:
    from types import TracebackType

    import qdrant_edge as qe

SCHEMA = 2
SIDECAR = "longleaf.json"
LOCK = "longleaf.lock"
OLD_PREFIX = ".old-"
DENSE, BM25 = "dense", "bm25"
REBUILD = "Make the index anew from the catalog: longleaf rebuild"


class ChangeLog(Protocol):
    """What an index must ask of the log that it follows (the catalog has it)."""

    def head_seq(self) -> int: ...

    def log_horizon(self) -> int: ...

    def epoch(self) -> str: ...


class TakenFolder:
    """An index's folder that nobody else can open until this is closed. Raises IndexLocked.

    The engine's own lock comes too late: its load writes to the segments before it finds them
    locked, after which their owner can no longer flush.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever had it may have removed the folder, and another is in its place.
            ours = os.path.samestat(os.fstat(self._file), (folder / LOCK).stat())
        except OSError:
            ours = False
        if not ours:
            self.close()
            raise IndexLocked(
                f"Another process owns the index in {folder}.",
                "Stop it (longleaf serve or longleaf index), or search through the server.",
            )

    def __enter__(self) -> TakenFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def remove(self) -> None:
        """Delete the folder; it loses its name first, so that half of one is never opened."""
        name = f"{OLD_PREFIX}{self.folder.name}-{secrets.token_hex(4)}"
        old = self.folder.replace(self.folder.with_name(name))
        sync_folder(self.folder.parent)
        self.close()
        shutil.rmtree(old)


def make_if_missing(folder: Path, dim: int, fingerprint: str) -> None:
    """An empty index where nothing is or an empty folder."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        _create(folder, dim, fingerprint)


def open_shard(
    folder: Path, dim: int, fingerprint: str
) -> tuple[TakenFolder, qe.EdgeShard, dict[str, Any]]:
    """The shard in `folder`, made when there is none, and its state; errors as `EdgeIndex.open`."""
    import qdrant_edge as qe

    make_if_missing(folder, dim, fingerprint)
    state = _read_state(folder)
    if (state["fingerprint"], state["dim"]) != (fingerprint, dim):
        raise GenerationMismatch(
            f"The index in {folder} was made by another embedder or chunker "
            f"({state['fingerprint']}, dim {state['dim']}) than the configured one "
            f"({fingerprint}, dim {dim}).",
            REBUILD,
        )
    taken = TakenFolder(folder)
    try:
        # Read again: until it was taken, its owner could still move it on.
        return taken, qe.EdgeShard.load(str(folder)), _read_state(folder)
    except BaseException as error:
        taken.close()
        if isinstance(error, LongleafError) or not isinstance(error, Exception):
            raise
        raise damaged(folder, error) from error  # the engine raises nothing finer


def why_unusable(
    state: dict[str, Any], passage_count: int, change_log: ChangeLog | None
) -> str | None:
    """Why following the log would not make this index right; None when it would."""
    seq = state["indexed_seq"]
    if seq == 0 and passage_count > 0:
        return "its first fill was interrupted, and what was deleted since would stay"
    if change_log is None:
        return None
    if state.get("epoch", change_log.epoch()) != change_log.epoch():
        return "it followed another history of the catalog, as before a backup was restored"
    if 0 < seq < change_log.log_horizon():
        return "it was away longer than the change log reaches"
    if seq > change_log.head_seq():
        return "it is ahead of the catalog, as after restoring a backup of the catalog alone"
    return None


def damaged(folder: Path, error: Exception) -> CatalogBroken:
    return CatalogBroken(f"The index in {folder} cannot be read: {error}", REBUILD)


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
