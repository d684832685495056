"""What a job is to do, as the catalog keeps it: its kind and its spec.

A spec is written by one version of Longleaf and may be read by another, so what cannot be read is
an error that says so. It does nothing and opens nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from longleaf.core.catalog.jobs import Job
from longleaf.core.errors import LongleafError
from longleaf.core.types import MetaValue


@dataclass(frozen=True, slots=True)
class FolderSpec:
    """Index files and folders.

    `missing_is_gone`: a path that is not there any more is told at the end, not at the beginning.
    `again`: files that did not change are read as well. `only`: what may have changed below the
    paths (nothing: all of it). `revisions`: see `prepare.Labels`.
    """

    paths: tuple[str, ...]
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    metadata: Mapping[str, MetaValue] = field(default_factory=dict)
    prune: bool = False
    missing_is_gone: bool = False
    again: bool = False
    only: tuple[str, ...] = ()
    revisions: Mapping[str, int] = field(default_factory=dict)

    kind: ClassVar = "folder"


@dataclass(frozen=True, slots=True)
class UploadSpec:
    """Index one file whose bytes are the blob `original`. `revisions`: see `prepare.Labels`."""

    original: str
    name: str
    key: str | None = None
    groups: tuple[str, ...] = ()
    metadata: Mapping[str, MetaValue] = field(default_factory=dict)
    revisions: Mapping[str, int] = field(default_factory=dict)

    kind: ClassVar = "upload"


@dataclass(frozen=True, slots=True)
class CollectionSpec:
    """Read every document of the job's collection again, each from its file."""

    kind: ClassVar = "collection"


Spec = FolderSpec | UploadSpec | CollectionSpec


def spec_to_json(spec: Spec) -> dict[str, Any]:
    """A spec as the catalog keeps it."""
    return asdict(spec)


def spec_of(job: Job) -> Spec:
    """A job's spec. Raises LongleafError for one of another version."""
    from pydantic import TypeAdapter, ValidationError

    kinds: dict[str, type[Spec]] = {
        kind.kind: kind for kind in (FolderSpec, UploadSpec, CollectionSpec)
    }
    try:
        spec: Spec = TypeAdapter(kinds[job.kind]).validate_python(job.spec)
    except (KeyError, ValidationError) as error:
        raise LongleafError(
            f"The job {job.public_id} was made by another version of Longleaf.",
            "Give the command that made it again.",
        ) from error
    return spec
