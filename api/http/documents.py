"""/v1/documents: upload, list, read, delete.

An upload becomes a durable job, which a worker does; the request may wait for its outcome. Its
bytes are in memory only on their way to the disk. File names and keys from outside are labels and
never become paths.
"""

from __future__ import annotations

import asyncio
import functools
import json
import mimetypes
import re
import time
from typing import Annotated, Any, BinaryIO
from urllib.parse import quote

from fastapi import APIRouter, File, Form, Path, Query, UploadFile
from fastapi.responses import Response
from pydantic import Field

from longleaf.api import jobs
from longleaf.api.http.answer_schemas import rectangle_views
from longleaf.api.http.errors import PROBLEM_RESPONSES
from longleaf.api.http.plain import PlainJSON, check_plain
from longleaf.api.http.schemas import (
    DocumentView,
    JobView,
    PageSpan,
    PassageList,
    PassageView,
    PlacesView,
    SectionSpan,
    UploadView,
    VersionList,
    WholeDocument,
)
from longleaf.api.http.service import Served, Service
from longleaf.core.catalog import Catalog, DocumentHead
from longleaf.core.catalog.bounds import check_name
from longleaf.core.catalog.jobs import Job, JobFile, JobState
from longleaf.core.errors import (
    Conflict,
    InvalidRequest,
    LongleafError,
    NoTextFound,
    NotFound,
    Rejected,
    RejectReason,
    TooLarge,
)
from longleaf.core.ids import PART_MARK, split_point_id
from longleaf.core.ids import document_id as id_of
from longleaf.core.similarity import SAME_TEXT
from longleaf.core.types import MetaValue, Outcome, Scope
from longleaf.indexer.specs import UploadSpec
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
_Group = Annotated[
    str,
    Field(json_schema_extra={"minLength": 1, "maxLength": _MAX_NAME_CHARS, "pattern": r"\S"}),
]
_MAX_METADATA_FIELDS = 200


@router.post(
    "/documents",
    status_code=201,
    summary="Upload a document",
    response_model=UploadView,
    responses={
        200: {"model": UploadView, "description": "It was there already, exactly so."},
        202: {"model": JobView, "description": "It is durable and waits for its turn."},
    },
)
async def upload_document(
    service: Served,
    file: Annotated[UploadFile, File(description="A document of any type that is read.")],
    collection: Annotated[str, Form(min_length=1, description="Where it goes; it must exist.")],
    key: Annotated[
        str | None,
        Form(
            max_length=_MAX_KEY_CHARS,
            description="Names the document; a second upload under it replaces the first. "
            "Without one, equal files are one document.",
        ),
    ] = None,
    groups: Annotated[
        list[_Group] | None, Form(description="Access groups; repeat it for more.")
    ] = None,
    metadata: Annotated[
        str | None,
        Form(description="A JSON object.", examples=['{"court": "ca9", "year": 2020}']),
    ] = None,
    wait_seconds: Annotated[
        float,
        Query(ge=0, le=600, description="How long to wait for its outcome; 0 asks for a job."),
    ] = 60.0,
) -> Response:
    """Index a file. 201 and 200: the document is durable. 202: its bytes are, as a job."""
    name = _plain_name(file.filename or "upload")
    for what, given in (("collection", collection), ("key", key), ("groups", groups)):
        check_plain(given, what)
    if key is not None and (not key.strip() or _CONTROL.search(key)):
        raise InvalidRequest("key: blank, or it has control characters.", "Leave it out instead.")
    if key is not None:
        check_name("key", key)
    named = tuple(dict.fromkeys(groups or ()))
    if any(not group.strip() or len(group) > _MAX_NAME_CHARS for group in named):
        raise InvalidRequest("groups: names of 1 to 255 characters are taken.")
    spec = UploadSpec("", name, key, named, _metadata(metadata))
    spooled = file.file
    job = await service.take_in(lambda: _take_in(service, collection, spooled, spec))
    job = await _ended(service, job, wait_seconds)
    if job.state.is_open:
        headers = {"Location": f"/v1/jobs/{job.public_id}"}
        return PlainJSON(JobView.of(job), 202, headers)
    return await service.read(lambda: _outcome(service, job))


def _take_in(service: Service, collection: str, spooled: BinaryIO, spec: UploadSpec) -> Job:
    runtime = service.runtime
    runtime.catalog.collection_languages(service.scope, [collection])
    settings = runtime.settings
    limit_bytes = min(settings.server.max_upload_bytes, settings.indexer.max_file_bytes)
    data = spooled.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise TooLarge(
            f"The file is larger than the {limit_bytes:,} bytes that are taken.",
            "Raise server.max_upload_bytes (and indexer.max_file_bytes), or use longleaf index.",
        )
    return jobs.ask_for_upload(runtime.catalog, collection, data, spec)


async def _ended(service: Service, job: Job, wait_seconds: float) -> Job:
    """The job as it is when it has ended or the time is over; waiting holds no thread."""
    until = time.monotonic() + wait_seconds
    store = service.runtime.catalog.jobs
    pause_seconds = 0.05
    while job.state.is_open and time.monotonic() < until:
        await asyncio.sleep(pause_seconds)
        pause_seconds = min(2 * pause_seconds, 0.5)
        job = await service.read(functools.partial(store.get, job.public_id, service.scope))
    return job


def _outcome(service: Service, job: Job) -> Response:
    """The answer to an upload whose job has ended."""
    catalog = service.runtime.catalog
    if job.state is JobState.CANCELLED:
        raise Conflict(f"The upload was cancelled (job {job.public_id}).", "Upload it again.")
    files = catalog.jobs.files(job, limit=1)
    if job.state is JobState.FAILED or not files:
        raise LongleafError(job.error or "The upload ended without an outcome.")
    [file] = files
    _raise_unless_indexed(file)
    unchanged = file.changed_count == 0
    shown = UploadView(
        outcome=str(Outcome.UNCHANGED) if unchanged else str(file.outcome),
        document_ids=list(file.document_ids),
        document_count=file.document_count,
        changed_count=file.changed_count,
        warnings=list(file.warnings),
        detail=file.detail,
        seq=catalog.head_seq(),
        job=job.public_id,
    )
    headers = {}
    if len(file.document_ids) == 1:
        headers["Location"] = f"/v1/documents/{file.document_ids[0]}"
    return PlainJSON(shown, 200 if unchanged else 201, headers)


def _raise_unless_indexed(result: JobFile) -> None:
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
    at: Annotated[
        int | None,
        Query(ge=0, le=1 << 40, description="Instead: from the one that holds this character on."),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> PassageList:
    """The passages that a document was cut into, in order."""
    runtime = service.runtime

    def work() -> PassageList:
        head = runtime.catalog.document(document_id, service.scope)
        if at is not None:
            check_span(head, at, at + 1)
        found = runtime.catalog.passages(head, runtime.generation, first, limit + 1, at_char=at)
        begin = split_point_id(found[0].point_id)[1] if found else first
        return PassageList(
            document_id=head.public_id,
            revision=head.revision,
            first=begin,
            passages=[
                PassageView.of(each, marks=service.runtime.settings.suspicion.mark)
                for each in found[:limit]
            ],
            next=begin + limit if len(found) > limit else None,
        )

    return await service.read(work)


def check_span(head: DocumentHead, start: int, end: int) -> None:
    """Raise InvalidRequest for characters that the document does not have."""
    if not start < end <= head.text_chars:
        raise InvalidRequest(
            f"start={start}, end={end}: the text has {head.text_chars:,} characters.",
            "0 <= start < end <= that.",
        )


@router.get("/documents/{document_id}/rectangles", summary="Find characters on their pages")
async def get_rectangles(
    service: Served,
    document_id: str = _ID,
    start: Annotated[int, Query(ge=0, description="The first character.")] = 0,
    end: Annotated[int, Query(ge=1, description="Behind the last one.")] = 1,
) -> PlacesView:
    """Where a part of a document's text stands on the pages of its PDF."""
    catalog = service.runtime.catalog

    def work() -> PlacesView:
        head = catalog.document(document_id, service.scope)
        check_span(head, start, end)
        layout = catalog.layout(head)
        found = layout.rectangles(start, end) if layout else None
        return PlacesView(
            document_id=head.public_id,
            start_char=start,
            end_char=end,
            pages=[[float(w), float(h)] for w, h in layout.pages] if layout else None,
            rectangles=rectangle_views(found),
        )

    return await service.read(work)


@router.get("/documents/{document_id}/versions", summary="Find versions of a document's text")
async def get_versions(
    service: Served,
    document_id: str = _ID,
    min_similarity: Annotated[
        float,
        Query(ge=0.7, le=1.0, description="Jaccard similarity; below 0.8 some are missed."),
    ] = SAME_TEXT,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> VersionList:
    """Documents anywhere whose text is the same or nearly so: drafts, amended filings, copies."""
    catalog, scope = service.runtime.catalog, service.scope

    def work() -> VersionList:
        head = catalog.document(document_id, scope)
        return VersionList.of(head, catalog.versions(head, scope, min_similarity, limit))

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
        media_type = _type_of_file(catalog, head, service.scope)
        return download_name(head.source, media_type), catalog.blobs.get(head.original)

    name, data = await service.read(work)
    return Response(
        data,
        media_type="application/octet-stream",
        headers={"Content-Disposition": _attachment(name), "Content-Security-Policy": "sandbox"},
    )


def _type_of_file(catalog: Catalog, head: DocumentHead, scope: Scope) -> str:
    """The media type of a document's original: for a mail's attachment that of the mail.

    "" for a part of a file that is no document itself (a mailbox).
    """
    _, mark, part = head.key.removeprefix(head.source).partition(PART_MARK)
    if not mark:
        return head.media_type
    file_key = head.key.removesuffix(mark + part)
    try:
        return catalog.document(id_of(head.collection, file_key), scope).media_type
    except NotFound:
        return ""


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
