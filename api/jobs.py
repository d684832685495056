"""Asking for jobs: a folder run or an upload becomes a row that a worker finds.

It knows what a job needs to be done later, and does none. An upload's bytes are durable before its
job is there.
"""

from __future__ import annotations

from dataclasses import replace

from longleaf.core.catalog import Catalog
from longleaf.core.catalog.jobs import Job
from longleaf.core.errors import Conflict
from longleaf.core.types import Scope
from longleaf.indexer.again import spec_again
from longleaf.indexer.specs import CollectionSpec, FolderSpec, UploadSpec, spec_to_json


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

    What is known of the document (title, metadata, groups) stays; see indexer/again.py. Raises
    NotFound, and Conflict where the file is not kept or holds other documents too.
    """
    head = catalog.document(public_id, scope)
    spec = spec_again(catalog, head)
    return catalog.jobs.create(spec.kind, head.collection, spec_to_json(spec))


def read_collection_again(catalog: Catalog, name: str, scope: Scope) -> Job:
    """A job that reads every document of a collection anew, each as `read_again` does.

    Raises NotFound, and Conflict while another such job of the collection waits or is under way.
    """
    catalog.collection_languages(scope, [name])
    spec = CollectionSpec()
    found, _ = catalog.uploads(scope, kinds=(spec.kind,), collection=name, only_open=True, limit=1)
    if found:
        raise Conflict(
            f"{name} is being read again already (job {found[0].job.public_id}).",
            "Wait until that has ended, or stop it.",
        )
    return catalog.jobs.create(spec.kind, name, spec_to_json(spec))
