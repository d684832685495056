"""Parsers in child processes: whatever a file does to its parser, it ends as a named outcome, the
next file is read, and nothing is left behind."""

from __future__ import annotations

import gc
import json
import os
import signal
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.indexer.processes import children, look_who_is_there

from longleaf.core import frames
from longleaf.core.config import IndexerSettings
from longleaf.core.errors import NoTextFound, Rejected, RejectReason
from longleaf.core.types import Document, Rejection
from longleaf.indexer.parsers.here import ReadHere
from longleaf.indexer.sandbox import wire
from longleaf.indexer.sandbox.pool import SandboxReader, default_workers

HOSTILE = (sys.executable, "-P", str(Path(__file__).with_name("hostile.py")))
MIB = 1024 * 1024

linux = pytest.mark.skipif(sys.platform != "linux", reason="what only Linux can refuse")


@pytest.fixture(autouse=True, scope="module")
def _children_of_other_tests() -> None:
    look_who_is_there()


def hostile_reader(**settings: float) -> SandboxReader:
    chosen = {"parse_workers": 1, "parse_memory_bytes": 256 * MIB, **settings}
    return SandboxReader(IndexerSettings.model_validate(chosen), command=HOSTILE)


@pytest.fixture
def reader() -> Iterator[SandboxReader]:
    opened = hostile_reader()
    yield opened
    opened.close()
    assert children() == []


def read(reader: SandboxReader, name: str, data: bytes = b"data") -> list[Document | Rejection]:
    return list(reader.open(data, name))


def rejection(reader: SandboxReader, name: str, data: bytes = b"data") -> Rejected:
    with pytest.raises(Rejected) as caught:
        read(reader, name, data)
    return caught.value


def still_reads(reader: SandboxReader) -> bool:
    (found,) = read(reader, "good", b"the next file")
    return isinstance(found, Document) and found.text == "the next file"


# --- what it is for ----------------------------------------------------------------------------


def test_it_reads_what_parsers_read_here(tmp_path: Path) -> None:
    files = {
        "a.md": b"# One\n\nSome words.\n\n## Two\n\nMore words, \xc3\xa4\xc3\xb6.\n",
        "a.jsonl": b'{"_id": "1", "text": "one", "n": 3, "f": 0.5, "b": true, "l": ["x", 2]}\n'
        b'not JSON\n{"_id": "2", "title": "T", "text": "two \\ud83d\\ude00"}\n',
        "a.html": b"<html><title>T</title><h1>A</h1><p>Words</p><h2>B</h2><p>Others</p>",
        "a.txt": b"plain words\r\nin lines\x00",
    }
    reader, here = SandboxReader(IndexerSettings(parse_workers=1)), ReadHere()
    try:
        for name, data in files.items():
            opened, expected = reader.open(data, name), here.open(data, name)
            assert list(opened) == list(expected)
            assert opened.media_type == expected.media_type
        assert [type(each) for each in read(reader, "a.jsonl", files["a.jsonl"])] == [
            Document,
            Rejection,
            Document,
        ]
        assert rejection(reader, "a.bin", b"\0\1\2\3").reason is RejectReason.UNSUPPORTED
        assert rejection(reader, "a.pdf", b"%PDF-1.7 nothing").reason is RejectReason.MALFORMED
        assert rejection(reader, "a.txt", b"").reason is RejectReason.EMPTY
    finally:
        reader.close()


def test_errors_arrive_as_they_were_raised(reader: SandboxReader) -> None:
    refused = rejection(reader, "refuse")
    assert refused.reason is RejectReason.ENCRYPTED
    assert str(refused) == "it is locked ? unlock it"
    with pytest.raises(NoTextFound, match="a picture run OCR"):
        read(reader, "no-text")
    bug = rejection(reader, "internal")
    assert bug.reason is RejectReason.INTERNAL and "a bug of the parser" in bug.message


def test_a_child_reads_many_files(reader: SandboxReader) -> None:
    assert still_reads(reader)
    before = children()
    for _ in range(20):
        assert still_reads(reader)
    assert len(before) == 1 and children() == before


# --- how a file's parser may end ---------------------------------------------------------------


@pytest.mark.parametrize("late", ["", "late "])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("segfault", "SIGSEGV"),
        ("abort", "SIGABRT"),
        ("killed", "SIGKILL"),
        ("exit", "exit status 3"),
        ("leave", "exit status"),
    ],
)
def test_a_crash_is_a_rejection(reader: SandboxReader, name: str, words: str, late: str) -> None:
    opened = iter(reader.open(b"data", late + name))
    if late:
        assert isinstance(next(opened), Document)
    with pytest.raises(Rejected, match=words) as caught:
        next(opened)
    assert caught.value.reason is RejectReason.CRASHED
    assert still_reads(reader)


@pytest.mark.parametrize("name", ["loop", "sleep", "drip", "late loop"])
def test_a_parser_that_never_ends_is_ended(name: str) -> None:
    reader = hostile_reader(parse_seconds=1.0)
    try:
        assert rejection(reader, name).reason is RejectReason.TOO_SLOW
    finally:
        reader.close()
    assert children() == []


@pytest.mark.parametrize("name", ["allocate", "allocate-shared", "late allocate"])
def test_memory_is_limited(reader: SandboxReader, name: str) -> None:
    # A shared mapping that is refused is an OSError, which is the parser's own to handle.
    expected = {RejectReason.TOO_MUCH_MEMORY} | (
        {RejectReason.INTERNAL} if name == "allocate-shared" else set()
    )
    assert rejection(reader, name).reason in expected
    assert still_reads(reader)


def test_a_parser_that_nests_too_deep(reader: SandboxReader) -> None:
    assert rejection(reader, "recurse").reason is RejectReason.MALFORMED
    assert still_reads(reader)


def test_output_is_limited() -> None:
    reader = hostile_reader(parse_documents=100)
    try:
        opened = reader.open(b"data", "endless")
        found = []
        with pytest.raises(Rejected, match="more than 100 documents") as caught:
            found.extend(opened)
        assert caught.value.reason is RejectReason.EXPANDS
        assert still_reads(reader)
    finally:
        reader.close()
    reader = hostile_reader(parse_text_chars=100_000)
    try:
        refused = rejection(reader, "endless")
        assert refused.reason is RejectReason.EXPANDS and "100,000 characters" in refused.message
        assert still_reads(reader)
    finally:
        reader.close()


def test_a_child_killed_from_outside_between_files_harms_no_file(reader: SandboxReader) -> None:
    assert still_reads(reader)
    worker = next(iter(reader._crew._workers))
    assert worker._child is not None
    os.kill(worker._child.pid, signal.SIGKILL)
    assert still_reads(reader)


# --- a parser in a stranger's hands ------------------------------------------------------------


def framed(header: object, body: bytes = b"") -> bytes:
    written = json.dumps(header).encode()
    return struct.pack("<II", len(written), len(body)) + written + body


LIES = {
    "noise": b"\xff" * 100,
    "a huge frame": struct.pack("<II", 2**32 - 1, 2**32 - 1),
    "no words": framed({"arrays": []}),
    "no dictionary": framed([1, 2]),
    "another type": framed({"say": "type", "media_type": "text/html", "arrays": []}),
    "a greeting": framed({"say": "hello", "arrays": []}),
    "progress of nothing": framed({"say": "progress", "arrays": []}),
    "progress of text": framed(
        {"say": "progress", "phase": "parse", "done": "1", "total": 2, "arrays": []}
    ),
    "progress of noise": framed(
        {"say": "progress", "phase": "\x1b[2J", "done": 1, "total": 2, "arrays": []}
    ),
    "progress of much": framed(
        {"say": "progress", "phase": "parse", "done": 10**400, "total": 2, "arrays": []}
    ),
    "a document of nothing": framed({"say": "document", "arrays": []}),
    "a rejection of nothing": framed({"say": "rejection", "arrays": []}),
    "a document of an invented type": frames.encode(
        wire.document_frame(Document("text", "title", part="a.x", media_type="text/none-such"))
    ),
    "a list for a type": framed({"say": "type", "media_type": [], "arrays": []}),
    "an error of ours": framed(
        {"say": "error", "code": "catalog_broken", "message": "m", "hint": "h", "arrays": []}
    ),
    "an error of no reason": framed(
        {"say": "error", "code": "rejected", "message": "m", "hint": "", "reason": 1, "arrays": []}
    ),
    "an end with more": framed({"say": "end", "arrays": []}) + b"\0" * 50,
    "depth": struct.pack("<II", 100_000, 0) + b"[" * 100_000,
}


@pytest.mark.parametrize("what", LIES)
def test_nothing_that_a_child_says_gets_through_unchecked(what: str, reader: SandboxReader) -> None:
    if what == "an end with more":
        assert read(reader, "lie", LIES[what]) == []
    else:
        refused = rejection(reader, "lie", LIES[what])
        assert refused.reason is RejectReason.CRASHED, str(refused)
    assert still_reads(reader)


def test_a_flood_is_cut(reader: SandboxReader) -> None:
    assert rejection(reader, "flood bytes").reason is RejectReason.CRASHED
    assert still_reads(reader)


def test_a_type_that_no_parser_reads_is_refused(reader: SandboxReader) -> None:
    assert rejection(reader, "invented").reason is RejectReason.CRASHED
    assert still_reads(reader)


# --- room, order, progress ---------------------------------------------------------------------


def test_a_reader_that_is_slow_holds_up_the_parser() -> None:
    reader = hostile_reader(parse_seconds=1.0)
    try:
        opened = reader.open(json.dumps([10_000, 4_000]).encode(), "measured")
        items = iter(opened)
        next(items)
        threading.Event().wait(2.0)  # longer than the parser may take: not its fault
        assert opened._weight < 2 * 8 * MIB
        assert sum(1 for _ in items) == 9_999
    finally:
        reader.close()


def test_files_are_read_side_by_side_and_in_any_order(reader: SandboxReader) -> None:
    much = json.dumps([5_000, 4_000]).encode()
    opened = [reader.open(much, "measured") for _ in range(4)]
    for file in reversed(opened):
        assert sum(1 for _ in file) == 5_000
    assert still_reads(reader)


def test_many_threads_share_one_reader(reader: SandboxReader) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(3):
                (found,) = read(reader, "good", f"{number} {turn}".encode())
                assert isinstance(found, Document) and found.text == f"{number} {turn}"
                assert rejection(reader, "exit").reason is RejectReason.CRASHED
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_progress_is_told_to_who_reads_in_their_thread(reader: SandboxReader) -> None:
    heard: list[tuple[str, int, int]] = []
    threads = set()

    def on_progress(phase: str, done: int, total: int) -> None:
        heard.append((phase, done, total))
        threads.add(threading.current_thread())

    assert len(list(reader.open(b"data", "progress", on_progress))) == 1
    assert heard[-1] == ("parse", 100, 100)
    assert [done for _, done, _ in heard] == sorted(done for _, done, _ in heard)
    assert threads == {threading.current_thread()}


def test_the_largest_things_pass() -> None:
    reader = hostile_reader(parse_memory_bytes=1024 * MIB)
    try:
        (found,) = read(reader, "measured", json.dumps([1, 100_000_000]).encode())
        assert isinstance(found, Document) and len(found.text) == 100_000_000
        (found,) = read(reader, "good", b"x" * (128 * MIB))
        assert isinstance(found, Document) and len(found.text) == 128 * MIB
    finally:
        reader.close()


# --- giving up ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["endless", "sleep", "late loop"])
def test_closing_a_file_ends_the_work_on_it(reader: SandboxReader, name: str) -> None:
    opened = reader.open(b"data", name)
    if name != "sleep":
        next(iter(opened))
    waiting = reader.open(b"data", "loop")
    waiting.close()
    waiting.close()
    opened.close()
    opened.close()
    assert list(opened) == list(waiting) == []
    assert still_reads(reader)


def test_closing_the_reader_ends_everything() -> None:
    reader = hostile_reader(parse_workers=2)
    opened = [reader.open(b"data", name) for name in ("late loop", "loop", "sleep", "good")]
    next(iter(opened[0]))
    reader.close()
    reader.close()
    assert children() == []
    for file in opened:
        with pytest.raises(Rejected, match="reading was ended") as caught:
            list(file)
        assert caught.value.reason is RejectReason.UNREADABLE
    with pytest.raises(Rejected, match="reading was ended"):
        read(reader, "good")


def test_a_reader_that_nobody_closed_ends_with_its_owner() -> None:
    reader = hostile_reader()
    assert still_reads(reader)
    del reader
    gc.collect()
    assert children() == []


@linux
def test_children_die_with_their_parent(tmp_path: Path) -> None:
    import subprocess

    code = (
        "import sys, time\n"
        "from longleaf.core.config import IndexerSettings\n"
        "from longleaf.indexer.sandbox.pool import SandboxReader\n"
        f"reader = SandboxReader(IndexerSettings(parse_workers=1), command={HOSTILE!r})\n"
        "list(reader.open(b'x', 'good'))\n"
        "opened = reader.open(b'x', 'loop')\n"
        "print(next(iter(reader._crew._workers))._child.pid, flush=True)\n"
        "time.sleep(1000)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent, parent.stdout:
        pid = int(parent.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        parent.kill()
        parent.wait()
    wait_until(lambda: not Path(f"/proc/{pid}").exists() or _is_zombie(pid))


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] == "Z"
    except OSError:
        return True


def wait_until(what: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(6000):
        if what():
            return
        pause.wait(0.01)
    raise AssertionError("waited in vain")


def test_a_child_that_cannot_start_says_why() -> None:
    command = (sys.executable, "-c", "raise SystemExit('no such library')")
    reader = SandboxReader(IndexerSettings(parse_workers=1), command=command)
    try:
        refused = rejection(reader, "a.txt")
        assert refused.reason is RejectReason.INTERNAL and "no such library" in refused.message
    finally:
        reader.close()


def test_half_of_the_cores_parse() -> None:
    assert 1 <= default_workers() <= max(1, (os.cpu_count() or 1) // 2)
    reader = SandboxReader(IndexerSettings(parse_workers=3))
    assert reader.workers == 3
    reader.close()
