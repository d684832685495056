"""Documents, collections and health as JSON. Offsets are characters in the document's text."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from longleaf.api.http.answer_schemas import PageSize, RectangleView
from longleaf.core.catalog import Collection, DocumentHead, ReadingDefaults, Versions
from longleaf.core.catalog.catalog import COLLECTION_NAME
from longleaf.core.catalog.jobs import Job, JobFile
from longleaf.core.catalog.listing import ListedDocument
from longleaf.core.suspicion import suspicions
from longleaf.core.types import DepthChoice, PassageText
from longleaf.retriever.index.sparse import LANGUAGES

_INSTRUCTION = (
    "What counts as an answer here, for models that take it: a preset's name or words. A search "
    "may give another."
)


class CollectionRerank(BaseModel):
    """How a collection is read unless a search says otherwise; null: as configured."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    depth: DepthChoice | None = Field(None, description="What is read of a candidate.")
    candidates: int | None = Field(
        None, ge=1, le=1000, description="Read the first so many of the candidates only."
    )
    deadline_ms: float | None = Field(None, gt=0, description="Time to read in.")
    max_tokens: int | None = Field(None, ge=1, description="Document tokens to read.")

    def defaults(self) -> ReadingDefaults:
        return ReadingDefaults(**self.model_dump())


class CollectionBody(BaseModel):
    """A collection to make."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"name": "contracts", "language": "english"}]},
    )

    name: str = Field(
        description="1 to 64 letters, digits, dots, dashes and underscores.",
        max_length=1000,
        json_schema_extra={"pattern": f"^{COLLECTION_NAME.pattern}$"},
    )
    language: str = Field(
        "english",
        max_length=100,
        description="What BM25's stemmer reads, such as english or german; none: no stemming.",
        json_schema_extra={"enum": list(LANGUAGES)},
    )
    description: str = Field("", max_length=2000)
    instruction: str = Field("", max_length=2000, description=_INSTRUCTION)
    rerank: CollectionRerank = Field(
        default_factory=CollectionRerank, description="How it is read by default."
    )


class CollectionChanges(BaseModel):
    """What to say of a collection from now on; a part that is left out stays."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"instruction": "contract-clauses"}]}
    )

    description: str | None = Field(None, max_length=2000)
    instruction: str | None = Field(None, max_length=2000, description=_INSTRUCTION)
    rerank: CollectionRerank | None = Field(
        None, description="How it is read by default: all of it, {} is as configured."
    )


class CollectionView(BaseModel):
    """A named set of documents."""

    name: str
    language: str
    description: str
    instruction: str
    rerank: CollectionRerank
    document_count: int
    created_at: datetime

    @classmethod
    def of(cls, collection: Collection) -> CollectionView:
        return cls(
            name=collection.name,
            language=collection.language,
            description=collection.description,
            instruction=collection.instruction,
            rerank=CollectionRerank(**asdict(collection.rerank)),
            document_count=collection.document_count,
            created_at=time_of(collection.created_at),
        )


class CollectionList(BaseModel):
    collections: list[CollectionView]


class PlacesView(BaseModel):
    """Where characters of a document stand on its pages."""

    document_id: str
    start_char: int
    end_char: int
    pages: list[PageSize] | None = Field(
        description="Width and height of each page in points, page 1 first; null: not known."
    )
    rectangles: list[RectangleView] | None = Field(
        description="One for each line of each page; null where no places are known."
    )


class CollectionDeleted(BaseModel):
    name: str
    deleted_documents: int


class DocumentView(BaseModel):
    """A document without its text."""

    document_id: str
    collection: str
    key: str = Field(description="Names it within its collection.")
    title: str
    revision: int = Field(description="Counts up whenever text, metadata or access change.")
    metadata: dict[str, Any]
    groups: list[str] = Field(description="Access groups; empty: open to all of the collection.")
    source: str = Field(description="The file it came from.")
    media_type: str
    language: str | None = Field(description="As detected; null when that is not clear.")
    warnings: list[str] = Field(
        description="What could not be read well, and text that its pages do not show."
    )
    text_chars: int
    created_at: datetime
    updated_at: datetime
    url: str = Field(description="Its page on this server.")
    passages_url: str
    original_url: str | None = Field(description="The file itself; null when it was not kept.")

    @classmethod
    def of(cls, head: DocumentHead) -> DocumentView:
        return cls(**cls.fields_of(head))

    @staticmethod
    def fields_of(head: DocumentHead) -> dict[str, Any]:
        at = f"/v1/documents/{head.public_id}"
        return {
            "document_id": head.public_id,
            "collection": head.collection,
            "key": head.key,
            "title": head.title,
            "revision": head.revision,
            "metadata": dict(head.metadata),
            "groups": list(head.groups),
            "source": head.source,
            "media_type": head.media_type,
            "language": head.language,
            "warnings": list(head.warnings),
            "text_chars": head.text_chars,
            "created_at": time_of(head.created_at),
            "updated_at": time_of(head.updated_at),
            "url": f"/documents/{head.public_id}",
            "passages_url": f"{at}/passages",
            "original_url": f"{at}/original" if head.original else None,
        }


class VersionView(BaseModel):
    """A document whose text is the same as another's, or nearly so."""

    similarity: float = Field(description="Estimated Jaccard similarity of the texts, 0 to 1.")
    document: DocumentView


class VersionList(BaseModel):
    """Where else a document's text is, or nearly so."""

    document_id: str
    versions: list[VersionView] = Field(description="Most similar first.")
    compared: bool = Field(
        description="False: the text is too short to compare (or not signed yet), so that only "
        "equal texts are listed."
    )
    more: bool = Field(description="There are, or may be, more than these.")

    @classmethod
    def of(cls, head: DocumentHead, versions: Versions) -> VersionList:
        """`head`'s versions as JSON says them."""
        return cls(
            document_id=head.public_id,
            versions=[
                VersionView(similarity=similarity, document=DocumentView.of(each))
                for each, similarity in versions.found
            ],
            compared=versions.compared,
            more=versions.more,
        )


class ListedView(DocumentView):
    """A document in a list."""

    page_count: int = Field(description="0: it has no pages.")
    size_bytes: int | None = Field(description="Of the file it came from; null: not known.")
    file_document_count: int = Field(description="Documents that came from that file.")

    @classmethod
    def of_listed(cls, listed: ListedDocument) -> ListedView:
        return cls(
            **cls.fields_of(listed.head),
            page_count=listed.page_count,
            size_bytes=listed.size_bytes,
            file_document_count=listed.file_documents,
        )


class DocumentList(BaseModel):
    documents: list[ListedView] = Field(description="In the order that was asked for.")
    next: str | None = Field(description="Give it as `after` for more; null: that was all.")


class PageSpan(BaseModel):
    """A run of text on a page; a page whose footnotes stand behind the text has two."""

    number: int
    start_char: int
    end_char: int


class SectionSpan(BaseModel):
    title: str
    level: int = Field(description="1 is the outermost.")
    start_char: int
    end_char: int


class WholeDocument(DocumentView):
    """A document with where its pages and sections lie, and its text if asked for."""

    pages: list[PageSpan]
    sections: list[SectionSpan]
    text: str | None = Field(None, description="With ?text=true.")


class PassageView(BaseModel):
    """An exact slice of a document."""

    start_char: int
    end_char: int
    first_page: int | None
    last_page: int | None
    headings: list[str]
    role: str = Field(description="body, footnote, references or contents.")
    suspicious: list[str] = Field(
        description="Why it seems to be written for a machine; empty: nothing was seen."
    )
    token_count: int
    text: str

    @classmethod
    def of(cls, passage: PassageText, *, marks: bool) -> PassageView:
        """`marks`: look whether it is suspicious."""
        return cls(
            start_char=passage.start_char,
            end_char=passage.end_char,
            first_page=passage.first_page,
            last_page=passage.last_page,
            headings=list(passage.headings),
            role=passage.role.value,
            suspicious=list(suspicions(passage.text)) if marks else [],
            token_count=passage.token_count,
            text=passage.text,
        )


class PassageList(BaseModel):
    document_id: str
    revision: int
    first: int = Field(description="Number of the first passage here, from 0.")
    passages: list[PassageView]
    next: int | None = Field(description="Give it as `first` for more; null: that was all.")


class UploadView(BaseModel):
    """How an upload ended. It is durable; searches see it once seen_seq has reached seq."""

    outcome: str = Field(description="indexed, indexed with warnings, or unchanged.")
    document_ids: list[str]
    document_count: int
    changed_count: int
    warnings: list[str]
    detail: str
    seq: int = Field(description="The catalog's newest change when it was acknowledged.")
    job: str = Field(description="The job that did it: /v1/jobs/{id}.")


class JobFileView(BaseModel):
    """A file of a job: under way while it has no outcome."""

    key: str
    phase: str = Field(description="parse, ocr, convert, embed or ended.")
    phase_done: int
    phase_total: int = Field(description="Units of the phase in all (pages, passages); 0: unknown.")
    outcome: str | None
    reason: str = Field(description="Why it was rejected.")
    detail: str
    document_count: int
    document_ids: list[str] = Field(description="Of the first 1,000 documents.")
    warnings: list[str]
    updated_at: datetime

    @classmethod
    def of(cls, file: JobFile) -> JobFileView:
        return cls(
            key=file.key,
            phase=file.phase,
            phase_done=file.phase_done,
            phase_total=file.phase_total,
            outcome=file.outcome.value if file.outcome else None,
            reason=file.reason,
            detail=file.detail,
            document_count=file.document_count,
            document_ids=list(file.document_ids),
            warnings=list(file.warnings),
            updated_at=time_of(file.updated_at),
        )


class JobView(BaseModel):
    """Something to be indexed: a folder, an upload, or a collection anew."""

    id: str
    kind: str = Field(description="folder, upload or collection.")
    collection: str
    what: str = Field(description="The upload's name, or the folder's paths.")
    state: str = Field(description="queued, running, done, failed or cancelled.")
    cancelling: bool = Field(description="It was asked to stop and is in its last batch.")
    error: str = Field(description="Why it failed.")
    counts: dict[str, int] = Field(description="Files by outcome so far, and passages.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    url: str

    @classmethod
    def of(cls, job: Job) -> JobView:
        return cls(
            id=job.public_id,
            kind=job.kind,
            collection=job.collection,
            what=", ".join(job.spec.get("paths", ())) or str(job.spec.get("name", "")),
            state=job.state.value,
            cancelling=job.cancel and job.state.is_open,
            error=job.error,
            counts=dict(job.counts),
            created_at=time_of(job.created_at),
            started_at=None if job.started_at is None else time_of(job.started_at),
            finished_at=None if job.finished_at is None else time_of(job.finished_at),
            url=f"/v1/jobs/{job.public_id}",
        )


class JobList(BaseModel):
    jobs: list[JobView] = Field(description="Newest first.")
    next: str | None = Field(description="Ask with before=this for older ones; null: no more.")


class JobFileList(BaseModel):
    job: JobView
    files: list[JobFileView] = Field(description="By key. Unchanged files are only counted.")
    next: str | None = Field(description="Ask with after=this for more; null: no more.")


class Alive(BaseModel):
    status: str = "ok"
    version: str
    home: str = Field(description="A hash that names the data folder.")
    proof: str = Field(
        "",
        description="Answers `challenge`: an HMAC by the token of this machine, which only this "
        "server and its data folder have.",
    )


class Ready(BaseModel):
    """The server answers from an index that follows the catalog."""

    ready: bool = True
    seen_seq: int
    head_seq: int
    lag: int = Field(description="Changes that the index has not followed yet.")
    chosen: dict[str, str] = Field(description="What was chosen for this machine, and why.")


def time_of(seconds: float) -> datetime:
    """Seconds since the epoch as JSON says them."""
    return datetime.fromtimestamp(seconds, UTC)
