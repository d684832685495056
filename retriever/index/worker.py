"""The index process: owns the edge shard, follows the catalog, answers over a socket pair.

Started by `process.IndexProcess` as `python -m longleaf.retriever.index.worker PARENT_PID FD...`:
the first descriptor is for control, each other one is served by a thread of its own. It loads no
model, listens nowhere and reads no setting: all that it must know comes in the first frame. It
lives no longer than its parent and may be killed at any time, because the catalog is the truth.
Its parent may have it copy its shard, start another one of it on the copy, made anew, and let that
one take over (`handover`).
Trade-off: a second interpreter (41 MB of its own with an empty index); in return the pauses of the
engine, whose updates and flushes stop every thread of their process, never reach the event loop.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from longleaf.core import logs
from longleaf.core.catalog import Catalog, Generation
from longleaf.core.children import end_with_parent
from longleaf.core.errors import LongleafError
from longleaf.core.protocols import IndexFilter, LexicalQuery, ScoredPoint
from longleaf.core.store_settings import CatalogSettings
from longleaf.retriever.follow import Follower, FollowerThread
from longleaf.retriever.index import compaction, frames
from longleaf.retriever.index.edge import EdgeIndex
from longleaf.retriever.index.folder import TakenFolder
from longleaf.retriever.index.frames import Frame, ids_array, scores_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

_log = structlog.get_logger(__name__)


class Worker:
    """One index, its follower, and what is asked of them."""

    def __init__(
        self, index: EdgeIndex, thread: FollowerThread, folder: Path, erase_seconds: float | None
    ) -> None:
        self._index = index
        self._thread = thread
        self._folder = folder
        self._erase_seconds = erase_seconds
        self._copied: dict[str, Any] | None = None

    def serve(self, connection: socket.socket) -> None:
        """Answer one frame after another until told to shut down or the parent is gone."""
        while True:
            asked = frames.receive(connection)
            if asked.header["ask"] == "shutdown":
                return
            try:
                arrays = self._arrays(asked)
                status = self._status() if asked.header["ask"] == "status" else {}
                answer = frames.encode(Frame({**self.standing(), **status}, arrays))
            except Exception as error:
                header = {**self.standing(), "error": frames.error_to_json(error)}
                answer = frames.encode(Frame(header))
            connection.sendall(answer)

    def standing(self) -> dict[str, Any]:
        """What every answer tells: how far the index has come, and what keeps it."""
        return {
            "applied_seq": self._thread.follower.applied_seq,
            "indexed_seq": self._index.indexed_seq(),
            "failure": self._thread.failure,
        }

    def _status(self) -> dict[str, Any]:
        """What only the parent's watch asks: is the shard to be made anew, and how far is that?"""
        asked = self._thread.follower.catalog.compaction_asked()
        state = self._index.state
        return {
            "asked": asked > state.asked,
            "due": compaction.why_due(
                state, self._index.points_count(), time.time(), self._erase_seconds, asked
            ),
            "shard": state.shard,
            "copied": self._copied,
            "at_rest": self._thread.at_rest,
        }

    def _copy(self, shard: str) -> None:
        follower = self._thread.follower
        aside = self._folder / shard
        failure = None
        try:
            # Registered first, so that nobody cuts the log that the copy has to follow.
            name = follower.catalog.follower_name(aside)
            follower.catalog.record_follower(name, self._index.indexed_seq())
            self._index.copy_aside(shard, follower.catalog.compaction_asked())
        except Exception as error:
            failure = str(error)
            shutil.rmtree(aside, ignore_errors=True)
            follower.catalog.forget_follower(follower.catalog.follower_name(aside))
        self._copied = {"shard": shard, "failure": failure}

    def _take_over(self) -> None:
        follower, aside = self._thread.follower, self._thread.follower.name
        self._index.take_over()
        follower.name = follower.catalog.follower_name(self._folder)
        with suppress(LongleafError):  # the next flush, and the next start, do it as well
            follower.show_life()
            follower.catalog.forget_follower(aside)

    def _arrays(self, asked: Frame) -> tuple[NDArray[Any], ...]:
        index, given = self._index, asked.header
        only = frames.index_filter_from_json(given["filter"]) if "filter" in given else None
        lexical = LexicalQuery(given["text"], given["language"]) if "text" in given else None
        match given["ask"], only, lexical:
            case "status", None, None:
                return ()
            case "copy", None, None:
                threading.Thread(target=self._copy, args=(given["shard"],), daemon=True).start()
                return ()
            case "pause", None, None:
                self._thread.pause()
                return ()
            case "let_go", None, None:
                self._index.let_go(True)
                return ()
            case "resume", None, None:
                self._index.let_go(False)
                self._thread.resume()
                return ()
            case "take_over", None, None:
                self._take_over()
                return ()
            case "passage_count", None, None:
                return (ids_array([index.passage_count()]),)
            case "search_dense", IndexFilter(), None:
                return _ranked(index.search_dense(asked.arrays[0], only, given["limit"]))
            case "search_bm25", IndexFilter(), LexicalQuery():
                return _ranked(index.search_bm25(lexical, only, given["limit"]))
            case "score_dense", None, None:
                vector, point_ids = asked.arrays
                return _scored(index.score_dense(vector, point_ids.tolist()))
            case "score_bm25", IndexFilter(), LexicalQuery():
                return _scored(index.score_bm25(lexical, only, asked.arrays[0].tolist()))
            case "scroll", IndexFilter(), None:
                return (ids_array(index.scroll(only, given["limit"])),)
        raise ValueError(f"nothing that can be asked: {given['ask']}")


def _ranked(points: Sequence[ScoredPoint]) -> tuple[NDArray[Any], ...]:
    ids = ids_array([point.point_id for point in points])
    return ids, scores_array([point.score for point in points])


def _scored(scores: dict[int, float]) -> tuple[NDArray[Any], ...]:
    return ids_array(list(scores)), scores_array(list(scores.values()))


def main(arguments: Sequence[str]) -> int:
    """Serve until the parent says shutdown or is gone. 1 when the index cannot be opened."""
    # Ctrl-C and a service's stop reach the whole group; what to do about them the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    end_with_parent(int(arguments[0]))
    control, *lanes = [socket.socket(fileno=int(each)) for each in arguments[1:]]
    place = frames.receive(control).header
    logs.configure(**place["log"])
    generation = Generation(**place["generation"])
    with ExitStack() as opened:
        try:
            catalog = Catalog(Path(place["home"]), CatalogSettings(**place["catalog"]))
            opened.callback(catalog.close)
            folder, shard = Path(place["folder"]), place["shard"]
            taken = TakenFolder(folder, inherited=place["lock"])
            if shard is None:
                index = EdgeIndex.open(
                    folder, generation.dim, generation.fingerprint, catalog, taken
                )
                name = catalog.follower_name(folder)
                catalog.forget_followers_in(name)
            else:
                index = EdgeIndex.open_aside(folder, shard, taken)
                name = catalog.follower_name(folder / shard)
            opened.callback(index.close)
            follower = Follower(catalog, index, generation, name, place["flush_documents"])
        except Exception as error:
            control.sendall(frames.encode(Frame({"error": frames.error_to_json(error)})))
            return 1
        thread = FollowerThread(follower)
        opened.callback(thread.stop)
        worker = Worker(index, thread, folder, place["erase_seconds"])
        hello = {**worker.standing(), "fingerprint": index.fingerprint}
        control.sendall(frames.encode(Frame(hello)))
        thread.start()
        for lane in lanes:
            threading.Thread(target=_serve_lane, args=(worker, lane), daemon=True).start()
        worker.serve(control)
    return 0


def _serve_lane(worker: Worker, lane: socket.socket) -> None:
    try:
        worker.serve(lane)
    except (OSError, EOFError):
        pass  # the parent is gone; the main thread hears it as well
    except BaseException:
        # A lane that ends alone would leave the parent waiting on it for ever.
        _log.exception("index.lane_failed")
        os._exit(1)


if __name__ == "__main__":
    try:
        status = main(sys.argv[1:])
    except (OSError, EOFError):
        status = 1  # the parent is gone: the catalog has all that was not flushed
    # Threads that still answer must not hold up the end.
    os._exit(status)
