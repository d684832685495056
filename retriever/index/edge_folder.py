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

import fcntl
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from longleaf.core.catalog.blobs import sync_folder
from longleaf.core.catalog.space import no_space
from longleaf.core.errors import CatalogBroken, GenerationMismatch, IndexLocked
from longleaf.retriever.index import edge_filter
from longleaf.retriever.index.incoming import REBUILD

if TYPE_CHECKING:
    from types import TracebackType

    import qdrant_edge as qe

SCHEMA = 3
SIDECAR = "longleaf.json"
LOCK = "longleaf.lock"
OLD_PREFIX = ".old-"
SHARD_PREFIX = "shard-"
DENSE, BM25 = "dense", "bm25"
OLDER = "it was made by an older Longleaf"


class ChangeLog(Protocol):
    """What an index must ask of the log that it follows (the catalog has it)."""

    def head_seq(self) -> int: ...

    def log_horizon(self) -> int: ...

    def epoch(self) -> str: ...


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


class TakenFolder:
    """An index's folder that nobody else can open until this is closed. Raises IndexLocked.

    The engine has no lock without its log, and its load writes to the segments. `inherited` is the
    descriptor of a lock that another process holds and shares with this one, its child.
    """

    def __init__(self, folder: Path, inherited: int | None = None) -> None:
        self.folder = folder
        if inherited is not None:
            self._file = inherited
            return
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

    def fileno(self) -> int:
        """The lock's descriptor, for a child that is to share it."""
        return self._file

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
    make_whole(folder, lambda new: write_state(new, _empty_shard(new, dim, fingerprint)))


def make_whole(folder: Path, fill: Callable[[Path], None]) -> None:
    """A folder that has all that `fill` writes, or is not there; one with anything in it stays."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-new-"))
    try:
        fill(new)
        new.replace(folder)
        sync_folder(folder.parent)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise


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


class Followed(Protocol):
    """What an index says of how far it followed which log."""

    @property
    def indexed_seq(self) -> int: ...

    @property
    def epoch(self) -> str | None: ...


def why_unusable(state: Followed, passage_count: int, change_log: ChangeLog | None) -> str | None:
    """Why following the log would not make this index right; None when it would."""
    seq = state.indexed_seq
    if seq == 0 and passage_count > 0:
        return "its first fill was interrupted, and what was deleted since would stay"
    if change_log is None:
        return None
    if state.epoch not in (None, change_log.epoch()):
        return "it followed another history of the catalog, as before a backup was restored"
    if 0 < seq < change_log.log_horizon():
        return "it was away longer than the change log reaches"
    if seq > change_log.head_seq():
        return "it is ahead of the catalog, as after restoring a backup of the catalog alone"
    return None


def damaged(folder: Path, error: BaseException) -> CatalogBroken:
    return CatalogBroken(f"The index in {folder} cannot be read: {error}", REBUILD)


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
