"""Making a shard anew beside the one that is searched: when, whether there is room, the copy.

The engine's own `optimize` stops every thread of its process, so it runs on a copy, in a child
(`compactor`). The copy gets int8 codes for all passages and no byte of a deleted one. This module
knows files and numbers; who searches meanwhile, follows the log and swaps stands elsewhere
(`edge.EdgeIndex.optimize` in one process, `handover` beside a server). Trade-off: for as long as it
runs it needs twice the shard's disk space again, and no search waits.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from longleaf.core.errors import LongleafError
from longleaf.retriever.index.edge_folder import ShardState

MAX_UNOPTIMIZED_POINTS = 20_000
MAX_DELETED_SHARE = 0.2
MIN_WORTH_POINTS = 1_000
"""Without deletions, fewer new passages than this make no difference: the engine scans them."""

_MARGIN_BYTES = 128 * 1024 * 1024
BYTES_PER_POINT = 24_000
"""Anonymous memory that `optimize` takes for each passage of the shard, rounded up."""

_FICLONE = 0x40049409
_COPY_BYTES = 16 * 1024 * 1024


class CompactionFailed(LongleafError):
    """The index could not be made anew beside the old one, which goes on as it was."""

    code = "compaction_failed"


def why_due(
    state: ShardState, points: int, now: float, erase_seconds: float | None, asked: int
) -> str | None:
    """Why the shard should be made anew now; None when there is no reason.

    `erase_seconds`: how long a deleted passage's bytes may stay (None: until there are other
    reasons). `asked`: the catalog's last request.
    """
    if state.indexed_seq == 0:
        return None  # still being filled: what is made anew must know where it stands
    if asked > state.asked:
        return "it was asked for"
    if state.unoptimized_points > MAX_UNOPTIMIZED_POINTS:
        return f"{state.unoptimized_points:,} passages came in since the last time"
    if state.deleted_points > MAX_DELETED_SHARE * (points + state.deleted_points):
        return f"{state.deleted_points:,} of its passages were deleted or replaced"
    since = state.erase_since
    if erase_seconds is not None and since is not None and now - since >= erase_seconds:
        return "what was deleted must leave its files"
    return None


def is_worth_it(state: ShardState) -> bool:
    """Whether making the shard anew would change anything that can be noticed."""
    return state.erase_since is not None or state.unoptimized_points >= MIN_WORTH_POINTS


def require_room(shard: Path, points: int) -> None:
    """Raise CompactionFailed when disk or memory would not do."""
    # The copy, and what is made of it before its old segments go.
    needed = 2 * allocated_bytes(shard) + _MARGIN_BYTES
    free = shutil.disk_usage(shard).free
    if free < needed:
        raise CompactionFailed(
            f"Making the index anew needs {_mb(needed)} of disk space; {_mb(free)} are free.",
            "Free some space on the data folder's disk.",
        )
    needed = points * BYTES_PER_POINT + _MARGIN_BYTES
    available = available_memory_bytes()
    if available is not None and available < needed:
        raise CompactionFailed(
            f"Making the index anew needs {_mb(needed)} of memory; {_mb(available)} are available.",
            "Give the machine or container more memory, or stop other programs.",
        )


def _mb(count: int) -> str:
    return f"{count // 1_000_000:,} MB"


def allocated_bytes(folder: Path) -> int:
    """What a folder takes on disk; holes in its files cost nothing."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def available_memory_bytes() -> int | None:
    """What can be had without swapping, the container's limit considered; None if not known."""
    found: list[int] = []
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        found += [int(each.split()[1]) * 1024 for each in lines if each.startswith("MemAvailable:")]
        limit = Path("/sys/fs/cgroup/memory.max").read_text("ascii").strip()
        if limit != "max":
            used = int(Path("/sys/fs/cgroup/memory.current").read_text("ascii"))
            cached = _cached_bytes(Path("/sys/fs/cgroup/memory.stat").read_text("ascii"))
            found.append(int(limit) - used + cached)
    except (OSError, ValueError):
        pass
    return min(found, default=None)


def _cached_bytes(memory_stat: str) -> int:
    """Pages of files that the kernel gives back when memory is short."""
    values = dict(line.split() for line in memory_stat.splitlines())
    return int(values.get("inactive_file", 0)) + int(values.get("active_file", 0))


def copy_shard(source: Path, target: Path) -> None:
    """Copy a shard that nothing writes to; durable only after `compactor` has worked on it."""
    target.mkdir()
    for path in sorted(source.rglob("*")):
        other = target / path.relative_to(source)
        if path.is_dir():
            other.mkdir()
        else:
            _copy_file(path, other)


def _copy_file(source: Path, target: Path) -> None:
    with source.open("rb") as read, target.open("xb") as written:
        try:
            fcntl.ioctl(written, _FICLONE, read.fileno())  # shares the blocks where it can
            return
        except OSError:
            pass
        size = os.fstat(read.fileno()).st_size
        os.ftruncate(written.fileno(), size)
        # Files are made larger than what is in them: their holes are not copied.
        place = 0
        while place < size:
            try:
                place = os.lseek(read.fileno(), place, os.SEEK_DATA)
            except OSError:  # nothing but a hole up to the end
                return
            end = os.lseek(read.fileno(), place, os.SEEK_HOLE)
            while place < end:
                data = os.pread(read.fileno(), min(_COPY_BYTES, end - place), place)
                place += os.pwrite(written.fileno(), data, place)


def start_compactor(shard: Path, dim: int, *, niceness: int) -> subprocess.Popen[bytes]:
    """Begin to work on a copied shard in a child that ends with the thread that called this.

    `niceness` is how far it steps back behind others: 19 where nobody waits for it.
    """
    return subprocess.Popen(  # noqa: S603 - our own module, no shell
        [
            sys.executable,
            "-P",  # a file in the working folder must not stand in for a module
            "-m",
            "longleaf.retriever.index.compactor",
            str(os.getpid()),
            str(shard),
            str(dim),
            str(niceness),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        process_group=0,
    )


def finish_compactor(process: subprocess.Popen[bytes]) -> int:
    """Wait for it; returns how many passages the new shard has. Raises CompactionFailed."""
    said, _ = process.communicate()
    if process.returncode != 0:
        how = f"signal {-process.returncode}" if process.returncode < 0 else "an error (see above)"
        raise CompactionFailed(f"The process that makes the index anew ended with {how}.")
    return int(json.loads(said)["points"])


def compact_copy(source: Path, target: Path, dim: int, points: int) -> None:
    """All of it at once: `target` is `source` made anew. Raises CompactionFailed, leaving none."""
    require_room(source, points)
    try:
        copy_shard(source, target)
        finish_compactor(start_compactor(target, dim, niceness=0))
    except OSError as error:
        shutil.rmtree(target, ignore_errors=True)
        raise CompactionFailed(f"The index could not be copied: {error}.") from error
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
