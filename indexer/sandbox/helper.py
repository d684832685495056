"""The parent's side of what a parser may use beside the bytes: LibreOffice, Tesseract, known pages.

A parser's child asks for it in frames; the answer comes from a second child with other walls
(`programs`), started when a file first needs one and kept. Both ends are checked: the one asks for
nothing but these things, the other answers nothing but words and bytes. What OCR reads is stored as
soon as it is read, so that a crash later does not cost an hour of it. Time spent here is the
programs' and not the parser's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from longleaf.core.errors import Rejected, RejectReason
from longleaf.core.frames import Frame, error_from_json, error_to_json
from longleaf.core.logs import reason_of
from longleaf.core.protocols import OcrStore
from longleaf.core.types import OcrWord
from longleaf.indexer.office import SUFFIXES
from longleaf.indexer.sandbox import wire
from longleaf.indexer.sandbox.confine import Confinement
from longleaf.indexer.sandbox.process import ChildProcess, Clock
from longleaf.indexer.sandbox.scratch import Scratch, remove_abandoned

_SLACK_SECONDS = 30.0
"""A program's own limit ends it first; this one ends a child that does not keep it."""

_LOADERS = ("/lib64/ld-*", "/lib/ld-*", "/usr/lib64/ld-*", "/usr/lib/ld-*")
_SHELL = (Path("/bin"), Path("/usr/bin"))
_DATA = (
    *("/usr/share", "/usr/local/share", "/usr/lib", "/usr/lib64", "/lib", "/lib64"),
    *("/etc/fonts", "/etc/libreoffice", "/etc/ld.so.cache", "/var/cache/fontconfig"),
)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Programs:
    """Which programs may be run, and within what. `why_no_ocr` is for the user."""

    libreoffice: Path | None = None
    tesseract: Path | None = None
    ocr_languages: str = ""
    why_no_ocr: str = ""
    convert_seconds: float = 60.0
    ocr_page_seconds: float = 120.0
    memory_bytes: int = 4 * 1024**3

    def place(self, scratch: Path, private: Sequence[Path]) -> dict[str, Any]:
        """What the child that runs them is told at its start."""
        run = [Path(each) for pattern in _LOADERS for each in Path("/").glob(pattern[1:])]
        found = (self.libreoffice, self.tesseract)
        data: list[Path] = []
        run += [program.resolve() for program in found if program is not None]
        if self.libreoffice is not None:
            root = self.libreoffice.resolve().parents[1]
            run.append(root)
            linked = (*root.glob("share/*"), *root.glob("share/*/*"))
            data = [each.resolve() for each in linked if each.is_symlink()]
            if self.libreoffice.suffix != ".bin":
                run += _SHELL  # a shell script that looks for the program
        return {
            "memory_bytes": self.memory_bytes,
            "input_bytes": 0,
            "document_bytes": self.memory_bytes,
            "scratch": str(scratch),
            "programs": [str(each) for each in run],
            "read": [*_DATA, *map(str, data)],
            "own_tmp": self.libreoffice is not None,
            "private": [str(each) for each in private],
            "libreoffice": str(self.libreoffice or ""),
            "tesseract": str(self.tesseract or ""),
            "ocr_languages": self.ocr_languages,
            "convert_seconds": self.convert_seconds,
            "ocr_page_seconds": self.ocr_page_seconds,
        }


class Helper:
    """One worker's. Used by its thread alone, but for `kill`."""

    def __init__(
        self,
        programs: Programs,
        command: Sequence[str],
        private: Sequence[Path],
        store: OcrStore | None,
    ) -> None:
        self.programs = programs
        self._command = command
        self._private = private
        self._store = store
        self._child: ChildProcess | None = None
        self._scratch: Scratch | None = None
        self._engine = ""
        self._is_unwanted = False

    def begin(self) -> None:
        """What comes now is asked for by another file."""
        self._is_unwanted = False

    def kill(self) -> None:
        """End what runs for the file that nobody wants any more; from any thread."""
        self._is_unwanted = True  # first: a child that is just starting is not there to be killed
        child = self._child
        if child is not None:
            child.kill()

    def rest(self) -> None:
        """End the child and remove its scratch folder."""
        child, self._child = self._child, None
        scratch, self._scratch = self._scratch, None
        if child is not None:
            child.end()
        if scratch is not None:
            scratch.close()

    def confinement(self) -> Confinement | None:
        """What holds back the programs; None where there are none."""
        if self.programs.libreoffice is None and self.programs.tesseract is None:
            return None
        return self._ready_child().confinement

    def answer(self, frame: Frame, file: Asked) -> Frame:
        """What a parser's child asked for; a program's failure is the parser's to handle.

        Raises ValueError for what no parser of ours asks for.
        """
        asked = self._checked(frame)
        try:
            return asked(file)
        except Rejected as error:
            return Frame({"error": error_to_json(error)})

    def _checked(self, frame: Frame) -> Callable[[Asked], Frame]:
        array = frame.arrays[0] if len(frame.arrays) == 1 else None
        match frame.header:
            case {"say": "convert", "suffix": str(suffix)} if (
                suffix in SUFFIXES and array is not None and self.programs.libreoffice is not None
            ):
                return lambda _: self._convert(array, suffix)
            case {"say": "page", "page": int(page)} if self._may_read(page) and array is None:
                return lambda file: Frame(self._known(file, page))
            case {"say": "picture", "page": int(page)} if (
                self._may_read(page) and array is not None
            ):
                return lambda file: Frame(self._read(file, page, array))
        raise ValueError("it asks for what there is not")

    def _may_read(self, page: int) -> bool:
        return self.programs.tesseract is not None and 1 <= page <= wire.PAGES

    def _convert(self, data: Any, suffix: str) -> Frame:
        # Its program starts once more when a profile is new.
        seconds = 2 * self.programs.convert_seconds
        made = self._ask({"ask": "convert", "suffix": suffix}, seconds, "LibreOffice", data)
        if len(made.arrays) != 1 or made.arrays[0].dtype.str != "|u1":
            raise Rejected(RejectReason.CRASHED, "LibreOffice's process answers nonsense.")
        return Frame({}, made.arrays)

    # --- pages ---------------------------------------------------------------------------------

    def _known(self, file: Asked, page: int) -> dict[str, Any]:
        words = file.known_pages(self._store, self._engine_name()).get(page)
        return {
            "engine": self._engine_name(),
            "words": None if words is None else wire.words_to_json(words),
        }

    def _read(self, file: Asked, page: int, picture: Any) -> dict[str, Any]:
        engine = self._engine_name()
        key = file.page_key(engine, picture)
        known = file.known_pages(self._store, key)
        words = known.get(page)
        if words is None:
            seconds = self.programs.ocr_page_seconds
            told = self._ask({"ask": "page", "page": page}, seconds, "Tesseract", picture)
            try:
                words = wire.words_from_json(told.header.get("words"))
            except ValueError as nonsense:
                raise Rejected(RejectReason.CRASHED, f"Tesseract answers {nonsense}.") from nonsense
            known[page] = words
            self._keep(file.sha256, key, page, words)
        return {"engine": engine, "words": wire.words_to_json(words)}

    def _keep(self, sha256: str, key: str, page: int, words: tuple[OcrWord, ...]) -> None:
        try:
            if self._store is not None:
                self._store.put_ocr_page(sha256, key, page, words)
        except Exception as failure:
            # The page has been read all the same; only a second reading would miss it.
            _log.warning("sandbox.page_not_kept", page=page, reason=reason_of(failure))

    def _engine_name(self) -> str:
        if not self._engine:
            told = self._ask({"ask": "engine"}, _SLACK_SECONDS, "Tesseract")
            self._engine = wire.sendable(str(told.header.get("engine")))[:200]
        return self._engine

    # --- the child -----------------------------------------------------------------------------

    def _ask(self, header: Mapping[str, Any], seconds: float, program: str, *arrays: Any) -> Frame:
        """Raises Rejected: what the program's child says, or how it ended."""
        child = self._ready_child()
        if self._is_unwanted:
            self.rest()
            raise Rejected(RejectReason.UNREADABLE, "Reading was ended.")
        child.clock = Clock(seconds + _SLACK_SECONDS, seconds + _SLACK_SECONDS)
        bounds = wire.bounds(self.programs.memory_bytes)
        try:
            child.send(Frame(header, arrays), bounds=bounds)
            answer = child.receive(bounds)
        except TimeoutError:
            self.rest()
            raise Rejected(RejectReason.TOO_SLOW, f"{program} does not come to an end.") from None
        except (OSError, EOFError):
            self._child = None
            child.end()
            self.rest()
            failure = child.failure(program, self.programs.memory_bytes)
            raise Rejected(failure.reason, failure.message) from None
        except ValueError as nonsense:
            self.rest()
            raise Rejected(RejectReason.CRASHED, f"{program}: {nonsense}") from nonsense
        if "error" in answer.header:
            error = error_from_json(answer.header["error"])
            if isinstance(error, Rejected) and error.reason is RejectReason.INTERNAL:
                _log.error("sandbox.program_failed", program=program)
            raise error
        return answer

    def _ready_child(self) -> ChildProcess:
        if self._child is not None and not self._child.is_quiet():
            self.rest()
        if self._child is None:
            remove_abandoned()
            self._scratch = Scratch()
            place = self.programs.place(self._scratch.path, self._private)
            try:
                self._child = ChildProcess(self._command, place)
            except Rejected:
                self.rest()
                raise
        return self._child


class Asked:
    """The file that a parser asks for, as far as its pages are concerned."""

    def __init__(self, data: bytes, media_type: str) -> None:
        self._data = data
        # Within a mail or a package, two attachments both have a page 1.
        self._pages_are_its_own = media_type == "application/pdf" or media_type.startswith("image/")
        self._sha256 = ""
        self._known: dict[str, dict[int, tuple[OcrWord, ...]]] = {}

    @property
    def sha256(self) -> str:
        """Names the file in the store; made when it is first asked for."""
        if not self._sha256:
            self._sha256 = hashlib.sha256(self._data).hexdigest()
        return self._sha256

    def page_key(self, engine: str, picture: Any) -> str:
        """Under what engine a page's words are kept: with its picture, where numbers may clash."""
        if self._pages_are_its_own:
            return engine
        return f"{engine} {hashlib.sha256(picture.data).hexdigest()[:32]}"

    def known_pages(self, store: OcrStore | None, engine: str) -> dict[int, tuple[OcrWord, ...]]:
        """Page number -> words, of what was read of this file before."""
        if engine not in self._known:
            known = {} if store is None else dict(store.ocr_pages(self.sha256, engine))
            self._known[engine] = known
        return self._known[engine]
