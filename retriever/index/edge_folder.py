"""The edge shard's folder: made whole, marked with what made it, opened by one process.

`longleaf.json` holds the schema, the fingerprint, the dimension, the last seq that is durable, and
which of the folder's shards all that is said of: replacing this one file swaps one shard for
another. It knows no documents and no queries. Trade-off: the file is written after every flush
(two fsyncs), so that a copied folder needs nothing else.

The engine keeps no log of its own (`wal_enabled=False`): the catalog's is read again from the last
durable seq. What it logged would outlive a document's deletion, and its log cannot be cut: without
it the engine counts from 0 again and drops, silently, all updates that its points have "seen".
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from longleaf.core.catalog.blobs import sync_folder
from longleaf.core.catalog.space import no_space
from longleaf.core.errors import CatalogBroken, GenerationMismatch
from longleaf.retriever.index import edge_filter
from longleaf.retriever.index.folder import LOCK, TakenFolder, damaged, make_whole
from longleaf.retriever.index.incoming import REBUILD
from longleaf.retriever.index.stored import BM25, DENSE

if TYPE_CHECKING:
    import qdrant_edge as qe

SCHEMA = 4
SIDECAR = "longleaf.json"
SHARD_PREFIX = "shard-"
OLDER = "it was made by an older Longleaf"


@dataclass(frozen=True, slots=True)
class ShardState:
    """What `longleaf.json` says of the shard in the folder `shard`.

    `unoptimized_points` were put, `deleted_points` deleted or replaced since the shard was last
    made anew (a little more after a crash). Bytes of deleted points may lie in its files since
    `erase_since` (seconds since the epoch). `in_use`: a process has written to it and not closed
    it; found so on opening, unflushed bytes may lie in it as well. `asked`: the last request of
    the catalog to make it anew that was followed.
    """

    shard: str
    fingerprint: str
    dim: int
    indexed_seq: int = 0
    epoch: str | None = None
    unoptimized_points: int = 0
    deleted_points: int = 0
    erase_since: float | None = None
    in_use: bool = False
    asked: int = 0


def make_if_missing(folder: Path, dim: int, fingerprint: str) -> None:
    """An empty index where nothing is or an empty folder."""
    make_whole(folder, lambda new: write_state(new, _empty_shard(new, dim, fingerprint)))


def check_made_by(folder: Path, dim: int, fingerprint: str) -> None:
    """Raise GenerationMismatch when the index was made with others, CatalogBroken when it is none.

    One of an older Longleaf passes, because opening makes it anew.
    """
    state = read_state(folder)
    if state is not None and (state.fingerprint, state.dim) != (fingerprint, dim):
        raise GenerationMismatch(
            f"The index in {folder} was made by another embedder or chunker "
            f"({state.fingerprint}, dim {state.dim}) than the configured one "
            f"({fingerprint}, dim {dim}).",
            REBUILD,
        )


def start_anew(taken: TakenFolder, dim: int, fingerprint: str) -> ShardState:
    """Put an empty shard in the place of whatever the folder holds, and remove that."""
    state = _empty_shard(taken.folder, dim, fingerprint)
    write_state(taken.folder, state)
    remove_others(taken.folder, state)
    return state


def remove_others(folder: Path, state: ShardState) -> list[str]:
    """Remove all but the shard that `state` names: what crashes left. Returns the shards' names."""
    removed = []
    for path in sorted(folder.iterdir()):
        if path.name in (SIDECAR, LOCK, state.shard):
            continue
        if path.is_dir():
            shutil.rmtree(path)
            removed.append(path.name)
        else:
            path.unlink()
    return removed


def load_shard(folder: Path, state: ShardState) -> qe.EdgeShard:
    """Raises CatalogBroken when the engine cannot read it. Holds the GIL, for seconds if the shard
    has many passages that were put since it was made anew (100,000: 15 s)."""
    import qdrant_edge as qe

    try:
        shard = qe.EdgeShard.load(str(folder / state.shard))
    except BaseException as error:  # the engine raises nothing finer
        if isinstance(error, Exception) or _is_panic(error):
            raise damaged(folder, error) from error
        raise
    guarded: Any = _GuardedShard(shard, folder)
    return cast("qe.EdgeShard", guarded)


class _GuardedShard:
    """A shard whose panics are errors, and whose errors have names.

    On files that are not as it wrote them, the engine may panic in any call; Python gets that as a
    BaseException, which would end threads that outlive every error.
    """

    def __init__(self, shard: qe.EdgeShard, folder: Path) -> None:
        self._shard = shard
        self._folder = folder

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._shard, name)

        def call(*arguments: Any, **more: Any) -> Any:
            try:
                return method(*arguments, **more)
            except BaseException as error:
                if _NO_SPACE in str(error):
                    raise no_space(self._folder) from error
                if not _is_panic(error) and not _is_damage(error):
                    raise
                if name == "close":
                    return None
                raise damaged(self._folder, error) from error

        return call


_NO_SPACE = "(os error 28)"


def _is_damage(error: BaseException) -> bool:
    """The engine raises plain Exceptions; what is a caller's mistake begins otherwise."""
    return type(error) is Exception and str(error).startswith("Service runtime error")


def _is_panic(error: BaseException) -> bool:
    return type(error).__name__ == "PanicException"


def new_shard_name() -> str:
    return f"{SHARD_PREFIX}{secrets.token_hex(4)}"


def shard_config(dim: int) -> qe.EdgeConfig:
    """What a shard is made with. `optimize` then drops every deleted point, however few."""
    import qdrant_edge as qe

    codes = qe.ScalarQuantizationConfig(qe.ScalarType.Int8, quantile=0.99, memory=qe.Memory.Pinned)
    return qe.EdgeConfig(
        vectors={DENSE: qe.EdgeVectorParams(size=dim, distance=qe.Distance.Cosine)},
        sparse_vectors={BM25: qe.EdgeSparseVectorParams(modifier=qe.Modifier.Idf)},
        hnsw_config=qe.HnswIndexConfig(m=0, ef_construct=100, full_scan_threshold=10_000),
        quantization_config=codes,
        optimizers=qe.EdgeOptimizersConfig(deleted_threshold=0.0, vacuum_min_vector_number=1),
        wal_enabled=False,
    )


def _empty_shard(folder: Path, dim: int, fingerprint: str) -> ShardState:
    import qdrant_edge as qe

    state = ShardState(new_shard_name(), fingerprint, dim)
    shard = qe.EdgeShard.create(str(folder / state.shard), shard_config(dim))
    for key, schema in edge_filter.first_indexes().items():
        shard.update(qe.UpdateOperation.create_field_index(key, schema))
    shard.flush()
    shard.close()
    return state


def read_state(folder: Path) -> ShardState | None:
    """What the sidecar says; None for one of an older Longleaf. Raises CatalogBroken."""
    try:
        read: dict[str, Any] = json.loads((folder / SIDECAR).read_text("utf-8"))
        schema = read.pop("schema")
        if isinstance(schema, int) and 0 < schema < SCHEMA and "fingerprint" in read:
            return None
        if schema == SCHEMA:
            state = ShardState(**read)
            whole = isinstance(state.indexed_seq, int) and isinstance(state.fingerprint, str)
            if whole and isinstance(state.dim, int) and _is_shard_name(state.shard):
                return state
        problem = f"its {SIDECAR} has another form"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"its {SIDECAR} cannot be read ({error.__class__.__name__})"
    raise CatalogBroken(f"{folder} is not an index of this version: {problem}.", REBUILD)


def _is_shard_name(name: object) -> bool:
    return isinstance(name, str) and name.startswith(SHARD_PREFIX) and "/" not in name


def write_state(folder: Path, state: ShardState) -> None:
    """Replace the sidecar whole: after a power loss there is the old one or the new one."""
    temporary = folder / f"{SIDECAR}.new"
    with temporary.open("w", encoding="utf-8") as file:
        json.dump({"schema": SCHEMA, **asdict(state)}, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / SIDECAR)
    sync_folder(folder)
