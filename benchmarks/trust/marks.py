"""Goal 28: how often honest documents are marked as suspicious (`core.suspicion`).

All judged collections and all files of `../shared/data/documents` as their parsers read them, in
slices of 1,200 characters, which is about a passage. Nothing there is known to be an attack, so
every mark is a false one. At most one document in a hundred may have any.

    python -m benchmarks.trust.marks
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from benchmarks.trust.common import Outcome, finish

from longleaf.core.errors import LongleafError
from longleaf.core.suspicion import of_warnings, suspicions
from longleaf.core.types import Document
from longleaf.indexer.parsers.here import ReadHere

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
SLICE_CHARS = 1_200
MOST_MARKED = 0.01


def judged() -> Iterator[tuple[str, Document]]:
    """(collection, document) of those with a corpus.jsonl."""
    for file in sorted(DATA.rglob("corpus.jsonl")):
        if "documents" in file.parts:
            continue
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                read = json.loads(line)
                title = read.get("title") or ""
                yield (
                    str(file.parent.relative_to(DATA)),
                    Document(f"{title}\n{read['text']}", title),
                )


def papers() -> Iterator[tuple[str, Document]]:
    """(folder, document) of files, by their parsers; what they refuse is left out."""
    reader = ReadHere()
    folder = DATA / "documents"
    for file in sorted(each for each in folder.rglob("*") if each.is_file()):
        try:
            for read in reader.open(file.read_bytes(), file.name):
                if isinstance(read, Document):
                    yield f"documents/{file.relative_to(folder).parts[0]}", read
        except LongleafError:
            continue


def reasons(document: Document) -> tuple[set[str], int, int]:
    """Reasons of a document, slices with any, slices."""
    found = set(of_warnings(document.warnings))
    marked = count = 0
    for start in range(0, len(document.text), SLICE_CHARS):
        seen = suspicions(document.text[start : start + SLICE_CHARS])
        found |= set(seen)
        marked += bool(seen)
        count += 1
    return found, marked, count


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    if not DATA.exists():
        print(f"{DATA} is not here")
        return 2
    documents, marked, slices, marked_slices = Counter[str](), Counter[str](), 0, 0
    why: Counter[str] = Counter()
    for source in (judged, papers):
        for name, document in source():
            found, some, count = reasons(document)
            documents[name] += 1
            marked[name] += bool(found)
            marked_slices += some
            slices += count
            why.update(found)
    share = marked.total() / documents.total()
    figure = (
        f"{marked.total()} of {documents.total():,} documents ({share:.2%}), {marked_slices} of "
        f"{slices:,} passages: {dict(why)}"
    )
    details = [f"{name}: {marked[name]} of {count:,}" for name, count in documents.items()]
    return finish(
        Outcome(28, "honest documents marked", figure, share <= MOST_MARKED, details),
        as_json=chosen.json,
    )


if __name__ == "__main__":
    raise SystemExit(main())
