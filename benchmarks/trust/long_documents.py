"""Goal 11: the memory that PDFs of 100, 1,000 and 10,000 pages need to be indexed.

Made files (a dozen lines of words on each page, another number in each line, so that nothing
repeats) go through the real `longleaf index`, each into a folder of its own. Told is the largest
resident memory of the command and, apart from it, of the process that reads the file. Demanded: no
more than 1.5 GiB in either, and from 1,000 to 10,000 pages no more than a tenth more.

    python -m benchmarks.trust.long_documents --most-pages 10000
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from benchmarks.trust import common
from benchmarks.trust.serving import LONGLEAF, environment

PAGES = (100, 1_000, 10_000)
LINES = 12
MOST_BYTES = 1536 * 1024**2
MOST_GROWTH = 0.10


def pdf(pages: int) -> bytes:
    """A PDF with that many pages of text."""
    parts: list[bytes] = []
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(pages))
    parts.append(b"<< /Type /Catalog /Pages 2 0 R >>")
    parts.append(f"<< /Type /Pages /Kids [{kids}] /Count {pages} >>".encode())
    parts.append(b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>")
    for page in range(pages):
        lines = "".join(
            f"(Item {page * LINES + n}: {common.SENTENCES[(page + n) % 6]}) Tj T* "
            for n in range(LINES)
        )
        stream = f"BT /F 10 Tf 14 TL 50 740 Td {lines}ET".replace("§", "Section").encode("latin-1")
        parts.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources << /Font << /F 3 0 R "
            + f">> >> /Contents {5 + 2 * page} 0 R >>".encode()
        )
        parts.append(f"<< /Length {len(stream)} >>\nstream\n".encode() + stream + b"\nendstream")
    out = bytearray(b"%PDF-1.4\n")
    places = []
    for number, part in enumerate(parts, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n".encode() + part + b"\nendobj\n"
    begin = len(out)
    out += f"xref\n0 {len(parts) + 1}\n0000000000 65535 f \n".encode()
    out += b"".join(f"{place:010} 00000 n \n".encode() for place in places)
    out += f"trailer << /Size {len(parts) + 1} /Root 1 0 R >>\nstartxref\n{begin}\n%%EOF\n".encode()
    return bytes(out)


def _peaks(pid: int) -> dict[int, tuple[str, int]]:
    """Process id -> (command line, VmHWM) of a process and all below it."""
    found = {}
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        name = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
        [peak] = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")]
        found[pid] = (name, peak * 1024)
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found |= _peaks(int(child))
    except (OSError, ValueError):
        pass
    return found


def index(file: Path, home: Path) -> tuple[int, int, float]:
    """(peak of the command, peak of a parser, seconds)."""
    began = time.monotonic()
    process = subprocess.Popen(
        [LONGLEAF, "index", str(file), "--collection", common.COLLECTION, "--home", str(home)],
        env=os.environ
        | {"LONGLEAF_EMBEDDER__THREADS": environment()["LONGLEAF_EMBEDDER__THREADS"]},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    peaks: dict[int, tuple[str, int]] = {}
    while process.poll() is None:
        peaks |= _peaks(process.pid)
        time.sleep(0.05)
    assert process.stderr is not None
    said = process.stderr.read().decode()
    process.stderr.close()
    assert process.returncode == 0, said[-2000:]
    own = peaks.pop(process.pid)[1]
    parsers = [peak for name, peak in peaks.values() if "sandbox" in name]
    return own, max(parsers, default=0), time.monotonic() - began


def run(most_pages: int) -> common.Outcome:
    """Every length up to `most_pages`."""
    wrong: list[str] = []
    seen: dict[int, tuple[int, int, float]] = {}
    with common.scratch() as folder:
        for pages in (each for each in PAGES if each <= most_pages):
            file = folder / f"{pages}.pdf"
            file.write_bytes(pdf(pages))
            seen[pages] = index(file, folder / f"home-{pages}")
            common.log(f"{pages} pages: {_words(seen[pages])}")
    for what, place in (("the command", 0), ("the parser", 1)):
        peaks = {pages: each[place] for pages, each in seen.items()}
        wrong += [
            f"{what} needed {peak >> 20} MiB for {pages} pages"
            for pages, peak in peaks.items()
            if peak > MOST_BYTES
        ]
        if 10_000 in peaks and peaks[10_000] > (1 + MOST_GROWTH) * peaks[1_000]:
            growth = 100 * (peaks[10_000] / peaks[1_000] - 1)
            wrong.append(f"{what} needs {growth:.0f} % more for 10,000 pages than for 1,000")
    figure = "; ".join(f"{pages:,} pages: {_words(each)}" for pages, each in seen.items())
    return common.Outcome(11, "long documents", figure, not wrong and len(seen) == 3, wrong)


def _words(seen: tuple[int, int, float]) -> str:
    own, parser, seconds = seen
    return f"command {own >> 20} MiB, parser {parser >> 20} MiB, {seconds:.0f} s"


def main() -> int:
    chosen = common.options(__doc__ or "", most_pages=10_000)
    return common.finish(run(chosen.most_pages), as_json=chosen.json)


if __name__ == "__main__":
    raise SystemExit(main())
