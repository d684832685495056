"""OCR by Tesseract, one page at a time, and pages that need reading only once.

`Tesseract` runs the program as a child without a shell: a picture in, words with boxes and
confidence out. One thread each, because several pages read side by side use the cores better; a
time limit, because a picture of noise keeps it busy for minutes. A dense page at 300 dots per inch
takes 2 to 3 s of one core; one that reads badly is read again in case it lies on its side.
`CachedPages` asks a store first. Knows no PDF and no catalog, and does not see when a language pack
is replaced by another of the same name.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from longleaf.core.errors import ConfigError, Rejected, RejectReason
from longleaf.core.protocols import PageReader
from longleaf.core.types import OcrWord

DEFAULT_LANGUAGES = "eng"
DEFAULT_SECONDS_PER_PAGE = 120.0

_ASK_SECONDS = 20.0
_POINTS_PER_INCH = 72.0
_METRES_PER_INCH = 0.0254
_ASSUMED_DOTS = 300.0  # per inch, for a picture that says nothing
_UPRIGHT, _ANY_WAY = "3", "1"  # page segmentation modes; detecting turns costs a third more
_PROBABLY_TURNED = 60.0  # per cent of confidence: turned pages end at 35, good ones at 95
_TSV_COLUMNS = 12
_WORD_LEVEL = "5"
_PNG_START = b"\x89PNG\r\n\x1a\n"


class OcrMissing(ConfigError):
    """There is no OCR program on this machine."""


class PageStore(Protocol):
    """Where the words of one file's pages are kept, for one engine."""

    def get(self, page: int) -> tuple[OcrWord, ...] | None:
        """What was put for `page` (counts from 1), or None."""
        ...

    def put(self, page: int, words: tuple[OcrWord, ...]) -> None: ...


class CachedPages:
    """A `core.protocols.PageReader` that reads each page once; failures are not kept."""

    def __init__(self, reader: PageReader, store: PageStore) -> None:
        self.engine = reader.engine
        self._reader = reader
        self._store = store

    def read_page(self, number: int, render: Callable[[], bytes]) -> tuple[OcrWord, ...]:
        """See `core.protocols.PageReader`."""
        words = self._store.get(number)
        if words is None:
            words = self._reader.read_page(number, render)
            self._store.put(number, words)
        return words


class Tesseract:
    """A `core.protocols.PageReader`: the Tesseract program.

    `languages` are the names of its language packs, joined by "+" ("eng+deu"). `data_folder` holds
    packs elsewhere than where it was built to look. Raises `OcrMissing` where there is no program,
    `ConfigError` where it does not run or has no such language.
    """

    def __init__(
        self,
        languages: str = DEFAULT_LANGUAGES,
        program: str = "tesseract",
        data_folder: Path | None = None,
        seconds_per_page: float = DEFAULT_SECONDS_PER_PAGE,
    ) -> None:
        found = shutil.which(program)
        if found is None:
            raise OcrMissing(
                f"There is no program {program!r} on this machine.",
                "Install Tesseract (Debian: apt-get install tesseract-ocr).",
            )
        self._program = str(Path(found).absolute())
        self._folder = [] if data_folder is None else ["--tessdata-dir", str(data_folder)]
        self._languages = languages
        self._seconds_per_page = seconds_per_page
        self._check_languages()
        version = self._ask("--version").split()
        self.engine = f"tesseract {version[1] if len(version) > 1 else '?'} {languages}"

    def read_page(self, number: int, render: Callable[[], bytes]) -> tuple[OcrWord, ...]:
        """See `core.protocols.PageReader`. Raises `Rejected` (TOO_SLOW, CRASHED, UNREADABLE)."""
        picture = render()
        words = self._read(picture, number, _UPRIGHT)
        if self._sees_turns and _mean_confidence(words) < _PROBABLY_TURNED:
            turned = self._read(picture, number, _ANY_WAY)
            words = max(words, turned, key=_mean_confidence)
        return words

    def _read(self, picture: bytes, number: int, layout: str) -> tuple[OcrWord, ...]:
        dots = _dots_per_inch(picture)
        table = self._run(
            [
                *("stdin", "stdout", *self._folder, "-l", self._languages, "--psm", layout),
                *("--dpi", str(round(dots)), "tsv"),
            ],
            picture,
            self._seconds_per_page,
            f"page {number}",
        )
        return tuple(_words(table.decode("utf-8", "replace"), _POINTS_PER_INCH / dots))

    def _check_languages(self) -> None:
        listed = [line.strip() for line in self._ask("--list-langs").splitlines()[1:]]
        missing = [name for name in self._languages.split("+") if name not in listed]
        if missing:
            packs = " ".join(f"tesseract-ocr-{name.replace('_', '-')}" for name in missing)
            raise ConfigError(
                f"Tesseract has no language {', '.join(map(repr, missing))};"
                f" it has {', '.join(listed) or 'none'}.",
                f"Install it (Debian: apt-get install {packs}) or set another.",
            )
        self._sees_turns = "osd" in listed  # a pack of its own

    def _ask(self, question: str) -> str:
        try:
            answer = self._run([question, *self._folder], b"", _ASK_SECONDS, question)
        except Rejected as failure:
            raise ConfigError(f"{self._program} does not run: {failure.message}") from failure
        return answer.decode("utf-8", "replace")

    def _run(self, arguments: list[str], given: bytes, seconds: float, what: str) -> bytes:
        with tempfile.TemporaryDirectory(prefix="longleaf-ocr-") as scratch:
            try:
                done = subprocess.run(  # noqa: S603
                    [self._program, *arguments],
                    input=given,
                    capture_output=True,
                    timeout=seconds,
                    check=False,
                    cwd=scratch,
                    env={"OMP_THREAD_LIMIT": "1", "LC_ALL": "C", "TMPDIR": scratch},
                )
            except subprocess.TimeoutExpired as failure:
                raise Rejected(
                    RejectReason.TOO_SLOW, f"OCR of {what} took more than {seconds:.0f} s"
                ) from failure
            except OSError as failure:
                raise Rejected(RejectReason.CRASHED, f"OCR cannot start: {failure}") from failure
        if done.returncode < 0:
            raise Rejected(
                RejectReason.CRASHED, f"OCR of {what} was ended by signal {-done.returncode}"
            )
        if done.returncode > 0:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise Rejected(
                RejectReason.UNREADABLE,
                f"OCR of {what} failed: {said[-1] if said else done.returncode}",
            )
        return done.stdout


def _mean_confidence(words: tuple[OcrWord, ...]) -> float:
    return sum(word.confidence for word in words) / len(words) if words else 0.0


def _dots_per_inch(picture: bytes) -> float:
    """The resolution that a PNG states (its pHYs chunk, in dots per metre)."""
    at = len(_PNG_START)
    while picture.startswith(_PNG_START) and at + 8 <= len(picture):
        length, kind = struct.unpack_from(">I4s", picture, at)
        if kind == b"pHYs" and length == 9:
            per_metre, _, unit = struct.unpack_from(">IIB", picture, at + 8)
            # Whole dots per metre: 300 per inch come back as 299.9994.
            dots = round(float(per_metre) * _METRES_PER_INCH, 1)
            return dots if unit == 1 and dots >= 1 else _ASSUMED_DOTS
        if kind == b"IDAT":
            break
        at += length + 12
    return _ASSUMED_DOTS


def _words(table: str, points_per_pixel: float) -> Iterator[OcrWord]:
    """The words of Tesseract's TSV, in its order; paragraphs and lines counted through."""
    paragraphs: dict[tuple[str, ...], int] = {}
    lines: dict[tuple[str, ...], int] = {}
    for row in table.splitlines():
        columns = row.split("\t", _TSV_COLUMNS - 1)
        if len(columns) != _TSV_COLUMNS or columns[0] != _WORD_LEVEL or not columns[11].strip():
            continue
        paragraph = paragraphs.setdefault(tuple(columns[1:4]), len(paragraphs))
        line = lines.setdefault(tuple(columns[1:5]), len(lines))
        left, top, width, height = (int(column) * points_per_pixel for column in columns[6:10])
        yield OcrWord(
            text=columns[11].strip(),
            confidence=max(float(columns[10]), 0.0),
            paragraph=paragraph,
            line=line,
            left=left,
            top=top,
            right=left + width,
            bottom=top + height,
        )
