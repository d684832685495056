"""Mailboxes (mbox): many mails in one file, each a document with its attachments.

A mail begins at a line "From ..." behind an empty line, with a header line below it; what such a
line in a text was changed to (">From") is changed back. Mails are named by their number, so that
new ones at the end rename none. One that cannot be read is a `Rejection` and the rest goes on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from longleaf.core.errors import NoTextFound, Rejected, RejectReason
from longleaf.core.protocols import NO_CONTEXT, ParseContext
from longleaf.core.types import Document, Rejection
from longleaf.indexer.parsers.decode import clean, refuse_empty
from longleaf.indexer.parsers.mail import mail_documents
from longleaf.indexer.parsers.mail_kind import HEADER_LINE

_BORDER = re.compile(rb"(?:\A|\r?\n\r?\n)(From [^\n]*\n)")
_QUOTED = re.compile(rb"^>(>*From )", re.MULTILINE)


class MboxParser:
    """A `core.protocols.Parser` for mailboxes."""

    media_type = "application/mbox"
    suffixes: tuple[str, ...] = (".mbox", ".mbx")

    def parse(
        self, data: bytes, name: str, context: ParseContext = NO_CONTEXT
    ) -> Iterator[Document | Rejection]:
        """Each mail and its attachments, in order. Raises `Rejected` (EMPTY, MALFORMED)."""
        from longleaf.indexer.parsers.mail_eml import read_eml

        name = clean(name).text
        refuse_empty(data, name)
        spans = list(_mails(data))
        if not spans:
            raise Rejected(RejectReason.MALFORMED, f"{name} does not begin like a mailbox.")
        for number, (start, end) in enumerate(spans, 1):
            try:
                mail = read_eml(_QUOTED.sub(rb"\1", data[start:end]), f"{name}, mail {number}")
                yield from mail_documents(mail, name, context, part=str(number))
            except Rejected as failure:
                yield Rejection(f"mail {number}", failure.reason, str(failure))
            except NoTextFound as failure:
                yield Rejection(f"mail {number}", RejectReason.EMPTY, str(failure))


def _mails(data: bytes) -> Iterator[tuple[int, int]]:
    """Where each mail lies, its border line left out."""
    start = -1
    for border in _BORDER.finditer(data):
        if HEADER_LINE.match(data, border.end()) is None:
            continue  # a line of a text
        if start >= 0:
            yield start, border.start()
        start = border.end()
    if start >= 0:
        yield start, len(data)
