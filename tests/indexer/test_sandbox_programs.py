"""LibreOffice and Tesseract for parsers: in a child with walls of its own, each page read once."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import threading
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.indexer.hostile import HOSTILE_PROGRAM
from tests.indexer.processes import children, look_who_is_there
from tests.indexer.test_sandbox import HOSTILE, MIB, rejection, still_reads, wait_until

from longleaf.core.config import IndexerSettings
from longleaf.core.errors import NoTextFound, RejectReason
from longleaf.core.frames import Frame
from longleaf.core.types import Document, OcrWord
from longleaf.indexer.office import find_libreoffice
from longleaf.indexer.sandbox.helper import Asked, Helper, Programs
from longleaf.indexer.sandbox.pool import SandboxReader, find_programs
from longleaf.indexer.sandbox.scratch import Scratch, remove_abandoned

SETTINGS = IndexerSettings(parse_workers=1, parse_memory_bytes=256 * MIB)
DENIED = (f"PermissionError {errno.EACCES}", f"PermissionError {errno.EPERM}")

needs_tesseract = pytest.mark.skipif(
    shutil.which("tesseract") is None, reason="Tesseract is not installed"
)
needs_libreoffice = pytest.mark.skipif(
    find_libreoffice() is None, reason="LibreOffice is not installed"
)
CODE_IN_TMP = Path(__file__).resolve().is_relative_to("/tmp")
linux = pytest.mark.skipif(sys.platform != "linux", reason="what only Linux can refuse")


@pytest.fixture(autouse=True, scope="module")
def _children_of_other_tests() -> None:
    look_who_is_there()


class Store:
    """An OcrStore in memory."""

    def __init__(self) -> None:
        self.pages: dict[tuple[str, str, int], tuple[OcrWord, ...]] = {}
        self.fails = False

    def ocr_pages(self, original: str, engine: str) -> dict[int, tuple[OcrWord, ...]]:
        return {
            page: words
            for (of, by, page), words in self.pages.items()
            if (of, by) == (original, engine)
        }

    def put_ocr_page(
        self, original: str, engine: str, page: int, words: tuple[OcrWord, ...]
    ) -> None:
        if self.fails:
            raise OSError("the disk is full")
        self.pages[original, engine, page] = words


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def hostile_programs(tmp_path: Path) -> Programs:
    """Programs by whose name a hostile child takes their part."""
    place = tmp_path / "office" / "program"
    place.mkdir(parents=True)
    program = Path(shutil.copy("/bin/true", place / HOSTILE_PROGRAM))
    return Programs(libreoffice=program, tesseract=program, convert_seconds=30.0)


@pytest.fixture
def hostile(store: Store, hostile_programs: Programs) -> Iterator[SandboxReader]:
    """Parsers and programs that misbehave."""
    programs = hostile_programs
    reader = SandboxReader(SETTINGS, programs=programs, store=store, command=HOSTILE)
    yield reader
    reader.close()
    assert children() == []


@pytest.fixture
def ocr(store: Store) -> Iterator[SandboxReader]:
    """Real Tesseract, parsers that ask for it on purpose."""
    reader = SandboxReader(SETTINGS, programs=find_programs(SETTINGS), store=store, command=HOSTILE)
    yield reader
    reader.close()


def converted(reader: SandboxReader, suffix: str, text: str = "") -> str:
    data = json.dumps([suffix, text]).encode()
    (found,) = list(reader.open(data, "convert"))
    assert isinstance(found, Document)
    return found.text


def attempted(reader: SandboxReader, what: str, path: Path | str = "") -> str:
    return converted(reader, ".fodt", json.dumps([what, str(path)]))


def refused(reader: SandboxReader, suffix: str) -> RejectReason:
    return rejection(reader, "convert", json.dumps([suffix, ""]).encode()).reason


# --- walls -------------------------------------------------------------------------------------


@linux
def test_programs_reach_nobody(hostile: SandboxReader, tmp_path: Path) -> None:
    import socket

    for what in ("inet", "inet6", "netlink", "datagram", "namespace", "mount"):
        assert not attempted(hostile, what).startswith("done"), what
    assert not attempted(hostile, "kill", str(os.getpid())).startswith("done")
    path = tmp_path / "service"
    with socket.socket(socket.AF_UNIX) as service:
        service.bind(str(path))
        service.listen()
        assert attempted(hostile, "connect", path) in DENIED
    pipe = Path(f"/tmp/longleaf-test-{os.getpid()}")
    try:
        assert attempted(hostile, "listen", pipe).startswith("done")
        # Where Longleaf itself lies in /tmp, that stays everybody's (see below).
        assert pipe.exists() == CODE_IN_TMP
    finally:
        pipe.unlink(missing_ok=True)


@linux
def test_code_that_lies_in_tmp_stays_where_it_is(
    hostile_programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "module.py").write_text("x")
    monkeypatch.syspath_prepend(str(code))
    reader = SandboxReader(SETTINGS, programs=hostile_programs, command=HOSTILE)
    try:
        assert attempted(reader, "read", code / "module.py") == "done: b'x'"
        assert attempted(reader, "write", "{scratch}/file").startswith("done")
        assert not attempted(reader, "write", code / "module.py").startswith("done")
    finally:
        reader.close()


@linux
def test_programs_see_their_scratch_folder_and_code(hostile: SandboxReader, tmp_path: Path) -> None:
    (tmp_path / "document").write_text("secret")
    for path in ("/etc/passwd", tmp_path / "document", "/proc/self/environ"):
        assert attempted(hostile, "read", path).split()[0] in (
            "PermissionError",
            "FileNotFoundError",
        )
    assert attempted(hostile, "write", "{scratch}/file").startswith("done")
    assert attempted(hostile, "read", "{scratch}/file") == "done: b'x'"
    assert attempted(hostile, "write", "/var/tmp/longleaf-test") in DENIED
    assert attempted(hostile, "run", "/usr/bin/env") in DENIED
    report = hostile.confinements()
    assert set(report) == {"parsers", "programs"}


@linux
def test_nothing_that_a_program_leaves_behind_survives(hostile: SandboxReader) -> None:
    assert converted(hostile, ".wpd") == "hidden"
    strays = strangers()
    assert strays
    hostile.close()
    wait_until(lambda: not strays & strangers())


def strangers() -> set[int]:
    """Running processes that were started as hostile children."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if HOSTILE[-1].encode() in (folder / "cmdline").read_bytes():
                found.add(int(folder.name))
        except OSError:
            continue
    return found


# --- ends --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "reason"),
    [
        (".doc", RejectReason.CRASHED),
        (".odt", RejectReason.CRASHED),
        (".sxw", RejectReason.CRASHED),
    ],
)
def test_a_program_that_crashes_rejects_the_file(
    hostile: SandboxReader, suffix: str, reason: RejectReason
) -> None:
    assert refused(hostile, suffix) is reason
    assert still_reads(hostile)
    assert attempted(hostile, "environment").startswith("done")


def test_a_program_that_never_ends_is_ended(
    hostile_programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("longleaf.indexer.sandbox.helper._SLACK_SECONDS", 0.5)
    programs = replace(hostile_programs, convert_seconds=0.1)
    reader = SandboxReader(SETTINGS, programs=programs, command=HOSTILE)
    try:
        assert refused(reader, ".rtf") is RejectReason.TOO_SLOW
        assert still_reads(reader)
    finally:
        reader.close()


def test_closing_a_file_ends_the_program_that_works_for_it(hostile: SandboxReader) -> None:
    opened = hostile.open(json.dumps([".rtf", ""]).encode(), "convert")
    heard = threading.Event()

    def wait() -> None:
        assert list(opened) == []
        heard.set()

    thread = threading.Thread(target=wait)
    thread.start()
    wait_until(lambda: len(children()) == 2)
    opened.close()
    thread.join()
    assert heard.is_set()
    assert still_reads(hostile)


def test_who_gives_up_while_a_program_starts_waits_for_none(hostile_programs: Programs) -> None:
    helper = Helper(hostile_programs, HOSTILE, (), None)
    helper.begin()
    helper.kill()  # no child is there yet that could be ended
    asked = Frame({"say": "convert", "suffix": ".rtf"}, (np.zeros(1, np.uint8),))
    answer = helper.answer(asked, Asked(b"", ""))
    assert answer.header["error"]["reason"] == RejectReason.UNREADABLE
    assert children() == []


def test_a_parser_gets_nothing_that_there_is_not(hostile: SandboxReader) -> None:
    assert rejection(hostile, "ask for what there is not").reason is RejectReason.CRASHED
    assert still_reads(hostile)
    without = SandboxReader(SETTINGS, command=HOSTILE)
    try:
        with pytest.raises(NoTextFound, match="switched off"):
            list(without.open(b"", "pages"))
        assert rejection(without, "convert", b'[".rtf", ""]').reason is RejectReason.INTERNAL
    finally:
        without.close()


def test_words_that_are_none_reject_the_page(hostile: SandboxReader, store: Store) -> None:
    assert rejection(hostile, "pages").reason is RejectReason.CRASHED
    assert store.pages == {}
    assert still_reads(hostile)


# --- the real ones -----------------------------------------------------------------------------


@needs_libreoffice
def test_libreoffice_converts_within_its_walls() -> None:
    reader = SandboxReader(SETTINGS, programs=find_programs(SETTINGS))
    heard = []
    try:
        opened = reader.open(
            rb"{\rtf1\ansi The tenant shall pay \'80 100.\par Second.}",
            "lease.rtf",
            lambda *progress: heard.append(progress),
        )
        (found,) = list(opened)
    finally:
        reader.close()
    assert isinstance(found, Document)
    assert found.text.split("\n")[0].strip() == "The tenant shall pay € 100."
    assert opened.media_type == "application/rtf"
    assert heard[-1] == ("convert", 1, 1)


def picture(text: str) -> bytes:
    """A PNG of 150 dots an inch on which `text` stands in large letters."""
    import pypdfium2

    content = f"BT /F1 24 Tf 20 40 Td ({text}) Tj ET".encode()
    parts = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 400 100] /Contents 4 0 R "
        b"/Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    pdf = b"%PDF-1.4\n"
    for number, part in enumerate(parts, 1):
        pdf += b"%d 0 obj\n%s\nendobj\n" % (number, part)
    pdf += b"trailer << /Root 1 0 R /Size 6 >>\n%%EOF"
    document = pypdfium2.PdfDocument(pdf)
    grey = document[0].render(scale=150 / 72, grayscale=True).to_numpy().copy()
    document.close()

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")
        )

    height, width = grey.shape
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes((8, 0, 0, 0, 0))
    dots = (5906).to_bytes(4, "big") * 2 + b"\1"
    rows = np.hstack((np.zeros((height, 1), np.uint8), grey)).tobytes()
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (
            chunk(b"IHDR", head),
            chunk(b"pHYs", dots),
            chunk(b"IDAT", zlib.compress(rows)),
            chunk(b"IEND", b""),
        )
    )


@needs_tesseract
def test_each_page_of_a_file_is_read_once(ocr: SandboxReader, store: Store) -> None:
    data = picture("The tenant pays")
    (first,) = list(ocr.open(data, "scan pages"))
    assert isinstance(first, Document)
    assert first.text == "The tenant pays The tenant pays"
    assert first.warnings[0] == "made [1, 2]" and first.warnings[1].startswith("by tesseract")
    assert sorted(page for _, _, page in store.pages) == [1, 2]
    (again,) = list(ocr.open(data, "scan pages"))
    assert isinstance(again, Document)
    assert again.text == first.text and again.warnings[0] == "made []"


@needs_tesseract
def test_pages_whose_numbers_may_clash_are_told_apart(ocr: SandboxReader, store: Store) -> None:
    """Two attachments of a mail both have a page 1: their pictures are made, and compared."""
    data = picture("First part")
    (first,) = list(ocr.open(data, "pages"))
    assert isinstance(first, Document) and first.warnings[0] == "made [1, 2]"
    before = dict(store.pages)
    assert {page for _, _, page in before} == {1, 2}
    assert all(engine.startswith("tesseract") and " " in engine for _, engine, _ in before)
    (again,) = list(ocr.open(data, "pages"))
    assert isinstance(again, Document) and again.warnings[0] == "made [1, 2]"
    assert store.pages == before


@needs_tesseract
def test_a_page_that_cannot_be_kept_is_read_all_the_same(ocr: SandboxReader, store: Store) -> None:
    store.fails = True
    (found,) = list(ocr.open(picture("The tenant pays"), "scan pages"))
    assert isinstance(found, Document) and found.text.startswith("The tenant pays")
    assert store.pages == {}


@needs_tesseract
def test_a_language_that_is_not_there_is_named() -> None:
    settings = SETTINGS.model_copy(update={"ocr_languages": "klingon"})
    reader = SandboxReader(settings, programs=find_programs(settings), command=HOSTILE)
    try:
        failure = rejection(reader, "pages")
    finally:
        reader.close()
    assert failure.reason is RejectReason.NEEDS_PROGRAM and "klingon" in failure.message


def test_without_ocr_files_say_why() -> None:
    off = find_programs(SETTINGS.model_copy(update={"ocr_languages": ""}))
    assert off.tesseract is None and "switched off" in off.why_no_ocr


# --- scratch folders ---------------------------------------------------------------------------


def test_scratch_folders_of_the_dead_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    mine = Scratch()
    (mine.path / "file").write_text("x")
    (tmp_path / "longleaf-scratch-of-a-dead-one" / "deep").mkdir(parents=True)
    (tmp_path / "another").mkdir()
    remove_abandoned()
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(["another", mine.path.name])
    mine.close()
    assert [each.name for each in tmp_path.iterdir()] == ["another"]


def test_no_scratch_folder_is_left(
    hostile_programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path = tmp_path / "tmp"
    tmp_path.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    reader = SandboxReader(SETTINGS, programs=hostile_programs, command=HOSTILE)
    try:
        assert attempted(reader, "write", "{scratch}/file").startswith("done")
        (scratch,) = tmp_path.glob("longleaf-scratch-*")
        assert (scratch / "file").exists() or sys.platform != "linux"
        assert refused(reader, ".doc") is RejectReason.CRASHED
        assert not scratch.exists()
    finally:
        reader.close()
    assert list(tmp_path.iterdir()) == []
