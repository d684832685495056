"""Office files of other kinds to DOCX, by LibreOffice: a `ParseContext.convert`.

Each conversion has a profile and a folder of its own inside the scratch folder it is given, gone
afterwards, so that no file leaves a setting, a lock or a macro to the next. The profile turns off
macros, links to other files and everything that speaks to a network; the process gets no setting of
ours, ends with the thread that started it, and is killed with all it started when its time is over.
It is no wall: LibreOffice reads what its user may read, so a file from elsewhere is converted in a
child that `indexer.sandbox` has confined.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from longleaf.core.errors import Rejected, RejectReason

INSTALL_HINT = (
    "Install LibreOffice (Debian, Ubuntu: apt-get install libreoffice-writer-nogui) and index the "
    "file again, or save it as DOCX or PDF."
)
_OLD_WORD = ("MS Word 97", "MS Word 95", "MS WinWord 6.0")
_UNMARKED = ("WordPerfect", "MS WinWord 5")
_FILTERS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys((".doc", ".dot"), _OLD_WORD),
    ".rtf": ("Rich Text Format",),
    ".odt": ("writer8",),
    ".ott": ("writer8", "writer8_template"),
    ".fodt": ("OpenDocument Text Flat XML",),
    ".sxw": ("StarOffice XML (Writer)",),
    ".stw": ("StarOffice XML (Writer)", "writer_StarOffice_XML_Writer_Template"),
    ".wpd": ("WordPerfect",),
    ".wps": ("MS_Works",),
    ".xml": ("MS Word 2003 XML",),
}
"""LibreOffice's import filters, tried in order. Left to itself it reads as plain text what it does
not know, and a damaged file becomes a page of Chinese signs.
"""
SUFFIXES = frozenset(_FILTERS)
"""What `convert` takes."""

_OLE_MARK = b"\xd0\xcf\x11\xe0"
MAX_OUTPUT_BYTES = 256 * 1024 * 1024
_RESTART = 81
"""The exit code that asks for another start, of a program whose profile is new: 0.2 s of about 2 s
of processor time, so keeping profiles would save little and could carry one file's into the next.
"""

_PLACES = (
    "/usr/lib/libreoffice/program/soffice.bin",
    "/usr/lib64/libreoffice/program/soffice.bin",
    "/opt/libreoffice/program/soffice.bin",
    "/Applications/LibreOffice.app/Contents/MacOS/soffice",
)
_DEAD_PROXY_PORT = 9  # discard: nobody answers
_PR_SET_PDEATHSIG = 1

_PROFILE = """<?xml version="1.0" encoding="UTF-8"?>
<oor:items xmlns:oor="http://openoffice.org/2001/registry"
 xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
{items}
</oor:items>
"""
_ITEM = (
    '<item oor:path="/org.openoffice.{path}"><prop oor:name="{name}" oor:op="fuse">'
    "<value>{value}</value></prop></item>"
)
_SETTINGS = (
    ("Office.Common/Security/Scripting", "MacroSecurityLevel", "3"),
    ("Office.Common/Security/Scripting", "DisableMacrosExecution", "true"),
    ("Office.Common/Security/Scripting", "DisableActiveContent", "true"),
    ("Office.Common/Security/Scripting", "BlockUntrustedRefererLinks", "true"),
    ("Office.Common/Security/Scripting", "DisablePythonRuntime", "true"),
    ("Office.Common/Misc", "FirstRun", "false"),
    ("Office.Common/Misc", "CrashReport", "false"),
    ("Office.Common/Misc", "CollectUsageInformation", "false"),
    ("Office.Writer/Content/Update", "Link", "0"),
    ("Office.Calc/Content/Update", "Link", "2"),
    ("Inet/Settings", "ooInetProxyType", "2"),
    ("Inet/Settings", "ooInetHTTPProxyName", "127.0.0.1"),
    ("Inet/Settings", "ooInetHTTPProxyPort", str(_DEAD_PROXY_PORT)),
    ("Inet/Settings", "ooInetHTTPSProxyName", "127.0.0.1"),
    ("Inet/Settings", "ooInetHTTPSProxyPort", str(_DEAD_PROXY_PORT)),
    ("Office.Jobs/Jobs/org.openoffice.Office.Jobs:Job['UpdateCheck']/Arguments", "AutoCheckEnabled",
     "false"),
)  # fmt: skip


def find_libreoffice() -> Path | None:
    """The program itself, not the shell script in front of it, where it lies beside; else None."""
    named = (shutil.which(name) for name in ("soffice", "libreoffice"))
    for place in (*named, *_PLACES):
        if place is not None and (real := Path(place).resolve()).is_file():
            beside = real.with_name("soffice.bin")
            return beside if beside.is_file() else real
    return None


class LibreOffice:
    """Converts one file at a time. `scratch` must exist; `limit_seconds` is for one conversion."""

    def __init__(self, program: Path, scratch: Path, limit_seconds: float = 60.0) -> None:
        self._program = program
        self._scratch = scratch
        self._limit_seconds = limit_seconds

    def convert(self, data: bytes, suffix: str) -> bytes:
        """`data`, a file with `suffix`, as DOCX.

        Raises `Rejected`: TOO_SLOW, CRASHED, MALFORMED (LibreOffice cannot read it), EXPANDS,
        NEEDS_PROGRAM (it is gone).
        """
        suffix = suffix.lower()
        assert suffix in SUFFIXES, suffix
        with tempfile.TemporaryDirectory(
            prefix="office-", dir=self._scratch, ignore_cleanup_errors=True
        ) as made:
            folder = Path(made)
            source = folder / f"document{suffix}"
            source.write_bytes(data)
            _make_profile(folder)
            deadline = time.monotonic() + self._limit_seconds
            output = folder / "out" / "document.docx"
            filters = _FILTERS[suffix]
            if filters is _OLD_WORD and not data.startswith(_OLE_MARK):
                filters = _UNMARKED
            status = 0
            for name in filters:
                status = self._run(folder, source, name, deadline)
                if status == _RESTART:
                    status = self._run(folder, source, name, deadline)
                if output.exists() or status < 0:
                    break
            return _result(output, status)

    def _run(self, folder: Path, source: Path, filter_name: str, deadline: float) -> int:
        arguments = (
            f"-env:UserInstallation={(folder / 'profile').as_uri()}",
            *("--headless", "--nologo", "--nodefault", "--norestore", "--nolockcheck"),
            f"--infilter={filter_name}",
            *("--convert-to", "docx:MS Word 2007 XML", "--outdir", str(folder / "out")),
            str(source),
        )
        try:
            process = subprocess.Popen(  # noqa: S603 - a fixed program and our own names, no shell
                [str(self._program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=folder,
                env=_environment(folder),
                process_group=0,
                preexec_fn=_ends_with_us(),  # noqa: PLW1509 - one system call, no lock taken
            )
        except OSError as failure:
            raise Rejected(
                RejectReason.NEEDS_PROGRAM,
                f"LibreOffice ({self._program}) cannot be started: {failure.strerror}.",
                INSTALL_HINT,
            ) from failure
        try:
            return process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired as late:
            raise Rejected(
                RejectReason.TOO_SLOW,
                f"LibreOffice did not convert it within {self._limit_seconds:g} seconds.",
                "Save it as DOCX or PDF and index that.",
            ) from late
        finally:
            # Whatever it started may outlive it, and its group may be gone already.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _make_profile(folder: Path) -> None:
    for name in ("profile/user", "out", "tmp"):
        (folder / name).mkdir(parents=True)
    items = "\n".join(_ITEM.format(path=p, name=n, value=v) for p, n, v in _SETTINGS)
    settings = folder / "profile" / "user" / "registrymodifications.xcu"
    settings.write_text(_PROFILE.format(items=items), "utf-8")


def _environment(folder: Path) -> dict[str, str]:
    """All that the program is told: nothing of our own environment."""
    proxy = f"http://127.0.0.1:{_DEAD_PROXY_PORT}"
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder),
        "TMPDIR": str(folder / "tmp"),
        "XDG_CACHE_HOME": str(folder / "tmp"),
        "XDG_CONFIG_HOME": str(folder / "tmp"),
        "LANG": "C.UTF-8",
        "SAL_USE_VCLPLUGIN": "svp",
        "SAL_DISABLE_OPENCL": "1",
        **dict.fromkeys(("http_proxy", "https_proxy", "ftp_proxy"), proxy),
    }


def _ends_with_us() -> Callable[[], object] | None:
    """Lets the kernel end the program when this thread ends, however it ends; Linux only."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _result(made: Path, status: int) -> bytes:
    """The file that the program wrote. Raises `Rejected` where it is none."""
    try:
        held = made.lstat()
    except OSError:
        held = None
    if held is None or not stat.S_ISREG(held.st_mode) or held.st_size == 0:
        if status < 0:
            raise Rejected(
                RejectReason.CRASHED,
                f"LibreOffice crashes on it ({signal.Signals(-status).name}).",
                "Save it as DOCX or PDF and index that.",
            )
        raise Rejected(
            RejectReason.MALFORMED,
            "LibreOffice cannot read it.",
            "Open it in the program that made it and save it as DOCX or PDF.",
        )
    if held.st_size > MAX_OUTPUT_BYTES:
        raise Rejected(
            RejectReason.EXPANDS,
            f"LibreOffice makes {held.st_size:,} bytes of it.",
            "Save it in parts.",
        )
    return made.read_bytes()
