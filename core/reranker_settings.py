"""Settings of the second stage: which reranker, where it runs, how deep it reads.

Part of the tree in `config`, which reads it.
"""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field

from longleaf.core.store_settings import SECRET, Section
from longleaf.core.types import DepthChoice

Dialect = Literal[
    "longleaf",
    "cohere",
    "jina",
    "voyage",
    "tei",
    "vllm",
    "vllm-score",
    "vllm-qwen3",
    "sglang",
    "infinity",
    "llama.cpp",
    "dashscope",
    "dashscope-flat",
]
"""What a service that reads for us speaks; `reranker/services/dialects.py` has what each means."""
DIALECTS: tuple[str, ...] = get_args(Dialect)


class RerankerSettings(Section):
    """The second stage."""

    kind: Literal["auto", "late", "qwen3", "cross-encoder", "remote", "none"] = Field(
        "auto",
        description="auto: qwen3 where there is a GPU and the model is on this machine, else late. "
        "remote: another Longleaf or a rerank service at reranker.url reads. `/readyz` and the log "
        "say what was chosen and why.",
    )
    url: str = Field(
        "", description="For kind remote: the Longleaf or service that reads, http(s)://HOST:PORT."
    )
    dialect: Dialect = Field(
        "longleaf",
        description="For kind remote: what the service at reranker.url speaks; each has its "
        "limits, its place for an instruction and its kind of score (docs/remote.md).",
    )
    api_key: str = Field(
        "", repr=False, json_schema_extra=SECRET, description="Its key, if something wants one."
    )
    timeout_seconds: float = Field(
        30.0,
        gt=0,
        le=3600,
        description="For kind remote: longest that one request may take, where no deadline is "
        "shorter; what was read until then counts.",
    )
    request_documents: int = Field(
        0,
        ge=0,
        le=10_000,
        description="For kind remote with another dialect than longleaf: texts in one request. "
        "0: the dialect's. Fewer end nearer to a deadline, more pay the way less often.",
    )
    item_tokens: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description="There: tokens that the model takes of one text; what is longer is cut here "
        "and counted as not read. 0: what the service says or the dialect's limit.",
    )
    request_tokens: int = Field(
        0,
        ge=0,
        le=100_000_000,
        description="There: tokens in one request, the query counted with each text. 0: the "
        "dialect's limit.",
    )
    model: str = Field(
        "",
        description="Folder or hub id, for kinds cross-encoder and qwen3 (not set there: "
        "Qwen/Qwen3-Reranker-0.6B); for kind remote what the service calls its model.",
    )
    deadline_ms: float | None = Field(
        None, gt=0, description="Time to read in; what is not read by then keeps its place."
    )
    stall_seconds: float = Field(
        600.0,
        gt=0,
        le=86_400,
        description="Longest that a search waits for a reranker from which nothing comes; what is "
        "not read by then keeps its place. A deadline ends reading sooner: a tenth behind it, or "
        "100 ms where that is more.",
    )
    depth: DepthChoice | None = Field(
        None,
        description="What is read of a candidate: the passages that the first stage found, the "
        "whole document, or (auto) passages first and then the best documents whole. Not set: what "
        "was measured to be worth it with that reranker (docs/depth.md): passage with all of them.",
    )
    first_stage_weight: float | None = Field(
        None,
        ge=0,
        le=10,
        description="Weight of the first stage in the final order; the "
        "reranker's own measured default when not set.",
    )
    instruction: str = Field(
        "",
        max_length=2000,
        description="What counts as an answer, for kind qwen3 and services that take one: a "
        "preset's name or words (not set: the model's own). A search may give another.",
    )
    cached_readings: int = Field(
        20_000,
        ge=0,
        description="Readings that all but late keep in memory, about 1 kB each: the "
        "same passages for the same question are not read again. 0: none.",
    )
    allow_cpu: bool = Field(
        False,
        description="Let qwen3 read on a CPU: half a minute and more for 100 passages.",
    )
    max_pair_tokens: int = Field(
        32_768,
        ge=512,
        le=40_960,
        description="Most tokens of query and text together, for qwen3; a longer text is read in "
        "windows. The model was made for 32,768.",
    )
    batch_tokens: int = Field(
        16_384,
        ge=512,
        description="Most tokens of a forward pass of qwen3; halved when the GPU's memory is full.",
    )
    waiting_tokens: int = Field(
        4_000_000,
        ge=1,
        description="Tokens that may wait for qwen3; beyond them searches are refused (429).",
    )
    window_score: Literal["best", "mean"] = Field(
        "best",
        description="What a text that qwen3 reads in windows is worth: its best window, or the "
        "mean of all.",
    )
    deterministic: bool = Field(
        False,
        description="The same bits for the same text whatever is read beside it; qwen3's short "
        "batches then cost as much as full ones.",
    )
