"""Documents read again from their files, as after a better parser or OCR came in.

What is known of a document (title, metadata, groups) stays, as if it had been stated with its file.
So a file that holds several documents is left as it is, and named: what was stated of one of them
was not stated of the file. The same for one whose original was not kept, or is not there any more.
A document that is deleted or changed while its file is read stays deleted, or as it is then.
A collection is read document by document, in the order of their ids; what has ended is known from
the job's own files, so a worker that takes over goes on behind it. Trade-off: each file is embedded
for itself, which is slower than a walk where files are short; a file is never held behind others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from longleaf.core.catalog import Catalog, DocumentHead
from longleaf.core.catalog.jobs import Job
from longleaf.core.catalog.listing import Order, Place
from longleaf.core.catalog.writes import UPLOAD_MARK
from longleaf.core.errors import Conflict, NotFound
from longleaf.core.types import Outcome, Scope
from longleaf.indexer.records import FileResult, OnResult
from longleaf.indexer.specs import FolderSpec, UploadSpec

if TYPE_CHECKING:
    from longleaf.indexer.work import JobSupervisor

_AT_ONCE = 500
_GONE = (
    "Its file is not there any more; longleaf index --prune on its folder takes the document away."
)


def spec_again(catalog: Catalog, head: DocumentHead) -> FolderSpec | UploadSpec:
    """What reads a document's file again: from its folder, or an upload from its original.

    A path that only an import has named is not opened: whoever made the export could name any file
    of this machine. Raises Conflict where the file is not kept, or holds other documents too.
    """
    file = catalog.file_of(head)
    if file is not None and file.document_count > 1:
        raise Conflict(
            f"Its file holds {file.document_count:,} documents.",
            "Index that file again, or upload it again.",
        )
    metadata = dict(head.metadata) | ({"title": head.title} if head.title else {})
    known = {head.public_id: head.revision}
    if file is not None and not file.key.startswith(UPLOAD_MARK):
        if not file.was_read_here:
            raise Conflict(
                "Only an import says where the file of this document lies.",
                "Run longleaf index on its folder here, or upload the file.",
            )
        return FolderSpec(
            (file.key,), groups=head.groups, metadata=metadata, again=True, revisions=known
        )
    if head.original is None or not catalog.blobs.exists(head.original):
        raise Conflict("The original of this document was not kept.", "Upload the file again.")
    return UploadSpec(head.original, head.source, head.key, head.groups, metadata, known)


def read_all_again(
    catalog: Catalog,
    job: Job,
    supervisor: JobSupervisor,
    read: Callable[[FolderSpec | UploadSpec, OnResult], None],
    on_result: OnResult,
) -> None:
    """Read every document of the job's collection again, by `read`, which reports how a file ended.

    Raises what the supervisor and `read` raise.
    """
    ended = _ended(catalog, job)
    seen: set[str] = set()
    [collection] = catalog.collections(Scope.all().narrowed([job.collection]))
    supervisor.total_files = collection.document_count
    for document_id in _document_ids(catalog, job.collection):
        supervisor.check()
        try:
            head = catalog.document(document_id, Scope.all())
        except NotFound:  # deleted meanwhile
            supervisor.total_files -= 1
            continue
        key = _key_of(catalog, head)
        if key in seen:  # another document of one file
            supervisor.total_files -= 1
            continue
        seen.add(key)
        results = [FileResult(key, ended[key])] if key in ended else []
        if not results:
            try:
                spec = spec_again(catalog, head)
                if isinstance(spec, FolderSpec):
                    spec = replace(spec, missing_is_gone=True)
                read(spec, results.append)
                why = _GONE
            except (Conflict, NotFound) as problem:  # NotFound: its original went with it
                why = str(problem)
            if not results:
                results = [FileResult(key, Outcome.UNCHANGED, detail=why)]
                supervisor.left_alone(results[0])
        on_result(results[0])


def _document_ids(catalog: Catalog, collection: str) -> Iterator[str]:
    """Of what is there, and of what comes in meanwhile behind it."""
    after: Place | None = None
    while True:
        found = catalog.listed(Scope.all(), collection, Order.ID, after=after, limit=_AT_ONCE)
        yield from (each.head.public_id for each in found)
        if len(found) < _AT_ONCE:
            return
        after = found[-1].place


def _key_of(catalog: Catalog, head: DocumentHead) -> str:
    """The key under which a job tells of the document's file."""
    file = catalog.file_of(head)
    return head.key if file is None else file.key.removeprefix(UPLOAD_MARK)


def _ended(catalog: Catalog, job: Job) -> dict[str, Outcome]:
    """Files of the job that have ended, before the worker of then gave it up."""
    ended: dict[str, Outcome] = {}
    after = ""
    while found := catalog.jobs.files(job, after, _AT_ONCE, Outcome):
        ended |= {each.key: each.outcome for each in found if each.outcome is not None}
        after = found[-1].key
    return ended
