"""What jobs have written down of documents, and taking it away when these are deleted."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, delete, select, update

from longleaf.core.catalog.jobs import JobState
from longleaf.core.catalog.schema import job_files, jobs
from longleaf.core.ids import PART_MARK


def forget_key(connection: Connection, collection: str, keys: Iterable[str]) -> None:
    """Remove what jobs wrote down of files: a deleted document leaves no trace there.

    `keys`: of documents; the part of a file (`mail.eml!/a.pdf`) stands for its file as well. An
    ended upload keeps neither name nor key, metadata nor groups; one that waits is to be done yet.
    """
    keys = list(keys)
    of_collection = select(jobs.c.id).where(jobs.c.collection == collection)
    files = {key.partition(PART_MARK)[0] for key in keys}
    ended = [state.value for state in JobState if not state.is_open]
    named = jobs.c.spec["key"].as_string().in_(files)
    by_hash = (
        jobs.c.spec["original"]
        .as_string()
        .in_({file.removeprefix("sha256:") for file in files if file.startswith("sha256:")})
    )
    of_these = (jobs.c.collection == collection, jobs.c.kind == "upload", jobs.c.state.in_(ended))
    found = select(jobs.c.id, jobs.c.spec).where(*of_these, named | by_hash)
    for row in connection.execute(found).all():
        kept = {"original": row.spec.get("original"), "name": ""}
        connection.execute(update(jobs).where(jobs.c.id == row.id).values(spec=kept, error=""))
    for key in keys:
        connection.execute(
            delete(job_files).where(
                job_files.c.job_id.in_(of_collection),
                job_files.c.key.in_({key, key.partition(PART_MARK)[0]}),
            )
        )


def forget_collection(connection: Connection, collection: str) -> None:
    """Remove the ended jobs of a collection that is deleted."""
    ended = [state.value for state in JobState if not state.is_open]
    connection.execute(delete(jobs).where(jobs.c.collection == collection, jobs.c.state.in_(ended)))
