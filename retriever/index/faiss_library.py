"""FAISS itself: loaded when an index is opened, its devices chosen once, with the reason beside.

It knows no passages. `faiss-cpu` and `faiss-gpu` install one module and overwrite each other, so
which one is there is found out by what it can do. Trade-off: nothing here is chosen by measuring;
a GPU that is there is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from longleaf.core.errors import ConfigError

_INSTALL = (
    'pip install "longleaf[cpu]", or "longleaf[gpu]" on a machine with an NVIDIA GPU; '
    "or set index.kind to edge."
)


@dataclass(frozen=True, slots=True)
class Devices:
    """Numbers of the GPUs that search (none: the CPU does), and why these."""

    gpus: tuple[int, ...]
    reason: str


def load_faiss() -> Any:
    """The module `faiss`. Raises ConfigError, with what to install, when it cannot be loaded."""
    try:
        import faiss
    except ImportError as error:
        raise ConfigError("index.kind is faiss, but FAISS is not installed.", _INSTALL) from error
    except RuntimeError as error:  # faiss-gpu looks for CUDA's libraries before it is imported
        raise ConfigError(
            f"FAISS is installed and cannot be loaded: {error}",
            'Install CUDA\'s libraries with it: pip install "longleaf[gpu]". Without an NVIDIA '
            'GPU: pip uninstall faiss-gpu, then pip install "longleaf[cpu]".',
        ) from error
    return faiss


def choose(faiss: Any, devices: str) -> Devices:
    """What the setting `faiss.devices` means on this machine. Raises ConfigError for a GPU that is
    not there."""
    if devices == "cpu":
        return Devices((), "CPU: faiss.devices says so")
    for_gpus = hasattr(faiss, "StandardGpuResources")
    there = faiss.get_num_gpus() if for_gpus else 0
    if devices == "auto":
        if there:
            return Devices((0,), f"GPU 0: the first of {there}")
        why = "no GPU was found" if for_gpus else "this FAISS is built for the CPU (faiss-cpu)"
        return Devices((), f"CPU: {why}")
    wanted = range(there) if devices == "all" else [int(each) for each in devices.split(",")]
    if not wanted or max(wanted) >= there:
        what = (
            f"{there} GPUs, numbered from 0" if for_gpus else "FAISS without GPU code (faiss-cpu)"
        )
        raise ConfigError(
            f"faiss.devices is {devices!r}, but this machine has {what}.",
            'Set faiss.devices to "auto" or "cpu"'
            + ("." if for_gpus else ', or pip uninstall faiss-cpu and install "longleaf[gpu]".'),
        )
    chosen = tuple(dict.fromkeys(wanted))
    return Devices(chosen, f"GPU {', '.join(map(str, chosen))}: faiss.devices is {devices!r}")


@contextmanager
def one_thread(faiss: Any) -> Iterator[None]:
    """FAISS's calls from this thread run on it alone: a team of threads for one query is slower
    where searches run side by side. OpenMP keeps the number per calling thread."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
