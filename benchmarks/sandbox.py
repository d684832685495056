"""What the sandbox costs, and what generated bombs come to in it.

(a) Start: from `open` of the first file to its document, and the same with a child that is there.
(b) Overhead: the same files through `ReadHere` and through the sandbox, in turns.
(c) Bombs: small files that expand, nest or flood; each must be rejected within 2 s and 256 MiB of
its parser's memory (peak RSS as the kernel counts it, the child's libraries included).

    python benchmarks/sandbox.py
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import struct
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from longleaf.core.config import IndexerSettings
from longleaf.core.errors import NoTextFound, Rejected
from longleaf.core.protocols import FileReader
from longleaf.indexer.parsers.here import ReadHere
from longleaf.indexer.sandbox.pool import SandboxReader
from longleaf.indexer.sandbox.process import ChildProcess

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
PDF = DATA / "documents" / "court_files" / "ca1_00117684624.pdf"
MOST_SECONDS = 2.0
MOST_BYTES = 256 * 1024**2
MIB = 1024**2
WORDS = "The tenant shall pay the rent on the first day of each month, without deduction. "


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", choices=["start", "overhead", "bombs"])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    if options.only in (None, "start"):
        figures["start"] = start(options.rounds)
    if options.only in (None, "overhead"):
        figures["overhead"] = overhead(options.rounds)
    if options.only in (None, "bombs"):
        figures["bombs"] = [explode(name, make) for name, make in BOMBS.items()]
    if options.json:
        print(json.dumps(figures, indent=1))
    else:
        _show(figures)
    sys.exit(any(not bomb["ok"] for bomb in figures.get("bombs", ())))


# --- cost --------------------------------------------------------------------------------------


def start(rounds: int) -> dict[str, float]:
    """Milliseconds, medians; `resident_mib` of a child that has read one text file."""
    cold, warm, resident = [], [], []
    for _ in range(max(3, rounds // 4)):
        reader = SandboxReader(IndexerSettings(parse_workers=1))
        cold.append(_milliseconds(reader, "a.txt", b"words"))
        warm.append(_milliseconds(reader, "a.txt", b"words"))
        child = _child(reader)
        assert child is not None
        resident.append(_status(child.pid, "VmRSS") / MIB)
        reader.close()
    return {
        "first_file_ms": statistics.median(cold),
        "next_file_ms": statistics.median(warm),
        "resident_mib": statistics.median(resident),
    }


def overhead(rounds: int) -> list[dict[str, Any]]:
    """Milliseconds a file, medians of `rounds` in turns."""
    lines = [json.dumps({"_id": str(n), "text": WORDS * 5}) for n in range(2000)]
    files: dict[str, tuple[str, bytes]] = {
        "text of 1 KiB": ("a.txt", (WORDS * 13).encode()),
        "text of 1 MiB": ("a.txt", (WORDS * 13_000).encode()),
        "Markdown of 100 KiB": ("a.md", ("# Lease\n\n" + WORDS * 1300).encode()),
        "JSONL of 2,000 lines": ("a.jsonl", "\n".join(lines).encode()),
    }
    if PDF.exists():
        files["PDF of 17 pages"] = (PDF.name, PDF.read_bytes())
    here, reader = ReadHere(), SandboxReader(IndexerSettings(parse_workers=1))
    found = []
    for what, (name, data) in files.items():
        times: dict[str, list[float]] = {"here": [], "sandbox": []}
        for _ in range(rounds + 1):
            times["here"].append(_milliseconds(here, name, data))
            times["sandbox"].append(_milliseconds(reader, name, data))
        # The first round loads libraries.
        here_ms, there_ms = (statistics.median(each[1:]) for each in times.values())
        found.append(
            {
                "file": what,
                "here_ms": here_ms,
                "sandbox_ms": there_ms,
                "more_ms": there_ms - here_ms,
            }
        )
    reader.close()
    return found


def _milliseconds(reader: FileReader, name: str, data: bytes) -> float:
    started = time.perf_counter()
    for _ in reader.open(data, name):
        pass
    return (time.perf_counter() - started) * 1000


# --- bombs -------------------------------------------------------------------------------------


def _zip(entries: Iterator[tuple[str, Iterator[bytes]]]) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as package:
        for name, parts in entries:
            with package.open(name, "w", force_zip64=True) as entry:
                for part in parts:
                    entry.write(part)
    return held.getvalue()


def word_of_2_gib() -> tuple[str, bytes]:
    start = b'<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main">'
    filler = b"<w:p><w:r><w:t>aaaaaaaa</w:t></w:r></w:p>" * 400_000
    parts = (start, *[filler] * 128)
    types = b'<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>'
    entries = [("[Content_Types].xml", iter((types,))), ("word/document.xml", iter(parts))]
    return "bomb.docx", _zip(iter(entries))


def many_entries() -> tuple[str, bytes]:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as package:
        for number in range(100_000):
            package.writestr(str(number), b"")
    return "bomb.epub", held.getvalue()


def zips_in_zips() -> tuple[str, bytes]:
    data = _zip(iter([("zeros", iter([bytes(16 * MIB)] * 8))]))
    for _ in range(5):
        layer = data
        data = _zip(iter([(f"{n}.zip", iter((layer,))) for n in range(16)]))
    return "bomb.odt", data


def _pdf(stream: bytes, filters: bytes, page_count: int = 1) -> bytes:
    kids = b"3 0 R " * page_count
    parts = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [%s] /Count %d >>" % (kids, page_count),
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents 4 0 R "
        b"/Resources << /Font << /F 5 0 R >> >> >>",
        b"<< /Length %d /Filter %s >>\nstream\n%s\nendstream" % (len(stream), filters, stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    data = b"%PDF-1.7\n"
    places = []
    for number, part in enumerate(parts, 1):
        places.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, part)
    start = len(data)
    data += b"xref\n0 6\n0000000000 65535 f \n"
    data += b"".join(b"%010d 00000 n \n" % place for place in places)
    return data + b"trailer << /Root 1 0 R /Size 6 >>\nstartxref\n%d\n%%%%EOF" % start


def _deflated(pieces: Iterator[bytes]) -> bytes:
    packer = zlib.compressobj(9)
    return b"".join(map(packer.compress, pieces)) + packer.flush()


def flate_chain() -> tuple[str, bytes]:
    data = _deflated(iter([bytes(16 * MIB)] * 128))
    for _ in range(2):
        data = zlib.compress(data, 9)
    return "bomb.pdf", _pdf(data, b"[/FlateDecode /FlateDecode /FlateDecode]")


def flate_text() -> tuple[str, bytes]:
    words = b"BT /F 1 Tf 1 0 0 1 9 9 Tm (words words words) Tj ET\n" * 20_000
    return "bomb.pdf", _pdf(_deflated(iter([words] * 600)), b"/FlateDecode")


def billion_laughs() -> tuple[str, bytes]:
    entities = '<!ENTITY e0 "laughs ">' + "".join(
        f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12)
    )
    return "bomb.xml", f"<!DOCTYPE x [{entities}]><x>&e11;</x>".encode()


def quadratic_entities() -> tuple[str, bytes]:
    big = "a" * 100_000
    text = f'<!DOCTYPE x [<!ENTITY e "{big}">]><x>{"&e;" * 50_000}</x>'
    return "bomb.xml", text.encode()


def deep_xml() -> tuple[str, bytes]:
    return "bomb.xml", b"<a>" * 3_000_000


def deep_html() -> tuple[str, bytes]:
    return "bomb.html", b"<html><body>" + b"<div>" * 5_000_000 + b"words"


def deep_json() -> tuple[str, bytes]:
    return "bomb.json", b"[" * 50_000_000


def deep_word() -> tuple[str, bytes]:
    start = b'<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main">'
    types = b'<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>'
    deep = (start, *[b"<w:p>" * 100_000] * 20)
    entries = [("[Content_Types].xml", iter((types,))), ("word/document.xml", iter(deep))]
    return "bomb.docx", _zip(iter(entries))


def pixel_flood() -> tuple[str, bytes]:
    side = 60_000

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)

    rows = _deflated(iter([bytes(side // 8 + 1) * 1000] * (side // 1000)))
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    data = chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return "bomb.png", b"\x89PNG\r\n\x1a\n" + data


def many_pages() -> tuple[str, bytes]:
    return "bomb.pdf", _pdf(zlib.compress(b"BT ET"), b"/FlateDecode", 300_000)


BOMBS: dict[str, Callable[[], tuple[str, bytes]]] = {
    "DOCX of 2 GiB": word_of_2_gib,
    "100,000 ZIP entries": many_entries,
    "ZIP in ZIP in ZIP": zips_in_zips,
    "DOCX nested 2,000,000 deep": deep_word,
    "PDF, Flate thrice: 2 GiB of zeros": flate_chain,
    "PDF, Flate: 600 MB of words": flate_text,
    "PDF that lists 300,000 pages": many_pages,
    "XML, billion laughs": billion_laughs,
    "XML, one entity 50,000 times": quadratic_entities,
    "XML nested 3,000,000 deep": deep_xml,
    "HTML nested 5,000,000 deep": deep_html,
    "JSON nested 50,000,000 deep": deep_json,
    "PNG of 60,000 x 60,000 pixels": pixel_flood,
}


def explode(what: str, make: Callable[[], tuple[str, bytes]]) -> dict[str, Any]:
    """One bomb in a child of its own that has read a file before."""
    name, data = make()
    reader = SandboxReader(IndexerSettings(parse_workers=1))
    outcome, reason = "indexed", ""
    with _ended_children() as ended:
        list(reader.open(b"words", "a.txt"))
        started = time.perf_counter()
        try:
            chars = sum(len(getattr(item, "text", "")) for item in reader.open(data, name))
            outcome = f"indexed: {chars:,} characters"
        except Rejected as error:
            outcome, reason = f"rejected: {error.reason.value}", error.message
        except NoTextFound as error:
            outcome, reason = "no text found", error.message
        seconds = time.perf_counter() - started
        child = _child(reader)
        peak = max([0, *ended, _status(child.pid, "VmHWM") if child is not None else 0])
        reader.close()
    ok = outcome.startswith("rejected") and "internal" not in outcome
    return {
        "bomb": what,
        "file_bytes": len(data),
        "outcome": outcome,
        "reason": reason,
        "seconds": seconds,
        "peak_mib": peak / MIB,
        "ok": ok and seconds <= MOST_SECONDS and peak <= MOST_BYTES,
    }


@contextmanager
def _ended_children() -> Iterator[list[int]]:
    """Peak memory of children that end meanwhile, as last seen."""
    peaks: list[int] = []
    real = ChildProcess.end

    def end(child: ChildProcess) -> None:
        peaks.append(max(child.peak_bytes, _status(child.pid, "VmHWM")))
        real(child)

    ChildProcess.end = end  # type: ignore[method-assign]
    try:
        yield peaks
    finally:
        ChildProcess.end = real  # type: ignore[method-assign]


def _child(reader: SandboxReader) -> ChildProcess | None:
    return next((worker._child for worker in reader._crew._workers), None)


def _status(pid: int, field: str) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    return 0


def _show(figures: dict[str, Any]) -> None:
    if "start" in figures:
        each = figures["start"]
        print(
            f"first file {each['first_file_ms']:.0f} ms, next {each['next_file_ms']:.2f} ms; "
            f"a child holds {each['resident_mib']:.0f} MiB"
        )
    for each in figures.get("overhead", ()):
        print(
            f"{each['file']:24} here {each['here_ms']:8.2f} ms   sandbox "
            f"{each['sandbox_ms']:8.2f} ms   {each['more_ms']:+.2f} ms"
        )
    for each in figures.get("bombs", ()):
        print(
            f"{'OK  ' if each['ok'] else 'FAIL'} {each['bomb']:34} {each['file_bytes']:>12,} bytes "
            f"{each['seconds']:6.2f} s {each['peak_mib']:6.0f} MiB  {each['outcome']}"
        )
        if not each["ok"]:
            print(f"     {each['reason'][:200]}")


if __name__ == "__main__":
    main()
