"""What to do about a file that did not simply go in: one sentence for each outcome and reason.

The same advice as the tables of docs/documents.md, for whoever looks at a page instead.
"""

from __future__ import annotations

from collections.abc import Mapping

from longleaf.core.errors import RejectReason
from longleaf.core.types import Outcome

OF_REASON: Mapping[RejectReason, str] = {
    RejectReason.EMPTY: "There is nothing in it to find. Leave it out.",
    RejectReason.UNSUPPORTED: "Save it as PDF, Word, HTML or text, and choose that file.",
    RejectReason.MALFORMED: "Open it with its own program, save it anew, and choose it again. Is "
    "its suffix right?",
    RejectReason.ENCRYPTED: "Save a copy without the password, and choose that.",
    RejectReason.TOO_LARGE: "Split it, or raise indexer.max_file_bytes (uploads: also "
    "server.max_upload_bytes).",
    RejectReason.UNREADABLE: "Give the server the right to read it.",
    RejectReason.DUPLICATE_KEY: "Give each document in it an id of its own.",
    RejectReason.NEEDS_PROGRAM: "Install LibreOffice on the server (Debian: apt-get install "
    "libreoffice-writer-nogui), or save it as DOCX or PDF.",
    RejectReason.EXPANDS: "If it is no trap, save it in parts.",
    RejectReason.TOO_SLOW: "Look at the file; if it is honest, raise indexer.parse_seconds.",
    RejectReason.TOO_MUCH_MEMORY: "Split it, or raise indexer.parse_memory_bytes.",
    RejectReason.CRASHED: "Open it with its own program and save it anew; please report it.",
    RejectReason.INTERNAL: "A mistake of ours: the server's log has its trace. Please report it.",
}

OF_NO_TEXT = (
    "It needs OCR: install Tesseract on the server (Debian: apt-get install tesseract-ocr), then "
    "choose it again."
)
OF_CANCELLED = "Choose it again if you want it after all."
OF_FAILED = "Mend what it says, then try again."


def next_step(outcome: Outcome | None, reason: str) -> str:
    """What to do about a file that ended so; "" where there is nothing to do."""
    if outcome is Outcome.NO_TEXT:
        return OF_NO_TEXT
    if outcome is Outcome.REJECTED:
        known = {each.value: each for each in RejectReason}
        return OF_REASON[known.get(reason, RejectReason.INTERNAL)]
    return ""
