"""The index process: owns the edge shard, follows the catalog, answers over a socket pair.

Started by `process.IndexProcess` as `python -m longleaf.retriever.index.worker PARENT_PID FD...`:
the first descriptor is for control, each other one is served by a thread of its own. It loads no
model, listens nowhere and reads no setting: all that it must know comes in the first frame. It
lives no longer than its parent and may be killed at any time, because the catalog is the truth.
Trade-off: a second interpreter (41 MB of its own with an empty index); in return the pauses of the
engine, whose updates and flushes stop every thread of their process, never reach the event loop.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from longleaf.core.catalog import Catalog, Generation
from longleaf.core.protocols import IndexFilter, LexicalQuery, ScoredPoint
from longleaf.retriever.follow import Follower, FollowerThread
from longleaf.retriever.index import frames
from longleaf.retriever.index.edge import EdgeIndex
from longleaf.retriever.index.frames import Frame, ids_array, scores_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PR_SET_PDEATHSIG = 1

_log = structlog.get_logger(__name__)


class Worker:
    """One index, its follower, and what is asked of them."""

    def __init__(self, index: EdgeIndex, thread: FollowerThread) -> None:
        self._index = index
        self._thread = thread

    def serve(self, connection: socket.socket) -> None:
        """Answer one frame after another until told to shut down or the parent is gone."""
        while True:
            asked = frames.receive(connection)
            if asked.header["ask"] == "shutdown":
                return
            try:
                answer = frames.encode(Frame(self.standing(), self._arrays(asked)))
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

    def _arrays(self, asked: Frame) -> tuple[NDArray[Any], ...]:
        index, given = self._index, asked.header
        only = frames.index_filter_from_json(given["filter"]) if "filter" in given else None
        lexical = LexicalQuery(given["text"], given["language"]) if "text" in given else None
        match given["ask"], only, lexical:
            case "status", None, None:
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
    _end_with_parent(int(arguments[0]))
    _log_plainly()
    control, *lanes = [socket.socket(fileno=int(each)) for each in arguments[1:]]
    place = frames.receive(control).header
    generation = Generation(**place["generation"])
    with ExitStack() as opened:
        try:
            catalog = Catalog(Path(place["home"]))
            opened.callback(catalog.close)
            folder = Path(place["folder"])
            index = EdgeIndex.open(folder, generation.dim, generation.fingerprint, catalog)
            opened.callback(index.close)
            follower = Follower(
                catalog, index, generation, str(folder), flush_documents=place["flush_documents"]
            )
        except Exception as error:
            control.sendall(frames.encode(Frame({"error": frames.error_to_json(error)})))
            return 1
        thread = FollowerThread(follower)
        opened.callback(thread.stop)
        worker = Worker(index, thread)
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


def _end_with_parent(parent: int) -> None:
    """Die when the thread that started this process does, whatever this process is busy with."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _log_plainly() -> None:
    """Warnings to stderr. Plain tracebacks: rich ones print variables, which hold documents."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.dev.ConsoleRenderer(
                colors=False, exception_formatter=structlog.dev.plain_traceback
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


if __name__ == "__main__":
    try:
        status = main(sys.argv[1:])
    except (OSError, EOFError):
        status = 1  # the parent is gone: the catalog has all that was not flushed
    # Threads that still answer must not hold up the end.
    os._exit(status)
