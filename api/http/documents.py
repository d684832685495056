"""/v1/documents: upload, list, read, delete.

An upload is read from its spooled file only when its turn to be written has come, so that uploads
waiting in line lie on disk and not in memory. File names and keys from outside are labels and never
become paths.
"""

from __future__ import annotations

import json
import mimetypes
import re
from typing import Annotated, Any, BinaryIO
from urllib.parse import quote

from fastapi import APIRouter, File, Form, Path, Query, UploadFile
from fastapi.responses import Response

from longleaf.api.http.errors import PROBLEM_RESPONSES
from longleaf.api.http.plain import PlainJSON, check_plain
from longleaf.api.http.schemas import (
    DocumentList,
    DocumentView,
    PageSpan,
    PassageList,
    PassageView,
    SectionSpan,
    UploadView,
    WholeDocument,
)
from longleaf.api.http.service import Served, Service
from longleaf.core.errors import (
    InvalidRequest,
    NoTextFound,
    NotFound,
    Rejected,
    RejectReason,
    TooLarge,
)
from longleaf.core.types import MetaValue, Outcome
from longleaf.indexer.build import FileResult
from longleaf.indexer.prepare import Labels
from longleaf.retriever.query import readable

router = APIRouter(
    prefix="/v1",
    tags=["documents"],
    responses=PROBLEM_RESPONSES,
    default_response_class=PlainJSON,
)

_ID = Path(description="The document's id.", max_length=64)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MAX_NAME_CHARS = 255
_MAX_KEY_CHARS = 1024
_MAX_METADATA_FIELDS = 200


@router.post(
    "/documents",
    status_code=201,
    summary="Upload a document",
    response_model=UploadView,
    responses={200: {"model": UploadView, "description": "It was there already, exactly so."}},
)
async def upload_document(
    service: Served,
    file: Annotated[UploadFile, File(description="Text, Markdown, HTML, PDF or JSONL.")],
    collection: Annotated[str, Form(description="Where it goes; it must exist.")],
    key: Annotated[
        str | None,
        Form(
            max_length=_MAX_KEY_CHARS,
            description="Names the document; a second upload under it replaces the first. "
            "Without one, equal files are one document.",
        ),
    ] = None,
    groups: Annotated[
        list[str] | None, Form(description="Access groups; repeat it for more.")
    ] = None,
    metadata: Annotated[
        str | None,
        Form(description="A JSON object.", examples=['{"court": "ca9", "year": 2020}']),
    ] = None,
) -> Response:
    """Index a file. When this answers, the document is durable."""
    name = _plain_name(file.filename or "upload")
    for what, given in (("collection", collection), ("key", key), ("groups", groups)):
        check_plain(given, what)
    if key is not None and (not key.strip() or _CONTROL.search(key)):
        raise InvalidRequest("key: blank, or it has control characters.", "Leave it out instead.")
    labels = Labels(tuple(dict.fromkeys(groups or ())), _metadata(metadata))
    if any(not group.strip() or len(group) > _MAX_NAME_CHARS for group in labels.groups):
        raise InvalidRequest("groups: names of 1 to 255 characters are taken.")
    spooled = file.file
    result, seq = await service.write(
        lambda: _index(service, collection, name, spooled, key, labels)
    )
    _raise_unless_indexed(result)
    unchanged = result.changed_count == 0
    shown = UploadView(
        outcome=str(Outcome.UNCHANGED) if unchanged else str(result.outcome),
        document_ids=list(result.document_ids),
        document_count=result.document_count,
        changed_count=result.changed_count,
        warnings=list(result.warnings),
        detail=result.detail,
        seq=seq,
    )
    headers = {}
    if len(result.document_ids) == 1:
        headers["Location"] = f"/v1/documents/{result.document_ids[0]}"
    return PlainJSON(shown, 200 if unchanged else 201, headers)


def _index(
    service: Service,
    collection: str,
    name: str,
    spooled: BinaryIO,
    key: str | None,
    labels: Labels,
) -> tuple[FileResult, int]:
    runtime = service.runtime
    languages = runtime.catalog.collection_languages(service.scope, [collection])
    settings = runtime.settings
    limit_bytes = min(settings.server.max_upload_bytes, settings.indexer.max_file_bytes)
    data = spooled.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise TooLarge(
            f"The file is larger than the {limit_bytes:,} bytes that are taken.",
            "Raise server.max_upload_bytes (and indexer.max_file_bytes), or use longleaf index.",
        )
    result = runtime.indexer.index_bytes(
        collection, languages[collection], data, name, key=key, labels=labels
    )
    return result, runtime.catalog.head_seq()


def _raise_unless_indexed(result: FileResult) -> None:
    if result.outcome is Outcome.NO_TEXT:
        raise NoTextFound(
            result.detail or "The file opens, but holds no text.", "Run OCR over it, then upload."
        )
    if result.outcome is Outcome.REJECTED:
        known = {reason.value for reason in RejectReason}
        reason = RejectReason(result.reason) if result.reason in known else RejectReason.INTERNAL
        raise Rejected(reason, result.detail or f"The file was rejected: {result.reason}.")


def _plain_name(name: str) -> str:
    """A file name from outside as a label: no folders, nothing that a terminal would obey."""
    last = re.split(r"[/\\]", readable(name))[-1]
    return _CONTROL.sub("", last).strip()[-_MAX_NAME_CHARS:] or "upload"


def _metadata(text: str | None) -> dict[str, MetaValue]:
    if not text:
        return {}
    try:
        read = json.loads(text)
    except (ValueError, RecursionError):
        read = None
    if not isinstance(read, dict) or len(read) > _MAX_METADATA_FIELDS:
        raise InvalidRequest(
            f"metadata: not a JSON object of at most {_MAX_METADATA_FIELDS} fields.",
            'For example {"court": "ca9", "year": 2020}.',
        )
    found = {name: _value(name, value) for name, value in read.items()}
    check_plain(found, "metadata")
    return found


def _value(name: str, value: Any) -> MetaValue:
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return tuple(value)
    if isinstance(value, str | int | float):
        return value
    raise InvalidRequest(
        f"metadata.{name[:100]}: expected a string, a number, a boolean or a list of strings."
    )


@router.get("/documents", summary="List documents")
async def list_documents(
    service: Served,
    collection: Annotated[str | None, Query(description="Only of this collection.")] = None,
    after: Annotated[
        str | None, Query(max_length=64, description="Go on behind this id (`next`).")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> DocumentList:
    """Documents in the order of their ids; what is added meanwhile disturbs no page."""
    catalog, scope = service.runtime.catalog, service.scope

    def work() -> DocumentList:
        within = scope
        if collection is not None:
            within = scope.narrowed(catalog.collection_languages(scope, [collection]))
        heads = catalog.documents(within, after, limit + 1)
        more = heads[limit - 1].public_id if len(heads) > limit else None
        return DocumentList(documents=[DocumentView.of(each) for each in heads[:limit]], next=more)

    return await service.read(work)


@router.get("/documents/{document_id}", response_model=WholeDocument, summary="Read a document")
async def get_document(
    service: Served,
    document_id: str = _ID,
    text: Annotated[bool, Query(description="Send the whole text as well.")] = False,
) -> Response:
    """A document with where its pages and sections lie, and its text if asked for."""
    catalog = service.runtime.catalog

    def work() -> Response:
        head = catalog.document(document_id, service.scope)
        body = catalog.text(head)
        pages = [
            PageSpan(number=each.number, start_char=each.start_char, end_char=each.end_char)
            for each in body.pages
        ]
        sections = [
            SectionSpan(
                title=each.title,
                level=each.level,
                start_char=each.start_char,
                end_char=each.end_char,
            )
            for each in body.sections
        ]
        whole = WholeDocument(
            **DocumentView.fields_of(head),
            pages=pages,
            sections=sections,
            text=body.text if text else None,
        )
        return PlainJSON(whole)

    return await service.read(work)


@router.get("/documents/{document_id}/passages", summary="Read a document's passages")
async def get_passages(
    service: Served,
    document_id: str = _ID,
    first: Annotated[int, Query(ge=0, le=1 << 20, description="From this one on.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> PassageList:
    """The passages that a document was cut into, in order."""
    runtime = service.runtime

    def work() -> PassageList:
        head = runtime.catalog.document(document_id, service.scope)
        found = runtime.catalog.passages(head, runtime.generation, first, limit + 1)
        return PassageList(
            document_id=head.public_id,
            revision=head.revision,
            first=first,
            passages=[PassageView.of(each) for each in found[:limit]],
            next=first + limit if len(found) > limit else None,
        )

    return await service.read(work)


@router.get(
    "/documents/{document_id}/original",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {}}, "description": "The file."}},
    summary="Download the original file",
)
async def get_original(service: Served, document_id: str = _ID) -> Response:
    """The file as it was indexed, always as a download."""
    catalog = service.runtime.catalog

    def work() -> tuple[str, bytes]:
        head = catalog.document(document_id, service.scope)
        if head.original is None:
            raise NotFound("The original of this document was not kept.", "Upload it again.")
        return download_name(head.source, head.media_type), catalog.blobs.get(head.original)

    name, data = await service.read(work)
    return Response(
        data,
        media_type="application/octet-stream",
        headers={"Content-Disposition": _attachment(name), "Content-Security-Policy": "sandbox"},
    )


def download_name(source: str, media_type: str) -> str:
    """What to call a file on the reader's disk."""
    name = _plain_name(source).lstrip(".") or "document"
    if "." not in name:
        name += mimetypes.guess_extension(media_type) or ""
    return name


def _attachment(name: str) -> str:
    """RFC 6266: a plain fallback, and the name itself percent-encoded."""
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


@router.delete("/documents/{document_id}", status_code=204, summary="Delete a document")
async def delete_document(service: Served, document_id: str = _ID) -> Response:
    """Delete a document for good: text, passages, vectors and, with its last user, the file."""
    catalog = service.runtime.catalog
    await service.write(lambda: catalog.delete_document(document_id, service.scope))
    return Response(status_code=204)
