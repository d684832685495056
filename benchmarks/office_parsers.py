"""How fast Word, EPUB and table files are read, how that grows, and what bombs cost.

Each line is a process of its own, so that its peak memory is its own: "read" and "rejected" with
processor seconds, and the memory that reading added to a process with the parser loaded. `--data`
reads every .docx and .epub of a folder; `--convert` sends its .doc and .rtf through LibreOffice.

    python benchmarks/office_parsers.py [--data ../shared/data] [--convert]
"""

from __future__ import annotations

import argparse
import io
import os
import random
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from longleaf.core.errors import NoTextFound, Rejected
from longleaf.core.protocols import ParseContext
from longleaf.core.types import Document
from longleaf.indexer.office import LibreOffice, find_libreoffice
from longleaf.indexer.parsers import parser_for

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
RELATIONS = (
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    '<Relationship Id="r" Type="http://schemas.openxmlformats.org/officeDocument/2006/'
    'relationships/officeDocument" Target="word/document.xml"/></Relationships>'
)
WORDS = ("the", "party", "shall", "lease", "notice", "thirty", "days", "written", "tenant", "any")
RUN = '<w:r w:rsidR="00{:06X}"><w:rPr><w:sz w:val="24"/><w:lang w:val="en-US"/></w:rPr><w:t>{}</w:t></w:r>'  # noqa: E501


def docx(body: str) -> bytes:
    """A package as small as Word opens it."""
    return packed({"_rels/.rels": RELATIONS, "word/document.xml": wrapped(body)})


def wrapped(body: str) -> str:
    return f"<w:document {W}><w:body>{body}</w:body></w:document>"


def packed(entries: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return out.getvalue()


def prose(chars: int) -> bytes:
    """Paragraphs of 500 characters in runs of 80, as Word breaks them up."""
    dice = random.Random(1)
    paragraphs = []
    for _ in range(chars // 500):
        runs = (RUN.format(dice.randrange(16**6), words(dice, 80)) for _ in range(6))
        paragraphs.append(f"<w:p><w:pPr><w:jc w:val='both'/></w:pPr>{''.join(runs)}</w:p>")
    return docx("".join(paragraphs))


def words(dice: random.Random, chars: int) -> str:
    said = ""
    while len(said) < chars:
        said += dice.choice(WORDS) + " "
    return said


def table(rows: int) -> bytes:
    """Rows of five numbers, each with a cell's and a paragraph's properties."""
    dice = random.Random(1)
    cell = "<w:tc><w:tcPr><w:tcW w:w='1870'/></w:tcPr><w:p><w:pPr><w:jc w:val='right'/></w:pPr>{}</w:p></w:tc>"  # noqa: E501
    made = (
        "<w:tr>" + "".join(cell.format(RUN.format(7, dice.randrange(10**6))) for _ in range(5))
        + "</w:tr>" for _ in range(rows)
    )  # fmt: skip
    return docx(f"<w:tbl>{''.join(made)}</w:tbl>")


def csv(rows: int) -> bytes:
    dice = random.Random(1)
    lines = (
        f"{at},Acme {dice.randrange(9999)} Inc.,{dice.randrange(10**6)}.00,ca{at % 11},paid by wire"
        for at in range(rows)
    )
    return ("id,party,amount,court,note\n" + "\n".join(lines)).encode()


def epub(chapters: int) -> bytes:
    dice = random.Random(1)
    names = [f"c{at}.xhtml" for at in range(chapters)]
    items = "".join(
        f'<item id="{n}" href="{n}" media-type="application/xhtml+xml"/>' for n in names
    )
    spine = "".join(f'<itemref idref="{name}"/>' for name in names)
    pages = {
        name: f"<html><body><h1>{name}</h1>"
        + "".join(f"<p>{words(dice, 500)}</p>" for _ in range(40))
        for name in names
    }
    opf = f"<package><manifest>{items}</manifest><spine>{spine}</spine></package>"
    return packed({"mimetype": "application/epub+zip", "a.opf": opf, **pages})


def bomb(entry: str, size_bytes: int) -> bytes:
    """A package with one entry of empty paragraphs, `size_bytes` expanded."""
    out = io.BytesIO()
    paragraphs = b"<w:p/>" * 100_000
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("_rels/.rels", RELATIONS)
        with archive.open(entry, "w", force_zip64=True) as stream:
            stream.write(f"<w:document {W}><w:body>".encode())
            for _ in range(size_bytes // len(paragraphs)):
                stream.write(paragraphs)
            stream.write(b"</w:body></w:document>")
        if entry != "word/document.xml":
            archive.writestr("word/document.xml", wrapped("<w:p/>"))
    return out.getvalue()


def many(entries: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for at in range(entries):
            archive.writestr(f"{at}", "")
    return out.getvalue()


def nested() -> bytes:
    made = packed({"zeros": "0" * 10**7})
    for _ in range(6):
        made = packed({f"{at}.zip": made.decode("latin-1") for at in range(10)})
    return made


def lying() -> bytes:
    made = bytearray(bomb("word/document.xml", 100 * 10**6))
    at = made.rfind(b"word/document.xml") - 46 + 24
    made[at : at + 4] = (1_000).to_bytes(4, "little")
    return bytes(made)


def laughs() -> bytes:
    names = "abcdefghij"
    entities = '<!ENTITY a "lollollol">' + "".join(
        f'<!ENTITY {name} "{f"&{before};" * 10}">' for before, name in pairwise(names)
    )
    body = wrapped("<w:p><w:r><w:t>&j;</w:t></w:r></w:p>")
    main = f"<!DOCTYPE w:document [{entities}]>{body}"
    return packed({"_rels/.rels": RELATIONS, "word/document.xml": main})


def deep() -> bytes:
    return docx("<w:tbl><w:tr><w:tc>" * 10**5 + "<w:p/>" + "</w:tc></w:tr></w:tbl>" * 10**5)


SIZES: list[tuple[str, str, Callable[[], bytes]]] = [
    *((f"{n:,} characters of prose", "a.docx", lambda n=n: prose(n))  # type: ignore[misc]
      for n in (250_000, 500_000, 1_000_000, 2_000_000)),
    *((f"table of {n:,} rows", "a.docx", lambda n=n: table(n))  # type: ignore[misc]
      for n in (5_000, 10_000, 20_000)),
    *((f"book of {n:,} chapters", "a.epub", lambda n=n: epub(n)) for n in (25, 50, 100)),  # type: ignore[misc]
    *((f"{n:,} rows", "a.csv", lambda n=n: csv(n)) for n in (25_000, 50_000, 100_000)),  # type: ignore[misc]
]  # fmt: skip
BOMBS: list[tuple[str, str, Callable[[], bytes]]] = [
    ("2 GB text", "a.docx", lambda: bomb("word/document.xml", 2 * 10**9)),
    ("2 GB picture", "a.docx", lambda: bomb("word/media/a.bmp", 2 * 10**9)),
    ("1,000,000 entries", "a.docx", lambda: many(10**6)),
    ("nested, 10^13 bytes", "a.docx", nested),
    ("size that lies", "a.docx", lying),
    ("billion laughs", "a.docx", laughs),
    ("100,000 nested tables", "a.docx", deep),
]


def peak_mib() -> int:
    """The most memory that this process has held (getrusage would count its parent's as well)."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


def read_one(path: Path, name: str) -> None:
    """In a process of its own: read the file and say what came of it."""
    data = path.read_bytes()
    warm = {"a.csv": lambda: csv(3), "a.epub": lambda: epub(1), "a.docx": lambda: prose(500)}[
        name
    ]()
    list(parser_for(name, warm).parse(warm, name))
    before = peak_mib()
    started = time.process_time()
    try:
        (document,) = parser_for(name, data).parse(data, name)
        assert isinstance(document, Document)
        outcome = f"read {len(document.text):,} characters"
    except (Rejected, NoTextFound) as end:
        outcome = f"{getattr(end, 'reason', 'no text')}"
    seconds = time.process_time() - started
    grown = peak_mib() - before
    size_mb = len(data) / 1e6
    print(
        f"{size_mb:8.2f} MB {seconds:7.2f} s {size_mb / max(seconds, 1e-6):7.1f} MB/s"
        f" {grown:+5d} of {peak_mib()} MiB  {outcome}"
    )


def read_folder(folder: Path) -> None:
    for suffix in (".docx", ".epub"):
        files = [path.read_bytes() for path in sorted(folder.rglob(f"*{suffix}"))]
        outcomes: Counter[str] = Counter()
        started = time.process_time()
        for data in files:
            try:
                list(parser_for(f"a{suffix}", data).parse(data, f"a{suffix}"))
                outcomes["read"] += 1
            except (Rejected, NoTextFound) as end:
                outcomes[str(getattr(end, "reason", "no text"))] += 1
        seconds = time.process_time() - started
        print(
            f"{suffix}: {len(files)} files, {len(files) / seconds:.0f} a second; {dict(outcomes)}"
        )


def convert_folder(folder: Path) -> None:
    program = find_libreoffice()
    if program is None:
        print("LibreOffice is not installed")
        return
    outcomes: Counter[str] = Counter()
    before = os.times()
    with tempfile.TemporaryDirectory() as scratch:
        context = ParseContext(convert=LibreOffice(program, Path(scratch), 300).convert)
        for path in sorted(folder.rglob("*")):
            if path.suffix in (".doc", ".rtf"):
                try:
                    list(parser_for(path.name, b"").parse(path.read_bytes(), path.name, context))
                    outcomes[f"{path.suffix} read"] += 1
                except (Rejected, NoTextFound) as end:
                    outcomes[f"{path.suffix} {getattr(end, 'reason', 'no text')}"] += 1
    after = os.times()
    seconds = sum(after[2:4]) - sum(before[2:4])
    print(f"LibreOffice: {seconds / max(1, outcomes.total()):.2f} processor seconds a file;"
          f" {dict(outcomes)}")  # fmt: skip


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", type=Path)
    options.add_argument("--convert", action="store_true")
    options.add_argument("--one", nargs=2, metavar=("FILE", "NAME"), help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.one:
        read_one(Path(chosen.one[0]), chosen.one[1])
        return
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        for title, name, make in [*SIZES, *BOMBS]:
            path = Path(folder) / "file"
            path.write_bytes(make())
            print(f"{title:28}", end="", flush=True)
            subprocess.run([sys.executable, __file__, "--one", str(path), name], check=True)
    if chosen.data:
        read_folder(chosen.data)
        if chosen.convert:
            convert_folder(chosen.data)


if __name__ == "__main__":
    main()
