"""The FAISS index's folder: segments, written once, and one manifest that says which of them count.

Replacing the manifest is what makes a write durable: it names the segments, which of their
documents are gone, the last seq, and what made the vectors. A kill at any moment leaves the old
manifest or the new one, and every file that it names; other files are scraps and go when the index
is opened. It knows no documents and no queries. Trade-off: a flush costs three fsyncs or more,
however small.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from longleaf.core.catalog.blobs import sync_folder
from longleaf.core.errors import CatalogBroken, GenerationMismatch
from longleaf.retriever.index.faiss_files import Unreadable, read_arrays, write_arrays
from longleaf.retriever.index.faiss_segment import Segment
from longleaf.retriever.index.faiss_view import Live
from longleaf.retriever.index.folder import LOCK, damaged, make_whole
from longleaf.retriever.index.incoming import REBUILD

if TYPE_CHECKING:
    from numpy.typing import NDArray

MANIFEST = "longleaf.faiss"
_KIND = "manifest"


@dataclass(frozen=True, slots=True)
class IndexState:
    """What the manifest says beside its segments.

    Bytes of deleted documents may lie in the files since `erase_since` (seconds since the epoch).
    `lists`: the file of the inverted lists, where there are any.
    """

    fingerprint: str
    dim: int
    indexed_seq: int = 0
    epoch: str | None = None
    erase_since: float | None = None
    lists: str | None = None


def make_if_missing(folder: Path, dim: int, fingerprint: str) -> None:
    """An empty index where nothing is or an empty folder."""
    make_whole(folder, lambda new: write_manifest(new, IndexState(fingerprint, dim), []))


def check_made_by(folder: Path, dim: int, fingerprint: str) -> None:
    """Raise GenerationMismatch when it was made with others, CatalogBroken when it is no index."""
    state, _ = read_manifest(folder)
    if (state.fingerprint, state.dim) != (fingerprint, dim):
        raise GenerationMismatch(
            f"The index in {folder} was made by another embedder or chunker "
            f"({state.fingerprint}, dim {state.dim}) than the configured one "
            f"({fingerprint}, dim {dim}).",
            REBUILD,
        )


def write_manifest(folder: Path, state: IndexState, lives: Iterable[Live]) -> None:
    """Make this what the index is. Its segments are on the disk already. Raises NoSpace."""
    gone: dict[str, NDArray[Any]] = {}
    segments = []
    for live in lives:
        segments.append([live.segment.name, len(live.alive)])
        if not live.is_whole:
            gone[live.segment.name] = np.packbits(~live.alive)
    facts = {"state": asdict(state), "segments": segments}
    write_arrays(folder / MANIFEST, _KIND, facts, gone)
    sync_folder(folder)


def read_manifest(folder: Path) -> tuple[IndexState, dict[str, NDArray[np.bool_]]]:
    """(the state, for each segment which of its documents are alive). Raises CatalogBroken."""
    try:
        facts, gone = read_arrays(folder / MANIFEST, _KIND)
        state = IndexState(**facts["state"])
        alive = {}
        for name, documents in facts["segments"]:
            alive[name] = np.ones(documents, np.bool_)
            if name in gone:
                alive[name] = ~np.unpackbits(gone[name], count=documents).astype(np.bool_)
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = f"its {MANIFEST} cannot be read ({error})"
        raise CatalogBroken(
            f"{folder} is not a FAISS index of this version: {problem}.", REBUILD
        ) from error
    return state, alive


def load_segments(folder: Path, alive: dict[str, NDArray[np.bool_]]) -> list[Live]:
    """The segments that the manifest names. Raises CatalogBroken when one is not as written."""
    lives = []
    for name, documents in alive.items():
        try:
            segment = Segment.load(folder / name)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise damaged(folder, error) from error
        if len(segment.documents) != len(documents):
            raise damaged(folder, Unreadable(f"{name} is of another index"))
        lives.append(Live(segment, documents))
    return lives


def start_anew(folder: Path, dim: int, fingerprint: str) -> IndexState:
    """Make the index empty, and remove what it held."""
    state = IndexState(fingerprint, dim)
    write_manifest(folder, state, [])
    remove_others(folder, ())
    return state


def remove_others(folder: Path, names: Iterable[str]) -> None:
    """Remove all files but these, the manifest and the lock: what crashes left or was replaced."""
    kept = {MANIFEST, LOCK, *names}
    for path in sorted(folder.iterdir()):
        if path.name in kept:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def save_segment(folder: Path, live: Live) -> Live:
    """Write a segment and return it as it is read back: proven, and mapped instead of held."""
    live.segment.save(folder / live.segment.name)
    saved = Segment.load(folder / live.segment.name)
    return replace(live, segment=saved)
