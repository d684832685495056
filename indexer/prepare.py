"""One file's bytes to documents ready for embedding: parse, identify, chunk, sign.

Knows nothing of where the bytes came from (a folder, an upload) nor of when things are
committed. Whatever a parser does wrong ends here as a named outcome.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import structlog

from longleaf.core.catalog import bounds, content_digest
from longleaf.core.errors import InvalidRequest, NoTextFound, Rejected, RejectReason
from longleaf.core.ids import PART_MARK
from longleaf.core.language import detect, mismatch_warning
from longleaf.core.logs import file_label
from longleaf.core.protocols import Chunker, OpenedFile
from longleaf.core.types import (
    Document,
    EmbedInput,
    MetaValue,
    Outcome,
    Passage,
    Rejection,
)
from longleaf.indexer.metadata import complete
from longleaf.indexer.parsers.decode import clean
from longleaf.indexer.parsers.sections import shorten
from longleaf.indexer.sidecars import MAX_TITLE_CHARS, NO_SIDECAR, Sidecar
from longleaf.indexer.signature import signature_of

if TYPE_CHECKING:
    from longleaf.core.similarity import Signature

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Labels:
    """What a caller says of all documents of a run: access groups and extra metadata.

    A `title` among the metadata is no field: it names the files of the run. `revisions`: what is
    said was known of these documents (public id -> revision); where one has another by now, or is
    gone, nothing is written.
    """

    groups: tuple[str, ...] = ()
    metadata: Mapping[str, MetaValue] = field(default_factory=dict)
    revisions: Mapping[str, int] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The title that the caller gives, "" for none."""
        stated = next((v for name, v in self.metadata.items() if _is_title(name)), "")
        line = "; ".join(stated) if isinstance(stated, tuple) else str(stated)
        return shorten(clean(line).text, MAX_TITLE_CHARS)

    @property
    def fields(self) -> Mapping[str, MetaValue]:
        """The metadata but the title."""
        return {name: value for name, value in self.metadata.items() if not _is_title(name)}


def _is_title(name: str) -> bool:
    return name.lower() == "title"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A parsed document, signed, and chunked unless the catalog has its vectors already.

    `cut_by` is the fingerprint of the chunker that made `passages`.
    """

    key: str
    document: Document
    digest: str
    media_type: str
    metadata: Mapping[str, MetaValue]
    language: str | None
    warnings: tuple[str, ...]
    passages: tuple[Passage, ...] | None
    signature: Signature
    cut_by: str


@dataclass(frozen=True, slots=True)
class FileFailure:
    """A file, or one document inside it, that was not taken."""

    outcome: Outcome
    reason: str
    detail: str
    where: str = ""


def prepare_file(
    opened: OpenedFile,
    name: str,
    key: str,
    *,
    chunker: Chunker,
    labels: Labels,
    bm25_language: str,
    model_languages: Collection[str] | None,
    known: Callable[[str], bool],
    sidecar: Sidecar = NO_SIDECAR,
) -> Iterator[Prepared | FileFailure]:
    """Documents and failures of one file, in file order.

    `key` names the document when the parser names none. `known(digest)` says whether the catalog
    already holds that content's vectors. Never raises for anything the file contains.
    """
    seen_keys: set[str] = set()
    title, flags = labels.title or sidecar.title, labels.fields
    try:
        for item in opened:
            if isinstance(item, Rejection):
                yield FileFailure(Outcome.REJECTED, item.reason, item.detail, item.where)
                continue
            document_key = _key_of(item, key)
            if document_key in seen_keys:
                reason = RejectReason.DUPLICATE_KEY
                detail = f"the key {document_key!r} stands twice in {name}"
                yield FileFailure(Outcome.REJECTED, reason, detail, document_key)
                continue
            seen_keys.add(document_key)
            mismatch = functools.partial(
                mismatch_warning, bm25_language=bm25_language, model_languages=model_languages
            )
            document = _described(item, title, sidecar.warnings)
            metadata = complete(document, sidecar=sidecar.metadata, flags=flags)
            try:
                bounds.check_labels(document_key, metadata)
            except InvalidRequest as error:
                reason, where = RejectReason.MALFORMED, shorten(document_key, 200)
                yield FileFailure(Outcome.REJECTED, reason, str(error), where)
                continue
            yield _prepare(
                document,
                metadata,
                document_key,
                document.media_type or opened.media_type,
                chunker,
                mismatch,
                known,
            )
    except NoTextFound as error:
        yield FileFailure(Outcome.NO_TEXT, "", str(error))
    except Rejected as error:
        yield FileFailure(Outcome.REJECTED, error.reason.value, str(error))
    except Exception:
        # One bad file never stops the rest; "internal" is our bug and is logged with its trace.
        label = file_label(name)
        _log.exception("indexer.file_failed", file=label)
        # Not its words: they may quote other texts, paths or statements of this machine.
        detail = f"Longleaf failed on this file; the log has the cause at file={label}."
        yield FileFailure(Outcome.REJECTED, RejectReason.INTERNAL.value, detail)
    finally:
        opened.close()


def _key_of(document: Document, file_key: str) -> str:
    if document.key is not None:
        return document.key
    return file_key if document.part is None else f"{file_key}{PART_MARK}{document.part}"


def _described(document: Document, title: str, warnings: tuple[str, ...]) -> Document:
    """With the title that flags or a sidecar give the file; a document inside it keeps its own."""
    is_the_file = document.key is None and document.part is None
    return replace(
        document,
        title=title if title and is_the_file else document.title,
        warnings=(*document.warnings, *warnings),
    )


def _prepare(
    document: Document,
    metadata: Mapping[str, MetaValue],
    key: str,
    media_type: str,
    chunker: Chunker,
    mismatch_of: Callable[..., str | None],
    known: Callable[[str], bool],
) -> Prepared:
    digest = content_digest(document)
    stated = metadata.get("language")
    language = stated if isinstance(stated, str) and stated else detect(document.text)
    mismatch = mismatch_of(language, what="This document")
    return Prepared(
        key=key,
        document=document,
        digest=digest,
        media_type=media_type,
        metadata=metadata,
        language=language,
        warnings=(*document.warnings, *([mismatch] if mismatch else [])),
        passages=None if known(digest) else chunker.chunk(document),
        signature=signature_of(document.text),
        cut_by=chunker.fingerprint,
    )


def embed_inputs(document: Document, passages: Sequence[Passage]) -> Iterator[EmbedInput]:
    """What the model reads of each passage: title and heading path in front of the exact slice."""
    for passage in passages:
        yield EmbedInput(
            prefix=". ".join((document.title, *passage.headings)),
            text=document.text[passage.start_char : passage.end_char],
            overlap_chars=passage.overlap_chars,
            keep_prefix=passage.ordinal == 0,
        )
