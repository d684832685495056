"""The catalog's tables, in SQLAlchemy Core, so that SQLite and Postgres share one definition.

A *document* is (collection, key); it has *revisions*, one of them current. A revision points to a
*content* (text, title, pages, sections), which equal texts share together with its *passages*
and *vectors*; metadata, access groups and the original belong to the revision and are never
shared. Text lies in blocks so that a passage of a million-character document is read without the
rest. Token vectors lie outside, in segments (segments.py); rows name segment and offset.

JSON is JSON on Postgres as well, and not JSONB: that would give 1e5 back as 100000, and refuse
half of a surrogate pair, while metadata tells 1, 1.0 and true apart and checksums are of what was
written. Words compare byte by byte (collation "C"), as SQLite and Python do: a list by key goes on
where it ended, whatever language the database was made for.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    UniqueConstraint,
)
from sqlalchemy import String as _String
from sqlalchemy import Text as _Text

SCHEMA_VERSION = 9
TEXT_BLOCK_CHARS = 4096

metadata = MetaData()
_Id = BigInteger().with_variant(Integer, "sqlite")
String = _String().with_variant(_String(collation="C"), "postgresql")
Text = _Text().with_variant(_Text(collation="C"), "postgresql")


def _id() -> Column[int]:
    return Column("id", _Id, primary_key=True, autoincrement=True)


meta = Table(
    "meta", metadata, Column("key", String, primary_key=True), Column("value", Text, nullable=False)
)

collections = Table(
    "collections",
    metadata,
    Column("name", String, primary_key=True),
    Column("language", String, nullable=False),
    Column("description", Text, nullable=False, default=""),
    Column("instruction", Text, nullable=False, server_default=""),
    Column("rerank", JSON, nullable=False, server_default="{}"),  # of ReadingDefaults, what is set
    Column("created_at", Float, nullable=False),
)

# Metadata fields ever seen in a collection: what `field:value` in a query may mean.
metadata_fields = Table(
    "metadata_fields",
    metadata,
    Column("collection", String, ForeignKey("collections.name"), primary_key=True),
    Column("name", String, primary_key=True),
)

contents = Table(
    "contents",
    metadata,
    _id(),
    Column("digest", String, nullable=False, unique=True),
    Column("title", Text, nullable=False),
    Column("text_chars", Integer, nullable=False),
    Column("pages", JSON, nullable=False),
    Column("sections", JSON, nullable=False),
    Column("regions", JSON, nullable=False, server_default="[]"),
    sqlite_autoincrement=True,
)

# Where a content's words stand on its pages (`core.layout.Layout`), beside it because few read it.
layouts = Table(
    "layouts",
    metadata,
    Column("content_id", _Id, ForeignKey("contents.id", ondelete="CASCADE"), primary_key=True),
    Column("data", LargeBinary, nullable=False),
)

text_blocks = Table(
    "text_blocks",
    metadata,
    Column("content_id", _Id, ForeignKey("contents.id", ondelete="CASCADE"), primary_key=True),
    Column("ordinal", Integer, primary_key=True),
    Column("text", Text, nullable=False),
)

documents = Table(
    "documents",
    metadata,
    _id(),
    Column("public_id", String, nullable=False, unique=True),
    Column("collection", String, ForeignKey("collections.name"), nullable=False),
    Column("key", Text, nullable=False),
    Column("revision_id", _Id, nullable=False),
    Column("source_id", _Id, ForeignKey("sources.id", ondelete="SET NULL"), nullable=True),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("title_key", Text, nullable=False, server_default=""),  # titles.key_of, to list by
    UniqueConstraint("collection", "key"),
    Index("documents_by_source", "source_id"),
    Index("documents_by_title", "collection", "title_key", "id"),
    Index("documents_by_update", "collection", "updated_at", "id", "title_key"),
    sqlite_autoincrement=True,
)

revisions = Table(
    "revisions",
    metadata,
    _id(),
    Column("document_id", _Id, ForeignKey("documents.id", ondelete="CASCADE"), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("content_id", _Id, ForeignKey("contents.id"), nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("groups", JSON, nullable=False),
    Column("source", Text, nullable=False),
    Column("media_type", String, nullable=False),
    Column("original", String, nullable=True),
    Column("language", String, nullable=True),
    Column("warnings", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("superseded_seq", _Id, nullable=True),
    Column("checksum", _Id, nullable=True),  # checksums.py; null where an older version wrote it
    Index("revisions_by_document", "document_id"),
    Index("revisions_by_content", "content_id"),
    Index("revisions_by_original", "original"),
    Index("revisions_superseded", "superseded_seq"),
    sqlite_autoincrement=True,
)

chunkers = Table(
    "chunkers", metadata, _id(), Column("fingerprint", String, nullable=False, unique=True)
)

embedders = Table(
    "embedders",
    metadata,
    _id(),
    Column("fingerprint", String, nullable=False, unique=True),
    Column("name", String, nullable=False),
    Column("dim", Integer, nullable=False),
    Column("token_dim", Integer, nullable=False),
)

generations = Table(
    "generations",
    metadata,
    _id(),
    Column("chunker_id", _Id, ForeignKey("chunkers.id"), nullable=False),
    Column("embedder_id", _Id, ForeignKey("embedders.id"), nullable=False),
    Column("state", String, nullable=False),  # building | live | retiring | retired | gone
    Column("settings", JSON, nullable=False, server_default="{}"),  # of embedder and chunker
    Column("created_at", Float, nullable=False),
    sqlite_autoincrement=True,
)

passages = Table(
    "passages",
    metadata,
    _id(),
    Column("content_id", _Id, ForeignKey("contents.id", ondelete="CASCADE"), nullable=False),
    Column("chunker_id", _Id, ForeignKey("chunkers.id"), nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("start_char", Integer, nullable=False),
    Column("end_char", Integer, nullable=False),
    Column("first_page", Integer, nullable=True),
    Column("last_page", Integer, nullable=True),
    Column("headings", JSON, nullable=False),
    Column("token_count", Integer, nullable=False),
    Column("overlap_chars", Integer, nullable=False),
    Column("role", String, nullable=False, server_default="body"),
    Column("checksum", _Id, nullable=True),
    UniqueConstraint("content_id", "chunker_id", "ordinal"),
    sqlite_autoincrement=True,
)

# A passage's text in the tokens of a reranker that reads text; made from it anew at any time.
reader_ids = Table(
    "reader_ids",
    metadata,
    Column("passage_id", _Id, ForeignKey("passages.id", ondelete="CASCADE"), primary_key=True),
    Column("tokenizer", String, nullable=False),  # names tokenizer and form
    Column("ids", LargeBinary, nullable=False),  # (n,) uint32, little-endian
    Column("checksum", _Id, nullable=False),
)

# One row for each content and chunker, so that a long document's size needs no scan.
chunkings = Table(
    "chunkings",
    metadata,
    Column("content_id", _Id, ForeignKey("contents.id", ondelete="CASCADE"), primary_key=True),
    Column("chunker_id", _Id, ForeignKey("chunkers.id"), primary_key=True),
    Column("first_passage_id", _Id, nullable=True),
    Column("passage_count", Integer, nullable=False),
    Column("token_count", Integer, nullable=False),
)

vectors = Table(
    "vectors",
    metadata,
    Column("passage_id", _Id, ForeignKey("passages.id", ondelete="CASCADE"), primary_key=True),
    Column("embedder_id", _Id, ForeignKey("embedders.id"), primary_key=True),
    Column("dense", LargeBinary, nullable=False),  # (dim,) float16, little-endian
    Column("segment_id", _Id, ForeignKey("segments.id"), nullable=True),
    Column("segment_offset", _Id, nullable=True),
    Column("truncated_tokens", Integer, nullable=False),
    Column("checksum", _Id, nullable=True),
    Index("vectors_by_segment", "segment_id"),
)

segments = Table("segments", metadata, _id(), Column("name", String, nullable=False, unique=True))

sources = Table(
    "sources",
    metadata,
    _id(),
    Column("collection", String, ForeignKey("collections.name"), nullable=False),
    Column("key", Text, nullable=False),
    Column("sha256", String, nullable=True),
    Column("size_bytes", _Id, nullable=False),
    Column("mtime_ns", _Id, nullable=False),
    Column("ingest_version", String, nullable=False),
    Column("outcome", String, nullable=False),
    Column("reason", String, nullable=False, default=""),
    Column("detail", Text, nullable=False, default=""),
    Column("document_count", Integer, nullable=False, default=0),
    Column("updated_at", Float, nullable=False),
    UniqueConstraint("collection", "key"),
    sqlite_autoincrement=True,
)

# Something to be done by a worker: a folder run or an upload. Jobs outlive every process.
jobs = Table(
    "jobs",
    metadata,
    _id(),
    Column("public_id", String, nullable=False, unique=True),
    Column("kind", String, nullable=False),  # folder | upload
    Column("collection", String, nullable=False),
    Column("spec", JSON, nullable=False),
    Column("state", String, nullable=False),  # queued | running | done | failed | cancelled
    Column("cancel", Boolean, nullable=False, default=False),
    Column("tries", Integer, nullable=False, default=0),
    Column("lease_owner", String, nullable=True),
    Column("lease_until", Float, nullable=True),
    Column("error", Text, nullable=False, default=""),
    Column("counts", JSON, nullable=False),  # outcome -> files, "passages" -> passages
    Column("total_files", Integer, nullable=True),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float, nullable=True),
    Column("finished_at", Float, nullable=True),
    Index("jobs_by_state", "state", "id"),
    sqlite_autoincrement=True,
)

# Files of a job that were begun: under way (no outcome) or ended. Unchanged files have no row.
job_files = Table(
    "job_files",
    metadata,
    Column("job_id", _Id, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("key", Text, primary_key=True),
    Column("phase", String, nullable=False),  # parse | ocr | embed | ended
    Column("phase_done", Integer, nullable=False, default=0),
    Column("phase_total", Integer, nullable=False, default=0),
    Column("tries", Integer, nullable=False, default=0),
    Column("outcome", String, nullable=True),
    Column("reason", String, nullable=False, default=""),
    Column("detail", Text, nullable=False, default=""),
    Column("document_count", Integer, nullable=False, default=0),
    Column("changed_count", Integer, nullable=False, default=0),
    Column("document_ids", JSON, nullable=False),  # of the first 1,000 documents
    Column("warnings", JSON, nullable=False),
    Column("updated_at", Float, nullable=False),
    Index("job_files_by_key", "key"),
)

# Records of token vectors to be overwritten: written with the deletion, done after it.
erasures = Table(
    "erasures",
    metadata,
    _id(),
    Column("segment", String, nullable=False),
    Column("segment_offset", _Id, nullable=False),
    sqlite_autoincrement=True,
)

# Originals that a deletion has let go of: unlinked after it, unless something took one up.
let_go = Table("let_go", metadata, Column("name", String, primary_key=True))

# What OCR has read of a page of an original, so that it is read once; gone with the original.
ocr_pages = Table(
    "ocr_pages",
    metadata,
    Column("original", String, primary_key=True),
    Column("engine", String, primary_key=True),
    Column("page", Integer, primary_key=True),
    Column("words", JSON, nullable=False),
)

# MinHash of a content's text, and its bands: contents that share a band may be versions of a text.
signatures = Table(
    "signatures",
    metadata,
    Column("content_id", _Id, ForeignKey("contents.id", ondelete="CASCADE"), primary_key=True),
    Column("hashes", LargeBinary, nullable=False),  # (n_hashes,) uint32, little-endian
)

signature_bands = Table(
    "signature_bands",
    metadata,
    Column("band", Integer, primary_key=True),
    Column("hash", _Id, primary_key=True),
    Column("content_id", _Id, ForeignKey("contents.id", ondelete="CASCADE"), primary_key=True),
    Index("signature_bands_by_content", "content_id"),
    sqlite_with_rowid=False,  # the key is all there is: 1,113 bytes a content instead of 1,457
)

# Words of a content's title, for titles that are being typed (title_words.py).
title_words = Table(
    "title_words",
    metadata,
    Column("word", String, primary_key=True),
    Column("content_id", _Id, ForeignKey("contents.id", ondelete="CASCADE"), primary_key=True),
    Index("title_words_by_content", "content_id"),
    sqlite_with_rowid=False,
)

# How well a document answers a query, as people said. Names revision and characters, no passages.
judgements = Table(
    "judgements",
    metadata,
    _id(),
    Column("query", Text, nullable=False),
    Column("document_id", _Id, ForeignKey("documents.id", ondelete="CASCADE"), nullable=False),
    Column("judge", String, nullable=False),
    Column("grade", Integer, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("start_char", _Id, nullable=True),
    Column("end_char", _Id, nullable=True),
    Column("judged_at", Float, nullable=False),
    UniqueConstraint("query", "document_id", "judge"),
    Index("judgements_by_document", "document_id"),
    sqlite_autoincrement=True,
)

changes = Table(
    "changes",
    metadata,
    Column("seq", _Id, primary_key=True, autoincrement=False),
    Column("document_id", _Id, nullable=False),
    Column("collection", String, nullable=False),
    Column("revision_id", _Id, nullable=False),
    Column("op", String, nullable=False),  # put | delete
)

followers = Table(
    "followers",
    metadata,
    Column("name", String, primary_key=True),
    Column("seq", _Id, nullable=False),
    Column("seen_at", Float, nullable=False),
)

# Which process answers from which generation; one that does not renew `seen_at` is dead.
answering = Table(
    "answering",
    metadata,
    Column("process", String, primary_key=True),
    Column("generation_id", _Id, ForeignKey("generations.id"), nullable=False),
    Column("seen_at", Float, nullable=False),
)

# Who alone may follow the catalog into an index that several processes share.
leases = Table(
    "leases",
    metadata,
    Column("name", String, primary_key=True),
    Column("holder", String, nullable=False),
    Column("fence", _Id, nullable=False),
    Column("expires_at", Float, nullable=False),  # seconds since the epoch, the database's clock
)

# Who may come in: random keys, of which only the SHA-256 is kept.
api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("name", String, nullable=False),
    Column("role", String, nullable=False),  # read | write | admin
    Column("collections", JSON(none_as_null=True), nullable=True),  # null: all
    Column("groups", JSON(none_as_null=True), nullable=True),  # null: all
    Column("requests_per_minute", Integer, nullable=True),  # null: as configured
    Column("max_body_bytes", Integer, nullable=True),  # null: as configured
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=True),
    Column("revoked_at", Float, nullable=True),
    Column("last_used_at", Float, nullable=True),
)

# Who has come in through the page; opened with a key, or (key_id null) by an identity provider.
sessions = Table(
    "sessions",
    metadata,
    Column("id", String, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("key_id", String, ForeignKey("api_keys.id", ondelete="CASCADE"), nullable=True),
    Column("name", String, nullable=False),
    Column("role", String, nullable=False),
    Column("collections", JSON(none_as_null=True), nullable=True),
    Column("groups", JSON(none_as_null=True), nullable=True),
    Column("person", JSON(none_as_null=True), nullable=True),  # of access.Person; null: of a key
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Index("sessions_by_expiry", "expires_at"),
)

# Answers of an identity provider that have opened a session, until they are too old to open one.
sign_ins = Table(
    "sign_ins",
    metadata,
    Column("state", String, primary_key=True),  # SHA-256, hexadecimal
    Column("expires_at", Float, nullable=False),
)

# Who changed what.
audit = Table(
    "audit",
    metadata,
    _id(),
    Column("at", Float, nullable=False),
    Column("caller", String, nullable=False),
    Column("key_id", String, nullable=True),
    Column("act", String, nullable=False),
    Column("target", Text, nullable=False),
    Column("status", Integer, nullable=False),
    Column("request_id", String, nullable=False),
    sqlite_autoincrement=True,
)
