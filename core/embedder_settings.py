"""Settings of the models that make vectors: part of the tree in `config`, which reads it.

All but how this machine computes (`api.targets`) is kept with the vectors that were made.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from longleaf.core.store_settings import SECRET, Section


class EmbedderSettings(Section):
    """The model that makes dense and token vectors. Changing it means embedding anew."""

    kind: Literal["local", "openai"] = Field(
        "local",
        description="local: the model runs here. openai: a service at embedder.url with OpenAI's "
        "/v1/embeddings embeds; texts and queries go there (docs/remote.md).",
    )
    model: str = Field(
        "bundled",
        description='"bundled" (all-MiniLM-L6-v2, shipped in a package), a folder, or a hub id; '
        "for kind openai what the service calls its model.",
    )
    url: str = Field(
        "", description="For kind openai: the service, http(s)://HOST:PORT (or with /v1)."
    )
    api_key: str = Field(
        "", repr=False, json_schema_extra=SECRET, description="The service's key, if it wants one."
    )
    request_texts: int = Field(
        64, ge=1, le=2048, description="Texts in one request to the service."
    )
    timeout_seconds: float = Field(
        60.0, gt=0, le=3600, description="Longest that one request to the service may take."
    )
    query_timeout_seconds: float = Field(
        10.0,
        gt=0,
        le=3600,
        description="For kind openai: longest that a search waits for its query's vector; then it "
        "goes on by words.",
    )
    query_prompt: str = Field(
        "",
        max_length=2000,
        description="For kind openai: what stands before a query, as the model's card says; "
        "services add nothing themselves. An instruction takes its place.",
    )
    passage_prompt: str = Field(
        "", max_length=2000, description="For kind openai: what stands before a passage."
    )
    tokenizer: str = Field(
        "",
        description="For kind openai: folder or file of the model's tokenizer.json, in whose "
        "tokens passages are counted. Empty: the bundled model's.",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="auto: bfloat16 on a GPU and where the CPU computes in it (about 2x faster).",
    )
    dimensions: int = Field(
        0,
        ge=0,
        le=65_536,
        description="Length of a dense vector; 0: the model's own. Shorter ones are right only for "
        "models trained so (Matryoshka), such as Qwen3-Embedding.",
    )
    threads: int = Field(0, ge=0, description="CPU threads of the model; 0: all cores.")
    projection: str = Field(
        "", description="Projection file for the token vectors of a model other than the bundled."
    )
    late_model: str = Field(
        "",
        description="Folder or hub id of a late-interaction checkpoint (ColBERT, PyLate) that "
        "makes the token vectors which `late` reads; embedder.model then makes the dense ones "
        "alone, so a passage costs a pass of each (docs/late.md). Empty: embedder.model makes "
        "both.",
    )
    late_document_tokens: int = Field(
        0,
        ge=0,
        le=131_072,
        description="Most tokens of a passage in one pass of embedder.late_model; longer ones are "
        "read in windows. 0: what the checkpoint says.",
    )
