"""The catalog: documents, texts, passages, vectors and the change log of one data folder."""

from longleaf.core.catalog.catalog import Catalog
from longleaf.core.catalog.records import (
    CandidateHead,
    CatalogCounts,
    Change,
    Collection,
    ContentWrite,
    DocumentHead,
    DocumentSize,
    DocumentText,
    DocumentWrite,
    Generation,
    PutResult,
    ReadingDefaults,
    Source,
    SourceWrite,
    Versions,
    content_digest,
)

__all__ = [
    "CandidateHead",
    "Catalog",
    "CatalogCounts",
    "Change",
    "Collection",
    "ContentWrite",
    "DocumentHead",
    "DocumentSize",
    "DocumentText",
    "DocumentWrite",
    "Generation",
    "PutResult",
    "ReadingDefaults",
    "Source",
    "SourceWrite",
    "Versions",
    "content_digest",
]
