"""Mails: what one says, and each of its attachments as a document of its own.

`mail_eml` and `mail_msg` make a `Mail` of the two formats; here it becomes a `Document` whose text
begins with the header lines (`mail_body` reads the rest), and its attachments go to the parsers of
their types with the same context. An attachment that cannot be read is a `Rejection` with its name
and never fails the mail. Mails inside mails are read to a depth of 4. A part is named as the user
knows it, inside attached mails by its path ("Fwd.eml!/contract.pdf"); a second one of the same name
gets a number.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import PurePath

from longleaf.core.errors import NoTextFound, Rejected, RejectReason
from longleaf.core.ids import PART_MARK
from longleaf.core.protocols import NO_CONTEXT, ParseContext
from longleaf.core.types import Document, MetaValue, Rejection
from longleaf.indexer.parsers.decode import clean, refuse_empty
from longleaf.indexer.parsers.mail_body import BodyPart, read_body
from longleaf.indexer.parsers.sections import shorten, title_from

MAX_DEPTH = 4
MAX_PARTS = 1_000
_NAME_CHARS = 200

_SHOWN = ("from", "to", "cc", "date", "subject")
_TNEF = ("application/ms-tnef", "application/vnd.ms-tnef")
_SEALED = ("application/pkcs7-mime", "application/x-pkcs7-mime")
_SUFFIXES = {
    "text/plain": ".txt",
    "text/html": ".html",
    "text/xml": ".xml",
    "message/rfc822": ".eml",
    "application/msword": ".doc",
    "application/x-tex": ".tex",
}


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file in a mail, or another mail: then `mail` is set and `data` is empty."""

    name: str
    media_type: str
    data: bytes = b""
    mail: Mail | None = None


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail in either format. `headers` holds readable values by lower-case name.

    `date` is ISO 8601, "" where there is none that can be read. `body` holds its texts in order.
    `sealed` says what is encrypted.
    """

    headers: dict[str, str]
    date: str = ""
    body: tuple[BodyPart, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    inline_images: int = 0
    sealed: str = ""
    media_type: str = "message/rfc822"
    warnings: tuple[str, ...] = ()


@dataclass(slots=True)
class _Progress:
    """What holds for a whole file, however its mails are nested."""

    context: ParseContext
    parts: int = 0
    names: dict[str, int] = field(default_factory=dict)

    def named(self, name: str) -> str:
        """`name`, with a number in front of its suffix if it has come before."""
        seen = self.names[name] = self.names.get(name, 0) + 1
        if seen == 1:
            return name
        suffix = PurePath(name).suffix
        return self.named(f"{name.removesuffix(suffix)} ({seen}){suffix}")


def mail_documents(
    mail: Mail, name: str, context: ParseContext, part: str = ""
) -> Iterator[Document | Rejection]:
    """A mail's own document first, then those of its attachments. `part` names it in its file."""
    yield from _documents(mail, name, part, 1, _Progress(context))


def _documents(
    mail: Mail, name: str, part: str, depth: int, progress: _Progress
) -> Iterator[Document | Rejection]:
    body = read_body(mail.body, name, progress.context)
    header = "\n".join(
        f"{label.capitalize()}: {mail.headers[label]}"
        for label in _SHOWN
        if mail.headers.get(label)
    )
    text = f"{header}\n\n{body.text}".strip()
    subject = mail.headers.get("subject", "")
    if text:
        moved = len(header) + 2 if header else 0
        yield Document(
            text=text,
            title=shorten(subject) or title_from(body.text or text, name),
            sections=tuple(
                replace(each, start_char=each.start_char + moved, end_char=each.end_char + moved)
                for each in body.sections
            ),
            metadata=_metadata(mail),
            part=part or None,
            media_type=mail.media_type if part else "",
            warnings=(*mail.warnings, *_notes(mail, body.text), *body.warnings),
        )
    elif not mail.attachments:
        raise NoTextFound(f"{name} is a mail without header lines, text or attachments.")
    for attachment in mail.attachments:
        progress.parts += 1
        inner = progress.named(f"{part}{PART_MARK if part else ''}{_file_name(attachment)}")
        if progress.parts > MAX_PARTS:
            detail = f"more than {MAX_PARTS:,} attachments: the rest was not read"
            yield Rejection(inner, RejectReason.TOO_LARGE, detail)
            return
        yield from _attached(attachment, inner, depth, progress)


def _metadata(mail: Mail) -> dict[str, MetaValue]:
    found: dict[str, MetaValue] = {
        label: mail.headers[label] for label in ("from", "to", "cc") if mail.headers.get(label)
    }
    if mail.date:
        found["date"] = mail.date
    if message_id := mail.headers.get("message-id"):
        found["message_id"] = message_id
    return found


def _notes(mail: Mail, text: str) -> Iterator[str]:
    """What of the mail itself is not in its text."""
    if mail.inline_images:
        yield f"{mail.inline_images} pictures in its text were not read"
    if mail.sealed:
        yield mail.sealed
    if "-----BEGIN PGP MESSAGE-----" in text:
        yield "its text is encrypted (PGP)"


# --- attachments ---------------------------------------------------------------------------------


def _file_name(attachment: Attachment) -> str:
    """The attachment's own name without any folder, with a suffix where it has none."""
    name = clean(attachment.name).text.replace("\\", "/").rpartition("/")[2]
    name = " ".join("".join(c if c.isprintable() else " " for c in name).split())[:_NAME_CHARS]
    if attachment.mail is not None:
        name = name or shorten(attachment.mail.headers.get("subject", ""), 80).replace("/", "-")
        return (
            name if PurePath(name).suffix.lower() in (".eml", ".msg") else f"{name or 'mail'}.eml"
        )
    if not PurePath(name).suffix:
        kind = attachment.media_type
        name = (
            f"{name or 'attachment'}{_SUFFIXES.get(kind) or mimetypes.guess_extension(kind) or ''}"
        )
    return name


def _attached(
    attachment: Attachment, part: str, depth: int, progress: _Progress
) -> Iterator[Document | Rejection]:
    """The documents of one attachment; nothing that it holds raises."""
    if (refusal := _refusal(attachment, part)) is not None:
        yield refusal
        return
    try:
        mail = attachment.mail or _as_mail(attachment, part)
        if mail is None:
            yield from _read(attachment, part, progress.context)
        elif depth >= MAX_DEPTH:
            detail = f"mails inside mails are read {MAX_DEPTH} deep"
            yield Rejection(part, RejectReason.EXPANDS, detail)
        else:
            yield from _documents(mail, part, part, depth + 1, progress)
    except Rejected as failure:
        # What could be read instead is a hint for whoever named the file, not for who got it.
        unsupported = failure.reason is RejectReason.UNSUPPORTED
        yield Rejection(part, failure.reason, failure.message if unsupported else str(failure))
    except NoTextFound as failure:
        yield Rejection(part, RejectReason.EMPTY, str(failure))
    except Exception as failure:  # whatever its parser does, the mail and its neighbours are read
        yield Rejection(part, RejectReason.INTERNAL, repr(failure))


def _refusal(attachment: Attachment, part: str) -> Rejection | None:
    """Why an attachment is not even tried."""
    if attachment.mail is not None:
        return None
    if attachment.media_type in _TNEF or part.lower().endswith("winmail.dat"):
        detail = "Outlook's own wrapper (TNEF) around attachments, which cannot be read yet"
        return Rejection(part, RejectReason.UNSUPPORTED, detail)
    if attachment.media_type in _SEALED or part.lower().endswith(".p7m"):
        detail = "a signed or encrypted wrapper (S/MIME): save its content from a mail program"
        return Rejection(part, RejectReason.ENCRYPTED, detail)
    return None


def _as_mail(attachment: Attachment, part: str) -> Mail | None:
    """An attached file that is a mail, so that its depth counts; None for anything else."""
    from longleaf.indexer.parsers.mail_eml import read_eml
    from longleaf.indexer.parsers.mail_msg import read_msg

    suffix = PurePath(part).suffix.lower()
    if suffix == ".eml" or attachment.media_type in ("message/rfc822", "multipart/signed"):
        return read_eml(attachment.data, part)
    return read_msg(attachment.data, part) if suffix == ".msg" else None


def _read(
    attachment: Attachment, part: str, context: ParseContext
) -> Iterator[Document | Rejection]:
    """What the parser of its type makes of it, named by its path in the mail."""
    from longleaf.indexer.parsers import parser_for  # it imports this module

    name = part.rpartition("/")[2]
    parser = parser_for(name, attachment.data)
    for item in parser.parse(attachment.data, name, context):
        if isinstance(item, Rejection):
            yield replace(item, where=f"{part}, {item.where}" if item.where else part)
            continue
        below = item.key if item.key is not None else item.part
        yield replace(
            item,
            key=None,
            part=part if below is None else f"{part}{PART_MARK}{below}",
            media_type=item.media_type or parser.media_type,
        )


# --- parsers -------------------------------------------------------------------------------------


class EmlParser:
    """A `core.protocols.Parser` for mails as they are sent (RFC 5322, MIME)."""

    media_type = "message/rfc822"
    suffixes: tuple[str, ...] = (".eml",)

    def parse(
        self, data: bytes, name: str, context: ParseContext = NO_CONTEXT
    ) -> Iterator[Document | Rejection]:
        """The mail, then its parts. Raises `Rejected` (EMPTY, MALFORMED) and `NoTextFound`."""
        from longleaf.indexer.parsers.mail_eml import read_eml

        name = clean(name).text
        refuse_empty(data, name)
        yield from mail_documents(read_eml(data, name), name, context)


class MsgParser:
    """A `core.protocols.Parser` for Outlook's .msg files."""

    media_type = "application/vnd.ms-outlook"
    suffixes: tuple[str, ...] = (".msg",)

    def parse(
        self, data: bytes, name: str, context: ParseContext = NO_CONTEXT
    ) -> Iterator[Document | Rejection]:
        """The mail, then its attachments.

        Raises `Rejected` (EMPTY, MALFORMED, EXPANDS) and `NoTextFound`.
        """
        from longleaf.indexer.parsers.mail_msg import read_msg

        name = clean(name).text
        refuse_empty(data, name)
        yield from mail_documents(read_msg(data, name), name, context)
