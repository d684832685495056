"""Whether bytes are a mail, told from their beginning or their names; pure, and no library loads.

Three different header lines that mails have must stand in the first block: prose that begins with
"Subject: ..." is no mail.
"""

from __future__ import annotations

import re

HEADER_LINE = re.compile(rb"[A-Za-z][\w.-]{0,79}:")
_KNOWN_HEADER = re.compile(
    rb"^(?:from|to|cc|subject|date|received|return-path|message-id|mime-version|delivered-to|"
    rb"content-type|x-[\w-]+|reply-to|sender|dkim-signature|envelope-to)\s*:",
    re.IGNORECASE | re.MULTILINE,
)
PROPERTIES = "__properties_version1.0"
"""The stream that every folder of an Outlook message has."""


def looks_like_mail(head: bytes) -> bool:
    """Whether a file's first bytes are header lines of a mail, three that are known among them."""
    if head.startswith(b"From "):
        head = head.partition(b"\n")[2]
    if HEADER_LINE.match(head) is None:
        return False
    block = re.split(rb"\r?\n\r?\n", head[:8_192], maxsplit=1)[0]
    return len({name.lower() for name in _KNOWN_HEADER.findall(block)}) >= 3


def looks_like_msg(data: bytes) -> bool:
    """Whether an OLE file names a mail's properties."""
    return PROPERTIES.encode("utf-16-le") in data
