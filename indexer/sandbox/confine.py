"""What a child gives up before it reads anything that somebody else made, and a report of it.

Everything is given up by the child itself, for good, with what the kernel offers: limits of its
own, capabilities, a network namespace, Landlock and seccomp. What a platform lacks is left out and
said in the report, never a failure: an old kernel or macOS reads the same files, less guarded. It
knows no parser and imports nothing but the standard library, because a library may start threads,
and Landlock holds only the thread that asks. Costs about 2 ms for each start of a child.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import socket
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from longleaf.indexer.sandbox import landlock, seccomp
from longleaf.indexer.sandbox.memory import Memory

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 4, 24, 38
_CLONE_NEWIPC, _CLONE_NEWNET = 0x08000000, 0x40000000
_CLONE_NEWUSER, _CLONE_NEWPID, _CLONE_NEWNS = 0x10000000, 0x20000000, 0x00020000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000
_TMP = Path("/tmp")  # noqa: S108 - where LibreOffice makes a socket, whatever TMPDIR says
_FIRST_TO_KILL = 1000  # for the OOM killer: before the process that holds everybody's work
_ALWAYS_READABLE = (
    *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache"),
    *("/etc/localtime", "/usr/share/zoneinfo", "/dev/urandom", "/dev/zero"),
)
_MIB = 1024 * 1024
_TRACEBACK_BYTES = 64 * 1024  # where a crash writes down what it was about


@dataclass(frozen=True, slots=True)
class Walls:
    """What a child may still do.

    `scratch` is the one folder it may write to; None: nowhere. `programs` are folders and files
    that it may run, with sockets of this machine for them to talk over; none: it starts nothing.
    `memory_bytes` are the most that it, or a program it runs, gets beyond what it has at its start
    and a file of `input_bytes`. `private` folders stay out of reach even where code lies around
    them. `own_tmp`: a program insists on /tmp, so the scratch folder takes its place.
    """

    memory_bytes: int
    input_bytes: int = 0
    scratch: Path | None = None
    programs: tuple[Path, ...] = ()
    read: tuple[Path, ...] = ()
    private: tuple[Path, ...] = ()
    own_tmp: bool = False


@dataclass(frozen=True, slots=True)
class Hold:
    """One thing that a child is kept from: how, or why it is not."""

    holds: bool
    how: str


@dataclass(frozen=True, slots=True)
class Confinement:
    """What is in force in a child; `longleaf doctor` shows it."""

    network: Hold
    writes: Hold
    reads: Hold
    memory: Hold
    processes: Hold
    privileges: Hold

    @property
    def gaps(self) -> tuple[str, ...]:
        """What this platform cannot keep a child from, in words."""
        return tuple(
            f"{each.name}: {hold.how}"
            for each in fields(self)
            if not (hold := getattr(self, each.name)).holds
        )

    def to_json(self) -> dict[str, dict[str, object]]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Mapping[str, object]]) -> Confinement:
        """What `to_json` gave. Raises KeyError for anything else."""
        return cls(
            **{
                each.name: Hold(bool(value[each.name]["holds"]), str(value[each.name]["how"]))
                for each in fields(cls)
            }
        )


def confine(walls: Walls, memory: Memory) -> tuple[Confinement, Path | None]:
    """Give up everything that `walls` does not name; call it before anything else is loaded.

    Returns what is in force, and where the scratch folder is from now on.
    """
    limited = _limit_resources(walls, memory)
    if sys.platform != "linux":
        lacking = Hold(False, f"{platform.system()} offers nothing for it")
        report = Confinement(lacking, lacking, lacking, limited, _no_processes(), lacking)
        return report, walls.scratch
    readable = _readable(walls)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(_FIRST_TO_KILL))
    own_network, walls = _leave_namespaces(walls, readable)
    privileges = _drop_privileges()
    reads, writes = _keep_to_files(walls, readable, privileges)
    refused = _refuse_calls(walls, privileges)
    # Last, because it closes /proc/self to the process itself. Memory that goes to a crash handler
    # would hold documents.
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if not refused.holds:
        network = own_network if own_network.holds else refused
        processes = refused if walls.programs else _no_processes()
    elif walls.programs:
        processes = Hold(True, "only named programs start, none is traced (Landlock, seccomp)")
        if not reads.holds:
            processes = Hold(False, f"any program starts: {reads.how}")
        network = Hold(True, f"only sockets to listen on here (seccomp), {own_network.how}")
    else:
        processes = Hold(True, "none starts, is signalled or traced (seccomp)")
        network = Hold(True, f"no socket of any kind (seccomp), {own_network.how}")
    report = Confinement(network, writes, reads, limited, processes, privileges)
    return report, walls.scratch


def _limit_resources(walls: Walls, memory: Memory) -> Hold:
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_NOFILE, 1024 if walls.programs else 128)
    _lower(resource.RLIMIT_FSIZE, walls.memory_bytes if walls.scratch else _TRACEBACK_BYTES)
    limited = memory.end_at(walls.memory_bytes + walls.input_bytes)
    if not limited or sys.platform == "darwin":
        return Hold(False, f"{platform.system()} does not limit a process's memory")
    return Hold(
        True, f"at most {walls.memory_bytes // _MIB:,} MiB beside the file (RLIMIT_AS, RLIMIT_DATA)"
    )


def _lower(which: int, limit: int) -> bool:
    _, hard = resource.getrlimit(which)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    try:
        resource.setrlimit(which, (limit, limit))
    except (OSError, ValueError):
        return False
    return True


def _no_processes() -> Hold:
    """Without seccomp: as many processes as the user has already. Root is not held by it."""
    if _lower(resource.RLIMIT_NPROC, 0) and os.getuid() != 0:
        return Hold(True, "none starts (RLIMIT_NPROC)")
    return Hold(False, "processes may be started: no seccomp")


def _leave_namespaces(walls: Walls, readable: Iterable[Path]) -> tuple[Hold, Walls]:
    """Leave the network; where programs run, also the processes (see `go_first`) and /tmp.

    /tmp stays where code that this process needs lies in it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    left = _CLONE_NEWNET | _CLONE_NEWIPC
    left |= _CLONE_NEWPID | _CLONE_NEWNS if walls.programs else 0
    if libc.unshare(left) != 0:
        if libc.unshare(_CLONE_NEWUSER | left) != 0:
            reason = os.strerror(ctypes.get_errno())
            return Hold(False, f"in this machine's network (no namespace: {reason})"), walls
        with suppress(OSError):
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
            Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    wanted = walls.own_tmp and not any(path.is_relative_to(_TMP) for path in readable)
    if wanted and walls.scratch is not None and _put_in_place(walls.scratch, _TMP):
        walls = replace(walls, scratch=_TMP, own_tmp=False)
    return Hold(True, "in a network of its own"), walls


def _put_in_place(folder: Path, of: Path) -> bool:
    """Show this process, and what it starts, `folder` where `of` is for everybody else."""
    mount = ctypes.CDLL(None, use_errno=True).mount
    if mount(b"none", b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None) != 0:
        return False
    where = (os.fsencode(folder), os.fsencode(of))
    return bool(mount(*where, None, ctypes.c_ulong(_MS_BIND), None) == 0)


def go_first(connection: socket.socket) -> None:
    """Go on as the first process of the namespace that `confine` made, if it made one.

    All that it will start dies with it, however it tries to hide. Call it after `confine`.
    """
    inside = os.fork()
    if inside == 0:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        return
    # The parent must hear it when the one inside is gone.
    connection.close()
    _, status = os.waitpid(inside, 0)
    code = os.waitstatus_to_exitcode(status)
    if code < 0 and -code not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code if code >= 0 else 1)


def _drop_privileges() -> Hold:
    libc = ctypes.CDLL(None, use_errno=True)
    number = 0
    while libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0) == 0:
        number += 1
    version_3, empty = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    without = libc.capset(ctypes.byref(version_3), ctypes.byref(empty)) == 0
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return Hold(False, f"no_new_privs: {os.strerror(ctypes.get_errno())}")
    if not without:
        return Hold(False, "capabilities could not be dropped")
    return Hold(True, "no capabilities and no way to new ones")


def _keep_to_files(walls: Walls, readable: Iterable[Path], privileges: Hold) -> tuple[Hold, Hold]:
    """Reads and writes."""
    try:
        if not privileges.holds:
            raise OSError(privileges.how)
        version = landlock.restrict(
            read=readable,
            run=walls.programs,
            write=[Path("/dev/null"), *([walls.scratch] if walls.scratch else [])],
            listen=[_TMP] if walls.own_tmp else [],
        )
    except OSError as error:
        lacking = f"any file that the user may: {error.strerror or error}"
        if walls.scratch is None:
            return Hold(False, lacking), Hold(True, "at most 64 KiB a file (RLIMIT_FSIZE)")
        return Hold(False, lacking), Hold(False, lacking)
    what = "Python, its libraries" + (" and programs" if walls.programs else "")
    kept = Hold(True, f"only {what} (Landlock ABI {version})")
    if walls.own_tmp:
        return kept, Hold(False, f"the scratch folder, and files in {_TMP} may be removed")
    where = "only the scratch folder" if walls.scratch else "nothing"
    return kept, Hold(True, f"{where} (Landlock ABI {version})")


def _refuse_calls(walls: Walls, privileges: Hold) -> Hold:
    try:
        if not privileges.holds:
            raise OSError(privileges.how)
        seccomp.install(own_pid=os.getpid(), runs_programs=bool(walls.programs))
    except (OSError, ValueError) as error:
        return Hold(False, str(error))
    return Hold(True, "seccomp")


def _readable(walls: Walls) -> list[Path]:
    """Where code lies: Python's libraries, what is loaded already, and ours through its links."""
    found = {Path(each) for name, each in sysconfig.get_paths().items() if "lib" in name}
    found |= {Path(each) for each in sys.path if each}
    found |= {Path(__file__).parents[1], *_rooms()}
    with suppress(OSError):
        for line in Path("/proc/self/maps").read_text().splitlines():
            mapped = line.partition("/")[2]
            if ".so" in mapped:
                found.add(Path("/" + mapped).parent)
    real = {each.resolve() for each in found}
    private = [Path("/"), *walls.private]
    with suppress(RuntimeError):
        private.append(Path.home())
    guarded = {path for each in private for path in (each, *each.parents)}
    return [*map(Path, _ALWAYS_READABLE), *sorted(real - guarded), *walls.read]


def _rooms() -> list[Path]:
    """The folders behind the package's links."""
    import longleaf

    return [room for root in longleaf.__path__ for room in Path(root).iterdir() if room.is_dir()]
