"""What a child is kept from, tried by a parser that wants out; and that each report is true."""

from __future__ import annotations

import errno
import json
import platform
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.indexer.test_sandbox import HOSTILE, MIB, hostile_reader, read

from longleaf.core.config import IndexerSettings
from longleaf.core.types import Document
from longleaf.indexer.sandbox import landlock, seccomp
from longleaf.indexer.sandbox.confine import Confinement
from longleaf.indexer.sandbox.pool import SandboxReader
from longleaf.indexer.sandbox.process import ChildProcess

SECRET = "what only the catalog may know"
PERMITTED = f"PermissionError {errno.EPERM}"
DENIED = f"PermissionError {errno.EACCES}"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what only Linux can refuse")
x86_64 = pytest.mark.skipif(platform.machine() != "x86_64", reason="calls by x86_64's numbers")


@pytest.fixture(scope="module")
def data_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    (home / "catalog.sqlite3").write_text(SECRET)
    return home


@pytest.fixture(scope="module")
def reader(data_home: Path) -> Iterator[SandboxReader]:
    settings = IndexerSettings(parse_workers=1, parse_memory_bytes=256 * MIB)
    opened = SandboxReader(settings, private=[data_home], command=HOSTILE)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def report(reader: SandboxReader) -> Confinement:
    return reader.confinements()["parsers"]


def attempted(reader: SandboxReader, what: str, path: Path | str = "") -> str:
    (found,) = read(reader, "try", json.dumps([what, str(path)]).encode())
    assert isinstance(found, Document)
    return found.text


def needs_landlock() -> None:
    if landlock.abi() == 0:
        pytest.skip("this kernel has no Landlock")


@pytest.mark.parametrize(
    "what", ["inet", "inet6", "unix", "netlink", "socketpair", "fork", "exec", "spawn"]
)
def test_no_socket_and_no_process(reader: SandboxReader, what: str) -> None:
    assert attempted(reader, what) in (PERMITTED, DENIED)


@pytest.mark.parametrize("what", ["kill parent", "limit parent", "set user"])
def test_nothing_of_other_processes_and_users(reader: SandboxReader, what: str) -> None:
    assert attempted(reader, what) == PERMITTED


@x86_64
@pytest.mark.parametrize(
    "what",
    [
        "signal parent's thread",
        "trace parent",
        "read parent's memory",
        "io_uring",
        "bpf",
        "keyring",
        "namespace",
        "mount",
        "type into the terminal",
        "shared memory",
    ],
)
def test_no_call_that_leads_out(reader: SandboxReader, what: str) -> None:
    assert attempted(reader, what) == PERMITTED


@x86_64
def test_calls_that_nobody_here_has_read_about_are_not_there(reader: SandboxReader) -> None:
    assert attempted(reader, "newer than the table") == f"OSError {errno.ENOSYS}"


def test_nothing_is_written_anywhere(reader: SandboxReader, tmp_path: Path) -> None:
    needs_landlock()
    (tmp_path / "file").write_text("mine")
    assert attempted(reader, "write", tmp_path / "new") == DENIED
    assert attempted(reader, "write", tmp_path / "file") == DENIED
    assert attempted(reader, "make", tmp_path / "folder") == DENIED
    assert attempted(reader, "remove", tmp_path / "file") == DENIED
    assert attempted(reader, "write", "/tmp/longleaf-test") == DENIED
    assert attempted(reader, "change mode", tmp_path / "file") in (PERMITTED, DENIED)
    assert attempted(reader, "change times", tmp_path / "file") in (PERMITTED, DENIED)
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "mine"


def test_nothing_is_read_but_code(reader: SandboxReader, data_home: Path, tmp_path: Path) -> None:
    needs_landlock()
    (tmp_path / "document.txt").write_text(SECRET)
    for path in (
        "/etc/passwd",
        data_home / "catalog.sqlite3",
        tmp_path / "document.txt",
        "/proc/self/environ",
        "/proc/self/status",
    ):
        assert attempted(reader, "read", path) == DENIED, path
    for folder in ("/", "/home", "/tmp", data_home):
        assert attempted(reader, "list", folder) == DENIED, folder
    assert attempted(reader, "read", json.__file__).startswith("done")


def test_private_folders_stay_so_even_among_code(tmp_path: Path) -> None:
    needs_landlock()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "secret").write_text(SECRET)
    before = list(sys.path)
    sys.path.append(str(tmp_path))
    try:
        for private, expected in (([tmp_path / "data"], DENIED), ([], "done")):
            reader = SandboxReader(
                IndexerSettings(parse_workers=1), private=private, command=HOSTILE
            )
            try:
                found = attempted(reader, "read", tmp_path / "data" / "secret")
                assert found.startswith(expected)
            finally:
                reader.close()
    finally:
        sys.path[:] = before


def test_nothing_of_our_environment(reader: SandboxReader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMEBODYS_PASSWORD", SECRET)
    fresh = hostile_reader()
    try:
        told = attempted(fresh, "environment")
    finally:
        fresh.close()
    assert told.startswith("done") and "PASSWORD" not in told and "HOME" not in told


def test_no_privileges_and_no_dumps(reader: SandboxReader, report: Confinement) -> None:
    if platform.machine() == "x86_64":
        assert attempted(reader, "capabilities") == "done: 'none'"
    assert attempted(reader, "dumpable") == "done: 0"
    assert report.privileges.holds
    assert attempted(reader, "raise limit") == "ValueError not allowed to raise maximum limit"


def test_every_report_says_how_or_why_not(report: Confinement) -> None:
    for hold in (
        report.network,
        report.writes,
        report.reads,
        report.memory,
        report.processes,
        report.privileges,
    ):
        assert hold.how
    if landlock.abi():
        assert report.gaps == ()
    assert Confinement.from_json(json.loads(json.dumps(report.to_json()))) == report


# --- on platforms that lack it -----------------------------------------------------------------

LACKING = """
import errno, sys
from longleaf.indexer.sandbox import child, confine, landlock, seccomp
{}
sys.argv = ["child", *sys.argv[1:]]
child.main(sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("without", "gaps"),
    [
        ("landlock.abi = lambda: 0", {"reads"}),
        (
            "def refuse(**_): raise OSError(errno.EINVAL, 'no seccomp here')\n"
            "seccomp.install = refuse",
            {"processes"},
        ),
        ("sys.platform = 'darwin'", {"network", "writes", "reads", "memory", "privileges"}),
        ("confine._leave_network = lambda: confine.Hold(False, 'no namespaces here')", set()),
    ],
    ids=["no Landlock", "no seccomp", "macOS", "no namespaces"],
)
def test_it_reads_all_the_same_and_says_what_is_lacking(without: str, gaps: set[str]) -> None:
    command = (sys.executable, "-P", "-c", LACKING.format(without))
    reader = SandboxReader(IndexerSettings(parse_workers=1), command=command)
    try:
        report = reader.confinements()["parsers"]
        (found,) = read(reader, "a.txt", b"some words")
    finally:
        reader.close()
    assert isinstance(found, Document) and found.text == "some words"
    said = {gap.partition(":")[0] for gap in report.gaps}
    assert gaps <= said
    if "darwin" not in without:
        assert said - {"processes"} <= gaps


def test_a_child_is_first_to_go_when_memory_runs_out() -> None:
    reader = hostile_reader()
    child = ChildProcess(HOSTILE, reader._terms.place())
    try:
        assert Path(f"/proc/{child.pid}/oom_score_adj").read_text().strip() == "1000"
    finally:
        child.end()
        reader.close()


# --- the filter itself -------------------------------------------------------------------------


def outcome(code: bytes, architecture: int, number: int, *arguments: int) -> int:
    """What the kernel would answer: classic BPF, run by hand."""
    words = [number, architecture, 0, 0]
    for argument in (*arguments, *([0] * (6 - len(arguments)))):
        words += [argument & 0xFFFFFFFF, argument >> 32]
    steps = list(struct.iter_unpack("=HBBI", code))
    accumulator, at = 0, 0
    while True:
        operation, if_true, if_false, operand = steps[at]
        at += 1
        match operation:
            case 0x20:
                accumulator = words[operand // 4]
            case 0x54:
                accumulator &= operand
            case 0x06:
                return int(operand)
            case 0x15:
                at += if_true if accumulator == operand else if_false
            case 0x25:
                at += if_true if accumulator > operand else if_false
            case 0x45:
                at += if_true if accumulator & operand else if_false
            case _:
                raise AssertionError(operation)


ALLOWED, KILLED = 0x7FFF0000, 0x80000000
REFUSED, MISSING = 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS
X86_64 = {"read": 0, "openat": 257, "mmap": 9, "futex": 202, "sendto": 44, "socket": 41,
          "execve": 59, "clone": 56, "clone3": 435, "ptrace": 101, "tgkill": 234,
          "ioctl": 16, "prlimit64": 302, "kill": 62, "connect": 42}  # fmt: skip
AARCH64 = {"read": 63, "openat": 56, "mmap": 222, "futex": 98, "sendto": 206, "socket": 198,
           "execve": 221, "clone": 220, "clone3": 435, "ptrace": 117, "tgkill": 131,
           "ioctl": 29, "prlimit64": 261, "kill": 129, "connect": 203}  # fmt: skip


@pytest.mark.parametrize(
    ("machine", "audit", "calls"),
    [("x86_64", 0xC000003E, X86_64), ("aarch64", 0xC00000B7, AARCH64)],
)
def test_the_filter_decides_as_it_should(machine: str, audit: int, calls: dict[str, int]) -> None:
    parsers = seccomp.filter_code(machine, own_pid=77, runs_programs=False)
    programs = seccomp.filter_code(machine, own_pid=77, runs_programs=True)

    def both(name: str, *arguments: int) -> tuple[int, int]:
        return (
            outcome(parsers, audit, calls[name], *arguments),
            outcome(programs, audit, calls[name], *arguments),
        )

    for name in ("read", "openat", "mmap", "futex", "sendto"):
        assert both(name) == (ALLOWED, ALLOWED), name
    assert both("ptrace") == (REFUSED, REFUSED)
    assert both("clone3") == (MISSING, MISSING)
    assert both("execve") == (REFUSED, ALLOWED)
    assert both("kill") == (REFUSED, ALLOWED)
    assert both("connect") == (REFUSED, REFUSED)
    stream, datagram, close_on_exec = 1, 2, 0o2000000
    for family, programs_may in ((1, ALLOWED), (2, REFUSED), (10, REFUSED), (16, REFUSED)):
        assert both("socket", family, stream) == (REFUSED, programs_may)
        assert both("socket", family, stream | close_on_exec) == (REFUSED, programs_may)
        assert both("socket", family, datagram) == (REFUSED, REFUSED)
    thread, process, user_namespace = 0x3D0F00, 0x1200011, 0x10000000
    assert both("clone", thread) == (ALLOWED, ALLOWED)
    assert both("clone", process) == (REFUSED, ALLOWED)
    assert both("clone", thread | user_namespace) == (REFUSED, REFUSED)
    assert both("tgkill", 77, 78, 6) == (ALLOWED, ALLOWED)
    assert both("tgkill", 1, 1, 9)[0] == REFUSED
    assert both("prlimit64", 0, 7) == (ALLOWED, ALLOWED)
    assert both("prlimit64", 1, 7) == (REFUSED, REFUSED)
    assert both("ioctl", 1, 0x5401) == (ALLOWED, ALLOWED)
    assert both("ioctl", 0, 0x5412) == (REFUSED, REFUSED)
    for code in (parsers, programs):
        assert outcome(code, audit, 451) == outcome(code, audit, 10_000) == MISSING
        assert outcome(code, 0x40000003, calls["read"]) == KILLED
        if machine == "x86_64":
            assert outcome(code, audit, calls["read"] | 0x40000000) == KILLED


def test_no_filter_for_a_machine_without_a_table() -> None:
    with pytest.raises(ValueError, match="riscv64"):
        seccomp.filter_code("riscv64", own_pid=1, runs_programs=False)
