"""`make bench`: every benchmark that needs no GPU and no server, one after another.

Each prints its own figures. Those that need the documents beside the repository (../shared/data)
are skipped, with a word, where that folder is not there. `--all` adds the long ones (500,000
passages, 50 kills, all quality figures, every file of the collections). Two need a choice of yours
and stand alone: chunking.py (which passages find best) and trust/ (`make trust`).
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
DATA = HERE.parents[1] / "shared" / "data"
SCIFACT = str(DATA / "scifact" / "corpus.jsonl")
DOCUMENTS, MALFORMED = str(DATA / "documents"), str(DATA / "malformed")
COURT = str(DATA / "documents" / "court_files")

QUICK = (
    ("chunking: MB/s, and linear time", ["chunker.py"]),
    ("late interaction over 100 candidates", ["late.py"]),
    ("embedding against sentence-transformers", ["embedding.py", "--corpus", SCIFACT]),
    ("read to index against embedding alone", ["indexing.py"]),
    ("query latency, memory and disk", ["latency.py", "--passages", "5000", "100000"]),
    ("event-loop stall while indexing", ["stall.py"]),
    ("kill -9, short form", ["kill.py", "--kills", "16"]),
    ("office parsers: speed and memory", ["office_parsers.py"]),
    ("the sandbox: start, overhead, bombs", ["sandbox.py"]),
    ("rectangles against pdfium's text under them", ["rectangles.py", COURT]),
)
LONG = (
    ("query latency at 500,000 passages", ["latency.py", "--passages", "500000"]),
    ("kill -9, 50 moments", ["kill.py", "--kills", "50"]),
    ("quality: command, expected value, OK or FAIL", ["quality.py"]),
    ("compaction beside searches at 100,000 passages", ["compaction.py"]),
    ("a swap of generations under queries", ["swap.py"]),
    ("how every file of a folder ends", ["outcomes.py", DOCUMENTS, MALFORMED]),
    ("bibliographies in results", ["asides.py"]),
)
NEED_DATA = {
    "asides.py", "embedding.py", "indexing.py", "latency.py", "outcomes.py", "quality.py",
    "rectangles.py", "swap.py",
}  # fmt: skip


def main() -> int:
    failed = []
    for title, (script, *arguments) in QUICK + (LONG if "--all" in sys.argv[1:] else ()):
        print(f"\n=== {title}: python benchmarks/{script} {' '.join(arguments)}", flush=True)
        if script in NEED_DATA and not DATA.is_dir():
            print("skipped: the folder ../shared/data is not here")
            continue
        started = time.perf_counter()
        done = subprocess.run([sys.executable, str(HERE / script), *arguments], check=False)
        print(f"--- {time.perf_counter() - started:.0f} s, exit {done.returncode}", flush=True)
        if done.returncode:
            failed.append(script)
    if failed:
        print(f"\nFAILED: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
