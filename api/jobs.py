"""Asking for jobs: a folder run or an upload becomes a row that a worker finds.

It knows what a job needs to be done later, and does none. An upload's bytes are durable before its
job is there.
"""

from __future__ import annotations

from dataclasses import replace

from longleaf.core.catalog import Catalog
from longleaf.core.catalog.jobs import Job
from longleaf.core.catalog.writes import UPLOAD_MARK
from longleaf.core.errors import Conflict
from longleaf.core.types import Scope
from longleaf.indexer.work import FolderSpec, UploadSpec, spec_to_json


def ask_for_folder(
    catalog: Catalog, collection: str, spec: FolderSpec, owner: str | None = None
) -> Job:
    """A job for files and folders; with `owner`, for this process to do at once."""
    return catalog.jobs.create(spec.kind, collection, spec_to_json(spec), owner)


def ask_for_upload(catalog: Catalog, collection: str, data: bytes, spec: UploadSpec) -> Job:
    """A job for an upload. `spec.original` is filled in here."""
    stored = replace(spec, original=catalog.keep_upload(data))
    job = catalog.jobs.create(spec.kind, collection, spec_to_json(stored))
    # Equal bytes may have been swept with another document's end just before the job was there.
    catalog.keep_upload(data)
    return job


def retry(catalog: Catalog, public_id: str, scope: Scope) -> Job:
    """Put an ended job in line again. Raises NotFound, and Conflict where that cannot be."""
    job = catalog.jobs.get(public_id, scope)
    if job.kind == UploadSpec.kind and not catalog.blobs.exists(str(job.spec["original"])):
        raise Conflict(
            f"The bytes of the upload {public_id} are not kept any more.", "Upload the file again."
        )
    return catalog.jobs.retry(public_id, scope)


def read_again(catalog: Catalog, public_id: str, scope: Scope) -> Job:
    """A job that reads a document's file anew: from its folder, or an upload from its original.

    What is known of the document (title, metadata, groups) stays, as if it had been stated with the
    file. Raises NotFound, and Conflict where the file is not kept or holds other documents too:
    what was stated of one of them is not what was stated of the file.
    """
    head = catalog.document(public_id, scope)
    file = catalog.file_of(head)
    if file is not None and file[1] > 1:
        raise Conflict(
            f"Its file holds {file[1]:,} documents.", "Index that file again, or upload it again."
        )
    metadata = dict(head.metadata) | ({"title": head.title} if head.title else {})
    if file is not None and not file[0].startswith(UPLOAD_MARK):
        folder = FolderSpec((file[0],), groups=head.groups, metadata=metadata, again=True)
        return ask_for_folder(catalog, head.collection, folder)
    if head.original is None or not catalog.blobs.exists(head.original):
        raise Conflict("The original of this document was not kept.", "Upload the file again.")
    spec = UploadSpec(head.original, head.source, head.key, head.groups, metadata)
    return catalog.jobs.create(spec.kind, head.collection, spec_to_json(spec))
