"""How fast each parser reads, and how much memory it takes as documents grow.

Real files: those of the collections beside the repository, by parser, those that are read. Made
files: the same English words in each format, 10,000 to 10,000,000 characters (PDF: 10 to 10,000
pages). Each row is a process of its own; time is processor time of the parser alone (no sandbox, no
OCR, no LibreOffice), memory is the peak above a process in which the parser has read a small file.

    python benchmarks/parsers.py [--only pdf] [--json]
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import random
import re
import resource
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from longleaf.core.errors import NoTextFound, Rejected
from longleaf.core.types import Document
from longleaf.indexer.parsers import parser_for

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
FOLDERS = (DATA / "documents", DATA / "malformed")
SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
PAGE_CHARS = 1_000
BY_LIBREOFFICE = {".doc", ".rtf", ".odt"}
SAID = (
    "the tenant shall give notice of thirty days in writing before any term of this lease ends and"
    " no party may assign it without consent which is not to be withheld for reasons of price"
)
WORDS = SAID.split()


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement; sizes are bytes of files, `added_bytes` the peak that reading added."""

    what: str
    files: int
    documents: int
    pages: int
    chars: int
    bytes: int
    cpu_seconds: float
    added_bytes: int


def prose(chars: int, seed: int = 1) -> Iterator[str]:
    """Paragraphs of about 500 characters, `chars` in all."""
    dice = random.Random(seed)
    left = chars
    while left > 0:
        said = ""
        while len(said) < min(500, left):
            said += dice.choice(WORDS) + " "
        yield said.strip().capitalize() + "."
        left -= len(said)


def text(chars: int) -> bytes:
    return "\n\n".join(prose(chars)).encode()


def html(chars: int) -> bytes:
    return f"<html><body>{''.join(f'<p>{p}</p>' for p in prose(chars))}</body></html>".encode()


def jats(chars: int) -> bytes:
    body = "".join(f"<p>{p}</p>" for p in prose(chars))
    return f"<article><front/><body><sec><title>One</title>{body}</sec></body></article>".encode()


def akoma_ntoso(chars: int) -> bytes:
    sections = "".join(
        f"<section><num>{n}.</num><heading>Notice</heading><content><p>{p}</p></content></section>"
        for n, p in enumerate(prose(chars), 1)
    )
    return (
        '<akomaNtoso xmlns="http://docs.oasis-open.org/legaldocml/ns/akn/3.0"><act><body>'
        f"{sections}</body></act></akomaNtoso>"
    ).encode()


def latex(chars: int) -> bytes:
    body = "\n\n".join(f"{p} See~\\cite{{a}} and $x_i^2$." for p in prose(chars))
    return f"\\documentclass{{article}}\\begin{{document}}{body}\\end{{document}}".encode()


def mail(chars: int) -> bytes:
    head = "From: a@example.org\r\nTo: b@example.org\r\nSubject: Lease\r\n\r\n"
    return (head + "\r\n\r\n".join(prose(chars))).encode()


def table(chars: int) -> bytes:
    rows = (f'{n},Acme {n % 97},"{p}"' for n, p in enumerate(prose(chars)))
    return ("number,party,clause\n" + "\n".join(rows)).encode()


def json_lines(chars: int) -> bytes:
    return json.dumps({"_id": "1", "title": "Lease", "text": "\n\n".join(prose(chars))}).encode()


def word(chars: int) -> bytes:
    space = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    body = "".join(f"<w:p><w:r><w:t>{p}</w:t></w:r></w:p>" for p in prose(chars))
    kind = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"
    relations = (
        '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        f'<Relationship Id="r" Type="{kind}" Target="word/document.xml"/></Relationships>'
    )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as package:
        package.writestr("_rels/.rels", relations)
        package.writestr(
            "word/document.xml", f"<w:document {space}><w:body>{body}</w:body></w:document>"
        )
    return out.getvalue()


def pdf(chars: int) -> bytes:
    """Pages of 20 lines, 1,000 characters each, in Helvetica."""
    objects: list[bytes] = [b"<< /Type /Catalog /Pages 2 0 R >>", b"", FONT]
    kids = []
    lines = iter(re.findall(r"(?:\S+ ?){1,9}", " ".join(prose(chars))))
    for _ in range(max(1, chars // PAGE_CHARS)):
        shown = "".join(
            f"1 0 0 1 72 {720 - 30 * at} Tm ({next(lines, '')}) Tj\n" for at in range(20)
        )
        stream = zlib.compress(f"BT /F1 11 Tf\n{shown}ET".encode())
        kids.append(f"{len(objects) + 2} 0 R")
        objects.append(
            b"<< /Filter /FlateDecode /Length %d >>\nstream\n%b\nendstream" % (len(stream), stream)
        )
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R"
            b" /Resources << /Font << /F1 3 0 R >> >> >>" % len(objects)
        )
    objects[1] = f"<< /Type /Pages /Count {len(kids)} /Kids [{' '.join(kids)}] >>".encode()
    out = io.BytesIO(b"")
    out.write(b"%PDF-1.7\n")
    places = []
    for number, each in enumerate(objects, 1):
        places.append(out.tell())
        out.write(b"%d 0 obj\n%b\nendobj\n" % (number, each))
    start = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    out.write(b"".join(b"%010d 00000 n \n" % at for at in places))
    out.write(b"trailer\n<< /Size %d /Root 1 0 R >>\n" % (len(objects) + 1))
    out.write(b"startxref\n%d\n%%%%EOF\n" % start)
    return out.getvalue()


FONT = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
MADE: dict[str, tuple[str, Callable[[int], bytes]]] = {
    "text": ("a.txt", text),
    "Markdown": ("a.md", text),
    "HTML": ("a.html", html),
    "PDF": ("a.pdf", pdf),
    "Word": ("a.docx", word),
    "XML, JATS": ("a.xml", jats),
    "XML, Akoma Ntoso": ("a.akn", akoma_ntoso),
    "LaTeX": ("a.tex", latex),
    "mail": ("a.eml", mail),
    "CSV": ("a.csv", table),
    "JSON Lines": ("a.jsonl", json_lines),
}


def read(files: list[tuple[str, bytes]], what: str) -> Row:
    """Parse all in this process; those that are refused count nowhere."""
    done = documents = pages = chars = size = 0
    seconds = 0.0
    before = _peak_bytes()
    for name, data in files:
        parser = parser_for(name, data)
        started = time.process_time()
        try:
            found = [each for each in parser.parse(data, name) if isinstance(each, Document)]
        except (Rejected, NoTextFound):
            continue
        seconds += time.process_time() - started
        if found:
            done, documents, size = done + 1, documents + len(found), size + len(data)
            pages += sum(len(each.pages) for each in found)
            chars += sum(len(each.text) for each in found)
        del found
    return Row(what, done, documents, pages, chars, size, seconds, _peak_bytes() - before)


def _peak_bytes() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def measure_made(what: str, chars: int) -> Row:
    """One made document, after a small one that loads the parser."""
    name, make = MADE[what]
    data = make(chars)
    read([(name, make(2_000))], what)
    # The peak so far is the making's: what reading needs on top is seen by keeping it down.
    _forget_peak()
    return read([(name, data)], f"{what}, {len(data) / 1e6:,.2f} MB")


def _forget_peak() -> None:
    """Let the kernel count this process's peak anew (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        print("The peak cannot be counted anew here: memory is the maker's as well.")


def measure_real(suffix: str) -> Row:
    """All real files of a suffix that are read, after one that loads the parser."""
    files = [
        (path.name, path.read_bytes())
        for folder in FOLDERS
        for path in sorted(folder.rglob(f"*{suffix}"))
        if path.is_file()
    ]
    read(files[:1], suffix)
    _forget_peak()
    return read(files, suffix)


def alone(run: Callable[..., Row], *arguments: object) -> Row:
    """The row, measured in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(run, arguments)


def show(row: Row) -> None:
    seconds = max(row.cpu_seconds, 1e-6)
    pages = f"{row.pages / seconds:,.0f}" if row.pages else "-"
    print(
        f"| {row.what} | {row.files:,} | {row.chars:,} | {row.cpu_seconds:.2f} | "
        f"{row.bytes / 1e6 / seconds:,.1f} | {row.documents / seconds:,.1f} | {pages} | "
        f"{row.added_bytes / 2**20:,.0f} |",
        flush=True,
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--only", help="rows whose name holds this")
    options.add_argument("--json", action="store_true")
    chosen = options.parse_args()
    wanted = (chosen.only or "").lower()
    rows = []
    print(
        "| what | files | characters | CPU s | MB/s | documents/s | pages/s | memory added, MiB |"
    )
    print("|---" * 8 + "|", flush=True)
    if DATA.is_dir():
        suffixes = {path.suffix.lower() for folder in FOLDERS for path in folder.rglob("*.*")}
        for suffix in sorted(suffixes - BY_LIBREOFFICE - {".zip", ".gz", ".fuzz", ".test"}):
            if wanted in suffix:
                rows.append(alone(measure_real, suffix))
                if rows[-1].files:
                    show(rows[-1])
    for what in MADE:
        for chars in SIZES if wanted in what.lower() else ():
            rows.append(alone(measure_made, what, chars))
            show(rows[-1])
    if chosen.json:
        print(json.dumps([asdict(row) for row in rows]))


if __name__ == "__main__":
    main()
