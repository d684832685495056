"""How every file of a folder ends: outcome by type and reason, time and peak memory of its parser.

Each file goes through the sandbox as `longleaf index` would send it, up to the text and its
language; nothing is embedded or stored. Time is what was waited for its parser (start-up, OCR and
LibreOffice included), memory the parser's peak (unknown where the child is gone). FAIL when a file
ends as "internal" (our bug), when its reader dies, hangs or is out of memory, when it takes more
than 60 s or more than 1 GiB, or when a good file read after each one that was refused is not read.
Files that were refused as malformed, empty or of no type are given to their library as well
(pdfium, python-docx, lxml; each in a process of its own): those that it opens are listed.

    python benchmarks/outcomes.py ../shared/data/documents ../shared/data/malformed
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from longleaf.core.config import load_settings
from longleaf.core.errors import RejectReason
from longleaf.core.protocols import OpenedFile
from longleaf.core.types import Document, Outcome, Passage, Rejection
from longleaf.indexer.prepare import FileFailure, Labels, prepare_file
from longleaf.indexer.sandbox.pool import NO_PROGRAMS, SandboxReader, find_programs

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
MOST_SECONDS = 60.0
MOST_BYTES = 1024**3
_READER_LOST = frozenset(
    each.value
    for each in (RejectReason.CRASHED, RejectReason.TOO_SLOW, RejectReason.TOO_MUCH_MEMORY)
)
_NOT_ASKED = frozenset({"encrypted", "internal", *_READER_LOST})
_LIBRARIES = {
    ".pdf": "import sys, pypdfium2 as p; d = p.PdfDocument(sys.argv[1]); assert len(d); "
    "d[0].get_textpage(); print(len(d), 'pages')",
    ".docx": "import sys, docx; d = docx.Document(sys.argv[1]); "
    "print(len(d.paragraphs), 'paragraphs')",
    ".xml": "import sys; from lxml import etree as e; "
    "t = e.parse(sys.argv[1], e.XMLParser(resolve_entities=False, no_network=True)); "
    "print(t.getroot().tag)",
}
"""Programs that end well when a library opens the file that they are given."""
GOOD = b"A good file that is read after a bad one."


@dataclass(slots=True)
class Ended:
    """One file's end."""

    path: str
    suffix: str
    outcome: str
    reason: str = ""
    detail: str = ""
    documents: int = 0
    chars: int = 0
    seconds: float = 0.0
    peak_bytes: int = 0
    members: Counter[str] = field(default_factory=Counter)


class _NoChunks:
    """Passages are not what this is about."""

    fingerprint = "none"

    def chunk(self, _document: Document) -> tuple[Passage, ...]:
        return ()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "paths", type=Path, nargs="*", default=[DATA / "documents", DATA / "malformed"]
    )
    parser.add_argument("--no-ocr", action="store_true", help="scans end as no text found")
    parser.add_argument("--list", action="store_true", help="a line for each file that was refused")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    files = sorted(
        file
        for path in options.paths
        for file in (path.rglob("*") if path.is_dir() else [path])
        if file.is_file()
    )
    changes = {"indexer.ocr_languages": ""} if options.no_ocr else {}
    settings = load_settings(changes, {}).settings.indexer
    reader = SandboxReader(settings, programs=find_programs(settings) or NO_PROGRAMS)
    try:
        ended = [_read(reader, file) for file in files]
    finally:
        reader.close()
    failures = _failures(ended)
    elsewhere = _opened_elsewhere(ended)
    if options.json:
        figures = _figures(ended, failures) | {"opened_elsewhere": elsewhere}
        print(json.dumps(figures, indent=1))
    else:
        _show(ended, failures, every=options.list)
        print(f"{len(elsewhere)} refused files that their library opens")
        for each in elsewhere:
            print(f"  {each}")
    sys.exit(1 if failures else 0)


class _Timed:
    """An opened file that measures how long its documents are waited for."""

    def __init__(self, opened: OpenedFile) -> None:
        self._opened = opened
        self.seconds = 0.0

    @property
    def media_type(self) -> str:
        return self._opened.media_type

    def __iter__(self) -> Iterator[Document | Rejection]:
        items = iter(self._opened)
        while True:
            started = time.perf_counter()
            try:
                item = next(items, None)
            finally:
                self.seconds += time.perf_counter() - started
            if item is None:
                return
            yield item

    def close(self) -> None:
        self._opened.close()


def _read(reader: SandboxReader, file: Path) -> Ended:
    data = file.read_bytes()
    end = Ended(str(file), file.suffix.lower() or "(none)", Outcome.INDEXED.value)
    _reset_peak(reader)
    opened = _Timed(reader.open(data, file.name))
    failure: FileFailure | None = None
    warned = False
    for item in prepare_file(
        opened,
        file.name,
        file.name,
        chunker=_NoChunks(),
        labels=Labels(),
        bm25_language="english",
        model_languages=None,
        known=lambda _digest: False,
    ):
        if isinstance(item, FileFailure):
            if item.where:
                end.members[item.reason] += 1
            else:
                failure = item
        else:
            end.documents += 1
            end.chars += len(item.document.text)
            warned = warned or bool(item.warnings)
    end.seconds = opened.seconds
    end.peak_bytes = _peak(reader)
    if end.documents and (warned or failure or end.members):
        end.outcome = Outcome.INDEXED_WITH_WARNINGS.value
        end.detail = failure.detail if failure else ""
    elif not end.documents and failure:
        end.outcome, end.reason, end.detail = failure.outcome.value, failure.reason, failure.detail
    elif not end.documents:
        end.outcome, end.reason = Outcome.REJECTED.value, "empty"
    if failure is not None:
        end.reason = failure.reason
        (good,) = reader.open(GOOD, "good.txt")
        assert isinstance(good, Document) and good.text.encode() == GOOD
    return end


# --- the child's memory ------------------------------------------------------------------------


def _pid(reader: SandboxReader) -> int | None:
    for worker in reader._crew._workers:
        if worker._child is not None:
            return worker._child.pid
    return None


def _reset_peak(reader: SandboxReader) -> None:
    with suppress(OSError):
        Path(f"/proc/{_pid(reader)}/clear_refs").write_text("5")


def _peak(reader: SandboxReader) -> int:
    """The child's; 0 when it is gone (it was replaced because it had grown, or died)."""
    with suppress(OSError):
        for line in Path(f"/proc/{_pid(reader)}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


# --- reporting ---------------------------------------------------------------------------------


def _failures(ended: list[Ended]) -> list[str]:
    found = []
    for end in ended:
        if end.reason == "internal" or end.members["internal"]:
            found.append(f"internal: {end.path}: {end.detail[:300]}")
        if end.reason in _READER_LOST:
            found.append(f"{end.reason}: {end.path}: {end.detail[:300]}")
        if end.seconds > MOST_SECONDS:
            found.append(f"{end.seconds:.0f} s: {end.path}")
        if end.peak_bytes > MOST_BYTES:
            found.append(f"{end.peak_bytes >> 20:,} MiB: {end.path}")
    return found


def _opened_elsewhere(ended: list[Ended]) -> list[str]:
    """Refused files that their library opens: "path: reason: what it found"."""
    found = []
    for end in ended:
        program = _LIBRARIES.get(end.suffix)
        if program is None or end.outcome != Outcome.REJECTED.value or end.reason in _NOT_ASKED:
            continue
        with suppress(subprocess.TimeoutExpired):
            asked = subprocess.run(
                [sys.executable, "-c", program, end.path],
                capture_output=True, text=True, check=False, timeout=60,
            )  # fmt: skip
            if asked.returncode == 0:
                found.append(f"{end.path}: {end.reason}: {asked.stdout.strip()}")
    return found


def _word(end: Ended) -> str:
    if end.outcome == Outcome.REJECTED.value:
        return f"{end.outcome}: {end.reason}"
    return end.outcome


def _figures(ended: list[Ended], failures: list[str]) -> dict[str, Any]:
    return {
        "files": len(ended),
        "outcomes": dict(Counter(_word(end) for end in ended).most_common()),
        "by_type": {
            suffix: dict(Counter(_word(end) for end in ended if end.suffix == suffix))
            for suffix in sorted({end.suffix for end in ended})
        },
        "documents": sum(end.documents for end in ended),
        "chars": sum(end.chars for end in ended),
        "seconds": round(sum(end.seconds for end in ended), 1),
        "slowest": [
            {"path": end.path, "seconds": round(end.seconds, 1)}
            for end in sorted(ended, key=lambda end: -end.seconds)[:5]
        ],
        "largest": [
            {"path": end.path, "peak_mib": end.peak_bytes >> 20}
            for end in sorted(ended, key=lambda end: -end.peak_bytes)[:5]
        ],
        "failures": failures,
    }


def _show(ended: list[Ended], failures: list[str], *, every: bool) -> None:
    figures = _figures(ended, failures)
    if every:
        for end in ended:
            if end.outcome == Outcome.REJECTED.value:
                print(f"{_word(end):40} {Path(end.path).name[-60:]:60} {end.detail[:150]}")
    words = list(figures["outcomes"])
    print(f"{'type':10} {'files':>6}  outcomes")
    for suffix, counts in figures["by_type"].items():
        told = ", ".join(f"{counts[word]} {word}" for word in words if word in counts)
        print(f"{suffix:10} {sum(counts.values()):>6}  {told}")
    print(f"{'all':10} {figures['files']:>6}  " + ", ".join(
        f"{count} {word}" for word, count in figures["outcomes"].items()
    ))  # fmt: skip
    print(
        f"{figures['documents']:,} documents, {figures['chars']:,} characters in "
        f"{figures['seconds']:,.0f} s of waiting for parsers"
    )
    for end in figures["slowest"]:
        print(f"  {end['seconds']:6.1f} s    {Path(end['path']).name}")
    for end in figures["largest"]:
        print(f"  {end['peak_mib']:6,} MiB  {Path(end['path']).name}")
    for failure in failures:
        print(f"FAIL {failure}")
    print("FAIL" if failures else "OK: nothing internal, nothing over 60 s or 1 GiB")


if __name__ == "__main__":
    main()
